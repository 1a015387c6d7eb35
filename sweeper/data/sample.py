"""How long the rows are and what becomes of them, from some or all, before a sweep tokenizes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweeper.data.problems import Problems
from sweeper.data.read.examples import Examples, load_examples
from sweeper.data.read.formats import Example
from sweeper.data.render.chat_template import ChatTemplate, stop_notes
from sweeper.data.render.tokenizer import Tokenizer
from sweeper.data.render.tokens import TokenRow, tokenize
from sweeper.data.render.tools import ADAPTATIONS
from sweeper.space import SampledRows, Settings

__all__ = ["LengthSample", "RowSample", "sample_lengths", "sample_rows"]

Counts = npt.NDArray[np.int64]

_ROWS, _ALL_ROWS = 256, 512
"""Of a data set of more than 512 rows so many are looked at, in an eighth of a second, and a quarter as many
held-out ones; of a smaller one all."""
_LONGEST_TOKENS = 2**22


@dataclass(frozen=True, kw_only=True)
class LengthSample:
    """Tokens of rows that were picked evenly over the data; those that would be left out are not in it."""

    lengths: Counts
    """Shape (sampled training rows,): tokens of each, cut to ``max_seq_len``."""
    completion_tokens: Counts
    """Shape (sampled training rows,): those of them that carry loss."""
    eval_lengths: Counts
    """Shape (sampled held-out rows,)."""
    train_rows: int
    """Rows of one epoch, repeats counted, as far as the sample tells which are left out."""
    eval_rows: int
    max_seq_len: int

    @property
    def epoch_tokens(self) -> float:
        """Training tokens of one epoch."""
        return float(self.lengths.mean()) * self.train_rows

    @property
    def eval_tokens(self) -> float:
        """Held-out tokens of one evaluation."""
        return float(self.eval_lengths.mean()) * self.eval_rows


@dataclass(frozen=True, kw_only=True)
class RowSample:
    """Tokenized rows of both splits, picked evenly over the data, none cut to a length."""

    train: tuple[TokenRow, ...]
    eval: tuple[TokenRow, ...]
    train_sequences: int
    """Sequences of one epoch, repeats counted: an example has several where the chat template rewrites its
    history. Expected from the sample."""
    eval_sequences: int
    exact: bool
    """Whether every row is in the sample."""
    notes: tuple[str, ...]
    """What was done so that the chat template takes the rows, each told once."""
    template: str
    """The chat template's source."""

    def within(self, max_seq_len: int, overlong: str = "truncate") -> LengthSample | None:
        """The rows that stay, cut to a length; None where none stays."""
        train = _within(self.train, max_seq_len, overlong)
        held_out = _within(self.eval, max_seq_len, overlong)
        if not (train and held_out):
            return None
        return LengthSample(
            lengths=np.asarray([min(row.whole_tokens, max_seq_len) for row in train], dtype=np.int64),
            completion_tokens=np.asarray(
                [int(row.mask[:max_seq_len].sum()) for row in train], dtype=np.int64
            ),
            eval_lengths=np.asarray([min(row.whole_tokens, max_seq_len) for row in held_out], dtype=np.int64),
            train_rows=max(round(self.train_sequences * len(train) / len(self.train)), 1),
            eval_rows=max(round(self.eval_sequences * len(held_out) / len(self.eval)), 1),
            max_seq_len=max_seq_len,
        )

    def sampled(self) -> tuple[SampledRows, SampledRows]:
        """The lengths alone, of both splits."""
        pairs = ((self.train, self.train_sequences), (self.eval, self.eval_sequences))
        train, held_out = (
            SampledRows(
                tokens=tuple(row.whole_tokens for row in rows),
                first_loss=tuple(row.first_loss for row in rows),
                loss_tokens=tuple(int(row.mask.sum()) for row in rows),
                rows=sequences,
                exact=self.exact,
            )
            for rows, sequences in pairs
        )
        return train, held_out


def sample_rows(settings: Settings, examples: Examples, *, rows: int = _ROWS) -> RowSample | None:
    """Tokenizes up to ``rows`` training rows and a quarter as many held-out ones, always the same; all where
    there are at most 512.

    None where that cannot be done at once: the tokenizer is not a local ``tokenizer.json``, or anything
    else is amiss, which whoever needs the rows will tell.
    """
    try:
        from sweeper.data.render.light_tokenizer import light_tokenizer

        tokenizer = light_tokenizer(settings.model_path, settings.chat_template)
        if tokenizer is None:
            return None
        epoch = np.repeat(np.arange(len(examples.train)), examples.times)
        held_out = np.arange(len(examples.eval))
        if len(epoch) + len(held_out) <= _ALL_ROWS:
            rows = 4 * _ALL_ROWS
        look = _Look(tokenizer, learn_template=settings.learn_template_text)
        train, train_share = look.at([examples.train[i] for i in _evenly(epoch, rows)])
        eval_, eval_share = look.at([examples.eval[i] for i in _evenly(held_out, rows // 4)])
    except Exception:  # an estimate is no reason to stop, and broken files have many ways to fail
        return None
    if not (train and eval_):
        return None
    return RowSample(
        train=tuple(train),
        eval=tuple(eval_),
        train_sequences=max(round(len(epoch) * train_share), 1),
        eval_sequences=max(round(len(held_out) * eval_share), 1),
        exact=len(epoch) <= rows and len(held_out) <= rows // 4,
        notes=(*_notes([*train, *eval_], len(epoch) + len(held_out)), *stop_notes(look.template)),
        template=look.template.source,
    )


def sample_lengths(
    settings: Settings,
    *,
    max_seq_len: int,
    overlong: str = "truncate",
    examples: Examples | None = None,
    rows: int = _ROWS,
) -> LengthSample | None:
    """The lengths of a sample of the rows; None where ``sample_rows`` has none.

    Args:
        settings: model, data and chat template.
        max_seq_len: rows are cut to so many tokens.
        overlong: ``training.overlong``: ``drop`` leaves longer rows out.
        examples: the rows, where they were read already.
        rows: training rows to look at, and a quarter as many held-out ones.
    """
    try:
        examples = examples or load_examples(settings)
    except Exception:  # see sample_rows
        return None
    sample = sample_rows(settings, examples, rows=rows)
    return sample.within(max_seq_len, overlong) if sample else None


def _evenly(indices: Counts, count: int) -> list[int]:
    places = np.linspace(0, len(indices) - 1, num=min(max(count, 1), len(indices)))
    return [int(one) for one in indices[np.round(places).astype(np.int64)]]


def _within(rows: Sequence[TokenRow], max_seq_len: int, overlong: str) -> list[TokenRow]:
    drop = overlong == "drop"
    fitting = (row for row in rows if not (drop and row.whole_tokens > max_seq_len))
    return [row for row in fitting if row.first_loss < min(row.whole_tokens, max_seq_len)]


class _Look:
    """Tokenizes rows as a trial would."""

    def __init__(self, tokenizer: Tokenizer, *, learn_template: bool) -> None:
        self._tokenizer, self._learn_template = tokenizer, learn_template
        self.template = ChatTemplate(tokenizer)

    def at(self, examples: list[Example]) -> tuple[list[TokenRow], float]:
        """The sequences of the rows, and how many they are for each row."""
        problems = Problems(len(examples))
        found = tokenize(
            examples, self._tokenizer, _LONGEST_TOKENS, problems, learn_template=self._learn_template
        )
        rows = [row for _, row in found]
        return rows, len(rows) / len(examples)


def _notes(rows: Sequence[TokenRow], examples: int) -> list[str]:
    firsts = [row for row in rows if row.part == 0]
    about = "" if len(firsts) == examples else "about "
    scale = examples / max(len(firsts), 1)
    notes = []
    for name, words in ADAPTATIONS.items():
        count = sum(name in row.adapted for row in firsts)
        if count:
            notes.append(f"{about}{round(count * scale):,} rows {words}")
    split = sum(row.part == 1 for row in rows)
    if split:
        repeated = sum(row.repeated_tokens for row in rows) / sum(row.whole_tokens for row in rows)
        notes.append(
            f"{about}{round(split * scale):,} rows become one sequence for each answer, since the chat "
            f"template rewrites the turns before it: {repeated:.0%} of all tokens are read again for that"
        )
    return notes

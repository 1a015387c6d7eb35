"""How long the rows are and what becomes of them, from some or all, before a sweep tokenizes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweeper.data.problems import Problems
from sweeper.data.read.formats import Example
from sweeper.data.render.chat_template import ChatTemplate, stop_notes, unused_keys_note
from sweeper.data.render.light_tokenizer import light_tokenizer
from sweeper.data.render.tokenizer import Tokenizer
from sweeper.data.render.tokens import TokenRow, tokenize
from sweeper.data.render.tools import ADAPTATIONS
from sweeper.data.survey import Look, look_at
from sweeper.space import SampledRows, Settings

__all__ = ["LengthSample", "RowSample", "load_sample", "sample_rows"]

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


@dataclass(frozen=True)
class SampledSplit:
    """Tokenized rows of a split, picked evenly over it, none cut to a length."""

    rows: tuple[TokenRow, ...]
    sequences: int
    """Sequences of one pass, repeats counted: an example has several where the chat template rewrites its
    history. Expected from the sample."""

    def within(self, max_seq_len: int, overlong: str) -> SampledSplit:
        """The rows that stay at a length."""
        fitting = (row for row in self.rows if overlong != "drop" or row.whole_tokens <= max_seq_len)
        kept = tuple(row for row in fitting if row.first_loss < min(row.whole_tokens, max_seq_len))
        return SampledSplit(kept, max(round(self.sequences * len(kept) / len(self.rows)), 1))

    def lengths(self, max_seq_len: int) -> Counts:
        """Shape (rows,): tokens of each, cut to a length."""
        return np.asarray([min(row.whole_tokens, max_seq_len) for row in self.rows], dtype=np.int64)

    def counted(self, *, exact: bool) -> SampledRows:
        """The lengths alone."""
        return SampledRows(
            tokens=tuple(row.whole_tokens for row in self.rows),
            first_loss=tuple(row.first_loss for row in self.rows),
            loss_tokens=tuple(int(row.mask.sum()) for row in self.rows),
            rows=self.sequences,
            exact=exact,
        )


@dataclass(frozen=True, kw_only=True)
class RowSample:
    """Samples of both splits."""

    train: SampledSplit
    eval: SampledSplit
    exact: bool
    """Whether every row is in the sample."""
    notes: tuple[str, ...]
    """What of the rows is not used, and what was done so that the chat template takes them; each once."""

    def within(self, max_seq_len: int, overlong: str = "truncate") -> LengthSample | None:
        """The rows that stay, cut to a length; None where none stays."""
        train, held_out = (split.within(max_seq_len, overlong) for split in (self.train, self.eval))
        if not (train.rows and held_out.rows):
            return None
        loss_tokens = [int(row.mask[:max_seq_len].sum()) for row in train.rows]
        return LengthSample(
            lengths=train.lengths(max_seq_len),
            completion_tokens=np.asarray(loss_tokens, dtype=np.int64),
            eval_lengths=held_out.lengths(max_seq_len),
            train_rows=train.sequences,
            eval_rows=held_out.sequences,
            max_seq_len=max_seq_len,
        )


def sample_rows(settings: Settings, look: Look) -> RowSample | None:
    """Tokenizes 256 training rows and a quarter as many held-out ones, always the same; all where there are
    at most 512.

    None where that cannot be done at once: the tokenizer is not a local ``tokenizer.json``, or anything
    else is amiss, which whoever needs the rows will tell.
    """
    try:
        return _sampled(settings, look)
    except Exception:  # an estimate is no reason to stop, and broken files have many ways to fail
        return None


def _sampled(settings: Settings, look: Look) -> RowSample | None:
    examples = look.examples
    tokenizer = light_tokenizer(settings.model_path, settings.chat_template)
    if tokenizer is None:
        return None
    epoch = [one for one, times in zip(examples.train, examples.times, strict=True) for _ in range(times)]
    total = len(epoch) + len(examples.eval)
    train_rows, eval_rows = (_ALL_ROWS, _ALL_ROWS) if total <= _ALL_ROWS else (_ROWS, _ROWS // 4)
    train, held_out = (
        _sampled_split(split, count, rows, tokenizer, learn_template=settings.learn_template_text)
        for split, count, rows in (
            (epoch, train_rows, look.train_rows),
            (examples.eval, eval_rows, look.eval_rows),
        )
    )
    if not (train.rows and held_out.rows):
        return None
    template = ChatTemplate(tokenizer)
    return RowSample(
        train=train,
        eval=held_out,
        exact=look.looked_at is None and len(epoch) <= train_rows and len(examples.eval) <= eval_rows,
        notes=(
            *unused_keys_note(examples.message_keys, template.source),
            *_notes([*train.rows, *held_out.rows], look.train_rows + look.eval_rows),
            *stop_notes(template),
        ),
    )


def _sampled_split(
    examples: Sequence[Example], count: int, rows: int, tokenizer: Tokenizer, *, learn_template: bool
) -> SampledSplit:
    """Tokenizes some of the examples as a trial would; ``rows`` is how many there are."""
    indices = np.linspace(0, len(examples) - 1, num=min(count, len(examples)))
    picked = [examples[int(index)] for index in np.round(indices)]
    problems = Problems(len(picked))
    found = tokenize(picked, tokenizer, _LONGEST_TOKENS, problems, learn_template=learn_template)
    kept = tuple(row for _, row in found)
    return SampledSplit(kept, max(round(rows * (len(kept) / len(picked))), 1))


def load_sample(settings: Settings) -> RowSample | None:
    """A sample of the rows, which are looked at for it; None where ``sample_rows`` has none."""
    try:
        look = look_at(settings)
    except Exception:  # see sample_rows
        return None
    return sample_rows(settings, look)


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

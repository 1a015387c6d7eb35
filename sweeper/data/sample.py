"""How long the rows are, from a few of them: what an estimate knows before anything was tokenized."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweeper.data.examples import Examples, load_examples
from sweeper.data.formats import Example
from sweeper.data.problems import Problems
from sweeper.data.tokenizer import Tokenizer
from sweeper.data.tokens import tokenize
from sweeper.spec import Settings

__all__ = ["LengthSample", "sample_lengths"]

Counts = npt.NDArray[np.int64]


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


def sample_lengths(
    settings: Settings,
    *,
    max_seq_len: int,
    overlong: str = "truncate",
    examples: Examples | None = None,
    rows: int = 256,
) -> LengthSample | None:
    """Tokenizes up to ``rows`` training rows and a quarter as many held-out ones, always the same.

    None where that cannot be done at once: the tokenizer is not a local ``tokenizer.json``, or anything
    else is amiss, which whoever needs the rows will tell.

    Args:
        settings: model, data and chat template.
        max_seq_len: rows are cut to so many tokens.
        overlong: ``training.overlong``: ``drop`` leaves longer rows out.
        examples: the rows, where they were read already.
        rows: training rows to look at.
    """
    try:
        from sweeper.data.light_tokenizer import light_tokenizer

        tokenizer = light_tokenizer(settings.model_path, settings.chat_template)
        if tokenizer is None:
            return None
        examples = examples or load_examples(settings)
        epoch = np.repeat(np.arange(len(examples.train)), examples.times)
        look = _Look(tokenizer, max_seq_len, drop=overlong == "drop")
        train, completions, kept = look.at([examples.train[i] for i in _evenly(epoch, rows)])
        held_out = np.arange(len(examples.eval))
        eval_lengths, _, eval_kept = look.at([examples.eval[i] for i in _evenly(held_out, rows // 4)])
    except Exception:  # an estimate is no reason to stop, and broken files have many ways to fail
        return None
    if not (len(train) and len(eval_lengths)):
        return None
    return LengthSample(
        lengths=train,
        completion_tokens=completions,
        eval_lengths=eval_lengths,
        train_rows=max(round(examples.train_rows * kept), 1),
        eval_rows=max(round(len(examples.eval) * eval_kept), 1),
        max_seq_len=max_seq_len,
    )


def _evenly(indices: Counts, count: int) -> list[int]:
    places = np.linspace(0, len(indices) - 1, num=min(max(count, 1), len(indices)))
    return [int(one) for one in indices[np.round(places).astype(np.int64)]]


class _Look:
    """Tokenizes rows as a trial would."""

    def __init__(self, tokenizer: Tokenizer, max_seq_len: int, *, drop: bool) -> None:
        self._tokenizer, self._max_seq_len, self._drop = tokenizer, max_seq_len, drop

    def at(self, examples: list[Example]) -> tuple[Counts, Counts, float]:
        """Tokens and completion tokens of the rows that stay, and the share that they are."""
        found = tokenize(examples, self._tokenizer, self._max_seq_len, Problems(len(examples)))
        kept = [row for _, row in found if row.mask.any() and not (self._drop and row.truncated)]
        lengths = np.asarray([len(row.ids) for row in kept], dtype=np.int64)
        completions = np.asarray([int(row.mask.sum()) for row in kept], dtype=np.int64)
        return lengths, completions, len(kept) / len(examples)

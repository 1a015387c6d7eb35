"""What is known about the data, the model and the machine before anything runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

__all__ = ["Facts", "ModelSizes", "ProxyModel", "SampledRows"]


@dataclass(frozen=True, kw_only=True)
class ModelSizes:
    """What memory follows from, read from the heads of a model's files."""

    parameters: int
    layers: int
    hidden_size: int
    intermediate_size: int
    """Width inside of the MLP."""
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    gated: bool
    """Whether the MLP multiplies two branches, as Llama's does."""
    tied: bool = False
    """Whether the output matrix is the embedding."""
    activation: str = ""
    """The MLP's activation function, by its name in transformers; empty where it is not known."""
    head_norms: bool = False
    """Whether queries and keys are normalized, as Qwen3's are."""
    dropout: float = 0.0
    """Of the hidden states, in training."""
    attention_dropout: float = 0.0
    """Of the attention's scores, in training."""
    linear: Mapping[str, int] = field(default_factory=dict)
    """Name of a linear module -> inputs + outputs of all of that name: an adapter of rank r has r times so
    many parameters."""


@dataclass(frozen=True, kw_only=True)
class SampledRows:
    """How long the rows of a split are, from some of them or all."""

    tokens: tuple[int, ...]
    """Of each sampled row."""
    first_loss: tuple[int, ...]
    """How many tokens come before the first one with loss."""
    loss_tokens: tuple[int, ...]
    rows: int
    """Rows of the split; where a row becomes several sequences, those."""
    exact: bool
    """Whether all rows are in the sample."""

    def kept(self, max_seq_len: int, overlong: str) -> int:
        """Rows of the split with something to learn within so many tokens; estimated where the sample is."""
        return round(self.rows * self._kept(max_seq_len, overlong) / len(self.tokens))

    def cut(self, max_seq_len: int, overlong: str) -> int:
        """Rows that are kept and lose their end."""
        whole = self._kept(max_seq_len, "drop")
        return round(self.rows * (self._kept(max_seq_len, overlong) - whole) / len(self.tokens))

    def enough_for(self, fraction: float, overlong: str) -> int:
        """The shortest max_seq_len that keeps this fraction of the rows: all of them to their end where
        ``overlong`` drops longer ones, else to the first token with loss."""
        needed = self.tokens if overlong == "drop" else tuple(first + 1 for first in self.first_loss)
        return sorted(needed)[max(math.ceil(fraction * len(needed)) - 1, 0)]

    def mean_tokens(self, max_seq_len: int) -> float:
        """Of a sampled row, cut to a length."""
        return sum(min(one, max_seq_len) for one in self.tokens) / len(self.tokens)

    def _kept(self, max_seq_len: int, overlong: str) -> int:
        most = self.tokens if overlong == "drop" else (0,) * len(self.tokens)
        pairs = zip(most, self.first_loss, strict=True)
        return sum(length <= max_seq_len and first < max_seq_len for length, first in pairs)


@dataclass(frozen=True, kw_only=True)
class ProxyModel:
    """The smaller model that a search looks at first; the fields are those of ``Facts``."""

    hidden_size: int | None = None
    layers: int | None = None
    vocab_size: int | None = None
    max_position_embeddings: int | None = None
    model_type: str | None = None
    sizes: ModelSizes | None = None
    same_tokens: bool | None = None
    """Whether it reads the same text as the same tokens; None where that is not known."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The grounds of every rule of thumb; gathered by ``sweeper.data``."""

    train_rows: int
    """Rows of one epoch, after the held-out rows were taken away; those seen twice count twice. Those without
    an answer within max_seq_len are not counted where the tokenizer was at hand."""
    eval_rows: int
    """Held-out rows, likewise."""
    accelerator: Literal["cuda", "cpu"]
    devices: int
    """GPUs of this machine or cluster; 1 where there is none."""
    cpus: int
    hidden_size: int | None = None
    """Width of the model; None where it cannot be read, as for a hub id that is not at hand."""
    layers: int | None = None
    vocab_size: int | None = None
    max_position_embeddings: int | None = None
    """Tokens that the model can tell apart by their position."""
    model_type: str | None = None
    sizes: ModelSizes | None = None
    """None where the model's files are not at hand."""
    has_chat_template: bool | None = None
    source_rows: tuple[int, ...] = ()
    """Training rows of each source, before weights; empty where they were not counted."""
    rows_bad: int = 0
    """Broken rows, left out."""
    rows_without_answer: int = 0
    """Rows with nothing to learn, left out."""
    rows_leaked: int = 0
    """Training rows equal to a held-out row, left out."""
    rows_too_long: int = 0
    """Rows of both splits without an answer within max_seq_len, or longer with ``overlong: drop``."""
    rows_cut: int = 0
    """Rows of both splits that are cut to max_seq_len."""
    enough_tokens: tuple[int, int] | None = None
    """The max_seq_len that would keep 95 % and 99 % of the training rows, where rows are too long."""
    eval_loss_tokens: int | None = None
    """Tokens that carry loss in all held-out rows; None where the tokenizer was not at hand."""
    eval_row_cost: float = 1.0
    """Tokens of a held-out row for each token of a training row, on average."""
    rows_estimated: bool = False
    """Whether the counts of rows are from a sample of them."""
    rows_looked_at: int | None = None
    """Rows of large data that all counts of rows are estimated from; None where all were read."""
    data_notes: tuple[str, ...] = ()
    """What was done so that the chat template takes the rows, and what of them is not used."""
    train_sample: SampledRows | None = field(default=None, repr=False)
    eval_sample: SampledRows | None = field(default=None, repr=False)
    """None once their lengths are in the counts above."""
    proxy_model: ProxyModel | None = None
    """None where the search looks at no smaller model."""

    def on_proxy(self, rows: float | None) -> Facts:
        """What is known of the small run of a search: over that share of the rows, else of its model."""
        if rows is not None:
            return replace(self, train_rows=max(round(self.train_rows * rows), 1))
        if self.proxy_model is None:
            return self
        own = vars(self.proxy_model)
        return replace(self, **{name: own[name] for name in own if name != "same_tokens"})

    def within(self, max_seq_len: int, overlong: str) -> Facts:
        """The facts with only those rows counted that are left at this length."""
        train, held_out = self.train_sample, self.eval_sample
        if train is None or held_out is None:
            return self
        kept = train.kept(max_seq_len, overlong), held_out.kept(max_seq_len, overlong)
        enough = train.enough_for(0.95, overlong), train.enough_for(0.99, overlong)
        kept_fraction = kept[1] / max(held_out.rows, 1)
        loss_tokens = sum(held_out.loss_tokens) / len(held_out.tokens) * held_out.rows * kept_fraction
        return replace(
            self,
            train_rows=kept[0],
            eval_rows=kept[1],
            rows_too_long=train.rows + held_out.rows - sum(kept),
            rows_cut=train.cut(max_seq_len, overlong) + held_out.cut(max_seq_len, overlong),
            enough_tokens=enough if kept[0] < train.rows else None,
            eval_loss_tokens=round(loss_tokens),
            eval_row_cost=held_out.mean_tokens(max_seq_len) / train.mean_tokens(max_seq_len),
            rows_estimated=not (train.exact and held_out.exact),
            train_sample=None,
            eval_sample=None,
        )

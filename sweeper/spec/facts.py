"""What is known about the data, the model and the machine before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Facts", "ModelSizes"]


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
class Facts:
    """The grounds of every rule of thumb; gathered from the files by the data room."""

    train_rows: int
    """Rows of one epoch, after the held-out rows were taken away; those seen twice count twice."""
    eval_rows: int
    """Held-out rows."""
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
    rows_bad: int = 0
    """Broken rows, left out."""
    rows_without_answer: int = 0
    """Rows with nothing to learn, left out."""
    rows_leaked: int = 0
    """Training rows equal to a held-out row, left out."""

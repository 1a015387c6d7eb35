"""What is known of a sweep before it trains anything, by which sweeps are compared."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.space import rule_of_thumb_lr

if TYPE_CHECKING:
    from sweeper.space import Facts, Space

__all__ = ["Features", "features_of", "lr_ratio", "model_features", "similarity"]

_OTHER_FAMILY, _OTHER_METHOD = 0.3, 0.5
"""How alike sweeps of two model families are, and those of LoRA and of full fine-tuning, where equal ones
count 1."""
_SIZE_DOUBLINGS, _ROWS_DOUBLINGS = 2.9, 11.5
"""After so many doublings of the model's size, or of the rows, the likeness has fallen to 1/e."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """Of model, data and method; what is not known is None. Holds names and counts, no text of the data."""

    model: str
    """The last part of ``model_path``."""
    model_type: str | None = None
    """As config.json has it: ``llama``, ``qwen3``."""
    parameters: int | None = None
    hidden_size: int | None = None
    layers: int | None = None
    vocab_size: int | None = None
    lora: bool | None = None
    """Whether adapters are trained; None where the sweep searched it."""
    data: tuple[str, ...] = ()
    """The last part of each source's path."""
    train_rows: int | None = None
    eval_rows: int | None = None
    mean_answer_tokens: float | None = None
    """Held-out tokens with loss, in the mean over the rows."""
    max_seq_len: int | None = None


def model_features(model_path: str, facts: Facts, *, lora: bool | None) -> Features:
    """What is known of a model and its rows before there is a space."""
    return Features(
        model=Path(model_path).name,
        model_type=facts.model_type,
        parameters=None if facts.sizes is None else facts.sizes.parameters,
        hidden_size=facts.hidden_size,
        layers=facts.layers,
        vocab_size=facts.vocab_size,
        lora=lora,
        train_rows=facts.train_rows,
    )


def features_of(space: Space) -> Features:
    """Of a space whose facts have been gathered."""
    facts, settings = space.facts, space.settings
    typical = space.close(space.default_values())
    is_lora_open = any(dimension.path == "training.lora" for dimension in space.dimensions)
    loss_tokens = facts.eval_loss_tokens
    lora = None if is_lora_open else bool(typical.training.lora)
    return replace(
        model_features(settings.model_path, facts, lora=lora),
        data=tuple(Path(source.path).name for source in typical.sources),
        eval_rows=facts.eval_rows,
        mean_answer_tokens=None if loss_tokens is None else loss_tokens / max(facts.eval_rows, 1),
        max_seq_len=typical.training.max_seq_len,
    )


def similarity(one: Features, other: Features) -> float:
    """How alike two sweeps are, above 0 and at most 1: by the model's family and size, the method, and the
    number of rows.

    It is the weight of a past sweep before anything was trained; how well it orders the trials then says
    more. What is not known of either makes no difference.
    """
    alike = _OTHER_FAMILY if one.model_type != other.model_type else 1.0
    if None not in (one.lora, other.lora) and one.lora != other.lora:
        alike *= _OTHER_METHOD
    alike *= _likeness(one.parameters, other.parameters, _SIZE_DOUBLINGS)
    return alike * _likeness(one.train_rows, other.train_rows, _ROWS_DOUBLINGS)


def lr_ratio(now: Features, then: Features) -> float:
    """What a learning rate of a past sweep is multiplied with: each counts by its ratio to the rule of thumb
    of the model that it trained.

    On public sweeps of LoRA over many models that is nearer than the rate itself (docs/decisions/0034).
    """
    if now.hidden_size is None or then.hidden_size is None:
        return 1.0
    return _rule(now) / _rule(then)


def _rule(features: Features) -> float:
    return rule_of_thumb_lr(features.hidden_size, lora=bool(features.lora), model_type=features.model_type)


def _likeness(one: int | None, other: int | None, doublings: float) -> float:
    if not one or not other:
        return 1.0
    return math.exp(-abs(math.log2(one / other)) / doublings)

"""Weights of data sources that are left open: the mixture of the training rows as a hyperparameter."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from sweeper.space.config.config import DataSource
from sweeper.space.config.facts import Facts

__all__ = ["mixed", "source_index", "times_seen", "weight_names", "weight_path", "with_weights"]

_PATH = re.compile(r"data_path\.(\d+)\.weight")
_PLAIN = re.compile(r"[^A-Za-z0-9_-]+")


def weight_path(index: int) -> str:
    """The full name of a source's weight, as a dimension has it."""
    return f"data_path.{index}.weight"


def source_index(path: str) -> int | None:
    """Whose weight it is; None of any other field."""
    found = _PATH.fullmatch(path)
    return None if found is None else int(found[1])


def weight_names(data_path: Sequence[str | DataSource]) -> list[str]:
    """What each source's weight is called: ``weight.chat`` for ``data/chat.jsonl``, by its place where that
    says nothing, or stands twice."""
    paths = [one if isinstance(one, str) else one.path for one in data_path]
    stems = [_PLAIN.sub("-", PurePath(one).name.partition(".")[0]).strip("-") for one in paths]
    return [
        f"weight.{stem if stem and stems.count(stem) == 1 else index}" for index, stem in enumerate(stems)
    ]


def with_weights(data_path: Any, weights: Mapping[int, float]) -> Any:
    """The sources with other weights, by their places."""
    if not weights:
        return data_path
    return tuple(
        one.model_copy(update={"weight": float(weights[index])})
        if index in weights and isinstance(one, DataSource)
        else one
        for index, one in enumerate(data_path)
    )


def times_seen(rows: int, weight: float) -> int:
    """How many rows an epoch sees of a source of so many: none of weight 0, else at least one."""
    return 0 if weight == 0 else max(round(weight * rows), 1) if rows else 0


def mixed(facts: Facts, weights: Sequence[float], usual: Sequence[float]) -> Facts:
    """The facts of another mixture than the usual one, which they were gathered of."""
    if tuple(weights) == tuple(usual) or len(facts.source_rows) != len(weights):
        return facts
    now, then = (
        sum(times_seen(rows, weight) for rows, weight in zip(facts.source_rows, one, strict=True))
        for one in (weights, usual)
    )
    return replace(facts, train_rows=round(facts.train_rows * now / max(then, 1)))

"""Sweeps -> how each one's answer would have done in the others."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sweeper.errors import Problem, UserError
from sweeper.recommend.compare.settings import Setting, shared_settings
from sweeper.recommend.compare.side import Outcome, SweepSide
from sweeper.search.records import json_tree
from sweeper.space import value_text

if TYPE_CHECKING:
    from sweeper.recommend.report import Material

__all__ = ["Comparison", "SweepSide", "Transfer", "compare"]

_TRAINED = ("training.", "deepspeed.", "parallel.")


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """The best configuration of one sweep in another one."""

    source: str
    target: str
    not_there: tuple[str, ...]
    """Fields whose value the target did not search: its nearest one stands in, or its own best word."""
    as_it_is: Outcome
    by_lr_ratio: Outcome | None
    """The same with the learning rate that has the same ratio to the target's rule of thumb; None where that
    is the same rate, or where either sweep searched none."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Several sweeps of one metric."""

    metric: str
    mode: str
    sides: tuple[SweepSide, ...]
    transfers: tuple[Transfer, ...]
    """One for each ordered pair."""
    settings: tuple[Setting, ...]
    """Those that at least two sweeps searched."""
    differs: dict[str, dict[str, str]]
    """Field -> its value in each sweep: what was not searched, and is not the same in all."""

    def to_dict(self) -> dict[str, Any]:
        """As strict JSON: ``{"metric", "mode", "sweeps": [{"name", "folder", "state", "model", "data",
        "trials", "complete", "best", "value", "default", "over_default_percent", "explained", "importances",
        "lr": {"best", "fitted", "rule_of_thumb", "ratio"}}], "transfers": [{"source", "target", "not_there",
        "as_it_is": {"by", "predicted", "regret", "low", "high", "percent", "rank", "of"}, "by_lr_ratio"}],
        "settings": [{"path", "values", "importances", "swaps": [{"source", "target", "value", "worse", "low",
        "high"}], "verdict"}], "differs"}``. Regrets are positive where the target's own best is better."""
        tree = {
            "metric": self.metric,
            "mode": self.mode,
            "sweeps": [one.to_dict() for one in self.sides],
            "transfers": [asdict(one) for one in self.transfers],
            "settings": [asdict(one) for one in self.settings],
            "differs": self.differs,
        }
        found: dict[str, Any] = json_tree(tree)
        return found


def compare(materials: Sequence[Material]) -> Comparison:
    """Each sweep's best configuration in each other sweep, by that one's own trials.

    Raises UserError with all that keeps sweeps from being compared: fewer than two, other metrics, no trial
    that was trained to its end.
    """
    _refuse(materials)
    sides = tuple(SweepSide(label, one) for label, one in zip(_labels(materials), materials, strict=True))
    objective = materials[0].space.settings.objective
    return Comparison(
        metric=objective.metric,
        mode=objective.mode,
        sides=sides,
        transfers=tuple(_transfer(one, other) for one in sides for other in sides if one is not other),
        settings=tuple(shared_settings(sides)),
        differs=dict(_differs(sides)),
    )


def _labels(materials: Sequence[Material]) -> list[str]:
    """Their names; of sweeps of one name their folders, as far as these are apart."""
    names = Counter(one.space.name for one in materials)
    roots = [one.root.resolve() for one in materials]
    above = os.path.commonpath(roots)
    pairs = zip(materials, roots, strict=True)
    return [
        one.space.name if names[one.space.name] == 1 else str(root.relative_to(above)) for one, root in pairs
    ]


def _refuse(materials: Sequence[Material]) -> None:
    problems = []
    roots = [one.root.resolve() for one in materials]
    if len(set(roots)) < 2 or len(set(roots)) < len(roots):
        twice = ", ".join(sorted({str(one.root) for one in materials if roots.count(one.root.resolve()) > 1}))
        rule = "a comparison is of two sweeps or more, each named once"
        problems.append(
            Problem(
                where="sweeper compare", value=twice, rule=rule, remedy="name the folders of other sweeps"
            )
        )
    asked = [(one.space.settings.objective.metric, one.space.settings.objective.mode) for one in materials]
    usual = Counter(asked).most_common(1)[0][0] if asked else None
    for material, (metric, mode) in zip(materials, asked, strict=True):
        if (metric, mode) != usual and usual is not None:
            rule = (
                f"the others look for {usual[0]} ({usual[1]}), and values of two metrics cannot be compared"
            )
            value, remedy = f"objective: {metric} ({mode})", "compare sweeps of one metric"
            problems.append(Problem(where=str(material.root), value=value, rule=rule, remedy=remedy))
        if material.best is None or material.best.final_value is None:
            rule = "no trial was trained to its end, so that it has nothing to compare"
            remedy = f"finish it: `sweeper resume {material.root}`, or leave it out"
            value = f"{len(material.asked)} trials"
            problems.append(Problem(where=str(material.root), value=value, rule=rule, remedy=remedy))
    if problems:
        raise UserError(problems)


def _transfer(source: SweepSide, target: SweepSide) -> Transfer:
    values, not_there = target.mapped(source.flat)
    scaled = None
    if source.lr is not None and target.lr is not None and source.rule_lr != target.rule_lr:
        flat = source.flat | {"training.lr": source.lr * target.rule_lr / source.rule_lr}
        scaled = target.outcome(target.mapped(flat)[0])
    return Transfer(
        source=source.label,
        target=target.label,
        not_there=not_there,
        as_it_is=target.outcome(values),
        by_lr_ratio=scaled,
    )


def _differs(sides: Sequence[SweepSide]) -> Iterator[tuple[str, dict[str, str]]]:
    """What was not searched: models, rows, and fields of training that are not the same."""
    for name in ("model", "data"):
        found = {one.label: str(getattr(one, name)) for one in sides}
        if len(set(found.values())) > 1:
            yield name, found
    opened = {dimension.path for one in sides for dimension in one.space.dimensions}
    fixed = [path for path in sides[0].flat if path.startswith(_TRAINED) and path not in opened]
    for path in fixed:
        texts = {one.label: value_text(one.flat[path]) for one in sides if path in one.flat}
        if len(texts) == len(sides) and len(set(texts.values())) > 1:
            yield path, texts

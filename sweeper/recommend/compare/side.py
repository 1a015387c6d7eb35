"""One of the sweeps that are compared: its answer, and what its trials say of another one's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sweeper.search import Interval, TrialRecord, space_in_force
from sweeper.search.auto.coordinates import Coordinates
from sweeper.space import Choice, IntRange, is_number, rule_of_thumb_lr

if TYPE_CHECKING:
    from sweeper.recommend.report import Material
    from sweeper.space import Dimension, Scalar, Space

__all__ = ["Outcome", "SweepSide"]

LR = "training.lr"
_GRID, _SMALL = 81, 0.01

By = Literal["that trial", "surrogate", "nearest trial"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a configuration does in a sweep."""

    by: By
    """A trial of that configuration; the Gaussian process of the sweep's trials; or, where these do not
    predict each other, the trial that lies nearest."""
    predicted: float
    """The metric."""
    regret: float
    """How much worse it is than the sweep's own best; negative where it is better."""
    low: float | None
    high: float | None
    """95 % of the regret; None where nothing tells."""
    percent: float | None
    """The regret as a share of the own best's metric."""
    rank: int
    """1 + the complete trials whose metric is better."""
    of: int
    """Complete trials."""


class SweepSide:
    """A sweep with at least one complete trial."""

    def __init__(self, label: str, material: Material) -> None:
        self.label, self.material = label, material
        best = material.best
        assert best is not None and best.final_value is not None
        self.best: TrialRecord = best
        self.best_value: float = best.final_value

    @property
    def space(self) -> Space:
        """With the ranges that its last trials were asked in."""
        return self._space

    @cached_property
    def _space(self) -> Space:
        return space_in_force(self.material.space, self.material.trials)

    @property
    def sign(self) -> float:
        return 1.0 if self.material.space.settings.objective.mode == "min" else -1.0

    @property
    def model(self) -> str:
        return self.material.space.settings.model_path

    @property
    def data(self) -> str:
        return ", ".join(one.path for one in self.material.space.settings.sources)

    def percent_behind(self, value: float) -> float:
        """How much worse a value of the metric is than the best, which is not 0."""
        return 100 * self.sign * (value - self.best_value) / abs(self.best_value)

    @cached_property
    def flat(self) -> dict[str, Any]:
        """Field -> value of the best configuration, those that were not searched included."""
        searched = {one.path: self.best.values.get(one.name) for one in self.material.space.dimensions}
        return {**searched, **self.material.space.attempt(self.best.values)[0]}

    @cached_property
    def lr(self) -> float | None:
        """The best configuration's; None where it was not searched."""
        is_searched = self.space.dimension(LR) is not None
        return float(self.flat[LR]) if is_searched and self.flat.get(LR) else None

    @cached_property
    def rule_lr(self) -> float:
        facts = self.material.space.facts
        is_lora = self.flat.get("training.lora", True) is not False and "training.lora.rank" in self.flat
        return rule_of_thumb_lr(facts.hidden_size, lora=is_lora, model_type=facts.model_type)

    @cached_property
    def fitted_lr(self) -> float | None:
        """Where the process has its best learning rate, the other values being the best trial's; None where
        it does not tell."""
        surface, dimension = self.material.surface, self.space.dimension(LR)
        if surface is None or not surface.tells or dimension is None or self.lr is None:
            return None
        value = dimension.open_value
        if isinstance(value, Choice):
            tried = [float(one) for one in value.options if is_number(one)]
        else:
            low, high = float(value.low), float(value.high)
            tried = (
                np.geomspace(low, high, _GRID).tolist() if low > 0 else np.linspace(low, high, _GRID).tolist()
            )
        mean, _ = surface.predict([{**self.best.values, dimension.name: one} for one in tried])
        return float(tried[int(np.argmin(self.sign * mean))])

    @property
    def small(self) -> float:
        """What counts for nothing here: a run's difference from another by chance, or one in a hundred."""
        surface = self.material.surface
        return max(0.0 if surface is None else surface.noise, _SMALL * abs(self.best_value))

    def mapped(self, flat: Mapping[str, Any]) -> tuple[dict[str, Scalar], tuple[str, ...]]:
        """A configuration of another sweep as values of this one, and the fields whose value was not searched
        here."""
        values, not_there = dict(self.best.values), []
        for dimension in self.space.dimensions:
            if flat.get(dimension.path) is None:
                not_there.append(dimension.path)
                continue
            value, fits = near(dimension, flat[dimension.path])
            if value is not None:
                values[dimension.name] = value
            if not fits:
                not_there.append(dimension.path)
        return self.space.active_values(values), tuple(not_there)

    def outcome(self, values: Mapping[str, Scalar]) -> Outcome:
        """What this sweep's trials say of a configuration."""
        point, surface = self._coordinates.point(values), self.material.surface
        distances = {
            one.number: float(np.linalg.norm(self._coordinates.point(one.values) - point))
            for one in self.material.complete
        }
        nearest = min(self.material.complete, key=lambda one: (distances[one.number], one.number))
        interval: Interval | None = None
        if distances[nearest.number] < 1e-9:
            by: By = "that trial"
        elif surface is not None and surface.tells:
            by, interval = "surrogate", surface.behind(self.best.values, [values])[0]
        else:
            by = "nearest trial"
        if interval is None:
            predicted = nearest.final_value or 0.0
            regret = self.sign * (predicted - self.best_value)
        else:
            regret, predicted = interval.mean, self.best_value + self.sign * interval.mean
        better = [
            one
            for one in self.material.complete
            if self.sign * (one.final_value or 0.0) < self.sign * predicted - 1e-12
        ]
        return Outcome(
            by=by,
            predicted=predicted,
            regret=regret,
            low=None if interval is None else interval.low,
            high=None if interval is None else interval.high,
            percent=100 * regret / abs(self.best_value) if self.best_value else None,
            rank=1 + len(better),
            of=len(self.material.complete),
        )

    def swapped(self, dimension: Dimension, value: Scalar) -> Interval | None:
        """How much worse the best configuration gets with another value of one field; None where the trials
        do not tell."""
        surface = self.material.surface
        if surface is None or not surface.tells:
            return None
        values = self.space.active_values({**self.best.values, dimension.name: value})
        return surface.behind(self.best.values, [values])[0]

    @cached_property
    def _coordinates(self) -> Coordinates:
        return Coordinates(self.space)

    def to_dict(self) -> dict[str, Any]:
        """See ``Comparison.to_dict``."""
        material, gain = self.material, self.material.over_default
        default = material.default
        surface = material.surface
        lr = None
        if self.lr is not None:
            lr = {
                "best": self.lr,
                "fitted": self.fitted_lr,
                "rule_of_thumb": self.rule_lr,
                "ratio": self.lr / self.rule_lr,
            }
        return {
            "name": self.label,
            "folder": str(material.root),
            "state": material.state,
            "model": self.model,
            "data": self.data,
            "trials": len(material.asked),
            "complete": len(material.complete),
            "best": self.best.number,
            "value": self.best_value,
            "default": None if default is None else default.final_value,
            "over_default_percent": None if gain is None else gain.percent,
            "explained": None if surface is None else surface.explained,
            "importances": material.importances,
            "lr": lr,
        }


def near(dimension: Dimension, value: Scalar) -> tuple[Scalar | None, bool]:
    """The value of the dimension that lies nearest, and whether it is the same one; None of a word that it
    does not have."""
    asked = dimension.open_value
    if isinstance(asked, Choice):
        same = next((one for one in asked.options if one == value), None)
        if same is not None:
            return same, True
        numbers = [one for one in asked.options if is_number(one)]
        if not is_number(value) or len(numbers) < len(asked.options):
            return None, False
        return min(numbers, key=lambda one: abs(float(one) - float(value))), False
    if not is_number(value):
        return None, False
    clipped: int | float = min(max(value, asked.low), asked.high)
    if isinstance(asked, IntRange):
        clipped = asked.low + round((clipped - asked.low) / asked.step) * asked.step
    return clipped, clipped == value

"""What a report is made of, gathered by the command and read by every part of the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.recommend.advice import Advice, advice
from sweeper.recommend.gains import Gain, gain_over_default, gain_over_median
from sweeper.recommend.ranking import ResultRow, best_record, default_record, result_rows
from sweeper.search import TrialRecord, own_evaluations
from sweeper.search.evidence import Surface, importances, surface_of
from sweeper.search.front import devices_of, ranked
from sweeper.space import short_label

if TYPE_CHECKING:
    from sweeper.space import Dimension, Scalar, Space

__all__ = ["Material", "ShownExample", "own_seconds", "plain"]

_HOUR_S = 3600.0


@dataclass(frozen=True, kw_only=True)
class ShownExample:
    """One training row as the model gets it."""

    parts: tuple[tuple[str, bool], ...]
    """Stretches of its text, and whether they carry loss."""
    tokens: int
    loss_tokens: int


@dataclass(frozen=True, kw_only=True)
class Material:
    """A sweep at one moment."""

    space: Space
    trials: Sequence[TrialRecord]
    root: Path
    state: str
    """``running``, ``finished``, ``interrupted`` or ``failed``."""
    ended: str = ""
    """Why no further trial was begun."""
    untrained: float | None = None
    spent_s: float | None = None
    """What all drivers of the sweep have taken; None where it was not noted."""
    price_per_hour: float | None = None
    """Of all that the sweep holds while it runs; None where no price is configured."""
    lengths: Sequence[int] = ()
    """Tokens of each training row."""
    data_lines: Sequence[str] = ()
    """What became of the rows."""
    examples: Sequence[ShownExample] = ()

    @cached_property
    def asked(self) -> list[TrialRecord]:
        """Those of the table: without the runs under fresh seeds."""
        told = {row.trial for row in self.rows}
        return [one for one in self.trials if one.number in told]

    @cached_property
    def complete(self) -> list[TrialRecord]:
        return [one for one in self.asked if one.final_value is not None and not one.is_proxy]

    @cached_property
    def judged(self) -> list[TrialRecord]:
        """The complete trials by which values are compared: of a sweep with a proxy those on it, which are
        more than the few that train on the real thing."""
        on_proxy = [one for one in self.asked if one.final_value is not None and one.is_proxy]
        return on_proxy if len(on_proxy) > len(self.complete) else self.complete

    @property
    def judges_by_proxy(self) -> bool:
        return self.judged is not self.complete

    @cached_property
    def ranks(self) -> dict[int, int]:
        """Of those, from 1."""
        if not self.judges_by_proxy:
            return {row.trial: row.rank for row in self.rows if row.rank is not None}
        best = ranked(self._rivals, self.space.settings.objective)
        return {one.number: place for place, one in enumerate(best, start=1)}

    @cached_property
    def rows(self) -> list[ResultRow]:
        return result_rows(self.space, self.trials)

    @cached_property
    def best(self) -> TrialRecord | None:
        return best_record(self.space, self.trials)

    @cached_property
    def default(self) -> TrialRecord | None:
        return default_record(self.trials)

    @cached_property
    def surface(self) -> Surface | None:
        return surface_of(self.space, self.trials)

    @cached_property
    def shape(self) -> Surface | None:
        """The surrogate of the trials by which values are compared."""
        return surface_of(self.space, self._rivals) if self.judges_by_proxy else self.surface

    @cached_property
    def importances(self) -> dict[str, float]:
        return importances(self.space, self._rivals if self.judges_by_proxy else self.trials)

    @cached_property
    def _rivals(self) -> list[TrialRecord]:
        return [replace(one, is_proxy=False) for one in self.judged]

    @cached_property
    def over_default(self) -> Gain | None:
        return gain_over_default(self.space, self.trials, self.surface)

    @cached_property
    def over_median(self) -> Gain | None:
        return gain_over_median(self.space, self.trials, self.surface)

    @cached_property
    def advice(self) -> list[Advice]:
        return advice(self.space, self.trials, self.surface)

    @property
    def metric(self) -> str:
        return self.space.settings.objective.metric

    def label(self, name: str) -> str:
        """A dimension's short name."""
        return short_label(self.space, name)

    def dimension(self, name: str) -> Dimension | None:
        """As it was asked for last: ranges may have grown."""
        return None if self.shape is None else self.shape.space.dimension(name)

    @cached_property
    def gpu_hours(self) -> float:
        """Of all trials together, what none trained twice counted once; on a CPU of its ranks."""
        return (
            sum(own_seconds(one) * devices_of(one.attributes.get("config")) for one in self.trials) / _HOUR_S
        )

    @cached_property
    def money(self) -> float | None:
        """In the currency of the price; None without a price, or where the time is not known."""
        if self.price_per_hour is None or self.spent_s is None:
            return None
        return self.price_per_hour * self.spent_s / _HOUR_S


def own_seconds(record: TrialRecord) -> float:
    """Of what the trial trained itself, in seconds."""
    if record.same_as is not None:
        return 0.0
    if not record.evaluations:
        return record.seconds or 0.0
    taken = record.evaluations[: len(record.evaluations) - len(own_evaluations(record))]
    return record.evaluations[-1].seconds - (taken[-1].seconds if taken else 0.0)


def plain(value: Scalar | None) -> str | float | None:
    """A value for a chart's axis: a number stays one, everything else is a word."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if value is None or isinstance(value, (int, float)) else str(value)

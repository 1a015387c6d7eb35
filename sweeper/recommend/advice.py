"""What to do with a sweep's answer, in sentences: only what the evidence carries, each with its number.

Every rule looks at the complete trials and says nothing where they do not tell: where there are fewer than
``LEAST``, where they do not predict each other (``Surface.tells``), or where the interval of a difference
holds the opposite, too. Differences are those of the search's Gaussian process with 95 % intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median
from typing import TYPE_CHECKING, Literal

from sweeper.recommend.gains import gain_over_default
from sweeper.recommend.ranking import best_record, default_record
from sweeper.search import Interval, TrialRecord, confirmation_of, own_evaluations
from sweeper.search.evidence import Surface, surface_of
from sweeper.search.front import devices_of, ranked
from sweeper.space import Choice

if TYPE_CHECKING:
    from sweeper.space import Scalar, Space

__all__ = ["LEAST", "About", "Advice", "Evidence", "advice", "advice_lines", "between"]

LEAST = 8
"""Complete trials without which nothing is advised."""
SHOWN = 3
_SMALL = 0.01
_MUCH, _LITTLE = 0.005, 0.001
"""Of the objective: what an expected gain of further trials must reach to be worth them, and what is none."""
_LEAST_RISES = 3
_ENOUGH, _NOTHING = 16, 0.2
"""So many trials that predict no more of each other say that there is nothing to predict."""
_HOUR_S = 3600.0

About = Literal[
    "edge",
    "apart",
    "overfitting",
    "default",
    "next range",
    "difference",
    "more trials",
    "settled",
    "no matter",
]
_ORDER: tuple[About, ...] = About.__args__  # type: ignore[attr-defined]
"""The most important first."""


@dataclass(frozen=True, kw_only=True)
class Advice:
    """One sentence, without a full stop."""

    about: About
    says: str


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the rules look at."""

    space: Space
    trials: Sequence[TrialRecord]
    surface: Surface
    best: TrialRecord
    rivals: dict[str, list[tuple[Scalar, Interval]]] = field(default_factory=dict)
    """Of a list, each other option and how much worse it is than the chosen one, once it was worked out."""

    @property
    def metric(self) -> str:
        return self.space.settings.objective.metric

    @property
    def sign(self) -> float:
        return 1.0 if self.space.settings.objective.mode == "min" else -1.0

    @cached_property
    def complete(self) -> list[TrialRecord]:
        """The best first."""
        return ranked(self.trials, self.space.settings.objective)

    @property
    def size(self) -> float:
        """Of the best objective, without its sign."""
        return abs(self.best.final_value or 0.0)

    @property
    def small(self) -> float:
        """What counts for nothing: the difference of one run from another by chance, or one in a hundred."""
        return max(self.surface.noise, _SMALL * self.size)

    def hours(self, count: int) -> float:
        """GPU hours of so many more trials, as long as those so far were on average."""
        own = [one for one in self.trials if own_evaluations(one)]
        seconds = [(one.seconds or 0.0) * devices_of(one.attributes.get("config")) for one in own]
        return count * sum(seconds) / max(len(seconds), 1) / _HOUR_S


def advice(space: Space, trials: Sequence[TrialRecord], surface: Surface | None = None) -> list[Advice]:
    """The most important first; empty where the evidence carries nothing."""
    from sweeper.recommend.advice_values import at_ends, difference, next_ranges, no_matter, settled

    best, found = best_record(space, trials), surface or surface_of(space, trials)
    if best is None or best.final_value is None or found is None:
        return []
    evidence = Evidence(space=space, trials=trials, surface=found, best=best)
    if len(evidence.complete) < LEAST:
        return []
    rules: list[Callable[[Evidence], list[Advice]]] = [_not_apart, _overfitting, _against_default]
    if found.tells:
        rules += [at_ends, next_ranges, difference, _more_trials, settled, no_matter]
    said = [one for rule in rules for one in rule(evidence)]
    return sorted(said, key=lambda one: _ORDER.index(one.about))


def advice_lines(space: Space, trials: Sequence[TrialRecord], most: int = SHOWN) -> list[str]:
    """The most important ones as sentences."""
    return [one.says for one in advice(space, trials)[:most]]


def between(interval: Interval) -> str:
    """An interval in words."""
    return f"{interval.mean:.2g} (95 % {interval.low:.2g} to {interval.high:.2g})"


def _not_apart(evidence: Evidence) -> list[Advice]:
    """Runs under fresh seeds are tied, or no trial says anything about another one."""
    found = confirmation_of(evidence.space, evidence.trials)
    tied = [] if found is None or not found.is_over else [one for one in found.candidates if one.is_open]
    rows = f"{evidence.space.eval_rows:,}"
    wider = f"hold out more than {rows} rows (eval_data)"
    if len(tied) > 1 and found is not None:
        behind = [one.behind for one in tied if one.behind is not None]
        most = max((one.high for one in behind), default=0.0)
        said = (
            f"the best {len(tied)} cannot be told apart by {len(found.seeds)} fresh seeds: they may differ "
            f"by anything up to {most:.2g} of {evidence.metric}; {wider}, or raise search.confirm.seeds"
        )
    elif len(evidence.complete) >= _ENOUGH and evidence.surface.explained < _NOTHING:
        said = (
            f"the trials cannot be told apart by their values: {len(evidence.complete)} predict "
            f"{max(evidence.surface.explained, 0.0):.0%} of the differences between them, and one run may "
            f"differ from another by {evidence.surface.noise:.2g} of {evidence.metric} by chance; {wider}, "
            "or repeat the best (search.confirm)"
        )
    else:
        return []
    return [Advice(about="apart", says=said)]


def _against_default(evidence: Evidence) -> list[Advice]:
    """Whether the default would have done."""
    default, count = default_record(evidence.trials), len(evidence.complete)
    if default is None or default.final_value is None:
        return []
    if default.number == evidence.best.number:
        said = f"the default would have done: none of {count} complete trials was chosen before it"
        return [Advice(about="default", says=said)]
    gain = gain_over_default(evidence.space, evidence.trials, evidence.surface)
    if gain is None or gain.interval is None:
        return []
    if gain.interval.low > 0:
        said = f"the default would not have done: the chosen trial is better by {between(gain.interval)}"
    elif gain.interval.high <= 2 * evidence.small:
        said = (
            f"the default would have done: the chosen trial is better by {between(gain.interval)}, "
            f"at most {gain.interval.high:.2g} of {evidence.metric}"
        )
    else:
        return []
    return [Advice(about="default", says=said)]


def _more_trials(evidence: Evidence) -> list[Advice]:
    """Whether further trials are likely to help, and what they would cost."""
    tried = [one.values for one in evidence.trials if one.replicate_of is None]
    expected = evidence.surface.promise(evidence.best.values, tried)
    more = max(len(tried) // 2, 1)
    cost = f"{more} more would cost about {evidence.hours(more):.2g} GPU hours"
    if expected >= max(_MUCH * evidence.size, evidence.surface.noise / 2):
        said = f"more trials are likely to help: the next one is expected to gain {expected:.2g}; {cost}"
    elif _all_options_tried(evidence) and expected < max(
        _LITTLE * evidence.size, evidence.surface.noise / 10
    ):
        said = f"more trials are not likely to help: the next one is expected to gain {expected:.1g}; {cost}"
    else:
        return []
    return [Advice(about="more trials", says=said)]


def _all_options_tried(evidence: Evidence) -> bool:
    """Of what nobody has tried the process knows nothing, however little it expects."""
    return all(
        any(one.values.get(dimension.name) == option for one in evidence.complete)
        for dimension in evidence.surface.space.dimensions
        if isinstance(dimension.open_value, Choice)
        for option in dimension.open_value.options
    )


def _overfitting(evidence: Evidence) -> list[Advice]:
    """In most of the longest trials the objective turned and got worse for two evaluations at least."""
    longest = max(map(_epochs, evidence.complete), default=0.0)
    long = [one for one in evidence.complete if _epochs(one) == longest and len(one.evaluations) > 2]
    turned = [found for one in long if (found := _turned(evidence, one)) is not None]
    if len(turned) < _LEAST_RISES or 2 * len(turned) <= len(long):
        return []
    after, rise = median(one for one, _ in turned), median(one for _, one in turned)
    return [
        Advice(
            about="overfitting",
            says=f"overfitting: in {len(turned)} of {len(long)} trials of {longest:g} epochs "
            f"{evidence.metric} turned after {after:.2g} epochs and got worse by {rise:.2g} to the end; "
            "train fewer epochs, or judge by the best evaluation (objective.at: best)",
        )
    ]


def _turned(evidence: Evidence, record: TrialRecord) -> tuple[float, float] | None:
    """After how many epochs a trial was at its best, and by how much worse it ended; None where it did not
    turn for good, or by no more than counts."""
    losses = [evidence.sign * one.metrics.get(evidence.metric, math.nan) for one in record.evaluations]
    lowest = losses.index(min(losses))
    after = losses[lowest:]
    if len(after) < 3 or after != sorted(after):
        return None
    if after[-1] - after[0] <= evidence.small:
        return None
    return _epochs(record) * record.evaluations[lowest].tokens / record.evaluations[-1].tokens, after[
        -1
    ] - after[0]


def _epochs(record: TrialRecord) -> float:
    training = (record.attributes.get("config") or {}).get("training", {})
    return float(record.values.get("epochs") or training.get("epochs") or 1.0)

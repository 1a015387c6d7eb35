"""A sweep's budget of time or money: how long trials take, and what still fits.

Three rules keep it within ``TOLERANCE``: a trial that cannot end within the budget is not begun; a running
trial stops at the evaluation from which the next one cannot be reached; and what is slower than all
that was foreseen is paused shortly before the tolerance is used up. Where the best trials are to be trained
again (``search.confirm``), the search begins no trial that would take the time for that.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sweeper.autotune import MOST_RESERVED, Limit, Speed, limit_of, trial_tokens
from sweeper.data import LengthSample
from sweeper.search import TrialRecord, TrialState, contenders, own_evaluations
from sweeper.space import Config, Space, Values, read_config, size_of

__all__ = ["SPENT", "TOLERANCE", "Budget", "Forecast"]

SPENT = "spent_s"
"""What the ledger keeps of the sweep: the time that all its drivers had."""
TOLERANCE = 0.05
_RECENT = 32
"""So many evaluations tell how fast trials are now: enough to level out noise, few enough to notice that
the machine has become busier."""
_PAUSE_S = 3.0
"""From the wish to pause to the pause: a second until it is looked for, one until ranks compare notes (see
``CHECK_EVERY_S`` of the trainer), one to spare."""


@dataclass(frozen=True, kw_only=True)
class _Interval:
    """What one trial did between two of its evaluations."""

    shape: tuple[int, int]
    """Ranks and rows in a forward pass: what changes the speed most."""
    tokens: int
    trained_s: float
    rest_s: float | None
    """For the evaluation and everything around it; None of a first interval, which a start is part of."""
    time_s: float


class Forecast:
    """How long trials take: as the sweep's own trials show, and as was measured before where they do not yet.

    A pure function of the ledger's records, so that a resumed sweep knows what the one before it knew.
    """

    def __init__(self, space: Space, speed: Speed | None, sample: LengthSample | None) -> None:
        self._space, self._speed, self._sample = space, speed, sample
        self._packing: bool = space.closed["training.packing"]

    def trial_s(self, config: Config, records: Sequence[TrialRecord]) -> float | None:
        """Seconds of a whole trial in a place that is free; None where nothing is known yet."""
        tokens = self._trial_tokens(config, records)
        interval_s = None if tokens is None else self._interval_s(config, tokens, records)
        start_s = self._start_s(records)
        if interval_s is None or start_s is None:
            return None
        return start_s + interval_s * self._evaluations(config)

    def next_evaluation_s(self, record: TrialRecord, config: Config, records: Sequence[TrialRecord]) -> float:
        """Seconds from an evaluation of a running trial to its next one."""
        done = record.evaluations[-1].tokens
        total: int = record.attributes.get("total_tokens", done)
        share = min(total / self._evaluations(config), total - done)
        pace, rest_s = self._pace(config, records)
        assert pace is not None  # it has evaluated
        return share * pace + (rest_s or 0.0)

    def _interval_s(self, config: Config, tokens: float, records: Sequence[TrialRecord]) -> float | None:
        pace, rest_s = self._pace(config, records)
        if pace is None:
            return None
        if rest_s is None:
            rest_s = self._evaluation_s() or 0.0
        return tokens / self._evaluations(config) * pace + rest_s

    def _pace(self, config: Config, records: Sequence[TrialRecord]) -> tuple[float | None, float | None]:
        """Seconds for one training token, and for an evaluation with everything around it.

        First intervals count only where nothing better is known: a new process takes its first steps slowly.
        """
        found = sorted(self._intervals(records), key=lambda one: one.time_s)
        later = [one for one in found if one.rest_s is not None]
        if not later and self._speed is not None:
            return 1 / self._speed.tokens_per_s, None
        alike = [one for one in later if one.shape == _shape(config)]
        chosen = (alike or later or found)[-_RECENT:]
        if not chosen:
            return None, None
        rests = [one.rest_s for one in chosen if one.rest_s is not None]
        pace = sum(one.trained_s for one in chosen) / sum(one.tokens for one in chosen)
        return pace, statistics.fmean(rests) if rests else None

    def _intervals(self, records: Iterable[TrialRecord]) -> Iterable[_Interval]:
        for record in records:
            tokens, seconds = record.saved_tokens, 0.0
            for index, one in enumerate(own_evaluations(record)):
                took_s, more = one.seconds - seconds, one.tokens - tokens
                per_s = one.metrics.get("perf/tokens_per_s")
                trained_s = more / per_s if per_s else took_s
                rest_s = None if index == 0 else max(took_s - trained_s, 0.0)
                if more > 0:
                    shape, time_s = _shape_of(record), one.time_s or 0.0
                    yield _Interval(
                        shape=shape, tokens=more, trained_s=trained_s, rest_s=rest_s, time_s=time_s
                    )
                tokens, seconds = one.tokens, one.seconds

    def _start_s(self, records: Sequence[TrialRecord]) -> float | None:
        """From one trial's end to the next one's first step in the same place; until that was seen, a cold
        start stands for it."""
        seen = [one.attributes for one in records if "startup_s" in one.attributes]
        places = self._space.closed["resources.max_concurrent"]
        if self._speed is not None and len(seen) <= places:
            return self._speed.cold_start_s if len(records) < places else self._speed.warm_start_s
        return float(statistics.median_low(one["startup_s"] for one in seen)) if seen else None

    def _trial_tokens(self, config: Config, records: Sequence[TrialRecord]) -> float | None:
        """Of the rows that trials were seen to have, else of those of the sample."""
        seen = [one for one in records if one.attributes.get("total_tokens")]
        if seen:
            tokens: int = sum(one.attributes["total_tokens"] for one in seen)
            units = sum(self._units(self._config(one)) for one in seen)
            return self._units(config) * tokens / units
        if self._sample is None:
            return None
        size = size_of(config, self._space.facts.train_rows)
        return trial_tokens(size, self._sample, packing=self._packing)

    def _units(self, config: Config) -> float:
        """What tokens are in proportion to; how many sequences packed rows fill is not known here."""
        size = size_of(config, self._space.facts.train_rows)
        return size.epochs if self._packing else size.rows

    def _config(self, record: TrialRecord) -> Config:
        return self._space.close(record.values)

    def _evaluations(self, config: Config) -> int:
        steps = size_of(config, self._space.facts.train_rows).steps
        return min(config.objective.evaluations, max(steps, 1))

    def _evaluation_s(self) -> float | None:
        if self._speed is None or self._sample is None:
            return None
        return self._sample.eval_tokens / self._speed.evaluated_tokens_per_s


class Budget:
    """Decides by the budget alone; without one everything fits."""

    def __init__(self, space: Space, forecast: Forecast, spent_s: Callable[[], float]) -> None:
        """``spent_s`` tells the time that all drivers of the sweep have had so far."""
        self._space, self._forecast, self._spent_s = space, forecast, spent_s
        self.limit: Limit | None = limit_of(space)
        self.is_full = False
        """Whether a trial was refused, or the running ones are to pause: nothing begins after that."""
        self.search_is_full = False
        """Whether the search has used up its part: the rest is for runs under other seeds."""
        self.pauses = False
        """Whether the running trials are to pause."""

    @property
    def reason(self) -> str:
        """Why a trial was stopped."""
        assert self.limit is not None
        return f"{self.limit.name} is spent"

    def is_spent(self) -> bool:
        return self.is_full or (self.limit is not None and self._spent_s() >= self.limit.seconds)

    def fits(self, values: Values, records: Sequence[TrialRecord], *, reserved_s: float = 0.0) -> bool:
        """Whether a trial of these values would end within the budget, with so much of it left. One that
        cannot be told does, and so does a sweep's first: a sweep without a trial is worth nothing."""
        begun = any(one.state is not TrialState.WAITING for one in records)
        if begun and self._too_long_s(self._space.close(values), records, reserved_s) is not None:
            self.search_is_full = reserved_s > 0
            self.is_full = self.is_full or not self.search_is_full
            return False
        return True

    def reserved_s(self, records: Sequence[TrialRecord]) -> float:
        """What the search leaves for ``search.confirm``: what all of its runs would take, if they are like
        the best trials so far, and at most a part of the budget."""
        confirm = self._space.settings.search.confirm
        places: int = self._space.closed["resources.max_concurrent"]
        if self.limit is None or confirm.top is None or confirm.seeds is None:
            return 0.0
        values = [one.values for one in contenders(self._space, records)] or [self._space.default_values()]
        expected_s = [self._forecast.trial_s(self._space.close(one), records) or 0.0 for one in values]
        rounds = -(-confirm.top * confirm.seeds // places)
        return min(rounds * statistics.fmean(expected_s), MOST_RESERVED * self.limit.seconds)

    def warning(self, config: Config) -> str | None:
        """That the first trial is begun although it does not fit; None where it does."""
        expected_s = self._too_long_s(config, [])
        if expected_s is None:
            return None
        return f"a trial takes about {expected_s:,.0f} s, more than {self.limit} allows: it will be stopped"

    def _too_long_s(
        self, config: Config, records: Sequence[TrialRecord], reserved_s: float = 0.0
    ) -> float | None:
        """The seconds that a trial would take, where that is more than is left."""
        if self.limit is None:
            return None
        expected_s = self._forecast.trial_s(config, records)
        if expected_s is None or self._spent_s() + expected_s <= self.limit.seconds - reserved_s:
            return None
        return expected_s

    def ends_here(self, record: TrialRecord, config: Config, records: Sequence[TrialRecord]) -> bool:
        """Whether a trial that was just evaluated cannot reach its next evaluation within the tolerance.

        Its first evaluation tells little of the next: there the pause decides, unless the time is up."""
        if self.limit is None or (len(record.evaluations) < 2 and self._spent_s() < self.limit.seconds):
            return self.pauses
        next_s = self._forecast.next_evaluation_s(record, config, records)
        return self.pauses or self._spent_s() + next_s > self.limit.seconds * (1 + TOLERANCE)

    def must_pause(self) -> bool:
        """Whether it is time for the running trials to pause; true once, from then on ``pauses`` is."""
        if self.limit is None or self.pauses:
            return False
        ahead_s = min(_PAUSE_S, TOLERANCE * self.limit.seconds)  # never before the budget itself is spent
        self.pauses = self._spent_s() >= self.limit.seconds * (1 + TOLERANCE) - ahead_s
        self.is_full = self.is_full or self.pauses
        return self.pauses

    def ending(self, run: int, trials: int) -> str:
        """Why a sweep has ended that begins no further trial."""
        if self.limit is None or not self.is_spent():
            if run >= trials:
                return f"all {trials} trials were run"
            if self.limit is not None and self.search_is_full:
                return f"the search's part of {self.limit} is spent: {run} of {trials} trials were run"
            return f"every configuration of the space was run: {run} of {trials} trials"
        said = f"{self.limit} is spent: {run} of {trials} trials were run"
        left_s = self.limit.seconds - self._spent_s()
        return said if left_s < 1 else f"{said}, and {left_s:,.0f} s are left, too little for the next one"


def _shape(config: Config) -> tuple[int, int]:
    return config.parallel.ranks, config.training.per_device_batch_size


def _shape_of(record: TrialRecord) -> tuple[int, int]:
    """As noted by the driver: out of memory may have made it smaller than what was asked."""
    noted = record.attributes.get("config")
    return _shape(read_config(noted)) if noted else (0, 0)

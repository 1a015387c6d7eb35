"""A sweep's budget of time or money: how long trials take, and what still fits.

Three rules keep it within ``TOLERANCE``: a trial that cannot end within the budget is not begun; a running
trial stops at the evaluation from which the next one cannot be reached; and what is slower than all
that was foreseen is paused shortly before the tolerance is used up. Where the best trials are to be trained
again, on the real thing (``search.proxy``) or under other seeds (``search.confirm``), the search begins no
trial that would take the time for that.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sweeper.autotune import MOST_RESERVED, Limit, Speed, limit_of, trial_tokens
from sweeper.data import LengthSample
from sweeper.search import (
    TrialRecord,
    TrialState,
    asked_config,
    own_evaluations,
    runs_of_finals,
    to_train_again,
)
from sweeper.space import Config, Space, Values, read_config, search_config, shares_of_proxy, size_of

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
        rows = space.settings.search.proxy.rows
        self._small_epoch = 1.0 if rows is None else rows
        self._small_rows = space.facts.on_proxy(rows).train_rows
        self._is_smaller_model = space.settings.search.proxy.model_path is not None
        self._work = shares_of_proxy(space)[1] or 1.0
        """What the search's small run computes of a real one."""

    def trial_s(
        self, config: Config, records: Sequence[TrialRecord], *, on_proxy: bool = False
    ) -> float | None:
        """Seconds of a whole trial in a place that is free; None where nothing is known yet."""
        tokens, evaluations = (
            self._trial_tokens(config, records, on_proxy),
            self._evaluations(config, on_proxy),
        )
        start_s = self._start_s(records)
        pace, rest_s = self._pace(config, records, on_proxy)
        if tokens is None or start_s is None or pace is None:
            return None
        if rest_s is None:
            rest_s = self._evaluation_s() or 0.0
        return start_s + (tokens / evaluations * pace + rest_s) * evaluations

    def next_evaluation_s(self, record: TrialRecord, config: Config, records: Sequence[TrialRecord]) -> float:
        """Seconds from an evaluation of a running trial to its next one."""
        done = record.evaluations[-1].tokens
        total: int = record.attributes.get("total_tokens", done)
        share = min(total / self._evaluations(config, record.is_proxy), total - done)
        pace, rest_s = self._pace(config, records, record.is_proxy)
        assert pace is not None  # it has evaluated
        return share * pace + (rest_s or 0.0)

    def _pace(
        self, config: Config, records: Sequence[TrialRecord], on_proxy: bool
    ) -> tuple[float | None, float | None]:
        """Seconds for one training token, and for an evaluation with everything around it.

        First intervals count only where nothing better is known: a new process takes its first steps slowly.
        Of another model than the one that is asked about, trials tell only until its own do.
        """
        own = [one for one in records if one.evaluations and one.is_proxy == on_proxy]
        seen = own if own and self._is_smaller_model else records
        found = sorted(self._intervals(seen, on_proxy), key=lambda one: one.time_s)
        later = [one for one in found if one.rest_s is not None]
        if not later and self._speed is not None:
            return self._factor(False, on_proxy) / self._speed.tokens_per_s, None
        alike = [one for one in later if one.shape == _shape(config)]
        chosen = (alike or later or found)[-_RECENT:]
        if not chosen:
            return None, None
        rests = [one.rest_s for one in chosen if one.rest_s is not None]
        pace = sum(one.trained_s for one in chosen) / sum(one.tokens for one in chosen)
        return pace, statistics.fmean(rests) if rests else None

    def _intervals(self, records: Iterable[TrialRecord], on_proxy: bool) -> Iterable[_Interval]:
        for record in records:
            tokens, seconds, factor = record.saved_tokens, 0.0, self._factor(record.is_proxy, on_proxy)
            for index, one in enumerate(own_evaluations(record)):
                took_s, more = one.seconds - seconds, one.tokens - tokens
                per_s = one.metrics.get("perf/tokens_per_s")
                trained_s = more / per_s if per_s else took_s
                rest_s = None if index == 0 else max(took_s - trained_s, 0.0) * factor
                if more > 0:
                    shape, time_s = _shape_of(record), one.time_s or 0.0
                    yield _Interval(
                        shape=shape, tokens=more, trained_s=trained_s * factor, rest_s=rest_s, time_s=time_s
                    )
                tokens, seconds = one.tokens, one.seconds

    def _factor(self, seen_on_proxy: bool, on_proxy: bool) -> float:
        """What seconds that were seen are multiplied with, by how much the two models compute."""
        if seen_on_proxy == on_proxy or not self._is_smaller_model:
            return 1.0
        return self._work if on_proxy else 1 / self._work

    def _start_s(self, records: Sequence[TrialRecord]) -> float | None:
        """From one trial's end to the next one's first step in the same place; until that was seen, a cold
        start stands for it."""
        seen = [one.attributes for one in records if "startup_s" in one.attributes]
        places = self._space.closed["resources.max_concurrent"]
        if self._speed is not None and len(seen) <= places:
            return self._speed.cold_start_s if len(records) < places else self._speed.warm_start_s
        return float(statistics.median_low(one["startup_s"] for one in seen)) if seen else None

    def _trial_tokens(self, config: Config, records: Sequence[TrialRecord], on_proxy: bool) -> float | None:
        """Of the rows that trials were seen to have, else of those of the sample."""
        seen = [one for one in records if one.attributes.get("total_tokens")]
        if seen:
            tokens: int = sum(one.attributes["total_tokens"] for one in seen)
            units = sum(self._units(asked_config(self._space, one), one.is_proxy) for one in seen)
            return self._units(config, on_proxy) * tokens / units
        if self._sample is None:
            return None
        size = size_of(config, self._space.train_rows(config))
        whole = trial_tokens(size, self._sample, packing=self._packing)
        return whole * self._small_epoch if on_proxy else whole

    def _units(self, config: Config, on_proxy: bool) -> float:
        """What tokens are in proportion to; how many sequences packed rows fill is not known here."""
        size = size_of(config, self._train_rows(config, on_proxy))
        if not self._packing:
            return size.rows
        return size.epochs * (self._small_epoch if on_proxy else 1.0)

    def _train_rows(self, config: Config, on_proxy: bool) -> int:
        is_share = on_proxy and self._space.settings.search.proxy.rows is not None
        return self._small_rows if is_share else self._space.train_rows(config)

    def _evaluations(self, config: Config, on_proxy: bool) -> int:
        steps = size_of(config, self._train_rows(config, on_proxy)).steps
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

    def fits(
        self,
        values: Values,
        records: Sequence[TrialRecord],
        *,
        reserved_s: float = 0.0,
        is_searched: bool = True,
    ) -> bool:
        """Whether a trial of these values would end within the budget, with so much of it left. One that
        cannot be told does, and so does a sweep's first: a sweep without a trial is worth nothing.

        ``is_searched``: the search asks for it, on its proxy where it has one."""
        begun = any(one.state is not TrialState.WAITING for one in records)
        config = search_config(self._space, values) if is_searched else self._space.close(values)
        on_proxy = is_searched and self._space.settings.search.proxy.is_wanted
        if begun and self._too_long_s(config, records, on_proxy, reserved_s) is not None:
            self.search_is_full = reserved_s > 0
            self.is_full = self.is_full or not self.search_is_full
            return False
        return True

    def reserved_s(self, records: Sequence[TrialRecord]) -> float:
        """What the search leaves for what comes after it, on the real thing and under other seeds: what all
        of them would take, if they are like the best trials so far, and at most a part of the budget."""
        search = self._space.settings.search
        places: int = self._space.closed["resources.max_concurrent"]
        runs = runs_of_finals(self._space) + (search.confirm.top or 0) * (search.confirm.seeds or 0)
        if self.limit is None or not runs:
            return 0.0
        values = to_train_again(self._space, records) or [self._space.default_values()]
        expected_s = [self._forecast.trial_s(self._space.close(one), records) or 0.0 for one in values]
        return min(-(-runs // places) * statistics.fmean(expected_s), MOST_RESERVED * self.limit.seconds)

    def warning(self, config: Config) -> str | None:
        """That the first trial is begun although it does not fit; None where it does."""
        expected_s = self._too_long_s(config, [], self._space.settings.search.proxy.is_wanted)
        if expected_s is None:
            return None
        return f"a trial takes about {expected_s:,.0f} s, more than {self.limit} allows: it will be stopped"

    def _too_long_s(
        self, config: Config, records: Sequence[TrialRecord], on_proxy: bool, reserved_s: float = 0.0
    ) -> float | None:
        """The seconds that a trial would take, where that is more than is left."""
        if self.limit is None:
            return None
        expected_s = self._forecast.trial_s(config, records, on_proxy=on_proxy)
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

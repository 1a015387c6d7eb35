"""What a sweep will take: tokens, hours and money, worked out before anything runs.

Nothing here is measured: lengths come from a sample of the rows, times from a ``Speed``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sweeper.autotune.estimate.speed import Speed
from sweeper.data import LengthSample, RowSample, best_fit, sample_lengths
from sweeper.space import Space, TrialSize, count_trials, duration_text, trial_sizes

__all__ = [
    "Limit",
    "SweepCost",
    "TrialCost",
    "cost_line",
    "cost_rows",
    "lengths_of",
    "limit_of",
    "price_per_hour",
    "sweep_cost",
    "trial_tokens",
]

_HOUR_S = 3600.0
_PACKED_ROWS = 4096
"""So many rows show how well rows of these lengths fill sequences."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A sweep's budget as seconds of wall time."""

    seconds: float
    name: str
    """``the time budget`` or ``the cost budget``."""
    amount: str
    """As a person wrote it."""

    def __str__(self) -> str:
        return f"{self.name} ({self.amount})"


@dataclass(frozen=True, kw_only=True)
class TrialCost:
    """One trial that is trained to its end."""

    tokens: float
    """Training tokens."""
    evaluated_tokens: float
    """Held-out tokens of all its evaluations."""
    ranks: int
    seconds: float | None
    """From the first optimizer step to the last evaluation; None where no speed is known."""


@dataclass(frozen=True, kw_only=True)
class SweepCost:
    """A whole sweep, if no trial is stopped early."""

    trials: int
    places: int
    """Trials side by side."""
    each: tuple[TrialCost, ...]
    """One for every combination of open values that changes how much is trained; each is as likely."""
    untrained_tokens: float
    """Held-out tokens of the one evaluation before any training."""
    speed: Speed | None
    price_per_hour: float | None
    """Of everything that the sweep holds while it runs."""
    gpus: int
    """GPUs held; 0 where ranks train on the CPU."""
    limit: Limit | None
    answers: bool
    """Whether evaluations also generate answers, whose time is not in here."""

    @property
    def tokens(self) -> float:
        """Training tokens of all trials."""
        return self.trials * _mean([one.tokens for one in self.each])

    @property
    def evaluated_tokens(self) -> float:
        return self.trials * _mean([one.evaluated_tokens for one in self.each]) + self.untrained_tokens

    @property
    def rank_hours(self) -> float | None:
        """Hours of training and evaluation, those of all ranks added up; starts are not in it."""
        hours = [one.seconds * one.ranks / _HOUR_S for one in self.each if one.seconds is not None]
        return self.trials * _mean(hours) if hours else None

    @property
    def seconds(self) -> float | None:
        """Wall time."""
        return self._seconds_of(math.ceil(self.trials / self.places))

    @property
    def money(self) -> float | None:
        """In the currency of the price."""
        if self.seconds is None or self.price_per_hour is None:
            return None
        return self.seconds / _HOUR_S * self.price_per_hour

    @property
    def fitting(self) -> int | None:
        """How many trials the budget has room for; None without a budget, or where no speed is known."""
        round_s, first_s = self._round_s(), self._seconds_of(1)
        if self.limit is None or round_s is None or first_s is None:
            return None
        more = math.floor((self.limit.seconds - first_s) / round_s + 1e-9) if round_s else self.trials
        return max(min((1 + more) * self.places, self.trials), 0)

    def _round_s(self) -> float | None:
        """Trials side by side in workers that are warm."""
        seconds = [one.seconds for one in self.each if one.seconds is not None]
        return _mean(seconds) + self.speed.warm_start_s if seconds and self.speed is not None else None

    def _seconds_of(self, rounds: int) -> float | None:
        """Trials in so many rounds, workers started once, and the untrained model's evaluation."""
        round_s, speed = self._round_s(), self.speed
        if round_s is None or speed is None:
            return None
        untrained_s = self.untrained_tokens / speed.evaluated_tokens_per_s
        return speed.cold_start_s - speed.warm_start_s + untrained_s + rounds * round_s

    def rows(self, file: str = "FILE") -> list[tuple[str, str]]:
        """Label and value of what is known, in reading order; ``file`` is the space file's name."""
        low, high = _ends([one.tokens for one in self.each])
        tokens = f"{_count(low)} per trial" if low == high else f"{_count(low)} to {_count(high)} per trial"
        whole = f"{_count(self.tokens)} trained on and {_count(self.evaluated_tokens)} evaluated"
        told = [("tokens", f"about {tokens}; whole sweep {whole}, if no trial is stopped early")]
        return [*told, *self._hours(file), *self._money(), *self._budget()]

    def line(self, file: str = "FILE") -> str:
        """The same in one line."""
        hours, money = self._hours(file)[0][1], self._money()
        told = [f"{_count(self.tokens)} tokens", f"hours: {hours}" if self.seconds is None else hours]
        told += [f"cost {money[0][1]}"] if money else []
        told += [value for _, value in self._budget()]
        return f"the sweep trains on about {'; '.join(told)}"

    def _hours(self, file: str) -> list[tuple[str, str]]:
        if self.seconds is None:
            return [("hours", f"not measured yet; `sweeper autotune {file}` measures it")]
        low, high = _ends([one.seconds for one in self.each if one.seconds is not None])
        each = _time(low) if _time(low) == _time(high) else f"{_time(low)} to {_time(high)}"
        said = [f"about {_time(self.seconds)} if no trial is stopped early", f"{each} per trial"]
        if self.rank_hours and max(one.ranks for one in self.each) > 1:
            said.append(f"{self.rank_hours:,.2g} rank-hours")
        if self.speed is not None and self.places > 1:
            said.append("more if trials side by side slow each other down: measured alone")
        said += ["time for generated answers not counted"] if self.answers else []
        return [("hours", ", ".join(said))]

    def _money(self) -> list[tuple[str, str]]:
        if self.money is None or self.price_per_hour is None:
            return []
        what = f"{self.gpus} GPU{'s' * (self.gpus != 1)}" if self.gpus else "this machine"
        return [("cost", f"about {self.money:,.2f}, at {self.price_per_hour:,.4g} an hour for {what}")]

    def _budget(self) -> list[tuple[str, str]]:
        if self.fitting is None or self.fitting >= self.trials:
            return []
        if not self.fitting:
            return [("budget", f"not even one trial fits into {self.limit}: the first will be stopped")]
        return [("budget", f"about {self.fitting} of {self.trials} trials fit into {self.limit}")]


def lengths_of(space: Space, sample: RowSample | None = None) -> LengthSample | None:
    """See ``sample_lengths``; ``sample`` is that of the space's rows, if there is one already."""
    if sample is not None:
        return sample.within(space.closed["training.max_seq_len"], space.closed["training.overlong"])
    return sample_lengths(
        space.settings,
        max_seq_len=space.closed["training.max_seq_len"],
        overlong=space.closed["training.overlong"],
    )


def cost_rows(space: Space, sample: LengthSample | None, speed: Speed | None) -> list[tuple[str, str]]:
    """What is known of the sweep's cost, as labels and values."""
    if sample is None:
        return [("tokens", _unknown(space))]
    return sweep_cost(space, sample, speed).rows(str(space.source))


def cost_line(space: Space, sample: LengthSample | None, speed: Speed | None) -> str:
    """The same in one line."""
    if sample is None:
        return f"tokens of the sweep: {_unknown(space)}"
    return sweep_cost(space, sample, speed).line(str(space.source))


def _unknown(space: Space) -> str:
    most = max(one.rows for one in trial_sizes(space)) * space.closed["training.max_seq_len"]
    return f"unknown before the rows are tokenized; {_count(most)} per trial at most"


def sweep_cost(space: Space, sample: LengthSample, speed: Speed | None) -> SweepCost:
    """The sweep's cost by rows of these lengths at this speed."""
    settings, trials = space.settings, count_trials(space)
    each = tuple(_trial_cost(space, size, sample, speed) for size in trial_sizes(space))
    return SweepCost(
        trials=trials,
        places=min(space.closed["resources.max_concurrent"], trials),
        each=each,
        untrained_tokens=sample.eval_tokens,
        speed=speed,
        price_per_hour=price_per_hour(space),
        gpus=_gpus(space),
        limit=limit_of(space),
        answers=bool(settings.generated_metrics),
    )


def trial_tokens(size: TrialSize, sample: LengthSample, *, packing: bool) -> float:
    """Training tokens of one trial: whole global batches of rows, or of sequences that hold several."""
    units = float(sample.train_rows)
    if packing:
        rows = np.resize(sample.lengths, min(sample.train_rows, _PACKED_ROWS))
        units = len(best_fit(rows, sample.max_seq_len)) / len(rows) * sample.train_rows
    steps = int(units * size.epochs + 1e-6) // size.global_batch
    return steps * size.global_batch / units * sample.epoch_tokens


def price_per_hour(space: Space) -> float | None:
    """Of all that the sweep holds while it runs: the GPUs of all trials side by side, or the machine."""
    price = space.closed["resources.price_per_gpu_hour"]
    return None if price is None else float(price) * (_gpus(space) or 1)


def limit_of(space: Space) -> Limit | None:
    """The tighter of the two budgets; None where there is none."""
    search, price = space.settings.search, price_per_hour(space)
    limits = []
    if search.time_budget_s is not None:
        amount = duration_text(search.time_budget_s)
        limits.append(Limit(seconds=search.time_budget_s, name="the time budget", amount=amount))
    if search.cost_budget is not None and price is not None:
        seconds = search.cost_budget / price * _HOUR_S
        limits.append(Limit(seconds=seconds, name="the cost budget", amount=f"{search.cost_budget:g}"))
    return min(limits, key=lambda one: one.seconds, default=None)


def _trial_cost(space: Space, size: TrialSize, sample: LengthSample, speed: Speed | None) -> TrialCost:
    tokens = trial_tokens(size, sample, packing=space.closed["training.packing"])
    evaluations = min(space.settings.objective.evaluations, max(size.steps, 1))
    evaluated = evaluations * sample.eval_tokens
    seconds = None
    if speed is not None:
        seconds = tokens / speed.tokens_per_s + evaluated / speed.evaluated_tokens_per_s
    return TrialCost(tokens=tokens, evaluated_tokens=evaluated, ranks=size.ranks, seconds=seconds)


def _gpus(space: Space) -> int:
    """GPUs that the sweep holds: of the largest trial, in all places, whole ones."""
    closed = space.closed
    ranks = max(one.ranks for one in trial_sizes(space))
    places = min(closed["resources.max_concurrent"], count_trials(space))
    gpus: float = places * ranks * closed["resources.gpus_per_rank"]
    return math.ceil(gpus - 1e-9)


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers)


def _ends(numbers: Sequence[float]) -> tuple[float, float]:
    return min(numbers), max(numbers)


def _count(tokens: float) -> str:
    """Three digits are what a sample can tell."""
    return f"{float(f'{tokens:.3g}'):,.0f}"


def _time(seconds: float) -> str:
    for unit, size in (("h", _HOUR_S), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"

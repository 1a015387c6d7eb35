"""What a sweep will take: tokens, hours and money, worked out before anything runs.

Nothing here is measured: lengths come from a sample of the rows, times from a ``Speed``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np

from sweeper.data import LengthSample, RowSample, best_fit, load_sample
from sweeper.space import Space, TrialSize, count_runs, count_trials, duration_text, full_runs, trial_sizes

__all__ = [
    "MOST_RESERVED",
    "Limit",
    "Speed",
    "cost_rows",
    "lengths_of",
    "limit_of",
    "price_per_hour",
    "trial_tokens",
]

MOST_RESERVED = 0.5
"""What a search leaves of a budget for runs under other seeds, at most: it has at least the other half."""
_HOUR_S = 3600.0
_PACKED_ROWS = 4096
"""So many rows show how well rows of these lengths fill sequences."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How fast one trial trains, as it was measured."""

    tokens_per_s: float
    """Real (non-padding) training tokens of all ranks together."""
    spread: float
    """(highest - lowest) / median of the measured optimizer steps' tokens_per_s."""
    evaluated_tokens_per_s: float
    """Real held-out tokens of all ranks together."""
    cold_start_s: float
    """From a worker's start to its first optimizer step: once for each of the trials side by side."""
    warm_start_s: float
    """From the end of a trial to the first optimizer step of the next one in the same worker."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A sweep's budget as seconds of wall time."""

    seconds: float
    name: str
    """``the time budget`` or ``the cost budget``."""
    amount: str
    """As it was written."""

    def __str__(self) -> str:
        return f"{self.name} ({self.amount})"


@dataclass(frozen=True, kw_only=True)
class TrialCost:
    """One trial that is trained to its end."""

    tokens: float
    """Training tokens."""
    evaluated_tokens: float
    """Held-out tokens of all its evaluations."""
    seconds: float | None
    """From the first optimizer step to the last evaluation; None where no speed is known."""


@dataclass(frozen=True, kw_only=True)
class SweepCost:
    """A whole sweep, if no trial is stopped early. What takes a speed to know is None without one."""

    space: Space
    trials: int
    runs: int
    """Trials, and those of them that are trained again on the real thing or under other seeds."""
    full_runs: float
    """The same in runs of full size, by time: a trial on a proxy is a part of one."""
    concurrent: int
    """Trials side by side."""
    each: tuple[TrialCost, ...]
    """One for every combination of open values that changes how much is trained; each is as likely."""
    tokens: float
    """Training tokens of all trials."""
    evaluated_tokens: float
    """Held-out tokens of all trials, and of the one evaluation before any training."""
    seconds: float | None = None
    """Wall time."""
    money: float | None = None
    """In the currency of the price; None without a price."""
    fitting: int | None = None
    """How many trials fit into the budget; None without a budget."""

    def rows(self) -> list[tuple[str, str]]:
        """Label and value of what is known, in reading order."""
        tokens = _span([_count(one.tokens) for one in sorted(self.each, key=lambda one: one.tokens)])
        whole = f"{_count(self.tokens)} trained on and {_count(self.evaluated_tokens)} evaluated"
        told = [
            ("tokens", f"about {tokens} per trial; whole sweep {whole}, if no trial is stopped early"),
            ("hours", self._hours()),
        ]
        if self.money is not None:
            gpus, price = _gpus(self.space), price_per_hour(self.space)
            what = f"{gpus} GPU{'s' * (gpus != 1)}" if gpus else "this machine"
            told.append(("cost", f"about {self.money:,.2f}, at {price:,.4g} an hour for {what}"))
        limit = limit_of(self.space)
        if self.fitting == 0:
            told.append(("budget", f"not even one trial fits into {limit}: the first will be stopped"))
        elif self.fitting is not None and self.fitting < self.trials:
            told.append(("budget", f"about {self.fitting} of {self.trials} trials fit into {limit}"))
        return told

    def _hours(self) -> str:
        if self.seconds is None:
            return f"not measured yet; `sweeper autotune {self.space.source}` measures it"
        each = _span([_time(one) for one in sorted(one.seconds or 0.0 for one in self.each)])
        said = [f"about {_time(self.seconds)} if no trial is stopped early", f"{each} per trial"]
        if self.concurrent > 1:
            said.append("more if trials side by side slow each other down: measured alone")
        if self.space.settings.generated_metrics:
            said.append("time for generated answers not counted")
        return ", ".join(said)


def lengths_of(space: Space, sample: RowSample | None = None) -> LengthSample | None:
    """Lengths of some rows, as the space cuts or drops them; None where there are none to be had before they
    are tokenized. ``sample`` is that of the space's rows, if there is one already."""
    if space.settings.engine is not None:
        return None  # its rows are another trainer's
    sample = sample or load_sample(space.settings)
    if sample is None:
        return None
    cut = sample.within(space.closed["training.max_seq_len"], space.closed["training.overlong"])
    measured_on = space.closed["evaluation.held_out_rows"]
    if cut is None or measured_on is None:
        return cut
    return replace(cut, eval_rows=min(cut.eval_rows, measured_on))


def cost_rows(space: Space, sample: LengthSample | None, speed: Speed | None) -> list[tuple[str, str]]:
    """What is known of the sweep's cost, as labels and values."""
    if space.settings.engine is not None:
        return []
    if sample is not None:
        return sweep_cost(space, sample, speed).rows()
    most = max(one.rows for one in trial_sizes(space)) * space.closed["training.max_seq_len"]
    return [("tokens", f"unknown before the rows are tokenized; {_count(most)} per trial at most")]


def sweep_cost(space: Space, sample: LengthSample, speed: Speed | None) -> SweepCost:
    """The sweep's cost by rows of these lengths at this speed."""
    trials, runs, untrained = count_trials(space), count_runs(space), sample.eval_tokens
    in_tokens, in_time = full_runs(space, trials, runs)
    each = tuple(_trial_cost(space, size, sample, speed) for size in trial_sizes(space))
    cost = SweepCost(
        space=space,
        trials=trials,
        runs=runs,
        full_runs=in_time,
        concurrent=min(space.closed["resources.max_concurrent"], trials),
        each=each,
        tokens=in_tokens * fmean(one.tokens for one in each),
        evaluated_tokens=runs * fmean(one.evaluated_tokens for one in each) + untrained,
    )
    return cost if speed is None else _timed(cost, speed, untrained)


def _timed(cost: SweepCost, speed: Speed, untrained_tokens: float) -> SweepCost:
    """Workers are started once; then rounds of trials side by side follow each other in warm ones."""
    round_s = fmean(one.seconds or 0.0 for one in cost.each) + speed.warm_start_s
    start_s = speed.cold_start_s - speed.warm_start_s + untrained_tokens / speed.evaluated_tokens_per_s
    seconds = start_s + math.ceil(cost.full_runs / cost.concurrent) * round_s
    limit, price, fitting = limit_of(cost.space), price_per_hour(cost.space), None
    if limit is not None:
        reserved_s = math.ceil((cost.runs - cost.trials) / cost.concurrent) * round_s
        search_s = limit.seconds - min(reserved_s, MOST_RESERVED * limit.seconds)
        searched_s = round_s * (cost.full_runs - (cost.runs - cost.trials)) / cost.trials
        rounds = math.floor((search_s - start_s) / searched_s + 1e-9) if searched_s else cost.trials
        fitting = max(min(rounds * cost.concurrent, cost.trials), 0)
    money = None if price is None else seconds / _HOUR_S * price
    return replace(cost, seconds=seconds, money=money, fitting=fitting)


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
    return TrialCost(tokens=tokens, evaluated_tokens=evaluated, seconds=seconds)


def _gpus(space: Space) -> int:
    """GPUs that the sweep holds: of the largest trial, as many as run at a time, whole ones."""
    closed = space.closed
    ranks = max(one.ranks for one in trial_sizes(space))
    concurrent = min(closed["resources.max_concurrent"], count_trials(space))
    gpus: float = concurrent * ranks * closed["resources.gpus_per_rank"]
    return math.ceil(gpus - 1e-9)


def _span(rising: list[str]) -> str:
    return rising[0] if rising[0] == rising[-1] else f"{rising[0]} to {rising[-1]}"


def _count(tokens: float) -> str:
    """Three digits are what a sample can tell."""
    return f"{float(f'{tokens:.3g}'):,.0f}"


def _time(seconds: float) -> str:
    for unit, size in (("h", _HOUR_S), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"

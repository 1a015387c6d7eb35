"""The product's own search, and the methods that it is compared with, as methods of the simulator."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Mapping
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
from search_simulator import Method, Sweep
from search_tables import Task

from sweeper.search.auto.curves import Curve, seen_in_past
from sweeper.search.auto.next import Start, what_next
from sweeper.search.auto.prior import Prior
from sweeper.search.auto.propose import Candidates
from sweeper.search.auto.rows import Phase, SeenTrial
from sweeper.search.auto.standing import Standing, is_control

_DIVERGED = 1e3

logging.getLogger("syne_tune").setLevel(logging.ERROR)
optuna.logging.set_verbosity(optuna.logging.CRITICAL)
warnings.simplefilter("ignore")


class Auto:
    """The product's: `sweeper.search.auto` decides, this class only says what a trial of the table is."""

    def __init__(
        self,
        task: Task,
        seed: int,
        *,
        box: tuple[np.ndarray, np.ndarray],
        prior: Prior | None = None,
        past_curves: tuple[tuple[Curve, ...], ...] = (),
        rule: bool = True,
        pauses: bool = True,
    ) -> None:
        low, extent = box
        self._task, self._seed, self._prior, self._past = task, seed, prior, seen_in_past(past_curves)
        self._pauses = pauses
        self._points = (task.points - low) / extent
        self._rule = self._points[task.rule] if rule else None
        self._at = {point.tobytes(): place for place, point in enumerate(self._points)}
        self._trials: dict[int, SeenTrial] = {}

    def next(self, sweep: Sweep) -> int | None:
        standing = self._standing(sweep)
        decision = what_next(standing, self._candidates(sweep), self._prior, self._seed)
        if decision is None:
            return None
        if isinstance(decision, Start):
            return self._at[decision.point.tobytes()]
        return list(sweep.seen)[decision.number]

    def goes_on(self, sweep: Sweep, candidate: int) -> bool:
        if not self._pauses:
            return True
        standing = self._standing(sweep)
        return standing.pauses(self._trials[candidate]) is None

    def _candidates(self, sweep: Sweep) -> Candidates | None:
        left = np.array([place for place in range(len(self._points)) if place not in sweep.seen], int)
        if not len(left):
            return None
        return Candidates(pool=self._points[left], rule=self._rule)

    def _standing(self, sweep: Sweep) -> Standing:
        trials = [self._trial(sweep, number, candidate) for number, candidate in enumerate(sweep.seen)]
        return Standing(trials=trials, past=self._past, at="best")

    def _trial(self, sweep: Sweep, number: int, candidate: int) -> SeenTrial:
        seen = sweep.curve(candidate)
        phase = _phase(sweep, candidate, seen)
        known = self._trials.get(candidate)
        if known is not None and len(known.curve.losses) == len(seen) and known.phase is phase:
            return known
        trial = SeenTrial(
            number=number,
            point=self._points[candidate],
            curve=curve_of(seen, len(self._task.curves[candidate])),
            phase=phase,
            control=is_control(self._seed, number),
            best_seen_after=sweep.best_after.get(candidate, number + 1),
        )
        self._trials[candidate] = trial
        return trial


def curve_of(losses: np.ndarray, total: int) -> Curve:
    """Evaluations stand for tokens."""
    return Curve(tokens=tuple(range(1, len(losses) + 1)), losses=tuple(losses.tolist()), total_tokens=total)


def _phase(sweep: Sweep, candidate: int, seen: np.ndarray) -> Phase:
    if len(seen) and not math.isfinite(seen[-1]):
        return Phase.FAILED
    if sweep.is_done(candidate):
        return Phase.ENDED
    return Phase.RUNNING if candidate in sweep.running else Phase.PAUSED


class ToTheEnd:
    """Trains one candidate after another to its end, in an order that is drawn beforehand."""

    def __init__(self, order: list[int]) -> None:
        self._order = order

    def next(self, sweep: Sweep) -> int | None:
        return next((one for one in self._order if one not in sweep.seen), None)

    def goes_on(self, sweep: Sweep, candidate: int) -> bool:
        return True


def random(task: Task, seed: int) -> Method:
    """The rule of thumb, then at random."""
    return ToTheEnd([task.rule, *np.random.default_rng(seed).permutation(len(task.curves)).tolist()])


def lr_grid(task: Task, seed: int) -> Method:
    """The rule of thumb, four learning rates over the middle of the range, then at random."""
    rng, rates = np.random.default_rng(seed), task.points[:, 0]
    levels = np.unique(rates)
    targets = levels if len(levels) <= 4 else np.quantile(levels, np.linspace(0, 1, 9)[1::2])
    order = [task.rule]
    for target in rng.permutation(targets):
        far = np.abs(rates - target)
        far[order] = np.inf
        order.append(int(rng.choice(np.flatnonzero(far <= far.min() + 1e-9))))
    return ToTheEnd([*order, *rng.permutation(len(task.curves)).tolist()])


class OptunaStudy:
    """A sampler of Optuna, with or without a pruner. The candidate nearest to what it asks is trained and
    told."""

    def __init__(
        self,
        task: Task,
        seed: int,
        sampler: Callable[[int], Any],
        pruner: Callable[[Task], Any] | None = None,
    ) -> None:
        self._task = task
        self._spans = _Spans(task)
        self._pruner = pruner(task) if pruner else optuna.pruners.NopPruner()
        self._study = optuna.create_study(sampler=sampler(seed), pruner=self._pruner)
        self._trials: dict[int, Any] = {}
        self._told: set[int] = set()

    def next(self, sweep: Sweep) -> int | None:
        self._tell_ended(sweep)
        if len(sweep.seen) == len(self._task.curves):
            return None
        if not self._trials:
            candidate = self._task.rule
        else:
            asked = self._study.ask(self._spans.distributions)
            self._study.tell(asked, state=optuna.trial.TrialState.FAIL)
            candidate = self._spans.nearest(asked.params, sweep)
        self._study.enqueue_trial(self._spans.params(candidate))
        self._trials[candidate] = self._study.ask(self._spans.distributions)
        return candidate

    def goes_on(self, sweep: Sweep, candidate: int) -> bool:
        trial, seen = self._trials[candidate], sweep.curve(candidate)
        trial.report(float(seen[-1]), len(seen))
        if not trial.should_prune():
            return True
        self._told.add(candidate)
        self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        return False

    def _tell_ended(self, sweep: Sweep) -> None:
        for candidate in [one for one in self._trials if sweep.is_done(one) and one not in self._told]:
            self._told.add(candidate)
            best = float(self._task.curves[candidate][: sweep.seen[candidate]].min())
            diverged = not math.isfinite(sweep.curve(candidate)[-1])
            finite = [t.value for t in self._study.get_trials(deepcopy=False) if t.value is not None]
            self._study.tell(self._trials[candidate], max(finite, default=1e3) if diverged else best)


class RayTune:
    """Ray Tune's own ASHA and OptunaSearch, driven through the calls that its controller makes, without a
    cluster. The candidate nearest to what is asked is trained, and its loss is told."""

    def __init__(self, task: Task, seed: int) -> None:
        from ray.tune.schedulers import AsyncHyperBandScheduler
        from ray.tune.search.optuna import OptunaSearch

        self._spans = _Spans(task)
        self._search = OptunaSearch(
            dict(self._spans.distributions),
            metric="loss",
            mode="min",
            seed=seed,
            points_to_evaluate=[self._spans.params(task.rule)],
        )
        self._scheduler = AsyncHyperBandScheduler(
            metric="loss", mode="min", max_t=max(len(one) for one in task.curves), reduction_factor=4
        )
        self._trials: dict[int, SimpleNamespace] = {}

    def next(self, sweep: Sweep) -> int | None:
        for candidate in [one for one in self._trials if sweep.is_done(one)]:
            self._end(sweep, candidate)
        if len(sweep.seen) == len(self._spans.task.curves):
            return None
        trial = SimpleNamespace(trial_id=str(len(sweep.seen)))
        asked = self._search.suggest(trial.trial_id)
        candidate = self._spans.nearest(asked, sweep)
        self._trials[candidate] = trial
        self._scheduler.on_trial_add(None, trial)
        return candidate

    def goes_on(self, sweep: Sweep, candidate: int) -> bool:
        trial, result = self._trials[candidate], _result(sweep, candidate)
        self._search.on_trial_result(trial.trial_id, result)
        if self._scheduler.on_trial_result(None, trial, result) == "CONTINUE":
            return True
        self._end(sweep, candidate)
        return False

    def _end(self, sweep: Sweep, candidate: int) -> None:
        trial, result = self._trials.pop(candidate), _result(sweep, candidate)
        self._search.on_trial_complete(trial.trial_id, result)
        self._scheduler.on_trial_complete(None, trial, result)


class SyneTune:
    """syne-tune's BOHB (kernel densities and asynchronous halving), driven through the calls that its tuner
    makes. The candidate nearest to what is asked is trained, and its loss is told. The rule of thumb is
    started without asking: version 0.16 loses the points that it is to begin with."""

    def __init__(self, task: Task, seed: int) -> None:
        from syne_tune.backend.trial_status import Trial
        from syne_tune.config_space import randint, uniform
        from syne_tune.optimizer.baselines import BOHB

        self._spans, self._trial = _Spans(task), Trial
        ranges = {
            name: (randint if isinstance(one, optuna.distributions.IntDistribution) else uniform)(
                one.low, one.high
            )
            for name, one in self._spans.distributions.items()
        }
        self._scheduler = BOHB(
            config_space=ranges,
            metric="loss",
            time_attr="training_iteration",
            max_t=max(len(one) for one in task.curves),
            random_seed=seed,
        )
        self._trials: dict[int, Any] = {}

    def next(self, sweep: Sweep) -> int | None:
        for candidate in [one for one in self._trials if sweep.is_done(one)]:
            self._scheduler.on_trial_complete(self._trials.pop(candidate), _result(sweep, candidate))
        if len(sweep.seen) == len(self._spans.task.curves):
            return None
        candidate = self._spans.task.rule
        if sweep.seen:
            candidate = self._spans.nearest(self._scheduler.suggest().config, sweep)
        config = self._spans.params(candidate)
        trial = self._trial(trial_id=len(sweep.seen), config=config, creation_time=datetime.min)
        self._trials[candidate] = trial
        self._scheduler.on_trial_add(trial)
        return candidate

    def goes_on(self, sweep: Sweep, candidate: int) -> bool:
        result = _result(sweep, candidate)
        if self._scheduler.on_trial_result(self._trials[candidate], result) == "CONTINUE":
            return True
        self._scheduler.on_trial_remove(self._trials.pop(candidate))
        return False


class _Spans:
    """A table's dimensions as Optuna has them: few levels are a choice of ranks, others a range."""

    def __init__(self, task: Task) -> None:
        self.task = task
        low, high = task.points.min(0), task.points.max(0)
        self._extent = np.where(high > low, high - low, 1.0)
        self._levels = [np.unique(column) for column in task.points.T]
        self.distributions = {
            name: optuna.distributions.IntDistribution(0, len(levels) - 1)
            if len(levels) <= 10
            else optuna.distributions.FloatDistribution(low[place], high[place])
            for place, (name, levels) in enumerate(zip(task.dimensions, self._levels, strict=True))
        }

    def params(self, candidate: int) -> dict[str, Any]:
        return {
            name: int(np.searchsorted(levels, x)) if len(levels) <= 10 else float(x)
            for name, levels, x in zip(
                self.task.dimensions, self._levels, self.task.points[candidate], strict=True
            )
        }

    def nearest(self, params: Mapping[str, Any], sweep: Sweep) -> int:
        """Of those that have not been trained."""
        point = np.array(
            [
                float(levels[int(params[name])]) if len(levels) <= 10 else params[name]
                for name, levels in zip(self.task.dimensions, self._levels, strict=True)
            ]
        )
        far = (((self.task.points - point) / self._extent) ** 2).sum(1)
        far[list(sweep.seen)] = np.inf
        return int(far.argmin())


def _result(sweep: Sweep, candidate: int) -> dict[str, float]:
    """As a trainable reports it; OptunaSearch takes no loss that is not finite."""
    loss = float(sweep.curve(candidate)[-1])
    return {
        "loss": loss if math.isfinite(loss) else _DIVERGED,
        "training_iteration": sweep.seen[candidate],
    }


def _tpe(seed: int) -> Any:
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=10)


def _hyperband(task: Task) -> Any:
    return optuna.pruners.HyperbandPruner(1, max(len(one) for one in task.curves), 3)


BASELINES: dict[str, Callable[[Task, int], Method]] = {
    "random": random,
    "lr grid": lr_grid,
    "Optuna TPE": lambda task, seed: OptunaStudy(task, seed, _tpe),
    "TPE + Hyperband": lambda task, seed: OptunaStudy(task, seed, _tpe, _hyperband),
    "TPE + ASHA": lambda task, seed: OptunaStudy(
        task, seed, _tpe, lambda _: optuna.pruners.SuccessiveHalvingPruner(1, 3)
    ),
    "Ray Tune (ASHA, OptunaSearch)": RayTune,
    "syne-tune (ASHA, BOHB)": SyneTune,
}

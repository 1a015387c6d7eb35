"""Which configuration is tried next: a pure function of the space and of what the ledger holds.

Optuna's samplers work on a copy of the ledger in memory, made for one question and thrown away. Four
things follow from that:

* A sampler has no state to lose. The draw for trial ``n`` is seeded with (``search.seed``, ``n``), so a
  resumed sweep asks exactly what the uninterrupted one would have asked.
* A diverged trial can warn the sampler, although it is FAIL in the ledger and Optuna's samplers look
  past failed trials: the copy holds it at the worst value that any trial had. (Imputing the worst
  value is the usual treatment of crashed runs, e.g. in SMAC, Hutter et al. 2011.)
* Options that are numbers keep their order: the copy holds them as ranks, so that ``tpe`` and ``gp``
  know that 2 lies between 1 and 4, while the ledger shows the options themselves.
* ``cmaes``, which keeps its distribution in the trials that it was asked for, is asked anew for each trial
  of the ledger, and told what that one has come to.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, cast

from sweeper.errors import MissingDependencyError, Problem, SpaceFileError
from sweeper.search.auto import AutoSampler, Past
from sweeper.search.front import expected_second
from sweeper.search.grid import LIMIT, configuration_key, configurations, continuous_dimensions, unasked
from sweeper.search.records import TrialRecord, TrialState, is_diverged
from sweeper.space import Choice, IntRange, LogUniform, constraints_of, describe
from sweeper.space.metrics import better

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

    from sweeper.space import Dimension, Objective, OpenValue, Scalar, Space, Values

__all__ = ["check_sampler", "direction", "distribution", "propose", "startup_trials"]

SamplerName = Literal["auto", "tpe", "gp", "cmaes", "random", "grid", "qmc"]

_MOST_EXCESS = 1e3
"""Times a bound; a Gaussian process takes no infinity."""
_REDRAWS = 16
"""Draws before a sampler that keeps on proposing what was already asked is passed over."""


def check_sampler(space: Space) -> None:
    """Whether ``search.sampler`` can work on this space and this installation; costs next to nothing.

    Raises:
        SpaceFileError: ``grid`` with a continuous open value, or with more configurations than ``LIMIT``;
            ``cmaes`` with an open value that is no number, or that not every trial has.
        MissingDependencyError: ``cmaes`` without its package.
    """
    name = space.settings.search.sampler
    if name == "grid":
        _check_grid(space)
    if name == "cmaes":
        _check_evolution(space)


def propose(
    space: Space,
    records: Sequence[TrialRecord],
    sampler: SamplerName | None = None,
    past: Past | None = None,
    auto: AutoSampler | None = None,
) -> Values | None:
    """The configuration of the next new trial, which nobody has asked yet; ``sampler`` for the space's own.
    ``auto`` is the sweep's own of that name, which has an answer sooner than a new one.

    The rules of thumb come first; ``auto`` may put what past sweeps found before them.

    None: every configuration of the space has been asked, which can only happen where all open values
    are discrete. The same configuration is never proposed twice, since training it again would give
    the same losses; where the sampler insists, one that is left over is drawn at random.
    """
    name = sampler or space.settings.search.sampler
    if name == "auto":
        return (auto or AutoSampler()).propose(space, records, past)
    if not records:
        return space.default_values()
    left = unasked(space, (record.values for record in records))
    if left is not None and not left:
        return None
    if name == "grid":
        _check_grid(space)
        return _next_of_grid(space, left or [])
    asked = {configuration_key(record.values) for record in records}
    values: Values = {}
    for draw in range(_REDRAWS):
        values = _draw(space, records, name, draw)
        if configuration_key(values) not in asked:
            return values
    seed = _seed(space, len(records), _REDRAWS)
    return random.Random(seed).choice(left) if left else values


def startup_trials(trials: int) -> int:
    """How many trials are spread at random before ``tpe`` or ``gp`` start to model.

    A third of the budget, at least 4, at most Optuna's own 10.
    """
    return max(4, min(10, trials // 3))


def distribution(open_value: OpenValue) -> BaseDistribution:
    """The open value as the ledger's database describes it."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(open_value, Choice):
        return CategoricalDistribution(open_value.options)
    if isinstance(open_value, IntRange):
        return IntDistribution(open_value.low, open_value.high, step=open_value.step)
    return FloatDistribution(open_value.low, open_value.high, log=isinstance(open_value, LogUniform))


def direction(space: Space) -> Literal["minimize", "maximize"]:
    """The objective's mode as Optuna calls it."""
    return "minimize" if space.settings.objective.mode == "min" else "maximize"


def _directions(space: Space) -> list[Literal["minimize", "maximize"]]:
    """Of one objective or of both. Two are only in a sampler's copy: in a study of two objectives Optuna
    takes no intermediate values, and the ledger is made of them."""
    also = space.settings.objective.also
    if also is None:
        return [direction(space)]
    return [direction(space), "minimize" if better(also) == "min" else "maximize"]


def _check_grid(space: Space) -> None:
    problems = [
        Problem(
            where=space.places.get(dimension.path, str(space.source)),
            value=f"{dimension.name} from {span.low:g} to {span.high:g}",
            rule="the sampler grid needs options, and this is a continuous range",
            remedy="write a list of values, such as [1.0e-5, 3.0e-5, 1.0e-4], or choose sampler: tpe",
        )
        for dimension, span in continuous_dimensions(space)
    ]
    if not problems and configurations(space) is None:
        problems = [
            Problem(
                where=space.places.get("search.sampler", str(space.source)),
                value="sampler: grid",
                rule=f"a grid has at most {LIMIT:,} configurations, and this one has more",
                remedy="list fewer options, or choose sampler: tpe",
            )
        ]
    if problems:
        raise SpaceFileError(problems)


def _check_evolution(space: Space) -> None:
    """CMA-ES moves a normal distribution over numbers. Optuna would draw everything else at random, which is
    not what was asked for."""
    problems = [
        Problem(
            where=space.places.get(dimension.path, str(space.source)),
            value=f"{dimension.name}: {describe(dimension.open_value)}",
            rule="the sampler cmaes needs a range or at least three numbers, in every trial, and this is "
            + ("searched in some trials only" if dimension.when else "a choice"),
            remedy="write one value, or choose sampler: auto",
        )
        for dimension in space.dimensions
        if dimension.when
        or (isinstance(dimension.open_value, Choice) and not _is_ordered(dimension.open_value))
    ]
    if problems:
        raise SpaceFileError(problems)
    if find_spec("cmaes") is None:
        raise MissingDependencyError.of(
            where=space.places.get("search.sampler", str(space.source)),
            value="sampler: cmaes",
            rule="the package cmaes is not installed",
            remedy="pip install 'sweeper[cmaes]', or choose sampler: auto",
        )


def _next_of_grid(space: Space, left: list[Values]) -> Values:
    """One that is left, drawn by the seed, so that a part of the grid is spread over all of it."""
    return random.Random(_seed(space, len(left), 0)).choice(left)


def _seed(space: Space, number: int, draw: int) -> int:
    """A seed for one draw of one trial: 32 bits, unrelated between neighbours."""
    from numpy.random import SeedSequence

    words = SeedSequence((space.settings.search.seed, number, draw)).generate_state(1)
    return int(words[0])


def _draw(space: Space, records: Sequence[TrialRecord], name: SamplerName, draw: int) -> Values:
    """One draw of a sampler; other values of ``draw`` give other draws from the same knowledge."""
    with _quiet():
        if name == "qmc":
            return _draw_of_sequence(space, len(records) - 1 + draw)
        if name == "cmaes":
            return _draw_of_evolution(space, records, _seed(space, len(records), draw))
        study = _study(space, _sampler(space, name, _seed(space, len(records), draw)))
        if name != "random":
            study.add_trials(_remembered(space, records, name))
        return _ask(space, study.ask())


def _sampler(space: Space, name: SamplerName, seed: int) -> BaseSampler:
    from optuna.samplers import GPSampler, RandomSampler, TPESampler

    startup = startup_trials(space.settings.search.trials)
    if name == "tpe":
        return TPESampler(seed=seed, n_startup_trials=startup)
    if name == "gp":
        return GPSampler(seed=seed, n_startup_trials=startup, warn_independent_sampling=False)
    return RandomSampler(seed=seed)


def _study(space: Space, sampler: BaseSampler) -> Study:
    import optuna

    return optuna.create_study(directions=_directions(space), sampler=sampler)


def _draw_of_sequence(space: Space, index: int) -> Values:
    """Point ``index`` of a scrambled Sobol sequence over all dimensions, active or not.

    Optuna keeps the place in the sequence in its study and takes the dimensions from the study's first
    trial, so the copy begins with one that has them all and is asked until the place is reached.
    """
    import optuna

    study = _study(space, optuna.samplers.QMCSampler(scramble=True, seed=space.settings.search.seed))
    first = {d.name: _to_coordinate(d.open_value, d.default) for d in space.dimensions}
    spans = {d.name: _coordinate(d.open_value) for d in space.dimensions}
    values = [0.0 for _ in _directions(space)]
    study.add_trial(optuna.trial.create_trial(params=first, distributions=spans, values=values))
    point = study.ask(fixed_distributions=spans)
    for _ in range(index):
        point = study.ask(fixed_distributions=spans)
    return _ask(space, point)


def _draw_of_evolution(space: Space, records: Sequence[TrialRecord], seed: int) -> Values:
    """A draw of CMA-ES (Hansen 2016, arXiv:1604.00772) after a replay of the ledger.

    Optuna counts a trial for the generation that its sampler was asked in, and leaves the optimizer with the
    trial that began the next one. So the copy is asked for each trial in the order of their numbers, is
    given that one's values instead of its own, and is told its loss. In a sweep of one trial at a time
    that is what happened; of trials side by side some count for a generation later than the one they were
    drawn from.
    """
    from optuna.samplers import CmaEsSampler

    study = _study(space, CmaEsSampler(seed=seed, warn_independent_sampling=False))
    spans = {d.name: _coordinate(d.open_value) for d in space.dimensions}
    for one in _remembered(space, records, "cmaes"):
        if one.value is not None:
            study.enqueue_trial(one.params)
            trial = study.ask(fixed_distributions=spans)
            _ = trial.relative_params  # asks the sampler, which counts the trial
            study.tell(trial, one.value)
    return _ask(space, study.ask())


def _ask(space: Space, trial: Trial) -> Values:
    """Closes the dimensions in order; a conditional one only where its conditions hold."""
    values: Values = {}
    for dimension in space.dimensions:
        if space.is_active(dimension, values):
            values[dimension.name] = _suggest(trial, dimension)
    return values


def _suggest(trial: Trial, dimension: Dimension) -> Scalar:
    open_value = dimension.open_value
    if isinstance(open_value, Choice):
        if not _is_ordered(open_value):
            return cast("Scalar", trial.suggest_categorical(dimension.name, open_value.options))
        rank = trial.suggest_int(dimension.name, 0, len(open_value.options) - 1)
        return _ranked(open_value)[rank]
    if isinstance(open_value, IntRange):
        return trial.suggest_int(dimension.name, open_value.low, open_value.high, step=open_value.step)
    is_log = isinstance(open_value, LogUniform)
    return trial.suggest_float(dimension.name, open_value.low, open_value.high, log=is_log)


def _remembered(space: Space, records: Iterable[TrialRecord], name: SamplerName) -> Iterator[FrozenTrial]:
    """The ledger's trials as the sampler's copy holds them."""
    import optuna

    known = list(records)
    objective = space.settings.objective
    metric, is_one = objective.metric, objective.also is None
    all_values = [_values(objective, record) for record in known]
    directions = _directions(space)
    worst = [_worst((one[place] for one in all_values), way) for place, way in enumerate(directions)]
    for record, values in zip(known, all_values, strict=True):
        state, excesses = record.state, _excesses(objective, record)
        if state is TrialState.PAUSED:
            state = TrialState.PRUNED  # as far as it has come, until it goes on
        if is_diverged(record, metric):
            state, values = TrialState.COMPLETE, worst
        elif name == "cmaes" and any(one > 0 for one in excesses.values()):
            state, values = TrialState.COMPLETE, worst  # it has no notion of constraints
        elif state is TrialState.PRUNED and (name in ("gp", "cmaes") or not is_one):
            # They have no notion of a stopped trial, and Optuna none of one with two objectives: the value
            # where it was stopped must do.
            state = TrialState.COMPLETE
        is_told = all(one is not None and math.isfinite(one) for one in values)
        if state is TrialState.COMPLETE and not is_told:
            continue
        if state in (TrialState.FAIL, TrialState.WAITING):
            continue
        yield optuna.trial.create_trial(
            state=optuna.trial.TrialState[state.value],
            values=[one for one in values if one is not None] if state is TrialState.COMPLETE else None,
            params={d.name: _to_coordinate(d.open_value, record.values[d.name]) for d in _of(space, record)},
            distributions={d.name: _coordinate(d.open_value) for d in _of(space, record)},
            intermediate_values={e.tokens: e.metrics.get(metric, math.nan) for e in record.evaluations}
            if is_one
            else None,
            constraints=excesses or None,
        )


def _of(space: Space, record: TrialRecord) -> list[Dimension]:
    return [d for d in space.dimensions if d.name in record.values]


def _values(objective: Objective, record: TrialRecord) -> list[float | None]:
    """The objectives that a trial has ended or stands at; a second one as it is expected."""
    return [record.value] if objective.also is None else [record.value, expected_second(record, objective)]


def _excesses(objective: Objective, record: TrialRecord) -> dict[str, float]:
    """By how much each constraint is broken where the trial is judged, as Optuna takes it: kept to where it
    is not above 0. A metric that is no number exceeds its bound by as much as is told at most."""
    if record.decisive is None and not is_diverged(record, objective.metric):
        return {}
    metrics = {} if record.decisive is None else record.decisive.metrics
    return {one.metric: min(one.excess(metrics), _MOST_EXCESS) for one in constraints_of(objective)}


def _worst(values: Iterable[float | None], direction: str) -> float | None:
    """The worst finite one; None where there is none."""
    finite = [one for one in values if one is not None and math.isfinite(one)]
    return (max if direction == "minimize" else min)(finite, default=None)


def _is_ordered(choice: Choice) -> bool:
    """Whether the options are numbers, of which at least three: between two there is nothing."""
    numbers = [o for o in choice.options if isinstance(o, (int, float)) and not isinstance(o, bool)]
    return len(choice.options) >= 3 and len(numbers) == len(choice.options)


def _ranked(choice: Choice) -> list[int | float]:
    return sorted(option for option in choice.options if not isinstance(option, str))


def _coordinate(open_value: OpenValue) -> BaseDistribution:
    """The open value as the sampler's copy describes it: ordered options by their rank."""
    from optuna.distributions import IntDistribution

    if isinstance(open_value, Choice) and _is_ordered(open_value):
        return IntDistribution(0, len(open_value.options) - 1)
    return distribution(open_value)


def _to_coordinate(open_value: OpenValue, value: Scalar) -> Scalar:
    if isinstance(open_value, Choice) and _is_ordered(open_value) and not isinstance(value, str):
        return _ranked(open_value).index(value)
    return value


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna marks some samplers as experimental by a warning at each use; nothing to do about it."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield

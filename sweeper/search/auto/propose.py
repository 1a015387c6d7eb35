"""Which configuration next: first trials, then the largest expected improvement of a Gaussian process; with
two objectives, of the area that the Pareto front dominates.

A pure function of what was seen, of a prior that does not change, and of a seed: a resumed sweep asks the
same. Of more trials than ``_MANY`` it looks at ``_MOST_POINTS`` and at those that run, so that a proposal
costs the same after any number of trials.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sweeper.search.auto.limits import Limits
from sweeper.search.auto.prior import Prior
from sweeper.search.auto.rows import Phase
from sweeper.search.auto.standing import Standing
from sweeper.search.auto.surrogate import expected_improvement, fit_gaussian_process, normal_scores, telling
from sweeper.search.auto.tradeoff import Front, cost_model, expected_hypervolume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = ["Candidates", "propose_point"]

_STARTUP = 4
"""Trials whose losses are known before the Gaussian process is asked, where history does not help."""
_HISTORY_PICKS, _TRUSTED, _DISTRUSTED = 3, 0.7, 0.6
"""First trials that history may pick, the trust that the later ones of them need, and the trust below which
trials are spread as without history."""
_SPREAD_OVER, _SPREAD_OVER_WITH_RULE = 8, 2
"""Random candidates of which the farthest from all trials is taken. The more they are, the nearer it lies to
the corners, where nothing good is to be expected if there is a rule of thumb."""
_MOST_POINTS = 150
"""Trials that the Gaussian process is fitted to at most: the better half of them, and some of every rank."""
_MANY = 512
"""Of more trials with a loss only those are looked at to which the process is fitted, and
``_MOST_ON_FRONT`` of the front. Ranks are those among all of them."""
_MOST_ON_FRONT = 64
_UNSURE = 0.1
"""The extra noise of a loss that is expected, not seen; the signal's variance is one."""
_ALONE_AFTER = 6
"""After so many trials every other proposal goes by this sweep's own evidence alone."""


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Where the next configuration may come from."""

    pool: Array
    """(m, columns): configurations that nobody has asked; m > 0."""
    rule: Array | None = None
    """(columns,): the rule of thumb, asked or not, where there is one."""
    around: Callable[[Array, int], Array] | None = None
    """Configurations near those of (k, columns), for a seed: a continuous space is searched beyond the
    pool."""
    groups: NDArray[np.intp] | None = None
    """(columns,): the dimension of each column."""
    known_costs: Callable[[Array], Array] | None = None
    """Of (m, columns), the part of the cost that is known before training, up to a constant."""


def propose_point(standing: Standing, candidates: Candidates, prior: Prior | None, seed: int) -> Array:
    """The point (columns,) of the next trial."""
    rng = np.random.default_rng((seed, standing.rows.seen))
    seen = _Seen.of(standing, candidates, prior)
    rule = candidates.rule
    if rule is not None and seen.is_turn_of_rule and not standing.rows.is_asked(rule.tobytes()):
        return rule
    if seen.has_history and seen.started < _HISTORY_PICKS and seen.trust >= _TRUSTED:
        return seen.pick_of_history(candidates.pool)
    if len(seen.losses) < _STARTUP and seen.trust < _DISTRUSTED:
        some = _SPREAD_OVER if rule is None else _SPREAD_OVER_WITH_RULE
        return _farthest(candidates.pool, seen.all_points, some, rng)
    if len(seen.losses) < 2:
        return seen.pick_of_history(candidates.pool)
    return _most_improving(seen, candidates, int(rng.integers(2**31)))


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """The trials as arrays: those with a loss, seen or expected, and those that have only been started."""

    points: Array
    losses: Array
    scores: Array
    """The normal scores of the losses."""
    shares: Array | None
    """What part of all trials each of them stands for; None where all are here."""
    extra_noise: Array
    pending: Array
    is_asked: Callable[[bytes], bool]
    """Whether a trial lies at a point, given by its bytes."""
    prior: Prior | None
    weights: Array
    trust: float
    started: int
    costs: Array | None
    """Of the trials with a loss, with two objectives; not a number where a cost is not known."""
    limits: Limits | None = None
    """What trials with a loss exceed bounds by; None where nothing bounds them."""

    @classmethod
    def of(cls, standing: Standing, candidates: Candidates, prior: Prior | None) -> _Seen:
        rows, columns = standing.rows, candidates.pool.shape[1]
        all_losses, seen = _losses_of(standing), rows.phases >= 0
        known = np.flatnonzero(~np.isnan(all_losses))
        pending = np.flatnonzero(seen & np.isnan(all_losses))
        scores, shares = normal_scores(all_losses[known]) if len(known) else np.zeros(0), None
        if len(known) > _MANY:
            chosen, shares = _telling_of_many(standing, known, scores)
            known, scores = known[chosen], scores[chosen]
        points, losses = rows.points[known].reshape(-1, columns), all_losses[known]
        weights, trust = np.zeros(0), 0.0
        if prior:
            expected = prior.scores(points) if len(points) else np.zeros((len(prior), 0))
            weights, trust = prior.weights(expected, losses)
        return cls(
            points=points,
            losses=losses,
            scores=scores,
            shares=shares,
            extra_noise=np.where(rows.phases[known] >= Phase.ENDED, 0.0, _UNSURE),
            pending=rows.points[pending].reshape(-1, columns),
            is_asked=rows.is_asked,
            prior=prior,
            weights=weights,
            trust=trust,
            started=rows.seen,
            costs=rows.cost[known] if standing.weighs_costs else None,
            limits=Limits.of(points, [rows.excesses(place) for place in known.tolist()])
            if rows.has_bounds
            else None,
        )

    @property
    def has_history(self) -> bool:
        return bool(self.prior)

    @property
    def is_turn_of_rule(self) -> bool:
        """The rule of thumb is the first trial, or with history the second, as a guard against a history that
        misleads."""
        return self.started == (1 if self.has_history else 0)

    @cached_property
    def front(self) -> Front | None:
        """Of the two objectives; None where there is one, or too few costs are known to weigh it against."""
        if self.costs is None or np.isfinite(self.costs).sum() < 2:
            return None
        return Front.of(
            self.scores, self.costs, np.isfinite(self.losses) & np.isfinite(self.costs) & self.kept
        )

    @property
    def kept(self) -> NDArray[np.bool_]:
        """(trials,): those that keep to all bounds."""
        return np.ones(len(self.losses), dtype=bool) if self.limits is None else self.limits.kept

    @property
    def all_points(self) -> Array:
        return np.concatenate([self.points, self.pending])

    def pick_of_history(self, pool: Array) -> Array:
        assert self.prior is not None
        tried = self.all_points
        scores = self.prior.scores(tried) if len(tried) else np.zeros((len(self.prior), 0))
        point: Array = pool[self.prior.pick(self.prior.scores(pool), scores, self.weights)]
        return point

    def expected_by_history(self, points: Array) -> Array:
        """(m,) normal scores, nearer to 0 the less history is trusted."""
        alone = self.started > _ALONE_AFTER and self.started % 2 == 1
        if not self.prior or alone:
            return np.zeros(len(points))
        expected: Array = self.trust * (self.weights @ self.prior.scores(points))
        return expected


def _farthest(pool: Array, tried: Array, count: int, rng: np.random.Generator) -> Array:
    """Of a few random candidates the farthest from all trials; the first trial of all is near the middle."""
    some = pool[rng.choice(len(pool), min(count, len(pool)), replace=False)]
    if len(tried):
        place = ((some[:, None] - tried[None]) ** 2).sum(2).min(1).argmax()
    else:
        place = ((some - 0.5) ** 2).sum(1).argmin()
    point: Array = some[int(place)]
    return point


def _most_improving(seen: _Seen, candidates: Candidates, seed: int) -> Array:
    """The candidate of the largest expected improvement, then the largest of those around the best few."""
    front = seen.front
    improvement = _improvement_after(seen, candidates, front)
    pool, values = candidates.pool, improvement(candidates.pool)
    if candidates.around is not None:
        near = candidates.around(pool[np.argsort(-values, kind="stable")[:4]], seed)
        best = np.lexsort((seen.losses, ~seen.kept)) if front is None else front.some(4)
        best_tried = seen.points[best[:4]]
        near = np.concatenate([near, candidates.around(best_tried, seed + 1)])
        near = near[[not seen.is_asked(one.tobytes()) for one in near]]
        if len(near):
            near_values = improvement(near)
            pool, values = np.concatenate([pool, near]), np.concatenate([values, near_values])
    point: Array = pool[int(np.argmax(values))]
    return point


def _improvement_after(seen: _Seen, candidates: Candidates, front: Front | None) -> Callable[[Array], Array]:
    """The expected improvement of the best loss, or of the front, as a function of (m, columns).

    The process models what history does not explain of the normal scores. Trials without a loss count as if
    they came to what is expected of them, so that trials side by side do not repeat each other.
    """
    scores, groups = seen.scores, candidates.groups
    expected = seen.expected_by_history(seen.points)
    offset = float((scores - expected).mean() if seen.shares is None else seen.shares @ (scores - expected))
    residual = scores - expected - offset
    used = telling(scores, _MOST_POINTS)
    process = fit_gaussian_process(seen.points[used], residual[used], seen.extra_noise[used], groups)
    if len(seen.pending):
        believed, _ = process.predict(seen.pending)
        process = process.with_points(seen.pending, believed, _UNSURE)

    def loss(points: Array) -> tuple[Array, Array]:
        mean, deviation = process.predict(points)
        return mean + seen.expected_by_history(points) + offset, deviation

    if seen.limits is not None and not seen.kept.any():
        return seen.limits.chances(groups, _MOST_POINTS)
    chances = _sure if seen.limits is None else seen.limits.chances(groups, _MOST_POINTS)
    if front is None or seen.costs is None:
        best = float(scores[seen.kept].min())
        return lambda points: expected_improvement(*loss(points), best) * chances(points)
    priced = np.isfinite(seen.costs)
    cost = cost_model(seen.points[priced], seen.costs[priced], candidates.known_costs, groups, _MOST_POINTS)
    return lambda points: expected_hypervolume(front, loss(points), cost(points)) * chances(points)


def _sure(points: Array) -> Array:
    return np.ones(len(points))


def _losses_of(standing: Standing) -> Array:
    """(n,), by rows: what trials have come to or are expected to; of one that breaks a bound what was
    measured, which says as much of the losses around it as any other. Not a number while nothing can be
    said."""
    rows = standing.rows
    is_measured = rows.is_broken & ~np.isnan(rows.measured) & (rows.phases >= 0)
    return np.where(is_measured, rows.measured, standing.expected)


def _telling_of_many(
    standing: Standing, known: NDArray[np.intp], scores: Array
) -> tuple[NDArray[np.intp], Array]:
    """Which of many trials, by their rows, a proposal looks at, and what part of all of them each stands for.

    One half are the best, and the other half are spread over the ranks of the rest, as ``telling`` has it;
    those that break a bound rank after all that do not. With two objectives some of the front are added.
    """
    rows = standing.rows
    order = np.lexsort((scores, rows.is_broken[known]))
    ranks = np.empty(len(known))
    ranks[order] = np.arange(len(known))
    chosen = telling(ranks, _MOST_POINTS)
    best = _MOST_POINTS // 2
    rest = (len(known) - best) / (_MOST_POINTS - best)
    shares = np.array([1.0] * best + [rest] * (_MOST_POINTS - best)) / len(known)
    if standing.weighs_costs:
        costs = rows.cost[known]
        front = Front.of(scores, costs, np.isfinite(costs) & ~rows.is_broken[known] & (scores < scores.max()))
        more = np.setdiff1d(front.some(_MOST_ON_FRONT), chosen) if front is not None else chosen[:0]
        chosen, shares = np.append(chosen, more), np.append(shares, np.zeros(len(more)))
    in_time = np.argsort(chosen)
    return chosen[in_time], shares[in_time]

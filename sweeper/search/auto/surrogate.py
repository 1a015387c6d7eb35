"""A Gaussian process over configurations: what loss to expect of one that nobody has trained.

It works on the normal scores of the losses, so that neither a diverged trial nor the scale of a task bends
it, and is small enough to be fitted anew for every proposal: nothing is carried from one proposal to the
next.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

__all__ = [
    "JITTER",
    "GaussianProcess",
    "expected_improvement",
    "fit_gaussian_process",
    "log_length_prior",
    "matern",
    "most_probable",
    "normal_scores",
    "telling",
]

JITTER = 1e-8
_NOISE = 0.1
"""Where the noise variance's prior lies, in units of the signal's variance."""
_LEARN_FROM, _ITERATIONS = 64, 20
"""Lengthscales are learned from at most so many points: a proposal costs milliseconds after any number of
trials."""
_BOUNDS_LENGTH, _BOUNDS_NOISE = (-3.5, 4.0), (-9.0, 1.0)


def normal_scores(losses: Array) -> Array:
    """Each loss as the normal quantile of its rank, small losses negative; equal losses share one.

    Shape (n,) to (n,). Infinite losses rank last.
    """
    from scipy.special import ndtri
    from scipy.stats import rankdata

    scores: Array = ndtri((rankdata(losses) - 0.5) / len(losses))
    return scores


@dataclass(frozen=True, kw_only=True)
class GaussianProcess:
    """A fitted Gaussian process of mean zero with a Matern-5/2 kernel, one lengthscale for each dimension."""

    points: Array
    """(n, columns)."""
    targets: Array
    """(n,)."""
    lengths: Array
    """(columns,): the lengthscale of each column."""
    cholesky: Array
    """(n, n), lower."""
    weights: Array
    """(n,): the inverse covariance times the targets."""
    amplitude: float
    """The signal's variance."""

    def with_points(self, points: Array, targets: Array, noise: float) -> GaussianProcess:
        """The same kernel with further points (m, columns); their noise variance is in units of the
        signal's."""
        from scipy.linalg import cho_solve, solve_triangular

        scaled, own = points / self.lengths, self.points / self.lengths
        across = matern(_squared_distances(scaled, own))
        among = matern(_squared_distances(scaled, scaled))
        among[np.diag_indices(len(points))] += noise + JITTER
        left = solve_triangular(self.cholesky, across.T, lower=True, check_finite=False).T
        corner = np.linalg.cholesky(among - left @ left.T)
        count = len(self.points)
        cholesky = np.zeros((count + len(points),) * 2)
        cholesky[:count, :count] = np.tril(self.cholesky)
        cholesky[count:, :count], cholesky[count:, count:] = left, corner
        together = np.concatenate([self.targets, targets])
        return replace(
            self,
            points=np.concatenate([self.points, points]),
            targets=together,
            cholesky=cholesky,
            weights=cho_solve((cholesky, True), together, check_finite=False),
        )

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and standard deviation at (m, columns), each of shape (m,)."""
        from scipy.linalg import solve_triangular

        covariance = matern(_squared_distances(points / self.lengths, self.points / self.lengths))
        solved = solve_triangular(self.cholesky, covariance.T, lower=True, check_finite=False)
        variance = np.maximum(1.0 - (solved * solved).sum(0), 1e-9)
        return covariance @ self.weights, np.sqrt(self.amplitude * variance)

    def joint(self, points: Array | None = None) -> tuple[Array, Array]:
        """Mean (m,) and covariance (m, m) of what lies at ``points`` (m, columns), without the noise of the
        targets there; None: at the process's own points."""
        from scipy.linalg import solve_triangular

        own = self.points / self.lengths
        scaled = own if points is None else points / self.lengths
        across = matern(_squared_distances(own, scaled))
        among = across if points is None else matern(_squared_distances(scaled, scaled))
        solved = solve_triangular(self.cholesky, across, lower=True, check_finite=False)
        return across.T @ self.weights, self.amplitude * (among - solved.T @ solved)

    def left_out(self) -> tuple[Array, Array]:
        """How far each target (n,) lies from what all others say of it, and the standard deviation that they
        give with it, noise included (Rasmussen and Williams 2006, equations 5.10 to 5.12)."""
        from scipy.linalg import cho_solve

        inverse = cho_solve((self.cholesky, True), np.eye(len(self.targets)), check_finite=False)
        precision = np.diag(inverse)
        return self.weights / precision, np.sqrt(self.amplitude / precision)

    @property
    def noise(self) -> float:
        """Variance of one target around the process: the common noise, in units of the targets squared."""
        return self.amplitude * max(float(self.cholesky[0, 0]) ** 2 - 1.0 - JITTER, 0.0)


def fit_gaussian_process(
    points: Array, targets: Array, extra_noise: Array | None = None, groups: NDArray[np.intp] | None = None
) -> GaussianProcess:
    """Fit one to ``targets`` (n,), about centred, at ``points`` (n, columns) of the unit box.

    Lengthscales and noise are the most probable ones under a prior whose lengthscales grow with the root of
    the number of dimensions (Hvarfner et al. 2024, arXiv:2402.02229).

    Args:
        points: (n, columns). targets: (n,). extra_noise: (n,), variance of each target beside the common
            noise, in units of the signal's. groups: (columns,), the dimension that each column belongs to;
            columns of one dimension, as the options of a choice, share a lengthscale. None: each column is
            a dimension.
    """
    from scipy.linalg import cho_factor, cho_solve

    count, columns = points.shape
    dimension_of = np.arange(columns) if groups is None else groups
    noise = np.zeros(count) if extra_noise is None else extra_noise
    theta = most_probable(points, targets, dimension_of, noise)
    lengths = np.exp(theta[:-1])[dimension_of]
    covariance = matern(_squared_distances(points / lengths, points / lengths))
    covariance[np.diag_indices(count)] += np.exp(theta[-1]) + noise + JITTER
    factor = cho_factor(covariance, lower=True, check_finite=False)
    weights = cho_solve(factor, targets, check_finite=False)
    # Two pseudo-observations of variance one keep the amplitude sane while there are few trials.
    amplitude = (float(targets @ weights) + 2.0) / (count + 2.0)
    return GaussianProcess(
        points=points,
        targets=targets,
        lengths=lengths,
        cholesky=factor[0],
        weights=weights,
        amplitude=amplitude,
    )


def expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """How far below ``best`` each of (m,) is expected to come."""
    from scipy.special import ndtr

    gap = (best - mean) / deviation
    density = np.exp(-gap * gap / 2) / np.sqrt(2 * np.pi)
    improvement: Array = deviation * (gap * ndtr(gap) + density)
    return improvement


def _squared_distances(a: Array, b: Array) -> Array:
    squared = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2.0 * a @ b.T
    positive: Array = np.maximum(squared, 0.0)
    return positive


def matern(squared: Array) -> Array:
    """The Matern-5/2 kernel of squared distances in lengthscales, of variance one."""
    root = np.sqrt(5.0 * squared)
    kernel: Array = (1.0 + root + root * root / 3.0) * np.exp(-root)
    return kernel


def log_length_prior(dimensions: int) -> float:
    """The middle of the prior of a log lengthscale."""
    return float(np.log(0.5 * np.sqrt(dimensions)))


def most_probable(
    points: Array, targets: Array, groups: NDArray[np.intp], noise: Array | None = None
) -> Array:
    """Log lengthscale of each dimension, and log noise: the prior's where there are too few points to learn
    from. ``noise`` (n,) is what each target has beside the common one."""
    from scipy.optimize import minimize

    dimensions = int(groups.max()) + 1
    prior = np.append(np.full(dimensions, log_length_prior(dimensions)), np.log(_NOISE))
    if len(targets) < 3:
        return prior
    noise = np.zeros(len(targets)) if noise is None else noise
    used = telling(targets, _LEARN_FROM)
    differences = (points[used][:, None] - points[used][None]) ** 2
    by_dimension = np.stack([differences[:, :, groups == one].sum(2) for one in range(dimensions)])
    bounds = [_BOUNDS_LENGTH] * dimensions + [_BOUNDS_NOISE]
    found = minimize(
        _negative_log_posterior,
        prior,
        (prior, by_dimension, targets[used], noise[used]),
        method="L-BFGS-B",
        jac=True,
        bounds=bounds,
        options={"maxiter": _ITERATIONS},
    )
    learned: Array = found.x
    return learned


def telling(losses: Array, most: int) -> NDArray[np.intp]:
    """Indices of at most so many of (n,): one half the smallest, the other spread over the ranks of the
    rest."""
    if len(losses) <= most:
        return np.arange(len(losses))
    order = np.argsort(losses, kind="stable")
    best, rest = order[: most // 2], order[most // 2 :]
    spread = np.linspace(0, len(rest) - 1, most - len(best)).round().astype(int)
    return np.concatenate([best, rest[spread]])


def _negative_log_posterior(
    theta: Array, prior: Array, squared: Array, targets: Array, noise: Array
) -> tuple[float, Array]:
    """With its gradient; the amplitude takes its best value in closed form. ``squared`` is (dimensions, n,
    n)."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    count = len(targets)
    scaled = squared * np.exp(-2.0 * theta[:-1])[:, None, None]
    root = np.sqrt(5.0 * scaled.sum(0))
    decay = np.exp(-root)
    covariance = (1.0 + root + root * root / 3.0) * decay
    common = np.exp(theta[-1])
    covariance[np.diag_indices(count)] += common + noise + JITTER
    try:
        factor = cho_factor(covariance, lower=True, check_finite=False)
    except LinAlgError:
        return 1e10, np.zeros_like(theta)
    inverse = cho_solve(factor, np.eye(count), check_finite=False)
    weights = inverse @ targets
    amplitude = max(float(targets @ weights) / count, 1e-6)
    far = theta - prior
    value = 0.5 * count * np.log(amplitude) + np.log(np.diag(factor[0])).sum() + 0.5 * far @ far
    outer = inverse - np.outer(weights, weights) / amplitude
    slope = outer * ((5.0 / 3.0) * (1.0 + root) * decay)
    gradient = np.append(0.5 * (scaled * slope).sum((1, 2)), 0.5 * common * np.trace(outer))
    return float(value), gradient + far

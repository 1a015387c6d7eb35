"""How sure a sweep is of its best, by made-up sweeps whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from sweeper.search.auto.sure import chances_of_best

SWEEPS = 200


@pytest.fixture(scope="module")
def said_and_right() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of 200 sweeps: each trial's chance, whether it is the best, and the same of the likeliest alone."""
    chances, is_best, top, top_is_best = [], [], [], []
    for seed in range(SWEEPS):
        points, truth, losses = made_up(seed)
        found = chances_of_best(points, losses)
        chances.append(found)
        is_best.append(np.arange(len(truth)) == truth.argmin())
        top.append(found.max())
        top_is_best.append(found.argmax() == truth.argmin())
    return np.concatenate(chances), np.concatenate(is_best), np.array(top), np.array(top_is_best)


def made_up(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trials of a sweep of 1 to 4 dimensions: points, what each is worth, and what one noisy run shows.

    A valley in the first dimension, steeper on one side as in a learning rate, bowls in the others; half of
    the trials lie near the best of the others, as those of a search do.
    """
    rng = np.random.default_rng(seed)
    count, dimensions = int(rng.integers(6, 25)), int(rng.integers(1, 5))
    centre, weights = rng.uniform(0.2, 0.8, dimensions), rng.uniform(0, 0.5, dimensions)
    weights[0], steep = 1.0, rng.uniform(1, 4)

    def worth(points: np.ndarray) -> np.ndarray:
        off = points - centre
        side = np.where(off[:, 0] > 0, steep, 1.0)
        return side * off[:, 0] ** 2 + (weights[1:] * off[:, 1:] ** 2).sum(1)

    spread = worth(rng.random((500, dimensions))).std()
    points = rng.random((count, dimensions))
    best = points[worth(points[: count // 2]).argmin()]
    near = best + 0.15 * rng.standard_normal((count - count // 2, dimensions))
    points[count // 2 :] = near.clip(0, 1)
    noise = rng.choice([0.003, 0.02, 0.1, 0.3]) * spread
    return points, worth(points), worth(points) + noise * rng.standard_normal(count)


def test_what_is_said_to_be_the_best_is_it_as_often_as_is_said(said_and_right):
    _, _, top, top_is_best = said_and_right
    assert top_is_best.mean() == pytest.approx(top.mean(), abs=0.1)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.05), (0.05, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.01)])
def test_of_all_results_said_to_be_so_sure_the_right_share_is_right(said_and_right, low, high):
    chances, is_best, _, _ = said_and_right
    within = (chances >= low) & (chances < high)
    said, right = chances[within].mean(), is_best[within].mean()
    chance = np.sqrt(said * (1 - said) / within.sum())
    assert right == pytest.approx(said, abs=0.06 + 2 * chance)


def test_a_measured_best_that_fits_no_pattern_still_has_a_chance():
    """Losses that have nothing to do with the values: all may be noise, or each value may matter."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        points, losses = rng.random((8, 3)), 1 + 0.02 * rng.standard_normal(8)
        found = chances_of_best(points, losses)
        assert found[losses.argmin()] > 0.1, seed


def test_equal_losses_and_one_far_out_leave_the_chances_finite():
    points = np.linspace(0, 1, 6)[:, None]
    assert chances_of_best(points, np.ones(6)).sum() == pytest.approx(1)
    found = chances_of_best(points, np.array([1.0, 1.0, 1.01, 1.02, 1.03, 1e9]))
    assert found.sum() == pytest.approx(1) and found[5] < 0.05


def test_what_was_seen_is_told_the_same_again():
    rng = np.random.default_rng(0)
    points, losses = rng.random((40, 5)), rng.random(40)
    assert (chances_of_best(points, losses) == chances_of_best(points, losses)).all()

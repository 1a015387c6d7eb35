from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_support import DISCRETE, MIXED, gather

from sweeper.search.auto.coordinates import Coordinates
from sweeper.search.auto.curves import Curve, CurveModel, resolution_of, seen_in_past
from sweeper.search.auto.next import Start, Thaw, what_next
from sweeper.search.auto.prior import PastSweep, Prior
from sweeper.search.auto.propose import Candidates, propose_point
from sweeper.search.auto.rows import Phase, SeenTrial
from sweeper.search.auto.standing import Standing, is_control
from sweeper.search.auto.surrogate import expected_improvement, fit_gaussian_process, normal_scores, telling
from sweeper.search.grid import configuration_key
from sweeper.space import Space, load_space

EVALUATIONS = 20


@pytest.fixture(scope="module")
def mixed_space(tmp_path_factory) -> Space:
    path = tmp_path_factory.mktemp("space") / "mixed.yaml"
    path.write_text(f"name: mixed\nmodel_path: m\ndata_path: d.jsonl\ntraining:{MIXED}")
    return load_space(path, gather=gather)


def curve(losses: list[float], total: int = EVALUATIONS) -> Curve:
    return Curve(tokens=tuple(range(1, len(losses) + 1)), losses=tuple(losses), total_tokens=total)


def trial(number: int, losses: list[float], phase: Phase = Phase.PAUSED, **options) -> SeenTrial:
    point = options.pop("point", np.array([number / 10, 0.5]))
    return SeenTrial(number=number, point=point, curve=curve(losses), phase=phase, **options)


def ended(number: int, loss: float, **options) -> SeenTrial:
    return trial(
        number, [loss + 1 / k - 1 / EVALUATIONS for k in range(1, EVALUATIONS + 1)], Phase.ENDED, **options
    )


# Coordinates ---------------------------------------------------------------------------------


@given(fractions=st.lists(st.floats(0, 1), min_size=8, max_size=8))
@settings(max_examples=50, deadline=None)
def test_every_configuration_comes_back_from_its_point(mixed_space, fractions):
    coordinates = Coordinates(mixed_space)
    values = coordinates._values_at(np.array(fractions[: len(coordinates._axes)]))
    again = coordinates.values(coordinates.point(values))
    assert again.keys() == values.keys()
    for name, value in values.items():
        assert again[name] == (pytest.approx(value) if isinstance(value, float) else value)


def test_points_lie_in_the_unit_box_and_inactive_dimensions_at_their_default(space_of):
    space = space_of(MIXED)
    coordinates = Coordinates(space)
    candidates = coordinates.candidates([], seed=0)
    points = np.array([np.frombuffer(key) for key in candidates])
    assert points.min() >= 0 and points.max() <= 1
    for values in candidates.values():
        assert ("final_lr_ratio" in values) == (values["scheduler"] == "cosine")


def test_a_discrete_space_offers_each_configuration_until_none_is_left(space_of):
    coordinates = Coordinates(space_of(DISCRETE))
    every = list(coordinates.candidates([], seed=0).values())
    assert len(every) == 9
    keys = [configuration_key(one) for one in every]
    assert list(coordinates.candidates(keys[:8], seed=0).values()) == every[8:]
    assert coordinates.candidates(keys, seed=0) == {}


def test_neighbours_are_configurations_of_the_space(space_of):
    coordinates = Coordinates(space_of(MIXED))
    points = np.array([np.frombuffer(key) for key in list(coordinates.candidates([], seed=0))[:3]])
    near = coordinates.around(points, seed=1)
    assert len(near) > 10
    for point in near:
        assert coordinates.point(coordinates.values(point)) == pytest.approx(point)


# Surrogate -----------------------------------------------------------------------------------


def test_equal_losses_share_a_normal_score_and_a_diverged_one_ranks_last():
    scores = normal_scores(np.array([2.0, 1.0, 2.0, math.inf]))
    assert scores[0] == scores[2]
    assert scores[1] < scores[0] < scores[3] < math.inf


def test_a_gaussian_process_goes_through_what_it_was_told_and_is_unsure_elsewhere():
    rng = np.random.default_rng(0)
    points = rng.random((30, 2))
    targets = np.sin(5 * points[:, 0])
    process = fit_gaussian_process(points, targets)
    mean, deviation = process.predict(points)
    assert np.abs(mean - targets).max() < 0.1
    _, far = process.predict(np.array([[3.0, 3.0]]))
    assert far[0] > 3 * deviation.max()


def test_a_dimension_that_does_not_matter_gets_a_long_lengthscale():
    points = np.random.default_rng(0).random((40, 2))
    process = fit_gaussian_process(points, np.sin(6 * points[:, 0]))
    assert process.lengths[1] > 3 * process.lengths[0]


def test_points_that_are_added_give_what_all_points_together_give():
    rng = np.random.default_rng(1)
    points, targets = rng.random((10, 3)), rng.standard_normal(10)
    # Below three targets nothing is learned, so both have the prior's kernel.
    process = fit_gaussian_process(points[:2], targets[:2]).with_points(points[2:], targets[2:], 0.1)
    direct = fit_gaussian_process(points[:2], targets[:2])
    scaled = points / direct.lengths
    squared = ((scaled[:, None] - scaled[None]) ** 2).sum(2)
    root = np.sqrt(5 * squared)
    kernel = (1 + root + root**2 / 3) * np.exp(-root)
    noise = np.array([0.1] * 10)
    weights = np.linalg.solve(kernel + np.diag(noise + 1e-8), targets)
    assert process.weights == pytest.approx(weights, rel=1e-6)


@given(mean=st.floats(-3, 3), deviation=st.floats(0.01, 3), best=st.floats(-3, 3))
@settings(max_examples=50, deadline=None)
def test_expected_improvement_is_at_least_the_improvement_of_the_mean(mean, deviation, best):
    improvement = expected_improvement(np.array([mean]), np.array([deviation]), best)[0]
    assert improvement >= max(best - mean, 0) - 1e-9


def test_a_model_of_many_trials_is_fitted_to_a_bounded_number_of_them():
    losses = np.random.default_rng(0).random(5000)
    used = telling(losses, 150)
    assert len(used) == len(set(used.tolist())) == 150
    assert set(np.argsort(losses)[:75]) <= set(used.tolist())


# Curves --------------------------------------------------------------------------------------


def test_a_flat_curve_has_little_chance_and_a_falling_one_much():
    model, resolution = CurveModel(), 0.01
    flat = curve([2.0] * 10)
    falling = curve([3.0 / k for k in range(1, 11)])
    assert model.chance_below(flat, 1.5, resolution) < 0.05
    assert model.chance_below(falling, falling.best - 0.1, resolution) > 0.5


def test_the_chance_falls_with_what_is_asked_for_and_with_what_is_left_of_the_training():
    model = CurveModel()
    falling = [3.0 / k**0.5 for k in range(1, 11)]
    asked = [model.chance_below(curve(falling), loss, 0.01) for loss in (0.9, 0.7, 0.5, 0.1)]
    assert asked == sorted(asked, reverse=True)
    left = [model.chance_below(curve(falling, total), 0.85, 0.01) for total in (100, 40, 12)]
    assert left == sorted(left, reverse=True)


def test_many_alike_curves_of_one_past_sweep_count_as_one_vote():
    """Letting each of them vote made the model sure of itself, and late learners stayed paused for good."""
    sweep = tuple(curve([1.0 + 1.0 / k + 1e-3 * i for k in range(1, EVALUATIONS + 1)]) for i in range(100))
    few, many = (CurveModel(past=seen_in_past([one])) for one in (sweep[:10], sweep))
    assert np.array(many.table) == pytest.approx(np.array(few.table), abs=0.2)
    built_in = CurveModel().table
    assert all(spread >= wide for (_, spread), (_, wide) in zip(many.table, built_in, strict=True))


def test_enough_past_sweeps_make_the_model_surer():
    def sweep(seed: int) -> tuple[Curve, ...]:
        return tuple(
            curve([1.0 + 1.0 / k + 0.01 * (i + seed) for k in range(1, EVALUATIONS + 1)]) for i in range(10)
        )

    surer = CurveModel(past=seen_in_past(sweep(seed) for seed in range(12)))
    assert all(s < w for (_, s), (_, w) in zip(surer.table[2:], CurveModel().table[2:], strict=True))


def test_the_resolution_is_a_part_of_the_spread_of_the_better_half():
    assert resolution_of([1.0, 1.5, 2.0, 99.0, math.inf]) == pytest.approx(0.02 * 1.0)


# Standing ------------------------------------------------------------------------------------


def test_a_trial_is_not_judged_before_its_second_evaluation():
    standing = Standing(trials=[ended(0, 0.5), trial(1, [9.0], Phase.RUNNING)])
    assert standing.chance(standing.trials[1]) == 1.0
    assert standing.pauses(standing.trials[1]) is None


def test_a_hopeless_trial_is_paused_and_a_promising_one_goes_on():
    falling = [0.6 + 1.0 / k for k in range(1, 9)]
    standing = Standing(
        trials=[ended(0, 0.6), trial(1, [5.0] * 8, Phase.RUNNING), trial(2, falling, Phase.RUNNING)]
    )
    assert standing.pauses(standing.trials[1]) is not None
    assert standing.pauses(standing.trials[2]) is None


def test_a_control_is_never_paused():
    standing = Standing(trials=[ended(0, 0.6), trial(1, [5.0] * 8, Phase.RUNNING, control=True)])
    assert standing.pauses(standing.trials[1]) is None


def test_a_paused_trial_is_thawed_when_the_best_turns_out_worse_than_it_seemed():
    late = [2.0 - 0.02 * k for k in range(10)]
    good, bad = ended(0, 0.4), ended(0, 1.8)
    assert Standing(trials=[good, trial(1, late)]).to_thaw() is None
    assert Standing(trials=[bad, trial(1, late)]).to_thaw().number == 1


def test_the_bar_falls_when_nothing_has_improved_for_long():
    early = ended(0, 0.5, best_seen_after=4)
    worse = [ended(number, 0.9, best_seen_after=number) for number in range(1, 20)]
    assert Standing(trials=[early, *worse[:5]]).bar == Standing(trials=[early]).bar
    bars = [Standing(trials=[early, *worse[:n]]).bar for n in (8, 12, 19)]
    assert bars == sorted(bars, reverse=True) and bars[-1] < bars[0]


def test_under_the_last_evaluation_a_trial_that_lost_what_it_had_won_is_no_leader():
    overfitted = trial(1, [1.0, 0.4, 0.9, 1.5, 1.9, 2.0, 2.2, 2.5], Phase.RUNNING)
    by_end, by_best = (Standing(trials=[ended(0, 0.6), overfitted], at=at) for at in ("end", "best"))
    assert by_end.leader().number == 0 and by_best.leader().number == 1
    assert by_end.pauses(overfitted) is not None


def test_controls_are_drawn_before_they_start_a_tenth_at_first_and_fewer_later():
    first = [is_control(seed, 1) for seed in range(2000)]
    later = [is_control(seed, 100) for seed in range(2000)]
    assert 0.07 < np.mean(first) < 0.11
    assert np.mean(later) < 0.02
    assert first == [is_control(seed, 1) for seed in range(2000)]


# What comes next -----------------------------------------------------------------------------

GRID = np.array([[a / 10, b / 10] for a in range(11) for b in range(11)])


def loss_at(point: np.ndarray) -> float:
    return float(((point - [0.7, 0.2]) ** 2).sum())


def test_a_search_without_history_begins_with_the_rule_of_thumb_and_finds_the_minimum():
    for seed in range(5):
        trials: list[SeenTrial] = []
        for number in range(16):
            asked = {one.point.tobytes() for one in trials}
            pool = np.array([point for point in GRID if point.tobytes() not in asked])
            candidates = Candidates(pool=pool, rule=GRID[60])
            decision = what_next(Standing(trials=trials), candidates, None, seed)
            assert isinstance(decision, Start)
            trials.append(ended(number, loss_at(decision.point), point=decision.point))
        assert (trials[0].point == GRID[60]).all()
        assert min(loss_at(one.point) for one in trials) <= 0.011


def test_trials_side_by_side_do_not_repeat_each_other():
    trials = [ended(number, loss_at(point), point=point) for number, point in enumerate(GRID[::15])]
    asked = {one.point.tobytes() for one in trials}
    picked = []
    for number in range(len(trials), len(trials) + 8):
        pool = np.array([point for point in GRID if point.tobytes() not in asked])
        point = propose_point(Standing(trials=trials), Candidates(pool=pool), None, 0)
        asked.add(point.tobytes())
        picked.append(point)
        trials.append(trial(number, [], Phase.RUNNING, point=point))
    spread = max(np.abs(a - b).max() for a in picked for b in picked)
    assert len({one.tobytes() for one in picked}) == 8
    assert spread >= 0.3


def test_when_nothing_new_is_left_the_leader_is_trained_to_its_end_first():
    leader, other = trial(0, [0.3, 0.3, 0.3, 0.3]), trial(1, [3.0 / k for k in range(1, 9)])
    decision = what_next(Standing(trials=[leader, other], risk=1.0), None, None, 0)
    assert isinstance(decision, Thaw) and decision.number == 0
    done = trial(0, [0.3] * EVALUATIONS, Phase.ENDED)
    assert what_next(Standing(trials=[done]), None, None, 0) is None


# History -------------------------------------------------------------------------------------


def past(sign: float = 1.0) -> PastSweep:
    points = GRID[::5]
    return PastSweep(points=points, losses=np.array([sign * loss_at(p) for p in points]), similarity=1.0)


def test_history_picks_what_was_best_elsewhere_and_then_the_rule_of_thumb():
    prior = Prior([past()])
    candidates = Candidates(pool=GRID, rule=GRID[0])
    first = propose_point(Standing(trials=[]), candidates, prior, 0)
    assert loss_at(first) < 0.05
    second = propose_point(Standing(trials=[ended(0, loss_at(first), point=first)]), candidates, prior, 0)
    assert (second == GRID[0]).all()


def test_a_history_that_misleads_loses_its_weight_in_a_few_trials():
    prior = Prior([past(-1.0)])
    points = GRID[[5, 40, 80, 100, 118]]
    losses = np.array([loss_at(point) for point in points])
    _, trust = prior.weights(prior.scores(points), losses)
    _, at_first = prior.weights(prior.scores(points[:0]), losses[:0])
    assert at_first == pytest.approx(0.8)
    assert trust < 0.5
    _, right = Prior([past()]).weights(Prior([past()]).scores(points), losses)
    assert right > 0.9


def test_of_two_past_sweeps_the_one_that_orders_trials_alike_weighs_more():
    prior = Prior([past(-1.0), past()])
    points = GRID[[5, 40, 80, 100, 118]]
    weights, _ = prior.weights(prior.scores(points), np.array([loss_at(point) for point in points]))
    assert weights[1] > 10 * weights[0] and weights.sum() == pytest.approx(1.0)


def test_a_past_sweep_of_two_trials_says_nothing():
    two = PastSweep(points=GRID[:2], losses=np.array([1.0, 2.0]), similarity=1.0)
    assert len(Prior([two])) == 0

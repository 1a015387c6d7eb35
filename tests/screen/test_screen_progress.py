"""The view says how far a sweep is: lines where there is no terminal, a panel where there is one."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sweeper.data import gather_facts
from sweeper.screen import progress as progress_module
from sweeper.screen.progress import ProgressView
from sweeper.screen.screen import Screen
from sweeper.search import Evaluation, TrialRecord, TrialState
from sweeper.space import load_space
from sweeper.training import Moved, Prepared, Progress


@pytest.fixture
def space(tmp_path, write_space):
    return load_space(write_space(tmp_path), gather=gather_facts)


def record(number: int, state: TrialState, value: float | None, reason: str | None = None) -> TrialRecord:
    evaluations = () if value is None else (Evaluation(tokens=9, step=1, seconds=2.0, metrics={}),)
    return TrialRecord(
        number=number,
        state=state,
        values={"lr": 0.00123, "scheduler": "cosine"},
        value=value,
        evaluations=evaluations,
        reason=reason,
        is_default=number == 0,
    )


def play(view: ProgressView, space) -> None:
    config = space.close(space.default_values())
    progress = Progress(
        step=1, tokens=500, seconds=1.0, metrics={"eval/loss": 2.5, "perf/tokens_per_s": 4321.0}
    )
    for number in range(3):
        view.trial_started(number, record(number, TrialState.RUNNING, None), config)
        view.trial_prepared(number, Prepared(total_steps=2, total_tokens=1000, ds_config={}))
        view.progressed(number, progress)
    view.trial_finished(record(0, TrialState.COMPLETE, 1.75))
    view.trial_finished(record(1, TrialState.FAIL, None, "diverged at step 3, lr 10"))


def test_without_a_terminal_each_event_is_one_plain_line(space):
    stream = io.StringIO()
    with ProgressView(space, Screen(stream), finished=[]) as view:
        play(view, space)
    lines = stream.getvalue().splitlines()
    assert "trial 0 starts (the rules of thumb): lr 0.00123, scheduler cosine" in lines[0]
    assert any("trial 0 done: eval/loss 1.75" in line for line in lines)
    assert any("diverged at step 3, lr 10" in line and "1 failed" in line for line in lines)
    assert "\x1b" not in stream.getvalue()


def test_in_a_terminal_the_panel_shows_counts_the_best_speed_and_time_left(space, monkeypatch):
    stream = io.StringIO()
    view = ProgressView(space, Screen(stream), finished=[])
    play(view, space)
    console = Console(file=stream, force_terminal=True, width=140, record=True)
    console.print(view._draw())
    panel = console.export_text()
    for part in ("2/3 trials (1 done, 1 failed), 1 running", "left", "best so far: trial 0", "4,321"):
        assert part in panel


def test_between_evaluations_the_panel_moves_and_without_one_a_line_comes_after_a_long_silence(
    space, monkeypatch
):
    stream = io.StringIO()
    view = ProgressView(space, Screen(stream), finished=[])
    play(view, space)
    before = stream.getvalue()
    view.moved(2, Moved(step=7, tokens=640, tokens_per_s=1234.5))
    assert stream.getvalue() == before
    monkeypatch.setattr(progress_module, "_SILENCE_S", 0.0)
    view.moved(2, Moved(step=8, tokens=660, tokens_per_s=1250.0))
    line = stream.getvalue().removeprefix(before)
    assert line.endswith("trial 2 at 66%, 1,250 tokens/s, eval/loss 2.5\n")
    console = Console(file=stream, force_terminal=True, width=140, record=True)
    console.print(view._draw())
    panel = console.export_text()
    assert "66%" in panel and "1,250" in panel


def test_how_far_a_trial_is_is_known_before_its_first_evaluation(space, monkeypatch):
    monkeypatch.setattr(progress_module, "_SILENCE_S", 0.0)
    stream = io.StringIO()
    view = ProgressView(space, Screen(stream), finished=[])
    view.trial_started(0, record(0, TrialState.RUNNING, None), space.close({}))
    view.moved(0, Moved(step=7, tokens=640, tokens_per_s=1234.5, total_tokens=1000))
    assert stream.getvalue().endswith("trial 0 at 64%, 1,234 tokens/s\n")


def test_a_resumed_sweep_counts_what_was_finished_before(space):
    stream = io.StringIO()
    view = ProgressView(space, Screen(stream), finished=[record(0, TrialState.COMPLETE, 1.5)])
    assert view._summary().startswith("1/3 trials (1 done), 0 running")


def test_a_grid_is_as_many_trials_as_it_has_configurations(tmp_path, write_space):
    asked = {"trials": 100, "sampler": "grid", "stopper": "none"}
    file = write_space(tmp_path, search=asked, training__lr=[1e-3, 3e-3])
    view = ProgressView(load_space(file, gather=gather_facts), Screen(io.StringIO()), finished=[])
    assert view._summary().startswith("0/16 trials")  # 2 rates, 4 schedulers, 2 accumulations

"""The recorder commits to the ledger first, decides who goes on, and tells the listeners."""

from __future__ import annotations

from typing import Any

import pytest

from sweeper.data import gather_facts
from sweeper.errors import ModelError
from sweeper.search import Ledger, TrialState, make_stopper
from sweeper.space import SweepFolder, load_space, next_memory_fallback
from sweeper.sweep.outcome import Outcome
from sweeper.sweep.recorder import Recorder
from sweeper.sweep.recovery import TrialRestart
from sweeper.sweep.steps import read_steps
from sweeper.training import Moved, Prepared, Progress, StepMetrics
from sweeper.training.moved import MovedFile


class Heard:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    def trial_started(self, number, record, config) -> None:
        self.events.append(("started", number))

    def trial_prepared(self, number, prepared) -> None:
        self.events.append(("prepared", number))

    def moved(self, number, moved) -> None:
        self.events.append(("moved", moved.tokens))

    def progressed(self, number, progress) -> None:
        self.events.append(("progressed", progress.tokens))

    def trial_set_back(self, number, setback) -> None:
        self.events.append(("set back", number))

    def warned(self, number, warning) -> None:
        self.events.append(("warned", warning))

    def trial_paused(self, record) -> None:
        self.events.append(("paused", record.number))

    def trial_finished(self, record) -> None:
        self.events.append(("finished", record.state))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def make_recorder(tmp_path, write_space):
    def make(*, began_s: float | None = None, **changes: Any):
        space = load_space(write_space(tmp_path, **changes), gather=gather_facts)
        folder = SweepFolder(tmp_path / "sweep")
        folder.root.mkdir(exist_ok=True)
        is_new = not folder.study_file.exists()
        ledger = (Ledger.create if is_new else Ledger.open)(folder.study_url, space)
        heard, clock = Heard(), Clock()
        recorder = Recorder(
            space, ledger, folder, make_stopper(space), [heard], data_dir=tmp_path, clock=clock,
            began_s=began_s,
        )  # fmt: skip
        return recorder, ledger, heard, clock

    return make


PREPARED = Prepared(total_steps=10, total_tokens=1000, ds_config={"zero_optimization": {"stage": 0}})


def outcome(
    number: int,
    tokens: int,
    loss: float,
    *,
    seconds: float = 1.0,
    done: bool = False,
    prepared: Prepared | None = None,
):
    progress = Progress(
        step=tokens // 100, tokens=tokens, seconds=seconds, metrics={"eval/loss": loss}, done=done
    )
    return Outcome(number=number, prepared=prepared, progress=progress)


def test_a_trial_runs_to_its_end(make_recorder):
    recorder, ledger, heard, _ = make_recorder()
    number, job = recorder.next_job()
    assert job.evaluate_untrained
    assert recorder.record(outcome(number, 0, 5.0, prepared=PREPARED))
    assert recorder.record(outcome(number, 500, 3.0))
    assert not recorder.record(outcome(number, 1000, 2.0, done=True))
    record = ledger.trial(number)
    assert (record.state, record.value, record.is_default) == (TrialState.COMPLETE, 2.0, True)
    assert [evaluation.tokens for evaluation in record.evaluations] == [500, 1000]
    assert ledger.untrained == 5.0
    assert [kind for kind, _ in heard.events] == ["started", "prepared", *["progressed"] * 3, "finished"]


def test_the_untrained_model_is_measured_by_one_trial_only(make_recorder):
    recorder, *_ = make_recorder()
    (first, job), (second, other) = recorder.next_job(), recorder.next_job()
    assert (job.evaluate_untrained, other.evaluate_untrained) == (True, False)
    recorder.record(Outcome(number=first, failure="its node burned down"))
    recorder.record(outcome(second, 500, 3.0, prepared=PREPARED))
    assert recorder.next_job()[1].evaluate_untrained


def test_a_trial_that_stays_above_the_untrained_model_is_pruned_with_the_reason(make_recorder):
    recorder, ledger, heard, _ = make_recorder(search__stopper="auto")
    number, _ = recorder.next_job()
    recorder.record(outcome(number, 0, 5.0, prepared=PREPARED))
    assert recorder.record(outcome(number, 400, 6.0))
    assert not recorder.record(outcome(number, 700, 6.0))
    record = ledger.trial(number)
    assert record.state is TrialState.PRUNED
    assert "untrained" in record.reason
    assert heard.events[-1] == ("finished", TrialState.PRUNED)


def test_a_diverged_trial_fails_with_its_reason_and_the_sampler_is_told(make_recorder):
    recorder, ledger, *_ = make_recorder()
    number, _ = recorder.next_job()
    assert not recorder.record(Outcome(number=number, failure="diverged at step 3, lr 10", diverged=True))
    record = ledger.trial(number)
    assert (record.state, record.reason) == (TrialState.FAIL, "diverged at step 3, lr 10")
    assert record.attributes["diverged"] is True
    assert not recorder.is_over()


def test_what_the_user_must_mend_ends_the_sweep_and_is_not_held_against_the_trial(make_recorder):
    recorder, ledger, *_ = make_recorder()
    number, _ = recorder.next_job()
    problem = ModelError.of(where="model_path", value="x", rule="cannot be loaded", remedy="give another")
    assert not recorder.record(Outcome(number=number, problem=problem))
    assert recorder.is_over() and recorder.problem is problem
    assert ledger.trial(number).state is TrialState.RUNNING

    mended, *_ = make_recorder()
    again, _job = mended.next_job()
    assert again == number


def test_a_trial_whose_processes_died_fails_once(make_recorder):
    recorder, ledger, heard, _ = make_recorder(resources={"max_concurrent": 1, "max_retries": 0})
    number, _ = recorder.next_job()
    recorder.lost(number)
    recorder.lost(number)
    assert ledger.trial(number).state is TrialState.FAIL
    assert [kind for kind, _ in heard.events].count("finished") == 1


def test_no_trial_starts_when_enough_have(make_recorder):
    recorder, *_ = make_recorder(search__trials=2)
    for _ in range(2):
        assert not recorder.is_over()
        number, _job = recorder.next_job()
        recorder.record(outcome(number, 1000, 2.0, done=True, prepared=PREPARED))
    assert recorder.next_job() is None


def test_a_spent_time_budget_starts_nothing_and_stops_at_the_next_evaluation(make_recorder):
    recorder, ledger, _, clock = make_recorder(search__time_budget="1m")
    number, _ = recorder.next_job()
    clock.now = 61.0
    assert recorder.is_over()
    assert not recorder.record(outcome(number, 500, 1.0, seconds=61.0, prepared=PREPARED))
    assert ledger.trial(number).state is TrialState.PRUNED
    assert "time budget" in ledger.trial(number).reason


def test_an_unfinished_trial_goes_on_first_and_under_its_own_number(make_recorder):
    recorder, ledger, *_ = make_recorder(search__trials=2)
    (first, job), (second, _) = recorder.next_job(), recorder.next_job()
    recorder.record(outcome(second, 1000, 2.0, done=True, prepared=PREPARED))

    resumed, ledger, *_ = make_recorder(search__trials=2)
    assert not resumed.is_over()
    number, again = resumed.next_job()
    assert number == first
    assert again.config == job.config
    assert resumed.next_job() is None
    assert len(ledger.trials()) == 2


def test_an_unfinished_trial_goes_on_from_its_newest_state(make_recorder):
    recorder, *_ = make_recorder(search__trials=2)
    _, job = recorder.next_job()
    assert job.resume_from is None
    for step in ("step-00000004", "step-00000008", ".step-00000012.partial"):
        (job.checkpoints / step).mkdir(parents=True)
    resumed, *_ = make_recorder(search__trials=2)
    _, again = resumed.next_job()
    assert again.resume_from == job.checkpoints / "step-00000008"


def test_an_evaluation_that_is_reported_again_after_a_restart_stands_once(make_recorder):
    recorder, *_ = make_recorder(search__trials=2)
    number, _ = recorder.next_job()
    recorder.record(outcome(number, 500, 3.0, prepared=PREPARED))
    resumed, ledger, *_ = make_recorder(search__trials=2)
    resumed.next_job()
    resumed.record(outcome(number, 500, 3.0, prepared=PREPARED))
    resumed.record(outcome(number, 1000, 2.0, done=True))
    assert [evaluation.tokens for evaluation in ledger.trial(number).evaluations] == [500, 1000]


@pytest.mark.parametrize("keep_finished", [False, True])
def test_the_states_of_a_trial_that_ended_go_unless_they_are_to_be_kept(make_recorder, keep_finished):
    recorder, *_ = make_recorder(checkpoints={"keep_finished": keep_finished})
    number, job = recorder.next_job()
    (job.checkpoints / "step-00000004").mkdir(parents=True)
    recorder.record(outcome(number, 1000, 2.0, done=True, prepared=PREPARED))
    assert job.checkpoints.exists() == keep_finished


def test_only_the_best_trials_model_stays(make_recorder):
    recorder, *_ = make_recorder(search__trials=3)
    jobs = [recorder.next_job() for _ in range(3)]
    for (number, job), loss in zip(jobs, (3.0, 1.0, 2.0), strict=True):
        job.model_folder.mkdir(parents=True)
        recorder.record(outcome(number, 1000, loss, done=True, prepared=PREPARED))
    assert [job.model_folder.exists() for _, job in jobs] == [False, True, False]


def test_what_a_killed_driver_spent_counts_and_the_time_between_drivers_does_not(make_recorder):
    recorder, ledger, _, clock = make_recorder(search__time_budget="100s")
    recorder.next_job()
    clock.now = 40
    recorder.count_time()
    assert ledger.sweep_attributes()["spent_s"] == 40
    clock.now = 60
    recorder.count_time()  # too soon to be worth a commit
    assert ledger.sweep_attributes()["spent_s"] == 40
    resumed, _, _, later = make_recorder(search__time_budget="100s")
    later.now = 59
    assert not resumed.is_over()
    later.now = 61
    assert resumed.is_over()


def test_what_did_not_fit_is_kept_and_later_trials_of_the_shape_start_below_it(make_recorder):
    recorder, ledger, heard, _ = make_recorder()
    number, job = recorder.next_job()
    smaller = next_memory_fallback(job.config)
    setback = TrialRestart(reason="out of memory", out_of_memory=True, config=smaller)
    assert recorder.record(Outcome(number=number, setback=setback))
    assert ("set back", number) in heard.events
    assert ledger.trial(number).attributes["setbacks"] == [{"reason": "out of memory", "out_of_memory": True}]
    for again in (recorder, make_recorder()[0]):
        _, later = again.next_job()
        assert later.config.training.per_device_batch_size == smaller.training.per_device_batch_size == 4
        product = later.config.training.gradient_accumulation_steps * 4
        assert product == later.config.training.global_batch_size
        assert later.retries == 0


def test_a_trial_whose_coordinator_dies_comes_again_under_its_number_and_fails_in_the_end(make_recorder):
    recorder, ledger, _, _ = make_recorder(resources={"max_concurrent": 1, "max_retries": 1})
    number, _ = recorder.next_job()
    recorder.lost(number)
    again, job = recorder.next_job()
    assert (again, job.retries) == (number, 1)
    recorder.lost(number)
    assert ledger.trial(number).state is TrialState.FAIL
    assert "after 1 retries" in ledger.trial(number).reason
    assert recorder.next_job()[0] == number + 1


def test_a_stop_that_is_asked_for_lets_trials_write_their_states_and_starts_no_other(make_recorder):
    recorder, ledger, _, _ = make_recorder()
    number, job = recorder.next_job()
    recorder.ask_to_stop()
    assert job.stop_file.exists() and recorder.is_over()
    assert recorder.record(outcome(number, 500, 3.0, prepared=PREPARED))  # one more step: to its pause
    paused = Progress(step=7, tokens=700, seconds=1.0, metrics={"perf/startup_s": 2.0}, paused=True)
    assert not recorder.record(Outcome(number=number, progress=paused))
    assert ledger.trial(number).state is TrialState.RUNNING
    assert [evaluation.tokens for evaluation in ledger.trial(number).evaluations] == [500]


def test_a_trial_that_pauses_before_its_first_step_stays_to_be_run(make_recorder):
    recorder, ledger, _, _ = make_recorder()
    number, _ = recorder.next_job()
    recorder.ask_to_stop()
    nothing = Progress(step=0, tokens=0, seconds=1.0, metrics={}, paused=True)
    assert not recorder.record(Outcome(number=number, progress=nothing, prepared=PREPARED))
    assert ledger.trial(number).state is TrialState.RUNNING and ledger.untrained is None
    resumed, *_ = make_recorder()
    again, job = resumed.next_job()
    assert again == number and job.evaluate_untrained and job.resume_from is None


def test_the_budget_counts_from_the_commands_beginning(make_recorder):
    recorder, _, _, clock = make_recorder(search__time_budget="100s", began_s=-70.0)
    clock.now = 29.0
    assert not recorder.is_over()
    clock.now = 31.0
    assert recorder.is_over()


def test_a_state_that_found_no_room_is_told_and_kept_with_the_trial(make_recorder):
    recorder, ledger, heard, _ = make_recorder()
    number, _ = recorder.next_job()
    progress = Progress(step=5, tokens=500, seconds=1.0, metrics={"eval/loss": 3.0})
    assert recorder.record(Outcome(number=number, progress=progress, warning="no room"))
    assert ledger.trial(number).attributes["warnings"] == ["no room"]
    assert ("warned", "no room") in heard.events


def test_the_steps_of_a_progress_are_on_disk_before_the_ledger_has_it(make_recorder, tmp_path, monkeypatch):
    recorder, ledger, *_ = make_recorder()
    number, _ = recorder.next_job()
    step = StepMetrics(step=1, tokens=500, loss=3.0, lr=1e-3, grad_norm=None, time_s=1e9)
    progress = Progress(step=1, tokens=500, seconds=1.0, metrics={"eval/loss": 3.0}, steps=(step,))
    steps_file = SweepFolder(tmp_path / "sweep").trial_steps(number)

    def report(*_: Any) -> None:
        assert read_steps(steps_file) == [step]
        raise KeyboardInterrupt

    monkeypatch.setattr(ledger, "report", report)
    with pytest.raises(KeyboardInterrupt):
        recorder.record(Outcome(number=number, prepared=PREPARED, progress=progress))


def test_the_moment_of_an_evaluation_is_in_the_ledger_and_the_untrained_model_with_its_trial(make_recorder):
    recorder, ledger, *_ = make_recorder()
    number, _ = recorder.next_job()
    recorder.record(outcome(number, 0, 5.0, prepared=PREPARED))
    last = outcome(number, 500, 3.0)
    recorder.record(last)
    record = ledger.trial(number)
    assert record.untrained.metrics == {"eval/loss": 5.0}
    assert [one.time_s for one in record.evaluations] == [last.progress.time_s]
    assert record.started_s < record.untrained.time_s < last.progress.time_s


def test_what_a_trial_says_between_evaluations_is_told_once_and_forgotten_at_its_end(make_recorder):
    recorder, _, heard, clock = make_recorder()
    folder = recorder._folder
    folder.trial_dir(0).mkdir(parents=True)
    folder.trial_progress(0).write_text("{}")  # an earlier driver's
    number, job = recorder.next_job()
    assert job.progress_file == folder.trial_progress(0).absolute() and not job.progress_file.exists()
    told = MovedFile(job.progress_file)
    told.write(Moved(step=1, tokens=100, tokens_per_s=5.0))
    told.write(Moved(step=2, tokens=200, tokens_per_s=5.0))  # in the same second
    for _ in range(3):
        clock.now += 2
        recorder.count_time()
    assert [event for event in heard.events if event[0] == "moved"] == [("moved", 100)]
    recorder.record(outcome(number, 1000, 1.0, done=True, prepared=PREPARED))
    assert not job.progress_file.exists()

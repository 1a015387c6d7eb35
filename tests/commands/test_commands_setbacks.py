"""Whatever dies during a sweep: what was measured stays, and the sweep comes to the same end."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from driver_process import Driver, Terminal, facts_of
from waiting import eventually

from sweeper.commands import open_sweep, resume_sweep, run_sweep, sweep_state
from sweeper.data import gather_facts
from sweeper.errors import SweepFolderError
from sweeper.search import TrialRecord, TrialState
from sweeper.space import SweepFolder, load_space
from sweeper.sweep.lock import is_locked
from sweeper.track import read_trials, tracking_uri
from sweeper.training import read_moved
from sweeper.training.ranks.processes import is_running, marked

pytestmark = pytest.mark.usefixtures("running_ray")

TRIALS = 2


@pytest.fixture(scope="module")
def space_file(tmp_path_factory, write_space):
    """Trials that take long enough to be met in the middle."""
    folder = tmp_path_factory.mktemp("space")
    return write_space(folder, search__trials=TRIALS, training__epochs=5)


@pytest.fixture(scope="module")
def undisturbed(space_file, tmp_path_factory):
    return run_sweep(space_file, out=tmp_path_factory.mktemp("undisturbed") / "sweep")


MOMENTS = {
    "before the ledger is made": "",
    "in the middle of the first trial": "untrained model",
    "when a trial has just ended": "trial 0 done",
}
LARGE_BATCH = {
    "lr": [1e-3, 2e-3],
    "scheduler": "constant",
    "global_batch_size": 256,
    "per_device_batch_size": 256,
    "max_seq_len": 96,
}
WITH_ITS_OWN_RAY = "in the middle of the first trial"


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_driver_that_is_killed_costs_nothing_and_leaves_nobody_behind(
    moment, space_file, undisturbed, tmp_path, monkeypatch
):
    folder = SweepFolder(tmp_path / "sweep")
    with monkeypatch.context() as patch:
        if moment == WITH_ITS_OWN_RAY:
            patch.delenv("RAY_ADDRESS")
        driver = Driver("run", space_file, "--out", folder.root)
    if MOMENTS[moment]:
        driver.until(MOMENTS[moment])
    else:
        assert eventually(folder.space_file.exists)
    driver.process.kill()
    driver.end()
    ranks = marked(folder.processes_dir)
    assert eventually(lambda: not any(map(is_running, ranks)))
    if MOMENTS[moment]:
        assert ranks
        assert sweep_state(open_sweep(folder)[1], folder) == "interrupted"
    before = open_sweep(folder)[1].trials() if folder.study_file.exists() and ranks else []
    result = resume_sweep(folder.root)
    assert facts_of(result) == facts_of(undisturbed)
    for trial in before:
        if trial.state.is_finished:
            assert result.trials[trial.number] == trial
    tracked = read_trials(tracking_uri(result.space.settings, folder.root), "small")
    assert [(one.number, one.status) for one in tracked] == [(n, "FINISHED") for n in range(TRIALS)]


def test_a_rank_that_is_killed_or_hangs_costs_a_retry_and_no_result(space_file, undisturbed, tmp_path):
    folder = SweepFolder(tmp_path / "sweep")
    driver = Driver("run", space_file, "--out", folder.root).until("untrained model")
    (rank,) = marked(folder.processes_dir)
    os.kill(rank, signal.SIGKILL)
    driver.until("retry 1 of 2")
    assert driver.end() == 0, driver.said
    _, ledger = open_sweep(folder)
    assert [trial.state for trial in ledger.trials()] == [TrialState.COMPLETE] * TRIALS
    assert [trial.value for trial in ledger.trials()] == [trial.value for trial in undisturbed.trials]
    (setback,) = ledger.trial(0).attributes["setbacks"]
    assert f"process {rank}" in setback["reason"] and not setback["out_of_memory"]


def test_a_trial_that_always_dies_fails_with_the_last_words_of_its_rank(write_space, tmp_path, monkeypatch):
    (tmp_path / "deadly.py").write_text(
        "import os, signal\n\n\ndef score(prompts, generations, references):\n"
        "    print('about to go', flush=True)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.chdir(tmp_path)
    file = write_space(
        tmp_path,
        evaluation={"metrics": ["deadly:score"], "max_new_tokens": 1, "rows": 1},
        search__trials=1,
        resources={"max_concurrent": 1, "max_retries": 1},
    )
    result = run_sweep(file, out=tmp_path / "sweep")
    (trial,) = result.trials
    assert trial.state is TrialState.FAIL
    assert "about to go" in trial.reason and "after 1 of 1 retries" in trial.reason
    assert len(trial.attributes["setbacks"]) == 1


def swept_apart(file: Path, out: Path) -> tuple[SweepFolder, list[TrialRecord]]:
    """A sweep by a process of its own, with a Ray of its own where the environment names none."""
    driver = Driver("run", file, "--out", out)
    assert driver.end() == 0, driver.said
    folder = SweepFolder(out)
    return folder, open_sweep(folder)[1].trials()


def test_memory_that_runs_out_splits_the_batch_and_later_trials_know_it(write_space, tmp_path, new_ranks):
    file = write_space(
        tmp_path,
        data_path="builtin:quickstart",
        eval_data=0.05,
        training=LARGE_BATCH | {"epochs": 0.3},
        objective={"evaluations": 1},
        search={"trials": 2, "sampler": "grid"},
        resources={"max_concurrent": 1, "memory_limit_gib": 0.8},
    )
    folder, trials = swept_apart(file, tmp_path / "sweep")
    first, second = trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2, first.reason
    setbacks = first.attributes["setbacks"]
    assert setbacks and all(one["out_of_memory"] for one in setbacks)
    assert "per_device_batch_size 128, gradient_accumulation_steps 2" in setbacks[0]["reason"]
    assert "setbacks" not in second.attributes
    configs = [
        load_space(folder.trial_config(trial.number), gather=gather_facts).close({}) for trial in trials
    ]
    answer = load_space(folder.best_config, gather=gather_facts).close({})
    for config in (*configs, answer):
        assert config.training.global_batch_size == 256
        assert config.training.per_device_batch_size == 256 // 2 ** len(setbacks)
    assert all(trial.attributes["total_steps"] == first.attributes["total_steps"] for trial in trials)


def test_what_only_an_aged_process_has_no_room_for_is_trained_as_it_was_in_a_new_one(
    write_space, tmp_path, monkeypatch, new_ranks
):
    (tmp_path / "leaky.py").write_text(
        "calls, held = [], []\n\n\ndef score(prompts, generations, references):\n"
        "    calls.append(1)\n"
        "    if len(calls) == 2:  # the first trial has trained\n"
        "        held.append(b'x' * (512 * 2**20))\n"
        "    return 0.0\n"
    )
    monkeypatch.chdir(tmp_path)
    file = write_space(
        tmp_path,
        data_path="builtin:quickstart",
        eval_data=0.05,
        training=LARGE_BATCH | {"epochs": 0.2},
        evaluation={"metrics": ["leaky:score"], "max_new_tokens": 1, "rows": 1},
        objective={"evaluations": 1},
        search={"trials": 2, "sampler": "grid"},
        resources={"max_concurrent": 1, "memory_limit_gib": 1.24},
    )
    first, second = swept_apart(file, tmp_path / "sweep")[1]
    assert [first.state, second.state] == [TrialState.COMPLETE] * 2, (first, second)
    assert "setbacks" not in first.attributes
    (setback,) = second.attributes["setbacks"]
    assert "processes that had trained before" in setback["reason"] and "retry 1 of 2" in setback["reason"]
    assert not setback["out_of_memory"]
    assert second.attributes["config"]["training"]["per_device_batch_size"] == 256


def test_the_first_signal_ends_a_sweep_with_its_states_written(space_file, undisturbed, tmp_path):
    folder = SweepFolder(tmp_path / "sweep")
    driver = Driver("run", space_file, "--out", folder.root).until("untrained model")
    driver.process.send_signal(signal.SIGTERM)  # as a scheduler does
    assert driver.end() == 130, driver.said
    assert f"sweeper resume {folder.root}" in driver.said
    assert "paused after step" in driver.said
    assert list(folder.trial_checkpoints(0).glob("step-*"))
    assert read_moved(folder.trial_progress(0)).tokens > 0  # between evaluations it says how far it is
    assert sweep_state(open_sweep(folder)[1], folder) == "interrupted"
    assert not any(map(is_running, marked(folder.processes_dir)))
    assert facts_of(resume_sweep(folder.root)) == facts_of(undisturbed)


HELD_BACK = """
import time
from pathlib import Path

here, calls = Path(__file__).parent, []


def score(prompts, generations, references):
    calls.append(1)
    if len(calls) == 2:  # after the untrained model's: the trial has a state to write
        (here / "in-the-middle").touch()
        while not (here / "go-on").exists():
            time.sleep(0.01)
    return 0.0
"""
"""A metric that holds a trial in its middle for as long as the test needs."""


def test_a_sweep_outlives_its_terminal_with_its_states_or_under_nohup_altogether(
    write_space, undisturbed, tmp_path, monkeypatch
):
    """Once the window is closed as it is, with a Ray of the sweep's own, which is in that window too; once
    under nohup, with a reader that has gone before."""
    cluster = os.environ["RAY_ADDRESS"]
    monkeypatch.delenv("RAY_ADDRESS")
    (tmp_path / "held.py").write_text(HELD_BACK)
    metric = {"metrics": ["held:score"], "max_new_tokens": 1, "rows": 1}
    file = write_space(tmp_path, search__trials=TRIALS, training__epochs=5, evaluation=metric)
    folder, log = SweepFolder(tmp_path / "sweep"), tmp_path / "sweep" / "logs" / "driver.log"
    sweeper, ended = f"{sys.executable} -m sweeper", tmp_path / "ended"
    terminal = Terminal()
    run = f"cd {tmp_path}; {sweeper} run {file} --out {folder.root}"
    terminal.enter(run, until=(tmp_path / "in-the-middle").exists).close()
    assert eventually(lambda: "interrupt again to stop at once" in log.read_text())
    (tmp_path / "go-on").touch()
    assert eventually(lambda: not is_locked(folder))
    assert sweep_state(open_sweep(folder)[1], folder) == "interrupted"
    assert list(folder.trial_checkpoints(0).glob("step-*"))
    assert not any(map(is_running, marked(folder.processes_dir)))
    said = log.read_text()
    assert "paused after step" in said and f"Go on with: sweeper resume {folder.root}" in said

    resume = f"{sweeper} resume {folder.root} | head -1; echo ${{PIPESTATUS[0]}} > {ended}"
    terminal = Terminal()
    terminal.enter(
        f"cd {tmp_path}; RAY_ADDRESS={cluster} nohup bash -c '{resume}'", until=lambda: is_locked(folder)
    ).close()
    assert eventually(ended.exists)
    assert eventually(lambda: ended.read_text() == "0\n"), ended.read_text()
    assert facts_of(open_sweep(folder)[1]) == facts_of(undisturbed)
    told = log.read_text().removeprefix(said)
    assert "the screen is gone (Broken pipe)" in told and f"trial {TRIALS - 1} done" in told


def test_a_second_driver_is_refused_and_the_second_signal_ends_the_first_at_once(
    space_file, undisturbed, tmp_path
):
    folder = SweepFolder(tmp_path / "sweep")
    driver = Driver("run", space_file, "--out", folder.root).until("untrained model")
    with pytest.raises(SweepFolderError, match="another driver is at work"):
        resume_sweep(folder.root)
    assert sweep_state(open_sweep(folder)[1], folder) == "running"

    (rank,) = marked(folder.processes_dir)
    os.kill(rank, signal.SIGSTOP)  # so that the first one would have to wait
    os.killpg(driver.process.pid, signal.SIGINT)  # as a terminal does
    driver.until("interrupt again to stop at once")
    os.killpg(driver.process.pid, signal.SIGINT)
    assert driver.end() == 130, driver.said
    assert "has not answered" not in driver.said, "it has waited for the stopped rank"
    assert eventually(lambda: not is_running(rank))
    assert sweep_state(open_sweep(folder)[1], folder) == "interrupted"
    assert facts_of(resume_sweep(folder.root)) == facts_of(undisturbed)


def test_a_disk_without_room_costs_states_and_no_trial(space_file, undisturbed, small_disk):
    folder = SweepFolder(small_disk / "sweep")
    result = run_sweep(space_file, out=folder.root)
    assert facts_of(result) == facts_of(undisturbed)
    for trial in result.trials:
        (warning, *_) = trial.attributes["warnings"]
        assert "could not be written" in warning and "GiB were free" in warning
    assert not list(small_disk.rglob("*.partial"))

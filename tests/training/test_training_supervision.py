"""Ranks that die, hang, run out of memory or are asked to pause: the group always answers."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import replace

import psutil
import pytest
from waiting import HANGS_AFTER_S

from sweeper.errors import CheckpointError, TrialLostError, TrialOutOfMemoryError
from sweeper.training import reap
from sweeper.training.ranks import group as group_module
from sweeper.training.ranks.failures import (
    Failure,
    is_out_of_memory,
    last_lines,
    log_size,
    ran_out_of_memory,
    root_cause,
)
from sweeper.training.ranks.group import WorkerGroup
from sweeper.training.ranks.processes import is_running

pytestmark = pytest.mark.usefixtures("ray_here")


@pytest.fixture
def groups():
    """Makes groups of ranks, and ends them."""
    made: list[WorkerGroup] = []

    def make(config, **options):
        made.append(WorkerGroup(config, None, **options))
        return made[-1]

    yield make
    for one in made:
        one.shut_down()


def long_job(job_of, config, tmp_path):
    """One that is still at work when the test has done its worst."""
    return replace(job_of(config), log_file=tmp_path / "log.txt", processes=tmp_path / "processes")


def soon(action, delay_s=0.5):
    timer = threading.Timer(delay_s, action)
    timer.start()
    return timer


def limited(config, gib):
    resources = config.resources.model_copy(update={"memory_limit_gib": gib})
    return config.model_copy(update={"resources": resources})


@contextmanager
def limits_of(rank):
    """The limits of memory that the process has meanwhile, in their order."""
    met, ended = [], threading.Event()

    def look() -> None:
        while not ended.wait(0.001):
            if (limit := rank.rlimit(resource.RLIMIT_DATA)[0]) not in met[-1:]:
                met.append(limit)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield met
    finally:
        ended.set()
        looking.join()


def test_a_rank_that_is_killed_ends_the_group_with_its_name_and_last_words(
    groups, quick_config, job_of, tmp_path
):
    config = quick_config(dp=2, per_device_batch_size=4, epochs=200)
    group = groups(config)
    log = tmp_path / "log-rank-1.txt"
    log.write_text("RuntimeError: out of memory\n")  # of the processes before these
    group.prepare(long_job(job_of, config, tmp_path))
    pids = [process.pid for process in group._processes]
    with log.open("a") as file:
        file.write("the last thing that it said\n")
    soon(lambda: os.kill(pids[1], signal.SIGKILL))
    with pytest.raises(
        TrialLostError, match=rf"rank 1 \(process {pids[1]} on .*died.*the last thing"
    ) as lost:
        group.advance()
    assert "out of memory" not in str(lost.value)
    group.shut_down()
    assert not any(map(is_running, pids))


def test_a_rank_that_is_stopped_is_found_by_its_silence_and_ended(
    groups, quick_config, job_of, tmp_path, monkeypatch
):
    monkeypatch.setattr(group_module, "HUNG_AFTER_S", 4.0)
    config = quick_config(dp=2, per_device_batch_size=4, epochs=200)
    group = groups(config)
    group.prepare(long_job(job_of, config, tmp_path))
    pids = [process.pid for process in group._processes]
    soon(lambda: os.kill(pids[1], signal.SIGSTOP))
    with pytest.raises(TrialLostError, match=r"rank 1 .*has not answered for 4 s"):
        group.advance()
    group.shut_down()
    assert not any(map(is_running, pids))


def test_memory_that_runs_out_is_told_as_such_whichever_rank_meets_it(groups, longer_config, job_of):
    config = longer_config(dp=2, per_device_batch_size=48, zero_stage=2)
    config = limited(config, gib=0.6)
    group = groups(config)
    with pytest.raises(TrialOutOfMemoryError):
        group.prepare(job_of(config))
        group.advance()


def test_a_limit_of_memory_holds_while_a_rank_works_and_not_while_ray_hands_on_its_answer(
    groups, quick_config, job_of
):
    config = quick_config(per_device_batch_size=4)
    config = limited(config, gib=4.0)
    group = groups(config)
    rank = psutil.Process(group._processes[0].pid)
    group.prepare(job_of(config))
    assert not group.has_run_before
    assert rank.rlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY
    with limits_of(rank) as met:
        while not group.advance().done:
            pass
    assert any(2**30 < limit < 2**40 for limit in met)
    assert rank.rlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY
    group.prepare(job_of(config))
    assert group.has_run_before


def test_the_steps_of_a_probe_have_the_room_of_a_trials_in_a_new_process_too(groups, quick_config, job_of):
    config = quick_config(per_device_batch_size=4)
    config = limited(config, gib=4.0)
    group = groups(config)
    with limits_of(psutil.Process(group._processes[0].pid)) as met:
        group.probe(job_of(config))
    preparing, training = (limit for limit in met if limit != resource.RLIM_INFINITY)
    assert training > preparing, "stacks of threads that the model's loading started are reserved, not used"


def test_an_interpreter_that_fails_itself_is_out_of_memory_where_there_is_a_limit():
    before = resource.getrlimit(resource.RLIMIT_DATA)
    assert not is_out_of_memory(SystemError("error return without exception set"))
    resource.setrlimit(resource.RLIMIT_DATA, (2**40, before[1]))
    try:
        assert is_out_of_memory(SystemError("error return without exception set"))
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def test_a_pause_comes_after_the_same_step_on_all_ranks_and_nothing_is_lost(
    groups, quick_config, job_of, run_in, tmp_path
):
    config = quick_config(dp=2, per_device_batch_size=4, epochs=6)
    once = config.objective.model_copy(update={"evaluations": 1})  # many seconds away, on a fast machine too
    config = config.model_copy(update={"objective": once})
    wanted, asked = threading.Event(), []

    def is_wanted() -> bool:
        """From the third question on, which is a second after the ranks have begun."""
        asked.append(wanted.is_set())
        return sum(asked) > 2

    group = groups(config, pause_wanted=is_wanted)
    whole = run_in(group, job_of(config))
    group.prepare(job_of(config))
    wanted.set()
    paused = group.advance()
    assert paused.paused and not paused.done
    assert 0 < paused.step < whole.evaluations[0].step
    group.checkpoint(tmp_path / "state")
    wanted.clear()
    asked.clear()
    group.prepare(replace(job_of(config), resume_from=tmp_path / "state"))
    rest = [group.advance()]
    while not rest[-1].done:
        rest.append(group.advance())
    steps = [step.loss for progress in (paused, *rest) for step in progress.steps]
    assert steps + [one.metrics["eval/loss"] for one in rest] == whole.losses


def test_the_processes_of_a_driver_that_is_gone_are_found_and_ended(tmp_path):
    mark = "from pathlib import Path; from sweeper.training.ranks.processes import leave_mark"
    program = f"{mark}; import sys, time; leave_mark(Path(sys.argv[1])); print(flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        bystander = next(tmp_path.iterdir())
        (tmp_path / f"{bystander.name.rpartition('-')[0]}-1").write_text("0")  # a number taken by another
        assert reap(tmp_path) == [process.pid]
        assert process.wait(timeout=HANGS_AFTER_S) == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []
    assert reap(tmp_path) == []


def test_a_neighbour_that_only_lost_its_connection_is_not_the_cause():
    victim = Failure(TrialLostError("RuntimeError: Connection closed by peer"))
    dead = Failure(TrialLostError("rank 1 died"), is_gone=True)
    out = Failure(TrialOutOfMemoryError("no memory"))
    assert str(root_cause([victim, dead])) == "rank 1 died"
    assert root_cause([victim, dead, out]) is out.error


def test_a_rank_in_which_rays_own_threads_find_no_memory_has_run_out_of_it():
    said = "rank 1 died; its log ends with: [low_level_alloc.cc : 569] RAW: mmap error: 12"
    assert ran_out_of_memory(said)
    assert not ran_out_of_memory(said + "5")  # another error


def test_the_last_words_are_those_of_the_rank(tmp_path):
    (tmp_path / "log.txt").write_text("zero\n")
    (tmp_path / "log-rank-1.txt").write_text("\n".join(f"line {n}" for n in range(100_000)) + "\n\n")
    assert last_lines(tmp_path / "log.txt", 0) == "zero"
    assert last_lines(tmp_path / "log.txt", 1).endswith("line 99998 | line 99999")
    assert last_lines(tmp_path / "log.txt", 1, after=log_size(tmp_path / "log.txt", 1)) == ""
    assert last_lines(tmp_path / "log.txt", 2) == ""
    assert log_size(tmp_path / "log.txt", 2) == 0


def test_a_state_that_finds_no_room_leaves_nothing_half_written_and_the_run_goes_on(
    rank, quick_config, job_of, small_disk
):
    config = quick_config(epochs=2)
    rank.prepare(job_of(config))
    rank.advance()
    with pytest.raises(
        CheckpointError, match=r"(?s)could not be written to .*this rank's part needs 0\.\d+ GiB"
    ):
        rank.checkpoint(small_disk / "state")
    assert list(small_disk.iterdir()) == []
    assert rank.advance().metrics["eval/loss"] > 0
    rank.stop()


def test_a_crash_of_native_code_under_a_limit_of_memory_is_told_as_memory(tmp_path):
    log = tmp_path / "log.txt"
    frames = "".join(f'  File "a.py", line {n} in f\n' for n in range(40))
    log.write_text(f"Fatal Python error: Segmentation fault\n\n{frames}Extension modules: {'numpy, ' * 99}\n")
    said = last_lines(log, 0)
    assert said.startswith("Fatal Python error: Segmentation fault | ") and "numpy" not in said
    assert ran_out_of_memory(said, limited=True) and not ran_out_of_memory(said)

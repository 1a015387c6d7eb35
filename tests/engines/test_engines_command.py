"""One command as one trial: what comes of it, and how each way to fail is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from fake_trainers import HEAD, LEARNS, loaded, write_engine_space
from waiting import eventually

from sweeper.commands import run_sweep
from sweeper.commands.train import train_config
from sweeper.engines import CommandEngine, reap_commands
from sweeper.engines.files import TrialPlace
from sweeper.engines.guard import tagged
from sweeper.errors import (
    SpaceFileError,
    TrialDivergedError,
    TrialFailedError,
    TrialLostError,
    TrialOutOfMemoryError,
    UserError,
)
from sweeper.sweep.recovery import recover
from sweeper.training import Job


@pytest.fixture
def run(tmp_path):
    """Runs a script as a trial to its end; what was told of it."""
    engines = []

    def to_the_end(script=LEARNS, pause_wanted=lambda: False, job=None, **changes):
        config = loaded(write_engine_space(tmp_path, script, **changes)).close({})
        job = job or a_job(tmp_path, config)
        engine = CommandEngine(config.engine, pause_wanted=pause_wanted)
        engines.append(engine)
        told = [engine.prepare(job)]
        while len(told) == 1 or not (told[-1].done or told[-1].paused):
            told.append(engine.advance())
        return engine, *told

    yield to_the_end
    for engine in engines:
        engine.shut_down()


def a_job(folder, config):
    (folder / "logs").mkdir(exist_ok=True)
    return Job(
        config=config,
        cache_dir=folder / "cache",
        data_dir=folder / "cache",
        log_file=folder / "logs" / "log.txt",
        checkpoints=folder / "checkpoints",
        progress_file=folder / "progress.json",
        working_dir=folder,
    )


def test_a_trial_is_its_evaluations_and_its_end_on_the_axis_of_rows(run, tmp_path):
    engine, prepared, *evaluations, end = run()
    assert [(one.step, one.tokens) for one in evaluations] == [(1, 8), (2, 16), (3, 24)]
    assert (prepared.total_steps, prepared.total_tokens) == (3, 24), "by the epochs that are to come"
    assert [one.metrics for one in evaluations][-1] == {"eval/loss": pytest.approx((0.9 + 1 / 8) / 3)}
    assert [step.loss for one in (*evaluations, end) for step in one.steps] == pytest.approx(
        [1 + 1.025, 1 + 1.025 / 2, 1 + 1.025 / 3]
    )
    assert end.done and end.metrics == {} and end.best.step == 3
    engine.save_model(tmp_path / "model")
    assert (tmp_path / "model" / "model.txt").is_file()


PRINTS = 'print(f"eval step={step} loss={loss(step)}")'


def test_a_pattern_in_the_output_is_enough(run):
    script = LEARNS.replace("    tell(", f"    {PRINTS}; (lambda **_: None)(")
    metrics = {"stdout": r"eval step=(?P<step>\d+) loss=(?P<eval_loss>\S+)"}
    _, _, *evaluations, _ = run(script, engine__metrics=metrics)
    assert [one.step for one in evaluations] == [1, 2, 3]


FAILING = {
    "no result": ("print('hello')", UserError, ["ended with status 0 and without a result", "hello"]),
    "another metric": (
        "tell(step=1, eval_acc=1)",
        UserError,
        ["not in jsonl", "it has eval/acc"],
    ),
    "status": ("sys.exit('lr is too large')", TrialFailedError, ["ended with status 1", "lr is too large"]),
    "signal": ("os.kill(os.getpid(), 11)", TrialLostError, ["ended by signal 11"]),
    "killed": ("os.kill(os.getpid(), 9)", TrialLostError, ["was killed (status 137)"]),
    "a rank was killed": ("sys.exit('exitcode : -9 (pid: 3)')", TrialLostError, ["was killed"]),
    "memory": ("raise MemoryError", TrialOutOfMemoryError, ["MemoryError"]),
    "limit": ("x = bytearray(2**30)", TrialOutOfMemoryError, ["MemoryError"]),
    "nan": (
        "tell(step=1, eval_loss=float('nan'))",
        TrialDivergedError,
        ["at step 1: eval/loss nan"],
    ),
    "lost": ("tell(step=2, loss=float('inf'))", TrialDivergedError, ["diverged at step 2: train/loss inf"]),
    "hangs": ("print('waiting', flush=True); time.sleep(99)", TrialLostError, ["for 1s"]),
}


@pytest.mark.parametrize("how", FAILING)
def test_a_command_that_fails_says_how(run, how):
    line, kind, said = FAILING[how]
    with pytest.raises(kind) as failed:
        more = {"limit": {"resources__memory_limit_gib": 0.5}, "hangs": {"engine__silent_after": "1s"}}
        run(f"{HEAD}{line}\n", **more.get(how, {}))
    assert all(one in str(failed.value) for one in said), str(failed.value)


def test_the_command_has_the_variables_that_resources_env_asks_for(tmp_path):
    script = f"{HEAD}tell(step=1, eval_loss=float(os.environ['SEEN']))\n"
    job = a_job(tmp_path, loaded(write_engine_space(tmp_path, script)).close({}))
    engine = CommandEngine(job.config.engine, variables={"SEEN": "0.5"})
    engine.prepare(job)
    assert engine.advance().metrics["eval/loss"] == 0.5
    engine.stop()


def test_a_program_that_is_not_there_is_refused_before_there_is_a_folder(tmp_path):
    file = write_engine_space(tmp_path, engine__command="no-such-trainer {config}")
    with pytest.raises(SpaceFileError, match="no such program on PATH") as refused:
        run_sweep(file, out=tmp_path / "sweep")
    assert f"{file}:1:" in str(refused.value)
    assert not (tmp_path / "sweep").exists()


def test_out_of_memory_splits_the_batch_otherwise_and_leaves_it_as_large(run, tmp_path):
    script = LEARNS.replace(
        "for step", 'if config["per_device_train_batch_size"] > 1: raise MemoryError\nfor step'
    )
    job = a_job(tmp_path, loaded(write_engine_space(tmp_path, script)).close({}))
    for rows, passes in ((4, 2), (2, 4)):
        training = job.config.training
        assert (training.per_device_batch_size, training.gradient_accumulation_steps) == (rows, passes)
        with pytest.raises(TrialOutOfMemoryError) as failed:
            run(script, job=job)
        job, setback = recover(job, failed.value)
        assert setback.out_of_memory and f"now per_device_batch_size {rows // 2}" in setback.reason
    *_, end = run(script, job=job)
    assert end.done and end.tokens == 24
    assert '"gradient_accumulation_steps": 8' in (tmp_path / "logs" / "engine.json").read_text()


def test_without_names_for_the_batch_out_of_memory_is_the_end_and_says_what_would_help(run, tmp_path):
    names = {"lr": "learning_rate", "epochs": "num_train_epochs"}
    job = a_job(tmp_path, loaded(write_engine_space(tmp_path, engine__names=names)).close({}))
    with pytest.raises(TrialFailedError, match="with names for per_device_batch_size"):
        recover(job, TrialOutOfMemoryError("no room"))


RESUMES = (
    HEAD
    + """
begin = int(config.get("resume", "0").rpartition("-")[2])
for step in range(begin + 1, 4):
    (out / f"checkpoint-{step}").mkdir()
    if step == 2 and not begin:
        os.kill(os.getpid(), 9)
    tell(step=step, eval_loss=loss(step))
"""
)


def test_a_trainer_goes_on_from_its_newest_state_and_without_one_begins_anew(run, tmp_path):
    resume = {"state": "{out}/checkpoint-*", "key": "resume"}
    job = a_job(tmp_path, loaded(write_engine_space(tmp_path, RESUMES, engine__resume=resume)).close({}))
    with pytest.raises(TrialLostError):
        run(RESUMES, job=job, engine__resume=resume)
    _, prepared, *evaluations, _ = run(RESUMES, job=job, engine__resume=resume)
    assert prepared.model_notes == ("the command goes on from checkpoint-2",)
    assert [one.step for one in evaluations] == [1, 3], "the first is read again from what is there"
    with pytest.raises(TrialLostError):
        run(RESUMES, job=job)  # without engine.resume nothing of before is left
    assert sorted(one.name for one in (tmp_path / "checkpoints" / "out").iterdir()) == [
        "checkpoint-1",
        "checkpoint-2",
        "log.jsonl",
    ]


def test_a_state_without_the_file_that_is_written_last_is_none(tmp_path):
    resume = {"state": "{out}/checkpoint-*/trainer_state.json", "key": "resume", "value": "{folder}"}
    config = loaded(write_engine_space(tmp_path, engine__resume=resume)).close({})
    place = TrialPlace(a_job(tmp_path, config), config.engine)
    for step in (8, 16, 32):
        (place.out / f"checkpoint-{step}").mkdir(parents=True)
        if step < 32:
            (place.out / f"checkpoint-{step}" / "trainer_state.json").touch()
    place.write(place.newest_state())
    written = json.loads((tmp_path / "logs" / "engine.json").read_text())
    assert written["resume"] == str(place.out / "checkpoint-16")


def test_a_wish_to_stop_ends_the_command(run):
    _, _, end = run(f"{HEAD}time.sleep(99)\n", pause_wanted=lambda: True)
    assert end.paused and end.tokens == 0


LEAVES = (
    HEAD
    + """
child = "import time; time.sleep(99)"
subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
tell(step=1, eval_loss=1.0)
if config["width"] == 8:
    time.sleep(99)
"""
)


def test_what_a_command_has_started_ends_with_it_with_the_trial_and_with_whoever_started_it(run, tmp_path):
    """Also where it has a session of its own, as the ranks of torchrun have."""
    tag = str(tmp_path / "checkpoints" / "out")
    job = a_job(tmp_path, loaded(write_engine_space(tmp_path, LEAVES)).close({}))
    engine = CommandEngine(job.config.engine)
    engine.prepare(job)
    assert len(tagged(tag)) == 2
    engine.stop()
    assert not tagged(tag)

    engine.prepare(job)
    job.progress_file.unlink()  # the driver has ended the trial, and nobody calls the engine any more
    assert eventually(lambda: not tagged(tag))

    *_, end = run(LEAVES.replace("== 8", "== 99"))
    assert end.done and not tagged(tag)

    program = f"""
import sys, time
sys.path[:0] = {[*sys.path]!r}
from pathlib import Path
from test_engines_command import a_job, CommandEngine, loaded, write_engine_space, LEAVES
folder = Path({str(tmp_path)!r})
job = a_job(folder, loaded(folder / "space.yaml").close({{}}))
engine = CommandEngine(job.config.engine)
engine.prepare(job)
print("ready", flush=True)
time.sleep(99)
"""
    write_engine_space(tmp_path, LEAVES)
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert owner.stdout.readline() == "ready\n"
    assert len(tagged(tag)) == 2
    owner.kill()
    owner.wait()
    assert eventually(lambda: not tagged(tag))


def test_what_an_earlier_driver_has_left_is_found_by_the_sweeps_folder(tmp_path):
    environment = {**os.environ, "SWEEPER_ENGINE": str(tmp_path / "trials" / "0" / "out")}
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"], env=environment)
    assert eventually(lambda: tagged(str(tmp_path), prefix=True))
    assert reap_commands(tmp_path / "trials" / "1") == 0
    assert reap_commands(tmp_path) == 1
    assert left.wait() == -signal.SIGKILL


def test_an_answer_is_trained_by_its_command_and_gives_the_same_value(tmp_path):
    file = write_engine_space(tmp_path, training=None, engine__values={"width": 16})
    result = train_config(file, output_dir=tmp_path / "out")
    assert result.metrics["eval/loss"] == pytest.approx((0.9 + 1 / 16) / 3)
    assert (tmp_path / "out" / "model.txt").is_file()

"""A whole sweep over a fake command, killed in its middle and resumed."""

from __future__ import annotations

import os
import signal

import pytest
from driver_process import Driver, facts_of
from fake_trainers import HEAD, write_engine_space
from waiting import eventually

from sweeper.commands import best_export, open_sweep, resume_sweep, run_sweep, sweep_state, train_config
from sweeper.commands.report import sweep_material
from sweeper.engines.guard import tagged
from sweeper.errors import UserError
from sweeper.recommend.compare import SweepSide
from sweeper.search import TrialState
from sweeper.space import SweepFolder
from sweeper.track import read_trials, tracking_uri

pytestmark = pytest.mark.usefixtures("running_ray")

TRIALS = 6
OFTEN = (
    HEAD
    + """
here, number = Path(__file__).parent, out.parent.parent.name
size = config["per_device_train_batch_size"]
if number == "1" and size == 4:
    raise MemoryError
for step in (1, 2, 3):
    tell(step=step, epoch=step * config["num_train_epochs"] / 3, loss=loss(step), eval_loss=loss(step))
    if number == "3" and step == 2 and not (here / "once").exists():
        (here / "once").touch()
        os.kill(os.getpid(), 9)
    if number == "4" and (here / "hold").exists():
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"], start_new_session=True)
        (here / "in-the-middle").touch()
        time.sleep(99)
if number == "5":
    sys.exit("five is not mine")
(out / "model.txt").write_text(str(loss(3)))
"""
)
"""Out of memory at first in trial 1, killed once in trial 3, held in trial 4 for as long as a test needs."""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("engine")


@pytest.fixture(scope="module")
def sweep(home):
    """Undisturbed by any end of its driver."""
    file = write_engine_space(home, OFTEN, search__trials=TRIALS)
    return run_sweep(file, out=home / "undisturbed")


def test_its_answer_is_compared_by_the_trainers_own_keys_and_is_no_export(sweep, home):
    side = SweepSide("one", sweep_material(home / "undisturbed"))
    assert "engine.values.width" in side.flat
    assert side.mapped(side.flat) == (dict(side.best.values), ())
    with pytest.raises(UserError, match=r"an engine ran these\n.*engine\.json"):
        best_export(home / "undisturbed", fmt="trl")


def test_trials_of_a_command_are_a_sweep_like_any_other(sweep):
    states = [one.state for one in sweep.trials]
    assert len(states) == TRIALS and set(states) <= {TrialState.COMPLETE, TrialState.FAIL}
    assert [one.is_default for one in sweep.trials] == [True] + [False] * (TRIALS - 1)
    assert sweep.best.value == min(one.value for one in sweep.trials if one.state is TrialState.COMPLETE)
    assert all(len(one.evaluations) == 3 for one in sweep.trials)
    assert sweep.trials[5].state is TrialState.FAIL
    assert "ended with status 1; its output ends with: five is not mine" in sweep.trials[5].reason


def test_one_was_killed_and_one_was_out_of_memory_and_both_came_to_their_end(sweep):
    (small,), (killed,) = (sweep.trials[number].attributes["setbacks"] for number in (1, 3))
    assert (
        small["out_of_memory"]
        and "now per_device_batch_size 2, gradient_accumulation_steps 4" in small["reason"]
    )
    assert "was killed (status 137)" in killed["reason"] and "retry 1 of 2" in killed["reason"]


def test_mlflow_has_each_evaluation_of_a_trial_once_and_the_values_by_their_names(sweep):
    tracked = read_trials(tracking_uri(sweep.space.settings, sweep.folder.root), "fake")
    for trial, mirror in zip(sweep.trials, tracked, strict=True):
        ledger = [(one.tokens, one.metrics["eval/loss"]) for one in trial.evaluations]
        if trial.number != 3:  # which was begun anew, and measured twice what it had measured
            assert mirror.history["eval/loss"] == ledger
        assert float(mirror.params["width"]) == trial.values["width"]


def test_the_answer_is_trained_again_by_the_command_and_gives_the_same_value(sweep, tmp_path):
    result = train_config(sweep.folder.best_config, output_dir=tmp_path / "model")
    assert result.metrics["eval/loss"] == result.promised == sweep.best.value
    model = sweep.folder.trial_model(sweep.best.number) / "model.txt"
    assert (tmp_path / "model" / "model.txt").read_text() == model.read_text()


def test_only_the_best_trials_files_stay_and_each_trial_keeps_what_its_command_was_given(sweep):
    models = [one.number for one in sweep.trials if sweep.folder.trial_model(one.number).exists()]
    assert models == [sweep.best.number]
    assert not any(sweep.folder.trial_checkpoints(one.number).exists() for one in sweep.trials)
    assert all((sweep.folder.trial_dir(one.number) / "engine.json").is_file() for one in sweep.trials)


def test_a_driver_that_is_killed_leaves_no_process_and_the_sweep_ends_in_the_same_trials(sweep, home):
    folder = SweepFolder(home / "killed")
    (home / "hold").touch()
    (home / "once").unlink()
    driver = Driver("run", home / "space.yaml", "--out", folder.root)
    assert eventually((home / "in-the-middle").exists)
    out = str(folder.trial_checkpoints(4).absolute() / "out")
    assert len(tagged(out)) == 2
    os.killpg(driver.process.pid, signal.SIGKILL)
    driver.end()
    (home / "hold").unlink()
    assert sweep_state(open_sweep(folder)[1], folder) == "interrupted"
    again = resume_sweep(folder.root)
    assert not tagged(out)
    assert facts_of(again) == facts_of(sweep)

"""Autotuning before the quality search, on real ranks."""

from __future__ import annotations

import re

import pytest
from driver_process import Driver

from sweeper.autotune import Tuning
from sweeper.commands import autotune as tuning
from sweeper.commands import autotune_file, open_sweep, run_sweep
from sweeper.errors import TrialOutOfMemoryError, UserError
from sweeper.search import TrialState
from sweeper.space import SYSTEM, Config, SweepFolder, read_record
from sweeper.training import Job

pytestmark = pytest.mark.usefixtures("running_ray")


@pytest.fixture(scope="module")
def space_file(tmp_path_factory, write_space):
    folder = tmp_path_factory.mktemp("space")
    return write_space(
        folder,
        checkpoint_path=str(folder / "sweeps" / "small"),
        search__trials=2,
        training__per_device_batch_size="auto",
        training__gradient_accumulation_steps=[1, 4],
        deepspeed={"zero_stage": "auto", "gradient_checkpointing": "auto", "offload": "auto"},
    )


@pytest.fixture(scope="module")
def sweep(space_file, tmp_path_factory):
    return run_sweep(space_file, out=tmp_path_factory.mktemp("sweeps") / "tuned")


def tunings_of(result) -> list[Tuning]:
    _, ledger = open_sweep(result.folder)
    return [read_record(Tuning, one) for one in ledger.sweep_attributes()["tunings"]]


def test_a_shape_is_measured_once_in_four_probes_at_most_before_the_first_trial(sweep):
    (tuning,) = tunings_of(sweep)
    assert 1 <= len(tuning.probes) <= 4
    speeds = {one.levers: one.tokens_per_s for one in tuning.probes if one.tokens_per_s is not None}
    assert speeds[tuning.levers] >= 0.99 * max(speeds.values())
    assert tuning.speed.tokens_per_s == speeds[tuning.levers]
    assert tuning.made_s < min(trial.evaluations[0].time_s for trial in sweep.trials)


def test_every_trial_trains_as_was_measured_at_the_global_batch_that_was_asked_for(sweep):
    (tuning,) = tunings_of(sweep)
    for trial in sweep.trials:
        assert trial.state is TrialState.COMPLETE
        training = trial.attributes["config"]["training"]
        asked = 8 * trial.values["gradient_accumulation_steps"]
        assert training["global_batch_size"] == asked
        assert training["per_device_batch_size"] * training["gradient_accumulation_steps"] == asked
        assert training["per_device_batch_size"] <= tuning.levers.per_device_batch_size
        assert trial.attributes["config"]["deepspeed"]["zero_stage"] == tuning.levers.zero_stage == 0


def test_every_trial_has_its_predicted_and_its_measured_peak(sweep):
    for trial in sweep.trials:
        measured = max(one.metrics["perf/peak_memory_gib"] for one in trial.evaluations)
        assert measured > trial.attributes["idle_memory_gib"] > 0.2
        assert trial.attributes["predicted_memory_gib"] == pytest.approx(measured, abs=0.08)
    assert re.search(r"predicted within 0\.\d\d GiB, ", sweep.folder.results_markdown.read_text())


def test_the_next_sweep_of_the_shape_finds_it_and_fresh_measures_again(sweep, space_file):
    (before,) = tunings_of(sweep)
    space, (found,) = autotune_file(space_file)
    assert space.measured == SYSTEM - {"training.packing"}
    assert (found.made_s, found.levers) == (before.made_s, before.levers)
    _, (again,) = autotune_file(space_file, fresh=True)
    assert again.made_s > before.made_s


class _Group:
    """Processes that have room for their first probe alone."""

    def __init__(self, config: Config) -> None:
        self.jobs, self.ended = 0, False

    @property
    def has_run_before(self) -> bool:
        return self.jobs > 1

    def memory_gib(self) -> tuple[float, float]:
        return 0.5, 10.0

    def should_recycle(self) -> bool:
        return False

    def probe(self, job: Job) -> str:
        self.jobs += 1
        if self.has_run_before or job.steps == 1:
            raise TrialOutOfMemoryError("the allocator has no more")
        return f"probed in {self}"

    def shut_down(self) -> None:
        self.ended = True


def test_what_does_not_fit_into_processes_that_probed_before_has_one_more_try_in_new_ones(
    quick_config, tmp_path, monkeypatch
):
    made: list[_Group] = []
    monkeypatch.setattr(tuning, "new_group", lambda config, say: made.append(_Group(config)) or made[-1])
    config = quick_config()
    bench = tuning.ProbeWorkers(config, SweepFolder(tmp_path), print)
    assert bench.probe(config) == f"probed in {made[0]}"
    assert bench.probe(config) == f"probed in {made[1]}"
    assert made[0].ended and len(made) == 2
    bench.close()
    with pytest.raises(TrialOutOfMemoryError):
        bench.probe(config, steps=1)
    assert len(made) == 3 and all(one.ended for one in made)


def test_no_room_for_the_lightest_way_is_said_with_numbers_before_anything_is_trained(space_file):
    with pytest.raises(UserError, match=r"nothing fits into it.*needs 0\.\d+ GiB") as caught:
        autotune_file(space_file, overrides=["resources.memory_limit_gib=0.5"])
    said = str(caught.value)
    idle_gib = float(re.search(r"over its idle process of (\S+),", said)[1])
    limit_gib = float(re.search(r"a memory_limit_gib of (\S+),", said)[1])
    assert idle_gib + 0.05 < limit_gib < idle_gib + 0.5


def test_an_interrupted_tuning_leaves_no_process_and_exits_with_130(space_file, tmp_path):
    driver = Driver(
        "run", str(space_file), "--out", str(tmp_path / "cut"), "--set", "training.max_seq_len=64"
    )
    driver.until("autotune: measuring")
    driver.process.send_signal(2)
    assert driver.end() == 130
    assert "Traceback" not in driver.said

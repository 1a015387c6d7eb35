"""Metrics are read while they are written, each once and under our names."""

from __future__ import annotations

import json

import pytest

from sweeper.engines.metrics import reader_of
from sweeper.space import EngineMetrics


def read(tmp_path, **metrics):
    log = tmp_path / "log.txt"
    log.touch()
    return reader_of(EngineMetrics(**metrics), {"out": str(tmp_path)}, log, logged_before=log.stat().st_size)


def test_json_lines_are_read_as_they_come_and_a_half_one_later(tmp_path):
    reader, file = read(tmp_path, jsonl="{out}/log.jsonl"), tmp_path / "log.jsonl"
    assert reader.read() == []
    file.write_text(
        'no json\n{"step": 4, "epoch": 0.5, "eval_loss": 1.5, "lr": NaN, "text": "x"}\n{"step": 8, '
    )
    (point,) = reader.read()
    assert (point.step, point.epoch, point.metrics["eval/loss"]) == (4, 0.5, 1.5)
    assert point.metrics["train/lr"] != point.metrics["train/lr"], "what is no number is told as such"
    with file.open("a") as log:
        log.write('"eval_loss": 1.25}\n')
    assert [one.metrics for one in reader.read()] == [{"eval/loss": 1.25}]
    assert reader.read() == []


def test_output_is_searched_for_a_pattern_after_what_earlier_commands_printed(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("step 1 loss 9\n")
    metrics = EngineMetrics(stdout=r"step (?P<step>\d+) loss (?P<eval_loss>\S+)")
    reader = reader_of(metrics, {}, log, logged_before=log.stat().st_size)
    with log.open("a") as more:
        more.write("hello\nstep 2 loss 1.5e-1\nstep 3 loss nan\n")
    first, second = reader.read()
    assert (first.step, first.metrics) == (2, {"eval/loss": 0.15})
    assert second.metrics["eval/loss"] != second.metrics["eval/loss"]


def test_a_trainer_state_is_read_from_whichever_folder_is_newest_each_entry_once(tmp_path):
    reader, log = read(tmp_path, hf="{out}"), [{"step": 1, "loss": 2.0, "epoch": 0.5}]
    for number in (1, 2):
        log.append({"step": number, "eval_loss": 1.0 / number, "epoch": number / 2})
        folder = tmp_path / f"checkpoint-{number}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(json.dumps({"max_steps": 2, "log_history": log}))
        new = [one for one in reader.read() if "eval/loss" in one.metrics]
        assert [(one.step, one.metrics["eval/loss"], one.total_steps) for one in new] == [
            (number, 1 / number, 2)
        ]
    (tmp_path / "trainer_state.json").write_text("{")
    assert reader.read() == []


def test_event_files_of_tensorboard_are_read_as_they_grow(tmp_path):
    files = pytest.importorskip("tensorboard.summary.writer.event_file_writer")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    reader = read(tmp_path, tensorboard="{out}/runs", names={"eval/loss": "eval/eval gpt_loss"})
    assert reader.read() == []
    writer = files.EventFileWriter(str(tmp_path / "runs" / "trial"))
    for step in (1, 2):
        scalars = {"eval/eval gpt_loss": 1.0 / step, "train/lr": 0.5}
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        writer.add_event(Event(step=step, summary=Summary(value=values)))
        writer.flush()
        (point,) = reader.read()
        assert (point.step, point.metrics) == (step, {"eval/loss": 1.0 / step, "train/lr": 0.5})
    writer.close()


@pytest.mark.slow
def test_runs_of_mlflow_are_read_by_the_trials_own_experiment(tmp_path):
    from mlflow import MlflowClient
    from warm_processes import empty_store

    store = tmp_path / "mlflow.db"
    store.write_bytes(open(empty_store(), "rb").read())  # noqa: PTH123, SIM115
    uri = f"sqlite:///{store}"
    reader = read(tmp_path, mlflow=uri)
    assert reader.read() == []
    client = MlflowClient(tracking_uri=uri)
    run = client.create_run(client.create_experiment(str(tmp_path))).info.run_id
    client.log_metric(run, "eval_loss", 0.5, step=3)
    (point,) = reader.read()
    assert (point.step, point.metrics) == (3, {"eval/loss": 0.5})
    assert reader.read() == []

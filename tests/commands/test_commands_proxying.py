"""A real sweep that searches with a smaller model: ledger, answer, MLflow, status."""

from __future__ import annotations

import json
import shutil

import pytest
from mlflow_content import assert_equal_to_ledger, mlflow_content

from sweeper.commands import open_sweep, rows, run_sweep, train_config
from sweeper.commands.more import what_is_left
from sweeper.data import gather_facts, model_folder, prepare, prepared_folder
from sweeper.recommend import phase_line, results_rows, summary_line, sweep_status, transfer_line
from sweeper.search import TrialState
from sweeper.space import load_space, on_proxy, proxy_lr_factor, real_config, require_closed
from sweeper.track import tracking_uri

pytestmark = pytest.mark.usefixtures("running_ray")

TRIALS = 3


@pytest.fixture(scope="module")
def small_model(tmp_path_factory):
    """A sibling of half the packaged model's width that knows nothing, with its tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM, set_seed

    packaged, folder = model_folder("builtin:quickstart"), tmp_path_factory.mktemp("models") / "small"
    shutil.copytree(packaged, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = AutoConfig.from_pretrained(packaged)
    config.hidden_size, config.intermediate_size, config.head_dim = 64, 160, 16
    set_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def space_file(tmp_path_factory, write_space, small_model):
    return write_space(
        tmp_path_factory.mktemp("space"),
        training={
            "lr": {"log_uniform": [1e-3, 1e-1]},
            "scheduler": "constant",
            "epochs": 1,
            "per_device_batch_size": 8,
            "max_seq_len": 96,
        },
        search={
            "trials": TRIALS,
            "sampler": "random",
            "stopper": "none",
            "proxy": {"model_path": str(small_model), "top": 1},
        },
    )


@pytest.fixture(scope="module")
def sweep(space_file, tmp_path_factory):
    return run_sweep(space_file, out=tmp_path_factory.mktemp("sweeps") / "first")


def test_the_best_and_the_rules_of_thumb_of_the_smaller_model_train_with_the_real_one(sweep, small_model):
    small, real = sweep.trials[:TRIALS], sweep.trials[TRIALS:]
    assert all(one.state is TrialState.COMPLETE for one in sweep.trials)
    best = min(small, key=lambda one: one.value).number
    assert [one.real_of for one in real] == [best, *([0] if best else [])]
    models = [one.attributes["config"]["model_path"] for one in sweep.trials]
    assert models == [str(small_model)] * TRIALS + ["builtin:quickstart"] * len(real)
    factor = proxy_lr_factor(sweep.space)
    assert 1.5 < factor < 2
    for one in small:
        assert one.attributes["config"]["training"]["lr"] == one.values["lr"] * factor
    assert sweep.best.number in [one.number for one in real]
    kept = [one.number for one in sweep.trials if sweep.folder.trial_model(one.number).is_dir()]
    assert kept == [sweep.best.number]


def test_each_model_is_measured_untrained_once_and_the_real_ones_value_is_told(sweep):
    measured = [one.number for one in sweep.trials if one.untrained is not None]
    assert measured == [0, TRIALS]
    values = [sweep.trials[number].untrained.metrics["eval/loss"] for number in measured]
    assert values[0] != values[1] == sweep.untrained
    assert f"(untrained model: {values[1]:.4g})" in summary_line(
        sweep.space, sweep.trials, untrained=sweep.untrained
    )


def test_table_sentence_and_status_say_which_phase_a_trial_is_of_and_how_the_order_held(sweep):
    table = results_rows(sweep.space, sweep.trials)
    real = len(sweep.trials) - TRIALS
    assert [row["phase"] for row in table] == ["real"] * real + ["proxy"] * TRIALS
    assert [row["rank"] for row in table] == [*range(1, real + 1), *[None] * TRIALS]
    status = json.loads(json.dumps(sweep_status(sweep.space, sweep.trials, "finished")))
    assert status["best"] == sweep.best.number and status["proxy"]["phase"] == "real"
    assert [one["phase"] for one in status["trials"]] == ["proxy"] * TRIALS + ["real"] * real
    assert status["proxy"]["compared"] == real - 1 and len(status["proxy"]["pairs"]) == real
    assert phase_line(sweep.space, sweep.trials).startswith(f"phase real: {real} of {real} begun have ended")
    line = transfer_line(sweep.space, sweep.trials)
    assert (line is not None) == (real > 1) and (line or "") in sweep.folder.results_markdown.read_text()
    early = sweep.trials[:2]
    assert phase_line(sweep.space, early).startswith(
        f"phase proxy: 2 of {TRIALS} trials on the smaller model"
    )
    log = (sweep.folder.logs_dir / "driver.log").read_text()
    assert "(the rules of thumb, on the proxy)" in log and "on the real thing)" in log


def test_mlflow_tags_each_run_with_its_phase(sweep):
    uri = tracking_uri(sweep.space.settings, sweep.folder.root)
    assert_equal_to_ledger(uri, sweep.folder.root)
    content = mlflow_content(uri, sweep.space.experiment)
    parent = content.pop(sweep.space.name)
    assert parent["tags"]["best_trial"] == str(sweep.best.number)
    tags = {one["tags"]["trial"]: one["tags"] for one in content.values()}
    for trial in sweep.trials:
        own = tags[str(trial.number)]
        assert own["phase"] == ("proxy" if trial.is_proxy else "real")
        assert own.get("real_of") == (None if trial.real_of is None else str(trial.real_of))
        assert ("trained_lr" in own) == trial.is_proxy


def test_the_answer_reaches_its_value_and_needs_no_proxy(sweep, tmp_path):
    answer = load_space(sweep.folder.best_config, gather=gather_facts)
    require_closed(answer)
    assert not answer.settings.search.proxy.is_wanted
    provenance = answer.close({}).provenance
    assert provenance["trial"] == sweep.best.number and provenance["trials"] == TRIALS
    assert provenance["proxy"]["pairs"][0]["value"] == sweep.trials[TRIALS].value
    own = train_config(sweep.folder.best_config, output_dir=tmp_path / "own")
    assert own.metrics["eval/loss"] == own.promised == sweep.best.value


def test_a_sweep_that_goes_on_looks_at_the_rows_of_both_and_knows_what_is_left(sweep, monkeypatch):
    space, ledger = open_sweep(sweep.folder)
    looked_at = []

    def looking(*asked):
        looked_at.append(prepared_folder(*asked))
        return looked_at[-1]

    monkeypatch.setattr(rows, "prepared_folder", looking)
    rows.require_same_rows(space, ledger, sweep.folder, pytest.fail)
    tags = ledger.sweep_attributes()["tags"]
    assert [one.name for one in looked_at] == [tags["fingerprint.proxy_data"], tags["fingerprint.data"]]
    said = what_is_left(space, ledger)
    real = len(sweep.trials) - TRIALS
    assert said[1] == f"{real} of the proxy's best have ended on the real thing"
    assert said[2].startswith("there is nothing left to begin")


def test_a_share_of_the_rows_is_always_the_same_part_of_them_and_the_held_out_ones_stay(
    write_space, tmp_path
):
    space = load_space(write_space(tmp_path, search={"proxy": {"rows": 0.3}}), gather=gather_facts)
    config = real_config(space, {})
    whole, part = (prepare(one, tmp_path / "cache") for one in (config, on_proxy(space, config)))
    seen = [{data.train.row(i)[0].tobytes() for i in range(data.train.rows)} for data in (whole, part)]
    assert part.train.rows == round(0.3 * whole.train.rows) and seen[1] <= seen[0]
    assert (part.eval.ids == whole.eval.ids).all() and (part.eval.mask == whole.eval.mask).all()
    assert prepare(on_proxy(space, config), tmp_path / "again").content == part.content

"""Whole sweeps on real Ray, Optuna, DeepSpeed and MLflow."""

from __future__ import annotations

import json

import pytest
from board_files import event_curves, wandb_curves, wandb_runs
from driver_process import facts_of
from mlflow_content import assert_equal_to_ledger, mlflow_content

import sweeper
from sweeper.commands import newest_sweep, open_sweep, resume_sweep, run_sweep, sweep_state, train_config
from sweeper.data import gather_facts
from sweeper.errors import SpaceFileError, SweepFolderError, SweepInterruptedError
from sweeper.search import TrialState
from sweeper.space import SweepFolder, load_space, require_closed
from sweeper.track import read_trials, run_name, tracking_uri
from sweeper.training import STARTUP
from sweeper.training.ranks.processes import marked

pytestmark = pytest.mark.usefixtures("running_ray")

TRIALS = 4
NAME = "学习率扫描"
OTHER_ROWS = "may not be reached again"


@pytest.fixture(scope="module")
def space_file(tmp_path_factory, write_space):
    return write_space(tmp_path_factory.mktemp("space"), search__trials=TRIALS)


@pytest.fixture(scope="module")
def sweep(space_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("sweeps") / "first"
    return run_sweep(space_file, out=out)


def test_every_trial_that_was_asked_for_is_in_the_ledger_the_default_first(sweep):
    assert [trial.number for trial in sweep.trials] == list(range(TRIALS))
    assert all(trial.state is TrialState.COMPLETE for trial in sweep.trials)
    assert [trial.is_default for trial in sweep.trials] == [True, False, False, False]
    assert all(len(trial.evaluations) == 3 for trial in sweep.trials)


def test_training_improves_on_the_untrained_model_which_was_measured_once(sweep):
    assert sweep.best.value < sweep.untrained
    assert sweep.best.value == min(trial.value for trial in sweep.trials)


def test_all_trials_trained_in_one_warm_process(sweep):
    assert len(marked(sweep.folder.processes_dir)) == 1
    assert all(trial.attributes["startup_s"] > 0 for trial in sweep.trials)


def test_the_answer_is_a_space_file_with_nothing_open_and_its_evidence(sweep):
    answer = load_space(sweep.folder.best_config, gather=gather_facts)
    require_closed(answer)
    config = answer.close({})
    assert config.training.lr == sweep.best.values["lr"]
    provenance = config.provenance
    assert provenance["value"] == sweep.best.value
    assert provenance["default_value"] == sweep.trials[0].value
    assert provenance["trial"] == sweep.best.number
    assert provenance["trials"] == TRIALS
    assert set(provenance["fingerprints"]) == {"data", "model"}
    assert {"torch", "deepspeed", "ray", "optuna"} <= set(provenance["versions"])
    (note,) = provenance["model_notes"]
    assert note.startswith("rows go through LlamaForCausalLM one after another, each as it is alone")
    assert f"model: {note}\n" in sweep.folder.trial_log(sweep.best.number).read_text()


def test_each_trial_leaves_its_configuration_its_log_and_its_deepspeed_configuration(sweep):
    for trial in sweep.trials:
        config = load_space(sweep.folder.trial_config(trial.number), gather=gather_facts).close({})
        assert config.training.lr == trial.values["lr"]
        ds = json.loads(sweep.folder.trial_ds_config(trial.number).read_text())
        assert ds["gradient_accumulation_steps"] == trial.values["gradient_accumulation_steps"]
        assert sweep.folder.trial_log(trial.number).is_file()


def test_the_rows_were_tokenized_once_while_the_workers_started_and_by_none_of_them(sweep):
    said = (sweep.folder.logs_dir / "driver.log").read_text()
    assert said.count("the rows were tokenized in") == 1


def test_mlflow_has_one_parent_and_a_child_for_each_trial_with_the_ledgers_curves(sweep):
    (warning,) = sweep.warnings
    assert "16 held-out rows" in warning and "may be chance" in warning
    tracked = read_trials(tracking_uri(sweep.space.settings, sweep.folder.root), "small")
    assert [(trial.number, trial.status) for trial in tracked] == [(n, "FINISHED") for n in range(TRIALS)]
    for trial, mirror in zip(sweep.trials, tracked, strict=True):
        ledger = [(e.tokens, e.metrics["eval/loss"]) for e in trial.evaluations]
        untrained = [(0, sweep.untrained)] if trial.number == 0 else []
        assert mirror.history["eval/loss"] == untrained + ledger
        assert len(mirror.history["train/loss"]) == trial.attributes["total_steps"]
        assert float(mirror.params["lr"]) == pytest.approx(trial.values["lr"])
        assert {"state", "fingerprint.data", "fingerprint.model", "version.torch"} <= set(mirror.tags)


def test_the_folder_is_found_again_and_needs_no_data(sweep):
    space, ledger = open_sweep(SweepFolder(sweep.folder.root))
    assert space == sweep.space
    assert sweep_state(ledger, sweep.folder) == "finished"
    assert newest_sweep(sweep.folder.root.parent)[1].root == sweep.folder.root


@pytest.fixture(scope="module")
def more(space_file, tmp_path_factory):
    """Half as many trials, which is a whole sweep, under a name in another script; then the others."""
    home = tmp_path_factory.mktemp("sweeps")
    overrides = [f"search.trials={TRIALS // 2}", f"name={NAME}", "tracking.also=[tensorboard, wandb]"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        for variable in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
            patch.setenv(variable, str(home / variable))
        half = run_sweep(space_file, overrides=overrides, out=home / NAME)
        answer = half.folder.best_config.read_text()
        return half, answer, resume_sweep(home / NAME, trials=TRIALS)


def test_the_same_seed_gives_the_same_trials_and_losses_to_the_last_bit_also_to_a_sweep_that_gets_more(
    sweep, more
):
    half, _, whole = more
    assert facts_of(half) == facts_of(sweep)[: TRIALS // 2]
    assert facts_of(whole) == facts_of(sweep)
    assert whole.ended == f"all {TRIALS} trials were run" and whole.warnings == sweep.warnings


def test_what_a_sweep_got_is_in_its_folder_its_answer_and_mlflow(sweep, more):
    _, answer, whole = more
    space, ledger = open_sweep(whole.folder)
    assert (space.settings.search.trials, len(ledger.trials())) == (TRIALS, TRIALS)
    assert whole.folder.best_config.read_text() != answer
    assert whole.folder.results_csv.read_text().count("\n") == TRIALS + 1
    uri = tracking_uri(space.settings, whole.folder.root)
    parent = mlflow_content(uri, NAME)[NAME]
    assert [value for _, value, _ in parent["history"]["best"]][-1] == sweep.best.value
    assert parent["status"] == "FINISHED" and parent["tags"]["best_trial"] == str(sweep.best.number)
    assert_equal_to_ledger(uri, whole.folder.root)


def test_the_boards_have_a_run_for_each_trial_of_both_drivers_and_each_metric_once(more):
    _, _, whole = more
    events, runs = event_curves(whole.folder.root / "tensorboard"), wandb_runs(whole.folder.root / "wandb")
    assert len(events) == len(runs) == TRIALS
    assert {run["group"] for run in runs.values()} == {NAME}
    by_name = {run["name"]: run for run in runs.values()}
    for trial in whole.trials:
        run = by_name[run_name(whole.space, trial.number, trial.values)]
        curves = wandb_curves(run)
        untrained = [] if trial.untrained is None else [(0, trial.untrained.metrics["eval/loss"])]
        expected = [(one.tokens, one.metrics["eval/loss"]) for one in trial.evaluations]
        assert curves["eval/loss"] == untrained + expected
        assert len(curves["train/loss"]) == trial.attributes["total_steps"]
        assert (run["summary"]["state"], run["exit_code"]) == ("COMPLETE", 0)
        (event,) = (one for name, one in events.items() if name.startswith(f"{trial.number}-"))
        assert {name: len(curve) for name, curve in curves.items()} == {
            name: len(curve) for name, curve in event.items() if name != STARTUP
        }


def test_training_the_answer_keeps_its_promise_to_the_last_bit(sweep, tmp_path):
    from transformers import AutoModelForCausalLM

    result = train_config(sweep.folder.best_config, output_dir=tmp_path / "model")
    assert result.metrics["eval/loss"] == result.promised == sweep.best.value
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "model").num_parameters() > 1e6
    assert OTHER_ROWS not in SweepFolder(tmp_path / "model-train").driver_log.read_text()


def test_training_the_answer_on_other_rows_says_so_before_it_begins(sweep, tmp_path, monkeypatch):
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sweeper.commands.train._Run.to_the_end", interrupted)
    with pytest.raises(SweepInterruptedError):
        train_config(sweep.folder.best_config, overrides=["eval_data=0.1"], output_dir=tmp_path / "model")
    assert OTHER_ROWS in SweepFolder(tmp_path / "model-train").driver_log.read_text()


def test_a_sweep_is_loaded_as_it_was_returned(sweep):
    loaded = sweeper.load(sweep.folder.root)
    assert (loaded.trials, loaded.best, loaded.untrained) == (sweep.trials, sweep.best, sweep.untrained)
    assert (loaded.space, loaded.ended) == (sweep.space, sweep.ended)
    with pytest.raises(SweepFolderError):
        sweeper.load(sweep.folder.root / "trials")


def test_a_folder_that_is_taken_is_refused_with_the_way_on(sweep, space_file):
    with pytest.raises(SweepFolderError, match="sweeper resume"):
        run_sweep(space_file, out=sweep.folder.root)


def test_training_refuses_what_is_open(space_file, tmp_path):
    with pytest.raises(SpaceFileError, match="lr"):
        train_config(space_file, output_dir=tmp_path / "model")


def test_a_diverged_trial_fails_with_its_reason_and_the_others_go_on(write_space, tmp_path):
    file = write_space(
        tmp_path,
        training__lr=[1e-3, 10.0],
        training__scheduler="constant",
        training__gradient_accumulation_steps=1,
        training__max_grad_norm=0,
        training__epochs=3,
        search__sampler="grid",
    )
    result = run_sweep(file, out=tmp_path / "sweep")
    by_lr = {trial.values["lr"]: trial for trial in result.trials}
    assert len(result.trials) == 2  # the grid is smaller than the number of trials asked for
    assert by_lr[1e-3].state is TrialState.COMPLETE
    assert by_lr[10.0].state is TrialState.FAIL
    assert "diverged at step" in by_lr[10.0].reason
    assert result.best.values["lr"] == 1e-3


def test_a_sweep_by_exact_match_finds_the_rate_that_answers(write_space, tmp_path):
    """Rows whose answer is always the same: one rate learns it, the other leaves the model as it was."""
    rows = [json.dumps({"prompt": f"Say a colour, {name}", "completion": "blue"}) for name in range(40)]
    (tmp_path / "train.jsonl").write_text("\n".join(rows[:32]))
    (tmp_path / "eval.jsonl").write_text("\n".join(rows[32:]))
    file = write_space(
        tmp_path,
        data_path=str(tmp_path / "train.jsonl"),
        eval_data=str(tmp_path / "eval.jsonl"),
        training={
            "lr": [1e-6, 3e-3],
            "scheduler": "constant",
            "epochs": 10,
            "per_device_batch_size": 8,
            "max_seq_len": 96,
        },
        objective={"metric": "eval/exact_match", "evaluations": 1},
        search={"sampler": "grid", "trials": 2},
        evaluation={"max_new_tokens": 8},
    )
    result = run_sweep(file, out=tmp_path / "sweep")
    assert {trial.values["lr"]: trial.value for trial in result.trials} == {1e-6: 0, 3e-3: 1}
    assert result.best.values["lr"] == 3e-3
    assert result.untrained == 0
    assert "eval/exact_match 1" in result.folder.results_markdown.read_text()
    tracked = read_trials(tracking_uri(result.space.settings, result.folder.root), "small")
    mirror = next(trial for trial in tracked if trial.number == result.best.number)
    assert [value for _, value in mirror.history["eval/exact_match"]][-1] == 1
    assert "eval/perplexity" in mirror.history and "perf/generation_s" in mirror.history

"""A real sweep of two objectives through the commands: its front everywhere, its answers, its end after a
resume."""

from __future__ import annotations

import json
import sys

import pytest
from driver_process import facts_of
from mlflow_content import mlflow_content
from ruamel.yaml import YAML

from sweeper.cli import main
from sweeper.commands import load_sweep, run_sweep, sync_sweep
from sweeper.search import TrialState, front_of, second_of
from sweeper.track import run_name, tracking_uri

pytestmark = pytest.mark.usefixtures("running_ray")

TRIALS = 5


@pytest.fixture(scope="module")
def space_file(tmp_path_factory, write_space):
    """Few rows and one epoch or two: what differs is what it costs."""
    return write_space(
        tmp_path_factory.mktemp("space"),
        training={
            "lr": {"log_uniform": [1e-4, 1e-2]},
            "epochs": [0.5, 1, 2],
            "per_device_batch_size": 8,
            "max_seq_len": 96,
        },
        objective=["eval/loss", "tokens"],
        search={"trials": TRIALS, "seed": 1, "stopper": "none"},
    )


def call(*arguments: object) -> int:
    """The console script in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["sweeper", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


@pytest.fixture(scope="module")
def root(space_file, tmp_path_factory):
    """Three trials, and then the others."""
    out = tmp_path_factory.mktemp("sweeps") / "front"
    assert call("run", space_file, "--out", out, "--trials", 3) == 0
    assert call("resume", out, "--trials", TRIALS) == 0
    return out


def test_status_marks_the_front_in_its_table_and_for_programs(root, capsys):
    sweep = load_sweep(root)
    objective = sweep.space.settings.objective
    front = [one.number for one in front_of(sweep.trials, objective)]
    assert all(one.state is TrialState.COMPLETE for one in sweep.trials) and len(front) >= 2
    assert call("status", root, "--json") == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["objectives"], status["pareto"]) == (["eval/loss", "tokens"], front)
    assert [one["also"] for one in status["trials"]] == [
        float(one.attributes["total_tokens"]) for one in sweep.trials
    ]
    assert call("status", root) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {int(line[1]) for line in lines if "yes" in line} == set(front)


def test_best_prefers_what_it_is_told_to_and_says_why(root, capsys, tmp_path):
    sweep = load_sweep(root)
    front = front_of(sweep.trials, sweep.space.settings.objective)
    answers = {}
    for prefer in ("loss", "cost", "knee"):
        assert call("best", root, "--prefer", prefer) == 0
        answers[prefer] = capsys.readouterr().out
        provenance = YAML(typ="safe").load(answers[prefer])["provenance"]
        assert provenance["prefer"] == prefer and provenance["trial"] in [one.number for one in front]
        assert [one["trial"] for one in provenance["front"]] == [one.number for one in front]
        assert {"torch", "optuna"} <= set(provenance["versions"]) and provenance["fingerprints"]["data"]
    assert answers["loss"] == sweep.folder.best_config.read_text()
    cheap = YAML(typ="safe").load(answers["cost"])["provenance"]
    assert cheap["value"] <= cheap["default_value"] and cheap["also_value"] <= cheap["default_also_value"]
    assert call("best", root, "--prefer", "knee", "--format", "deepspeed") == 0
    number = YAML(typ="safe").load(answers["knee"])["provenance"]["trial"]
    exported, trained = (
        json.loads(text)
        for text in (capsys.readouterr().out, sweep.folder.trial_ds_config(number).read_text())
    )
    assert exported["optimizer"]["params"]["lr"] == sweep.trials[number].values["lr"]
    for key in ("train_batch_size", "gradient_accumulation_steps", "gradient_clipping"):
        assert exported[key] == trained[key]
    (tmp_path / "knee.yaml").write_text(answers["knee"])
    assert call("validate", tmp_path / "knee.yaml") == 0


def test_mlflow_has_both_objectives_and_the_front_also_of_what_was_closed_before(root):
    sweep = load_sweep(root)
    objective, uri = sweep.space.settings.objective, tracking_uri(sweep.space.settings, root)
    front = [one.number for one in front_of(sweep.trials, objective)]
    content = mlflow_content(uri, "small")
    assert content["small"]["tags"]["pareto_trials"] == ", ".join(map(str, front))
    for one in sweep.trials:
        run = content[run_name(sweep.space, one.number, one.values)]
        assert run["tags"]["pareto"] == ("yes" if one.number in front else "no")
        assert [value for _, value, _ in run["history"]["cost/tokens"]] == [second_of(one, objective)]
        assert run["history"]["eval/loss"][-1][1] == one.value
    sync_sweep(root)
    assert mlflow_content(uri, "small") == content


def test_a_sweep_that_goes_on_ends_in_the_trials_and_the_front_of_one_that_was_never_interrupted(
    root, space_file, tmp_path
):
    whole, parts = run_sweep(space_file, out=tmp_path / "whole"), load_sweep(root)
    assert facts_of(parts) == facts_of(whole)
    fronts = [front_of(one.trials, one.space.settings.objective) for one in (parts, whole)]
    assert fronts[0] and [one.number for one in fronts[0]] == [one.number for one in fronts[1]]
    assert "Pareto front of eval/loss and tokens" in whole.folder.results_markdown.read_text()
    assert ",pareto," in whole.folder.results_csv.read_text()

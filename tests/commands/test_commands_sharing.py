"""Real sweeps whose trials take over what others have trained: every value is that of a trial by itself."""

from __future__ import annotations

import pytest
from mlflow_content import assert_equal_to_ledger, mlflow_content

from sweeper.commands import run_sweep
from sweeper.track import tracking_uri

pytestmark = pytest.mark.usefixtures("running_ray")

SPACE = {
    "training": {
        "lr": 2e-3,
        "scheduler": ["constant", "wsd"],
        "epochs": [1, 2, 3],
        "warmup_steps": 2,
        "per_device_batch_size": 8,
        "gradient_accumulation_steps": 1,
        "max_seq_len": 96,
    },
    "search": {"trials": 6, "seed": 0, "sampler": "grid", "stopper": "none"},
}


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory, write_space):
    """The same sweep with and without sharing."""
    root, done = tmp_path_factory.mktemp("sweeps"), {}
    for share, name in ((True, "shared"), (False, "alone")):
        tree = {**SPACE, "name": name, "search": {**SPACE["search"], "share": share}}
        done[share] = run_sweep(write_space(tmp_path_factory.mktemp("space"), **tree), out=root / name)
    return done


def test_half_of_the_tokens_are_saved_and_each_value_is_that_of_a_trial_by_itself(sweeps):
    shared, alone = sweeps[True].trials, sweeps[False].trials
    assert [one.values for one in shared] == [one.values for one in alone]
    for mine, whole in zip(shared, alone, strict=True):
        assert (mine.state, mine.value) == (whole.state, whole.value)
        found = {one.tokens: dict(one.metrics) for one in whole.evaluations}
        for one in mine.evaluations:
            assert {k: v for k, v in one.metrics.items() if k.startswith("eval/")} == {
                k: v for k, v in found[one.tokens].items() if k.startswith("eval/")
            }
    total = sum(one.attributes["total_tokens"] for one in shared)
    saved = sum(one.attributes["saved_tokens"] for one in shared)
    assert saved >= total / 2
    assert not any("saved_tokens" in one.attributes for one in alone)
    assert sweeps[True].best.number == sweeps[False].best.number


def test_mlflow_and_the_results_have_what_was_taken_over(sweeps):
    sweep = sweeps[True]
    uri = tracking_uri(sweep.space.settings, sweep.folder.root)
    assert_equal_to_ledger(uri, sweep.folder.root)
    runs = {run["tags"].get("forked_from") for run in mlflow_content(uri, sweep.space.experiment).values()}
    assert (
        runs - {None}
        == {str(one.forked_from) for one in sweep.trials if one.forked_from is not None}
        != set()
    )
    saved = sum(one.saved_tokens for one in sweep.trials)
    assert f"{saved:,} training tokens" in sweep.folder.results_markdown.read_text()


def test_no_state_for_others_stays_when_all_have_run(sweeps):
    folder = sweeps[True].folder
    assert not [state for one in sweeps[True].trials for state in folder.trial_left(one.number).glob("*")]
    assert not any(one.attributes.get("warnings") for one in sweeps[True].trials)

"""Trials of different mixtures: each has its own rows, and none takes over what another has trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.space import Facts, Settings, SweepFolder, load_space
from sweeper.sweep.sharing import Sharing, Start
from sweeper.sweep.trial_files import TrialFiles

FACTS = Facts(train_rows=2000, eval_rows=100, accelerator="cpu", devices=1, cpus=2, source_rows=(1500, 500))


@pytest.fixture
def space_of(tmp_path):
    def gather(settings: Settings) -> Facts:
        return FACTS

    def make(data_path: str):
        file = tmp_path / "space.yaml"
        file.write_text(f"name: t\nmodel_path: m\ndata_path: {data_path}\ntraining: {{epochs: [1, 2, 3]}}\n")
        return load_space(file, gather=gather)

    return make


def test_no_training_is_shared_between_mixtures(space_of, tmp_path):
    def shares(data_path: str) -> bool:
        return Sharing(space_of(data_path), None, SweepFolder(tmp_path), rows=None).is_possible

    assert shares("[a, {path: b, weight: 2}]")
    assert not shares("[a, {path: b, weight: [1, 2]}]")


def test_each_mixture_trains_on_rows_of_its_own(space_of, tmp_path):
    def folder(space, **values) -> Path:
        job = TrialFiles(space, SweepFolder(tmp_path)).job(
            0,
            space.close(values),
            Start(),
            data_dir=tmp_path / "rows",
            keeps_model=False,
            evaluate_untrained=False,
            retries=0,
            best_so_far=None,
        )
        return job.data_dir

    mixed = space_of("[a, {path: b, weight: [1, 2]}]")
    folders = {
        folder(mixed, **{"weight.b": weight, "epochs": epochs}) for weight in (1, 2) for epochs in (1, 2)
    }
    assert len(folders) == 2 and all(one.name.startswith("rows.mix-") for one in folders)
    assert folder(space_of("[a, {path: b, weight: 2}]")) == tmp_path / "rows"

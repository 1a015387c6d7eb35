"""The room's door: light to import, explicit about what is public."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import sweeper.space
from sweeper.space import SweepFolder


def test_everything_public_is_there():
    assert all(hasattr(sweeper.space, name) for name in sweeper.space.__all__)


def test_importing_it_brings_in_no_heavy_library():
    code = "import sys, sweeper.space; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {"torch", "transformers", "ray", "mlflow", "optuna", "datasets", "numpy", "rich", "deepspeed"}
    assert not heavy & set(loaded)


def test_a_sweeps_folder_names_everything_beneath_its_root():
    folder = SweepFolder(Path("sweeps/a"))
    assert folder.space_file == Path("sweeps/a/space.yaml")
    assert folder.trial_config(3) == Path("sweeps/a/trials/3/config.yaml")
    assert folder.trial_ds_config(3).name == "ds_config.json"
    assert folder.trial_log(3).name == "log.txt"
    assert folder.trial_steps(3).name == "steps.jsonl"
    assert folder.trial_checkpoints(3) == Path("sweeps/a/trials/3/checkpoints")
    assert folder.best_config.name == "best-config.yaml"
    assert folder.study_url == f"sqlite:///{Path('sweeps/a/study.db').absolute()}"
    parts = (folder.report, folder.cache_dir, folder.logs_dir, folder.trials_dir, folder.study_file)
    assert all(part.parent == folder.root for part in parts)

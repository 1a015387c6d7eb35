"""Where one trial of a command lies on the disk, and what it is given there."""

from __future__ import annotations

import json
import re
import shutil
from glob import escape as _escape
from glob import glob
from pathlib import Path

from sweeper.engines.processes import free_port
from sweeper.space import Engine, command_of, dump_config, placed, trainer_tree, write_whole
from sweeper.space.engine.tree import with_value
from sweeper.training import Job

__all__ = ["TrialPlace"]


class TrialPlace:
    """Beneath the folder of the trial's states: they come and go together."""

    def __init__(self, job: Job, engine: Engine) -> None:
        assert job.checkpoints is not None
        self._job, self._engine = job, engine
        self._home = job.checkpoints
        self.out = self._home / "out"
        self.tag = self.out
        self.leash = job.progress_file or job.log_file
        """While the driver looks after the trial, this file is there."""
        self.elapsed_file = self._home / "elapsed.json"
        self.logged_before = job.log_file.stat().st_size if job.log_file.exists() else 0
        self.places = {
            "out": str(self.out),
            "dp": str(job.config.parallel.dp),
            "port": str(free_port()),
        }

    @property
    def model(self) -> Path:
        return Path(str(placed(self._engine.model, self.places)))

    @property
    def rows_of_a_step(self) -> int:
        """Training rows; 1 where that is not known, so that steps are counted."""
        return self._job.config.training.global_batch_size if self._engine.knows_rows else 1

    @property
    def elapsed_s(self) -> float:
        """What the trial has taken before, where it goes on."""
        try:
            return float(json.loads(self.elapsed_file.read_bytes()))
        except (OSError, ValueError):
            return 0.0

    def newest_state(self) -> Path | None:
        """The trainer's own, from which it can go on."""
        resume = self._engine.resume
        if resume is None or not self._job.config.checkpoints.keep_last:
            return None
        pattern = re.sub(r"^\{out\}", _escape(str(self.out)), resume.state)
        found = [Path(one) for one in glob(pattern)]  # noqa: PTH207  # it may be absolute
        return max(found, key=_number_in, default=None)

    def make_ready(self, *, fresh: bool) -> None:
        """Nothing of an earlier attempt is left where the trial begins anew."""
        if fresh:
            shutil.rmtree(self.out, ignore_errors=True)
            self.elapsed_file.unlink(missing_ok=True)
        self.out.mkdir(parents=True, exist_ok=True)
        self._job.log_file.parent.mkdir(parents=True, exist_ok=True)
        self._job.log_file.touch()
        self.leash.touch()

    def write(self, state: Path | None) -> tuple[list[str], dict[str, str]]:
        """The trainer's file, and the words and variables of its command."""
        engine = self._job.config.engine or self._engine
        tree = trainer_tree(engine, self._job.config)
        if state is not None and engine.resume is not None:
            value = placed(engine.resume.value, {"state": str(state), "folder": str(state.parent)})
            tree = with_value(tree, engine.resume.key, value)
        tree = placed(tree, self.places)
        file = self._job.log_file.with_name(f"engine.{engine.format}")
        is_json = engine.format == "json"
        write_whole(file, json.dumps(tree, indent=2) + "\n" if is_json else dump_config(tree))
        words, variables = command_of(engine, tree, file, self.places)
        threads = str(self._job.config.resources.cpus_per_rank)
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": self.places["port"]}
        metrics = engine.metrics
        tracking = {}
        if metrics.mlflow is not None:
            tracking = {"MLFLOW_TRACKING_URI": metrics.mlflow, "MLFLOW_EXPERIMENT_NAME": str(self.out)}
        shown = {"OMP_NUM_THREADS": threads, "PYTHONUNBUFFERED": "1"}
        if self._job.config.resources.memory_limit_gib is not None:
            shown["PYTHONFAULTHANDLER"] = "1"  # native code may crash where malloc gives it nothing
        return words, {**shown, **meeting, **tracking, **variables}


def _number_in(state: Path) -> tuple[int, str]:
    """``checkpoint-12`` comes after ``checkpoint-4``."""
    numbers = re.findall(r"\d+", state.name) or re.findall(r"\d+", state.parent.name)
    return int(numbers[-1]) if numbers else -1, state.name

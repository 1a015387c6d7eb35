"""Weights & Biases: a run for each trial, grouped by sweep, with training tokens as the step."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeper.track.boards.apart import ApartBoard, serve
from sweeper.track.boards.writer import Board, BoardTrial

__all__ = ["WeightsAndBiases", "wandb_apart"]

_INIT_S, _FINISH_S = 30.0, 60.0
"""How long the start of a run waits for the server, and its end for an upload: what is left then stays on the
disk for ``wandb sync``."""
_PROJECT_CHARACTERS = 128


class WeightsAndBiases(Board):
    """Online or offline as ``WANDB_MODE`` and wandb's other variables say."""

    def __init__(self, *, folder: str, project: str, group: str, sweep_id: str) -> None:
        """Imports wandb. The id of a run follows from the sweep's: a resumed sweep goes on with its runs."""
        import wandb

        self._wandb, self._folder = wandb, Path(folder)
        self._project = os.environ.get("WANDB_PROJECT") or project
        self._group, self._sweep_id = group, sweep_id
        self._runs: dict[int, Any] = {}

    def trial_started(self, trial: BoardTrial) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._runs[trial.number] = self._wandb.init(
            project=self._project,
            group=self._group,
            job_type="trial",
            id=f"{self._sweep_id[:12]}-{trial.number}",
            name=trial.name,
            config={**trial.params, "searched": list(trial.searched), **trial.tags},
            dir=str(self._folder),
            resume="allow",
            reinit="create_new",  # trials run side by side
            # Says nothing, and looks at nothing but what it is told.
            settings=self._wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                disable_code=True,
                disable_job_creation=True,
                x_disable_stats=True,
                x_disable_meta=True,
                init_timeout=_INIT_S,
                finish_timeout=_FINISH_S,
                finish_timeout_raises=True,
            ),
        )

    def log(self, number: int, tokens: int, values: Mapping[str, float], time_s: float) -> None:
        self._runs[number].log({**values, "_timestamp": time_s}, step=tokens)

    def trial_finished(
        self, number: int, state: str, reason: str | None, metrics: Mapping[str, float]
    ) -> None:
        run = self._runs.pop(number)
        run.summary.update({"state": state, **({"reason": reason} if reason else {}), **metrics})
        run.finish(exit_code=0 if state in ("COMPLETE", "PRUNED") else 1)

    def close(self) -> None:
        """Runs of a driver that was killed: a resumed sweep opens them again."""
        for run in self._runs.values():
            run.finish(exit_code=1)


def wandb_apart(folder: Path, *, project: str, group: str, sweep_id: str) -> Board:
    """The same in a process of its own."""
    project = re.sub(r"[/\\#?%:]", "-", project)[:_PROJECT_CHARACTERS]  # wandb refuses these characters
    settings = {"folder": str(folder.absolute()), "project": project, "group": group, "sweep_id": sweep_id}
    return ApartBoard(__name__, settings)


if __name__ == "__main__":
    serve(WeightsAndBiases)

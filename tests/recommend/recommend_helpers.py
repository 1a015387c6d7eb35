"""A space and trials made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sweeper.search import Evaluation, TrialRecord, TrialState
from sweeper.space import Facts, Settings, Space, load_space

SPACE = """\
name: demo
model_path: models/tiny
data_path: data.jsonl
training:
  lr: {log_uniform: [1.0e-6, 1.0e-2]}
  scheduler: [constant, linear, cosine]
  epochs: [1, 2, 3]
  lora: {rank: {choice: [8, 32]}, alpha: 16}
"""

FACTS = Facts(train_rows=2000, eval_rows=100, accelerator="cpu", devices=1, cpus=2)


def gather(settings: Settings) -> Facts:
    return FACTS


def make_space(folder: Path, text: str = SPACE) -> Space:
    path = folder / "space.yaml"
    path.write_text(text, encoding="utf-8")
    return load_space(path, gather=gather)


def trial(
    number: int,
    value: float | None,
    state: TrialState = TrialState.COMPLETE,
    *,
    tokens: int = 1000,
    is_default: bool = False,
    reason: str | None = None,
    **values: Any,
) -> TrialRecord:
    """A trial with one evaluation, or none where it has no value."""
    evaluation = Evaluation(tokens=tokens, step=10, seconds=1.5, metrics={"eval/loss": value or 0.0})
    return TrialRecord(
        number=number,
        state=state,
        values={"lr": 1e-4, "scheduler": "cosine", "epochs": 2.0, "lora.rank": 8, **values},
        value=value,
        evaluations=() if value is None else (evaluation,),
        reason=reason,
        seconds=2.25,
        is_default=is_default,
    )

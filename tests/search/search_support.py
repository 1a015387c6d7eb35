"""What the tests of this room share: made-up facts, two spaces, and a stand-in for training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sweeper.search import Evaluation, Ledger, TrialRecord, TrialState
from sweeper.space import Facts, Settings

FACTS = Facts(train_rows=2000, eval_rows=100, accelerator="cpu", devices=1, cpus=2)

MIXED = """
  lr: {log_uniform: [1.0e-6, 1.0e-2]}
  scheduler: [constant, linear, cosine, exponential, wsd]
  final_lr_ratio: {uniform: [0.0, 0.5], when: {scheduler: cosine}}
  epochs: [1, 2, 3]
  gradient_accumulation_steps: [1, 2, 4, 8]
  weight_decay: {choice: [0.0, 0.1]}
"""

DISCRETE = """
  lr: [1.0e-5, 1.0e-4, 1.0e-3]
  scheduler: [constant, cosine]
  final_lr_ratio: {choice: [0.0, 0.1], when: {scheduler: cosine}}
"""


def gather(settings: Settings) -> Facts:
    return FACTS


def evaluation(tokens: int, value: float, **others: float) -> Evaluation:
    metrics = {"eval/loss": value, **others}
    return Evaluation(tokens=tokens, step=tokens // 10, seconds=tokens / 1000, metrics=metrics)


def train(ledger: Ledger, record: TrialRecord, *losses: float) -> None:
    """Reports the losses at 100, 200, ... tokens and ends the trial."""
    for index, loss in enumerate(losses, start=1):
        ledger.report(record.number, evaluation(100 * index, loss))
    ledger.finish(record.number, TrialState.COMPLETE)


def sweep(ledger: Ledger, trials: int, loss: Callable[[dict[str, Any]], float]) -> list[dict[str, Any]]:
    """Asks and trains one trial after the other; gives back their values."""
    asked = []
    for _ in range(trials):
        record = ledger.ask()
        assert record is not None
        train(ledger, record, loss(record.values))
        asked.append(record.values)
    return asked

"""How many steps two runs have in common, to the last bit. Settings and arrays in, a number out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.data import SequenceSet, evaluation_steps, run_plan, tokens_after
from sweeper.space import Config, Training, lasting_tree, lr_multiplier

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["OF_THE_LENGTH", "TrainingPlan", "history_hash", "shared_steps", "training_plan"]

OF_THE_LENGTH = {
    "epochs",
    "scheduler",
    "final_lr_ratio",
    "warmup_ratio",
    "warmup_steps",
    "decay_ratio",
}
"""Fields of ``training`` that act on a step only by the multiplier of its learning rate, and by whether there
is such a step."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingPlan:
    """What a run will do, as far as its bits follow from it."""

    settings: str
    """Everything that a step follows from, apart from the multiplier of its learning rate: equal texts, equal
    steps. The split of the global batch is in it, since sums of floats depend on their order."""
    multipliers: NDArray[np.float64]
    """[steps]: of the learning rate, as the optimizer gets it."""
    tokens_after: NDArray[np.int64]
    """[steps]: training tokens seen after each."""
    evaluations: tuple[int, ...]
    """After how many steps the run is evaluated."""

    @property
    def steps(self) -> int:
        return len(self.multipliers)

    def tokens(self, step: int) -> int:
        """Training tokens seen after so many steps."""
        return int(self.tokens_after[step - 1]) if step else 0


def training_plan(config: Config, sequences: SequenceSet, rows: str) -> TrainingPlan:
    """The plan of a configuration; ``rows``: ``TokenizedData.content``. Raises what ``batch_plan`` raises."""
    after = tokens_after(run_plan(config, len(sequences.bins)), sequences.tokens)
    return TrainingPlan(
        settings=_settings(config, rows),
        multipliers=_multipliers(config.training, len(after)),
        tokens_after=after,
        evaluations=tuple(evaluation_steps(after, config.objective.evaluations)),
    )


def shared_steps(one: TrainingPlan, other: TrainingPlan) -> int:
    """After how many optimizer steps the two runs are still the same to the last bit: weights, optimizer and
    random generators. 0 where they differ from the first step."""
    if one.settings != other.settings:
        return 0
    steps = min(one.steps, other.steps)
    (differ,) = np.nonzero(one.multipliers[:steps] != other.multipliers[:steps])
    return int(differ[0]) if differ.size else steps


def history_hash(config: Config, rows: str, *, step: int, total_steps: int) -> str:
    """Equal for two runs that are the same to the last bit after ``step`` optimizer steps."""
    said = hashlib.sha256(_settings(config, rows).encode())
    said.update(_multipliers(config.training, total_steps)[:step].tobytes())
    return said.hexdigest()[:16]


def _settings(config: Config, rows: str) -> str:
    training = lasting_tree(config.training, "training")
    tree: dict[str, Any] = {
        "model_path": config.model_path,
        "rows": rows,
        "training": {name: value for name, value in training.items() if name not in OF_THE_LENGTH},
        "deepspeed": lasting_tree(config.deepspeed, "deepspeed"),
        "parallel": lasting_tree(config.parallel, "parallel"),
    }
    lora = config.training.lora
    if lora and isinstance(lora.targets, str):  # a text and a list name the same modules
        tree["training"]["lora"]["targets"] = [name.strip() for name in lora.targets.split(",")]
    return json.dumps(tree, sort_keys=True)


def _multipliers(training: Training, steps: int) -> NDArray[np.float64]:
    return _curve(
        steps,
        training.scheduler,
        training.warmup_ratio,
        training.decay_ratio,
        training.final_lr_ratio,
        training.warmup_steps,
    )


@lru_cache(maxsize=1024)
def _curve(
    steps: int,
    scheduler: Any,
    warmup_ratio: float,
    decay_ratio: float,
    final_ratio: float,
    warmup: int | None,
) -> NDArray[np.float64]:
    """By the very function that the optimizer's schedule calls: another may differ in the last bit."""
    values = [
        lr_multiplier(
            step,
            total_steps=steps,
            scheduler=scheduler,
            warmup_ratio=warmup_ratio,
            decay_ratio=decay_ratio,
            final_ratio=final_ratio,
            warmup=warmup,
        )
        for step in range(steps)
    ]
    return np.array(values, dtype=np.float64)

"""How much each trial of a space trains: what its open values change of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeper.space.checks import GROUPS
from sweeper.space.config.batch import optimizer_steps
from sweeper.space.config.config import Config, Parallel
from sweeper.space.space import Space

__all__ = ["TrialSize", "size_of", "trial_sizes"]


@dataclass(frozen=True, kw_only=True)
class TrialSize:
    """One trial, as far as it is known before rows are tokenized."""

    global_batch: int
    """Rows for one optimizer step; with packing, sequences."""
    epochs: float
    ranks: int
    """Processes."""
    steps: int
    """Optimizer steps; with packing, at most."""

    @property
    def rows(self) -> int:
        """Rows trained on, repeats counted; with packing, at most."""
        return self.steps * self.global_batch


def trial_sizes(space: Space) -> list[TrialSize]:
    """One for every combination of open values that changes how much is trained; of a continuous range
    its two ends."""
    flats = [space.attempt(values)[0] for values in space.combinations(GROUPS[2])]
    return [_size(flat, space.facts.train_rows) for flat in flats]


def size_of(config: Config, train_rows: int) -> TrialSize:
    """The size of one configuration over so many rows."""
    training = config.training
    flat = {
        "training.global_batch_size": training.global_batch_size,
        "training.epochs": training.epochs,
        **{f"parallel.{name}": getattr(config.parallel, name) for name in ("dp", "pp", "tp")},
    }
    return _size(flat, train_rows)


def _size(flat: Mapping[str, Any], train_rows: int) -> TrialSize:
    batch, epochs = flat["training.global_batch_size"], flat["training.epochs"]
    ranks = Parallel.model_validate({name: flat[f"parallel.{name}"] for name in ("dp", "pp", "tp")}).ranks
    if not (isinstance(batch, int) and isinstance(epochs, (int, float))):
        raise TypeError("a loaded space has whole batch sizes")
    steps = optimizer_steps(rows=train_rows, epochs=epochs, global_batch=batch)
    return TrialSize(global_batch=batch, epochs=epochs, ranks=ranks, steps=steps)

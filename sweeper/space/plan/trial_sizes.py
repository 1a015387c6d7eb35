"""How much each trial of a space trains: what its open values change of that."""

from __future__ import annotations

from dataclasses import dataclass

from sweeper.space.checks import GROUPS
from sweeper.space.config.batch import optimizer_steps
from sweeper.space.config.config import Config
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
    sizes = []
    for values in space.combinations(GROUPS[2]):
        flat, _ = space.attempt(values)
        ranks = flat["parallel.dp"] * flat["parallel.pp"] * flat["parallel.tp"]
        rows = space.train_rows_of(flat["data_path"])
        sizes.append(_size(flat["training.global_batch_size"], flat["training.epochs"], ranks, rows))
    return sizes


def size_of(config: Config, train_rows: int) -> TrialSize:
    """The size of one configuration over so many rows."""
    training = config.training
    return _size(training.global_batch_size, training.epochs, config.parallel.ranks, train_rows)


def _size(global_batch: int, epochs: float, ranks: int, train_rows: int) -> TrialSize:
    steps = optimizer_steps(rows=train_rows, epochs=epochs, global_batch=global_batch)
    return TrialSize(global_batch=global_batch, epochs=epochs, ranks=ranks, steps=steps)

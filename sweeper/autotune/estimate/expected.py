"""The peak of a trial before it is reached, from what is known of its model, its rows and earlier probes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sweeper.autotune.estimate.memory_model import Calibration, Memory, Workload, predict
from sweeper.autotune.estimate.workload import workload_of
from sweeper.autotune.tuning import Tuning
from sweeper.data import TokenizedData
from sweeper.errors import DataError
from sweeper.space import Config, ModelSizes

__all__ = ["PeakForecast"]


class PeakForecast:
    """Predicts trial after trial over the same rows."""

    def __init__(self, sizes: ModelSizes | None, data_dir: Path, tunings: Sequence[Tuning] = ()) -> None:
        self._sizes, self._data_dir = sizes, data_dir
        self._calibration = tunings[0].calibration if tunings else Calibration()
        self._works: dict[tuple[int, int, int], Workload] = {}

    def of(self, config: Config) -> Memory | None:
        """The peak of one rank over its idle process; None where sizes or rows are not known here."""
        if self._sizes is None:
            return None
        training = config.training
        split = (training.per_device_batch_size, training.gradient_accumulation_steps, config.parallel.dp)
        if split not in self._works:
            try:
                self._works[split] = workload_of(config, TokenizedData.open(self._data_dir))
            except DataError:  # the rows lie where the ranks are, and not here
                return None
        return predict(config, self._sizes, self._works[split], self._calibration)

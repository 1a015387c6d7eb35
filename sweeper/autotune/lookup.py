"""Which shapes a space has, and what earlier tunings say of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from sweeper.autotune.estimate.cost import Speed
from sweeper.autotune.estimate.memory_model import Calibration, Memory, Workload, predict
from sweeper.autotune.estimate.workload import pass_lengths, workload_of
from sweeper.autotune.tuning import Tuning, apart_from_resources, hardware_text, read_tuning, shape_text
from sweeper.data import TokenizedData
from sweeper.errors import DataError
from sweeper.space import (
    GROUPS,
    SYSTEM,
    Config,
    ModelSizes,
    Space,
    split_of,
    system_config_of,
    with_system,
    with_system_config,
)

__all__ = [
    "PeakForecast",
    "known_speed",
    "known_tunings",
    "left_to_measuring",
    "reusable",
    "shapes_of",
    "tuned",
]


def left_to_measuring(space: Space) -> frozenset[str]:
    """Paths of the system's fields that are written ``auto``; where none is, those that are not written."""
    return space.measured or SYSTEM & space.decided


def shapes_of(space: Space) -> list[Config]:
    """One configuration for each number of replicas: that with the largest global batch and adapters."""

    def size(config: Config) -> tuple[int, int]:
        lora = config.training.lora
        return config.training.global_batch_size, lora.rank if lora else 0

    largest: dict[int, Config] = {}
    for values in space.combinations({*GROUPS[2], "training.lora.rank"}):
        config = space.close(values)
        largest[config.parallel.dp] = max(largest.get(config.parallel.dp, config), config, key=size)
    return list(largest.values())


def reusable(
    config: Config, measured: frozenset[str], sizes: ModelSizes | None, data: TokenizedData
) -> tuple[Tuning | None, str]:
    """A tuning that was made before and holds here; else None, and why it is measured again, if there is one.

    For other rows the micro-batch becomes as many rows as make passes as full as before.
    """
    found = read_tuning(shape_text(config, measured))
    if found is None:
        return None, ""
    if found.hardware != hardware_text():
        return None, f"the known tuning of this shape was measured on other hardware ({found.hardware})"
    of_a_rank = config.training.global_batch_size // config.parallel.dp
    rows_then = found.levers.per_device_batch_size * found.levers.gradient_accumulation_steps
    if found.levers.per_device_batch_size == rows_then < of_a_rank:
        return None, "the known tuning of this shape was measured with a smaller global batch"
    if found.data == data.fingerprint:
        return found, ""
    mean_row = float(pass_lengths(config, data)[0].mean()) / config.training.per_device_batch_size
    rows, passes = split_of(config, max(1, round(found.pass_tokens / mean_row)))
    levers = dataclasses.replace(found.levers, per_device_batch_size=rows, gradient_accumulation_steps=passes)
    if sizes is not None:
        changed = with_system_config(config, **dataclasses.asdict(levers))
        need = predict(changed, sizes, workload_of(changed, data), found.calibration)
        if need.total_gib > found.room_gib:
            return None, "with these rows the known tuning of this shape would not fit"
    return dataclasses.replace(found, levers=levers, data=data.fingerprint), ""


def tuned(config: Config, tunings: Sequence[Tuning], measured: frozenset[str]) -> Config:
    """The configuration as fast as its shape was measured to be, in those fields that were left to it.

    ``tunings`` are those of one sweep, which keeps them: it may go on where a rank has other resources.
    """
    shape = apart_from_resources(shape_text(config, measured))
    found = next((one for one in tunings if apart_from_resources(one.shape) == shape), None)
    return config if found is None else with_system(config, found.levers, measured)


def known_tunings(space: Space) -> tuple[Tuning, ...]:
    """Those of the space's shapes that were made before on this hardware."""
    return tuple(tuning for _, tuning in _known(space))


def known_speed(space: Space) -> Speed | None:
    """How fast a trial of the space is on this hardware, where that was measured before."""
    for config, found in _known(space):
        if space.measured:
            return found.speed
        for one in found.probes:
            if one.levers == system_config_of(config) and one.tokens_per_s:
                return dataclasses.replace(found.speed, tokens_per_s=one.tokens_per_s, spread=one.spread)
    return None


class PeakForecast:
    """Predicts the peaks of trials over the same rows, from the model's sizes and earlier probes."""

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


def _known(space: Space) -> Iterator[tuple[Config, Tuning]]:
    """The space's shapes with the tunings that were made of them before, on this hardware."""
    if space.settings.engine is not None:
        return  # another trainer's speed is its own
    measured = left_to_measuring(space)
    for config in shapes_of(space):
        found = read_tuning(shape_text(config, measured))
        if found is not None and found.hardware == hardware_text():
            yield config, found

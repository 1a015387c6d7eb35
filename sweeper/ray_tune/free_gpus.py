"""GPUs of this machine that have memory free, whoever uses the others: Ray sees no processes but its own."""

from __future__ import annotations

import math
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sweeper.errors import UserError
from sweeper.space import Config

__all__ = ["Gpu", "free_gpus", "read_gpus"]

_QUERY = ("nvidia-smi", "--query-gpu=index,uuid,memory.free,memory.total", "--format=csv,noheader,nounits")
"""It comes with the driver, and needs no CUDA context, which would take memory itself, and no torch."""
_LOOK_EVERY_S, _SAY_EVERY_S = 5.0, 60.0
_MIB_PER_GIB = 1024


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU as the driver sees it at the moment."""

    index: int
    """In the driver's order, that of the PCI bus."""
    uuid: str
    free_gib: float
    total_gib: float


def free_gpus(
    config: Config, places: int, say: Callable[[str], None], sleep: Callable[[float], None] = time.sleep
) -> tuple[Gpu, ...]:
    """GPUs with ``min_free_gib`` free each, as many as ``places`` trials take, or fewer: those with the most
    free. Waits, and says so every minute, until there are enough for one trial.

    Raises UserError where there never will be, or nvidia-smi does not answer.
    """
    wanted, least = gpus_for(config, 1), config.resources.min_free_gib or 0.0
    waited_s = 0.0
    while True:
        gpus = _visible(read_gpus())
        _require_large_enough(gpus, wanted, least)
        free = [one for one in gpus if one.free_gib >= least]
        if len(free) >= wanted:
            most = sorted(free, key=lambda one: one.free_gib, reverse=True)[: gpus_for(config, places)]
            return tuple(sorted(most, key=lambda one: one.index))
        if waited_s % _SAY_EVERY_S == 0:
            say(f"waiting for {_gpus(wanted)} with {least:g} GiB free; {len(free)} free ({_told(gpus)})")
        sleep(_LOOK_EVERY_S)
        waited_s += _LOOK_EVERY_S


def gpus_for(config: Config, places: int) -> int:
    """GPUs that the ranks of so many trials take; a share of one lies on one GPU."""
    ranks, each = config.parallel.ranks * places, config.resources.gpus_per_rank
    if each < 1:
        return math.ceil(ranks / int(1 / each + 1e-9))
    return math.ceil(ranks * each)


def read_gpus() -> tuple[Gpu, ...]:
    """All GPUs of this machine. Raises UserError where nvidia-smi does not tell."""
    try:
        done = subprocess.run(_QUERY, capture_output=True, text=True, timeout=60, check=True)
        return tuple(_gpu(line) for line in done.stdout.splitlines() if line.strip())
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stdout", "") or str(error)).strip()
        raise UserError.of(
            where="resources.min_free_gib",
            value=" ".join(_QUERY[:2]),
            rule=f"what is free on the GPUs is not known: {said}",
            remedy="mend it (in a container: the driver's capability `utility`), or leave min_free_gib out",
        ) from error


def _gpu(line: str) -> Gpu:
    index, uuid, free, total = (part.strip() for part in line.split(","))
    return Gpu(
        index=int(index),
        uuid=uuid,
        free_gib=float(free) / _MIB_PER_GIB,
        total_gib=float(total) / _MIB_PER_GIB,
    )


def _visible(gpus: Sequence[Gpu]) -> list[Gpu]:
    """Those that ``CUDA_VISIBLE_DEVICES`` leaves, by number or by UUID or its beginning; as CUDA does, up to
    the first entry that names none."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return list(gpus)
    found: list[Gpu] = []
    for entry in named.split(","):
        name = entry.strip()
        one = next(
            (gpu for gpu in gpus if name == str(gpu.index) or (name and gpu.uuid.startswith(name))), None
        )
        if one is None:
            break
        found.append(one)
    return found


def _require_large_enough(gpus: Sequence[Gpu], wanted: int, least_gib: float) -> None:
    enough = sum(one.total_gib >= least_gib for one in gpus)
    if enough >= wanted:
        return
    sizes = ", ".join(f"GPU {one.index}: {one.total_gib:.1f} GiB" for one in gpus) or "no GPU"
    raise UserError.of(
        where="resources.min_free_gib",
        value=f"{least_gib:g}",
        rule=f"a trial takes {_gpus(wanted)} with so much free, and {enough} can ever have it ({sizes})",
        remedy="lower min_free_gib, or the GPUs of a trial (parallel.dp, resources.gpus_per_rank)",
    )


def _gpus(count: int) -> str:
    return f"{count} GPU{'s' * (count != 1)}"


def _told(gpus: Sequence[Gpu]) -> str:
    return ", ".join(f"GPU {one.index}: {one.free_gib:.1f} GiB" for one in gpus)

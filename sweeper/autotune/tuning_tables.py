"""Tunings and memory for people."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sweeper.autotune.estimate.memory_model import predict
from sweeper.autotune.estimate.workload import sampled_workload
from sweeper.autotune.lookup import known_tunings, shapes_of, tuned
from sweeper.autotune.tuning import Tuning
from sweeper.data import LengthSample
from sweeper.space import GROUPS, Space, split_of

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["system_rows", "tuning_tables", "tunings_tree"]

_MOST_LINES = 8


def tuning_tables(space: Space, tunings: tuple[Tuning, ...]) -> Iterator[RenderableType]:
    """The probes of each shape, what to write into the file, and how each trial's global batch is made."""
    from rich.table import Table
    from rich.text import Text

    for config, tuning in zip(shapes_of(space), tunings, strict=True):
        title = f"dp {config.parallel.dp}" if len(tunings) > 1 else None
        table = Table(
            "micro-batch", "ZeRO", "recompute", "offload", "tokens/s", "spread", "peak GiB", "predicted",
            title=title, title_justify="left",
        )  # fmt: skip
        for one in tuning.probes:
            levers, tokens_per_s = one.levers, one.tokens_per_s
            table.add_row(
                str(levers.per_device_batch_size),
                str(levers.zero_stage),
                "yes" if levers.gradient_checkpointing else "no",
                levers.offload,
                "does not fit" if tokens_per_s is None else f"{tokens_per_s:,.0f}",
                "" if tokens_per_s is None else f"{one.spread:.0%}",
                "" if one.measured_gib is None else f"{one.measured_gib:.2f}",
                "" if one.predicted_gib is None else f"{one.predicted_gib:.2f}",
                style="bold" if levers == tuning.levers else "",
            )
        yield table
        yield Text(_to_write(tuning))
    yield Text("\n".join(_batch_arithmetic(space, tunings)))


def tunings_tree(space: Space, tunings: tuple[Tuning, ...]) -> dict[str, Any]:
    """What ``sweeper autotune --json`` prints: ``{"name", "shapes": [{"dp", "global_batch_size",
    "tokens_per_s", "spread", "settings", "probes": [{"settings", "tokens_per_s", "measured_gib",
    "predicted_gib"}], "seconds"}], "batches"}``; ``tokens_per_s`` is null where a probe did not fit."""
    shapes = [
        {
            "dp": config.parallel.dp,
            "global_batch_size": tuning.global_batch_size,
            "tokens_per_s": tuning.speed.tokens_per_s,
            "spread": tuning.speed.spread,
            "settings": asdict(tuning.levers),
            "probes": [
                {
                    "settings": asdict(one.levers),
                    "tokens_per_s": one.tokens_per_s,
                    "measured_gib": one.measured_gib,
                    "predicted_gib": one.predicted_gib,
                }
                for one in tuning.probes
            ],
            "seconds": tuning.seconds,
        }
        for config, tuning in zip(shapes_of(space), tunings, strict=True)
    ]
    return {"name": space.name, "shapes": shapes, "batches": _batch_arithmetic(space, tunings)}


def _batch_arithmetic(space: Space, tunings: tuple[Tuning, ...]) -> list[str]:
    """One line for each global batch that trials have: asked, and how it is computed."""
    of_dp = {json.loads(one.shape)["parallel"]["dp"]: one for one in tunings}
    lines: dict[str, None] = {}
    for values in space.combinations(GROUPS[2]):
        config = space.close(values)
        tuning, training = of_dp.get(config.parallel.dp), config.training
        rows, passes = training.per_device_batch_size, training.gradient_accumulation_steps
        if tuning is not None:
            rows, passes = split_of(config, tuning.levers.per_device_batch_size)
        split = f"micro-batch {rows} x accumulation {passes} x dp {config.parallel.dp}"
        lines[f"global batch {training.global_batch_size} = {split}"] = None
    more = len(lines) - _MOST_LINES
    return [*list(lines)[:_MOST_LINES], *([f"... and {more} more"] if more > 0 else [])]


def system_rows(space: Space, sample: LengthSample | None) -> list[tuple[str, str]]:
    """What ``validate`` says of memory and of how global batches are made, as labels and values."""
    if space.settings.engine is not None:
        return []
    tunings = known_tunings(space) if space.measured else ()
    rows = [("memory", _memory(space, sample, tunings))]
    if space.measured:
        until = "until it is measured: `run` does, before its first trial"
        known = "as measured before" if tunings else until
        rows.append(("batches", "\n".join([*_batch_arithmetic(space, tunings), f"({known})"])))
    return rows


def _memory(space: Space, sample: LengthSample | None, tunings: tuple[Tuning, ...]) -> str:
    sizes, config = space.facts.sizes, space.close(space.default_values())
    if sizes is None or sample is None:
        return "unknown before the model and the rows are at hand"
    config, calibration = tuned(config, tunings, space.measured), tunings[0].calibration if tunings else None
    memory = predict(config, sizes, sampled_workload(config, sample), calibration)
    return f"about {memory} (a rank of the default trial, over its idle process)"


def _to_write(tuning: Tuning) -> str:
    levers = tuning.levers
    return (
        f"fastest: {tuning.speed.tokens_per_s:,.0f} real tokens/s; as a file says it:\n"
        f"  training: {{per_device_batch_size: {levers.per_device_batch_size}, "
        f"global_batch_size: {tuning.global_batch_size}}}\n"
        f"  deepspeed: {{zero_stage: {levers.zero_stage}, offload: {levers.offload}, "
        f"gradient_checkpointing: {str(levers.gradient_checkpointing).lower()}}}"
    )

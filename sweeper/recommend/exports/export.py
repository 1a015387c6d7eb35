"""A configuration with nothing open -> the file of another trainer: a pure function."""

from __future__ import annotations

from typing import Any, NamedTuple

from sweeper.errors import UserError
from sweeper.recommend.exports.axolotl import AXOLOTL
from sweeper.recommend.exports.consumer import Consumer, Note, Run
from sweeper.recommend.exports.deepspeed import DEEPSPEED
from sweeper.recommend.exports.llamafactory import LLAMAFACTORY
from sweeper.recommend.exports.ms_swift import MS_SWIFT
from sweeper.recommend.exports.openrlhf import OPENRLHF
from sweeper.recommend.exports.schedules import rising_steps
from sweeper.recommend.exports.trl import TRL
from sweeper.recommend.exports.trl_script import script_of
from sweeper.recommend.exports.writing import text_of
from sweeper.space import Config

__all__ = ["CONSUMERS", "SCHEDULE", "Exported", "exported", "keys_of", "on_gpus"]

CONSUMERS: dict[str, Consumer] = {
    one.name: one for one in (DEEPSPEED, TRL, OPENRLHF, LLAMAFACTORY, AXOLOTL, MS_SWIFT)
}


SCHEDULE = frozenset({"training.scheduler", "training.final_lr_ratio", "training.warmup_steps"})
"""A note about one of these says that learning rates are others than here."""


class Exported(NamedTuple):
    """What is written, and what it does not say."""

    text: str
    notes: tuple[Note, ...]
    script: str | None = None
    """A program beside the file; TRL's only."""


def exported(run: Run, consumer: Consumer) -> Exported:
    """The file of another trainer for a run."""
    keys, notes = keys_of(run, consumer)
    script = script_of(run) if consumer.name == "trl" else None
    return Exported(text_of(consumer, keys, _head(run, consumer, notes), notes), tuple(notes), script)


def keys_of(run: Run, consumer: Consumer) -> tuple[dict[str, Any], list[Note]]:
    """Their keys with values, dotted ones as sections where the file has such."""
    values = run.values
    special, notes = consumer.write(run)
    flat = {
        one.theirs: one.write(values[one.ours]) for one in consumer.keys if values.get(one.ours) is not None
    }
    if consumer.form != "json":
        return flat | special, notes
    for path, value in flat.items():
        *sections, last = path.split(".")
        place = special
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return special, notes


def on_gpus(config: Config, gpus: int, consumer: Consumer) -> Config:
    """The same global batch on so many GPUs: the largest micro-batch that is no larger than what it was.

    Raises UserError where no whole number of rows is left for each.
    """
    training, parallel = config.training, config.parallel
    ways = gpus_of_a_copy(config, consumer)
    ranks, rest = divmod(gpus, ways)
    batch = training.global_batch_size
    if rest or not ranks:
        raise UserError.of(
            where="--gpus",
            value=gpus,
            rule=f"each copy of the model takes {ways} GPUs (pp and tp)",
            remedy=f"give a multiple of {ways}",
        )
    if batch % ranks:
        fitting = [one * ways for one in range(1, batch + 1) if batch % one == 0]
        raise UserError.of(
            where="--gpus",
            value=gpus,
            rule=f"the global batch of {batch} rows cannot be shared out evenly over {ranks} ranks",
            remedy=f"give one of {', '.join(map(str, fitting))}, or train with another global_batch_size",
        )
    each = batch // ranks
    rows = next(one for one in range(min(training.per_device_batch_size, each), 0, -1) if each % one == 0)
    split = {"per_device_batch_size": rows, "gradient_accumulation_steps": each // rows}
    return config.model_copy(
        update={
            "training": training.model_copy(update=split),
            "parallel": parallel.model_copy(update={"dp": ranks}),
        }
    )


def gpus_of_a_copy(config: Config, consumer: Consumer) -> int:
    """What pipeline and tensor parallelism come to there."""
    known = {"deepspeed": config.parallel.pp * config.parallel.tp, "openrlhf": config.parallel.tp}
    return known.get(consumer.name, 1)


def _head(run: Run, consumer: Consumer, notes: list[Note]) -> list[str]:
    config, rising = run.config, rising_steps(run)
    ranks = config.parallel.dp * gpus_of_a_copy(config, consumer)
    lines = [
        f"{consumer.title} {consumer.version}: {consumer.command}",
        f"{config.name}: {run.steps} optimizer steps of {config.training.global_batch_size} rows on {ranks} "
        f"GPU{'s' * (ranks > 1)}",
    ]
    is_same = not any(note.path in SCHEDULE for note in notes)
    if rising and is_same:
        lines.append(
            f"learning rates are those of the sweep after the first {rising} steps; in these theirs rises "
            f"from 0, ours from 1 / {rising + 1} of the peak"
        )
    return lines

"""What is known before anything runs: rows, the model's sizes, the machine. No torch, no transformers."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sweeper.data.model.model_folder import survey_model
from sweeper.data.model.sizes import model_sizes
from sweeper.data.model.smaller import survey_smaller
from sweeper.data.pool import count_cpus
from sweeper.data.problems import Problems
from sweeper.data.read.examples import Examples
from sweeper.data.read.formats import row_format
from sweeper.data.render.templates import read_template
from sweeper.data.retained.rows import check_retained
from sweeper.data.sample import RowSample, sample_rows
from sweeper.data.survey import look_at
from sweeper.errors import DataError, ModelError
from sweeper.space import THE_ENGINES, DataFormat, Facts, Settings

__all__ = ["FirstLook", "count_cpus", "count_gpus", "first_look", "gather_facts"]

ROWS_OF_ENGINE = 1_000_000
"""Stands for rows that only another trainer counts: trials' lengths are compared by it, and nothing else."""


def gather_facts(
    settings: Settings, keep: Callable[[Examples, RowSample | None], object] = lambda *_: None
) -> Facts:
    """Surveys the data, the model and the machine that the settings name.

    The row counts are those of ``prepare`` before rows are tokenized: broken rows, rows without an
    answer and training rows equal to a held-out row are left out already, and weights are applied;
    rows that are too long or that the chat template refuses are still there. Of 16 MiB and more they are
    estimated from some rows. ``train_sample`` and
    ``eval_sample`` tell how many those are, where the tokenizer is at hand.

    ``keep`` is given the rows and the sample of them, for whoever needs them as well.

    Raises: DataError where (also) the data is wrong, ModelError where only the model is; each with
    all problems of both.
    """
    if settings.engine is not None:
        return _facts_of_engine(settings)
    model_problems = Problems()
    survey = survey_model(settings.model_path, model_problems, trust_remote_code=settings.trust_remote_code)
    smaller = survey_smaller(settings, model_problems)
    with model_problems.noting("chat_template"):
        read_template(settings.chat_template)
    try:
        check_retained(settings)
        look = look_at(settings)
    except DataError as error:
        raise DataError((*error.problems, *model_problems.told())) from error
    if len(model_problems):
        raise ModelError(model_problems.told())
    examples, sample = look.examples, sample_rows(settings, look)
    keep(examples, sample)
    gpus = count_gpus()
    return Facts(
        train_rows=look.train_rows,
        eval_rows=look.eval_rows,
        accelerator="cuda" if gpus else "cpu",
        devices=gpus or 1,
        cpus=count_cpus(),
        sizes=model_sizes(settings.model_path),
        source_rows=look.source_rows,
        rows_bad=look.count("rows_bad"),
        rows_without_answer=look.count("rows_without_answer"),
        rows_leaked=look.count("rows_leaked"),
        rows_estimated=look.looked_at is not None,
        rows_looked_at=look.looked_at,
        data_notes=(*look.notes, *(sample.notes if sample else ())),
        train_sample=sample.train.counted(exact=sample.exact) if sample else None,
        eval_sample=sample.eval.counted(exact=sample.exact) if sample else None,
        proxy_model=smaller,
        **vars(survey),
    )


@dataclass(frozen=True, kw_only=True)
class FirstLook:
    """What is known of model and data before a space file is written."""

    facts: Facts
    format: DataFormat | None
    """Of the first row; None of a hub id, which is not fetched for that."""

    @property
    def looked_at(self) -> int | None:
        """Rows that were read of a large file; None where all of them were."""
        return self.facts.rows_looked_at


def first_look(settings: Settings) -> FirstLook:
    """Facts of the settings, and the format of their rows. Raises what ``gather_facts`` raises."""
    return FirstLook(facts=gather_facts(settings), format=row_format(settings.sources[0].path))


def _facts_of_engine(settings: Settings) -> Facts:
    """The machine, and the model's width where it can be read: the rest is the trainer's to know."""
    gpus, problems = count_gpus(), Problems()
    known = {}
    if settings.model_path != THE_ENGINES:
        survey = survey_model(settings.model_path, problems, trust_remote_code=settings.trust_remote_code)
        known = {} if len(problems) else vars(survey)
    return Facts(
        train_rows=ROWS_OF_ENGINE,
        eval_rows=1,
        accelerator="cuda" if gpus else "cpu",
        devices=gpus or 1,
        cpus=count_cpus(),
        **known,
    )


def count_gpus(devices: Path = Path("/dev")) -> int:
    """NVIDIA GPUs that a process started here would see; 0 where torch is a build for the CPU.

    The device files are what torch would find; ``CUDA_VISIBLE_DEVICES`` narrows them as CUDA does:
    it counts up to the first entry that names no device.
    """
    present = sum(file.name.removeprefix("nvidia").isdigit() for file in devices.glob("nvidia*"))
    if not present or _torch_is_for_cpu():
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return present
    count = 0
    for entry in visible.split(","):
        name = entry.strip()
        if not name or name.startswith("-") or (name.isdigit() and int(name) >= present):
            break
        count += 1
    return count


def _torch_is_for_cpu() -> bool:
    try:
        return importlib.metadata.version("torch").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:
        return False

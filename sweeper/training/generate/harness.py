"""Tasks of EleutherAI's harness (the package ``lm-eval``), answered by the model of a trial as it stands."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweeper.data import here, load_tokenizer
from sweeper.errors import MissingDependencyError, TrialFailedError, UserError, first_line
from sweeper.space import Config
from sweeper.training.generate.generation import random_generators_kept, ready_to_generate
from sweeper.training.generate.scores import on_every_rank

__all__ = ["Harness", "first_number"]

_BATCH_ROWS = 16


class Harness:
    """The tasks of one configuration: the same for every trial, so they are looked up once and kept."""

    def __init__(self, config: Config) -> None:
        """Raises MissingDependencyError without the package, UserError where it knows no such task."""
        self._tasks, self._rows = config.harness_tasks, config.evaluation.rows
        folder = config.evaluation.lm_eval_tasks
        self._manager = _manager(self._tasks, folder and here(folder))
        self._tokenizer = load_tokenizer(
            config.model_path,
            chat_template=config.chat_template,
            trust_remote_code=config.trust_remote_code,
        )

    def measure(self, model: Any) -> dict[str, float]:
        """``eval/TASK`` of each, the same on every rank: the first rank answers. Model and random generators
        are left as they were.

        Raises:
            UserError: a task cannot be run. TrialFailedError: it has no finite number.
        """
        return on_every_rank(lambda: self._measure(model))

    def _measure(self, model: Any) -> dict[str, float]:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM

        with random_generators_kept(), ready_to_generate(model) as (writer, _):
            try:
                language_model = HFLM(
                    pretrained=writer,
                    tokenizer=self._tokenizer,
                    backend="causal",
                    batch_size=_BATCH_ROWS,
                    max_length=getattr(writer.config.get_text_config(), "max_position_embeddings", None),
                )
                found = simple_evaluate(
                    language_model,
                    tasks=list(self._tasks),
                    task_manager=self._manager,
                    limit=self._rows,
                    bootstrap_iters=0,
                    log_samples=False,
                )
            except Exception as error:  # tasks are files of anybody's, and may raise anything
                raise _unusable(
                    ", ".join(self._tasks), f"{type(error).__name__}: {first_line(error)}"
                ) from error
        return {f"eval/{task}": first_number(task, found["results"]) for task in self._tasks}


def first_number(task: str, results: Mapping[str, Mapping[str, Any]]) -> float:
    """The first metric that the harness has for a task. Raises TrialFailedError where there is none."""
    for name, value in results.get(task, {}).items():
        is_metric = "," in name and "_stderr" not in name
        if is_metric and isinstance(value, numbers.Real) and math.isfinite(value):
            return float(value)
    raise TrialFailedError(f"the task {task} of lm_eval has given no number")


def _manager(tasks: tuple[str, ...], folder: str | None) -> Any:
    """Those in the folder, and all that the harness comes with only where one of the tasks is not there: it
    reads thousands of files for them."""
    try:
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise MissingDependencyError.of(
            where="evaluation.metrics",
            value=f"lm_eval:{tasks[0]}",
            rule=f"the package lm-eval cannot be imported ({first_line(error)})",
            remedy="pip install 'sweeper[lm-eval]'",
        ) from error
    if folder is not None and not Path(folder).is_dir():
        raise UserError.of(
            where="evaluation.lm_eval_tasks",
            value=folder,
            rule="there is no such folder",
            remedy="name the folder with the YAML files of your tasks",
        )
    manager = None if folder is None else TaskManager(include_path=folder, include_defaults=False)
    if manager is None or not set(tasks) <= set(manager.all_tasks):
        manager = TaskManager(include_path=folder)
    for task in tasks:
        if task not in manager.all_tasks:
            raise _unusable(task, "the harness knows no such task")
    return manager


def _unusable(value: str, rule: str) -> UserError:
    remedy = "list what there is with `lm-eval ls tasks`, or name a folder in evaluation.lm_eval_tasks"
    return UserError.of(where="evaluation.metrics", value=f"lm_eval:{value}", rule=rule, remedy=remedy)

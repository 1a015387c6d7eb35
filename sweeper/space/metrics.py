"""The names of metrics, and the function of the user's own behind one of them."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, get_args

from sweeper.errors import UserError
from sweeper.space.config.fields import closest
from sweeper.space.config.search import Cost

__all__ = [
    "EXACT_MATCH",
    "PEAK_MEMORY",
    "RETENTION",
    "RETENTION_INCREASE",
    "RETENTION_LOSS",
    "MetricFunction",
    "better",
    "load_metric",
    "logged_metrics",
    "metric_name",
    "metric_names",
]

EXACT_MATCH = "exact_match"
"""The entry of ``evaluation.metrics`` that needs no function of the user's own."""

PEAK_MEMORY = "perf/peak_memory_gib"
"""The highest memory of a rank so far, GiB; on a CPU that of its whole process."""

RETENTION_LOSS, RETENTION_INCREASE = "eval/retention_loss", "eval/retention_increase"
RETENTION = (RETENTION_LOSS, RETENTION_INCREASE)
"""Measured where ``evaluation.retention`` is asked for."""

MetricFunction = Callable[[list[str], list[str], list[str]], Any]
"""Prompts, generations and references, one of each for a row, to a number."""

_BETTER: dict[str, Literal["min", "max"]] = {
    "eval/loss": "min",
    "eval/perplexity": "min",
    "eval/token_accuracy": "max",
    "eval/exact_match": "max",
    **dict.fromkeys(RETENTION, "min"),
}
_STANDARD = tuple(name for name in _BETTER if name not in RETENTION)
_PERFORMANCE = ("perf/tokens_per_s", "perf/step_s", PEAK_MEMORY)


def better(metric: str) -> Literal["min", "max"] | None:
    """Which way a metric or a cost is better; None for a function of the user's own."""
    return "min" if metric in get_args(Cost) else _BETTER.get(metric)


def metric_name(entry: str) -> str:
    """What an entry of ``evaluation.metrics`` is reported as: ``eval/exact_match``, ``eval/<function>``."""
    return f"eval/{entry.rpartition(':')[2]}"


def metric_names(entries: Iterable[str], retention: str | None = None) -> tuple[str, ...]:
    """What the objective can be when these are the entries of ``evaluation.metrics``, and this is
    ``evaluation.retention``."""
    retained = RETENTION if retention is not None else ()
    return tuple(dict.fromkeys((*_STANDARD, *retained, *map(metric_name, entries))))


def logged_metrics(entries: Iterable[str], retention: str | None = None) -> tuple[str, ...]:
    """What every evaluation has, and so may be a constraint."""
    return (*metric_names(entries, retention), *_PERFORMANCE)


def load_metric(entry: str, modules_dir: Path) -> MetricFunction:
    """The function behind ``package.module:function``.

    As with ``python -m``, the module is looked for in ``modules_dir`` before anywhere else.

    Raises:
        UserError: the module cannot be imported, or has no function of that name that takes three lists.
    """
    module_name, _, name = entry.partition(":")
    if str(modules_dir) not in sys.path:
        sys.path.insert(0, str(modules_dir))
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # it is the user's code, and may raise anything
        said = f"{type(error).__name__}: {error}"
        rule = f"the module {module_name} cannot be imported ({said})"
        raise _unusable(entry, rule, f"name a module in {modules_dir}, or one that is installed") from error
    function: MetricFunction | None = getattr(module, name, None)
    if not callable(function):
        raise _unusable(entry, f"{module_name} has no function {name}", _what_there_is(module, name))
    if not _takes_three(function):
        rule = f"{name} does not take three arguments"
        raise _unusable(entry, rule, f"write def {name}(prompts, generations, references)")
    return function


def _unusable(entry: str, rule: str, remedy: str) -> UserError:
    return UserError.of(where="evaluation.metrics", value=entry, rule=rule, remedy=remedy)


def _what_there_is(module: object, name: str) -> str:
    functions = [one for one, value in vars(module).items() if inspect.isfunction(value)]
    near = closest(name, functions)
    return f"did you mean {near}?" if near else f"it has: {', '.join(functions) or 'none'}"


def _takes_three(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind([], [], [])
    except TypeError:
        return False
    except ValueError:  # a function in C may not tell
        return True
    return True

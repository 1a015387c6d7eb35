"""What generated answers score: exact_match, and functions of the user's own."""

from __future__ import annotations

import math
import numbers
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch.distributed as dist

from sweeper.errors import SweeperError, TrialFailedError, UserError
from sweeper.space import EXACT_MATCH, MetricFunction, load_metric, metric_name

__all__ = ["Answers", "Scorer", "exact_match", "on_every_rank"]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """One text of each for every row."""

    prompts: list[str]
    """What the model is asked, as it reads it: special tokens included."""
    generations: list[str]
    """What it answers, without special tokens and outer white space."""
    references: list[str]
    """What the row answers, likewise."""


def exact_match(prompts: list[str], generations: list[str], references: list[str]) -> float:
    """Fraction of the generations that are equal to their references."""
    return sum(map(str.__eq__, generations, references)) / len(references)


class Scorer:
    """One metric of generated answers."""

    def __init__(self, entry: str, modules_dir: Path) -> None:
        """``entry`` as in ``evaluation.metrics``. Raises UserError where the function cannot be found."""
        self.entry, self.name = entry, metric_name(entry)
        self.function: MetricFunction = exact_match
        if entry != EXACT_MATCH:
            self.function = load_metric(entry, modules_dir)

    def score(self, answers: Answers) -> float:
        """What the function makes of its own copy of the answers.

        Raises:
            UserError: it raises an exception, or returns something that is no real number.
            TrialFailedError: it returns a number that is not finite.
        """
        try:
            value = self.function(list(answers.prompts), list(answers.generations), list(answers.references))
        except (Exception, SystemExit) as error:  # it is the user's code, and may raise anything
            traceback.print_exc()  # the whole of it is for the trial's log
            raise self._unusable(f"raised {_told(error)}", "mend the function") from error
        if not isinstance(value, numbers.Real):
            raise self._unusable(f"returned a {type(value).__name__}", "return a number, such as float(...)")
        if not math.isfinite(value):
            raise TrialFailedError(f"the metric {self.entry} returned {value}, which is not finite")
        return float(value)

    def _unusable(self, rule: str, remedy: str) -> UserError:
        remedy += "; `sweeper resume` goes on with a sweep then"
        return UserError.of(where="evaluation.metrics", value=self.entry, rule=rule, remedy=remedy)


def _told(error: BaseException) -> str:
    """The last line of the traceback, and where the user's own file was left."""
    frames = traceback.extract_tb(error.__traceback__)
    own = frames[min(1, len(frames) - 1)].filename  # the first one is the call in this file
    last = [frame for frame in frames if frame.filename == own][-1]
    said = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    return f"{said} ({Path(last.filename).name}:{last.lineno}, in {last.name})"


def on_every_rank(compute: Callable[[], dict[str, float]]) -> dict[str, float]:
    """What the first rank computes, or the error that it raises, on every rank.

    A function that draws lots, or asks somebody else, would answer differently on each.
    """
    outcome: list[dict[str, float] | SweeperError] = [{}]
    if dist.get_rank() == 0:
        try:
            outcome = [compute()]
        except SweeperError as error:
            outcome = [error]
    dist.broadcast_object_list(outcome, src=0)
    (result,) = outcome
    if isinstance(result, SweeperError):
        raise result
    return result

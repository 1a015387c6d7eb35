"""What a command needs of a space before it begins: each raises SpaceFileError with all that is missing."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from sweeper.errors import Problem, SpaceFileError, UserError
from sweeper.space.config.address import cluster_address
from sweeper.space.config.closing import DP
from sweeper.space.config.config import HARNESS
from sweeper.space.config.values import text
from sweeper.space.file.opening import LR
from sweeper.space.metrics import EXACT_MATCH, load_metric
from sweeper.space.space import Space

__all__ = [
    "hardware_problems",
    "require_closed",
    "require_hardware",
    "require_metrics",
    "require_open",
    "require_own_trainer",
]


def require_open(space: Space) -> None:
    """A sweep needs something to search: raises SpaceFileError where nothing is open."""
    if not space.dimensions:
        rule = "nothing is open, so there is nothing to search"
        remedy = (
            "open a value, such as `lr: auto` or `epochs: [1, 2, 3]`; to train it as it is: `sweeper train`"
        )
        raise SpaceFileError([space.problem(LR, "", rule, remedy)])


def require_closed(space: Space) -> None:
    """Training needs every value: raises SpaceFileError with one problem for each open one."""
    problems = []
    for one in space.dimensions:
        remedy = f"write {one.name.rpartition('.')[2]}: {text(one.default)}, or search with `sweeper run`"
        problems.append(space.problem(one.path, one.name, "is open, and training needs one value", remedy))
    if problems:
        raise SpaceFileError(problems)


def require_own_trainer(space: Space, command: str) -> None:
    """Raises SpaceFileError where another trainer runs the trials, and the command cannot do without ours."""
    if space.settings.engine is not None:
        rule = f"{command} runs sweeper's own trainer, and this file has another one"
        remedy = "try it by the trainer's own commands, or leave engine out"
        raise SpaceFileError([space.problem("engine", "engine", rule, remedy)])


def hardware_problems(space: Space) -> list[Problem]:
    """What a trial asks for and this machine has not. A cluster is not looked at from here."""
    facts, closed = space.facts, space.closed
    cluster, free = cluster_address(closed["resources.ray_address"]), closed["resources.min_free_gib"]
    if cluster is not None:
        if free is None:
            return []
        rule = f"on a cluster ({cluster.where}) Ray chooses the GPUs, and sees its own processes only"
        remedy = "leave it out, and start a node's Ray with CUDA_VISIBLE_DEVICES for what it may use"
        return [space.problem("resources.min_free_gib", f"min_free_gib: {text(free)}", rule, remedy)]
    problems = []
    gpus = space.most_ranks * closed["resources.gpus_per_rank"]
    here = facts.devices if facts.accelerator == "cuda" else 0
    if gpus > here:
        rule = (
            f"a trial asks for {gpus:g} GPUs, and {f'{here} are here' if here else 'this machine has none'}"
        )
        remedy = "lower parallel.dp or resources.gpus_per_rank, or name a cluster in ray_address"
        problems.append(space.problem(DP, "", rule, remedy))
    if facts.accelerator == "cpu" and closed["deepspeed.precision"] == "fp16":
        remedy = "write bf16 or fp32 on this machine"
        problems.append(space.problem("deepspeed.precision", "fp16", "fp16 is for GPUs", remedy))
    return problems


def require_hardware(space: Space) -> None:
    """Training needs a machine that can hold one trial: raises SpaceFileError with what is missing."""
    problems = hardware_problems(space)
    if problems:
        raise SpaceFileError(problems)


def require_metrics(space: Space) -> None:
    """Finds the user's own metrics before anything is trained: raises SpaceFileError with those it cannot."""
    place = space.where("evaluation.metrics")
    problems: list[Problem] = []
    for entry in space.settings.evaluation.metrics:
        if entry == EXACT_MATCH:
            continue
        if entry.startswith(HARNESS):
            problems += _without_harness(entry, place)
            continue
        try:
            load_metric(entry, Path.cwd())
        except UserError as error:
            problems += [replace(problem, where=place) for problem in error.problems]
    if problems:
        raise SpaceFileError(problems)


def _without_harness(entry: str, place: str) -> list[Problem]:
    if find_spec("lm_eval") is not None:
        return []
    rule = "the package lm-eval is not installed"
    remedy = "pip install 'sweeper[lm-eval]', or take the task out of evaluation.metrics"
    return [Problem(where=place, value=entry, rule=rule, remedy=remedy)]

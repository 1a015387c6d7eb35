"""A plan for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sweeper.space.config.values import as_tree, text
from sweeper.space.plan.plan import Plan

__all__ = ["plan_tree"]


def plan_tree(plan: Plan, more: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """What ``sweeper validate --json`` prints: ``{"name", "folder", "objective": {"metric", "mode"},
    "trials", "train_rows", "eval_rows", "steps", "rows_per_trial", "global_batch", "ranks", "open": [{"path",
    "values", "starts_at", "when"}], "fixed": [{"name", "value", "from"}], "told": {label: text}, "notes",
    "warnings"}``.

    ``steps`` and the three after it are ``[lowest, highest]`` of all trials; ``told`` are the lines that
    people see, costs and memory among them, with ``more``. Of another trainer's rows nothing is said.
    """
    space = plan.space
    objective, facts = space.settings.objective, space.facts
    tree: dict[str, Any] = {
        "name": space.name,
        "folder": str(space.sweep_dir),
        "objective": {"metric": objective.metric, "mode": objective.mode},
        "trials": plan.trials,
        "train_rows": facts.train_rows,
        "eval_rows": facts.eval_rows,
        "steps": list(plan.steps),
        "rows_per_trial": list(plan.rows_per_trial),
        "global_batch": list(plan.global_batch),
        "ranks": list(plan.ranks),
        "open": [
            {
                "path": one.path,
                "values": as_tree(one.open_value),
                "starts_at": one.default,
                "when": {name: text(value) for name, value in one.when},
            }
            for one in space.dimensions
        ],
        "fixed": [{"name": one.name, "value": one.value, "from": one.origin} for one in plan.fixed],
        "told": dict([*plan.summary(), *more]),
        "notes": list(plan.notes),
        "warnings": list(plan.warnings),
    }
    if space.settings.engine is not None:  # only the trainer counts its rows
        unknown = ("train_rows", "eval_rows", "steps", "rows_per_trial")
        return {name: value for name, value in tree.items() if name not in unknown}
    return tree

"""Reading ``objective.constraints``: a mapping of metrics to bounds."""

from __future__ import annotations

import re

from sweeper.space.config.constraints import parse_bound
from sweeper.space.config.fields import Leaf
from sweeper.space.file.document import Complain, Located

__all__ = ["read_constraints"]

_METRIC = re.compile(r"(eval|perf)/\w+")
_BOUND = 'a bound is <= or >= and a finite number, in quotes: "<= 0.1"'


def read_constraints(node: Located, leaf: Leaf, complain: Complain) -> dict[str, str] | None:
    """The bounds by their metrics; None after a complaint, one for each fault."""
    if node.value is None:
        return None
    if not isinstance(node.value, dict) or not node.value:
        complain(node, f"{leaf.key} is {leaf.expects}", f"write {leaf.expects}")
        return None
    found: dict[str, str] = {}
    for metric, bound in node.value.items():
        if not _METRIC.fullmatch(metric):
            remedy = "write a metric such as eval/retention_increase, eval/loss or perf/peak_memory_gib"
            complain(bound.key(metric), "a constraint names a logged metric, eval/... or perf/...", remedy)
        elif _is_bound(metric, bound):
            found[metric] = str(bound.value)
        else:
            complain(bound, f"{metric}: {_BOUND}", _remedy(bound))
    return found if len(found) == len(node.value) else None


def _is_bound(metric: str, node: Located) -> bool:
    try:
        parse_bound(metric, node.value if isinstance(node.value, str) else "")
    except ValueError:
        return False
    return True


def _remedy(node: Located) -> str:
    """The same bound as it is written right, where that can be told."""
    said = str(node.value).strip()
    number = said.lstrip("<>=! ")
    sign = ">=" if said.startswith(">") else "<="
    try:
        parse_bound("", f"{sign} {number}")
    except ValueError:
        return 'write "<= 0.1"'
    return f'write "{sign} {number}"'

"""Recognising and reading one open value: a list, ``{choice: ...}``, ``{uniform: ...}`` and so on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sweeper.space.config.fields import Leaf, closest
from sweeper.space.config.values import Choice, IntRange, LogUniform, OpenValue, Scalar, Uniform, text
from sweeper.space.file.document import Located

__all__ = [
    "FORMS",
    "LR",
    "RANGE_TEST",
    "Opening",
    "RangeTest",
    "looks_open",
    "read_opening",
    "read_range_test",
]

FORMS = ("choice", "uniform", "log_uniform", "int")
_KEYS = (*FORMS, "step", "when")
LR, RANGE_TEST = "training.lr", "range_test"

Complain = Callable[[Located, str, str], None]
"""Called with the faulty value, the rule and the remedy."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """An open value as read, its conditions still as written."""

    open_value: OpenValue
    when: dict[str, Located] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RangeTest:
    """``lr: {range_test: true}``: a short run of rising lr is to find the range."""

    within: LogUniform | None
    """The range that it is to narrow; None: that of ``lr: auto`` until there is a better one."""


def looks_open(node: Located) -> bool:
    """Whether a value is written in one of the open forms."""
    if isinstance(node.value, dict):
        return any(form in node.value for form in (*FORMS, RANGE_TEST))
    return isinstance(node.value, list)


def read_opening(leaf: Leaf, node: Located, complain: Complain) -> Opening | None:
    """The open value that a field holds; None after a complaint."""
    if isinstance(node.value, list):
        choice = _choice(leaf, node, complain)
        return None if choice is None else Opening(open_value=choice)
    if not isinstance(node.value, dict):
        raise TypeError("a scalar is not an open value")
    forms = [key for key in node.value if key in FORMS]
    if len(forms) != 1:
        complain(node, "an open value has one of choice, uniform, log_uniform, int", f"keep one of {forms}")
        return None
    healthy = _check_keys(node, forms[0], complain)
    when = _conditions(node, complain)
    form_node = node.value[forms[0]]
    if forms[0] == "choice":
        open_value: OpenValue | None = _choice(leaf, form_node, complain)
    else:
        open_value = _range(leaf, forms[0], form_node, node.value.get("step"), complain)
    if open_value is None or when is None or not healthy:
        return None
    return Opening(open_value=open_value, when=when)


def read_range_test(leaf: Leaf, node: Located, complain: Complain) -> RangeTest | None:
    """What a mapping with the key ``range_test`` asks for; None after a complaint."""
    keys = _mapping(node)
    if leaf.path != LR:
        complain(node, f"{leaf.key} has no range test: it raises the lr alone", f"take {RANGE_TEST} out")
        return None
    healthy, asked = True, keys[RANGE_TEST]
    if asked.value is not True:
        remedy = "take it out, and write lr: auto or a range" if asked.value is False else "write true"
        complain(asked, f"{RANGE_TEST} is true or left out", remedy)
        healthy = False
    for key in keys.keys() - {RANGE_TEST, "log_uniform"}:
        place = Located(value=key, where=keys[key].key_where)
        rule = f"beside {RANGE_TEST} there is log_uniform: [lo, hi], or nothing"
        complain(place, rule, f"take it out, or take {RANGE_TEST} out")
        healthy = False
    if "log_uniform" not in keys:
        return RangeTest(within=None) if healthy else None
    within = _range(leaf, "log_uniform", keys["log_uniform"], None, complain)
    return RangeTest(within=within) if healthy and isinstance(within, LogUniform) else None


def _check_keys(node: Located, form: str, complain: Complain) -> bool:
    healthy = True
    for key, child in _mapping(node).items():
        place = Located(value=key, where=child.key_where)
        if key not in _KEYS:
            near = closest(key, _KEYS)
            complain(place, "is no key of an open value", f"did you mean {near}?" if near else "remove it")
            healthy = False
        elif key == "step" and form != "int":
            complain(place, "only a range of whole numbers has a step", "write {int: [lo, hi], step: n}")
            healthy = False
    return healthy


def _conditions(node: Located, complain: Complain) -> dict[str, Located] | None:
    when = _mapping(node).get("when")
    if when is None:
        return {}
    if not isinstance(when.value, dict) or not when.value:
        complain(
            when, "a condition maps a field to the value it must have", "write when: {scheduler: cosine}"
        )
        return None
    return when.value


def _mapping(node: Located) -> dict[str, Located]:
    return node.value if isinstance(node.value, dict) else {}


def _choice(leaf: Leaf, node: Located, complain: Complain) -> Choice | None:
    if not isinstance(node.value, list):
        complain(node, "a choice is a list of options", "write {choice: [a, b]}")
        return None
    if not node.value:
        complain(
            node, f"{leaf.key}: a choice has at least one option", "name the options, or remove the field"
        )
        return None
    options: dict[Scalar, None] = {}  # in order; a list would be searched for every option
    healthy = True
    for option in node.value:
        value = _valid(leaf, option, complain)
        if value is None:
            healthy = False
        elif value in options:
            complain(option, "the option stands twice in the choice", "remove one of the two")
            healthy = False
        else:
            options[value] = None
    return Choice(tuple(options)) if healthy else None


def _range(
    leaf: Leaf, form: str, node: Located, step: Located | None, complain: Complain
) -> OpenValue | None:
    if not _fits(leaf, form, node, complain):
        return None
    if not isinstance(node.value, list) or len(node.value) != 2:
        complain(node, "a range has two bounds", f"write {{{form}: [lowest, highest]}}")
        return None
    if form == "log_uniform" and not _is_positive(node.value[0]):
        complain(node, f"{leaf.key}: a log range begins above 0", "raise the lower bound, or write uniform")
        return None
    low, high = (_valid(leaf, bound, complain) for bound in node.value)
    if low is None or high is None or isinstance(low, (str, bool)) or isinstance(high, (str, bool)):
        return None
    if low >= high:
        complain(
            node, f"{leaf.key}: the lower bound is below the upper bound", _order_remedy(form, low, high)
        )
        return None
    if form == "int":
        return _whole_range(node, low, high, step, complain)
    return (LogUniform if form == "log_uniform" else Uniform)(float(low), float(high))


def _is_positive(bound: Located) -> bool:
    """Whether it is no number at or below 0; what is no number at all is complained about later."""
    return not isinstance(bound.value, (int, float)) or bound.value > 0


def _order_remedy(form: str, low: float, high: float) -> str:
    if low == high:
        return f"write the value {text(low)} alone, or widen the range"
    return f"write {{{form}: [{text(high)}, {text(low)}]}}"


def _fits(leaf: Leaf, form: str, node: Located, complain: Complain) -> bool:
    if leaf.kind not in ("number", "whole"):
        complain(node, f"{leaf.key} is no number, so it has no range", f"list options: {leaf.expects}")
        return False
    if leaf.kind == "whole" and form != "int":
        complain(node, f"{leaf.key} is a whole number", "write {int: [lo, hi], step: n} or list the options")
        return False
    return True


def _whole_range(
    node: Located, low: float, high: float, step: Located | None, complain: Complain
) -> IntRange | None:
    width: Any = 1 if step is None else step.value
    if high >= 10**18:  # more than a database can hold
        complain(node, "the bounds of int have at most 18 digits", "lower them, or write log_uniform")
        return None
    if low != int(low) or high != int(high):
        complain(node, "the bounds of int are whole numbers", "round them, or write uniform")
        return None
    if not isinstance(width, int) or isinstance(width, bool) or width < 1:
        complain(step or node, "a step is a whole number >= 1", "write step: 1 or leave it out")
        return None
    rest = int(high - low) % width
    if rest:
        top = f"end the range at {text(high - rest)} or {text(high - rest + width)}"
        complain(node, f"steps of {width} from {text(low)} never reach {text(high)}", top)
        return None
    return IntRange(int(low), int(high), width)


def _valid(leaf: Leaf, node: Located, complain: Complain) -> Scalar | None:
    """The closed value of one option or bound; None after a complaint."""
    if isinstance(node.value, str) and node.value == "auto":
        complain(node, "auto is no option of an open value", "write the value itself")
        return None
    if isinstance(node.value, (dict, list)) or node.value is None:
        complain(node, f"{leaf.key} must be {leaf.expects}", f"write {leaf.expects}")
        return None
    try:
        value: Scalar = leaf.validate(node.value)
    except ValueError:
        complain(node, f"{leaf.key} must be {leaf.expects}", leaf.mend(node.value, node.quoted))
        return None
    return value

"""Recognising and reading one open value: a list, ``{choice: ...}``, ``{uniform: ...}`` and so on.

Every fault is complained about; what is returned is of use only where there was none.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sweeper.space.config.fields import Leaf, closest
from sweeper.space.config.values import (
    Choice,
    IntRange,
    LogUniform,
    OpenValue,
    Scalar,
    Uniform,
    is_number,
    text,
)
from sweeper.space.file.document import Complain, Located

__all__ = ["LR", "RANGE_TEST", "Opening", "RangeTest", "looks_open", "read_opening", "read_range_test"]

FORMS = ("choice", "uniform", "log_uniform", "int")
_KEYS = (*FORMS, "step", "when")
LR, RANGE_TEST = "training.lr", "range_test"


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
    """The open value that a field holds."""
    if not isinstance(node.value, dict):
        choice = _choice(leaf, node, complain)
        return Opening(open_value=choice) if choice else None
    forms = [key for key in node.value if key in FORMS]
    if len(forms) != 1:
        complain(node, "an open value has one of choice, uniform, log_uniform, int", f"keep one of {forms}")
        return None
    form = forms[0]
    _check_keys(node.value, form, complain)
    when = _conditions(node.value, complain)
    if form == "choice":
        open_value: OpenValue | None = _choice(leaf, node.value[form], complain)
    else:
        open_value = _range(leaf, form, node.value[form], node.value.get("step"), complain)
    return Opening(open_value=open_value, when=when) if open_value else None


def read_range_test(leaf: Leaf, node: Located, complain: Complain) -> RangeTest | None:
    """What a mapping with the key ``range_test`` asks for."""
    assert isinstance(node.value, dict)
    if leaf.path != LR:
        complain(node, f"{leaf.key} has no range test: it raises the lr alone", f"take {RANGE_TEST} out")
        return None
    asked = node.value[RANGE_TEST]
    if asked.value is not True:
        remedy = "take it out, and write lr: auto or a range" if asked.value is False else "write true"
        complain(asked, f"{RANGE_TEST} is true or left out", remedy)
    for key in node.value.keys() - {RANGE_TEST, "log_uniform"}:
        rule = f"beside {RANGE_TEST} there is log_uniform: [lo, hi], or nothing"
        complain(node.value[key].key(key), rule, f"take it out, or take {RANGE_TEST} out")
    if "log_uniform" not in node.value:
        return RangeTest(within=None)
    within = _range(leaf, "log_uniform", node.value["log_uniform"], None, complain)
    return RangeTest(within=within) if isinstance(within, LogUniform) else None


def _check_keys(children: dict[str, Located], form: str, complain: Complain) -> None:
    for key, child in children.items():
        if key not in _KEYS:
            near = closest(key, _KEYS)
            remedy = f"did you mean {near}?" if near else "remove it"
            complain(child.key(key), "is no key of an open value", remedy)
        elif key == "step" and form != "int":
            rule = "only a range of whole numbers has a step"
            complain(child.key(key), rule, "write {int: [lo, hi], step: n}")


def _conditions(children: dict[str, Located], complain: Complain) -> dict[str, Located]:
    when = children.get("when")
    if when is None:
        return {}
    if isinstance(when.value, dict) and when.value:
        return when.value
    rule = "a condition maps a field to the value it must have"
    complain(when, rule, "write when: {scheduler: cosine}")
    return {}


def _choice(leaf: Leaf, node: Located, complain: Complain) -> Choice | None:
    if not isinstance(node.value, list):
        complain(node, "a choice is a list of options", "write {choice: [a, b]}")
        return None
    if not node.value:
        rule = f"{leaf.key}: a choice has at least one option"
        complain(node, rule, "name the options, or remove the field")
    options: dict[Scalar, None] = {}  # in order; a list would be searched for every option
    for option in node.value:
        value = _valid(leaf, option, complain)
        if value in options:
            complain(option, "the option stands twice in the choice", "remove one of the two")
        elif value is not None:
            options[value] = None
    return Choice(tuple(options))


def _range(
    leaf: Leaf, form: str, node: Located, step: Located | None, complain: Complain
) -> OpenValue | None:
    if leaf.kind not in ("number", "whole"):
        complain(node, f"{leaf.key} is no number, so it has no range", f"list options: {leaf.expects}")
        return None
    if leaf.kind == "whole" and form != "int":
        complain(node, f"{leaf.key} is a whole number", "write {int: [lo, hi], step: n} or list the options")
        return None
    if not isinstance(node.value, list) or len(node.value) != 2:
        complain(node, "a range has two bounds", f"write {{{form}: [lowest, highest]}}")
        return None
    lowest = node.value[0].value
    if form == "log_uniform" and isinstance(lowest, (int, float)) and lowest <= 0:
        complain(node, f"{leaf.key}: a log range begins above 0", "raise the lower bound, or write uniform")
        return None
    low, high = (_valid(leaf, bound, complain) for bound in node.value)
    if not (is_number(low) and is_number(high)):
        return None
    if low >= high:
        swapped = f"write {{{form}: [{text(high)}, {text(low)}]}}"
        remedy = f"write the value {text(low)} alone, or widen the range" if low == high else swapped
        complain(node, f"{leaf.key}: the lower bound is below the upper bound", remedy)
        return None
    if form == "int":
        return _whole_range(node, low, high, step, complain)
    return (LogUniform if form == "log_uniform" else Uniform)(float(low), float(high))


def _whole_range(
    node: Located, low: float, high: float, step: Located | None, complain: Complain
) -> IntRange | None:
    width = 1 if step is None else step.value
    if high >= 10**18:  # more than a database can hold
        complain(node, "the bounds of int have at most 18 digits", "lower them, or write log_uniform")
    elif low != int(low) or high != int(high):
        complain(node, "the bounds of int are whole numbers", "round them, or write uniform")
    elif not isinstance(width, int) or isinstance(width, bool) or width < 1:
        complain(step or node, "a step is a whole number >= 1", "write step: 1 or leave it out")
    elif rest := int(high - low) % width:
        top = f"end the range at {text(high - rest)} or {text(high - rest + width)}"
        complain(node, f"steps of {width} from {text(low)} never reach {text(high)}", top)
    else:
        return IntRange(int(low), int(high), width)
    return None


def _valid(leaf: Leaf, node: Located, complain: Complain) -> Scalar | None:
    """The closed value of one option or bound; None after a complaint."""
    if node.value == "auto":
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

"""What a row says: one of four shapes of a row, turned into chat messages.

========================  ==============================================================
``alpaca``                ``instruction``, ``output``, perhaps ``input`` and ``system``
``messages``              ``messages``: a list of ``{"role": ..., "content": ...}``
``prompt_completion``     ``prompt``, ``completion``
``question_answer``       ``question``, ``answer``
========================  ==============================================================

Other fields are ignored, except those that would change the meaning of the row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, TypedDict

from sweeper.data.problems import Problems, shortened
from sweeper.data.read import Row

__all__ = ["FORMATS", "Example", "Message", "RowFormat", "conversations", "recognise"]

RowFormat = Literal["alpaca", "messages", "prompt_completion", "question_answer"]

FORMATS: dict[RowFormat, tuple[str, ...]] = {
    "alpaca": ("instruction", "output"),
    "messages": ("messages",),
    "prompt_completion": ("prompt", "completion"),
    "question_answer": ("question", "answer"),
}
"""The fields without which a row is not of the format."""

ROLES = ("system", "developer", "user", "assistant", "tool")

_UNSUPPORTED: dict[RowFormat, tuple[str, ...]] = {"alpaca": ("history",), "messages": ("tools",)}
"""Fields that change what the model sees and that are not supported: filled, they are an error."""


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One row as a conversation, and its place for messages about it."""

    messages: tuple[Message, ...]
    where: str

    @property
    def has_answer(self) -> bool:
        """Whether an assistant says anything: without that there is nothing to learn."""
        return any(message["role"] == "assistant" and message["content"].strip() for message in self.messages)


class _RowProblem(Exception):
    """What is wrong with one row: value, rule, remedy."""

    def __init__(self, value: object, rule: str, remedy: str) -> None:
        super().__init__(value, rule, remedy)
        self.value, self.rule, self.remedy = value, rule, remedy


def recognise(row: Row, problems: Problems) -> RowFormat | None:
    """The one format that the row's fields fit; none or several is a problem."""
    fitting = [name for name, required in FORMATS.items() if all(field in row.fields for field in required)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        problems.add(
            where=row.where,
            value=_keys(row),
            rule=f"the fields fit several formats: {', '.join(fitting)}",
            remedy="set data_format to the one that is meant",
        )
    else:
        problems.add(
            where=row.where,
            value=_keys(row),
            rule=f"the fields fit none of the known formats: {_known_formats()}",
            remedy="rename the fields, or convert the rows to messages",
        )
    return None


def conversations(rows: list[Row], data_format: str, problems: Problems) -> list[Example]:
    """Each row as a conversation.

    ``data_format`` is a format's name, or ``auto``: then the first row of each source decides for
    that source. Rows that do not fit are added to ``problems``.
    """
    examples: list[Example] = []
    for _, group in groupby(rows, key=lambda row: row.source):
        of_source = list(group)
        name = _named(data_format) or recognise(of_source[0], problems)
        if name is not None:
            examples.extend(_examples(of_source, name, problems))
    return examples


def _named(data_format: str) -> RowFormat | None:
    return next((name for name in FORMATS if name == data_format), None)


def _examples(rows: list[Row], name: RowFormat, problems: Problems) -> list[Example]:
    converted = (_example(row, name, problems) for row in rows)
    return [example for example in converted if example is not None]


def _example(row: Row, name: RowFormat, problems: Problems) -> Example | None:
    try:
        _check_fields(row, name)
        return Example(_CONVERTERS[name](row), row.where)
    except _RowProblem as problem:
        problems.add(where=row.where, value=problem.value, rule=problem.rule, remedy=problem.remedy)
        return None


def _check_fields(row: Row, name: RowFormat) -> None:
    missing = [field for field in FORMATS[name] if field not in row.fields]
    if missing:
        raise _RowProblem(
            _keys(row),
            f"{' and '.join(missing)} is missing: a row of {name} has {' and '.join(FORMATS[name])}",
            "add the field, or name another data_format",
        )
    for field in _UNSUPPORTED.get(name, ()):
        value = row.fields.get(field)
        if value is not None and value != "" and value != []:
            raise _RowProblem(
                field, "the field is not supported", "convert the rows to plain messages without it"
            )


def _alpaca(row: Row) -> tuple[Message, ...]:
    instruction, extra = _text(row, "instruction"), _optional_text(row, "input")
    system = _optional_text(row, "system")
    prompt = f"{instruction}\n\n{extra}" if extra else instruction
    opening = (Message(role="system", content=system),) if system else ()
    return (*opening, *_pair(prompt, _text(row, "output")))


def _prompt_completion(row: Row) -> tuple[Message, ...]:
    return _pair(_text(row, "prompt"), _text(row, "completion"))


def _question_answer(row: Row) -> tuple[Message, ...]:
    return _pair(_text(row, "question"), _text(row, "answer"))


def _pair(prompt: str, answer: str) -> tuple[Message, ...]:
    return Message(role="user", content=prompt), Message(role="assistant", content=answer)


def _messages(row: Row) -> tuple[Message, ...]:
    turns = row.fields["messages"]
    if not isinstance(turns, list) or not turns:
        raise _RowProblem(turns, "messages is a list of at least one message", "mend the row")
    return tuple(_message(turn, number) for number, turn in enumerate(turns, start=1))


def _message(turn: object, number: int) -> Message:
    if not isinstance(turn, dict) or not {"role", "content"} <= turn.keys():
        raise _RowProblem(turn, f"message {number} is not an object with role and content", "mend the row")
    if turn.get("tool_calls"):
        raise _RowProblem(
            "tool_calls",
            f"message {number} has tool calls, which are not supported",
            "write the call as content",
        )
    if turn["role"] not in ROLES:
        raise _RowProblem(
            turn["role"], f"message {number} has no known role", f"use one of {', '.join(ROLES)}"
        )
    return Message(role=turn["role"], content=_as_text(turn["content"], f"content of message {number}"))


_CONVERTERS: dict[RowFormat, Callable[[Row], tuple[Message, ...]]] = {
    "alpaca": _alpaca,
    "messages": _messages,
    "prompt_completion": _prompt_completion,
    "question_answer": _question_answer,
}


def _optional_text(row: Row, field: str) -> str:
    value = row.fields.get(field)
    return "" if value is None else _as_text(value, field)


def _text(row: Row, field: str) -> str:
    return _as_text(row.fields[field], field)


def _as_text(value: object, name: str) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)  # an answer that is a number, as CSV and Parquet converters write them
    if not isinstance(value, str):
        raise _RowProblem(value, f"{name} is not text", "write a string")
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise _RowProblem(
                ascii(value), f"{name} holds half of a surrogate pair", "mend the \\u escape in the row"
            ) from None
    return value


def _keys(row: Row) -> str:
    return shortened("fields " + ", ".join(sorted(row.fields)))


def _known_formats() -> str:
    return "; ".join(f"{name} ({', '.join(required)})" for name, required in FORMATS.items())

"""What a row says: one of seven shapes of a row, turned into chat messages or plain text.

=====================  ==========================================================================
``alpaca``             ``instruction``, ``output``; perhaps ``input``, ``system``, and ``history``:
                       a list of ``[user, assistant]`` said before
``messages``           ``messages``: a list of ``{"role": ..., "content": ...}``; perhaps ``tools``,
                       ``system``, and ``chat_template_kwargs``: variables of the chat template
``sharegpt``           ``conversations``: a list of ``{"from": ..., "value": ...}``; perhaps
                       ``system`` and ``tools``
``prompt_completion``  ``prompt``, ``completion``: texts, or lists of messages; perhaps ``tools``, ``system``
``question_answer``    ``question``, ``answer``
``self_instruct``      ``instruction``, ``instances``: a list of ``{"input": ..., "output": ...}``,
                       each one example
``text``               ``text``, where the fields fit nothing else: no chat, all of it is learned
=====================  ==========================================================================

A list of turns is read by what its turns have, ``role`` and ``content`` or ``from`` and ``value``, whatever
the list is called. Other fields are not used, and named in the notes. Every assistant's turn is learned,
except those of a prompt and those with a weight of 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, groupby
from typing import Any, Literal

from sweeper.data.problems import Problems, shortened
from sweeper.data.read.columns import implied_columns, with_columns
from sweeper.data.read.messages import (
    Message,
    RowProblem,
    Tool,
    as_text,
    is_learned,
    openai_message,
    parsed,
    sharegpt_message,
    tools,
)
from sweeper.data.read.tables import Row

__all__ = ["FORMATS", "Example", "RowFormat", "conversations", "recognise"]

RowFormat = Literal[
    "alpaca", "messages", "sharegpt", "prompt_completion", "question_answer", "self_instruct", "text"
]

FORMATS: dict[RowFormat, tuple[str, ...]] = {
    "alpaca": ("instruction", "output"),
    "messages": ("messages",),
    "sharegpt": ("conversations",),
    "prompt_completion": ("prompt", "completion"),
    "question_answer": ("question", "answer"),
    "self_instruct": ("instruction", "instances"),
    "text": ("text",),
}
"""The fields without which a row is not of the format."""

_OPTIONAL = ("input", "system", "history", "tools", "chat_template_kwargs")
"""Fields that some format uses where they are there."""


@dataclass(frozen=True, slots=True)
class Example:
    """What one row, or one instance of a row, teaches; and its place for messages about it."""

    messages: tuple[Message, ...]
    where: str
    tools: tuple[Tool, ...] = ()
    """Functions that the assistant may call."""
    prompt_messages: int = 0
    """So many messages at the beginning are given and not learned, whoever says them."""
    text: str | None = None
    """Plain text instead of messages, all of it learned."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Variables of the chat template that the row sets, such as ``enable_thinking``."""
    source: int = 0
    """Index of the data source that it comes from."""

    @property
    def has_answer(self) -> bool:
        """Whether an assistant says or calls anything: without that there is nothing to learn."""
        if self.text is not None:
            return bool(self.text.strip())
        return any(is_learned(one) and _says(one) for one in self.messages[self.prompt_messages :])


def _says(message: Message) -> bool:
    return bool(message["content"].strip() or message.get("tool_calls") or message.get("reasoning_content"))


def recognise(rows: Sequence[Row], problems: Problems) -> RowFormat | None:
    """The one format that the fields of the first row fit, or of the first that fits any.

    None, and a problem, where no row fits any or the row fits several.
    """
    fitting = next(((row, names) for row in rows if (names := _fitting(row))), None)
    if fitting is None:
        problems.add(
            where=rows[0].where,
            value=_keys(rows[0]),
            rule=f"the fields fit none of the known formats: {_known_formats()}",
            remedy=_renamed(rows[0])
            or "say what the columns mean under data_path, such as "
            f"{{path: {rows[0].source}, columns: {{{_guessed(rows[0])}}}}}; or convert the rows to messages",
        )
        return None
    row, names = fitting
    if len(names) == 1:
        return names[0]
    problems.add(
        where=row.where,
        value=_keys(row),
        rule=f"the fields fit several formats: {', '.join(names)}",
        remedy="set data_format to the one that is meant",
    )
    return None


def _guessed(row: Row) -> str:
    names = [*row.fields, "asked", "answered"]
    return f"{names[0]}: prompt, {names[1]}: completion"


def _renamed(row: Row) -> str:
    """What to do about a row that would fit a format in other letters."""
    folded = {name.strip().lower() for name in row.fields}
    fitting = [fields for name, fields in FORMATS.items() if {*fields} <= folded]
    return _other_case(row, fitting[0]) if fitting else ""


def _fitting(row: Row) -> list[RowFormat]:
    """The formats whose fields are all there. ``text`` often stands beside another, as its rendering."""
    names = [name for name, required in FORMATS.items() if all(field in row.fields for field in required)]
    return [name for name in names if name != "text"] or names


def conversations(
    rows: Iterable[Row],
    data_format: str,
    problems: Problems,
    source: int = 0,
    columns: Mapping[str, str] | None = None,
    notes: dict[str, None] | None = None,
) -> list[Example]:
    """What each row teaches.

    ``data_format`` is a format's name, or ``auto``: then each file, folder or hub id is recognised
    by itself. ``columns`` are names of columns -> the fields that they mean. Rows that do not fit are added
    to ``problems`` and left out; how columns were read and what is not used is added to ``notes``.
    """
    examples: list[Example] = []
    notes = {} if notes is None else notes
    for _, group in groupby(rows, key=lambda row: row.source):
        of_file = list(group)
        of_file = with_columns(of_file, columns) if columns else of_file
        name = _named(data_format)
        if name is None:
            of_file, name = _recognised(of_file, problems, notes)
        if name is not None:
            _note_unused(of_file, name, notes)
            examples.extend(_examples(of_file, name, problems))
    return [replace(example, source=source) for example in examples] if source else examples


def _recognised(
    rows: list[Row], problems: Problems, notes: dict[str, None]
) -> tuple[list[Row], RowFormat | None]:
    """The rows with their columns as they are meant, and their format."""
    ways = [] if any(map(_fitting, rows)) else implied_columns(rows[0])
    if len(ways) > 1:
        problems.add(
            where=rows[0].where,
            value=_keys(rows[0]),
            rule="the columns can be read in several ways: " + "; or ".join(map(_read_as, ways)),
            remedy="say which under data_path, such as "
            f"{{path: {rows[0].source}, columns: {{{_yaml(ways[0])}}}}}",
        )
        return rows, None
    if ways:
        rows = with_columns(rows, ways[0])
        notes[f"{rows[0].source}: {_read_as(ways[0])}"] = None
    return rows, recognise(rows, problems)


def _read_as(columns: Mapping[str, str]) -> str:
    changed = {name: field for name, field in columns.items() if name != field}
    return ", ".join(f"{name} is read as {field}" for name, field in changed.items())


def _yaml(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{name}: {field}" for name, field in columns.items())


def _note_unused(rows: Iterable[Row], name: RowFormat, notes: dict[str, None]) -> None:
    unused: dict[str, None] = {}
    for row in rows:
        unused |= dict.fromkeys(row.fields.keys() - {*FORMATS[name], *_OPTIONAL})
    if unused:
        listed = sorted(unused)
        more = f" and {len(listed) - 8} more" if len(listed) > 8 else ""
        notes[f"fields of rows that are not used: {', '.join(listed[:8])}{more}"] = None


def _named(data_format: str) -> RowFormat | None:
    return next((name for name in FORMATS if name == data_format), None)


def _examples(rows: Iterable[Row], name: RowFormat, problems: Problems) -> Iterable[Example]:
    return chain.from_iterable(_examples_of(row, name, problems) for row in rows)


def _examples_of(row: Row, name: RowFormat, problems: Problems) -> list[Example]:
    try:
        _check_fields(row, name)
        return _CONVERTERS[name](row)
    except RowProblem as problem:
        problems.add_row(where=row.where, value=problem.value, rule=problem.rule, remedy=problem.remedy)
        return []


def _check_fields(row: Row, name: RowFormat) -> None:
    missing = [field for field in FORMATS[name] if field not in row.fields]
    if missing:
        raise RowProblem(
            _keys(row),
            f"{' and '.join(missing)} is missing: a row of {name} has {' and '.join(FORMATS[name])}",
            _other_case(row, missing) or "add the field, or name another data_format",
        )


def _other_case(row: Row, missing: Iterable[str]) -> str:
    """What to do about fields that are there in other letters, ``Question`` for ``question``."""
    written = {name.strip().lower(): name for name in row.fields}
    found = [f"{written[field]!r} {field}" for field in missing if field in written]
    return f"call {' and '.join(found)}" if found else ""


def _alpaca(row: Row) -> list[Example]:
    prompt = _instruction(_text(row, "instruction"), _optional_text(row, "input"))
    turns = (*_system(row), *_history(row), *_pair(prompt, _text(row, "output")))
    return [Example(turns, row.where)]


def _instruction(instruction: str, extra: str) -> str:
    return f"{instruction}\n\n{extra}" if extra else instruction


def _system(row: Row) -> tuple[Message, ...]:
    system = _optional_text(row, "system")
    return (Message(role="system", content=system),) if system else ()


def _history(row: Row) -> Iterable[Message]:
    pairs = row.fields.get("history") or []
    if not isinstance(pairs, list):
        raise RowProblem(pairs, "history is not a list of [user, assistant] pairs", "mend the row")
    for number, pair in enumerate(pairs, start=1):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise RowProblem(pair, f"item {number} of history is no [user, assistant] pair", "mend the row")
        yield from _pair(*(as_text(said, f"item {number} of history") for said in pair))


def _self_instruct(row: Row) -> list[Example]:
    instruction = _text(row, "instruction")
    instances = _list(row, "instances", "instance")
    return [_instance(row, instruction, item, number) for number, item in enumerate(instances, start=1)]


def _instance(row: Row, instruction: str, item: object, number: int) -> Example:
    if not isinstance(item, dict) or "output" not in item:
        raise RowProblem(item, f"instance {number} is not an object with input and output", "mend the row")
    given = item.get("input")
    extra = "" if given is None else as_text(given, f"input of instance {number}")
    answer = as_text(item["output"], f"output of instance {number}")
    return Example(_pair(_instruction(instruction, extra), answer), f"{row.where} instance {number}")


def _prompt_completion(row: Row) -> list[Example]:
    prompt, completion = row.fields["prompt"], row.fields["completion"]
    if not isinstance(prompt, list) and not isinstance(completion, list):
        turns = (*_system(row), *_pair(_text(row, "prompt"), _text(row, "completion")))
        return [Example(turns, row.where)]
    before, after = (*_system(row), *_messages_in(row, "prompt")), _messages_in(row, "completion")
    offered = tools(row.fields.get("tools"))
    return [
        Example(
            (*before, *after), row.where, tools=offered, prompt_messages=len(before), options=_options(row)
        )
    ]


def _question_answer(row: Row) -> list[Example]:
    return [Example(_pair(_text(row, "question"), _text(row, "answer")), row.where)]


def _pair(prompt: str, answer: str) -> tuple[Message, ...]:
    return Message(role="user", content=prompt), Message(role="assistant", content=answer)


def _messages(row: Row) -> list[Example]:
    return [_conversation(row, _messages_in(row, "messages"))]


def _messages_in(row: Row, field: str) -> tuple[Message, ...]:
    turns = enumerate(_list(row, field, "message"), start=1)
    return tuple(
        sharegpt_message(turn, number) if _keys_of(turn) == "sharegpt" else openai_message(turn, number)
        for number, turn in turns
    )


def _sharegpt(row: Row) -> list[Example]:
    turns = enumerate(_list(row, "conversations", "turn"), start=1)
    said = [
        openai_message(turn, number) if _keys_of(turn) == "messages" else sharegpt_message(turn, number)
        for number, turn in turns
    ]
    return [_conversation(row, said)]


def _keys_of(turn: object) -> str:
    """Which format a turn is of by its own keys; empty where they tell neither."""
    if not isinstance(turn, dict):
        return ""
    return "messages" if "role" in turn else "sharegpt" if "from" in turn else ""


def _conversation(row: Row, said: Iterable[Message]) -> Example:
    turns = (*_system(row), *said)
    return Example(turns, row.where, tools=tools(row.fields.get("tools")), options=_options(row))


def _options(row: Row) -> Mapping[str, Any]:
    given = parsed(row.fields.get("chat_template_kwargs"), "chat_template_kwargs")
    if not isinstance(given, (dict, type(None))):
        raise RowProblem(given, "chat_template_kwargs is not an object", "name each variable of the template")
    return {name: value for name, value in (given or {}).items() if value is not None}


def _plain_text(row: Row) -> list[Example]:
    return [Example((), row.where, text=_text(row, "text"))]


_CONVERTERS: dict[RowFormat, Callable[[Row], list[Example]]] = {
    "alpaca": _alpaca,
    "messages": _messages,
    "sharegpt": _sharegpt,
    "prompt_completion": _prompt_completion,
    "question_answer": _question_answer,
    "self_instruct": _self_instruct,
    "text": _plain_text,
}


def _list(row: Row, field: str, item: str) -> list[object]:
    value = row.fields[field]
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = parsed(value, field)  # as a table holds a list
    if not isinstance(value, list) or not value:
        raise RowProblem(value, f"{field} is a list of at least one {item}", "mend the row")
    return value


def _optional_text(row: Row, field: str) -> str:
    value = row.fields.get(field)
    return "" if value is None else as_text(value, field)


def _text(row: Row, field: str) -> str:
    return as_text(row.fields[field], field)


def _keys(row: Row) -> str:
    return shortened("fields " + ", ".join(sorted(row.fields)))


def _known_formats() -> str:
    return "; ".join(f"{name} ({', '.join(required)})" for name, required in FORMATS.items())

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

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

from sweeper.data.problems import Problems, Unusable, shortened
from sweeper.data.read.columns import implied_columns, with_columns
from sweeper.data.read.files import BUILTIN, sources_of
from sweeper.data.read.messages import (
    Message,
    Tool,
    as_text,
    is_learned,
    openai_message,
    parsed,
    sharegpt_message,
    tools,
)
from sweeper.data.read.read import Row, pieces
from sweeper.errors import DataError
from sweeper.space import DataFormat

__all__ = ["Example", "Reading", "conversations", "reading_of", "row_format"]

_OPTIONAL = ("input", "system", "history", "tools", "chat_template_kwargs")
"""Fields that some format uses where they are there."""
_NAMED_FIELDS = 8
"""So many unused fields are named; the rest is a number."""


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


@dataclass(frozen=True)
class Reading:
    """How the rows of one file, folder or hub id are read."""

    format: DataFormat
    columns: tuple[Mapping[str, str], ...] = ()
    """Names of columns -> the fields that they mean, one after another."""
    note: str = ""
    """How columns were taken that nobody has named."""

    def examples(
        self, rows: Iterable[Row], problems: Problems, source: int, unused: set[str]
    ) -> list[Example]:
        """What each row teaches. Rows that do not fit are added to ``problems`` and left out; the names of
        fields that are not used are added to ``unused``."""
        found: list[Example] = []
        convert, known = _FORMATS[self.format].convert, {*_FORMATS[self.format].required, *_OPTIONAL}
        for written in rows:
            row = self.named(written)
            unused.update(row.fields.keys() - known)
            with problems.noting(row.where, row=True):
                _check_fields(row, self.format)
                found += convert(row)
        return [replace(example, source=source) for example in found] if source else found

    def named(self, row: Row) -> Row:
        """The row with its columns as they are meant."""
        return with_columns(row, self.columns)

    def notes(self, unused: set[str]) -> list[str]:
        """What is told of columns and of fields that are not used."""
        names = sorted(unused)
        more = f" and {len(names) - _NAMED_FIELDS} more" if len(names) > _NAMED_FIELDS else ""
        told = f"fields of rows that are not used: {', '.join(names[:_NAMED_FIELDS])}{more}"
        return [note for note in (self.note, told if names else "") if note]


def conversations(
    rows: Iterable[Row],
    data_format: DataFormat,
    problems: Problems,
    source: int = 0,
    columns: Mapping[str, str] | None = None,
    notes: dict[str, None] | None = None,
) -> list[Example]:
    """What each row teaches.

    Where ``data_format`` is ``auto``, each file, folder or hub id is recognised by itself. ``columns`` are
    names of columns -> the fields that they mean. Rows that do not fit are added to ``problems`` and left
    out; how columns were read and what is not used is added to ``notes``.
    """
    examples: list[Example] = []
    for name, group in groupby(rows, key=lambda row: row.source):
        of_file, unused = list(group), set[str]()
        with problems.noting(name):
            reading = reading_of(of_file, data_format, columns)
            examples += reading.examples(of_file, problems, source, unused)
            if notes is not None:
                notes.update(dict.fromkeys(reading.notes(unused)))
    return examples


def row_format(data_path: str) -> DataFormat | None:
    """The format of a source's rows by its first one; None where it cannot be read here, or fits none or
    several."""
    if not (data_path == BUILTIN or Path(data_path).expanduser().exists()):
        return None  # a hub id is not fetched for that
    problems = Problems()
    try:
        first = next(source for group in sources_of((data_path,), problems) for source in group)
        piece = next(pieces(first, problems))
        return reading_of(list(islice(piece.read(problems), 1)), "auto").format
    except (DataError, Unusable, OSError, StopIteration, IndexError):  # no file, or no row in it
        return None


def reading_of(
    rows: Iterable[Row], data_format: DataFormat, columns: Mapping[str, str] | None = None
) -> Reading:
    """By the fields of the first row, or of the first that fits any format; no more rows are looked at, and
    there must be one. They can be gone through more than once.

    Raises: Unusable where no row fits any, or the row fits several.
    """
    given = (columns,) if columns else ()
    if data_format != "auto":
        return Reading(data_format, given)
    reading, ways = Reading("text", given), []  # its format is to be found
    first = reading.named(next(iter(rows)))
    row = _first_fitting(rows, reading)
    if row is None:
        ways = implied_columns(first)
        if len(ways) == 1:
            reading = Reading("text", (*given, *ways), note=f"{first.source}: {_read_as(ways[0])}")
            first, row = reading.named(next(iter(rows))), _first_fitting(rows, reading)
    row = row or first
    names = _fitting(row)
    if len(names) == 1:
        return replace(reading, format=names[0])
    if names:
        rule = f"the fields fit several formats: {', '.join(names)}"
        remedy = "set data_format to the one that is meant"
    elif len(ways) > 1:
        rule = "the columns can be read in several ways: " + "; or ".join(map(_read_as, ways))
        meant = ", ".join(f"{name}: {field}" for name, field in ways[0].items())
        remedy = f"say which under data_path, such as {{path: {row.source}, columns: {{{meant}}}}}"
    else:
        formats = "; ".join(f"{name} ({', '.join(one.required)})" for name, one in _FORMATS.items())
        rule, remedy = f"the fields fit none of the known formats: {formats}", _way_out(row)
    raise Unusable(rule, remedy, value=_keys(row), where=row.where)


def _first_fitting(rows: Iterable[Row], reading: Reading) -> Row | None:
    return next((row for row in map(reading.named, rows) if _fitting(row)), None)


def _way_out(row: Row) -> str:
    """What to do about a row that fits no format: it may fit one in other letters, or by other names."""
    for required, _ in _FORMATS.values():
        if {*required} <= _written(row).keys():
            return _other_case(row, required)
    asked, answered, *_ = [*row.fields, "asked", "answered"]
    return (
        "say what the columns mean under data_path, such as "
        f"{{path: {row.source}, columns: {{{asked}: prompt, {answered}: completion}}}}; "
        "or convert the rows to messages"
    )


def _fitting(row: Row) -> list[DataFormat]:
    """The formats whose fields are all there. ``text`` often stands beside another, as its rendering."""
    names = [name for name, one in _FORMATS.items() if row.fields.keys() >= {*one.required}]
    return [name for name in names if name != "text"] or names


def _read_as(columns: Mapping[str, str]) -> str:
    changed = {name: field for name, field in columns.items() if name != field}
    return ", ".join(f"{name} is read as {field}" for name, field in changed.items())


def _check_fields(row: Row, name: DataFormat) -> None:
    required = _FORMATS[name].required
    missing = [field for field in required if field not in row.fields]
    if missing:
        raise Unusable(
            f"{' and '.join(missing)} is missing: a row of {name} has {' and '.join(required)}",
            _other_case(row, missing) or "add the field, or name another data_format",
            value=_keys(row),
        )


def _written(row: Row) -> dict[str, str]:
    """Names of fields in small letters -> as the row has them."""
    return {name.strip().lower(): name for name in row.fields}


def _other_case(row: Row, missing: Iterable[str]) -> str:
    """What to do about fields that are there in other letters, ``Question`` for ``question``."""
    written = _written(row)
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
        raise Unusable("history is not a list of [user, assistant] pairs", "mend the row", pairs)
    for number, pair in enumerate(pairs, start=1):
        name = f"item {number} of history"
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise Unusable(f"{name} is no [user, assistant] pair", "mend the row", pair)
        yield from _pair(*(as_text(said, name) for said in pair))


def _self_instruct(row: Row) -> list[Example]:
    instruction = _text(row, "instruction")
    examples = []
    for number, item in enumerate(_list(row, "instances", "instance"), start=1):
        if not isinstance(item, dict) or "output" not in item:
            rule = f"instance {number} is not an object with input and output"
            raise Unusable(rule, "mend the row", item)
        given = item.get("input")
        extra = "" if given is None else as_text(given, f"input of instance {number}")
        turns = _pair(
            _instruction(instruction, extra), as_text(item["output"], f"output of instance {number}")
        )
        examples.append(Example(turns, f"{row.where} instance {number}"))
    return examples


def _prompt_completion(row: Row) -> list[Example]:
    prompt, completion = row.fields["prompt"], row.fields["completion"]
    if not isinstance(prompt, list) and not isinstance(completion, list):
        turns = (*_system(row), *_pair(_text(row, "prompt"), _text(row, "completion")))
        return [Example(turns, row.where)]
    before = (*_system(row), *_turns(row, "prompt"))
    return [_conversation(row, (*before, *_turns(row, "completion")), given=len(before))]


def _question_answer(row: Row) -> list[Example]:
    return [Example(_pair(_text(row, "question"), _text(row, "answer")), row.where)]


def _pair(prompt: str, answer: str) -> tuple[Message, ...]:
    return Message(role="user", content=prompt), Message(role="assistant", content=answer)


def _chat(row: Row, field: str) -> list[Example]:
    turns = _turns(row, field)
    return [_conversation(row, (*_system(row), *turns))]


def _turns(row: Row, field: str) -> tuple[Message, ...]:
    """The messages of a list. Each turn is read by its own keys; one that has none of either format as the
    name of the list says."""
    from_sharegpt = field == "conversations"
    return tuple(
        sharegpt_message(turn, number) if _is_sharegpt(turn, from_sharegpt) else openai_message(turn, number)
        for number, turn in enumerate(_list(row, field, "turn" if from_sharegpt else "message"), start=1)
    )


def _is_sharegpt(turn: object, usually: bool) -> bool:
    if isinstance(turn, dict) and "role" in turn:
        return False
    return usually or (isinstance(turn, dict) and "from" in turn)


def _conversation(row: Row, turns: tuple[Message, ...], given: int = 0) -> Example:
    offered = tools(row.fields.get("tools"))
    return Example(turns, row.where, tools=offered, prompt_messages=given, options=_options(row))


def _options(row: Row) -> Mapping[str, Any]:
    given = parsed(row.fields.get("chat_template_kwargs"), "chat_template_kwargs")
    if not isinstance(given, (dict, type(None))):
        raise Unusable("chat_template_kwargs is not an object", "name each variable of the template", given)
    return {name: value for name, value in (given or {}).items() if value is not None}


def _plain_text(row: Row) -> list[Example]:
    return [Example((), row.where, text=_text(row, "text"))]


class _Format(NamedTuple):
    required: tuple[str, ...]
    """The fields without which a row is not of the format."""
    convert: Callable[[Row], list[Example]]


_FORMATS: dict[DataFormat, _Format] = {
    "alpaca": _Format(("instruction", "output"), _alpaca),
    "messages": _Format(("messages",), lambda row: _chat(row, "messages")),
    "sharegpt": _Format(("conversations",), lambda row: _chat(row, "conversations")),
    "prompt_completion": _Format(("prompt", "completion"), _prompt_completion),
    "question_answer": _Format(("question", "answer"), _question_answer),
    "self_instruct": _Format(("instruction", "instances"), _self_instruct),
    "text": _Format(("text",), _plain_text),
}


def _list(row: Row, field: str, item: str) -> list[object]:
    value = row.fields[field]
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = parsed(value, field)  # as a table holds a list
    if not isinstance(value, list) or not value:
        raise Unusable(f"{field} is a list of at least one {item}", "mend the row", value)
    return value


def _optional_text(row: Row, field: str) -> str:
    value = row.fields.get(field)
    return "" if value is None else as_text(value, field)


def _text(row: Row, field: str) -> str:
    return as_text(row.fields[field], field)


def _keys(row: Row) -> str:
    return shortened("fields " + ", ".join(sorted(row.fields)))

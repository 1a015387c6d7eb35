"""Turns of a conversation as rows write them -> chat messages of one shape, tools and calls included.

Tools and calls are brought to the form that chat templates expect, which is OpenAI's: ``{"type":
"function", "function": {...}}``, the arguments an object and not its JSON text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, TypedDict

__all__ = [
    "LONGEST_TEXT",
    "ROLES",
    "Message",
    "RowProblem",
    "Tool",
    "as_text",
    "openai_message",
    "parsed",
    "sharegpt_message",
    "tools",
]

LONGEST_TEXT = 2**22
"""Characters: about a million tokens, of which a tokenizer takes 10 s and 1 GiB to make."""

ROLES = ("system", "developer", "user", "assistant", "tool")

_SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}

Tool = dict[str, Any]
"""A function that can be called, or a call of one: ``{"type": "function", "function": {...}}``."""


class _Turn(TypedDict):
    role: str
    content: str


class Message(_Turn, total=False):
    """One turn of a conversation."""

    tool_calls: list[Tool]
    """What an assistant calls; ``arguments`` is an object."""
    tool_call_id: str
    """Which call a tool answers."""
    name: str
    """Which tool answers."""


class RowProblem(Exception):
    """What is wrong with one row: value, rule, remedy."""

    def __init__(self, value: object, rule: str, remedy: str) -> None:
        super().__init__(value, rule, remedy)
        self.value, self.rule, self.remedy = value, rule, remedy


def openai_message(turn: object, number: int) -> Message:
    """A message with ``role`` and ``content``, which is a text or a list of text parts.

    Raises: RowProblem.
    """
    if not isinstance(turn, dict) or not {"role", "content"} <= turn.keys() | _implied(turn):
        raise RowProblem(turn, f"message {number} is not an object with role and content", "mend the row")
    role, content = turn["role"], turn.get("content")
    if role not in ROLES:
        raise RowProblem(role, f"message {number} has no known role", f"use one of {', '.join(ROLES)}")
    calls = turn.get("tool_calls") if role == "assistant" else None
    if calls and content is None:
        content = ""
    message = Message(role=role, content=_content(content, f"content of message {number}"))
    if calls:
        message["tool_calls"] = _calls(calls, f"tool_calls of message {number}")
    if role == "tool":
        _keep_origin(message, turn)
    return message


def _implied(turn: Mapping[str, object]) -> set[str]:
    """A message that calls tools needs no content."""
    return {"content"} if turn.get("tool_calls") else set()


def _keep_origin(message: Message, turn: Mapping[str, object]) -> None:
    call, name = turn.get("tool_call_id"), turn.get("name")
    if isinstance(call, str):
        message["tool_call_id"] = as_text(call, "tool_call_id")
    if isinstance(name, str):
        message["name"] = as_text(name, "name")


def sharegpt_message(turn: object, number: int) -> Message:
    """A turn with ``from`` and ``value``; a ``function_call`` holds the JSON text of one call or a list.

    Raises: RowProblem.
    """
    if not isinstance(turn, dict) or not {"from", "value"} <= turn.keys():
        raise RowProblem(turn, f"turn {number} is not an object with from and value", "mend the row")
    speaker = turn["from"]
    if not isinstance(speaker, str) or speaker not in _SHAREGPT_ROLES:
        known = ", ".join(_SHAREGPT_ROLES)
        raise RowProblem(speaker, f"turn {number} is from nobody known", f"use one of {known}")
    if speaker == "function_call":
        calls = _calls(turn["value"], f"value of turn {number}")
        return Message(role="assistant", content="", tool_calls=calls)
    return Message(role=_SHAREGPT_ROLES[speaker], content=as_text(turn["value"], f"value of turn {number}"))


def tools(value: object) -> tuple[Tool, ...]:
    """The functions that a row offers: a list, or the JSON text of one; nothing is none.

    Raises: RowProblem.
    """
    listed = parsed(value, "tools") if value != "" else None
    if listed is None:
        return ()
    if not isinstance(listed, list):
        raise RowProblem(listed, "tools is not a list of functions", "write a list, or its JSON text")
    return tuple(_function(item, f"tool {number} of tools") for number, item in enumerate(listed, start=1))


def _calls(value: object, name: str) -> list[Tool]:
    said = parsed(value, name)
    listed = said if isinstance(said, list) else [said]
    if not listed:
        raise RowProblem(value, f"{name} holds no call", "write the call, or an answer in words")
    return [_call(item, f"call {number} in {name}") for number, item in enumerate(listed, start=1)]


def _call(value: object, name: str) -> Tool:
    call = _function(value, name)
    arguments = parsed(call["function"].get("arguments"), f"arguments of {name}")
    if not isinstance(arguments, (dict, type(None))):
        raise RowProblem(arguments, f"arguments of {name} is not an object", "name each argument")
    return {**call, "function": {"name": call["function"]["name"], "arguments": arguments or {}}}


def _function(value: object, name: str) -> Tool:
    """Wrapped as ``{"type": "function", "function": ...}``, whether the row wraps it or not."""
    function = value.get("function") if isinstance(value, dict) and "function" in value else value
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise RowProblem(value, f"{name} is not a function with a name", "give it a name")
    _check_is_json(value, name)
    around = value if isinstance(value, dict) and function is not value else {}
    return {"type": "function", **{key: part for key, part in around.items() if part is not None}} | {
        "function": function
    }


def parsed(value: object, name: str) -> object:
    """The value, or what the JSON text holds.

    Raises: RowProblem for a text that is not JSON.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        at = value[max(0, error.pos - 20) : error.pos + 20].strip()
        rule = f"{name} is not JSON: {error.msg.lower()} at character {error.pos + 1}"
        raise RowProblem(at, rule, "mend the JSON text inside the row") from None
    except (ValueError, RecursionError) as error:
        raise RowProblem("", f"{name} is not usable JSON: {error}", "mend the row") from None


def _check_is_json(value: object, name: str) -> None:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:  # dates and the like, from Parquet
        raise RowProblem(value, f"{name} is not JSON: {error}", "write it with texts and numbers") from None
    _check_is_unicode(text, name)


def _content(value: object, name: str) -> str:
    if not isinstance(value, list):
        return as_text(value, name)
    return "".join(_part(part, f"part {number} of {name}") for number, part in enumerate(value, start=1))


def _part(part: object, name: str) -> str:
    if isinstance(part, str):
        return as_text(part, name)
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(part, dict) or kind != "text":
        raise RowProblem(kind or part, f"{name} is no text part", 'keep parts of {"type": "text"} only')
    return as_text(part.get("text"), name)


def as_text(value: object, name: str) -> str:
    """The value as text: a string as it is, a number as it is written.

    Raises: RowProblem for anything else, and for half of a surrogate pair.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):  # how tables say that there is no value
            raise RowProblem(value, f"{name} is not text", "write a string")
        return str(value)  # an answer that is a number, as CSV and Parquet converters write them
    if not isinstance(value, str):
        raise RowProblem(value, f"{name} is not text", "write a string")
    if len(value) > LONGEST_TEXT:
        rule = f"{name} has {len(value):,} characters, and a text has at most {LONGEST_TEXT:,}"
        raise RowProblem(value, rule, "cut it, or split it into several rows")
    _check_is_unicode(value, name)
    return value


def _check_is_unicode(text: str, name: str) -> None:
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        rule = f"{name} holds half of a surrogate pair"
        raise RowProblem(ascii(text), rule, "mend the \\u escape in the row") from None

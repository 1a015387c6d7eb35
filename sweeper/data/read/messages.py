"""Turns of a conversation as rows write them -> chat messages of one shape, tools and calls included.

Tools and calls are brought to the form that chat templates expect, which is OpenAI's: ``{"type":
"function", "function": {...}}``, the arguments an object and not its JSON text. Reasoning stands under one
name, and so does the wish that a turn carries no loss. Every other field of a turn stays as it is, since
a chat template may look at it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, TypedDict, cast

from sweeper.data.problems import Unusable

__all__ = [
    "KNOWN_KEYS",
    "LONGEST_TEXT",
    "REASONING_KEYS",
    "ROLES",
    "Message",
    "Tool",
    "as_text",
    "is_learned",
    "openai_message",
    "parsed",
    "sharegpt_message",
    "tools",
]

LONGEST_TEXT = 2**22
"""Characters: about a million tokens, of which a tokenizer takes 10 s and 1 GiB to make."""

ROLES = ("system", "developer", "user", "assistant", "tool")

_OTHER_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function": "tool",
    "ipython": "tool",
    "observation": "tool",
}
"""Names of roles in other data -> ours."""

_CALLING = "function_call"
"""The ShareGPT role of a turn whose text is a call."""

REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
"""Where rows and templates have what an assistant thought before it answered; a message has the first."""

_LOSS_KEYS = ("weight", "train", "training", "trainable", "train_on_turn", "loss", "loss_mask")
"""0 or false: no loss on this turn. ``weight`` is OpenAI's and mistral-finetune's name for it, ``train`` and
``training`` are what axolotl's ``message_field_training`` usually names, ``loss`` is ms-swift's."""

KNOWN_KEYS = frozenset(
    {"role", "content", "from", "value", "tool_calls", "tool_call_id", "name", *REASONING_KEYS, *_LOSS_KEYS}
)
"""Keys of a message that mean something here, whatever the chat template knows."""

Tool = dict[str, Any]
"""A function that can be called, or a call of one: ``{"type": "function", "function": {...}}``."""


class _Turn(TypedDict):
    role: str
    content: str


class Message(_Turn, total=False):
    """One turn of a conversation; further fields are as the row has them."""

    tool_calls: list[Tool]
    """What an assistant calls; ``arguments`` is an object."""
    reasoning_content: str
    """What an assistant thought before it answered."""
    weight: int
    """0: this turn carries no loss."""
    tool_call_id: str
    """Which call a tool answers."""
    name: str
    """Which tool answers."""


def is_learned(message: Message) -> bool:
    """Whether the turn is an assistant's that the row wants to be learned."""
    return message["role"] == "assistant" and message.get("weight") != 0


def openai_message(turn: object, number: int) -> Message:
    """A message with ``role`` and ``content``, which is a text or a list of text parts.

    Raises: Unusable.
    """
    name = f"message {number}"
    if not isinstance(turn, dict) or not {"role", "content"} <= turn.keys() | _implied(turn):
        raise Unusable(f"{name} is not an object with role and content", "mend the row", turn)
    role = _role(turn["role"])
    if role not in ROLES:
        raise Unusable(f"{name} has no known role", f"use one of {', '.join(ROLES)}", role)
    calls = turn.get("tool_calls") if role == "assistant" else None
    content, thought = turn.get("content"), ""
    if isinstance(content, list):
        content, thought = _of_parts(content, f"content of {name}")
    elif content is None and _implied(turn):
        content = ""
    message = Message(role=role, content=as_text(content, f"content of {name}"))
    if calls:
        message["tool_calls"] = _calls(calls, f"tool_calls of {name}")
    return _with_the_rest(message, turn, name, thought)


def _role(name: Any) -> Any:
    """The role that is meant, where the name is that of one."""
    return _OTHER_ROLES.get(name, name) if isinstance(name, str) else name


def _implied(turn: Mapping[str, object]) -> set[str]:
    """A message that calls tools, or that thinks, needs no content."""
    return {"content"} if turn.get("tool_calls") or any(turn.get(key) for key in REASONING_KEYS) else set()


def sharegpt_message(turn: object, number: int) -> Message:
    """A turn with ``from`` and ``value``; a ``function_call`` holds the JSON text of one call or a list.

    Raises: Unusable.
    """
    name = f"turn {number}"
    if not isinstance(turn, dict) or not {"from", "value"} <= turn.keys():
        raise Unusable(f"{name} is not an object with from and value", "mend the row", turn)
    role = _role(turn["from"])
    if role not in (*ROLES, _CALLING):
        known = ", ".join((*ROLES, *_OTHER_ROLES, _CALLING))
        raise Unusable(f"{name} is from nobody known", f"use one of {known}", turn["from"])
    if role == _CALLING:
        message = Message(role="assistant", content="", tool_calls=_calls(turn["value"], f"value of {name}"))
    else:
        message = Message(role=role, content=as_text(turn["value"], f"value of {name}"))
    return _with_the_rest(message, turn, name, "")


def _with_the_rest(message: Message, turn: Mapping[str, Any], name: str, thought: str) -> Message:
    """The message with its reasoning, its weight, and every other field of the turn."""
    taken = KNOWN_KEYS - {"tool_call_id", "name"}
    rest = {key: value for key, value in turn.items() if key not in taken and value is not None}
    if rest:
        _check_is_json(rest, name)
        message = cast("Message", {**rest, **message})
    if message["role"] == "assistant":
        if reasoning := thought or _reasoning(turn, name):
            message["reasoning_content"] = reasoning
        if not _carries_loss(turn, name):
            message["weight"] = 0
    return message


def _reasoning(turn: Mapping[str, object], name: str) -> str:
    said = ((key, turn[key]) for key in REASONING_KEYS if turn.get(key))
    return next((as_text(value, f"{key} of {name}") for key, value in said), "")


def _carries_loss(turn: Mapping[str, object], name: str) -> bool:
    """Raises: Unusable for a value that says neither yes nor no, and for two that contradict each other."""
    said = {key: turn[key] for key in _LOSS_KEYS if turn.get(key) is not None}
    for key, value in said.items():
        if not isinstance(value, (bool, int, float)) or value not in (0, 1):
            raise Unusable(
                f"{key} of {name} is 0 or 1: whether this turn carries loss",
                "write 0 or 1; to see some rows more often give their file a weight in data_path",
                value,
            )
    if len({bool(value) for value in said.values()}) > 1:
        raise Unusable(f"{' and '.join(said)} of {name} contradict each other", "keep one of them", said)
    return all(said.values())


def tools(value: object) -> tuple[Tool, ...]:
    """The functions that a row offers: a list, or the JSON text of one; nothing is none.

    Raises: Unusable.
    """
    listed = parsed(value, "tools") if value != "" else None
    if listed is None:
        return ()
    if not isinstance(listed, list):
        raise Unusable("tools is not a list of functions", "write a list, or its JSON text", listed)
    return tuple(_function(item, f"tool {number} of tools") for number, item in enumerate(listed, start=1))


def _calls(value: object, name: str) -> list[Tool]:
    said = parsed(value, name)
    listed = said if isinstance(said, list) else [said]
    if not listed:
        raise Unusable(f"{name} holds no call", "write the call, or an answer in words", value)
    return [_call(item, f"call {number} in {name}") for number, item in enumerate(listed, start=1)]


def _call(value: object, name: str) -> Tool:
    call = _function(value, name)
    arguments = parsed(call["function"].get("arguments"), f"arguments of {name}")
    if not isinstance(arguments, (dict, type(None))):
        raise Unusable(f"arguments of {name} is not an object", "name each argument", arguments)
    return {**call, "function": {"name": call["function"]["name"], "arguments": arguments or {}}}


def _function(value: object, name: str) -> Tool:
    """Wrapped as ``{"type": "function", "function": ...}``, whether the row wraps it or not."""
    function = value.get("function") if isinstance(value, dict) and "function" in value else value
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise Unusable(f"{name} is not a function with a name", "give it a name", value)
    _check_is_json(value, name)
    around = value if isinstance(value, dict) and function is not value else {}
    return {"type": "function", **{key: part for key, part in around.items() if part is not None}} | {
        "function": function
    }


def parsed(value: object, name: str) -> object:
    """The value, or what the JSON text holds.

    Raises: Unusable for a text that is not JSON.
    """
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        at = value[max(0, error.pos - 20) : error.pos + 20].strip()
        rule = f"{name} is not JSON: {error.msg.lower()} at character {error.pos + 1}"
        raise Unusable(rule, "mend the JSON text inside the row", at) from None
    except (ValueError, RecursionError) as error:
        raise Unusable(f"{name} is not usable JSON: {error}", "mend the row") from None


def _check_is_json(value: object, name: str) -> None:
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:  # dates and the like, from Parquet
        raise Unusable(f"{name} is not JSON: {error}", "write it with texts and numbers", value) from None
    _check_is_unicode(text, name)


_THOUGHT_PARTS = ("thinking", "reasoning")


def _of_parts(parts: list[object], name: str) -> tuple[str, str]:
    """What the parts of a content say, and what they think."""
    said, thought = [], []
    for number, part in enumerate(parts, start=1):
        part_name = f"part {number} of {name}"
        fields = {"type": "text", "text": part} if isinstance(part, str) else part
        kind = fields.get("type") if isinstance(fields, dict) else None
        if not isinstance(fields, dict) or kind not in ("text", *_THOUGHT_PARTS):
            raise Unusable(
                f"{part_name} is no text part", 'keep parts of {"type": "text"} only', kind or part
            )
        if kind == "text":
            said.append(as_text(fields.get("text"), part_name))
        else:
            thought.append(_text_of(fields.get(kind, fields.get("text")), part_name))
    return "".join(said), "\n".join(thought)


def _text_of(value: object, name: str) -> str:
    return _of_parts(value, name)[0] if isinstance(value, list) else as_text(value, name)


def as_text(value: object, name: str) -> str:
    """The value as text: a string as it is, a number as it is written.

    Raises: Unusable for anything else, and for half of a surrogate pair.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf:
        return str(value)  # an answer that is a number, as CSV and Parquet converters write them
    if not isinstance(value, str):  # nor a number that is none, by which tables say that there is no value
        raise Unusable(f"{name} is not text", "write a string", value)
    if len(value) > LONGEST_TEXT:
        rule = f"{name} has {len(value):,} characters, and a text has at most {LONGEST_TEXT:,}"
        raise Unusable(rule, "cut it, or split it into several rows", value)
    _check_is_unicode(value, name)
    return value


def _check_is_unicode(text: str, name: str) -> None:
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Unusable(
            f"{name} holds half of a surrogate pair", "mend the \\u escape in the row", ascii(text)
        ) from None

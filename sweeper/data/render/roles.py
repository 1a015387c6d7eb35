"""Conversations for chat templates that do not know every role, or want the roles to alternate.

What a template refuses as it stands is said in other roles: what the system says goes before what the next
user says, and neighbouring turns of one role become one turn. That is what people do by hand for the Gemma
and older Mistral families.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

from sweeper.data.read.formats import Example
from sweeper.data.read.messages import REASONING_KEYS, Message

__all__ = ["SYSTEM_ROLES", "in_other_roles"]

SYSTEM_ROLES = ("system", "developer")


def in_other_roles(example: Example) -> Iterator[tuple[Example, frozenset[str]]]:
    """The example as it is, with ``developer`` by its older name, and without a system's turns and two
    neighbours of one role, as far as they differ; each with the keys of ``ADAPTATIONS`` of what was done."""
    yield example, frozenset()
    if any(message["role"] == "developer" for message in example.messages):
        renamed = (_as(one, "system") if one["role"] == "developer" else one for one in example.messages)
        yield replace(example, messages=tuple(renamed)), frozenset()
    if (alternating := _alternating(example)) is not None:
        yield alternating


def _alternating(example: Example) -> tuple[Example, frozenset[str]] | None:
    """None where nothing would change, or where turns would have to be joined of which one is learned and the
    other is not."""
    joined: list[tuple[Message, bool]] = []
    systems = 0
    for index, message in enumerate(example.messages):
        is_system, is_given = message["role"] in SYSTEM_ROLES, index < example.prompt_messages
        systems += is_system
        turn = _as(message, "user") if is_system else message
        if not joined or not joined[-1][0]["role"] == turn["role"] != "tool":
            joined.append((turn, is_given))
            continue
        before, was_given = joined.pop()
        if turn["role"] == "assistant" and (
            was_given != is_given or before.get("weight") != turn.get("weight")
        ):
            return None
        joined.append((_together(before, turn), was_given))
    messages = tuple(turn for turn, _ in joined)
    if messages == example.messages:
        return None
    adapted = {"system_in_user"} if systems else set()
    if len(messages) < len(example.messages) - systems:
        adapted.add("turns_joined")
    given = sum(was_given for _, was_given in joined)
    return replace(example, messages=messages, prompt_messages=given), frozenset(adapted)


def _as(message: Message, role: str) -> Message:
    return cast("Message", {**message, "role": role})


def _together(first: Message, second: Message) -> Message:
    """Two turns of one role as one, their texts a blank line apart."""
    both = {**first, **second, "content": _joined(first["content"], second["content"])}
    for key in REASONING_KEYS:
        if key in both:
            both[key] = _joined(str(first.get(key, "")), str(second.get(key, "")))
    if calls := [*first.get("tool_calls", ()), *second.get("tool_calls", ())]:
        both["tool_calls"] = calls
    return cast("Message", both)


def _joined(*texts: str) -> str:
    return "\n\n".join(text for text in texts if text)

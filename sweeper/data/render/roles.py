"""Conversations for chat templates that do not know every role, or want the roles to alternate.

What a template refuses as it stands is said in other roles: what the system says goes before what the next
user says, and neighbouring turns of one role become one turn. That is what people do by hand for the Gemma
and older Mistral families.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from sweeper.data.read.messages import REASONING_KEYS, Message

__all__ = ["SYSTEM_ROLES", "alternating", "with_plain_roles"]

SYSTEM_ROLES = ("system", "developer")


def with_plain_roles(messages: Iterable[Message]) -> tuple[Message, ...]:
    """``developer`` by its older name, ``system``."""
    return tuple(
        _as(message, "system") if message["role"] == "developer" else message for message in messages
    )


def alternating(messages: Sequence[Message], given: int) -> tuple[tuple[Message, ...], int] | None:
    """The conversation without a system's turns, no two neighbours of one role.

    Args:
        messages: the conversation.
        given: so many messages at its beginning are a prompt and not learned.

    Returns the messages and how many of them are the prompt; None where turns would have to be joined of
    which one is learned and the other is not.
    """
    joined: list[tuple[Message, bool]] = []
    for index, message in enumerate(messages):
        turn = _as(message, "user") if message["role"] in SYSTEM_ROLES else message
        is_given = index < given
        if joined and joined[-1][0]["role"] == turn["role"] != "tool":
            before, was_given = joined.pop()
            if turn["role"] == "assistant" and (
                was_given != is_given or before.get("weight") != turn.get("weight")
            ):
                return None
            joined.append((_together(before, turn), was_given))
        else:
            joined.append((turn, is_given))
    return tuple(turn for turn, _ in joined), sum(was_given for _, was_given in joined)


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

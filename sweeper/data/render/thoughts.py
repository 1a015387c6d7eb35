"""Reasoning in what an assistant says: in a field of its own, or between tags inside of the content.

Templates of reasoning models take the field (``reasoning_content``, ``reasoning`` or ``thinking``), or
take the content apart at their tags, or drop what was thought from the history. So reasoning is told
from the answer first, and each template then gets it in the way that it knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from sweeper.data.read.messages import REASONING_KEYS, Message

__all__ = ["TAGS", "ThinkTags", "bare", "reasoning_of", "split_reasoning", "tagged", "with_reasoning"]


@dataclass(frozen=True, slots=True)
class ThinkTags:
    """What stands before and after reasoning."""

    opening: str
    closing: str

    def opened_at_end(self, text: str) -> str | None:
        """The end of the text from an opening tag on, where nothing but white space follows it."""
        kept = text.rstrip()
        return text[len(kept) - len(self.opening) :] if kept.endswith(self.opening) else None


TAGS = (
    ThinkTags("<think>", "</think>"),
    ThinkTags("<thinking>", "</thinking>"),
    ThinkTags("<thought>", "</thought>"),
    ThinkTags("[THINK]", "[/THINK]"),
    ThinkTags("<seed:think>", "</seed:think>"),
    ThinkTags("<|START_THINKING|>", "<|END_THINKING|>"),
)
"""Pairs that models are trained with: Qwen3, DeepSeek, GLM and most others; Magistral; Seed; Command A."""


def reasoning_of(message: Mapping[str, object]) -> str:
    """What was thought before the answer; empty where the message says nothing of it."""
    return str(message.get(REASONING_KEYS[0]) or "")


def split_reasoning(message: Message) -> Message:
    """An answer with reasoning out of its content: from the content's beginning up to a closing tag,
    whether the opening one stands there or was left to the template's invitation."""
    if reasoning_of(message):
        return message
    for tags in TAGS:
        before, closed, after = message["content"].partition(tags.closing)
        if not closed:
            continue
        around, opened, inside = before.partition(tags.opening)
        if opened and around.strip():
            continue  # the tags stand in the middle of an answer: part of what is said
        thought = (inside if opened else before).strip("\n")
        answer = after.lstrip("\n")
        return with_reasoning(cast("Message", {**message, "content": answer}), thought)
    return message


def with_reasoning(message: Message, reasoning: str) -> Message:
    """The message with its reasoning under every name that a template may look for."""
    fields = dict.fromkeys(REASONING_KEYS, reasoning) if reasoning else {}
    return cast("Message", {**bare(message), **fields})


def bare(message: Message) -> Message:
    """The message without its reasoning."""
    return cast("Message", {key: value for key, value in message.items() if key not in REASONING_KEYS})


def tagged(message: Message, tags: ThinkTags) -> Message:
    """The message with its reasoning between tags at the beginning of its content."""
    said = f"{tags.opening}\n{reasoning_of(message)}\n{tags.closing}\n\n{message['content']}"
    return cast("Message", {**bare(message), "content": said})

"""Examples -> text, whether or not the chat template knows tools.

Some templates write tools and calls in the model's own way; many ignore them, and some refuse a
message of the role ``tool``. What a template can do is found out once, on a small conversation with a
tool, a call and an answer. An example with tools is then written in the first of these ways that
works for the template and for the example:

1. natively: ``tools`` and ``tool_calls`` are handed to the template;
2. as text: the tools as JSON at the end of the system message, a call as ``{"name": ...,
   "arguments": ...}`` in what the assistant says, a tool's answer as a message of the role ``tool``;
3. the same with the tool's answer as the user's;
4. the same with the tools at the beginning of the first message, for templates without a system role.

Calls are learned like everything that an assistant says, answers of tools never.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from sweeper.data.formats import Example
from sweeper.data.messages import Message, Tool
from sweeper.data.render import Rendered, TemplateProblem, render_conversation, render_text
from sweeper.data.tokenizer import Tokenizer, begin_text

__all__ = ["Renderer"]


@dataclass(frozen=True, kw_only=True)
class _Style:
    """How tools are written as text."""

    answers_as: Literal["tool", "user"]
    tools_in: Literal["system", "user"]


_STYLES: tuple[_Style | None, ...] = (
    None,
    _Style(answers_as="tool", tools_in="system"),
    _Style(answers_as="user", tools_in="system"),
    _Style(answers_as="user", tools_in="user"),
)
"""In the order in which they are tried; None is the template's own way."""

_HEADING = "Functions that can be called, as JSON:"
_HOW_TO_CALL = 'A call is an answer in JSON: {"name": "...", "arguments": {...}}'


class Renderer:
    """Turns examples into text with one tokenizer; what its template can do is found out once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def render(self, example: Example) -> Rendered:
        """The example's text and where in it is learned.

        Raises: TemplateProblem.
        """
        if example.text is not None:
            return render_text(example.text, begin=self._begin, end=self._tokenizer.eos_token or "")
        if not _has_tools(example):
            return render_conversation(example, self._tokenizer)
        tried = (_try(example, style, self._tokenizer) for style in self._styles)
        failure: TemplateProblem | None = None
        for outcome in tried:
            if isinstance(outcome, Rendered):
                return outcome
            failure = failure or outcome
        assert failure is not None
        raise failure

    @cached_property
    def _begin(self) -> str:
        return begin_text(self._tokenizer)

    @cached_property
    def _styles(self) -> tuple[_Style | None, ...]:
        return tuple(style for style in _STYLES if _works(style, self._tokenizer)) or _STYLES[-1:]


def _has_tools(example: Example) -> bool:
    return bool(example.tools) or any(
        message["role"] == "tool" or "tool_calls" in message for message in example.messages
    )


def _try(example: Example, style: _Style | None, tokenizer: Tokenizer) -> Rendered | TemplateProblem:
    try:
        return _in_style(example, style, tokenizer)
    except TemplateProblem as problem:
        return problem


def _in_style(example: Example, style: _Style | None, tokenizer: Tokenizer) -> Rendered:
    if style is None:
        return _natively(example, tokenizer)
    return replace(render_conversation(_as_text(example, style), tokenizer), tools_as_text=True)


def _natively(example: Example, tokenizer: Tokenizer) -> Rendered:
    """Some templates leave the calls of a turn out where it also has content; that is a failure here."""
    rendered = render_conversation(example, tokenizer)
    learned = [one for one in example.messages[example.prompt_messages :] if one["role"] == "assistant"]
    for message, (start, end) in zip(learned, rendered.spans, strict=True):
        turn = rendered.text[start:end]
        if any(call["function"]["name"] not in turn for call in message.get("tool_calls", ())):
            raise TemplateProblem("the chat template leaves out a call", "name another chat_template")
    return rendered


def _as_text(example: Example, style: _Style) -> Example:
    """The example as messages that any template can write."""
    messages = [_as_plain_message(message, style) for message in example.messages]
    added = 0
    if example.tools:
        messages, added = _with_tools(messages, _listed(example.tools), style)
    moved = example.prompt_messages + added if example.prompt_messages else 0
    return replace(example, messages=tuple(messages), tools=(), prompt_messages=moved)


def _as_plain_message(message: Message, style: _Style) -> Message:
    if message["role"] == "tool":
        return Message(role=style.answers_as, content=message["content"])
    calls = [_call_text(call) for call in message.get("tool_calls", ())]
    said = [message["content"]] if message["content"] or not calls else []
    return Message(role=message["role"], content="\n".join([*said, *calls]))


def _call_text(call: Tool) -> str:
    function = call["function"]
    return _json({"name": function["name"], "arguments": function["arguments"]})


def _listed(tools: Iterable[Tool]) -> str:
    return "\n".join([_HEADING, *(_json(tool["function"]) for tool in tools), _HOW_TO_CALL])


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _with_tools(messages: Sequence[Message], listed: str, style: _Style) -> tuple[list[Message], int]:
    """The messages with the list of tools in them, and how many messages that added."""
    first, *rest = messages
    if style.tools_in == "system" and first["role"] != "system":
        return [Message(role="system", content=listed), *messages], 1
    if first["role"] == "assistant":
        return [Message(role="user", content=listed), *messages], 1
    parts = [first["content"], listed] if first["role"] == "system" else [listed, first["content"]]
    return [Message(role=first["role"], content="\n\n".join(part for part in parts if part)), *rest], 0


_PROBE = Example(
    messages=(
        Message(role="user", content="probe-question"),
        Message(
            role="assistant",
            content="",
            tool_calls=[
                {"type": "function", "function": {"name": "probe_call", "arguments": {"key": "probe-value"}}}
            ],
        ),
        Message(role="tool", content="probe-answer", name="probe_call"),
        Message(role="assistant", content="probe-end"),
    ),
    where="",
    tools=(
        {
            "type": "function",
            "function": {
                "name": "probe_call",
                "description": "probe-description",
                "parameters": {"type": "object", "properties": {"key": {"type": "string"}}},
            },
        },
    ),
)
"""Words that no template writes by itself."""


def _works(style: _Style | None, tokenizer: Tokenizer) -> bool:
    """Whether everything that the probe says is in the text, and each part where it belongs."""
    rendered = _try(_PROBE, style, tokenizer)
    if isinstance(rendered, TemplateProblem):
        return False
    (start, end), (final_start, final_end) = rendered.spans
    asked, called = rendered.text[:start], rendered.text[start:end]
    answered, final = rendered.text[end:final_start], rendered.text[final_start:final_end]
    return (
        all(word in asked for word in ("probe_call", "probe-description", "probe-question"))
        and all(word in called for word in ("probe_call", "probe-value"))
        and "probe-answer" in answered
        and "probe-end" in final
    )

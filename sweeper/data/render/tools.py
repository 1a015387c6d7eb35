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

In each of these ways an example is tried with the roles that it has, and where the template refuses those, or
leaves out what the system says, with the roles of ``sweeper.data.render.roles``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, cast

from sweeper.data.read.formats import Example
from sweeper.data.read.messages import Message, Tool, is_learned
from sweeper.data.render.chat_template import ChatTemplate, TemplateProblem
from sweeper.data.render.render import Rendered, render_conversation
from sweeper.data.render.roles import SYSTEM_ROLES, in_other_roles
from sweeper.data.render.tokenizer import Encoder, Tokenizer, batch_encoder, begin_text

__all__ = ["ADAPTATIONS", "Renderer"]


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


ADAPTATIONS = {
    "tools_as_text": "with tools written as text",
    "system_in_user": "with the system's text before the user's, since the chat template takes no system",
    "turns_joined": "with neighbouring turns of one role joined, since the chat template refuses them",
    "reasoning_as_text": "with reasoning between think tags, since the chat template has no place for it",
    "after_invitation": "with answers put behind the chat template's invitation, which it does not repeat",
}
"""What may be done so that a template takes an example; in words that follow a number of rows."""


class Renderer:
    """Turns examples into text with one tokenizer; what its template can do is found out once."""

    def __init__(self, tokenizer: Tokenizer, *, learn_template: bool = False) -> None:
        self.tokenizer, self._learn_template = tokenizer, learn_template
        self.template = ChatTemplate(tokenizer)

    def render(self, example: Example) -> tuple[Rendered, ...]:
        """The example's sequences and where in them is learned: of plain text, which stands between the begin
        and the end token, all but the begin token.

        Raises: TemplateProblem.
        """
        if example.text is not None:
            text = f"{self._begin}{example.text}{self.tokenizer.eos_token or ''}"
            return (Rendered(text, ((len(self._begin), len(text)),)),)
        failure: TemplateProblem | None = None
        for style in self._styles if _has_tools(example) else (None,):
            for adapted in in_other_roles(example if style is None else _as_text(example, style)):
                try:
                    return self._in_style(*adapted, style)
                except TemplateProblem as problem:  # noqa: PERF203  # of all ways the first tells why
                    failure = failure or problem
        assert failure is not None
        raise failure

    @cached_property
    def encoder(self) -> Encoder:
        """Makes tokens of the texts."""
        return batch_encoder(self.tokenizer)

    @cached_property
    def _begin(self) -> str:
        return begin_text(self.tokenizer)

    @cached_property
    def _styles(self) -> tuple[_Style | None, ...]:
        return tuple(style for style in _STYLES if self._works(style)) or _STYLES[-1:]

    def _in_style(
        self, example: Example, adapted: frozenset[str], style: _Style | None
    ) -> tuple[Rendered, ...]:
        """Raises: TemplateProblem, also where the template leaves out what the example says."""
        sequences = render_conversation(example, self.template, learn_template=self._learn_template)
        _require_system(example, sequences)
        if style is None:
            _require_calls(example, sequences)
        else:
            adapted |= {"tools_as_text"}
        return tuple(replace(one, adapted=one.adapted | adapted) for one in sequences)

    def _works(self, style: _Style | None) -> bool:
        """Whether everything that the probe says is in the text, and each part where it belongs."""
        try:
            probe = _PROBE if style is None else _as_text(_PROBE, style)
            sequences = self._in_style(probe, frozenset(), style)
        except TemplateProblem:
            return False
        first, last = sequences[0], sequences[-1]
        (start, end), (final_start, final_end) = first.spans[0], last.spans[-1]
        after = end if len(sequences) == 1 else 0
        return (
            all(word in first.text[:start] for word in ("probe_call", "probe-description", "probe-question"))
            and all(word in first.text[start:end] for word in ("probe_call", "probe-value"))
            and "probe-answer" in last.text[after:final_start]
            and "probe-end" in last.text[final_start:final_end]
        )


def _has_tools(example: Example) -> bool:
    return bool(example.tools) or any(
        message["role"] == "tool" or "tool_calls" in message for message in example.messages
    )


def _require_system(example: Example, sequences: Sequence[Rendered]) -> None:
    """Some templates leave out the turns of a role that they do not know.

    Raises: TemplateProblem.
    """
    said = [one["content"].strip() for one in example.messages if one["role"] in SYSTEM_ROLES]
    if sequences and not all(text in sequences[-1].text for text in said):
        raise TemplateProblem(
            "the chat template leaves out what the system says", "name another chat_template"
        )


def _require_calls(example: Example, sequences: Sequence[Rendered]) -> None:
    """Some templates leave the calls of a turn out where it also has content.

    Raises: TemplateProblem.
    """
    learned = [one for one in example.messages[example.prompt_messages :] if is_learned(one)]
    turns = [one.text[start:end] for one in sequences for start, end in one.spans]
    for message, turn in zip(learned, turns, strict=True):
        if any(call["function"]["name"] not in turn for call in message.get("tool_calls", ())):
            raise TemplateProblem("the chat template leaves out a call", "name another chat_template")


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
    calls = [call["function"] for call in message.get("tool_calls", ())]
    if not calls:
        return message
    said = [message["content"]] if message["content"] else []
    said += [_json({"name": call["name"], "arguments": call["arguments"]}) for call in calls]
    plain = {key: value for key, value in message.items() if key != "tool_calls"}
    return cast("Message", {**plain, "content": "\n".join(said)})


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


def _function(**fields: object) -> Tool:
    return {"type": "function", "function": fields}


_PROBE = Example(
    messages=(
        Message(role="user", content="probe-question"),
        Message(
            role="assistant",
            content="",
            tool_calls=[_function(name="probe_call", arguments={"key": "probe-value"})],
        ),
        Message(role="tool", content="probe-answer", name="probe_call"),
        Message(role="assistant", content="probe-end"),
    ),
    where="",
    tools=(
        _function(
            name="probe_call",
            description="probe-description",
            parameters={"type": "object", "properties": {"key": {"type": "string"}}},
        ),
    ),
)
"""Words that no template writes by itself."""

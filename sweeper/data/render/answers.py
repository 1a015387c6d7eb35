"""One answer of a conversation: its context, its text, and what of it the row says.

What the template writes by itself into a turn (an empty block of reasoning, a channel's name) is told from
what the row says by having the template write another answer in its place: what both have in common is the
template's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweeper.data.read.messages import Message, Tool
from sweeper.data.render.chat_template import ChatTemplate, TemplateProblem, same_start
from sweeper.data.render.thoughts import TAGS, ThinkTags, bare, reasoning_of, tagged

__all__ = ["Answer", "Conversation", "answer_at"]

_OTHER = Message(role="assistant", content="\ue000\ue001")
"""An answer that begins like no other."""


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Messages as a template gets them."""

    template: ChatTemplate
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    options: Mapping[str, Any]
    """Variables of the template that the row sets."""
    learn_template: bool = False
    """Whether what the template writes into an answer carries loss as well."""

    def text(
        self, messages: Sequence[Message], options: Mapping[str, Any] | None = None, *, invite: bool = False
    ) -> str:
        """Raises: TemplateProblem."""
        asked = {**(options or {}), **self.options}
        return self.template.text(messages, self.tools, asked, invite=invite)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer behind its context."""

    text: str
    """The context, the answer and what the template writes after it."""
    context: int
    """Where the context ends."""
    start: int
    """Where what is learned begins."""
    end: int
    """One after its last character."""
    adapted: frozenset[str] = frozenset()


def answer_at(chat: Conversation, index: int) -> Answer:
    """The answer that is message ``index``.

    Raises: TemplateProblem.
    """
    message, history = chat.messages[index], chat.messages[:index]
    for options in ({}, _thinking(bool(reasoning_of(message)))):
        before = chat.text(history, options, invite=True)
        for way, said in _ways(chat.template, message):
            through = chat.text((*history, said), options)
            if through.startswith(before) and reasoning_of(message).strip() in through[len(before) :]:
                start = _start(chat, history, message, options, before, through)
                return Answer(through, len(before), start, _end(chat.template, through), way)
        if not (chat.template.tags or reasoning_of(message)):
            break
    return _put_together(chat, history, message, index)


def _thinking(on: bool) -> dict[str, Any]:
    """The variables by which templates turn reasoning on or off: Qwen3's and GLM's, DeepSeek's, EXAONE's."""
    return {"enable_thinking": on, "thinking": on, "skip_think": not on}


def _ways(template: ChatTemplate, message: Message) -> Iterator[tuple[frozenset[str], Message]]:
    """How the reasoning may get into the text: the template's own way, then in the content."""
    if not reasoning_of(message):
        yield frozenset(), message
        return
    if template.writes_reasoning:
        yield frozenset(), message
    yield frozenset({"reasoning_as_text"}), tagged(message, template.tags or TAGS[0])


def _start(
    chat: Conversation,
    history: Sequence[Message],
    message: Message,
    options: Mapping[str, Any],
    before: str,
    through: str,
) -> int:
    """Where what the row says begins."""
    context = len(before)
    rest_length = len(message["content"]) + len(chat.template.turn_end.suffix)
    if chat.learn_template or reasoning_of(message):
        return context  # the tags around reasoning are the model's to write
    if len(through) == context + rest_length and through.startswith(message["content"], context):
        return context  # nothing but the content and the end
    return max(context, _supplied(chat, history, options, through))


def _supplied(
    chat: Conversation, history: Sequence[Message], options: Mapping[str, Any], through: str
) -> int:
    """How many characters the template writes before whatever an assistant says."""
    try:
        return same_start(through, chat.text((*history, _OTHER), options))
    except TemplateProblem:
        return 0


def _end(template: ChatTemplate, through: str) -> int:
    """Without white space after what ends the turn, which no model should have to say; where the template
    ends it by nothing else, white space is what is learned."""
    return len(through.rstrip()) if template.turn_end.is_written else len(through)


def _put_together(chat: Conversation, history: Sequence[Message], message: Message, index: int) -> Answer:
    """The answer behind an invitation with which the template does not begin it when it writes it itself.

    DeepSeek R1's template invites with an opening tag, Gemma 4's with an empty block of reasoning, and
    neither has them before what was said. The model is asked behind the invitation: that is the context.

    Raises: TemplateProblem where the answer changes what comes before it.
    """
    reasoning, tags = reasoning_of(message), chat.template.tags or TAGS[0]
    before, options = _invitation(chat, history, tags, thinks=bool(reasoning))
    opened = tags.opened_at_end(before)
    through = chat.text((*history, bare(message)), options)
    head = before[: len(before) - len(opened)] if opened else chat.text(history, options)
    if not through.startswith(head):
        raise TemplateProblem(
            f"the chat template rewrites what comes before assistant message {index + 1}, "
            "so that what the model is asked is not what it is trained on",
            "name a chat_template that writes earlier turns the same whether or not the answer follows",
        )
    start = max(len(head), _supplied(chat, history, options, through))
    closing = _closing(through[len(head) : start], tags) if opened or reasoning else ""
    thought = f"{'' if opened else tags.opening + chr(10)}{reasoning}" if reasoning else ""
    text = f"{before}{thought}{closing}{through[start:]}"
    learned = len(before) if reasoning or chat.learn_template else len(before) + len(closing)
    return Answer(text, len(before), learned, _end(chat.template, text), frozenset({"after_invitation"}))


def _invitation(
    chat: Conversation, history: Sequence[Message], tags: ThinkTags, *, thinks: bool
) -> tuple[str, Mapping[str, Any]]:
    """The context, and the options that give it: one that opens reasoning where there is any; for an answer
    that thinks one that has not closed it already; else the usual one."""
    asked = [(chat.text(history, options, invite=True), options) for options in ({}, _thinking(thinks))]
    opening = (one for one in asked if tags.opened_at_end(one[0]))
    open_still = (one for one in asked if not one[0].rstrip().endswith(tags.closing))
    return next(opening, None) or (next(open_still, None) if thinks else None) or asked[0]


def _closing(supplied: str, tags: ThinkTags) -> str:
    """How reasoning ends: as the template closes it where it writes none, else on a line of its own."""
    place = supplied.find(tags.closing)
    if place < 0:
        return f"\n{tags.closing}\n\n"
    return supplied[place - 1 if supplied[:place].endswith("\n") else place :]

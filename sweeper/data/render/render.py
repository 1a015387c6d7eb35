"""Conversations -> texts, and where in them the assistant says what is to be learned.

Loss is carried by what the row says and the model must produce, in exactly the context that the model will
be asked in; what the template supplies carries none, except what ends a turn (docs/decisions/0028).

An answer's context is the text of the turns before it with the template's invitation to answer. Where the
text up to one answer goes on in the text up to the next, both are learned in one sequence. Where the template
rewrites the history, as Qwen3's drops what was thought, each answer gets a sequence of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sweeper.data.read.formats import Example
from sweeper.data.read.messages import Message, is_learned
from sweeper.data.render.answers import Answer, Conversation, answer_at
from sweeper.data.render.chat_template import ChatTemplate
from sweeper.data.render.thoughts import reasoning_of, split_reasoning, with_reasoning

__all__ = ["Rendered", "Span", "render_conversation"]

Span = tuple[int, int]
"""First character, and the one after the last."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """One sequence of an example: its text, and where in it is learned."""

    text: str
    spans: tuple[Span, ...]
    contexts: tuple[int, ...] = ()
    """Where the context of each span ends: the model is asked with the tokens of the text up to there."""
    adapted: frozenset[str] = frozenset()
    """What was done so that the template takes the example: keys of ``ADAPTATIONS``."""
    part: int = 0
    """Which sequence of its example it is."""


def render_conversation(
    example: Example, template: ChatTemplate, *, learn_template: bool = False
) -> tuple[Rendered, ...]:
    """The sequences of an example, at least one.

    Raises: TemplateProblem.
    """
    chat = Conversation(
        template=template,
        messages=tuple(_with_reasoning_apart(message, template) for message in example.messages),
        tools=example.tools,
        options=dict(example.options),
        learn_template=learn_template,
    )
    learned = [
        index
        for index, message in enumerate(chat.messages)
        if index >= example.prompt_messages and is_learned(message)
    ]
    if not learned:
        return (Rendered(chat.text(chat.messages), ()),)
    runs = _runs([answer_at(chat, index) for index in learned])
    texts = [run[-1].text for run in runs[:-1]]
    texts.append(_whole(chat, learned[-1], runs[-1][-1]))
    sequences = enumerate(zip(runs, texts, strict=True))
    return tuple(_sequence(run, text, part, template) for part, (run, text) in sequences)


def _with_reasoning_apart(message: Message, template: ChatTemplate) -> Message:
    """Where the template knows reasoning, it is taken out of the content, and given by every usual name."""
    if message["role"] != "assistant":
        return message
    apart = split_reasoning(message) if template.tags or template.writes_reasoning else message
    return with_reasoning(apart, reasoning_of(apart)) if reasoning_of(apart) else apart


def _runs(answers: Sequence[Answer]) -> list[list[Answer]]:
    """Answers of which each one's text goes on in the next one's."""
    runs = [[answers[0]]]
    for answer in answers[1:]:
        before = runs[-1][-1]
        if answer.text.startswith(before.text) and answer.context >= len(before.text):
            runs[-1].append(answer)
        else:
            runs.append([answer])
    return runs


def _whole(chat: Conversation, last: int, answer: Answer) -> str:
    """The text through the messages after the last answer that is learned, where it only goes on."""
    if last == len(chat.messages) - 1:
        return answer.text
    whole = chat.text(chat.messages)
    return whole if whole.startswith(answer.text) else answer.text


def _sequence(run: Sequence[Answer], text: str, part: int, template: ChatTemplate) -> Rendered:
    end = template.turn_end
    spans = []
    for answer in run:
        marker = "" if end.is_written else template.first_marker(text[len(answer.text) :])
        if answer is run[-1] and not (marker or end.is_written or len(text) > len(answer.text)):
            marker = end.added
            text += marker
        spans.append((answer.start, answer.end + len(marker)))
    return Rendered(
        text,
        tuple(spans),
        contexts=tuple(answer.context for answer in run),
        adapted=frozenset().union(*(answer.adapted for answer in run)),
        part=part,
    )

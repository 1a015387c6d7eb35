"""Conversations -> text, and where in it the assistant speaks.

A conversation becomes one text through the tokenizer's chat template. Where an assistant's turn
lies in that text follows from the template itself: it starts where the text of the turns before it
ends, with the template's invitation to answer, and stops where the text of the turns up to it ends.
What carries loss is what is said and the token that ends the turn, but not white space between
turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sweeper.data.formats import Example
from sweeper.data.messages import Message, Tool
from sweeper.data.tokenizer import Tokenizer

__all__ = ["Rendered", "Span", "TemplateProblem", "render_conversation", "render_text"]

Span = tuple[int, int]
"""First character, and the one after the last."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The text of an example, and where in it is learned."""

    text: str
    spans: tuple[Span, ...]
    tools_as_text: bool = False
    """Whether tools, calls or answers of tools were written as plain messages."""


class TemplateProblem(ValueError):
    """The chat template cannot be used on a conversation: the rule, and what to do."""

    def __init__(self, rule: str, remedy: str) -> None:
        super().__init__(rule, remedy)
        self.rule, self.remedy = rule, remedy


def render_text(text: str, *, begin: str, end: str) -> Rendered:
    """Plain text between the begin and the end token, all of it learned but the begin token."""
    whole = f"{begin}{text}{end}"
    return Rendered(whole, ((len(begin), len(whole)),))


def render_conversation(example: Example, tokenizer: Tokenizer) -> Rendered:
    """Text and spans by the tokenizer's chat template.

    Raises: TemplateProblem.
    """
    messages, tools = example.messages, example.tools
    whole = _apply(messages, tools, tokenizer, invite=False)
    spans = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant" or index < example.prompt_messages:
            continue
        before = _apply(messages[:index], tools, tokenizer, invite=True)
        last = index == len(messages) - 1
        through = whole if last else _apply(messages[: index + 1], tools, tokenizer, invite=False)
        if not (through.startswith(before) and whole.startswith(through)):
            raise TemplateProblem(
                f"the chat template rewrites what comes before assistant message {index + 1}, "
                "so that what the model is asked is not what it is trained on",
                "name a chat_template that only adds text with each message, such as chatml, or give rows "
                "with one answer each",
            )
        spans.append((len(before), _end_of_turn(through, len(before), message["content"])))
    return Rendered(whole, tuple(spans))


def _apply(messages: Sequence[Message], tools: Sequence[Tool], tokenizer: Tokenizer, *, invite: bool) -> str:
    # As a batch of one: a conversation of no turns, before an opening answer, is refused by itself.
    try:
        (text,) = tokenizer.apply_chat_template(
            [list(messages)], tools=list(tools) or None, tokenize=False, add_generation_prompt=invite
        )
    except Exception as error:  # jinja's, and whatever the template's own code raises
        raise TemplateProblem(
            f"the chat template fails: {type(error).__name__}: {error}"
            if messages
            else "the first message is the assistant's, and the chat template cannot start with it",
            "change the row's roles to what the template knows, or name another chat_template",
        ) from error
    return str(text)


def _end_of_turn(through: str, start: int, content: str) -> int:
    """Where the turn ends: without white space after its end token, which no model should have to say.

    Where nothing but white space follows what is said, that is what ends the turn, and stays.
    """
    kept = through[start:].rstrip()
    said = content.rstrip()
    ended_by_space = bool(said) and kept.endswith(said)
    return len(through) if ended_by_space else start + len(kept)

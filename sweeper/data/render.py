"""Conversations -> token ids and the mask of the tokens that carry loss.

A conversation becomes one text through the tokenizer's own chat template and is tokenized once.
Where an assistant's turn lies in that text follows from the template itself: it starts where the
text of the turns before it ends, with the template's invitation to answer, and stops where the text
of the turns up to it ends. Tokens that overlap such a span carry loss: what is said and the token
that ends the turn, but not white space between turns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweeper.data.formats import Example, Message
from sweeper.data.problems import Problems
from sweeper.data.tokenizer import Tokenizer

__all__ = ["Rendered", "TokenRow", "render", "render_plain", "tokenize"]

_ROWS_PER_CALL = 512
"""Rows tokenized at once: enough for the tokenizer's threads, few enough to keep memory flat."""

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rendered:
    """The text of a conversation, and where in it the assistant speaks (character spans)."""

    text: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class TokenRow:
    """Tokens of one row."""

    ids: npt.NDArray[np.int32]
    """Shape (T,)."""
    mask: npt.NDArray[np.bool_]
    """Shape (T,): carries loss. Never the first token, which nothing predicts."""
    truncated: bool
    """Whether the row was longer than the limit."""


class TemplateProblem(ValueError):
    """The chat template cannot be used on a conversation: the rule, and what to do."""

    def __init__(self, rule: str, remedy: str) -> None:
        super().__init__(rule, remedy)
        self.rule, self.remedy = rule, remedy


def tokenize(
    examples: Sequence[Example], tokenizer: Tokenizer, max_seq_len: int, problems: Problems
) -> Iterator[TokenRow]:
    """Yields one row per example, cut to ``max_seq_len`` tokens.

    An example that the chat template fails on is added to ``problems`` and yields nothing.
    """
    for start in range(0, len(examples), _ROWS_PER_CALL):
        chunk = examples[start : start + _ROWS_PER_CALL]
        rendered = [_rendered(example, tokenizer, problems) for example in chunk]
        yield from _tokenize_texts([row for row in rendered if row is not None], tokenizer, max_seq_len)


def _rendered(example: Example, tokenizer: Tokenizer, problems: Problems) -> Rendered | None:
    try:
        return render(example.messages, tokenizer)
    except TemplateProblem as problem:
        problems.add(where=example.where, value="", rule=problem.rule, remedy=problem.remedy)
        return None


def render(messages: Sequence[Message], tokenizer: Tokenizer) -> Rendered:
    """Text and spans by the tokenizer's chat template, or plainly where it has none.

    Raises: TemplateProblem.
    """
    if tokenizer.chat_template is None:
        return render_plain(messages, eos=tokenizer.eos_token or "", bos=_plain_bos(tokenizer))
    return _render_with_template(messages, tokenizer)


def render_plain(messages: Sequence[Message], *, eos: str, bos: str = "") -> Rendered:
    """``User:``, ``Assistant:``, ``System:`` and so on, each on a line above what is said; the end token
    after each answer, a blank line between turns."""
    text, spans = bos, []
    for message in messages:
        text += f"{message['role'].capitalize()}:\n"
        start = len(text)
        text += message["content"]
        if message["role"] == "assistant":
            text += eos
            spans.append((start, len(text)))
        text += "\n\n"
    # Without an end token the blank line is what ends an answer, also the last one.
    if not eos:
        return Rendered(text, tuple((start, end + 2) for start, end in spans))
    return Rendered(text.removesuffix("\n\n"), tuple(spans))


def _plain_bos(tokenizer: Tokenizer) -> str:
    """The begin token where the tokenizer puts one before text by itself."""
    if tokenizer.bos_token_id is None:
        return ""
    first = tokenizer("a", add_special_tokens=True)["input_ids"][:1]
    return str(tokenizer.bos_token) if first == [tokenizer.bos_token_id] else ""


def _render_with_template(messages: Sequence[Message], tokenizer: Tokenizer) -> Rendered:
    whole = _apply(messages, tokenizer, invite=False)
    spans = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        before = _apply(messages[:index], tokenizer, invite=True)
        last = index == len(messages) - 1
        through = whole if last else _apply(messages[: index + 1], tokenizer, invite=False)
        if not (through.startswith(before) and whole.startswith(through)):
            raise TemplateProblem(
                f"the chat template rewrites what comes before assistant message {index + 1}, "
                "so that what the model is asked is not what it is trained on",
                "use a chat template that only adds text with each message, or rows with one answer each",
            )
        spans.append((len(before), _end_of_turn(through, len(before), message["content"])))
    return Rendered(whole, tuple(spans))


def _apply(messages: Sequence[Message], tokenizer: Tokenizer, *, invite: bool) -> str:
    # As a batch of one: a conversation of no turns, before an opening answer, is refused by itself.
    try:
        (text,) = tokenizer.apply_chat_template(
            [list(messages)], tokenize=False, add_generation_prompt=invite
        )
    except Exception as error:  # jinja's, and whatever the template's own code raises
        raise TemplateProblem(
            f"the chat template fails: {type(error).__name__}: {error}"
            if messages
            else "the first message is the assistant's, and the chat template cannot start with it",
            "change the row's roles to what the template knows, or use another template",
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


def _tokenize_texts(
    rendered: Sequence[Rendered], tokenizer: Tokenizer, max_seq_len: int
) -> Iterator[TokenRow]:
    if not rendered:
        return
    encoded = tokenizer(
        [row.text for row in rendered],
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # no advice about the model's length: rows are cut below
    )
    for row, ids, offsets in zip(rendered, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        places = np.asarray(offsets[:max_seq_len], dtype=np.int64).reshape(-1, 2)
        yield TokenRow(
            ids=np.asarray(ids[:max_seq_len], dtype=np.int32),
            mask=_mask(places, row.spans),
            truncated=len(ids) > max_seq_len,
        )


def _mask(places: npt.NDArray[np.int64], spans: Sequence[Span]) -> npt.NDArray[np.bool_]:
    """Which tokens overlap a span. ``places`` has shape (T, 2): first character and the one after the last.

    Several tokens of one character share its place; a token without width counts where it starts.
    """
    mask = np.zeros(len(places), dtype=bool)
    firsts, ends = places[:, 0], np.maximum(places[:, 1], places[:, 0] + 1)
    for start, end in spans:
        mask |= (firsts < end) & (ends > start)
    mask[:1] = False
    return mask

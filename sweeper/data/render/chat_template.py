"""What a tokenizer's chat template does, found out once by asking it.

Some templates open reasoning, some drop it from the history, some end no turn: the marker of the next
role is then where a model stops. None of that is declared anywhere, so small conversations tell.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sweeper.data.problems import Unusable
from sweeper.data.read.messages import Message, Tool
from sweeper.data.render.templates import environment
from sweeper.data.render.thoughts import TAGS, ThinkTags, with_reasoning
from sweeper.data.render.tokenizer import Tokenizer

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["ChatTemplate", "TemplateProblem", "TurnEnd", "same_start", "stop_notes", "unused_keys_note"]

_ASKED, _SAID, _NEXT, _THOUGHT = "\ue000q\ue000", "\ue000a\ue000", "\ue000n\ue000", "\ue000t\ue000"
"""Texts that no template writes and none trims."""
_COMPARED = 8
"""So many texts that this package renders by itself are compared with those of transformers."""


class TemplateProblem(Unusable):
    """The chat template cannot be used on a conversation."""


@dataclass(frozen=True, slots=True)
class TurnEnd:
    """What follows an assistant's last turn."""

    suffix: str
    """What the template writes after it, whether or not another turn follows."""
    closing: str = ""
    """What it writes at the end of a whole conversation only: Phi-3's adds the tokenizer's end token."""
    added: str = ""
    """What a model has to say to stop where the suffix is nothing or white space: the next role's marker
    where that is one token of the tokenizer, else the tokenizer's end token."""

    @property
    def is_written(self) -> bool:
        """Whether the template itself ends a turn with more than white space."""
        return bool(self.suffix.strip())


class ChatTemplate:
    """The chat template of one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._compiled = _compiled(tokenizer)
        self._names: Mapping[str, str] | None = None
        """The special tokens, as variables of the template."""
        self._unproven = {False: _COMPARED, True: _COMPARED}
        """So many texts are still to be compared with those of transformers, with and without invitation."""

    def text(
        self, messages: Sequence[Message], tools: Sequence[Tool], options: Mapping[str, Any], *, invite: bool
    ) -> str:
        """The conversation as text, with the invitation to answer where ``invite``, else without what the
        template writes at its very end only.

        Raises: TemplateProblem.
        """
        written = self._apply(self._in_its_form(messages), tools, options, invite=invite)
        return written if invite else written.removesuffix(self.turn_end.closing)

    def _in_its_form(self, messages: Sequence[Message]) -> Sequence[Mapping[str, Any]]:
        return _in_parts(messages) if self._wants_parts else messages

    def _apply(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Tool] = (),
        options: Mapping[str, Any] | None = None,
        *,
        invite: bool = False,
    ) -> str:
        try:
            if not (tools or options) and _are_plain(messages):
                return self._plain_text(messages, invite)
            return self._whole_text(messages, tools, options or {}, invite)
        except Exception as error:  # jinja's, and whatever the template's own code raises
            raise TemplateProblem(
                f"the chat template fails: {type(error).__name__}: {error}"
                if messages
                else "the first message is the assistant's, and the chat template cannot start with it",
                "change the row's roles to what the template knows, or name another chat_template",
            ) from error

    def _whole_text(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Tool],
        options: Mapping[str, Any],
        invite: bool,
    ) -> str:
        # As a batch of one: a conversation of no turns, before an opening answer, is refused by itself.
        (text,) = self.tokenizer.apply_chat_template(
            [list(messages)],
            tools=list(tools) or None,
            tokenize=False,
            add_generation_prompt=invite,
            **options,
        )
        return str(text)

    def _plain_text(self, messages: Sequence[Mapping[str, Any]], invite: bool) -> str:
        """The same of roles and texts alone: transformers makes two copies of each message before it renders
        them, and takes longer for that than for the text."""
        if self._compiled is None:
            return self._whole_text(messages, (), {}, invite)
        names = self.tokenizer.special_tokens_map if self._names is None else self._names
        self._names = names
        text = self._compiled.render(
            messages=messages, tools=None, documents=None, add_generation_prompt=invite, **names
        )
        if self._unproven[invite]:
            self._unproven[invite] -= 1
            if text != (whole := self._whole_text(messages, (), {}, invite)):
                self._compiled = None
                return whole
        return text

    @cached_property
    def _wants_parts(self) -> bool:
        """Whether it takes contents as lists of parts only, as templates of vision models do.

        Raises: TemplateProblem where it leaves out what is said in either form.
        """
        chat = [_user(_ASKED), Message(role="assistant", content=_SAID)]
        plain, parts = self._tried(chat), self._tried(_in_parts(chat))
        if plain is not None and _SAID in plain:
            return _ASKED not in plain and _ASKED in (parts or "") and _SAID in (parts or "")
        if parts is not None and _SAID in parts:
            return True
        if plain is not None:
            raise TemplateProblem(
                "the chat template leaves out what messages say", "name another chat_template"
            )
        return False  # it refuses this conversation, and will say why for each row

    @cached_property
    def source(self) -> str:
        """The jinja text; of several named ones all."""
        template = self.tokenizer.chat_template
        return "\n".join(map(str, template.values())) if isinstance(template, dict) else str(template or "")

    @cached_property
    def tags(self) -> ThinkTags | None:
        """The tags of reasoning that the template names."""
        return next((one for one in TAGS if one.closing in self.source or one.opening in self.source), None)

    @cached_property
    def writes_reasoning(self) -> bool:
        """Whether it writes what a message has as its reasoning."""
        answer = with_reasoning(Message(role="assistant", content=_SAID), _THOUGHT)
        return _THOUGHT in self._probe(_user(_ASKED), answer)

    @cached_property
    def turn_end(self) -> TurnEnd:
        """What follows an answer."""
        answer = Message(role="assistant", content=_SAID)
        alone = self._probe(_user(_ASKED), answer)
        if _SAID not in alone:
            return TurnEnd("<>")  # nothing is known: the end of the text is where a turn ends
        suffix = alone.rpartition(_SAID)[2]
        more = self._probe(_user(_ASKED), answer, _user(_NEXT))
        between = more.rpartition(_SAID)[2].partition(_NEXT)[0] if _SAID in more else ""
        closing = next((token for token in self._added_tokens if token and suffix.endswith(token)), "")
        kept = suffix.removesuffix(closing)
        if closing and kept.strip() and between.startswith(kept):
            return TurnEnd(kept, closing=closing)
        if suffix.strip():
            return TurnEnd(suffix)
        marker = self.first_marker(between.removeprefix(suffix)) if between.startswith(suffix) else ""
        eos = str(self.tokenizer.eos_token or "")
        return TurnEnd(suffix, added=marker or (eos if not suffix else ""))

    def first_marker(self, text: str) -> str:
        """The added token of the tokenizer (such as ``<|user|>``) with which a text begins; the longest."""
        fitting = (token for token in self._added_tokens if token and text.startswith(token))
        return max(fitting, key=len, default="")

    @cached_property
    def _added_tokens(self) -> tuple[str, ...]:
        return tuple(map(str, self.tokenizer.get_added_vocab()))

    def _tried(self, messages: Sequence[Mapping[str, Any]]) -> str | None:
        try:
            return self._apply(messages)
        except TemplateProblem:
            return None

    def _probe(self, *messages: Message) -> str:
        """The text of a small conversation; empty where the template refuses it."""
        return self._tried(self._in_its_form(messages)) or ""


def _compiled(tokenizer: Tokenizer) -> Template | None:
    """The chat template of a tokenizer of transformers that has one and no way of its own to apply it."""
    transformers = sys.modules.get("transformers")
    if transformers is None or not isinstance(tokenizer.chat_template, str):
        return None
    usual = transformers.PreTrainedTokenizerBase
    if not isinstance(tokenizer, usual):
        return None
    if type(tokenizer).apply_chat_template is not usual.apply_chat_template:
        return None
    try:
        return environment().from_string(tokenizer.chat_template)
    except Exception:  # told where it is applied
        return None


def _are_plain(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether nothing but a role and a text is in each."""
    return bool(messages) and all(
        len(one) == 2 and type(one.get("role")) is str and type(one.get("content")) is str for one in messages
    )


def _in_parts(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages with their contents as a list of one text part."""
    return [{**one, "content": [{"type": "text", "text": one["content"]}]} for one in messages]


def _user(text: str) -> Message:
    return Message(role="user", content=text)


def stop_notes(template: ChatTemplate) -> list[str]:
    """What is told of a template that ends no turn."""
    end = template.turn_end
    if end.is_written or not template.source:
        return []
    if end.added:
        told = (
            f"ends no turn, so {end.added} is learned as the end of an answer: generation has to stop at it"
        )
    elif end.suffix:
        told = "ends a turn by white space alone: generation has to stop at it"
    else:
        told = "ends no turn and the tokenizer has no end token: the model cannot learn where to stop"
    return [f"the chat template {told}"]


def unused_keys_note(keys: Sequence[str], template: str) -> list[str]:
    """What is told of keys of messages that neither this package nor the chat template knows."""
    unused = [key for key in keys if not re.search(rf"\b{re.escape(key)}\b", template)]
    return [f"keys of messages that are not used: {', '.join(unused)}"] if unused else []


def same_start(first: str, second: str) -> int:
    """How many characters two texts have in common at their beginning."""
    if first.startswith(second) or second.startswith(first):
        return min(len(first), len(second))
    low, high = 0, min(len(first), len(second))
    while low < high:  # startswith compares as fast as memory is read
        middle = (low + high + 1) // 2
        low, high = (middle, high) if first[:middle] == second[:middle] else (low, middle - 1)
    return low

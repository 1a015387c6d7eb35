"""A model's tokenizer without transformers, whose import alone takes longer than ``validate`` may.

It serves estimates: it reads ``tokenizer.json`` and the chat template of a local folder, and has the
few methods that rendering and tokenizing rows call. What trials train on comes from ``load_tokenizer``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.data.model.model_folder import model_folder
from sweeper.data.render.templates import environment, meant_template
from sweeper.data.render.tokenizer import begin_text

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["LightTokenizer", "light_tokenizer"]


def light_tokenizer(model_path: str, chat_template: str) -> LightTokenizer | None:
    """The tokenizer of a local folder with the chat template that is meant; None where there is no
    ``tokenizer.json``, as with a hub id or a ``.gguf`` file.

    Raises: OSError, ValueError or what the tokenizers library raises for files that cannot be used.
    """
    folder = Path(model_folder(model_path))
    if not (folder / "tokenizer.json").is_file():
        return None
    tokenizer = LightTokenizer(folder)
    tokenizer.chat_template = meant_template(chat_template, tokenizer.chat_template, begin_text(tokenizer))
    return tokenizer


class LightTokenizer:
    """Has what ``Renderer`` and ``tokenize`` use of a fast tokenizer of transformers."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self._backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._backend.no_truncation()
        self._backend.no_padding()
        settings = _read(folder / "special_tokens_map.json") | _read(folder / "tokenizer_config.json")
        self.bos_token, self.eos_token = _token(settings, "bos_token"), _token(settings, "eos_token")
        self._names = {name: _token(settings, name) or "" for name in ("bos_token", "eos_token", "pad_token")}
        self.chat_template = _own_template(folder, settings)

    @property
    def bos_token_id(self) -> int | None:
        return None if self.bos_token is None else self._backend.token_to_id(self.bos_token)

    def __call__(
        self, text: str | Sequence[str], *, add_special_tokens: bool = True, **_: object
    ) -> dict[str, Any]:
        if isinstance(text, str):
            return {"input_ids": self._backend.encode(text, add_special_tokens=add_special_tokens).ids}
        encoded = self._backend.encode_batch(list(text), add_special_tokens=add_special_tokens)
        return {
            "input_ids": [one.ids for one in encoded],
            "offset_mapping": [one.offsets for one in encoded],
        }

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """The text of tokens."""
        text: str = self._backend.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def get_added_vocab(self) -> dict[str, int]:
        """Text of each token that was added to the vocabulary -> its id."""
        return {token.content: number for number, token in self._backend.get_added_tokens_decoder().items()}

    def apply_chat_template(
        self,
        conversations: Sequence[Any],
        *,
        tools: Any = None,
        tokenize: bool = False,
        add_generation_prompt: bool = False,
        **options: object,
    ) -> list[str]:
        """Each conversation as text; ``options`` are variables of the template. Raises what jinja and the
        template raise."""
        assert not tokenize
        return [
            self._template.render(
                messages=messages,
                tools=tools,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **(self._names | options),
            )
            for messages in conversations
        ]

    @cached_property
    def _template(self) -> Template:
        return environment().from_string(self.chat_template or "")


def _read(file: Path) -> dict[str, Any]:
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return content if isinstance(content, dict) else {}


def _token(settings: Mapping[str, Any], name: str) -> str | None:
    token = settings.get(name)
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _own_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """An empty one is none."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8") or None
    template = settings.get("chat_template")
    if isinstance(template, list):
        template = next((one.get("template") for one in template if one.get("name") == "default"), None)
    return template if isinstance(template, str) and template else None

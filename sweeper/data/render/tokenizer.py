"""The model's tokenizer. The one place that imports transformers, and only when called."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sweeper.data.model.model_folder import READ_CODE, model_folder
from sweeper.data.read.files import BUILTIN
from sweeper.data.render.templates import AUTO, meant_template, template_text
from sweeper.data.render.words import Encoded, Words, cuts_at_spaces, encoded_by
from sweeper.errors import ModelError

__all__ = [
    "Encoder",
    "Tokenizer",
    "batch_encoder",
    "begin_text",
    "load_tokenizer",
    "pad_id_of",
    "unknown_markers",
    "untrusted",
]

Tokenizer = Any
"""A ``transformers`` fast tokenizer (``PreTrainedTokenizerFast``)."""


_ASKING = ("__call__", "_encode_plus", "_batch_encode_plus", "_convert_encoding")
"""The methods through which a tokenizer of transformers encodes."""
_MARKER = re.compile(r"<\|[^|<>\s]+\|>")


def load_tokenizer(
    model_path: str, *, chat_template: str = AUTO, trust_remote_code: bool = False
) -> Tokenizer:
    """The tokenizer of a folder, a ``.gguf`` file, a hub id or ``builtin:quickstart``.

    It carries the chat template that is meant, so that a folder that it is saved in has it, too: a
    named one or a ``.jinja`` file instead of its own; ``plain`` where it has none and none is named.
    Code that comes with a model is run only where it is trusted.

    Raises: ModelError where there is none, or none that tells the place of each token in the text;
        where the chat template is not there or not jinja.
    """
    from transformers import AutoTokenizer

    template_text(chat_template)  # told before the tokenizer is loaded
    path = Path(model_folder(model_path))
    if model_path == BUILTIN and not path.is_dir():
        raise _unusable(model_path, f"the packaged model is missing: {path}")
    try:
        if path.is_file():
            tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
        else:
            tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=trust_remote_code)
    except Exception as error:  # transformers, tokenizers and the hub each raise their own
        if not trust_remote_code and "trust_remote_code" in str(error):
            raise untrusted(model_path) from error
        raise _unusable(model_path, f"{type(error).__name__}: {error}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise _unusable(
            model_path, "it is a slow tokenizer, which does not tell where in the text a token lies"
        )
    tokenizer.chat_template = meant_template(chat_template, tokenizer.chat_template, begin_text(tokenizer))
    return tokenizer


def begin_text(tokenizer: Tokenizer) -> str:
    """The begin token where the tokenizer puts one before text by itself, else nothing."""
    if tokenizer.bos_token_id is None:
        return ""
    first = tokenizer("a", add_special_tokens=True)["input_ids"][:1]
    return str(tokenizer.bos_token) if first == [tokenizer.bos_token_id] else ""


Encoder = Callable[[Sequence[str]], Iterable[Encoded]]
"""What gives the ids of texts, and where in the text the token of each is; no token is added."""


def batch_encoder(tokenizer: Tokenizer) -> Encoder:
    """The encoder of a tokenizer: the quickest that makes the same tokens.

    A fast tokenizer of transformers asks the tokenizers library and makes lists of all that it answers; the
    library is asked for no more than that, and only for words that are new, where tokens are made of words.
    """
    backend = _plain_backend(tokenizer)

    def of_tokenizer(texts: Sequence[str]) -> Iterator[Encoded]:
        encoded = _encoded(tokenizer, list(texts)) if texts else {"input_ids": (), "offset_mapping": ()}
        for ids, offsets in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
            yield np.array(ids, dtype=np.int32), np.array(offsets, dtype=np.int64).reshape(-1, 2)

    if backend is None:
        return of_tokenizer
    return Words(backend).encode if cuts_at_spaces(backend) else partial(encoded_by, backend)


def _encoded(tokenizer: Tokenizer, texts: list[str]) -> Any:
    return tokenizer(
        texts,
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # no advice about the model's length: rows are cut here
    )


def _plain_backend(tokenizer: Tokenizer) -> Any:
    """The tokenizers library's own, in the state that transformers brings it to; None where the class of the
    tokenizer does more than to ask it."""
    import sys

    transformers = sys.modules.get("transformers")
    if transformers is None or not isinstance(tokenizer, transformers.PreTrainedTokenizerFast):
        return None
    usual = transformers.PreTrainedTokenizerFast
    own = type(tokenizer)
    if any(getattr(own, name, None) is not getattr(usual, name, None) for name in _ASKING):
        return None
    _encoded(tokenizer, ["a"])  # neither cuts nor fills up from here on
    return tokenizer.backend_tokenizer


def unknown_markers(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Markers such as ``<|im_start|>`` that the chat template writes and that are no single token."""
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False)
    except Exception:  # it refuses this conversation
        return ()
    known = tokenizer.get_vocab()
    return tuple(dict.fromkeys(marker for marker in _MARKER.findall(text) if marker not in known))


def pad_id_of(tokenizer: Tokenizer) -> int:
    """The id of padding: the pad token, else the end token, else 0.

    Padding is neither attended to nor trained on, so that any id does.
    """
    for token_id in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token_id is not None:
            return int(token_id)
    return 0


def untrusted(model_path: str) -> ModelError:
    """The error of a model that cannot be loaded without its own code."""
    return ModelError.of(
        where="model_path",
        value=model_path,
        rule="it needs Python code that comes with it, and such code is not run",
        remedy=READ_CODE,
    )


def _unusable(model_path: str, reason: str) -> ModelError:
    return ModelError.of(
        where="model_path",
        value=model_path,
        rule="its tokenizer cannot be used: " + " ".join(reason.split())[:600],
        remedy="name a model's folder with its tokenizer.json, a .gguf file or a hub id that can be reached",
    )

"""The model's tokenizer. The one place that imports transformers, and only when called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sweeper.data.files import BUILTIN
from sweeper.data.model import model_folder
from sweeper.errors import ModelError

__all__ = ["Tokenizer", "load_tokenizer", "pad_id_of"]

Tokenizer = Any
"""A ``transformers`` fast tokenizer (``PreTrainedTokenizerFast``)."""


def load_tokenizer(model_path: str) -> Tokenizer:
    """The tokenizer of a folder, a ``.gguf`` file, a hub id or ``builtin:quickstart``.

    Code that comes with a model is never run.

    Raises: ModelError where there is none, or none that tells the place of each token in the text.
    """
    from transformers import AutoTokenizer

    path = Path(model_folder(model_path))
    if model_path == BUILTIN and not path.is_dir():
        raise _unusable(model_path, f"the packaged model is missing: {path}")
    try:
        if path.is_file():
            tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
        else:
            tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False)
    except Exception as error:  # transformers, tokenizers and the hub each raise their own
        raise _unusable(model_path, f"{type(error).__name__}: {error}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise _unusable(
            model_path, "it is a slow tokenizer, which does not tell where in the text a token lies"
        )
    return tokenizer


def pad_id_of(tokenizer: Tokenizer) -> int:
    """The id of padding: the pad token, else the end token, else 0.

    Padding is neither attended to nor trained on, so that any id does.
    """
    for token_id in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token_id is not None:
            return int(token_id)
    return 0


def _unusable(model_path: str, reason: str) -> ModelError:
    error = ModelError.of(
        where="model_path",
        value=model_path,
        rule="its tokenizer cannot be used: " + " ".join(reason.split())[:600],
        remedy="name a model's folder with its tokenizer.json, a .gguf file or a hub id that can be reached",
    )
    assert isinstance(error, ModelError)
    return error

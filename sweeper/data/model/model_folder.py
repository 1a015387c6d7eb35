"""What is known of a model before it is loaded: where it is, whether it is whole, how large."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.data.model.copies import here
from sweeper.data.model.gguf_header import GgufFormatError, read_gguf_header
from sweeper.data.problems import Problems, Unusable
from sweeper.data.read.files import BUILTIN, PACKAGED, is_hub_id

__all__ = [
    "READ_CODE",
    "SIZE_KEYS",
    "ModelSurvey",
    "first_int",
    "gguf_size_keys",
    "json_object",
    "model_folder",
    "size_config",
    "survey_model",
    "tokenizer_files",
]

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
    "tekken.json",
)
"""One of these holds the vocabulary of a tokenizer."""

_TOKENIZER_PATTERNS = (
    "*token*.json",
    "*.model",
    "vocab.*",
    "merges.txt",
    "tekken.json",
    "chat_template*",
    "additional_chat_templates/*",
    "*.py",
)
"""Everything that can change how text becomes tokens."""


_TWO_SIDED = frozenset(
    "bert bert-generation big_bird camembert data2vec-text electra ernie megatron-bert rembert roberta"
    " roberta-prelayernorm roc_bert roformer xlm xlm-roberta xlm-roberta-xl xlnet xmod".split()
)
"""Model types whose attention looks both ways unless the configuration says ``is_decoder``."""
_LARGEST_SIZE = 2**31
READ_CODE = "read that code, and write trust_remote_code: true if you trust it"
"""What to do about a model that needs code of its own."""

SIZE_KEYS = {
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "vocab_size": ("vocab_size",),
    "max_position_embeddings": ("max_position_embeddings", "n_positions"),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_dim"),
    "heads": ("num_attention_heads", "n_head", "num_heads"),
    "kv_heads": ("num_key_value_heads",),
    "head_dim": ("head_dim",),
}
"""Size -> what configurations call it."""
_SURVEYED = ("hidden_size", "layers", "vocab_size", "max_position_embeddings")
_ANY_MODEL = "name a model's folder, a .gguf file, or a hub id such as owner/name"


@dataclass(frozen=True, kw_only=True)
class ModelSurvey:
    """Sizes of a model; None where they cannot be read cheaply."""

    hidden_size: int | None = None
    layers: int | None = None
    vocab_size: int | None = None
    max_position_embeddings: int | None = None
    model_type: str | None = None
    has_chat_template: bool | None = None


def model_folder(model_path: str) -> str:
    """The packaged folder for ``builtin:quickstart``; of other paths this node's copy, or with ``~`` put in
    full; ids as they are."""
    if model_path == BUILTIN:
        return str(PACKAGED / "model")
    if (copy := here(model_path)) != model_path:
        return copy
    if model_path.startswith("~"):
        with contextlib.suppress(RuntimeError):  # the home of nobody known
            return str(Path(model_path).expanduser())
    return model_path


def tokenizer_files(folder: Path) -> list[Path]:
    """The files of a model's folder that decide how text becomes tokens, in a fixed order."""
    found = {file for pattern in _TOKENIZER_PATTERNS for file in folder.glob(pattern) if file.is_file()}
    return sorted(found - {folder / "model.safetensors.index.json"})


def survey_model(
    model_path: str, problems: Problems, *, trust_remote_code: bool = False, place: str = "model_path"
) -> ModelSurvey:
    """Reads the configuration of a local model; a hub id is accepted as such and tells nothing.

    What is missing or wrong is added to ``problems``, at the field ``place``; so is code that a model needs
    and that is not trusted.
    """
    path = Path(model_folder(model_path))
    survey = ModelSurvey()
    with problems.noting(place):
        try:
            if path.is_dir():
                survey = _survey_folder(path, problems, trust_remote_code=trust_remote_code)
            elif path.is_file():
                survey = _survey_gguf(path, problems)
            elif model_path == BUILTIN or not (is_hub_id(model_path) or is_hub_id(f"owner/{model_path}")):
                # Old ids (``gpt2``) have no owner.
                raise Unusable(f"there is no such folder or file: {path}", _ANY_MODEL, model_path)
        except OSError as error:
            reason = f"it cannot be looked up: {error.strerror or error}"
            raise Unusable(reason, "check the path and its permissions", model_path) from error
    return survey


def size_config(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a configuration that has the sizes: that of the text where the model takes more."""
    text = config.get("text_config")
    return text if isinstance(text, dict) else config


def _survey_folder(folder: Path, problems: Problems, *, trust_remote_code: bool) -> ModelSurvey:
    file = folder / "config.json"
    config = json_object(file)
    if not trust_remote_code:
        _refuse_code(config or {}, file, problems)
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        problems.add(
            str(folder),
            "the model's folder has no tokenizer: " + ", ".join(_TOKENIZER_FILES) + " are all missing",
            "copy the tokenizer's files into it, as save_pretrained of the tokenizer writes them",
        )
    if config is None:
        if file.is_file():
            problems.add(str(file), "the file is not a JSON object", "copy the model's folder again")
        else:
            remedy = "name a folder as save_pretrained of the model writes it"
            problems.add(str(folder), "the model's folder has no config.json", remedy)
        return ModelSurvey()
    sizes = size_config(config)
    kind = config.get("model_type")
    model_type = kind if isinstance(kind, str) else None
    survey = _survey(sizes, SIZE_KEYS, model_type, has_chat_template=_has_chat_template(folder))
    _check_sizes(survey, file, problems)
    _refuse_two_sided(config, sizes, file, problems)
    return survey


def _survey(
    config: Mapping[str, Any], keys: Mapping[str, Sequence[str]], kind: str | None, *, has_chat_template: bool
) -> ModelSurvey:
    sizes: dict[str, Any] = {name: first_int(config, *keys[name]) for name in _SURVEYED}
    return ModelSurvey(**sizes, model_type=kind, has_chat_template=has_chat_template)


def _refuse_two_sided(config: dict[str, Any], sizes: dict[str, Any], file: Path, problems: Problems) -> None:
    """What the worker would find out as well, once it has loaded the model."""
    both_ways = sizes.get("use_bidirectional_attention")
    if both_ways is True or both_ways == "all":
        value = f"use_bidirectional_attention: {both_ways}"
    elif config.get("model_type") in _TWO_SIDED and config.get("is_decoder") is not True:
        value = f"model_type: {config['model_type']}"
    else:
        return
    rule = "the model's attention sees the tokens that it would have to predict"
    problems.add(str(file), rule, "choose a model that generates text", value)


def _check_sizes(survey: ModelSurvey, file: Path, problems: Problems) -> None:
    """The rules of thumb divide by them, and whatever loads the model fails on them."""
    for name in _SURVEYED:
        size = getattr(survey, name)
        if size is not None and not 1 <= size < _LARGEST_SIZE:
            rule = f"the model's {name} is a whole number from 1 to {_LARGEST_SIZE - 1}"
            problems.add(str(file), rule, "copy the model's files again", str(size))


def _refuse_code(config: dict[str, Any], file: Path, problems: Problems) -> None:
    """transformers takes its own code for an architecture that it knows, whatever lies in the folder."""
    code = config.get("auto_map")
    if not code:
        return
    from transformers import CONFIG_MAPPING  # takes seconds: only for a folder that has code

    if str(config.get("model_type")) not in CONFIG_MAPPING:
        rule = "the model needs Python code that lies in its folder, and such code is not run"
        problems.add(str(file), rule, READ_CODE, f"auto_map: {code}")


def json_object(file: Path) -> dict[str, Any] | None:
    """None where the file cannot be read or is something else."""
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _has_chat_template(folder: Path) -> bool:
    if any(folder.glob("chat_template*")) or any(folder.glob("additional_chat_templates/*")):
        return True
    return bool((json_object(folder / "tokenizer_config.json") or {}).get("chat_template"))


def first_int(mapping: Mapping[str, Any], *keys: str) -> int | None:
    """The first of the keys whose value is a whole number."""
    values = (mapping.get(key) for key in keys)
    return next((one for one in values if isinstance(one, int) and not isinstance(one, bool)), None)


def _survey_gguf(file: Path, problems: Problems) -> ModelSurvey:
    if importlib.util.find_spec("gguf") is None:
        rule = "a .gguf file needs the package gguf, which is not installed"
        problems.add(str(file), rule, "pip install 'sweeper[gguf]'")
    try:
        header = read_gguf_header(file)
    except (GgufFormatError, OSError) as error:
        problems.add(str(file), f"the file is not a model: {error}", _ANY_MODEL)
        return ModelSurvey()
    kind = str(header.get("general.architecture", ""))
    keys, has_chat_template = gguf_size_keys(kind), "tokenizer.chat_template" in header
    survey = _survey(header, keys, kind or None, has_chat_template=has_chat_template)
    _check_sizes(survey, file, problems)
    return survey


def gguf_size_keys(kind: str) -> dict[str, tuple[str, ...]]:
    """``SIZE_KEYS`` of the header of a ``.gguf`` file."""
    return {
        "hidden_size": (f"{kind}.embedding_length",),
        "layers": (f"{kind}.block_count",),
        "vocab_size": (f"{kind}.vocab_size", "tokenizer.ggml.tokens.length"),
        "max_position_embeddings": (f"{kind}.context_length",),
        "intermediate_size": (f"{kind}.feed_forward_length",),
        "heads": (f"{kind}.attention.head_count",),
        "kv_heads": (f"{kind}.attention.head_count_kv",),
        "head_dim": (f"{kind}.attention.key_length",),
    }

"""What is known of a model before it is loaded: where it is, whether it is whole, how large."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.data.model.gguf_header import GgufFormatError, read_gguf_header
from sweeper.data.problems import Problems
from sweeper.data.read.files import BUILTIN, PACKAGED, is_hub_id

__all__ = ["TOKENIZER_FILES", "ModelSurvey", "model_folder", "survey_model", "tokenizer_files"]

TOKENIZER_FILES = (
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
_SIZES = ("hidden_size", "layers", "vocab_size", "max_position_embeddings")
_LARGEST_SIZE = 2**31


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
    """The packaged folder for ``builtin:quickstart``; other paths with ``~`` put in full; ids as they are."""
    if model_path == BUILTIN:
        return str(PACKAGED / "model")
    if model_path.startswith("~"):
        with contextlib.suppress(RuntimeError):  # the home of nobody known
            return str(Path(model_path).expanduser())
    return model_path


def tokenizer_files(folder: Path) -> list[Path]:
    """The files of a model's folder that decide how text becomes tokens, in a fixed order."""
    found = {file for pattern in _TOKENIZER_PATTERNS for file in folder.glob(pattern) if file.is_file()}
    return sorted(found - {folder / "model.safetensors.index.json"})


def survey_model(model_path: str, problems: Problems, *, trust_remote_code: bool = False) -> ModelSurvey:
    """Reads the configuration of a local model; a hub id is accepted as such and tells nothing.

    What is missing or wrong is added to ``problems``; so is code that a model needs and that is not
    trusted.
    """
    path = Path(model_folder(model_path))
    try:
        if path.is_dir():
            if not trust_remote_code:
                _refuse_code(path, problems)
            return _survey_folder(path, problems)
        if path.is_file():
            return _survey_gguf(path, problems)
    except OSError as error:
        problems.add(
            where="model_path",
            value=model_path,
            rule=f"it cannot be looked up: {error.strerror or error}",
            remedy="check the path and its permissions",
        )
        return ModelSurvey()
    if model_path == BUILTIN or not (is_hub_id(model_path) or _is_plain_name(model_path)):
        problems.add(
            where="model_path",
            value=model_path,
            rule=f"there is no such folder or file: {path}",
            remedy="name a model's folder, a .gguf file, or a hub id such as owner/name",
        )
    return ModelSurvey()


def _is_plain_name(text: str) -> bool:
    """Old hub ids (``gpt2``) have no owner."""
    return is_hub_id(f"owner/{text}")


def _survey_folder(folder: Path, problems: Problems) -> ModelSurvey:
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        problems.add(
            where=str(folder),
            value="",
            rule="the model's folder has no tokenizer: " + ", ".join(TOKENIZER_FILES) + " are all missing",
            remedy="copy the tokenizer's files into it, as save_pretrained of the tokenizer writes them",
        )
    config = _config_json(folder, problems)
    if config is None:
        return ModelSurvey()
    sizes = config.get("text_config", config) if isinstance(config.get("text_config"), dict) else config
    survey = ModelSurvey(
        hidden_size=_first_int(sizes, "hidden_size", "n_embd", "d_model"),
        layers=_first_int(sizes, "num_hidden_layers", "n_layer", "num_layers"),
        vocab_size=_first_int(sizes, "vocab_size"),
        max_position_embeddings=_first_int(sizes, "max_position_embeddings", "n_positions"),
        model_type=config["model_type"] if isinstance(config.get("model_type"), str) else None,
        has_chat_template=_has_chat_template(folder),
    )
    _check_sizes(survey, folder / "config.json", problems)
    _refuse_two_sided(config, sizes, folder / "config.json", problems)
    return survey


def _refuse_two_sided(config: dict[str, Any], sizes: dict[str, Any], file: Path, problems: Problems) -> None:
    """What the worker would find out as well, once it has loaded the model."""
    both_ways = sizes.get("use_bidirectional_attention")
    if both_ways is True or both_ways == "all":
        value = f"use_bidirectional_attention: {both_ways}"
    elif config.get("model_type") in _TWO_SIDED and config.get("is_decoder") is not True:
        value = f"model_type: {config['model_type']}"
    else:
        return
    problems.add(
        where=str(file),
        value=value,
        rule="the model's attention sees the tokens that it would have to predict",
        remedy="choose a model that generates text",
    )


def _check_sizes(survey: ModelSurvey, file: Path, problems: Problems) -> None:
    """The rules of thumb divide by them, and whatever loads the model fails on them."""
    for name in _SIZES:
        size = getattr(survey, name)
        if size is not None and not 1 <= size < _LARGEST_SIZE:
            problems.add(
                where=str(file),
                value=str(size),
                rule=f"the model's {name} is a whole number from 1 to {_LARGEST_SIZE - 1}",
                remedy="copy the model's files again",
            )


def _refuse_code(folder: Path, problems: Problems) -> None:
    """transformers takes its own code for an architecture that it knows, whatever lies in the folder."""
    config = _json_object(folder / "config.json") or {}
    code = config.get("auto_map")
    if not code or _is_known_to_transformers(str(config.get("model_type"))):
        return
    problems.add(
        where=str(folder / "config.json"),
        value=f"auto_map: {code}",
        rule="the model needs Python code that lies in its folder, and such code is not run",
        remedy="read that code, and write trust_remote_code: true if you trust it",
    )


def _is_known_to_transformers(model_type: str) -> bool:
    """Imports transformers: only for a folder that has code."""
    from transformers import CONFIG_MAPPING

    return model_type in CONFIG_MAPPING


def _config_json(folder: Path, problems: Problems) -> dict[str, Any] | None:
    file = folder / "config.json"
    if not file.is_file():
        problems.add(
            where=str(folder),
            value="",
            rule="the model's folder has no config.json",
            remedy="name a folder as save_pretrained of the model writes it",
        )
        return None
    config = _json_object(file)
    if config is None:
        problems.add(
            where=str(file),
            value="",
            rule="the file is not a JSON object",
            remedy="copy the model's folder again",
        )
    return config


def _json_object(file: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _has_chat_template(folder: Path) -> bool:
    if any(folder.glob("chat_template*")) or any(folder.glob("additional_chat_templates/*")):
        return True
    return bool((_json_object(folder / "tokenizer_config.json") or {}).get("chat_template"))


def _first_int(mapping: dict[str, Any], *keys: str) -> int | None:
    for key in keys:
        value = mapping.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None


def _survey_gguf(file: Path, problems: Problems) -> ModelSurvey:
    if importlib.util.find_spec("gguf") is None:
        problems.add(
            where=str(file),
            value="",
            rule="a .gguf file needs the package gguf, which is not installed",
            remedy="pip install 'sweeper[gguf]'",
        )
    try:
        header = read_gguf_header(file)
    except (GgufFormatError, OSError) as error:
        problems.add(
            where=str(file),
            value="",
            rule=f"the file is not a model: {error}",
            remedy="name a model's folder, a .gguf file, or a hub id such as owner/name",
        )
        return ModelSurvey()
    kind = str(header.get("general.architecture", ""))
    survey = ModelSurvey(
        hidden_size=_first_int(header, f"{kind}.embedding_length"),
        layers=_first_int(header, f"{kind}.block_count"),
        vocab_size=_first_int(header, f"{kind}.vocab_size", "tokenizer.ggml.tokens.length"),
        max_position_embeddings=_first_int(header, f"{kind}.context_length"),
        model_type=kind or None,
        has_chat_template="tokenizer.chat_template" in header,
    )
    _check_sizes(survey, file, problems)
    return survey

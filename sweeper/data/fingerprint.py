"""What tokenized rows depend on, as one hash; and which model it is, told from its files."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweeper.data.model.model_folder import model_folder, tokenizer_files
from sweeper.data.problems import Problems
from sweeper.data.read.examples import SPLIT_SEED
from sweeper.data.read.files import Source, extension, sources_of
from sweeper.data.read.read import read_rows
from sweeper.data.render.templates import template_text
from sweeper.data.render.tokenizer import load_tokenizer
from sweeper.space import Config

__all__ = ["data_fingerprint", "model_fingerprint", "prepared_fingerprint", "sampled_hash"]

_CACHE_VERSION = 3
"""Raised whenever the same input may give other arrays. What was begun before then goes on where its rows
come out the same all the same (``TokenizedData.content``), and is refused with the difference where not."""

_CHUNK_BYTES = 2**20
_GGUF_HEAD_BYTES = 2**26
"""The metadata, with the tokenizer, precedes the tensors of a ``.gguf`` file; this is more than it takes."""


def prepared_fingerprint(config: Config) -> str:
    """Hash of everything that the tokenized rows follow from.

    Raises: DataError, ModelError where a file of the data or the tokenizer is not there.
    """
    eval_data = config.eval_data
    parts: dict[str, Any] = {
        "version": _CACHE_VERSION,
        "libraries": {name: importlib.metadata.version(name) for name in ("transformers", "tokenizers")},
        "data": data_fingerprint([source.path for source in config.sources]),
        "sources": [(source.weight, source.format, source.columns) for source in config.sources],
        "eval": data_fingerprint([eval_data]) if isinstance(eval_data, str) else [eval_data, SPLIT_SEED],
        "eval_format": config.data_format if isinstance(eval_data, str) else None,
        "max_bad_rows": config.max_bad_rows,
        "tokenizer": _tokenizer_fingerprint(config.model_path, config.trust_remote_code),
        "template": template_text(config.chat_template),
        "learn_template_text": config.learn_template_text,
        "max_seq_len": config.training.max_seq_len,
        "overlong": config.training.overlong,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def data_fingerprint(data_paths: Sequence[str]) -> list[list[str]]:
    """For each path, hashes of the contents and kinds of its files in their order, not their names; of
    the rows of what ``datasets`` loads.

    Raises: DataError where a path means no file.
    """
    problems = Problems()
    sources = sources_of(data_paths, problems)
    problems.raise_if_any()
    return [[_source_digest(source) for source in group] for group in sources]


def _source_digest(source: Source) -> str:
    if source.layout == "file":
        return extension(source.path) + _file_digest(source.path).hex()
    problems = Problems()
    rows = [row.fields for row in read_rows(source, problems)]
    problems.raise_if_any()
    return hashlib.sha256(json.dumps(rows, sort_keys=True, default=repr).encode()).hexdigest()


def _tokenizer_fingerprint(model_path: str, trust_remote_code: bool = False) -> str:
    """Hash of the tokenizer's files and chat template; of the loaded tokenizer for a hub id.

    Raises: ModelError where a hub id gives no tokenizer.
    """
    path = Path(model_folder(model_path))
    digest = hashlib.sha256()
    if path.is_dir():
        for file in tokenizer_files(path):
            digest.update(str(file.relative_to(path)).encode() + b"\0" + _file_digest(file))
        config = path / "config.json"  # names the class of the tokenizer
        digest.update(_file_digest(config) if config.is_file() else b"")
    elif path.is_file():
        digest.update(_file_digest(path, limit_bytes=_GGUF_HEAD_BYTES))
    else:
        tokenizer = load_tokenizer(model_path, trust_remote_code=trust_remote_code)
        state = (tokenizer.backend_tokenizer.to_str(), tokenizer.chat_template, tokenizer.special_tokens_map)
        digest.update(json.dumps(state, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _file_digest(path: Path, limit_bytes: int | None = None) -> bytes:
    digest = hashlib.sha256()
    left = path.stat().st_size if limit_bytes is None else limit_bytes
    with path.open("rb") as file:
        while left > 0 and (chunk := file.read(min(_CHUNK_BYTES, left))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.digest()


def model_fingerprint(model_path: str) -> str:
    """SHA-256 over names, sizes and samples of a model's files; a hub id stands for itself."""
    path = Path(model_folder(model_path))
    if path.is_file():
        return sampled_hash([path])
    if path.is_dir():
        return sampled_hash(sorted(file for file in path.iterdir() if file.is_file()))
    return hashlib.sha256(model_path.encode()).hexdigest()


def sampled_hash(files: list[Path]) -> str:
    """The first and last MiB of each file: enough to tell models apart, quick for 16 GB of weights."""
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name}:{size}:".encode())
        with file.open("rb") as stream:
            digest.update(stream.read(_CHUNK_BYTES))
            stream.seek(max(size - _CHUNK_BYTES, 0))
            digest.update(stream.read(_CHUNK_BYTES))
    return digest.hexdigest()

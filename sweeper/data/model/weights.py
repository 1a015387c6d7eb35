"""Which model it is, told from its files without loading them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sweeper.data.model.model_folder import model_folder

__all__ = ["model_fingerprint", "sampled_hash"]

_SAMPLE_BYTES = 2**20


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
            digest.update(stream.read(_SAMPLE_BYTES))
            stream.seek(max(size - _SAMPLE_BYTES, 0))
            digest.update(stream.read(_SAMPLE_BYTES))
    return digest.hexdigest()

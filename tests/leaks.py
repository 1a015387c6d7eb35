"""Looks for secrets in everything that a command has left behind."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote


def forms(secret: str) -> set[str]:
    """As it is, percent-encoded, and inside JSON."""
    return {secret, quote(secret, safe=""), json.dumps(secret)[1:-1]}


def leaks(folder: Path, secrets: Iterable[str], *, allowed: Iterable[Path] = ()) -> list[str]:
    """The files below a folder that hold one of the secrets, as text or as the hex digits of a pickle."""
    wanted = [form.encode() for secret in secrets for form in forms(secret)]
    wanted += [one.hex().encode() for one in wanted]
    files = [file for file in folder.rglob("*") if file.is_file() and file not in set(allowed)]
    assert files
    return [str(file) for file in files if any(one in file.read_bytes() for one in wanted)]

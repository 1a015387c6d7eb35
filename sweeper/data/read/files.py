"""Which files a ``data_path`` means: a file, a glob, a folder, the packaged data, or a hub id."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sweeper.data.problems import Problems, Unusable

__all__ = ["BUILTIN", "PACKAGED", "Source", "extension", "is_hub_id", "sources_of"]

BUILTIN = "builtin:quickstart"
"""The model and data that come with the package."""

PACKAGED = Path(__file__).resolve().parents[2] / "quickstart"
"""The folder of the packaged model and data."""

_EXTENSIONS = (".jsonl", ".ndjson", ".json", ".csv", ".parquet", ".jsonl.gz", ".json.gz", ".csv.gz")

_SAVED_MARKS = ("dataset_dict.json", "state.json")
"""One of these is in a folder that ``save_to_disk`` of ``datasets`` wrote."""

_SPLIT_PATTERNS = ("train*/*", "*/train*", "*/train/*")
"""Training rows in a folder that is laid out like a repository of the hub."""

_GLOB_CHARACTERS = re.compile(r"[*?\[]")
_EVERY_FOLDER = re.compile(r"(\*\*/)+")
"""Once says the same as several times, which multiplies the walk."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Source:
    """One place that rows come from."""

    name: str
    """As it is named in messages: the path as written or found, or the hub id."""
    layout: Literal["file", "folder", "saved", "hub"] = "file"
    """A data file; a folder laid out like a repository of the hub, or the id of one, for ``load_dataset``; a
    folder that ``save_to_disk`` wrote."""

    @property
    def path(self) -> Path:
        return Path(self.name)


def extension(path: Path) -> str:
    """What says the kind of a file: its last extension, the last two of a ``.gz``; in lower case."""
    last = path.suffix.lower()
    return (Path(path.stem).suffix.lower() if last == ".gz" else "") + last


def is_hub_id(text: str) -> bool:
    """Whether the text can be ``owner/name`` on a hub, and not only a path to a ``.gguf`` file."""
    return _HUB_ID.fullmatch(text) is not None and not text.endswith(".gguf")


def sources_of(data_paths: Sequence[str], problems: Problems) -> list[list[Source]]:
    """The sources that each of the paths means, in a fixed order.

    A file that several paths mean belongs to the first of them.
    """
    seen: set[Path] = set()
    return [_not_seen(_sources_of_one(text, problems), seen) for text in data_paths]


def _not_seen(sources: list[Source], seen: set[Path]) -> list[Source]:
    new = []
    for source in sources:
        path = source.path.resolve()
        if path not in seen:
            seen.add(path)
            new.append(source)
    return new


def _sources_of_one(text: str, problems: Problems) -> list[Source]:
    found: list[Source] = []
    with problems.noting(text):
        try:
            found = _found(text)
        except (OSError, ValueError, RuntimeError) as error:  # no path, no pattern, the home of nobody known
            reason = getattr(error, "strerror", None) or error
            raise Unusable(f"it cannot be looked up: {reason}", f"check the path; {_relative()}") from error
    return found


def _relative() -> str:
    return f"relative ones start at {Path.cwd()}"


def _found(text: str) -> list[Source]:
    """Raises: Unusable; OSError, ValueError or RuntimeError for what is no path or cannot be reached."""
    if text == BUILTIN:
        return _existing(PACKAGED / "data" / "train.jsonl")
    path = Path(text).expanduser()
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        if _GLOB_CHARACTERS.search(text):
            return _glob(path)
        if is_hub_id(text) and extension(path) not in _EXTENSIONS:
            return [Source(text, "hub")]
    return _existing(path)


def _existing(path: Path) -> list[Source]:
    if not path.is_file():
        raise Unusable("there is no such file or folder", f"check the path; {_relative()}", where=str(path))
    if extension(path) not in _EXTENSIONS:
        raise Unusable(
            "the extension says no known kind of data file",
            f"use one of {', '.join(_EXTENSIONS)}",
            value=extension(path) or "no extension",
            where=str(path),
        )
    return [Source(str(path))]


def _folder(folder: Path) -> list[Source]:
    """Its data files; without any, what ``datasets`` makes of the folder.

    Beside data files, those of folders below do not count: they are often other splits.
    """
    if any((folder / name).is_file() for name in _SAVED_MARKS):
        return [Source(str(folder), "saved")]
    files = [file for file in sorted(folder.iterdir()) if _is_data(file)]
    if files:
        return [Source(str(file)) for file in files]
    if any(_is_data(file) for pattern in _SPLIT_PATTERNS for file in folder.glob(pattern)):
        return [Source(str(folder), "folder")]
    raise Unusable(
        "the folder holds no data file",
        f"put {', '.join(_EXTENSIONS)} files in it, or name a glob, e.g. {folder}/**/*.jsonl",
        where=str(folder),
    )


def _glob(pattern: Path) -> list[Source]:
    root = Path(pattern.anchor) if pattern.is_absolute() else Path()
    relative = str(pattern.relative_to(pattern.anchor)) if pattern.is_absolute() else str(pattern)
    matches = sorted(set(root.glob(_EVERY_FOLDER.sub("**/", relative))))
    files = [file for file in matches if _is_data(file)]
    if not files:
        raise Unusable(
            "the pattern matches no data file" if matches else "the pattern matches nothing",
            f"{_relative()}; data ends with {', '.join(_EXTENSIONS)}",
            where=str(pattern),
        )
    return [Source(str(file)) for file in files]


def _is_data(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".") and extension(file) in _EXTENSIONS

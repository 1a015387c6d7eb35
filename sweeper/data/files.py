"""Which files a ``data_path`` means: a file, a glob, a folder, the packaged data, or a hub id."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from sweeper.data.problems import Problems

__all__ = [
    "BUILTIN",
    "KNOWN_EXTENSIONS",
    "PACKAGED",
    "Source",
    "is_hub_id",
    "looks_like_a_path",
    "sources_of",
]

BUILTIN = "builtin:quickstart"
"""The model and data that come with the package."""

PACKAGED = Path(__file__).resolve().parent.parent / "quickstart"
"""The folder of the packaged model and data."""

KNOWN_EXTENSIONS = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")

_GLOB_CHARACTERS = re.compile(r"[*?\[]")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, kw_only=True)
class Source:
    """One place that rows come from."""

    name: str
    """As it is named in messages: the path as written or found, or the hub id."""
    path: Path | None
    """The file; None for a hub id."""


def is_hub_id(text: str) -> bool:
    """Whether the text can be ``owner/name`` on a hub."""
    return _HUB_ID.fullmatch(text) is not None and not looks_like_a_path(text)


def looks_like_a_path(text: str) -> bool:
    """Whether the text can only be a path: it starts like one, has several slashes, or ends ``.gguf``."""
    return text.startswith(("./", "../", "/", "~")) or text.count("/") > 1 or text.endswith(".gguf")


def sources_of(data_path: str | tuple[str, ...], problems: Problems) -> list[Source]:
    """Every source that the path or paths mean, in a fixed order, each file once."""
    texts = (data_path,) if isinstance(data_path, str) else data_path
    if not texts:
        problems.add(
            where="data_path",
            value="[]",
            rule="no data is named",
            remedy="name a file, folder, glob or hub id",
        )
    found: dict[str, Source] = {}
    for text in texts:
        for source in _sources_of_one(text, problems):
            found.setdefault(str(source.path.resolve()) if source.path else source.name, source)
    return list(found.values())


def _sources_of_one(text: str, problems: Problems) -> list[Source]:
    if text == BUILTIN:
        return _existing(PACKAGED / "data" / "train.jsonl", problems)
    path = Path(text).expanduser()
    if path.is_dir():
        return _folder(path, problems)
    if path.is_file():
        return _existing(path, problems)
    if _GLOB_CHARACTERS.search(text):
        return _glob(path, problems)
    if is_hub_id(text) and path.suffix.lower() not in KNOWN_EXTENSIONS:
        return [Source(name=text, path=None)]
    return _existing(path, problems)


def _existing(path: Path, problems: Problems) -> list[Source]:
    if not path.is_file():
        problems.add(
            where=str(path),
            value="",
            rule="there is no such file or folder",
            remedy=f"check the path; relative ones start at {Path.cwd()}",
        )
        return []
    if path.suffix.lower() not in KNOWN_EXTENSIONS:
        problems.add(
            where=str(path),
            value=path.suffix or "no extension",
            rule="the extension says no known kind of data file",
            remedy=f"use one of {', '.join(KNOWN_EXTENSIONS)}",
        )
        return []
    return [Source(name=str(path), path=path)]


def _folder(folder: Path, problems: Problems) -> list[Source]:
    """Its data files, not those of folders below: these are often other splits of the same data."""
    files = [file for file in sorted(folder.iterdir()) if _is_data(file)]
    if not files:
        problems.add(
            where=str(folder),
            value="",
            rule="the folder holds no data file",
            remedy=f"put {', '.join(KNOWN_EXTENSIONS)} files in it, or name a glob, e.g. {folder}/**/*.jsonl",
        )
    return [Source(name=str(file), path=file) for file in files]


def _glob(pattern: Path, problems: Problems) -> list[Source]:
    root = Path(pattern.anchor) if pattern.is_absolute() else Path()
    relative = str(pattern.relative_to(pattern.anchor)) if pattern.is_absolute() else str(pattern)
    matches = sorted(root.glob(relative))
    files = [file for file in matches if _is_data(file)]
    if not files:
        rule = "the pattern matches no data file" if matches else "the pattern matches nothing"
        problems.add(
            where=str(pattern),
            value="",
            rule=rule,
            remedy=f"relative ones start at {Path.cwd()}; data ends with {', '.join(KNOWN_EXTENSIONS)}",
        )
    return [Source(name=str(file), path=file) for file in files]


def _is_data(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".") and file.suffix.lower() in KNOWN_EXTENSIONS

"""Where on this node lies what a configuration names by a path of the driver's machine."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["here", "use_copies"]

_copies: dict[str, str] = {}


def use_copies(copies: Mapping[str, str]) -> None:
    """Path as it is written -> path here, for this process from now on."""
    _copies.clear()
    _copies.update(copies)


def here(path: str) -> str:
    """The path itself, where nothing else is known of it."""
    return _copies.get(path, path)

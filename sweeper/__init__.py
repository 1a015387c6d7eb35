"""Tuning the supervised fine-tuning of language models: docs/python.md has examples.

What ``__all__`` names is stable: it changes only with a warning one version ahead. Rooms below it may change
at any time.

``run``, ``resume``, ``load`` and ``train`` are imported when they are first used, so that importing
this package imports nothing else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweeper.commands import load_sweep as load
    from sweeper.commands import resume_sweep as resume
    from sweeper.commands import run_sweep as run
    from sweeper.commands import train_config as train

__all__ = ["__version__", "load", "resume", "run", "train"]

__version__ = "0.1.0"
_COMMANDS = {
    "load": "load_sweep",
    "resume": "resume_sweep",
    "run": "run_sweep",
    "train": "train_config",
}


def __getattr__(name: str) -> Any:
    if name not in _COMMANDS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("sweeper.commands"), _COMMANDS[name])

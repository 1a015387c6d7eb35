"""What another trainer calls our settings: a table for each, and beside it what is special about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from sweeper.space import Config, DataFormat
from sweeper.space.config.fields import leaves
from sweeper.space.engine.keys import Key, inverted, same

__all__ = ["Consumer", "Found", "Key", "Note", "Part", "Run", "inverted", "same", "values_of"]


class Note(NamedTuple):
    """What the other side cannot say, or says otherwise."""

    path: str
    """The setting of ours: ``training.scheduler``."""
    said: str


Part = tuple[dict[str, Any], list[Note]]
"""Some of their keys with values, and what these do not say."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What is exported: one training run with nothing open."""

    config: Config
    steps: int
    """Optimizer steps of the whole run, from 1."""
    fields: DataFormat | None = None
    """The format of the rows, where it is known."""

    @property
    def values(self) -> dict[str, Any]:
        return values_of(self.config)


@dataclass
class Found:
    """What an import has understood so far."""

    tree: dict[str, Any]
    """Their keys that nobody has read yet; whoever reads one takes it out."""
    values: dict[str, Any] = field(default_factory=dict)
    """Our path -> value, for ``Leaf.validate`` to check."""
    notes: list[Note] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Consumer:
    """Another trainer."""

    name: str
    """As ``--format`` has it."""
    title: str
    version: str
    """The one that its keys were read from and tried with."""
    form: Literal["json", "yaml", "command"]
    command: str
    """How the exported file is run; of ``command`` the words before the options."""
    keys: tuple[Key, ...]
    write: Callable[[Run], Part]
    """What is special: all that is not one value for one value."""
    read: Callable[[Found], None] | None = None
    """Its way back; None: no import."""
    special: Mapping[str, str] = field(default_factory=dict)
    """Our setting -> their keys, in words, of what ``write`` does; for the page of the docs."""
    remarks: tuple[str, ...] = ()
    """What a reader of the page has to know."""


def values_of(config: Config) -> dict[str, Any]:
    """Path -> value of every field; without those of ``lora`` where there are no adapters."""
    lora = config.training.lora
    flat: dict[str, Any] = {} if lora else {"training.lora": False}
    for path in leaves():
        if lora or not path.startswith("training.lora."):
            flat[path] = attrgetter(path)(config)
    return flat

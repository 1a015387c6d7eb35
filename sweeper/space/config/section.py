"""What the sections of a space file are made of, and the marks that their fields carry."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Mark(Enum):
    """A property of a field that the space file's loader looks for."""

    SEARCHABLE = auto()
    """The field may be open: a list or a range instead of a value."""
    AUTO = auto()
    """The field may be ``auto``; where it has no default it is when absent, and the rules of thumb close
    it."""


SEARCHABLE, AUTO = Mark.SEARCHABLE, Mark.AUTO


@dataclass(frozen=True)
class Words:
    """What a value must be, for messages, where the field's type does not say it well."""

    text: str


class Section(BaseModel):
    """Frozen, strict about unknown keys; what stands beneath a field describes it in the JSON Schema."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


NonEmptyStr = Annotated[str, Field(min_length=1)]
"""A path, pattern or hub id."""

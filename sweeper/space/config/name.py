"""A sweep's name: letters and digits of any script, fit for a file name, a database and MLflow."""

from __future__ import annotations

import unicodedata
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

__all__ = ["NAME_WORDS", "Name"]

_CHARACTERS, _BYTES = 100, 240
"""A file name has 255 bytes at most, and folders beside a sweep's are called after it: ``-autotune``."""
NAME_WORDS = (
    "letters, digits, dots, dashes and underscores, of any script, beginning with a letter or digit, "
    f"at most {_CHARACTERS} characters and {_BYTES} bytes"
)
_PATTERN = rf"^[^\x00-/:-@[-`{{-\xa9][^\x00-,/:-@[-^`{{-\xa9]{{0,{_CHARACTERS - 1}}}$"
"""For editors, whose kinds of regular expression agree on no way to say "letter": what ASCII lacks passes."""


def _normal(name: str) -> str:
    """The name in the normal form NFC: typed or copied, it is one folder and one sweep."""
    name = unicodedata.normalize("NFC", name)
    allowed = all(_kind(one) in "LMD" or one in "._-" for one in name)
    begins = name != "" and _kind(name[0]) in "LD"
    if not (allowed and begins and len(name) <= _CHARACTERS and len(name.encode()) <= _BYTES):
        raise ValueError(name)
    return name


def _kind(character: str) -> str:
    """``L`` of letters, ``M`` of marks that belong to a letter, ``D`` of decimal digits."""
    category = unicodedata.category(character)
    return "D" if category == "Nd" else category[0]


Name = Annotated[str, AfterValidator(_normal), WithJsonSchema({"type": "string", "pattern": _PATTERN})]

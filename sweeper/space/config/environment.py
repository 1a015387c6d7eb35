"""What ``resources.env`` puts into the environment of a trial's processes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from sweeper.errors import Problem, UserError
from sweeper.redact import is_secret_name, secrets_in

__all__ = ["environment", "written_secrets"]


def environment(entries: Sequence[str], here: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Name -> value; what is only named has the value that it has ``here``.

    Raises UserError where that has none.
    """
    missing = [name for name in entries if "=" not in name and name not in here]
    if missing:
        rule = "is to be handed on to the ranks (resources.env), and is not set where this command is given"
        raise UserError(
            Problem(where="resources.env", value=name, rule=rule, remedy=f"export {name}=..., or take it out")
            for name in missing
        )
    pairs = (entry.partition("=") for entry in entries)
    return {name: value if sign else here[name] for name, sign, value in pairs}


def written_secrets(entries: Sequence[str]) -> Iterator[str]:
    """The names of those whose value is a secret and stands in the file."""
    for entry in entries:
        name, sign, value = entry.partition("=")
        if sign and (is_secret_name(name) or secrets_in(value)):
            yield name

"""The fields that may hold a password: written everywhere with it struck out, kept once in a private file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sweeper.errors import SweepFolderError
from sweeper.redact import masked, secrets_in
from sweeper.space.atomic_write import write_whole

if TYPE_CHECKING:
    from sweeper.space.config.config import Settings
    from sweeper.space.folder import SweepFolder

__all__ = ["read_secrets", "secrets_of", "struck_out", "write_secrets"]

_STORAGE, _MLFLOW = "search.storage", "tracking.mlflow_uri"


def secrets_of(settings: Settings) -> dict[str, str]:
    """Path -> address, of the addresses that hold a password."""
    addresses = {_STORAGE: settings.search.storage, _MLFLOW: settings.tracking.mlflow_uri}
    return {path: address for path, address in addresses.items() if address and secrets_in(address)}


def struck_out(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Path -> value of every field, without passwords."""
    shown = {path: masked(flat[path]) for path in (_STORAGE, _MLFLOW) if isinstance(flat.get(path), str)}
    return {**flat, **shown}


def write_secrets(settings: Settings, folder: SweepFolder) -> None:
    """Keep what resuming needs and no other file of the folder holds."""
    secrets = secrets_of(settings)
    if secrets:
        write_whole(folder.secrets_file, json.dumps(secrets, indent=2) + "\n", private=True)


def read_secrets(folder: SweepFolder) -> dict[str, str]:
    """Path -> address with its password, as ``write_secrets`` kept it.

    Empty where the file is not there, or is somebody else's.

    Raises:
        SweepFolderError: the file is there and cannot be read as what ``write_secrets`` wrote.
    """
    try:
        tree = json.loads(folder.secrets_file.read_text(encoding="utf-8"))
        return {path: str(tree[path]) for path in (_STORAGE, _MLFLOW) if path in tree}
    except (FileNotFoundError, PermissionError):
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise SweepFolderError.of(
            where=str(folder.secrets_file),
            value="",
            rule=f"the sweep's addresses cannot be read ({type(error).__name__})",
            remedy="restore the file; or remove it, and the command says what to give instead",
        ) from error

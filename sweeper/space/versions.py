"""What one version of this package stores and another one reads: folders, records, and hashes of settings."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter

from sweeper.errors import SweepFolderError, first_line
from sweeper.space.atomic_write import write_whole
from sweeper.space.config.config import Config
from sweeper.space.config.section import Section
from sweeper.space.folder import SweepFolder

__all__ = [
    "FORMAT_VERSION",
    "begun_format",
    "lasting_tree",
    "mark_format",
    "read_config",
    "read_record",
]

FORMAT_VERSION = 2
"""Of what is stored in a folder. Raised whenever a version that knows only the number before would misread
it; whoever raises it sees to it that the older ones are read as well. A new field with a default under
which nothing changes needs no new number.

1 (no number is stored): a state names its rows by the fingerprint of what they were made from; what a chat
template writes into an answer carries loss.
2: a state names its rows by a hash of the rows themselves; ``learn_template_text`` says the other.
"""

_FIRST_FIELDS = {
    "training": "lr scheduler final_lr_ratio warmup_ratio decay_ratio epochs per_device_batch_size "
    "gradient_accumulation_steps global_batch_size weight_decay adam_beta1 adam_beta2 adam_epsilon "
    "max_grad_norm max_seq_len overlong packing lora seed",
    "training.lora": "rank alpha dropout targets",
    "deepspeed": "zero_stage offload gradient_checkpointing precision config",
    "parallel": "dp pp tp",
}
"""The fields that hashes have covered from the beginning, whatever their value."""

R = TypeVar("R")


def begun_format(folder: SweepFolder) -> int:
    """The format that the folder's sweep began with: what it left unsaid means what it meant then.

    Raises SweepFolderError where a newer version has written the folder.
    """
    found = _stored_format(folder)
    if not found:
        return 1 if folder.space_file.exists() else FORMAT_VERSION
    return int(found.get("begun_with", FORMAT_VERSION))


def mark_format(folder: SweepFolder) -> None:
    """From now on the folder is one of this version. Raises what ``begun_format`` does."""
    content = {
        "format_version": FORMAT_VERSION,
        "begun_with": begun_format(folder),
        "sweeper": _own_version(),
    }
    if _stored_format(folder) != content:
        write_whole(folder.format_file, json.dumps(content, indent=2) + "\n")


def read_record(kind: type[R], tree: Any) -> R:
    """A dataclass from what ``asdict`` made of it, in whatever version: fields that are missing take their
    default, and what is not known is passed over.

    Raises: ValueError where a field without default is missing, or a value is none of the field's.
    """
    return TypeAdapter(kind).validate_python(tree)


def read_config(tree: Mapping[str, Any]) -> Config:
    """A closed configuration from what ``model_dump`` made of it, as ``read_record``."""
    return Config.model_validate(tree, extra="ignore")


def lasting_tree(section: Section, path: str) -> dict[str, Any]:
    """A section as JSON values to hash, which a new field leaves as they are until it is used: one that came
    later is left out while it has its default.

    Args:
        path: where the section stands: ``training``.
    """
    tree = section.model_dump(mode="json")
    first = _FIRST_FIELDS.get(path, "").split()
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        if name not in first and value == info.get_default(call_default_factory=True):
            del tree[name]
        elif isinstance(value, Section):
            tree[name] = lasting_tree(value, f"{path}.{name}")
    return tree


def _stored_format(folder: SweepFolder) -> dict[str, Any]:
    """Raises SweepFolderError where the file is there and says nothing, or is a newer version's."""
    try:
        found = json.loads(folder.format_file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise _unreadable(folder, first_line(error)) from error
    if not isinstance(found, dict):
        raise _unreadable(folder, "it is no JSON object")
    number = found.get("format_version", 1)
    if isinstance(number, int) and number <= FORMAT_VERSION:
        return found
    writer = found.get("sweeper", "newer than this one")
    raise SweepFolderError.of(
        where=str(folder.format_file),
        value=f"format_version: {number}",
        rule=f"sweeper {_own_version()} reads folders up to format_version {FORMAT_VERSION}",
        remedy=f"go on with the version that wrote it (sweeper {writer}), or begin anew in another folder",
    )


def _unreadable(folder: SweepFolder, reason: str) -> SweepFolderError:
    return SweepFolderError.of(
        where=str(folder.format_file),
        value="",
        rule=f"the version of the folder's format cannot be read ({reason})",
        remedy="restore the file, or begin anew in another folder",
    )


def _own_version() -> str:
    return importlib.metadata.version("sweeper")

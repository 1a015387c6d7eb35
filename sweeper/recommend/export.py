"""The answer in the form that another tool reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sweeper.errors import SweepFolderError, UserError

if TYPE_CHECKING:
    from sweeper.space import SweepFolder

__all__ = ["EXPORT_FORMATS", "export"]

EXPORT_FORMATS = ("yaml", "deepspeed")


def export(folder: SweepFolder, fmt: str, *, trial: int | None = None) -> str:
    """The best configuration as text.

    ``yaml`` is best-config.yaml as it stands; ``deepspeed`` is the DeepSpeed configuration that the best
    trial, or that ``trial``, was really trained with.

    Raises:
        UserError: an unknown format.
        SweepFolderError: the sweep has no answer yet, or what is asked for is gone.
    """
    if fmt == "yaml":
        return _read(folder.best_config, "finish the sweep first: `sweeper resume`")
    if fmt == "deepspeed":
        number = _best_trial(folder) if trial is None else trial
        return _read(folder.trial_ds_config(number), "run the sweep again, or use --format yaml")
    raise UserError.of(
        where="--format",
        value=fmt,
        rule=f"is not a format that can be written ({', '.join(EXPORT_FORMATS)})",
        remedy=f"choose {' or '.join(EXPORT_FORMATS)}",
    )


def _best_trial(folder: SweepFolder) -> int:
    text = export(folder, "yaml")
    try:
        tree: Any = YAML(typ="safe").load(text)
        return int(tree["provenance"]["trial"])
    except (YAMLError, KeyError, TypeError, ValueError) as error:
        raise SweepFolderError.of(
            where=str(folder.best_config),
            value="provenance.trial",
            rule="does not name the best trial",
            remedy="write the file again: `sweeper resume`",
        ) from error


def _read(path: Path, remedy: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SweepFolderError.of(
            where=str(path), value="", rule="cannot be read, or is not there yet", remedy=remedy
        ) from error

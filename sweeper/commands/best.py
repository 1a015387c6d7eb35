"""The answer of a sweep as text: the one that was written, or another member of the Pareto front; and either
as the file of another trainer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from sweeper.commands.report import sweep_material
from sweeper.data.read.files import BUILTIN
from sweeper.errors import SweeperError, SweepFolderError, UserError
from sweeper.recommend import Preference, answer, export
from sweeper.recommend.exports import Exported, Run
from sweeper.recommend.report import next_step
from sweeper.space import SweepFolder, read_config, unwritable, write_whole
from sweeper.sweep.stored import open_sweep

if TYPE_CHECKING:
    from sweeper.space import Config, DataFormat

__all__ = ["best_configuration", "best_export", "export_tree", "write_export"]


def best_configuration(root: Path, *, prefer: Preference = "loss") -> str:
    """The best configuration of the sweep in this folder, as YAML.

    ``loss`` is best-config.yaml as it stands; ``cost`` and ``knee`` are worked out from the ledger, also
    while the sweep runs, and written nowhere.

    Raises:
        UserError: there is no sweep or no answer, or a preference where there is one objective.
        SweeperError: no trial was trained to its end.
    """
    folder = SweepFolder(root)
    if prefer == "loss":
        return _written_answer(folder)
    space, ledger = open_sweep(folder)
    objective = space.settings.objective
    if objective.also is None:
        raise UserError.of(
            where="--prefer",
            value=prefer,
            rule=f"the sweep has one objective, {objective.metric}: there is no front to choose from",
            remedy="leave --prefer out; a sweep begun with objective: [eval/loss, gpu_seconds] has one",
        )
    trials, tags = ledger.trials(), ledger.sweep_attributes().get("tags", {})
    return answer(space, trials, _below("version.", tags), _below("fingerprint.", tags), prefer)


def best_export(root: Path, *, fmt: str, prefer: Preference = "loss", gpus: int | None = None) -> Exported:
    """The same configuration in one of ``EXPORT_FORMATS``, and what that format does not say.

    ``gpus``: the number that the other trainer is to run on, at the same global batch; None: as many as here.

    Raises what ``best_configuration`` and ``export`` raise.
    """
    text = best_configuration(root, prefer=prefer)
    if fmt == "yaml":
        if gpus is not None:
            raise UserError.of(
                where="--gpus",
                value=gpus,
                rule="best-config.yaml is what the trial was trained with",
                remedy="leave it out, or name another trainer by --format",
            )
        return Exported(text, ())
    folder = SweepFolder(root)
    config, trial = _config_of(text, folder)
    config = _on_disk(config)
    return export(
        Run(config=config, steps=_steps(folder, trial), fields=_known_format(config)), fmt, gpus=gpus
    )


def write_export(found: Exported, path: Path) -> tuple[Path, ...]:
    """Writes the file, and its script beside it as ``<name>_train.py``; both or none.

    Raises UserError where it cannot be written.
    """
    script = path.with_name(f"{path.stem}_train.py")  # never trl.py, which would stand for the package
    is_new = not script.exists()
    try:
        if found.script is not None:
            write_whole(script, found.script)
        write_whole(path, found.text)
    except OSError as error:
        if found.script is not None and is_new:
            with suppress(OSError):  # where nothing could be written there is nothing to remove
                script.unlink(missing_ok=True)
        raise unwritable(path, error, "name a file in a folder of yours by --output") from error
    return (path,) if found.script is None else (path, script)


def export_tree(found: Exported, fmt: str, written: Sequence[Path]) -> dict[str, Any]:
    """What ``sweeper best --json`` prints: ``{"format", "config", "text", "script", "notes": [{"path",
    "said"}], "written"}``. ``config`` is the configuration as data where ``fmt`` is yaml, else null, and
    ``text`` the file in its format."""
    config = YAML(typ="safe").load(found.text) if fmt == "yaml" else None
    return {
        "format": fmt,
        "config": config,
        "text": found.text,
        "script": found.script,
        "notes": [{"path": one.path, "said": one.said} for one in found.notes],
        "written": [str(path) for path in written],
    }


def _config_of(text: str, folder: SweepFolder) -> tuple[Config, int]:
    """The configuration as data, and the number of its trial. Raises UserError of an engine's."""
    try:
        tree: Any = YAML(typ="safe").load(text)
        if "engine" in tree:
            raise _of_an_engine(folder, int(tree["provenance"]["trial"]))
        return read_config(_by_path(tree)), int(tree["provenance"]["trial"])
    except (YAMLError, KeyError, TypeError, ValueError) as error:
        raise SweepFolderError.of(
            where=str(folder.best_config),
            value="provenance.trial",
            rule="does not say which trial it is, or not what it was trained with",
            remedy="write the file again: `sweeper resume`",
        ) from error


def _of_an_engine(folder: SweepFolder, trial: int) -> UserError:
    found = sorted(folder.trial_dir(trial).glob("engine.*"))
    return UserError.of(
        where="--format",
        value=folder.root,
        rule="an export is of a trial of sweeper's own trainer, and an engine ran these",
        remedy=f"take {found[0]}, the file that the trainer of trial {trial} was given"
        if found
        else "take the trainer's own file, which best-config.yaml holds under engine.config",
    )


def _on_disk(config: Config) -> Config:
    """With the paths of the packaged model and rows, whose short names nobody else knows."""
    from sweeper.quickstart import DATA_FILE, MODEL_DIR

    changes: dict[str, Any] = {}
    if config.model_path == BUILTIN:
        changes["model_path"] = str(MODEL_DIR)
    if any(one.path == BUILTIN for one in config.sources):
        changes["data_path"] = tuple(
            one.model_copy(update={"path": str(DATA_FILE)}) if one.path == BUILTIN else one
            for one in config.sources
        )
    return config.model_copy(update=changes)


def _by_path(tree: dict[str, Any]) -> dict[str, Any]:
    """As the models have it: keys that a file writes otherwise say nothing of a run."""
    search = {key: value for key, value in tree.get("search", {}).items() if key != "time_budget"}
    return {**tree, "search": search}


def _steps(folder: SweepFolder, number: int) -> int:
    """Optimizer steps of the whole trial: its last evaluation is at its end."""
    _, ledger = open_sweep(folder)
    for record in ledger.trials():
        if record.number == number and record.evaluations:
            return max(one.step for one in record.evaluations)
    raise SweeperError(
        f"trial {number}, whose configuration is the best, is not in the ledger of {folder.root}"
    )


def _known_format(config: Config) -> DataFormat | None:
    """What shape the rows have: as the file says, else as they look where they can be read here."""
    from sweeper.data import row_format

    said = config.sources[0].format
    return said if said != "auto" else row_format(config.sources[0].path)


def _written_answer(folder: SweepFolder) -> str:
    """best-config.yaml. Raises SweepFolderError, with the state of the sweep, where it is not there."""
    path = folder.best_config
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as missing:
        found = sweep_material(folder.root)
        says, command = next_step(found)
        if found.best is not None and found.state == "finished":
            says, command = "write it again", f"sweeper resume {folder.root}"
        raise SweepFolderError.of(
            where=str(path),
            value="",
            rule=f"is not there: the sweep is {found.state}, and {len(found.complete)} of "
            f"{len(found.asked)} trials were trained to their ends",
            remedy=f"{says}{f': `{command}`' if command else ''}",
        ) from missing
    except OSError as error:
        rule, remedy = f"cannot be read: {error.strerror or error}", "check its permissions"
        raise SweepFolderError.of(where=str(path), value="", rule=rule, remedy=remedy) from error


def _below(prefix: str, tags: dict[str, str]) -> dict[str, str]:
    """What the driver noted for MLflow under names of this prefix."""
    return {name.removeprefix(prefix): value for name, value in tags.items() if name.startswith(prefix)}

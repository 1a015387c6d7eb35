"""The answer of a sweep as text: the one that was written, or another member of the Pareto front."""

from __future__ import annotations

from pathlib import Path

from sweeper.errors import UserError
from sweeper.recommend import Preference, answer, export, preferred
from sweeper.space import SweepFolder
from sweeper.sweep.stored import open_sweep

__all__ = ["best_configuration"]


def best_configuration(root: Path, *, fmt: str = "yaml", prefer: Preference = "loss") -> str:
    """The best configuration of the sweep in this folder, in one of ``EXPORT_FORMATS``.

    ``loss`` is best-config.yaml as it stands; ``cost`` and ``knee`` are worked out from the ledger, also
    while the sweep runs, and written nowhere.

    Raises:
        UserError: there is no sweep or no answer, an unknown format, or a preference where there is one
            objective.
        SweeperError: no trial was trained to its end.
    """
    folder = SweepFolder(root)
    if prefer == "loss":
        return export(folder, fmt)
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
    if fmt != "yaml":
        chosen = preferred(space, trials, prefer)
        return export(folder, fmt, trial=None if chosen is None else chosen.number)
    return answer(space, trials, _below("version.", tags), _below("fingerprint.", tags), prefer)


def _below(prefix: str, tags: dict[str, str]) -> dict[str, str]:
    """What the driver noted for MLflow under names of this prefix."""
    return {name.removeprefix(prefix): value for name, value in tags.items() if name.startswith(prefix)}

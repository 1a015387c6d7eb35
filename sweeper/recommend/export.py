"""The answer in the form that another tool reads."""

from __future__ import annotations

from sweeper.errors import UserError
from sweeper.recommend.exports import CONSUMERS, Exported, Run, exported, on_gpus

__all__ = ["EXPORT_FORMATS", "export"]

EXPORT_FORMATS = ("yaml", *CONSUMERS)


def export(run: Run, fmt: str, *, gpus: int | None = None) -> Exported:
    """A run as the file of another trainer; on so many GPUs with the same global batch, where that is said.

    Raises UserError: an unknown format, or a global batch that so many GPUs cannot share.
    """
    if fmt not in CONSUMERS:
        raise UserError.of(
            where="--format",
            value=fmt,
            rule=f"is not a format that can be written ({', '.join(EXPORT_FORMATS)})",
            remedy=f"choose {' or '.join(EXPORT_FORMATS)}",
        )
    if gpus is not None:
        run = Run(config=on_gpus(run.config, gpus, CONSUMERS[fmt]), steps=run.steps, fields=run.fields)
    return exported(run, CONSUMERS[fmt])

"""``sweeper compare``: several sweeps beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sweeper.commands.report import require_charts, sweep_material, vega_script
from sweeper.errors import Problem, UserError
from sweeper.recommend.compare import Comparison, compare, comparison_html
from sweeper.recommend.report import Material
from sweeper.space import write_named

__all__ = ["compare_sweeps", "write_comparison"]


def compare_sweeps(roots: Sequence[Path]) -> Comparison:
    """What of each sweep's answer holds in the others; writes nothing, and reads also sweeps that run.

    Raises UserError with all that keeps them from being compared, each by its folder.
    """
    found = [_material_or_problems(root) for root in roots]
    if problems := [problem for one in found if isinstance(one, tuple) for problem in one]:
        raise UserError(problems)
    return compare([one for one in found if not isinstance(one, tuple)])


def _material_or_problems(root: Path) -> Material | tuple[Problem, ...]:
    try:
        return sweep_material(root)
    except UserError as error:
        return error.problems


def write_comparison(found: Comparison, path: Path) -> None:
    """Writes the page.

    Raises:
        MissingDependencyError: the extra ``report`` is not installed.
        UserError: it cannot be written.
    """
    require_charts(f"sweeper compare -o {path}")
    write_named(path, comparison_html(found, vega_script()), "-o")

"""An LR range test as a picture."""

from __future__ import annotations

import io
import math

from sweeper.autotune.bracket import LrRange

__all__ = ["lr_picture"]

_LOSS, _FOUND, _ASKED, _LOST = "#1f4e79", "#2e8b57", "#d9822b", "#b03a2e"
_HEADROOM = 0.15
"""The picture ends so much of the fall above the untrained model's loss: a lost one has no bounds."""


def lr_picture(found: LrRange, *, name: str, asked: tuple[float, float], whose: str) -> bytes:
    """The held-out loss over the learning rate as a PNG, with the bracket shaded and the file's range marked.

    ``asked`` is the file's lowest and highest rate, equal where it has one only; ``whose`` says so in the
    legend.
    """
    from matplotlib.figure import Figure  # no pyplot: nothing of the caller's own figures is touched

    figure = Figure(figsize=(9, 5.4), layout="constrained")
    axes = figure.add_subplot()
    lowest = min(*found.smoothed, found.untrained)
    top = found.untrained + _HEADROOM * max(found.untrained - lowest, 0.1 * found.untrained)
    bottom = lowest - 0.12 * (top - lowest)
    raw = [min(loss, top) if math.isfinite(loss) else math.nan for loss in found.losses]
    axes.plot(found.lrs, raw, ".", color=_LOSS, alpha=0.4, markersize=6, label="after each step")
    axes.plot(found.lrs, found.smoothed, color=_LOSS, linewidth=2.2, label="smoothed")
    axes.axhline(found.untrained, color="grey", linestyle=":", linewidth=1.2, label="untrained model")
    if found.bracket is not None:
        low, steepest, high = found.bracket.low, found.bracket.steepest, found.bracket.high
        useful = f"useful range, {low:.1e} to {high:.1e}"
        axes.axvspan(low, high, color=_FOUND, alpha=0.14, linewidth=0, label=useful)
        fastest = f"steepest fall, {steepest:.1e}"
        axes.axvline(steepest, color=_FOUND, linestyle="--", linewidth=1.2, label=fastest)
    if found.diverged_at is not None:
        lost = f"lost from {found.diverged_at:.1e} on"
        axes.axvline(found.diverged_at, color=_LOST, linewidth=1.2, label=lost)
    axes.plot(asked, [bottom + 0.05 * (top - bottom)] * 2, color=_ASKED, linewidth=5, marker="|",
              markersize=14, markeredgewidth=2.5, solid_capstyle="butt", label=whose)  # fmt: skip
    axes.set_xscale("log")
    axes.set_ylim(bottom, top)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("held-out loss (nats per completion token)")
    axes.set_title(f"LR range test of {name}", loc="left", fontweight="bold")
    axes.grid(alpha=0.25, which="major")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()

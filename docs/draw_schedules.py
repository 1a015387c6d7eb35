"""Draws docs/images/schedules.svg: every schedule over one run, from the function that trials use.

    python docs/draw_schedules.py [FILE]        # needs matplotlib: pip install 'sweeper[notebook]'

A file that ends in .png gets the same picture as pixels.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

from matplotlib import rc_context
from matplotlib.figure import Figure

from sweeper.space import Scheduler, lr_multiplier
from sweeper.space.config import rules

PICTURE = Path(__file__).parent / "images" / "schedules.svg"
STEPS = 200
STYLE = {"svg.hashsalt": "sweeper", "svg.fonttype": "none", "path.simplify": False}
WARMUP, DECAY = 0.1, 0.2
"""The rule of thumb for warm-up, 0.03, would be too narrow to see."""
# Where a line's name stands: share of the steps, share of the peak.
NAMES = {
    "constant": (0.85, 1.045),
    "wsd": (0.845, 0.80),
    "cosine": (0.40, 0.80),
    "linear": (0.33, 0.60),
    "exponential": (0.17, 0.38),
}


def curve(scheduler: Scheduler) -> list[float]:
    """The share of the peak learning rate at each of STEPS + 1 points of a run."""
    return [
        lr_multiplier(
            step,
            total_steps=STEPS,
            scheduler=scheduler,
            warmup_ratio=WARMUP,
            decay_ratio=DECAY,
            final_ratio=rules.final_lr_ratio(scheduler),
        )
        for step in range(STEPS + 1)
    ]


def draw(file: Path) -> None:
    """The same picture every time: no date, and no names drawn at random."""
    metadata = {"Date": None, "Creator": None} if file.suffix == ".svg" else {}
    with rc_context(STYLE):
        picture().savefig(file, metadata=metadata, dpi=120)


def picture() -> Figure:
    """One line for each schedule, with warm-up and the decay of wsd behind them."""
    figure = Figure(figsize=(7.6, 3.9), layout="constrained")
    axes = figure.add_subplot()
    axes.axvspan(0, WARMUP, color="0.93", linewidth=0)
    axes.axvspan(1 - DECAY, 1, color="0.93", linewidth=0)
    axes.text(WARMUP / 2, 1.13, "warm-up", ha="center", va="center", color="0.35")
    axes.text(1 - DECAY / 2, 1.13, "decay of wsd", ha="center", va="center", color="0.35")
    shares = [step / STEPS for step in range(STEPS + 1)]
    for scheduler in get_args(Scheduler):
        width = 5 if scheduler == "constant" else 2  # so that it shows beneath wsd
        (line,) = axes.plot(shares, curve(scheduler), linewidth=width, gid=f"curve-{scheduler}")
        axes.text(*NAMES[scheduler], scheduler, color=line.get_color(), ha="left", va="center")
    axes.set_xlabel("share of the optimizer steps")
    axes.set_ylabel("learning rate, share of the peak")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.2)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else PICTURE)

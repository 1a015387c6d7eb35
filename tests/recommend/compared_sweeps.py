"""Sweeps of one space whose best learning rate is known, as a comparison takes them."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

from recommend_helpers import FACTS
from report_support import TEXT, sweep_of

from sweeper.recommend.report import Material
from sweeper.space import Space, load_space

__all__ = ["bowl_at", "side", "space_with"]


def bowl_at(best: float, word: str = "cosine"):
    def loss(values):
        off = math.log10(values["lr"] / best)
        return (
            1.0
            + 0.3 * off * off
            + (0.0 if values["scheduler"] == word else 0.2)
            + 0.02 * (3 - values["epochs"])
        )

    return loss


def space_with(folder: Path, name: str, *, hidden: int = 2000, text: str = TEXT) -> Space:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "space.yaml"
    file.write_text(text.replace("name: demo", f"name: {name}"))
    return load_space(file, gather=lambda _: replace(FACTS, hidden_size=hidden))


def side(tmp_path: Path, name: str, loss, *, count: int = 24, seed: int = 0, **more) -> Material:
    space = space_with(tmp_path / name, name, **more)
    trials = sweep_of(space, count, loss, noise=0.002, seed=seed)
    return Material(space=space, trials=trials, root=tmp_path / name, state="finished")

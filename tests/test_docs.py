"""The pictures of docs/ show what the package does."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import get_args
from xml.etree import ElementTree

import pytest

from sweeper.space import Scheduler

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def drawing() -> ModuleType:
    pytest.importorskip("matplotlib")
    spec = importlib.util.spec_from_file_location("draw_schedules", DOCS / "draw_schedules.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def drawn_points(picture: Path, scheduler: str) -> list[tuple[float, float]]:
    """The corners of one line, in the picture's own units."""
    group = ElementTree.parse(picture).find(f".//*[@id='curve-{scheduler}']")
    path = next(element.get("d") for element in group.iter() if element.get("d"))
    return [(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) (\S+)", path)]


def test_the_picture_of_the_schedules_shows_what_trials_use(drawing):
    constant, known = drawn_points(drawing.PICTURE, "constant"), drawing.curve("constant")
    scale = (constant[-1][1] - constant[0][1]) / (known[-1] - known[0])
    width = constant[-1][0] - constant[0][0]
    for scheduler in get_args(Scheduler):
        points = drawn_points(drawing.PICTURE, scheduler)
        shares = [(x - constant[0][0]) / width for x, _ in points]
        values = [known[0] + (y - constant[0][1]) / scale for _, y in points]
        assert shares == pytest.approx([step / drawing.STEPS for step in range(drawing.STEPS + 1)], abs=1e-3)
        assert values == pytest.approx(drawing.curve(scheduler), abs=1e-3)


def test_the_picture_names_every_schedule_and_is_the_same_each_time_it_is_drawn(drawing, tmp_path):
    for name in ("one.svg", "two.svg"):
        drawing.draw(tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    texts = {element.text for element in ElementTree.parse(drawing.PICTURE).iter() if element.text}
    assert texts >= set(get_args(Scheduler))


def test_the_page_about_schedules_describes_each():
    page = (DOCS / "schedules.md").read_text(encoding="utf-8")
    assert all(f"`{scheduler}`" in page for scheduler in get_args(Scheduler))

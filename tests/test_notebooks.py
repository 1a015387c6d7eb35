"""Every notebook runs from its first cell to its last, and is stored without outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
FEW_TRIALS = "2"
"""The default configuration and one to compare it with."""
PICTURES = {"01_first_sweep": 3, "02_schedulers_compared": 2, "03_reading_a_sweep": 1}
SHORT_TRIALS = "training.epochs=[0.25, 0.5]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the first notebook leaves its sweep, and the third one looks for it."""
    return tmp_path_factory.mktemp("notebooks")


def test_there_are_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == list(PICTURES)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs(path: Path) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert not [cell.id for cell in cells if cell.outputs or cell.execution_count]


@pytest.mark.usefixtures("running_ray")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_to_its_end(path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("SWEEPER_NOTEBOOK_TRIALS", FEW_TRIALS)
    monkeypatch.setenv("SWEEPER_NOTEBOOK_DIR", str(folder))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("overrides=[", f"overrides=[{SHORT_TRIALS!r}, ")
    client = NotebookClient(notebook, timeout=500, resources={"metadata": {"path": str(path.parent)}})
    client.execute()
    pictures = [out for cell in notebook.cells for out in cell.get("outputs", []) if "data" in out]
    assert sum("image/png" in picture["data"] for picture in pictures) >= PICTURES[path.stem]
    tables = [one["data"]["text/html"] for one in pictures if "text/html" in one["data"]]
    if path.stem == "01_first_sweep":
        assert any("best so far: trial" in one for one in tables), "the live table is missing"

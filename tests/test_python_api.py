"""The functions that Python users call: the examples of docs/python.md run, as one script without a main
guard."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from webhook import Hook

import sweeper
from sweeper.errors import SpaceFileError
from sweeper.space import Facts, load_space

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
FACTS = Facts(train_rows=2000, eval_rows=100, accelerator="cpu", devices=1, cpus=2)
CHECKS = """
assert list(trials["trial"]) and len(trials) == 3 and trials["rank"].iloc[0] == 1
assert set(curves["trial"]) == {0, 1, 2} and curves["eval/loss"].notna().all()
assert best.number == trials["trial"].iloc[0] and config["training"]["scheduler"] == best.values["scheduler"]
assert abs(trained.metrics["eval/loss"] - best.final_value) < 0.05 and report.path.is_file()
assert "<table" in result._repr_html_()
"""


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.usefixtures("running_ray")
def test_the_examples_run_as_a_script_without_a_main_guard_and_the_end_is_posted(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    hook, script = Hook(), tmp_path / "script.py"
    told = f"sweeper.run(space, notify='http://me:a-secret@{hook.address}/', "
    text = "\n".join([*blocks(), CHECKS]).replace("sweeper.run(space, ", told)
    script.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script.name], cwd=tmp_path, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "sweeper train sweeps/from-python/best-config.yaml" in done.stdout
    (notice,) = hook.taken
    assert (notice["event"], notice["trials"], notice["best"]["trial"]) == ("finished", 2, 0)
    logs = [file.read_bytes() for file in (tmp_path / "sweeps" / "from-python" / "logs").rglob("*.log")]
    assert not any(b"a-secret" in one for one in [*logs, done.stdout.encode(), done.stderr.encode()])


def test_the_page_names_all_that_is_stable():
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"sweeper.{name}" in page for name in sweeper.__all__ if name != "__version__")


def space_of(**changes):
    tree = {
        "name": "a",
        "model_path": "models/tiny",
        "data_path": Path("rows.jsonl"),
        "training": {
            "lr": {"log_uniform": (1e-5, 1e-3)},
            "epochs": [np.int64(1), 2],
            "adam_beta1": np.float64(0.8),
        },
    }
    return tree | changes


def test_a_dict_is_read_as_the_same_file(tmp_path):
    file = tmp_path / "space.yaml"
    file.write_text(
        "name: a\nmodel_path: models/tiny\ndata_path: rows.jsonl\n"
        "training: {lr: {log_uniform: [1e-5, 1e-3]}, epochs: [1, 2], adam_beta1: 0.8}\n"
    )
    given, read = (load_space(one, gather=lambda _: FACTS) for one in (space_of(), file))
    assert given.dimensions == read.dimensions and given.closed == read.closed
    assert given.settings == read.settings


def test_what_is_wrong_with_a_dict_is_named_by_its_keys_all_at_once():
    wrong = space_of(training={"lr": "fast", "epochs": -1}, serch={"trials": 2})
    with pytest.raises(SpaceFileError) as caught:
        load_space(wrong, gather=lambda _: FACTS)
    told = {one.where for one in caught.value.problems}
    assert {"space['training']['lr']", "space['training']['epochs']", "space['serch']"} <= told
    with pytest.raises(SpaceFileError, match=r"space\['training'\]\['lr'\]: object"):
        load_space(space_of(training={"lr": object()}), gather=lambda _: FACTS)


def test_a_notebook_gets_one_output_that_is_drawn_anew(monkeypatch):
    import IPython.display
    from rich.text import Text

    from sweeper.screen.notebook import NotebookView

    drawn = []

    class Handle:
        def update(self, html):
            drawn.append(html.data)

    def display(html, display_id):
        drawn.append(html.data)
        return Handle()

    monkeypatch.setattr(IPython.display, "display", display)
    texts = iter(["starting", "trial 0 <done>"])
    view = NotebookView(lambda: Text(next(texts)))
    view.start()
    view.stop()
    assert "starting" in drawn[0] and "trial 0 &lt;done&gt;" in drawn[-1] and len(drawn) == 2

"""Sweeps without an answer or of other versions, and files that cannot be written: each with what to do."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sweeper.cli.app import app
from sweeper.errors import SweepFolderError, UserError
from sweeper.search import TrialState
from sweeper.space import SweepFolder

sys.path.insert(0, str(Path(__file__).parents[1] / "recommend"))
from report_support import record, space_of, sweep_of, values_of, written

DIED = "its processes died, after 2 retries (see trials/0/log.txt)"


def all_failed(space):
    return [
        record(number, values, 2.0, TrialState.FAIL, evaluations=0, reason=DIED)
        for number, values in enumerate(values_of(space, 3))
    ]


def begun(space, evaluations: int = 0, count: int = 1):
    return [
        record(number, values, 2.0, TrialState.RUNNING, evaluations=evaluations)
        for number, values in enumerate(values_of(space, 3)[:count])
    ]


STATES = {
    "all failed": (all_failed, "finished"),
    "broken": (all_failed, "failed"),
    "first trial at work": (begun, "running"),
    "interrupted": (lambda space: begun(space, 2, 2), "interrupted"),
    "nothing begun": (lambda space: [], "interrupted"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    found = {}
    for name, (trials, state) in STATES.items():
        root = tmp_path_factory.mktemp(name.replace(" ", "-"))
        space = space_of(root)
        found[name] = root / "sweep"
        written(SweepFolder(found[name]), space, trials(space), state)
    return found


@pytest.fixture(autouse=True)
def small_script(monkeypatch) -> None:
    monkeypatch.setattr("sweeper.commands.report.vega_script", lambda: "/* vega */")


def said(*words: object) -> str:
    done = CliRunner().invoke(app, [*map(str, words)])
    assert done.exception is None, done.exception
    return done.output


def refused(*words: object) -> str:
    done = CliRunner().invoke(app, [*map(str, words)])
    assert isinstance(done.exception, UserError), done
    return str(done.exception)


@pytest.mark.parametrize(
    ("name", "next_"),
    [
        ("all failed", f"(3 of 3: {DIED}); mend that, then start a sweep of another name"),
        ("broken", "logs/driver.log; once that is mended it goes on where it was: sweeper resume"),
        ("first trial at work", "it goes on where it was: sweeper resume"),
        ("interrupted", "it goes on where it was: sweeper resume"),
    ],
)
def test_a_report_without_an_answer_says_why_and_what_to_do(folders, name, next_):
    assert next_ in said("report", folders[name]) and (folders[name] / "report.html").is_file()
    tree = json.loads(said("report", folders[name], "--json"))
    assert tree["best"] is None and tree["complete"] == 0


def test_nothing_begun_is_no_report_but_a_way_on(folders):
    told = refused("report", folders["nothing begun"])
    assert "no trial was begun yet" in told and f"sweeper resume {folders['nothing begun']}" in told


def test_best_says_how_far_the_sweep_is_where_it_has_no_answer(folders):
    told = refused("best", folders["interrupted"])
    assert "the sweep is interrupted, and 0 of 2 trials were trained to their ends" in told
    assert f"`sweeper resume {folders['interrupted']}`" in told
    assert DIED in refused("best", folders["all failed"])


def test_status_says_why_trials_failed(folders):
    assert f"failed, trial 0, 1, 2: {DIED}" in said("status", folders["all failed"]).replace("\n", " ")


def test_a_sweep_of_a_newer_version_is_refused_by_every_command(folders, tmp_path):
    space = space_of(tmp_path)
    folder = SweepFolder(tmp_path / "newer")
    written(folder, space, sweep_of(space, 3))
    tree = json.loads(folder.format_file.read_text())
    folder.format_file.write_text(json.dumps({**tree, "format_version": 99}))
    for words in (["report"], ["status"], ["best"], ["compare", folders["interrupted"]]):
        assert "format_version: 99" in refused(*words, folder.root)


def test_what_cannot_be_written_is_an_error_of_the_user(folders, tmp_path):
    space = space_of(tmp_path)
    folder = SweepFolder(tmp_path / "sweep")
    written(folder, space, sweep_of(space, 3))
    folder.report.mkdir()
    assert "make the folder yours" in refused("report", folder.root)
    (tmp_path / "file").write_text("")
    inside = tmp_path / "file" / "x.json"
    assert "by --out" in refused("history", "export", "--out", inside, "--file", tmp_path / "none.sqlite3")
    with pytest.raises(SweepFolderError, match="write it again"):
        CliRunner().invoke(app, ["best", str(folder.root)], catch_exceptions=False)

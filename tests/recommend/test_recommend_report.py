"""The report: what stands on the page, what it is drawn from, and sweeps that have no answer."""

from __future__ import annotations

import json
import re
import sys
import tarfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_support import (
    TEXT,
    bowl,
    material_of,
    mixed_sweep,
    record,
    space_of,
    sweep_of,
    values_of,
    written,
)
from ruamel.yaml import YAML
from typer.testing import CliRunner

from sweeper.cli import app
from sweeper.commands.report import ReportKeeper, write_report
from sweeper.errors import MissingDependencyError, SweeperError, SweepFolderError
from sweeper.recommend.gains import gain_over
from sweeper.recommend.report import Material, drawings, report_html
from sweeper.recommend.report.answer import answer_html
from sweeper.recommend.report.datasets import datasets
from sweeper.recommend.report.timeline import idle_share, stretches
from sweeper.recommend.report.trials import fragment
from sweeper.search import TrialState
from sweeper.space import Space, SweepFolder

OLD = Path(__file__).parents[1] / "commands" / "old_folders" / "dd1f124" / "interrupted.tar.xz"
alt = pytest.importorskip("altair")


@pytest.fixture(scope="module")
def space(tmp_path_factory) -> Space:
    return space_of(tmp_path_factory.mktemp("space"))


@pytest.fixture(scope="module")
def material(space) -> Material:
    return material_of(space, mixed_sweep(space), price_per_hour=2.0)


@pytest.fixture(scope="module")
def page(material) -> str:
    return report_html(material, "/* vega */")


class Text(HTMLParser):
    """The text of a page, and its tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.said: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def text(page: str) -> str:
    return " ".join(" ".join(Text(page.partition('<script type="application/json"')[0]).said).split())


def test_the_answer_comes_first_with_its_gains_how_sure_it_is_its_cost_and_the_command(
    page, material
) -> None:
    answer = text(page[page.index("<body>") : page.index('id="curves"')])
    best, default = material.best, material.default
    assert best is not None and default is not None
    assert f"Trial {best.number} reached eval/loss {best.value:.4g}" in answer
    assert "better than the default" in answer and "better than the median trial" in answer
    assert answer.count("interval +") == 2 and "none was repeated" in answer
    assert "by the surrogate; no configuration was repeated" in answer
    assert "60 minutes in all, and cost 2.00 at 2 an hour" in answer
    assert "sweeper train sweeps/demo/best-config.yaml --output-dir my-model" in answer


def test_only_what_differs_from_the_default_stands_out(page, material) -> None:
    usual = material.space.default_values()
    rows = re.findall(r"<code>training\.(\w+)</code></td><td><(strong|span)", page)
    assert {name: kind == "strong" for name, kind in rows} == {
        name: value != usual[name] for name, value in material.best.values.items()
    }


def test_without_a_price_there_is_no_money(space) -> None:
    assert "in all." in text(answer_html(material_of(space, sweep_of(space, 6))))


def test_replicates_say_how_sure_it_is_where_there_are_some(tmp_path) -> None:
    space = space_of(tmp_path, TEXT.replace("history: false", "history: false, confirm: {top: 2, seeds: 2}"))
    trials = sweep_of(space, 8)
    first, second = sorted(trials, key=lambda one: one.value or 0.0)[:2]
    runs = [
        replace(record(8 + index, dict(one.values), value), replicate_of=one.number, seed=seed)
        for index, (one, seed, value) in enumerate(
            [(first, 1, 1.01), (first, 2, 1.02), (second, 1, 1.21), (second, 2, 1.23)]
        )
    ]
    material = material_of(space, [*trials, *runs])
    assert "Chosen by fresh seeds" in text(answer_html(material))
    assert material.over_default is not None and material.over_default.by != "fresh seeds"
    of_the_second = gain_over(space, material.trials, second, material.surface)
    assert of_the_second is not None and of_the_second.by == "fresh seeds"
    assert of_the_second.interval is not None and of_the_second.interval.low > 0


def test_every_chart_is_a_valid_specification_and_names_data_that_is_there(material) -> None:
    told = drawings(material)
    titles = [one.title for one in told]
    assert titles == [
        "Held-out curves",
        "lr against eval/loss",
        "scheduler compared",
        "epochs compared",
        "accum compared",
        "Parallel coordinates",
        "What matters",
        *[title for title in titles if title.endswith("against eval/loss")][1:],
        *[title for title in titles if title.endswith("together")],
        "eval/loss and gpu_seconds",
        "Best so far, by trials begun",
        "Best so far, by training tokens",
        "Best so far, by hours",
        "Who trained what when",
        "Tokens trained and saved",
        "Memory of a rank",
        "Lengths of the rows",
    ]
    common = datasets(material)
    for one in told:
        alt.Chart.from_dict(one.chart, validate=True)
        named = set(re.findall(r'"data": {"name": "(\w+)"', json.dumps(one.chart)))
        assert named and named <= common.keys() | one.data.keys(), one.title
        assert one.said and "config" not in one.chart


def test_nothing_is_left_out_of_the_data(material, page) -> None:
    told = json.loads(re.search(r'id="material">(.*?)</script>', page, re.S)[1])["data"]
    assert len(told["curves"]["tokens"]) == sum(len(one.evaluations) for one in material.trials)
    assert len(told["trials"]["trial"]) == len(material.trials) == page.count('aria-label="Copy the values')
    paused = told["curves"]["why"][told["curves"]["state"].index("paused")]
    assert paused == "its chance to beat the best is 4.9%, below 25.0%"


def test_what_users_wrote_is_text_and_nothing_else(page) -> None:
    assert "<img" not in page and "alert(1)</script>" not in page
    assert "diverged at step 3 &lt;/script&gt;" in page
    assert Text(page).tags.count("script") == 3 and "b" not in {
        tag for tag in Text(page).tags if tag == "img"
    }


def test_secrets_are_struck_out(space, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnop1234567890")
    trials = sweep_of(space, 6)
    why = "401 for token hf_abcdefghijklmnop1234567890"
    trials[2] = record(2, dict(trials[2].values), 2.0, TrialState.FAIL, evaluations=1, reason=why)
    assert "hf_abcdefghijklmnop" not in report_html(material_of(space, trials), "")


def test_the_page_allows_no_request_and_names_no_address(page) -> None:
    assert "default-src 'none'" in page
    assert not re.search(r'(src|href)="(?!data:,|#)', page)


def test_failures_stand_once_for_each_reason(page) -> None:
    assert re.search(r"diverged at step 3 .*?</span></td><td>2</td><td>3, 7</td>", page, re.S)


def test_few_trials_are_told_with_their_importance(material, space) -> None:
    (drawn,) = [one for one in drawings(material) if one.title == "What matters"]
    assert "of 20 complete trials it is rough" in drawn.said
    few = material_of(space, sweep_of(space, 5))
    assert not [one for one in drawings(few) if one.title == "What matters"]
    assert "what matters most is not told: it takes 8 complete trials" in text(report_html(few, "")).lower()


def test_a_trials_values_can_be_pasted_into_a_space_file(space) -> None:
    trial = record(4, {"lr": 1e-4, "scheduler": "cosine", "epochs": 2, "gradient_accumulation_steps": 1}, 1.0)
    tree = YAML(typ="safe").load(fragment(space, trial))
    assert tree == {"training": dict(trial.values)}


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("running", "sweeper status sweeps/demo"),
        ("interrupted", "sweeper resume sweeps/demo"),
        ("finished", "no trial was trained to its end"),
    ],
)
def test_a_sweep_without_an_answer_has_a_report_that_says_what_to_do(space, state, said) -> None:
    values = values_of(space, 3)
    trials = [
        record(0, values[0], 2.0, TrialState.FAIL, evaluations=0, reason="out of memory"),
        record(1, values[1], 2.0, TrialState.RUNNING, evaluations=2),
        record(2, values[2], 2.0, TrialState.WAITING, evaluations=0),
    ]
    page = text(report_html(material_of(space, trials, state), ""))
    assert "None of 3 trials was trained to its end, so there is no best configuration" in page
    assert said in page[page.index("Next:") :] and "out of memory" in page


def test_workers_are_places_and_pauses_are_no_work(space) -> None:
    values = values_of(space, 3)
    one, two = record(0, values[0], 1.0, start_s=0.0), record(1, values[1], 1.0, start_s=0.0)
    moved = [replace(one.evaluations[-1], time_s=(one.evaluations[-1].time_s or 0) + 500)]
    one = replace(one, evaluations=(*one.evaluations[:-1], *moved))
    found = stretches([one, two])
    assert {stretch.worker for stretch in found} == {1, 2}
    assert [stretch.trial for stretch in found].count(0) == 2
    assert 0.5 < idle_share(found) < 1.0
    assert stretches([replace(two, evaluations=(), ended_s=None)]) == []


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> tuple[SweepFolder, Space]:
    """A sweep in a real ledger and folder."""
    root = tmp_path_factory.mktemp("swept")
    space = space_of(root)
    folder = SweepFolder(root / "sweep")
    written(folder, space, mixed_sweep(space, 10))
    return folder, space


@pytest.fixture(autouse=True)
def small_script(monkeypatch) -> None:
    monkeypatch.setattr("sweeper.commands.report.vega_script", lambda: "/* vega */")


def test_the_command_writes_the_report_and_says_what_to_do_next(swept) -> None:
    folder, _ = swept
    said = CliRunner().invoke(app, ["report", str(folder.root), "--json"])
    told = json.loads(said.output)
    assert folder.report.is_file() and told["report"] == str(folder.report)
    assert (told["trials"], told["complete"], told["state"]) == (10, 6, "finished")
    assert told["over_default"]["measured"] > 0 and told["over_default"]["low"] is None  # six are too few
    assert told["advice"] == []
    assert told["next"]["command"] == f"sweeper train {folder.best_config} --output-dir my-model"
    plain = CliRunner().invoke(app, ["report", str(folder.root)])
    assert plain.output.splitlines()[-1].startswith("next: ")


def test_open_shows_the_file_in_the_browser(swept, monkeypatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert CliRunner().invoke(app, ["report", str(swept[0].root), "--open"]).exit_code == 0
    assert opened == [swept[0].report.absolute().as_uri()]


def test_a_folder_that_is_no_sweep_one_without_trials_and_one_of_a_newer_version_are_told(tmp_path) -> None:
    with pytest.raises(SweepFolderError, match="no such folder"):
        write_report(tmp_path / "none")
    space, folder = space_of(tmp_path), SweepFolder(tmp_path / "sweep")
    written(folder, space, [])
    with pytest.raises(SweeperError, match="no trial was begun yet"):
        write_report(folder.root)
    folder.format_file.write_text(json.dumps({"format_version": 999}))
    with pytest.raises(SweepFolderError, match="reads folders up to"):
        write_report(folder.root)


def test_a_folder_of_an_older_version_has_a_report(tmp_path) -> None:
    with tarfile.open(OLD) as archive:
        archive.extractall(tmp_path, filter="data")
    (space_file,) = tmp_path.glob("**/space.yaml")
    written = write_report(space_file.parent)
    assert written.material.state == "interrupted" and written.path.is_file()
    assert "rows trained on" in written.material.data_lines[0]


def test_without_the_extra_the_command_says_how_to_get_it(swept, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'sweeper\[report\]'"):
        write_report(swept[0].root)


def test_a_sweep_goes_on_without_the_extra_and_says_so_once(swept, monkeypatch) -> None:
    folder, space = swept
    monkeypatch.setenv("SWEEPER_REPORT", "")
    monkeypatch.setitem(sys.modules, "altair", None)
    said: list[str] = []
    keeper = ReportKeeper(space, folder, write_ledger(swept), said.append)
    keeper.conclude("finished")
    keeper.conclude("finished")
    assert len(said) == 1 and "pip install 'sweeper[report]'" in said[0]


def test_a_report_that_cannot_be_written_fails_no_sweep(swept, monkeypatch) -> None:
    folder, space = swept
    monkeypatch.setenv("SWEEPER_REPORT", "")
    monkeypatch.setattr(
        "sweeper.commands.report.write_whole", lambda *_: (_ for _ in ()).throw(OSError("full"))
    )
    said: list[str] = []
    ReportKeeper(space, folder, write_ledger(swept), said.append).conclude("finished")
    assert said == ["report.html could not be written: full"]


def test_a_running_sweeps_report_is_new_after_a_trial_has_ended(swept, monkeypatch) -> None:
    folder, space = swept
    monkeypatch.setenv("SWEEPER_REPORT", "")
    folder.report.unlink(missing_ok=True)
    ledger = write_ledger(swept)
    keeper = ReportKeeper(space, folder, ledger, lambda said: pytest.fail(said))
    keeper.trial_finished(ledger.trials()[0])
    keeper.conclude("finished")
    assert "finished, 10 of" in folder.report.read_text()
    assert keeper._thread is not None and not keeper._thread.is_alive()


def write_ledger(swept):
    from sweeper.sweep.stored import open_sweep

    return open_sweep(swept[0])[1]


def test_made_up_losses_are_what_the_fixtures_say(space) -> None:
    assert bowl({"lr": 1e-3, "scheduler": "cosine", "epochs": 3}) == 1.0


def test_a_sweep_with_a_proxy_compares_values_by_its_trials_there(tmp_path):
    space = space_of(tmp_path, TEXT.replace("trials: 24,", "trials: 16, proxy: {rows: 0.2, top: 2},"))
    searched = [replace(one, is_proxy=True) for one in sweep_of(space, 16, noise=0.01)]
    best = sorted(searched, key=lambda one: one.final_value)[:2]
    real = [
        record(16 + place, dict(one.values), one.final_value / 2, real_of=one.number)
        for place, one in enumerate(best)
    ]
    material = material_of(space, [*searched, *real])
    assert material.best.number == 16 and [one.number for one in material.judged] == list(range(16))
    assert set(material.importances) == {one.name for one in space.dimensions}
    said = {one.title: one.said for one in drawings(material)}
    assert said["lr against eval/loss"].startswith("16 complete trials on the proxy by lr; the band")
    assert "the ring" not in said["lr against eval/loss"]
    page = report_html(material, "")
    assert "The proxy&#x27;s order: 1 of 1 pair" in page

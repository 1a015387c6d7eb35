"""A space file for a model and data: what `init` writes is valid as it stands, and says why it says so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sweeper.cli.app import app
from sweeper.commands import import_file, start_file, write_import
from sweeper.data import first_look, gather_facts
from sweeper.errors import UserError
from sweeper.history import Features, HistoryFile, PastTrial, SweepFacts
from sweeper.space import ModelSizes, Settings, load_space, make_plan

QUICK = "builtin:quickstart"


def rows_in(file: Path, count: int, **fields: str) -> Path:
    words = fields or {"instruction": "Say {n}.", "output": "It is {n}."}
    lines = [
        json.dumps({key: text.replace("{n}", str(n)) for key, text in words.items()}) for n in range(count)
    ]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def init(*words: object):
    return CliRunner().invoke(app, ["init", *map(str, words)])


def test_the_file_passes_validate_unchanged_and_names_what_was_found_and_assumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = init("--model", QUICK, "--data", QUICK)
    assert done.exit_code == 0, done.output
    assert done.stdout == "written: space.yaml\nnext: sweeper validate space.yaml\n"
    text = (tmp_path / "space.yaml").read_text()
    for said in ("prompt_completion", "2,128", "1,033,344 parameters", "arXiv:1910.02054", "assumed:"):
        assert said in text
    assert CliRunner().invoke(app, ["validate", "space.yaml"]).exit_code == 0
    again = init("--model", QUICK, "--data", QUICK)
    assert isinstance(again.exception, UserError) and "is there already" in str(again.exception)


@pytest.mark.parametrize("count", [3, 17, 300])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_file_for_few_rows_and_either_method_is_valid(tmp_path, count, method):
    data = rows_in(tmp_path / "my rows: 1.jsonl", count)
    begun = start_file(QUICK, str(data), method=method)
    file = tmp_path / "space.yaml"
    write_import(begun, file)
    space = load_space(file, gather=gather_facts)
    make_plan(space)
    assert {one.name for one in space.dimensions} >= {"lr", "scheduler", "epochs"}
    assert any(one.name == "lora.rank" for one in space.dimensions) == (method == "lora")
    assert "alpaca" in begun.text and space.settings.data_path == str(data)
    assert load_space(file, gather=gather_facts).facts.eval_rows >= 1


def test_a_model_and_data_that_are_only_named_give_a_valid_file_that_says_what_is_not_known(tmp_path):
    data = rows_in(tmp_path / "rows.jsonl", 40)
    begun = start_file("owner/model", str(data))
    write_import(begun, tmp_path / "space.yaml")
    load_space(tmp_path / "space.yaml", gather=gather_facts)
    assert any("size is not known" in one for one in begun.assumed)
    assert "lora:" in begun.text and "lengths" not in " ".join(begun.found)


def test_a_large_file_is_looked_at_by_a_sample_and_its_rows_are_estimated(tmp_path, monkeypatch):
    monkeypatch.setattr("sweeper.data.survey._LARGE_BYTES", 100_000)
    monkeypatch.setattr("sweeper.data.survey._ROWS", 400)
    data = rows_in(tmp_path / "many.jsonl", 20_000)
    look = first_look(Settings(name="a", model_path=QUICK, data_path=str(data)))
    facts = look.facts
    assert look.looked_at is not None and look.looked_at <= 400 and look.format == "alpaca"
    assert facts.train_rows + facts.eval_rows == pytest.approx(20_000, rel=0.05)
    assert facts.train_sample is not None and not facts.train_sample.exact
    begun = start_file(QUICK, str(data))
    assert any(one.startswith("the number of rows, from a sample") for one in begun.assumed)
    assert "tmp" not in " ".join(look.facts.data_notes) or str(data) in " ".join(look.facts.data_notes)


def test_a_fault_in_a_large_file_is_told_by_its_line(tmp_path, monkeypatch):
    monkeypatch.setattr("sweeper.data.survey._LARGE_BYTES", 1000)
    data = rows_in(tmp_path / "many.jsonl", 300)
    data.write_text(data.read_text().replace("\n", "\n{broken\n", 1))
    with pytest.raises(UserError, match=r"many\.jsonl:2"):
        start_file(QUICK, str(data))


def test_parquet_is_sampled_by_groups_of_rows(tmp_path, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.setattr("sweeper.data.survey._LARGE_BYTES", 1000)
    table = pa.table(
        {"prompt": [f"ask {n}" for n in range(5000)], "completion": [f"say {n}" for n in range(5000)]}
    )
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=100)
    look = first_look(Settings(name="a", model_path=QUICK, data_path=str(tmp_path / "rows.parquet")))
    assert look.looked_at == 800 and look.facts.train_rows + look.facts.eval_rows == pytest.approx(
        5000, abs=10
    )


def test_all_problems_of_model_and_data_come_at_once(tmp_path):
    with pytest.raises(UserError) as caught:
        start_file(str(tmp_path / "no/model/here"), str(tmp_path / "none.jsonl"))
    assert len(caught.value.problems) == 2


def test_the_range_of_learning_rates_is_that_of_similar_sweeps(tmp_path, monkeypatch):
    history = HistoryFile(tmp_path / "history.sqlite3")
    features = Features(
        model="tiny", model_type="llama", parameters=1_033_344, hidden_size=128, lora=False, train_rows=2000
    )
    facts = SweepFacts(
        id="1" * 32, name="earlier", metric="eval/loss", mode="min", began_s=1.0, features=features
    )
    trials = [
        PastTrial(
            number=n, state="COMPLETE", config={"training": {"lr": lr}}, evaluations=((1000.0, abs(n - 3.0)),)
        )
        for n, lr in enumerate((1e-5, 1e-4, 5e-4, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2))
    ]
    history.write(facts, trials)
    monkeypatch.setenv("SWEEPER_HISTORY", str(history.path))
    begun = start_file(QUICK, QUICK)
    assert "From the history" in begun.text and any("earlier" in one for one in begun.found)
    write_import(begun, tmp_path / "space.yaml")
    (lr,) = [
        one for one in load_space(tmp_path / "space.yaml", gather=gather_facts).dimensions if one.name == "lr"
    ]
    assert lr.open_value.low == pytest.approx(min(5e-4, 2e-3) / 3, rel=0.7)
    assert lr.open_value.high == pytest.approx(2e-3 * 3, rel=0.1)


def test_lora_is_suggested_where_the_states_do_not_fit():
    from sweeper.recommend.imports import Beginning

    look = first_look(Settings(name="a", model_path=QUICK, data_path=QUICK))
    sizes = vars(look.facts.sizes) | {"parameters": 8_000_000_000}
    from dataclasses import replace

    large = replace(look, facts=replace(look.facts, sizes=ModelSizes(**sizes)))
    for gib, is_lora in ((80.0, True), (200.0, False)):
        assert Beginning(name="a", model="m", data="d", look=large, memory_gib=gib).is_lora is is_lora


def test_without_a_terminal_it_asks_nothing_and_exits_with_2():
    done = init("--model", QUICK)
    assert done.exit_code == 2 and "--data" in done.output
    beside = init("--model", QUICK, "--from", "a.yaml")
    assert beside.exit_code == 2 and "--model cannot stand beside --from" in " ".join(beside.output.split())


def test_init_imports_no_torch(tmp_path):
    script = (
        "import sys; from sweeper.commands import start_file; start_file(sys.argv[1], sys.argv[1])\n"
        "heavy = {'torch', 'deepspeed', 'ray', 'mlflow', 'transformers', 'optuna'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", script, QUICK], check=True, cwd=tmp_path)


def test_the_format_that_is_named_wins_over_the_suffix(tmp_path):
    config = "base_model: models/tiny\nmicro_batch_size: 4\nlearning_rate: 2e-5\n"
    for name in ("config.txt", "config.json", "config"):
        file = tmp_path / name
        file.write_text(config)
        found = import_file([file], fmt="axolotl")
        assert found.values["training.lr"] == 2e-5
    file = tmp_path / "ds.yaml"
    file.write_text('{"train_batch_size": 16,\n\t"zero_optimization": {"stage": 2}}')
    assert import_file([file], fmt="deepspeed").values["deepspeed.zero_stage"] == 2
    with pytest.raises(UserError, match="cannot be read as json, as DeepSpeed"):
        import_file([tmp_path / "config.txt"], fmt="deepspeed")

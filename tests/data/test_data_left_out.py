"""Broken, overlong and silent rows: left out as far as the configuration allows, counted and told."""

from __future__ import annotations

import json

import pytest

from sweeper.data import gather_facts, prepare
from sweeper.data.fingerprint import prepared_fingerprint
from sweeper.errors import DataError, ModelError

ROWS = [{"question": f"How much is {n} + 1?", "answer": f"It is {n + 1}."} for n in range(40)]
BROKEN = ['{"question": ', '{"question": "q"}', '{"question": "q", "answer": ["a"]}', "[1]"]


@pytest.fixture
def broken_file(tmp_path):
    """40 good rows, and broken ones on lines 1, 12, 23 and 34."""
    lines = [json.dumps(row) for row in ROWS]
    for index, line in enumerate(BROKEN):
        lines.insert(index * 11, line)
    file = tmp_path / "train.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_as_many_broken_rows_as_allowed_are_left_out_counted_and_named(
    chat_model, make_config, broken_file, tmp_path
):
    config = make_config(chat_model, broken_file, max_bad_rows=4)
    data = prepare(config, tmp_path / "cache")
    assert (data.train.rows, data.eval.rows) == (38, 2)
    assert (data.counts["rows_read"], data.counts["rows_bad"]) == (44, 4)
    named = data.bad_rows_file.read_text()
    for line in (1, 12, 23, 34):
        assert f"{broken_file}:{line}: " in named
    assert data.summary() == "38 rows trained on, 2 held out; 4 bad rows left out"
    facts = gather_facts(config)
    assert (facts.train_rows, facts.rows_bad) == (38, 4)


@pytest.mark.parametrize("allowed", [0, 3])
def test_one_broken_row_more_stops_and_all_are_named(allowed, chat_model, make_config, broken_file, tmp_path):
    config = make_config(chat_model, broken_file, max_bad_rows=allowed)
    for attempt in (gather_facts, lambda config: prepare(config, tmp_path / "cache")):
        with pytest.raises(DataError) as caught:
            attempt(config)
        places = [problem.where for problem in caught.value.problems]
        assert {f"{broken_file}:{line}" for line in (1, 12, 23, 34)} <= {*places}
        assert (places[-1] == "max_bad_rows") is (allowed > 0)


def test_broken_rows_of_all_files_are_counted_together(chat_model, make_config, broken_file, tmp_path):
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text('{"question": "new", "answer": "yes"}\nbroken\n')
    config = make_config(chat_model, broken_file, eval_data=str(held_out), max_bad_rows=5)
    assert prepare(config, tmp_path / "cache").counts["rows_bad"] == 5
    with pytest.raises(DataError, match="5 rows are broken"):
        gather_facts(config.model_copy(update={"max_bad_rows": 4}))


def test_rows_that_the_template_refuses_are_bad_rows(model_with_template, make_config, write_jsonl, tmp_path):
    refusing = "{% for m in messages %}{% if '7' in m['content'] %}{{ raise_exception('no 7') }}{% endif %}"
    model = model_with_template(refusing + "{{ m['content'] }}{% endfor %}")
    file = write_jsonl([*ROWS, {"question": "x"}])
    with pytest.raises(DataError) as caught:
        prepare(make_config(model, file, max_bad_rows=3), tmp_path / "cache")
    assert "no 7" in str(caught.value)
    data = prepare(make_config(model, file, max_bad_rows=99), tmp_path / "cache")
    assert data.counts["rows_bad"] == 1 + sum("7" in str(row) for row in ROWS)
    assert "no 7" in data.bad_rows_file.read_text()


def test_a_template_that_refuses_every_row_stops_however_many_may_be_bad(
    model_with_template, make_config, write_jsonl, tmp_path
):
    model = model_with_template("{% for m in messages %}{{ raise_exception('never') }}{% endfor %}")
    with pytest.raises(DataError, match="refuses every train row"):
        prepare(make_config(model, write_jsonl(ROWS), max_bad_rows=99), tmp_path / "cache")


def test_what_is_no_row_always_stops(chat_model, make_config, write_jsonl, tmp_path):
    file = write_jsonl(ROWS)
    (tmp_path / "array.json").write_text('[{"question": "q"')
    (tmp_path / "odd.jsonl").write_text('{"x": 1}\n')
    for other, rule in (
        ("none.jsonl", "no such file"),
        ("array.json", "array is broken"),
        ("odd.jsonl", "fit none"),
    ):
        with pytest.raises(DataError, match=rule):
            gather_facts(make_config(chat_model, (str(file), str(tmp_path / other)), max_bad_rows=99))


def test_overlong_rows_are_cut_or_dropped_and_counted(chat_model, make_config, write_jsonl, tmp_path):
    long_answer = {"question": "?", "answer": "duck " * 200}
    long_prompt = {"question": "duck " * 200, "answer": "yes"}
    file = write_jsonl([*ROWS, long_answer, long_prompt])
    held_out = write_jsonl([{"question": "new", "answer": "yes"}, long_answer | {"question": "!"}], "b.jsonl")
    config = make_config(chat_model, file, eval_data=str(held_out), max_seq_len=64)
    cut = prepare(config, tmp_path / "cache")
    dropping = config.model_copy(update={"training": config.training.model_copy(update={"overlong": "drop"})})
    dropped = prepare(dropping, tmp_path / "cache")
    assert prepared_fingerprint(config) != prepared_fingerprint(dropping)
    names = [f"{split}_{name}" for split in ("train", "eval") for name in ("rows", "truncated", "dropped")]
    assert [cut.counts[name] for name in names] == [41, 1, 1, 2, 1, 0]
    assert [dropped.counts[name] for name in names] == [40, 0, 0, 1, 0, 0]
    assert (dropped.counts["train_overlong_dropped"], dropped.counts["eval_overlong_dropped"]) == (2, 1)
    assert cut.summary() == (
        "41 rows trained on, 2 held out; 2 cut to 64 tokens; 1 without an answer within 64 tokens left out"
    )
    assert dropped.summary() == "40 rows trained on, 1 held out; 3 longer than 64 tokens left out"


def test_where_every_row_is_overlong_the_remedy_is_told(chat_model, make_config, write_jsonl, tmp_path):
    config = make_config(chat_model, write_jsonl(ROWS), max_seq_len=8)
    config = config.model_copy(update={"training": config.training.model_copy(update={"overlong": "drop"})})
    with pytest.raises(DataError, match="max_seq_len 8, overlong: drop: no train row is so short"):
        prepare(config, tmp_path / "cache")


def test_a_token_that_the_model_does_not_know_is_told_with_its_row(
    chat_model, make_config, write_jsonl, tmp_path
):
    import shutil

    model = shutil.copytree(chat_model, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "vocab_size": 300}))
    file = write_jsonl(ROWS)
    with pytest.raises(ModelError) as caught:
        prepare(make_config(model, file), tmp_path / "cache")
    (problem,) = caught.value.problems
    assert problem.where.startswith(f"{file}:")
    assert "(token " in problem.value
    assert "300 rows" in problem.rule
    assert "420 tokens" in problem.rule
    (model / "config.json").write_text(json.dumps({**config, "vocab_size": 420}))
    assert prepare(make_config(model, file), tmp_path / "cache").train.rows == 38


def test_bad_rows_and_templates_belong_to_the_fingerprint(chat_model, make_config, write_jsonl):
    file = write_jsonl(ROWS)
    changes = [{}, {"max_bad_rows": 1}, {"chat_template": "chatml"}, {"chat_template": "plain"}]
    prints = {prepared_fingerprint(make_config(chat_model, file, **change)) for change in changes}
    assert len(prints) == len(changes)


def test_the_summary_tells_only_what_happened(chat_model, make_config, write_jsonl, tmp_path):
    silent = {"question": "?", "answer": ""}
    data = prepare(make_config(chat_model, write_jsonl([*ROWS, silent])), tmp_path / "cache")
    assert data.summary() == "38 rows trained on, 2 held out; 1 without an answer left out"
    assert not data.bad_rows_file.exists()

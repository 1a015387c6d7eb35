"""Several sources with weights; folders and hub ids that the library ``datasets`` loads."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_helpers import rows_of
from hypothesis import given
from hypothesis import strategies as st

from sweeper.data import gather_facts, load_tokenizer, prepare
from sweeper.data.fingerprint import prepared_fingerprint
from sweeper.data.read.examples import load_examples, times_of
from sweeper.data.read.formats import Example
from sweeper.errors import DataError

LETTERS = "abc"


def rows(letter: str, count: int) -> list[dict[str, Any]]:
    return [{"question": f"{letter} {n}", "answer": f"{letter}{n}"} for n in range(count)]


@pytest.fixture
def mixed(write_jsonl) -> dict[str, str]:
    """Files of 40, 20 and 10 rows."""
    sizes = zip(LETTERS, (40, 20, 10), strict=True)
    return {letter: str(write_jsonl(rows(letter, size), f"{letter}.jsonl")) for letter, size in sizes}


def sources(mixed: dict[str, str], *weights: float) -> list[dict[str, Any]]:
    named = zip(mixed.values(), weights, strict=True)
    return [{"path": path, "weight": weight} for path, weight in named]


def seen(examples: list[Example], times: Any) -> Counter[str]:
    """How often an epoch sees the rows of each file."""
    letters = [example.messages[0]["content"][0] for example in examples]
    return Counter(letter for letter, count in zip(letters, times, strict=True) for _ in range(count))


def test_weights_say_how_often_an_epoch_sees_a_sources_rows(chat_model, make_config, mixed):
    plain = load_examples(make_config(chat_model, tuple(mixed.values()), eval_data=0.1))
    weighted = load_examples(
        make_config(chat_model, "x", data_path=sources(mixed, 0.5, 1, 2.5), eval_data=0.1)
    )
    before = seen(plain.train, plain.times)
    after = seen(weighted.train, weighted.times)
    assert weighted.eval == plain.eval
    assert after["b"] == before["b"]
    assert after["a"] == round(before["a"] / 2)
    assert after["c"] == round(before["c"] * 2.5)
    assert weighted.counts["rows_left_out_by_weight"] == before["a"] - after["a"]
    assert weighted.counts["rows_repeated"] == after["c"] - before["c"]
    assert weighted.train_rows == len(weighted.train) + weighted.counts["rows_repeated"]


@given(
    rows=st.lists(st.integers(0, 2), min_size=1, max_size=60),
    weights=st.lists(st.floats(0.01, 9), min_size=3, max_size=3),
)
def test_a_source_of_n_rows_and_weight_w_is_seen_w_times_n_times_and_evenly(rows, weights):
    owners = np.array(rows)
    times = times_of(owners, weights)
    for source, weight in enumerate(weights):
        own = [int(count) for count, row in zip(times, rows, strict=True) if row == source]
        if own:
            assert sum(own) == max(round(weight * len(own)), 1)
            assert max(own) - min(own) <= 1
    assert (times == times_of(owners, weights)).all()


def test_held_out_rows_are_never_trained_on_or_repeated(chat_model, make_config, mixed, tmp_path):
    config = make_config(chat_model, "x", data_path=sources(mixed, 3, 2, 0.5), eval_data=0.2)
    data = prepare(config, tmp_path / "cache")
    tokenizer = load_tokenizer(str(chat_model))
    train, held_out = (
        Counter(tokenizer.decode(split.row(i)[0]) for i in range(split.rows))
        for split in (data.train, data.eval)
    )
    assert not train.keys() & held_out.keys()
    assert set(held_out.values()) == {1}
    assert {count for text, count in train.items() if "user\na" in text} == {3}
    assert gather_facts(config).train_rows == data.train.rows
    assert data.counts["train_rows"] == data.train.rows == train.total()


def test_each_source_has_its_own_format(chat_model, make_config, write_jsonl):
    both = {"question": "q", "answer": "a", "prompt": "p", "completion": "c"}
    first, second = (str(write_jsonl([both] * 2, name)) for name in ("a.jsonl", "b.jsonl"))
    paths = [{"path": first, "format": "question_answer"}, second]
    config = make_config(chat_model, "x", data_path=paths, data_format="prompt_completion", eval_data=0.25)
    examples = load_examples(config)
    prompts = sorted(example.messages[0]["content"] for example in [*examples.train, *examples.eval])
    assert set(prompts) == {"p", "q"}


def test_a_file_of_two_sources_counts_for_the_first(chat_model, make_config, mixed):
    paths = [{"path": mixed["a"], "weight": 2}, {"path": str(Path(mixed["a"]).parent / "*.jsonl")}]
    examples = load_examples(make_config(chat_model, "x", data_path=paths, eval_data=0.1))
    assert examples.counts["rows_read"] == 70
    assert {
        int(count)
        for example, count in zip(examples.train, examples.times, strict=True)
        if example.messages[0]["content"][0] == "a"
    } == {2}


def test_weights_and_formats_belong_to_the_fingerprint(chat_model, make_config, mixed):
    def fingerprint(*paths: Any) -> str:
        return prepared_fingerprint(make_config(chat_model, "x", data_path=list(paths)))

    a, b = mixed["a"], mixed["b"]
    assert fingerprint(a, b) == fingerprint({"path": a}, {"path": b, "weight": 1})
    prints = [
        fingerprint(a, b),
        fingerprint(b, a),
        fingerprint(a, {"path": b, "weight": 2}),
        fingerprint({"path": a, "weight": 2}, b),
        fingerprint(a, {"path": b, "format": "question_answer"}),
    ]
    assert len(set(prints)) == len(prints)


@pytest.fixture
def own_datasets_cache(tmp_path, monkeypatch):
    """Keeps what ``datasets`` writes out of the user's folder, and the network out of the test."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return datasets


def questions(name: str) -> list[str]:
    return [row.fields["question"] for row in rows_of(name)]


def test_a_folder_laid_out_like_the_hub_is_loaded_by_datasets(own_datasets_cache, tmp_path):
    import pyarrow
    import pyarrow.parquet

    folder = tmp_path / "owner" / "set"
    (folder / "data").mkdir(parents=True)
    for split, size in (("train", 5), ("test", 2)):
        table = pyarrow.Table.from_pylist(rows(split, size))
        pyarrow.parquet.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")
    assert questions(str(folder)) == [f"train {n}" for n in range(5)]
    assert [row.where for row in rows_of(str(folder))][-1] == f"{folder}:row 5"


def test_folders_below_without_training_rows_are_no_data(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "rows.jsonl").write_text('{"question": "q", "answer": "a"}\n')
    with pytest.raises(DataError, match="holds no data file"):
        rows_of(str(tmp_path))


def test_an_id_goes_through_the_same_function(own_datasets_cache, tmp_path, monkeypatch):
    from sweeper.data.problems import Problems
    from sweeper.data.read.files import Source
    from sweeper.data.read.read import read_rows

    folder = tmp_path / "owner" / "set"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text('{"question": "q", "answer": "a"}\n')
    monkeypatch.chdir(tmp_path)
    problems = Problems()
    found = read_rows(Source("owner/set", "hub"), problems)
    assert not len(problems)
    assert [(row.fields, row.where) for row in found] == [
        ({"question": "q", "answer": "a"}, "owner/set:row 1")
    ]


def test_an_id_that_the_hub_does_not_have_is_told(own_datasets_cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="owner/none: no such path here, and the hub gives no data set"):
        rows_of("owner/none")


@pytest.mark.parametrize("in_splits", [True, False])
def test_a_saved_data_set_is_a_folder_of_rows(in_splits, own_datasets_cache, tmp_path):
    train = own_datasets_cache.Dataset.from_list(rows("train", 3))
    saved = (
        own_datasets_cache.DatasetDict({"train": train, "test": train.select([0])}) if in_splits else train
    )
    saved.save_to_disk(tmp_path / "saved")
    assert questions(str(tmp_path / "saved")) == [f"train {n}" for n in range(3)]


def test_a_data_set_without_a_train_split_is_told(own_datasets_cache, tmp_path):
    test = own_datasets_cache.Dataset.from_list(rows("x", 2))
    own_datasets_cache.DatasetDict({"test": test}).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="saved: it gives no data set: KeyError: 'train'"):
        rows_of(str(tmp_path / "saved"))


def test_a_data_set_is_trained_on_like_a_file(own_datasets_cache, chat_model, make_config, tmp_path):
    own_datasets_cache.Dataset.from_list(rows("x", 8)).save_to_disk(tmp_path / "saved")
    config = make_config(chat_model, tmp_path / "saved", eval_data=0.25)
    data = prepare(config, tmp_path / "cache")
    assert (data.train.rows, data.eval.rows) == (6, 2)
    assert prepare(config, tmp_path / "cache").folder == data.folder

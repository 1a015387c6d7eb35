"""From files to the cache that trials map, and back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sweeper.data import TokenizedData, load_tokenizer, prepare
from sweeper.data.read.examples import load_examples
from sweeper.errors import DataError, ModelError

ROWS = [{"question": f"How much is {n} + 1?", "answer": f"It is {n + 1}."} for n in range(40)]


def texts(data: TokenizedData, tokenizer) -> tuple[list[str], list[str]]:
    """The rows of both splits as text."""
    train, held_out = (
        [tokenizer.decode(split.row(i)[0]) for i in range(split.rows)] for split in (data.train, data.eval)
    )
    return train, held_out


def folders_in(cache):
    """Whole or half-made caches; the lock beside them stays."""
    return [entry for entry in cache.glob("*") if entry.suffix != ".lock"]


def test_rows_survive_the_way_through_the_cache(chat_model, make_config, write_jsonl, tmp_path):
    config = make_config(chat_model, write_jsonl(ROWS), eval_data=0.25)
    data = prepare(config, tmp_path / "cache")
    tokenizer = load_tokenizer(str(chat_model))
    train, held_out = texts(data, tokenizer)
    assert len(train) == 30
    assert len(held_out) == 10
    expected = {
        f"<|im_start|>user\n{row['question']}<|im_end|>\n<|im_start|>assistant\n{row['answer']}<|im_end|>\n"
        for row in ROWS
    }
    assert {*train, *held_out} == expected
    ids, mask = data.eval.row(9)
    assert tokenizer.decode(ids[mask]).startswith("It is ")
    assert (data.train.lengths == [len(data.train.row(i)[0]) for i in range(30)]).all()
    assert (data.train.completion_tokens == [data.train.row(i)[1].sum() for i in range(30)]).all()
    assert data.pad_id == tokenizer.pad_token_id
    assert data.folder == tmp_path / "cache" / data.fingerprint
    with pytest.raises(IndexError):
        data.train.row(30)


def test_the_counts_tell_what_became_of_every_row(chat_model, make_config, write_jsonl, tmp_path):
    long_prompt = {"question": "duck " * 200, "answer": "yes"}
    long_answer = {"question": "?", "answer": "duck " * 200}
    silent = {"question": "?", "answer": " "}
    train = write_jsonl([*ROWS[:20], long_prompt, long_answer, silent, ROWS[30]])
    held_out = write_jsonl([*ROWS[30:], silent], "held_out.jsonl")
    config = make_config(chat_model, train, eval_data=str(held_out), max_seq_len=64)
    data = prepare(config, tmp_path / "cache")
    expected = {"rows_read": 35, "rows_without_answer": 2, "rows_leaked": 1}
    expected |= {"train_rows": 21, "train_truncated": 1, "train_dropped": 1}
    expected |= {"eval_rows": 10, "eval_truncated": 0, "eval_dropped": 0}
    assert {name: data.counts[name] for name in expected} == expected
    assert data.train.lengths.max() == 64
    assert data.counts["train_tokens"] == data.train.lengths.sum()
    assert data.counts["eval_completion_tokens"] == data.eval.completion_tokens.sum()


def test_the_second_time_the_cache_is_mapped_and_neither_read_nor_made(
    chat_model, make_config, write_jsonl, tmp_path
):
    config = make_config(chat_model, write_jsonl(ROWS))
    first = prepare(config, tmp_path / "cache")
    before = {file.name: file.stat().st_mtime_ns for file in first.folder.iterdir()}
    second = prepare(config, tmp_path / "cache")
    assert {file.name: file.stat().st_mtime_ns for file in second.folder.iterdir()} == before
    assert isinstance(second.train.ids, np.memmap)
    assert not second.train.ids.flags.writeable
    assert second.fingerprint == first.fingerprint
    opened = TokenizedData.open(first.folder)
    assert opened.counts == first.counts
    assert (opened.train.ids == first.train.ids).all()


def test_several_at_once_end_with_one_whole_cache(chat_model, make_config, write_jsonl, tmp_path):
    config = make_config(chat_model, write_jsonl(ROWS))
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: prepare(config, tmp_path / "cache"), range(4)))
    assert len({data.folder for data in results}) == 1
    assert [folder.name for folder in folders_in(tmp_path / "cache")] == [results[0].fingerprint]


def test_the_fingerprint_follows_everything_that_changes_tokens_and_nothing_else(
    chat_model, make_config, write_jsonl, tmp_path
):
    from sweeper.data.fingerprint import prepared_fingerprint

    file = write_jsonl(ROWS)
    base = prepared_fingerprint(make_config(chat_model, file))
    same = write_jsonl(ROWS, "renamed.jsonl")
    copied = shutil.copytree(chat_model, tmp_path / "copied")
    assert prepared_fingerprint(make_config(copied, same, name="other")) == base
    changed = {
        prepared_fingerprint(make_config(chat_model, write_jsonl(ROWS[:-1], "fewer.jsonl"))),
        prepared_fingerprint(make_config(chat_model, file, eval_data=0.1)),
        prepared_fingerprint(make_config(chat_model, file, eval_data=str(same))),
        prepared_fingerprint(make_config(chat_model, file, max_seq_len=128)),
        prepared_fingerprint(make_config(chat_model, file, data_format="question_answer")),
    }
    (copied / "chat_template.jinja").write_text("{{ messages }}")
    changed.add(prepared_fingerprint(make_config(copied, file)))
    assert len(changed | {base}) == 7


def test_the_same_rows_are_held_out_whatever_the_search_seed(make_config, write_jsonl, chat_model):
    file = write_jsonl(ROWS)
    first = load_examples(make_config(chat_model, file, search={"seed": 1}))
    second = load_examples(make_config(chat_model, file, search={"seed": 2}))
    assert first.eval == second.eval
    assert not {example.where for example in first.eval} & {example.where for example in first.train}


@pytest.mark.parametrize(("fraction", "size"), [(1e-6, 1), (0.05, 2), (0.5, 20), (0.999, 39)])
def test_a_fraction_leaves_at_least_one_row_on_each_side(
    make_config, write_jsonl, chat_model, fraction, size
):
    examples = load_examples(make_config(chat_model, write_jsonl(ROWS), eval_data=fraction))
    assert (len(examples.eval), len(examples.train)) == (size, 40 - size)


def test_copies_of_held_out_rows_are_not_trained_on(make_config, write_jsonl, chat_model):
    examples = load_examples(make_config(chat_model, write_jsonl(ROWS * 2), eval_data=0.25))
    held_out = [example.messages for example in examples.eval]
    assert all(example.messages not in held_out for example in examples.train)
    assert examples.counts["rows_leaked"] > 0
    assert len(examples.train) + examples.counts["rows_leaked"] + 20 == 80


def refusal(config, cache) -> str:
    with pytest.raises(DataError) as caught:
        prepare(config, cache)
    assert not folders_in(cache)
    return str(caught.value)


def test_data_that_leaves_nothing_to_learn_is_refused(chat_model, make_config, write_jsonl, tmp_path):
    file, cache = write_jsonl(ROWS), tmp_path / "cache"
    assert "at least two rows" in refusal(make_config(chat_model, write_jsonl(ROWS[:1], "one.jsonl")), cache)
    assert "equals a held-out row" in refusal(make_config(chat_model, file, eval_data=str(file)), cache)
    silent = write_jsonl([{"question": "?", "answer": ""}] * 3, "silent.jsonl")
    assert "anything that an assistant says" in refusal(make_config(chat_model, silent), cache)
    told = refusal(make_config(chat_model, file, max_seq_len=8), cache)
    assert "no train row has a completion within" in told
    assert "no eval row" in told
    assert "max_seq_len 8" in told


def test_the_problems_of_training_and_held_out_rows_are_told_at_once(chat_model, make_config, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"question": "q", "answer": "a"}\nbroken\n{"question": "q"}\n')
    config = make_config(chat_model, tmp_path / "a.jsonl", eval_data=str(tmp_path / "none.jsonl"))
    told = refusal(config, tmp_path / "cache")
    assert "a.jsonl:2" in told
    assert "a.jsonl:3" in told
    assert "none.jsonl" in told


def test_a_row_that_the_template_refuses_is_named_and_nothing_is_written(
    model_with_template, make_config, write_jsonl, tmp_path
):
    model = model_with_template("{% for m in messages %}{{ raise_exception('never') }}{% endfor %}")
    file = write_jsonl(ROWS)
    told = refusal(make_config(model, file), tmp_path / "cache")
    assert f"{file}:1" in told
    assert "never" in told
    assert "more problems" in told


def test_a_folder_that_is_no_whole_cache_is_refused_with_advice(
    chat_model, make_config, write_jsonl, tmp_path
):
    data = prepare(make_config(chat_model, write_jsonl(ROWS)), tmp_path / "cache")
    (data.folder / "train.ids.npy").unlink()
    with pytest.raises(DataError, match="delete the folder"):
        TokenizedData.open(data.folder)


def test_a_model_without_a_tokenizer_is_a_model_error(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ModelError, match="its tokenizer cannot be used"):
        load_tokenizer(str(tmp_path))


def test_real_math_data_is_tokenized_whole(real_data, chat_model, make_config, tmp_path):
    config = make_config(
        chat_model, real_data / "math/gsm8k_test.jsonl", data_format="question_answer", max_seq_len=2048
    )
    data = prepare(config, tmp_path / "cache")
    assert data.counts["train_rows"] + data.counts["eval_rows"] == data.counts["rows_read"] == 1319
    ids, mask = data.train.row(0)
    answer = load_tokenizer(str(chat_model)).decode(ids[mask])
    with (real_data / "math/gsm8k_test.jsonl").open(newline="\n") as lines:
        assert answer in {json.loads(line)["answer"] + "<|im_end|>" for line in lines}


def test_real_dialogues_learn_every_answer(real_data, chat_model, make_config, tmp_path):
    config = make_config(
        chat_model, real_data / "dialogue/taskmaster4_coffee_messages.jsonl", max_seq_len=4096
    )
    data = prepare(config, tmp_path / "cache")
    tokenizer = load_tokenizer(str(chat_model))
    examples = load_examples(config)
    for index in range(0, data.eval.rows, 10):
        ids, mask = data.eval.row(index)
        said = [m["content"] for m in examples.eval[index].messages if m["role"] == "assistant"]
        assert tokenizer.decode(ids[mask]) == "".join(content + "<|im_end|>" for content in said)


def test_importing_the_room_imports_nothing_heavy():
    code = (
        "import sweeper.data, sys;"
        "heavy = ('torch', 'transformers', 'datasets', 'pyarrow', 'ray', 'mlflow');"
        "print([name for name in heavy if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"

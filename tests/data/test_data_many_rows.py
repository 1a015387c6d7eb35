"""Rows in many pieces, by many processes, or begun anew after a kill: the same arrays."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from sweeper.commands.preparation import preparing
from sweeper.data import TokenizedData, gather_facts, load_tokenizer, prepare, prepared_folder, survey
from sweeper.data.cache import TokenizedSplit
from sweeper.data.problems import Problems
from sweeper.data.read import read
from sweeper.data.read.examples import load_examples
from sweeper.data.render.tokens import tokenize

ROWS = [{"question": f"How much is {n} + 1?", "answer": f"It is {n + 1}." * (n % 5)} for n in range(400)]


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(read, "PIECE_BYTES", 2000)
    monkeypatch.setattr(read, "PIECE_ROWS", 50)


def files(folder, rows):
    """The same rows as lines, as Parquet and as a saved data set."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Dataset

    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), folder / "b.parquet", row_group_size=70)
    Dataset.from_list(rows).save_to_disk(folder / "c")
    return [folder / "a.jsonl", folder / "b.parquet", folder / "c"]


def at_once(config, model) -> list[TokenizedSplit]:
    """Both splits, from lists of all rows in one process."""
    examples = load_examples(config)
    tokenizer = load_tokenizer(str(model))
    return [
        TokenizedSplit.of([row for _, row in tokenize(split, tokenizer, 48, Problems()) if row.mask.any()])
        for split in (examples.train, examples.eval)
    ]


def same(first: TokenizedSplit, second: TokenizedSplit) -> bool:
    return all(np.array_equal(one, vars(second)[name]) for name, one in vars(first).items())


def test_pieces_and_processes_change_no_token_and_no_mask(chat_model, make_config, tmp_path, small_pieces):
    found = []
    for file in files(tmp_path, ROWS):
        config = make_config(chat_model, file, max_seq_len=48)
        data = prepare(config, tmp_path / "cache")
        found.append(data.content)
        train, held_out = at_once(config, chat_model)
        assert same(train, data.train)
        assert same(held_out, data.eval)
    assert len(set(found)) == 1


def test_a_kept_part_is_not_made_again_and_nothing_half_made_is_used(
    chat_model, make_config, write_jsonl, tmp_path, small_pieces, monkeypatch
):
    from sweeper.data.parts import Maker, Part

    config = make_config(chat_model, write_jsonl(ROWS))
    folder = prepared_folder(config, tmp_path / "cache")
    made, save = [], Part.save

    def dying(self, file):
        if len(made) == 3:
            file.with_name(f".{file.name}").write_bytes(b"half")  # as kill -9 leaves it
            raise KeyboardInterrupt
        made.append(file.name)
        save(self, file)

    monkeypatch.setattr("sweeper.data.collecting.count_cpus", lambda: 1)
    monkeypatch.setattr(Part, "save", dying)
    with pytest.raises(KeyboardInterrupt):
        prepare(config, tmp_path / "cache")
    assert not folder.exists()
    monkeypatch.setattr(Part, "save", save)
    again, make = [], Maker.make
    monkeypatch.setattr(Maker, "make", lambda self, task: again.append(task.number) or make(self, task))
    data = prepare(config, tmp_path / "cache")
    assert again[0] == 3
    assert data.content == prepare(config, tmp_path / "other").content
    assert [one.name for one in (tmp_path / "cache").iterdir() if one.suffix != ".lock"] == [folder.name]


def test_the_process_beside_a_sweep_prepares_in_many_processes(chat_model, make_config, tmp_path):
    rows = [{"prompt": f"{n} " + "duck " * 400, "completion": "egg " * 100} for n in range(3500)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = make_config(chat_model, file)
    with preparing(config, tmp_path / "cache") as preparation:
        folder = preparation.folder()
        preparation._end.result(timeout=300)
    assert TokenizedData.open(folder).counts["rows_read"] == len(rows)


def test_many_rows_are_counted_by_a_sample_that_says_so(
    chat_model, make_config, write_jsonl, tmp_path, monkeypatch
):
    monkeypatch.setattr(survey, "_LARGE_BYTES", 4000)
    monkeypatch.setattr(survey, "_ROWS", 100)
    for file in files(tmp_path, [row for row in ROWS if row["answer"]]):
        facts = gather_facts(make_config(chat_model, file))
        assert facts.rows_looked_at is not None
        assert facts.rows_looked_at < 200
        assert facts.train_rows + facts.eval_rows == pytest.approx(320, rel=0.06)
        assert any("by a sample" in note for note in facts.data_notes)


def test_workers_die_with_their_parent(tmp_path):
    code = (
        "import os, signal, time\n"
        "from sweeper.data.pool import in_processes\n"
        "def work(n):\n"
        "    if n: print(os.getpid(), flush=True); time.sleep(60)\n"
        "    return n\n"
        "for one in in_processes(work, range(3), 2):\n"
        "    time.sleep(0.5); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert done.returncode == -9  # and its output has ended: no worker holds it any more

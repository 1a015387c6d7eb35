"""A preparation that is killed with all of its processes, and the one after it."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys

from waiting import eventually

from sweeper.data import prepare, prepared_folder
from sweeper.data.parts import Maker
from sweeper.data.read import read

ROWS = [{"question": f"How much is {n} + 1?", "answer": f"It is {n + 1}." * (n % 5)} for n in range(600)]
HALF_MADE = 7
"""The process that makes this part stands still in the middle of its file."""

PREPARING = """
import os, pickle, sys, time
import numpy as np
sys.modules["torch"] = None  # takes longer than all the rest
from sweeper.data import collecting, prepare
from sweeper.data.read import read

config, cache, piece_bytes, half_made = pickle.load(sys.stdin.buffer)
read.PIECE_BYTES = piece_bytes
collecting.count_cpus = lambda: 2
savez = np.savez

def standing_still(opened, **arrays):
    savez(opened, **arrays)
    if opened.name.endswith(f"{half_made:06d}.npz"):
        opened.truncate(opened.tell() // 2)
        opened.flush()
        os.write(1, b"half")
        time.sleep(600)

np.savez = standing_still
prepare(config, cache)
"""


def files_in(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_what_a_killed_preparation_made_is_used_and_nothing_half_made(
    chat_model, make_config, write_jsonl, tmp_path, monkeypatch
):
    monkeypatch.setattr(read, "PIECE_BYTES", 2000)
    monkeypatch.setattr("sweeper.data.collecting.count_cpus", lambda: 1)
    config = make_config(chat_model, write_jsonl(ROWS))
    cache = tmp_path / "cache"
    folder = prepared_folder(config, cache)
    parts = folder.with_name(f".{folder.name}.parts")
    killed = subprocess.Popen(
        [sys.executable, "-c", PREPARING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert killed.stdin is not None and killed.stdout is not None
    with killed.stdin as asked:
        pickle.dump((config, cache, read.PIECE_BYTES, HALF_MADE), asked)
    assert killed.stdout.read(4) == b"half"
    assert eventually(lambda: len(list(parts.glob("[0-9]*.npz"))) > HALF_MADE)  # another goes on beside it
    os.killpg(killed.pid, signal.SIGKILL)
    assert killed.stdout.read() == b""  # none of its processes is left
    assert killed.wait() == -signal.SIGKILL

    kept = {int(file.stem) for file in parts.glob("[0-9]*.npz")}
    assert HALF_MADE not in kept
    assert (parts / f".{HALF_MADE:06d}.npz").is_file()
    assert not folder.exists()
    made, make = [], Maker.make
    monkeypatch.setattr(Maker, "make", lambda self, task: made.append(task.number) or make(self, task))
    prepare(config, cache)
    again = made.copy()
    made.clear()
    prepare(config, tmp_path / "other")
    assert len(kept) >= HALF_MADE
    assert again == [number for number in made if number not in kept]
    assert files_in(folder) == files_in(tmp_path / "other" / folder.name)
    assert [one.name for one in cache.iterdir() if one.suffix != ".lock"] == [folder.name]

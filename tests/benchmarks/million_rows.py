"""How fast rows are prepared, beside ``datasets.map`` with a chat template, as TRL prepares them.

    python tests/benchmarks/million_rows.py --rows 100000 --shared ../shared/data

Alpaca rows are repeated with changed text: words come again, as in all text, but more often. With
``--new-words 0.05`` each twentieth word of an answer is made up, and occurs nowhere else.

Both ways run in processes of their own, one after the other, from
a JSONL file to tokens on disk: ours from the start of its process, theirs from ``load_dataset`` on, without
the imports. Theirs has one call of ``apply_chat_template`` and one of the tokenizer for each row, and two
processes; it makes no mask. Memory is the sum of the resident sets of all processes, looked at four times a
second. CPU seconds are shown since wall time says little on a busy machine.

Exits with 1 where a bar is missed: 1.5 times as fast, 2 GiB, and 3 s for ``validate``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase

FASTER, MEMORY_GIB, VALIDATE_S = 1.5, 2.0, 3.0

OURS = """
import sys
from pathlib import Path
from sweeper.commands.preparation import in_lines, preparing
from sweeper.data import gather_facts
from sweeper.space import load_space
space = load_space(Path(sys.argv[1]), gather=gather_facts)
config = space.rows_config(space.close(space.default_values()))
with preparing(config, Path(sys.argv[2]), in_lines(lambda text: print(text, flush=True))) as preparation:
    preparation.folder()
    preparation._end.result()
"""

THEIRS = """
import sys, time
import torch
from datasets import load_dataset
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[2])
def tokens(row):
    asked = row["instruction"] + (f"\\n\\n{row['input']}" if row["input"] else "")
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": row["output"]}]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    return tokenizer(text, add_special_tokens=False)
began = time.monotonic()
rows = load_dataset("json", data_files=sys.argv[1], split="train", cache_dir=sys.argv[3])
rows.map(tokens, remove_columns=rows.column_names, num_proc=2)
print("seconds", time.monotonic() - began)
"""


@dataclass
class Measured:
    seconds: float
    cpu_s: float
    peak_gib: float
    output: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--shared", type=Path, default=Path("../shared/data"))
    parser.add_argument("--new-words", type=float, default=0.0, help="share of words that occur once")
    parser.add_argument("--without-map", action="store_true", help="leave datasets.map out")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        data = root / "rows.jsonl"
        write_rows(asked.shared / "general" / "alpaca_en_demo.json", asked.rows, data, asked.new_words)
        print(f"{asked.rows:,} rows, {data.stat().st_size / 2**20:,.0f} MiB", flush=True)
        space = root / "space.yaml"
        space.write_text(
            f"name: rows\nmodel_path: builtin:quickstart\ndata_path: {data}\n"
            "training: {lr: [1.0e-4, 1.0e-3], max_seq_len: 256}\n"
        )
        validate = measure([sys.executable, "-m", "sweeper", "validate", str(space)])
        print(validate.output.split("\n", 12)[:12])
        ours = measure([sys.executable, "-c", OURS, str(space), str(root / "cache")])
        print(ours.output, flush=True)
        theirs = None if asked.without_map else of_datasets(data, root)
    return table(asked.rows, validate, ours, theirs)


def of_datasets(data: Path, root: Path) -> Measured:
    model = Path(__file__).resolve().parents[2] / "sweeper" / "quickstart" / "model"
    found = measure([sys.executable, "-c", THEIRS, str(data), str(model), str(root / "hf")])
    found.seconds = float(found.output.rpartition("seconds ")[2].split()[0])
    return found


def table(rows: int, validate: Measured, ours: Measured, theirs: Measured | None) -> int:
    print(f"{'':14} {'rows':>9} {'seconds':>8} {'rows/s':>7} {'CPU s':>7} {'peak GiB':>9} {'validate s':>11}")
    for name, one in (("sweeper", ours), ("datasets.map", theirs)):
        if one is not None:
            last = f"{validate.seconds:11.1f}" if one is ours else ""
            print(
                f"{name:14} {rows:9,} {one.seconds:8.1f} {rows / one.seconds:7,.0f} {one.cpu_s:7.1f} "
                f"{one.peak_gib:9.2f} {last}"
            )
    missed = []
    if theirs is not None:
        faster = theirs.seconds / ours.seconds
        print(
            f"{faster:.2f} times as fast by the clock, {theirs.cpu_s / ours.cpu_s:.2f} times by CPU seconds"
        )
        missed += ["speed"] if faster < FASTER else []
    missed += ["memory"] if ours.peak_gib > MEMORY_GIB else []
    missed += ["validate"] if validate.seconds > VALIDATE_S else []
    print(f"missed: {', '.join(missed)}" if missed else "every bar is held")
    return 1 if missed else 0


def write_rows(source: Path, count: int, target: Path, new_words: float = 0.0) -> None:
    chosen = random.Random(0)

    def renewed(word: str) -> str:
        is_new = chosen.random() < new_words
        return "".join(chosen.choices(ascii_lowercase, k=len(word))) if is_new else word

    rows = json.loads(source.read_text(encoding="utf-8"))
    with target.open("w", encoding="utf-8") as file:
        for number in range(count):
            row = rows[number % len(rows)]
            changed = {"instruction": f"{row['instruction']} ({number})", "input": row.get("input") or ""}
            output = " ".join(map(renewed, row["output"].split(" "))) if new_words else row["output"]
            file.write(json.dumps(changed | {"output": output}) + "\n")


def measure(command: list[str]) -> Measured:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    peak = [0.0]
    threading.Thread(target=_watch, args=(process, peak), daemon=True).start()
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{command[:3]} failed:\n{output}")
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(seconds=seconds, cpu_s=cpu_s, peak_gib=peak[0], output=output)


def _watch(process: subprocess.Popen[str], peak: list[float]) -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    while process.poll() is None:
        total = 0
        for pid in _family(process.pid):
            with suppress(OSError, IndexError):
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        peak[0] = max(peak[0], total * page / 2**30)
        time.sleep(0.25)


def _family(root: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                parents.setdefault(parent, []).append(int(entry.name))
    found = [root]
    for one in found:
        found += parents.get(one, [])
    return found


if __name__ == "__main__":
    sys.exit(main())

"""What event files of TensorBoard and offline runs of Weights & Biases hold."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Curves = dict[str, list[tuple[int, float]]]


def event_curves(folder: Path) -> dict[str, Curves]:
    """Run -> tag -> (step, value), as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: dict[str, Curves] = {}
    for run in sorted(path for path in folder.iterdir() if path.is_dir()):
        events = EventAccumulator(str(run), size_guidance={"scalars": 0, "tensors": 0}).Reload()
        tags = events.Tags()
        found[run.name] = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags["scalars"]}
    return found


def event_texts(folder: Path, tag: str) -> dict[str, str]:
    """Run -> the text of a tag, the last one."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for run in sorted(path for path in folder.iterdir() if path.is_dir()):
        events = EventAccumulator(str(run)).Reload()
        last = events.Tensors(f"{tag}/text_summary")[-1]
        found[run.name] = last.tensor_proto.string_val[0].decode()
    return found


def wandb_runs(folder: Path) -> dict[str, dict[str, Any]]:
    """Id -> name, group, project, config, rows in the order they were logged, summary and exit code.

    A resumed run has several folders: their rows stand one after another, as `wandb sync` sends them.
    """
    found: dict[str, dict[str, Any]] = {}
    for file in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        run: dict[str, Any] = {}
        for record in _records(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                run = found.setdefault(record.run.run_id, {"rows": [], "summary": {}, "config": {}})
                run |= {"name": record.run.display_name, "group": record.run.run_group}
                run |= {"project": record.run.project}
                run["config"] |= {one.key: json.loads(one.value_json) for one in record.run.config.update}
            elif kind == "history":
                run["rows"].append({_key(one): json.loads(one.value_json) for one in record.history.item})
            elif kind == "summary":
                run["summary"] |= {_key(one): json.loads(one.value_json) for one in record.summary.update}
            elif kind == "exit":
                run["exit_code"] = record.exit.exit_code
    return found


def wandb_curves(run: dict[str, Any]) -> Curves:
    """Metric -> (step, value) of one run."""
    curves: Curves = {}
    for row in run["rows"]:
        for name, value in row.items():
            if not name.startswith("_"):
                curves.setdefault(name, []).append((row["_step"], value))
    return curves


def _key(item: Any) -> str:
    return item.key or "/".join(item.nested_key)


def _records(file: Path) -> Iterator[Any]:
    """The records of a LevelDB log: blocks of 32 KiB; each piece has a checksum, a length and a kind."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, place, pieces = file.read_bytes(), 7, b""
    while place + 7 <= len(data):
        if (left := 2**15 - place % 2**15) < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        pieces += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or its last piece
            record = Record()
            record.ParseFromString(pieces)
            yield record
            pieces = b""

"""The quickstart with many seeds: how often its best trial beats the default, and by how much.

    python tests/benchmarks/quickstart_seeds.py --seeds 20 --log seeds.jsonl

Seed ``n`` is that of the search and of the training, so the default is another run each time and its own
luck is in the figures. Each sweep is the whole of search_spaces/quickstart.yaml, from the start of Ray to
the answer; ``--set`` overrides it as on the command line. Prints one line for each seed as it ends, then
the summary. A best trial that is the default itself counts as a margin of 0. With ``--log`` each seed's
figures are kept in a file, and one that stands there is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sweeper.commands import run_sweep
from sweeper.recommend import default_record, improvement

QUICKSTART = Path(__file__).parents[2] / "search_spaces" / "quickstart.yaml"


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one seed came to."""

    best: float
    default: float
    margin: float
    """(default - best) / default; 0 where the default is the best."""
    lr: float
    """Of the best trial."""
    seconds: float


def main() -> None:
    os.environ["SWEEPER_HISTORY"] = "off"  # no sweep begins with what another one found
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--log", type=Path, help="one JSON line for each seed")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    found = _logged(options.log)
    for seed in range(options.seeds):
        if seed in found:
            continue
        one = found[seed] = _sweep(seed, options.overrides)
        print(
            f"seed {seed}: default {one.default:.4f}, best {one.best:.4f} at lr {one.lr:.2e}, "
            f"{one.margin:.1%} better, {one.seconds:.0f} s",
            flush=True,
        )
        if options.log is not None:
            with options.log.open("a", encoding="utf-8") as log:
                log.write(json.dumps({"seed": seed, **asdict(one)}) + "\n")
    print(summary([found[seed] for seed in range(options.seeds)]))


def _logged(log: Path | None) -> dict[int, Found]:
    if log is None or not log.exists():
        return {}
    rows = map(json.loads, log.read_text(encoding="utf-8").splitlines())
    return {row.pop("seed"): Found(**row) for row in rows}


def _sweep(seed: int, overrides: Sequence[str]) -> Found:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        seeds = [f"search.seed={seed}", f"training.seed={seed}"]
        result = run_sweep(QUICKSTART, overrides=[*seeds, *overrides], out=Path(folder) / "sweep")
    default = default_record(result.trials)
    if result.best is None or result.best.value is None or default is None or default.final_value is None:
        raise SystemExit(f"seed {seed}: best trial {result.best}, default {default}")
    margin = improvement(result.space, result.best.value, default.final_value)
    assert margin is not None
    return Found(
        best=result.best.value,
        default=default.final_value,
        margin=margin,
        lr=float(result.best.values["lr"]),
        seconds=time.monotonic() - began,
    )


def summary(found: Sequence[Found]) -> str:
    """The figures of all seeds in two sentences."""
    margins, seconds = sorted(one.margin for one in found), [one.seconds for one in found]
    beaten = sum(one.margin > 0 for one in found)
    low, high = quantile(margins, 0.1), quantile(margins, 0.9)
    return (
        f"the best beats the default with {beaten} of {len(found)} seeds, "
        f"by {statistics.median(margins):.1%} (median; 10th percentile {low:.1%}, 90th {high:.1%}); "
        f"the default reaches {min(one.default for one in found):.4f} to "
        f"{max(one.default for one in found):.4f}\n"
        f"a sweep took {statistics.median(seconds):.0f} s (median; {min(seconds):.0f} to {max(seconds):.0f})"
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Linear between neighbours; ``ordered`` is ascending and not empty."""
    place = share * (len(ordered) - 1)
    left = int(place)
    right = min(left + 1, len(ordered) - 1)
    return ordered[left] + (place - left) * (ordered[right] - ordered[left])


if __name__ == "__main__":
    main()

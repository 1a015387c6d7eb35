"""Real training: with how many tokens `auto` reaches the loss that random full trials reach.

    python tests/benchmarks/tokens_to_loss.py --seeds 3 --log tokens.jsonl

The packaged model and data as in search_spaces/quickstart.yaml, with a learning rate from three decades, and
no history. First --random trials are drawn at random and trained to their ends; the rules of thumb, which
come first in every sweep, are left out of them. Then `auto` searches with the same seed, from the rules of
thumb, until a trial that was trained to its end is no worse than the best of those, or --trials were begun.
Its tokens are those of all its trials up to that moment, the paused ones too. Prints one line for each seed
and the median; exits with 1 where that is above a fifth of the random trials' tokens. With --log each
seed's figures are kept in a file, and one that stands there is not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sweeper.commands import run_sweep
from sweeper.search import TrialRecord

QUICKSTART = Path(__file__).parents[2] / "search_spaces" / "quickstart.yaml"
LR = "training.lr={log_uniform: [1.0e-5, 1.0e-2]}"
LIMIT = 0.2


@dataclass(frozen=True, kw_only=True)
class Found:
    """What one seed came to."""

    loss: float
    """The best of the random trials."""
    random_tokens: float
    auto_tokens: float
    """Infinite where it was never reached."""
    auto_loss: float
    """The best of all that it trained to the end."""
    seconds: float

    @property
    def share(self) -> float:
        return self.auto_tokens / self.random_tokens


def main() -> int:
    os.environ["SWEEPER_HISTORY"] = "off"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--random", type=int, default=40, help="random full trials")
    parser.add_argument("--trials", type=int, default=16, help="that auto may begin")
    parser.add_argument("--log", type=Path, help="one JSON line for each seed")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    found = logged(options.log)
    for seed in range(options.seeds):
        if seed in found:
            continue
        one = found[seed] = solve(seed, options.random, options.trials, options.overrides)
        print(
            f"seed {seed}: {options.random} random trials {one.loss:.4f} with {one.random_tokens:,.0f}, "
            f"auto with {one.auto_tokens:,.0f} tokens ({one.share:.0%}), at last {one.auto_loss:.4f}; "
            f"{one.seconds:.0f} s",
            flush=True,
        )
        if options.log is not None:
            with options.log.open("a", encoding="utf-8") as log:
                log.write(json.dumps({"seed": seed, **asdict(one)}) + "\n")
    share = statistics.median(found[seed].share for seed in range(options.seeds))
    print(f"auto needs {share:.0%} of the tokens (median of {options.seeds} seeds)")
    return int(share > LIMIT)


def logged(log: Path | None) -> dict[int, Found]:
    if log is None or not log.exists():
        return {}
    rows = map(json.loads, log.read_text(encoding="utf-8").splitlines())
    return {row.pop("seed"): Found(**row) for row in rows}


def solve(seed: int, random: int, trials: int, overrides: Sequence[str]) -> Found:
    began = time.monotonic()
    at_random = ["search.sampler=random", "search.stopper=none", f"search.trials={random + 1}"]
    drawn = [one for one in sweep(seed, [*at_random, *overrides]) if not one.is_default]
    loss = min((one.final_value for one in drawn if one.final_value is not None), default=math.inf)
    searched = sweep(seed, [f"search.trials={trials}", *overrides])
    return Found(
        loss=loss,
        random_tokens=sum(tokens for one in drawn for _, tokens in trained(one)),
        auto_tokens=tokens_until(searched, loss),
        auto_loss=min((one.final_value for one in searched if one.final_value is not None), default=math.inf),
        seconds=time.monotonic() - began,
    )


def sweep(seed: int, overrides: Sequence[str]) -> list[TrialRecord]:
    with tempfile.TemporaryDirectory() as folder:
        seeds = [f"search.seed={seed}", f"training.seed={seed}"]
        return list(run_sweep(QUICKSTART, overrides=[LR, *seeds, *overrides], out=Path(folder) / "s").trials)


def tokens_until(trials: Sequence[TrialRecord], loss: float) -> float:
    """Tokens that all trials had trained when the first one ended with a loss no worse; infinite where none
    did."""
    ends = [
        one.evaluations[-1].time_s or math.inf
        for one in trials
        if one.final_value is not None and one.final_value <= loss
    ]
    if not ends:
        return math.inf
    first_s = min(ends)
    return sum(tokens for one in trials for time_s, tokens in trained(one) if time_s <= first_s)


def trained(trial: TrialRecord) -> list[tuple[float, int]]:
    """When each evaluation was made, and the tokens that were trained for it: none where another trial had
    trained them."""
    before, steps = trial.saved_tokens, []
    for evaluation in trial.evaluations:
        steps.append((evaluation.time_s or 0.0, max(0, evaluation.tokens - before)))
        before = max(before, evaluation.tokens)
    return [] if trial.same_as is not None else steps


if __name__ == "__main__":
    sys.exit(main())

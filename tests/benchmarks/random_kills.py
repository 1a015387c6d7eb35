"""Sweeps whose driver is killed (SIGKILL) at random moments and resumed, again and again, to their end.

    python tests/benchmarks/random_kills.py --kills 20
    python tests/benchmarks/random_kills.py --kills 10 --kills-per-sweep 10 --trials 8 --evaluations 8

The second sweep is long enough for trials to be paused and to go on again; how many did is printed.
One undisturbed sweep is the measure. Each further one is killed at moments drawn from a seed, resumed
each time, and left alone at last. Prints what was killed, resumed, lost, run again, left behind and
repeated, and exits with 1 when anything was lost, run again or left behind, when the end is not that of
the undisturbed sweep, or when more than one evaluation interval of a trial was trained again per kill.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from sweeper.commands import open_sweep
from sweeper.quickstart import DATA_FILE
from sweeper.search import TrialRecord
from sweeper.space import SweepFolder
from sweeper.track import read_trials, tracking_uri
from sweeper.training.ranks.processes import is_running, marked

ROWS = 240
GONE_WITHIN_S = 15.0


@dataclass
class Tally:
    """What came of the kills."""

    killed: int = 0
    resumed: int = 0
    lost: int = 0
    run_again: int = 0
    orphans: int = 0
    steps_repeated: int = 0
    worst_repeat: int = 0
    wrong_ends: int = 0

    def is_clean(self, interval: int) -> bool:
        broken = self.lost + self.run_again + self.orphans + self.wrong_ends
        return broken == 0 and self.killed == self.resumed and self.worst_repeat <= interval


def main() -> int:
    os.environ["SWEEPER_HISTORY"] = "off"  # no sweep begins with what another one found
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--evaluations", type=int, default=4, help="of each trial")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills-per-sweep", type=int, default=4)
    options = parser.parse_args()
    draw, tally = random.Random(options.seed), Tally()
    with tempfile.TemporaryDirectory() as work:
        space = write_space(Path(work), options.trials, options.evaluations)
        began = time.monotonic()
        measure = SweepFolder(Path(work) / "undisturbed")
        finish(start("run", space, "--out", measure.root))
        sweep_s = time.monotonic() - began
        wanted, interval = ends(measure), interval_steps(measure)
        print(
            f"undisturbed: {sweep_s:.0f} s, {options.trials} trials, an evaluation every {interval} steps; "
            f"{pauses(measure)}",
            flush=True,
        )
        sweep = 0
        while tally.killed < options.kills:
            folder = SweepFolder(Path(work) / f"sweep-{sweep}")
            kills = min(options.kills_per_sweep, options.kills - tally.killed)
            disturb(folder, space, [draw.uniform(0.5, sweep_s * 0.8) for _ in range(kills)], tally)
            tally.wrong_ends += ends(folder) != wanted or not mlflow_agrees(folder)
            sweep += 1
    print(
        f"killed {tally.killed}, resumed {tally.resumed}, finished trials lost {tally.lost}, finished trials "
        f"run again {tally.run_again}, orphans {tally.orphans}, evaluated steps repeated "
        f"{tally.steps_repeated} (at most {tally.worst_repeat} by one kill, an evaluation interval is "
        f"{interval}), sweeps with another end {tally.wrong_ends}"
    )
    return 0 if tally.is_clean(interval) else 1


def has_ended(driver: subprocess.Popen[bytes], wait_s: float, folder: SweepFolder) -> bool:
    """Within so many seconds, which is said then."""
    try:
        driver.wait(wait_s)
    except subprocess.TimeoutExpired:
        return False
    print(f"  {folder.root.name}: it had ended before {wait_s:.1f} s", flush=True)
    return True


def count_kill(folder: SweepFolder, how: str, finished: dict[int, TrialRecord], tally: Tally) -> None:
    """Add what a kill has cost, and say how the trials stand; ``finished`` are those known to have ended."""
    tally.killed += 1
    trials = trials_of(folder)
    compare(finished, trials, tally)
    repeated = [steps_to_repeat(folder, trial) for trial in trials if not trial.state.is_finished]
    tally.steps_repeated += sum(repeated)
    tally.worst_repeat = max([tally.worst_repeat, *repeated])
    states = ", ".join(f"{trial.state.value} {len(trial.evaluations)}" for trial in trials)
    print(f"  {folder.root.name}: {how}; trials: {states or 'none'}", flush=True)


def disturb(folder: SweepFolder, space: Path, after_s: list[float], tally: Tally) -> None:
    """Kill the sweep's driver after each of these times, resume it, and let the last one finish."""
    process, finished = start("run", space, "--out", folder.root), dict[int, TrialRecord]()
    for wait_s in after_s:
        if has_ended(process, wait_s, folder):
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        tally.orphans += len(still_alive(marked(folder.processes_dir)))
        count_kill(folder, f"killed after {wait_s:.1f} s", finished, tally)
        is_stored = folder.space_file.exists()
        process = start("resume", folder.root) if is_stored else start("run", space, "--out", folder.root)
        tally.resumed += 1
    finish(process)
    compare(finished, trials_of(folder), tally)


def compare(finished: dict[int, TrialRecord], trials: list[TrialRecord], tally: Tally) -> None:
    """What was finished once is there for ever, as it was; then take in what is finished now."""
    now = {trial.number: trial for trial in trials}
    for number, trial in finished.items():
        tally.lost += number not in now
        tally.run_again += number in now and now[number] != trial
    finished |= {number: trial for number, trial in now.items() if trial.state.is_finished}


def steps_to_repeat(folder: SweepFolder, trial: TrialRecord) -> int:
    """Steps up to the last evaluation in the ledger that the trial's newest state does not have."""
    states = sorted(folder.trial_checkpoints(trial.number).glob("step-*"))
    kept = int(states[-1].name.removeprefix("step-")) if states else 0
    measured = trial.evaluations[-1].step if trial.evaluations else 0
    return max(0, measured - kept)


def write_space(folder: Path, trials: int, evaluations: int) -> Path:
    rows = folder / "train.jsonl"
    rows.write_text("\n".join(DATA_FILE.read_text(encoding="utf-8").split("\n")[:ROWS]), encoding="utf-8")
    file = folder / "space.yaml"
    tree = {
        "name": "kills",
        "model_path": "builtin:quickstart",
        "data_path": str(rows),
        "eval_data": 0.2,
        "training": {
            "lr": {"log_uniform": [1e-4, 1e-2]},
            "scheduler": ["constant", "cosine"],
            "epochs": 6,
            "per_device_batch_size": 8,
            "max_seq_len": 96,
        },
        "deepspeed": {"zero_stage": 0, "precision": "fp32"},
        "objective": {"evaluations": evaluations},
        "search": {"trials": trials, "seed": 0},
        "resources": {"max_concurrent": 1},
    }
    file.write_text(json.dumps(tree))
    return file


def start(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sweeper", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    if status := process.wait():
        raise SystemExit(f"a sweep ended with {status}")


def trials_of(folder: SweepFolder) -> list[TrialRecord]:
    if not folder.space_file.exists() or not folder.study_file.exists():
        return []
    try:
        return open_sweep(folder)[1].trials()
    except OSError:  # killed before the study was in it
        return []


def ends(folder: SweepFolder) -> list[Any]:
    return [
        (trial.number, trial.state, trial.values, [e.metrics["eval/loss"] for e in trial.evaluations])
        for trial in trials_of(folder)
    ]


def pauses(folder: SweepFolder) -> str:
    """How many trials are paused, and how many went on after a pause."""
    from optuna import load_study

    trials = load_study(study_name="kills", storage=folder.study_url).get_trials()
    noted = [trial.user_attrs["paused"] for trial in trials if "paused" in trial.user_attrs]
    return f"{sum(map(bool, noted))} trials are paused, {noted.count(None)} went on after a pause"


def interval_steps(folder: SweepFolder) -> int:
    steps = [0, *(evaluation.step for evaluation in trials_of(folder)[0].evaluations)]
    return max(after - before for before, after in pairwise(steps))


def mlflow_agrees(folder: SweepFolder) -> bool:
    """Each trial once, ended as in the ledger, with its curve."""
    space, ledger = open_sweep(folder)
    tracked = read_trials(tracking_uri(space.settings, folder.root), space.experiment)
    curves = {one.number: [value for tokens, value in one.history["eval/loss"] if tokens] for one in tracked}
    wanted = {one.number: [e.metrics["eval/loss"] for e in one.evaluations] for one in ledger.trials()}
    closed = {"COMPLETE": "FINISHED", "FAIL": "FAILED"}  # a paused one is KILLED there
    states = {one.number: closed.get(one.state.value, "KILLED") for one in ledger.trials()}
    return curves == wanted and {one.number: one.status for one in tracked} == states


def still_alive(pids: list[int]) -> list[int]:
    deadline = time.monotonic() + GONE_WITHIN_S
    while (alive := [pid for pid in pids if is_running(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return alive


if __name__ == "__main__":
    raise SystemExit(main())

"""The head of a cluster is lost at random moments, with Ray's state and the driver; another one starts in its
place, and the same command goes on with the sweep.

    python tests/benchmarks/head_kills.py --kills 20        # Linux, as root: see hosts.py

The ranks are on another node, which stays: what a driver has left at work there has to end by itself.
Prints what was killed, lost, run again and repeated; exits with 1 where anything was lost or run again, where
the end is not that of an undisturbed sweep, where more than one evaluation interval was trained again by one
kill, or where ranks of an earlier driver were still there when the next one's began to train.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import tempfile
import time
from pathlib import Path

from cluster import QUIET, join, start_head, start_ray, sweep
from hosts import Host, Network
from random_kills import Tally, compare, count_kill, ends, has_ended, interval_steps, trials_of

from sweeper.search import TrialRecord
from sweeper.space import SweepFolder

ASKED = {"trials": 3, "evaluations": 6, "epochs": 12, "resources": {"max_concurrent": 1}}
GONE_WITHIN_S = 120.0


def main() -> int:
    os.environ.update(QUIET)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--kills-per-sweep", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw, tally = random.Random(options.seed), Tally()
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="head-kills-") as folder:
        work = Path(folder)
        with Network(work) as network:
            head, node = start_ray(network, 1)
            began = time.monotonic()
            finish(sweep(head, work, out="undisturbed", **ASKED))
            sweep_s = time.monotonic() - began
            measure = SweepFolder(work / "undisturbed")
            wanted, interval = ends(measure), interval_steps(measure)
            print(f"undisturbed: {sweep_s:.0f} s, an evaluation every {interval} steps", flush=True)
            number = 0
            while tally.killed < options.kills:
                out = f"sweep-{number}"
                kills = min(options.kills_per_sweep, options.kills - tally.killed)
                moments = [draw.uniform(1.0, 0.7 * sweep_s) for _ in range(kills)]
                disturb(head, node, work, out, moments, tally)
                is_other = ends(SweepFolder(work / out)) != wanted
                tally.wrong_ends += is_other
                print(f"  {out}: {'another end' * is_other or 'the same end as undisturbed'}", flush=True)
                number += 1
    print(
        f"heads killed {tally.killed}, sweeps begun or resumed again {tally.resumed}, finished trials lost "
        f"{tally.lost}, finished trials run again {tally.run_again}, ranks left {tally.orphans}, evaluated "
        f"steps repeated {tally.steps_repeated} (at most {tally.worst_repeat} by one kill; an evaluation "
        f"interval is {interval}), sweeps with another end {tally.wrong_ends}"
    )
    return 0 if tally.is_clean(interval) else 1


def disturb(head: Host, node: Host, work: Path, out: str, moments_s: list[float], tally: Tally) -> None:
    """Lose the head after each of these times, and let the last driver finish."""
    driver, finished = sweep(head, work, out=out, **ASKED), dict[int, TrialRecord]()
    folder = SweepFolder(work / out)
    for moment_s in moments_s:
        if has_ended(driver, moment_s, folder):
            break
        head.kill()
        left = ranks_on(node)
        count_kill(folder, f"the head was lost after {moment_s:.1f} s", finished, tally)
        head.boot_again()
        start_head(head)
        join(node, head, 1)
        driver = sweep(head, work, out=out, **ASKED)
        tally.resumed += 1
        tally.orphans += len(left & still_there(node, left))
    finish(driver)
    compare(finished, trials_of(folder), tally)


def ranks_on(node: Host) -> set[str]:
    """Process ids of ranks, and of what waits for them."""
    return set(node.run("sh", "-c", "pgrep -f '^ray::(_Rank|TrialRunner)' || true").split())


def still_there(node: Host, ranks: set[str]) -> set[str]:
    deadline = time.monotonic() + GONE_WITHIN_S
    while (alive := ranks & ranks_on(node)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return alive


def finish(driver: subprocess.Popen[bytes]) -> None:
    if status := driver.wait():
        raise SystemExit(f"a sweep ended with {status}")


if __name__ == "__main__":
    raise SystemExit(main())

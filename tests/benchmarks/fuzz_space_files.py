"""Broken space files through ``sweeper validate`` and ``sweeper run``: each is refused at once, none hurts.

    python tests/benchmarks/fuzz_space_files.py                     # the kept files and 2,000 generated ones
    python tests/benchmarks/fuzz_space_files.py --generated 20000 --seed 7

The kept files are those of tests/space/corpus and space_corpus.py; the generated ones are good files broken
at random, the same for the same seed. A generated file that is still valid must be accepted by ``validate``
and is not run. A few kept files also go through a process of their own. Prints the counts and the slowest
command; names every file that breaks the claim, keeps it in --keep, and exits with 1 when there is one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "space"))

from cli_worker import CommandLine, Outcome
from space_corpus import furnish, kept_files
from space_mutations import mutations

LIMIT_S = 2.0
"""Of the process's own time, for one command; wall time is told beside it."""


class Tally:
    """What became of the commands."""

    def __init__(self, keep: Path | None) -> None:
        self.counts: Counter[str] = Counter()
        self.slowest_cpu, self.slowest_wall = (0.0, ""), (0.0, "")
        self.peak_memory_mib = 0.0
        self._keep = keep

    def add(self, outcome: Outcome, what: str, content: bytes, *, expected: tuple[int, ...]) -> None:
        self.slowest_cpu = max(self.slowest_cpu, (outcome.cpu_s, what))
        self.slowest_wall = max(self.slowest_wall, (outcome.wall_s, what))
        self.peak_memory_mib = max(self.peak_memory_mib, outcome.peak_memory_mib)
        kind = kind_of(outcome, expected)
        self.counts[kind] += 1
        if kind not in ("refused with 2", "accepted"):
            self._tell(kind, what, content, outcome)

    def _tell(self, kind: str, what: str, content: bytes, outcome: Outcome) -> None:
        print(f"{kind}: {what}\n{outcome.told[-2000:]}", file=sys.stderr)
        if self._keep:
            self._keep.mkdir(parents=True, exist_ok=True)
            (self._keep / f"{self.counts.total():06}.yaml").write_bytes(content)

    @property
    def is_good(self) -> bool:
        return not self.counts.keys() - {"refused with 2", "accepted"}


def kind_of(outcome: Outcome, expected: tuple[int, ...]) -> str:
    if outcome.status is None:
        return "hang" if outcome.hung else "traceback"
    if outcome.status not in expected:
        return f"status {outcome.status} instead of {expected[0]}"
    if outcome.cpu_s > LIMIT_S:
        return "too slow"
    return "refused with 2" if outcome.status == 2 else "accepted"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--generated", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--processes", type=int, default=20, help="kept files that go through their own process"
    )
    parser.add_argument("--keep", type=Path, help="where files that break the claim are kept")
    arguments = parser.parse_args()
    tally = Tally(arguments.keep)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        furnish(folder)
        before = listed(folder)
        with CommandLine(folder) as command:
            kept = through_kept(folder, command, tally)
            valid = through_generated(folder, command, tally, arguments)
        processes = own_processes(folder, arguments.processes)
        left = sorted(listed(folder) - before)
    print(
        f"files:            {kept + arguments.generated:,} ({kept:,} kept, {arguments.generated:,} generated)"
    )
    print(f"commands:         {tally.counts.total():,}")
    for kind, count in sorted(tally.counts.items()):
        print(f"  {kind + ':':<24}{count:,}")
    print(f"still valid:      {valid:,} generated files, accepted by validate and not run")
    print(f"tracebacks:       {tally.counts['traceback']}")
    print(f"hangs:            {tally.counts['hang']}")
    print(f"slowest, CPU:     {tally.slowest_cpu[0]:.2f} s ({tally.slowest_cpu[1]})")
    print(f"slowest, wall:    {tally.slowest_wall[0]:.2f} s ({tally.slowest_wall[1]})")
    print(f"peak memory:      {tally.peak_memory_mib:.0f} MiB")
    print(f"own processes:    {processes[0]} of {processes[1]} refused with 2 and without a traceback")
    print(f"left behind:      {', '.join(left) or 'nothing'}")
    return 0 if tally.is_good and processes[0] == processes[1] and not left else 1


def through_kept(folder: Path, command: CommandLine, tally: Tally) -> int:
    files = kept_files()
    for bad in files:
        content = write(folder, bad.make())
        first = 0 if bad.only_run else 2
        tally.add(command("validate", "s.yaml"), f"validate, {bad.title}", content, expected=(first,))
        tally.add(command("run", "s.yaml"), f"run, {bad.title}", content, expected=(2,))
    return len(files)


def through_generated(folder: Path, command: CommandLine, tally: Tally, arguments: argparse.Namespace) -> int:
    valid = 0
    for title, generated in mutations(arguments.generated, arguments.seed):
        content = write(folder, generated)
        outcome = command("validate", "s.yaml")
        tally.add(outcome, f"validate, {title}", content, expected=(2, 0))
        if outcome.status == 0:
            valid += 1
        else:
            tally.add(command("run", "s.yaml"), f"run, {title}", content, expected=(2,))
    return valid


def own_processes(folder: Path, count: int) -> tuple[int, int]:
    """How many of so many kept files, spread evenly, end as they should in a process of their own."""
    good = 0
    for number, content in enumerate(spread(count)):
        write(folder, content)
        words = ("validate", "run")[number % 2]
        done = subprocess.run(
            [sys.executable, "-m", "sweeper", words, "s.yaml"], cwd=folder, capture_output=True, timeout=120
        )
        good += done.returncode == 2 and b"Traceback" not in done.stderr
    (folder / "s.yaml").unlink(missing_ok=True)
    return good, count


def spread(count: int) -> Iterator[bytes]:
    files = [bad for bad in kept_files() if not bad.only_run]
    return (files[index * len(files) // count].make() for index in range(count))


def write(folder: Path, content: bytes) -> bytes:
    (folder / "s.yaml").write_bytes(content)
    return content


def listed(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"__pycache__"}


if __name__ == "__main__":
    sys.exit(main())

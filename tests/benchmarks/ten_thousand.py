"""What ten thousand trials cost the driver, and how much of their time the workers wait for it.

    python tests/benchmarks/ten_thousand.py                 # both databases, and Ray Tune beside them
    python tests/benchmarks/ten_thousand.py --trials 1000 --workers 200 --databases sqlite --ray none

The product's own driver (recorder, ledger, queue, `sampler: auto`, `stopper: auto`, files) serves simulated
trainers; Ray is left out. Training takes simulated seconds. What the driver does takes the seconds that it
takes here (CPU seconds of this thread with --cpu, where others use the machine, too), one thing after
another, and a worker that has something to tell waits until it is answered. Trials take --trial-s in the
mean, longer and shorter by a log-normal factor of 1.5, with --evaluations each. All workers ask at once at
the beginning, which is in the figure. With --mlflow each trial is mirrored, too, and the store is asked for
1,000 runs afterwards. With --ray Ray Tune runs as many function trainables that report as often and do
nothing else, as many at once, with its own random search or OptunaSearch, on the CPUs of this machine. With
--part only the first and the last so many trials are run: those between are copies, with other values, that
are put into the database at once, and a new driver goes on from there.

Prints milliseconds for each trial by part, over the first and the last tenth, the share of waiting, and the
seconds in all; exits with 1 where a trial of the last tenth costs more than 50 ms or twice one of the first,
where workers wait 5 % of their time or more, where Ray Tune takes less, or where MLflow is a minute behind.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command does, before numpy is imported

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from optuna.distributions import distribution_to_json
from postgres_server import Postgres, find_programs
from simulated_trainers import SPACE, Driver, Trainers, simulate, space_of

from sweeper.search import Ledger, make_stopper
from sweeper.space import Space, SweepFolder
from sweeper.sweep.mirror import Mirror
from sweeper.sweep.recorder import Recorder

WAITING, MS_PER_TRIAL, GROWTH, MLFLOW_BEHIND_S = 0.05, 50.0, 2.0, 60.0


@dataclass(kw_only=True)
class Run:
    """What one sweep came to."""

    database: str
    trials: int
    part: int | None
    """Only the first and the last so many were run; the others are copies."""
    driver: Driver
    trained_s: float = 0.0
    all_s: float = 0.0
    """Of the driver, from the first question to the last answer."""
    mlflow: str = ""
    mlflow_behind_s: float = 0.0

    @property
    def waiting(self) -> float:
        return self.driver.waited_s / (self.driver.waited_s + self.trained_s)

    def ends(self) -> list[tuple[int, int]]:
        """The first tenth of the trials and the last one, or the first and last part."""
        tenth = self.part or max(self.trials // 10, 1)
        return [(0, tenth), (self.trials - tenth, self.trials)]

    def rows(self) -> Iterator[str]:
        ends = self.ends()
        for part in sorted(self.driver.parts):
            ms = [self.driver.ms_per_trial(part, *end) for end in ends]
            yield f"  {part:22} {ms[0]:8.1f} {ms[1]:8.1f}"
        ms = [self.ms(end) for end in ends]
        yield f"  {'a trial in all':22} {ms[0]:8.1f} {ms[1]:8.1f}"

    def ms(self, end: tuple[int, int]) -> float:
        return sum(self.driver.ms_per_trial(part, *end) for part in self.driver.parts)

    def faults(self) -> Iterator[str]:
        first, last = map(self.ms, self.ends())
        if last > MS_PER_TRIAL:
            yield f"{self.database}: a trial costs {last:.0f} ms at the end, {MS_PER_TRIAL:.0f} are allowed"
        if last > GROWTH * first:
            yield f"{self.database}: it costs {last / first:.1f} times as much at the end"
        if self.waiting >= WAITING:
            yield f"{self.database}: workers wait {self.waiting:.1%} of their time"
        if self.mlflow_behind_s > MLFLOW_BEHIND_S:
            yield f"{self.database}: MLflow is {self.mlflow_behind_s:.0f} s behind"


def run_sweep(url: str | None, name: str, trials: int, chosen: argparse.Namespace) -> Run:
    driver, part = Driver(time.thread_time if chosen.cpu else time.perf_counter), chosen.part or trials
    overrides = [
        f"search.sampler={chosen.sampler}",
        f"search.stopper={chosen.stopper}",
        f"objective.evaluations={chosen.evaluations}",
    ]
    run = Run(database=name, trials=trials, part=chosen.part, driver=driver)
    with tempfile.TemporaryDirectory() as root:
        folder = SweepFolder(Path(root) / "sweep")
        folder.root.mkdir()
        address = url or folder.study_url
        space = space_of(Path(root), [*overrides, f"search.trials={part}"])
        ledger = Ledger.create(address, space)
        ledger.note_sweep(id="benchmark")
        mirror = Mirror(space, folder, ledger) if chosen.mlflow else None
        if mirror is not None:
            folder.space_file.write_text(SPACE)
            mirror.replay()
        listeners = [] if mirror is None else [mirror.listener]

        def drive(space: Space, ledger: Ledger) -> None:
            began = driver.timer()
            recorder = Recorder(space, ledger, folder, make_stopper(space), listeners, data_dir=Path(root))
            trainers = Trainers(chosen.trial_s, chosen.evaluations)
            run.trained_s += simulate(recorder, driver, trainers, chosen.workers)
            run.all_s += driver.timer() - began
            ledger.close()

        drive(space, ledger)
        if part < trials:
            grow(Ledger.open(address, space), trials - part)
            driver.begun, driver.free_s = trials - part, 0.0
            space = space_of(Path(root), [*overrides, f"search.trials={trials}"])
            drive(space, Ledger.open(address, space))
        if mirror is not None:
            run.mlflow, run.mlflow_behind_s = follow(mirror)
        return run


def grow(ledger: Ledger, trials: int) -> None:
    """Put copies of the trials that are there into the database, with other values, up to so many."""
    from optuna.storages._rdb import models
    from sqlalchemy import insert, select

    storage, study_id, rng = ledger._storage, ledger._study_id, np.random.default_rng(0)
    known = storage.get_all_trials(study_id, deepcopy=False)
    numbers = range(len(known), trials)
    with storage._transaction() as session:
        session.execute(
            insert(models.TrialModel.__table__),
            [
                {
                    "number": number,
                    "study_id": study_id,
                    "state": known[number % len(known)].state,
                    "datetime_start": known[number % len(known)].datetime_start,
                    "datetime_complete": known[number % len(known)].datetime_complete,
                }
                for number in numbers
            ],
        )
        found = session.execute(select(models.TrialModel.number, models.TrialModel.trial_id))
        ids = {number: trial_id for number, trial_id in found if number in numbers}
        for number in numbers:
            one = known[number % len(known)]
            moved = {
                "lr": float(np.clip(one.params["lr"] * np.exp(0.3 * rng.standard_normal()), 1e-6, 1e-2)),
                "weight_decay": float(rng.random() * 0.2),
                "warmup_ratio": float(rng.random() * 0.2),
            }
            told = dict(one.user_attrs)
            training = told["config"]["training"] | moved
            told |= {"values": told["values"] | moved, "config": told["config"] | {"training": training}}
            told.pop("is_default", None)
            noise = 0.02 * abs(rng.standard_normal())
            for key in (one for one in told if one.startswith("evaluation/")):
                metrics = told[key]["metrics"]
                told[key] = told[key] | {"metrics": metrics | {"eval/loss": metrics["eval/loss"] + noise}}
            attributes = [
                {"trial_id": ids[number], "key": key, "value_json": json.dumps(value)}
                for key, value in told.items()
            ]
            session.execute(insert(models.TrialUserAttributeModel.__table__), attributes)
            params = [
                {
                    "trial_id": ids[number],
                    "param_name": key,
                    "param_value": span.to_internal_repr((one.params | moved)[key]),
                    "distribution_json": distribution_to_json(span),
                }
                for key, span in one.distributions.items()
            ]
            session.execute(insert(models.TrialParamModel.__table__), params)
    ledger.close()


def follow(mirror: Mirror) -> tuple[str, float]:
    """How long MLflow is behind, and how long a search of its runs takes."""
    began_s = time.monotonic()
    mirror.conclude("finished")
    warnings = mirror.close(3600.0)
    behind_s = time.monotonic() - began_s
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=mirror._tracker._uri)
    experiments = [one.experiment_id for one in client.search_experiments()]
    began_s = time.monotonic()
    found = client.search_runs(experiments, max_results=1000, order_by=["metrics.`eval/loss` ASC"])
    took_s = time.monotonic() - began_s
    content = mirror.content()
    written = "" if content is None else f"{content.trials} trials and {content.points} points, "
    said = "; ".join(
        [f"{written}{behind_s:.0f} s behind, a search of {len(found)} runs {took_s:.1f} s", *warnings]
    )
    return said, behind_s


def ray_tune_s(trials: int, chosen: argparse.Namespace) -> float:
    """The seconds that Ray Tune itself takes for as many trials of a trainable that only reports."""
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    evaluations = chosen.evaluations

    def train(config: dict[str, Any]) -> None:
        for done in range(1, evaluations + 1):
            tune.report({"loss": (math.log10(config["lr"]) + 3.5) ** 2 + 2.0 / (done + 1)})

    spans: dict[str, Any] = {
        "lr": tune.loguniform(1e-6, 1e-2),
        "scheduler": tune.choice(["constant", "linear", "cosine"]),
        "weight_decay": tune.uniform(0.0, 0.2),
        "warmup_ratio": tune.uniform(0.0, 0.2),
        "epochs": tune.choice([1, 2, 3]),
    }
    cpus = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as root:
        ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        own = chosen.ray == "optuna"
        tuner = tune.Tuner(
            tune.with_resources(train, {"cpu": cpus / chosen.workers}),
            param_space=None if own else spans,
            tune_config=tune.TuneConfig(
                num_samples=trials,
                max_concurrent_trials=chosen.workers,
                search_alg=OptunaSearch(spans, metric="loss", mode="min") if own else None,
                metric="loss",
                mode="min",
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(storage_path=root, name="ray", verbose=0),
        )
        began = time.perf_counter()
        tuner.fit()
        took_s = time.perf_counter() - began
        ray.shutdown()
    return took_s


@contextmanager
def databases(names: list[str]) -> Iterator[dict[str, Callable[[int], str | None]]]:
    """Name -> what gives the address of a new one for so many trials; None: in the sweep's folder."""
    found: dict[str, Callable[[int], str | None]] = {}
    if "sqlite" in names:
        found["SQLite"] = lambda trials: None
    programs = find_programs() if "postgresql" in names else None
    if programs is None:
        yield found
        return
    with Postgres(programs) as server:
        found["PostgreSQL"] = lambda trials: server.address(f"trials{trials}")
        yield found


def main() -> int:
    os.environ["SWEEPER_HISTORY"] = "off"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, nargs="+", default=[1000, 5000, 10_000])
    parser.add_argument("--part", type=int, help="run only the first and the last so many of all trials")
    parser.add_argument("--workers", type=int, default=256)
    parser.add_argument("--evaluations", type=int, default=6)
    parser.add_argument("--trial-s", type=float, default=600.0, help="seconds of a whole trial")
    parser.add_argument("--sampler", default="auto")
    parser.add_argument("--stopper", default="auto")
    parser.add_argument(
        "--databases", nargs="+", choices=["sqlite", "postgresql"], default=["sqlite", "postgresql"]
    )
    parser.add_argument("--ray", choices=["none", "random", "optuna"], default="random")
    parser.add_argument("--cpu", action="store_true", help="count CPU seconds of the driver")
    parser.add_argument("--mlflow", action="store_true")
    chosen = parser.parse_args()
    runs, faults = list[Run](), list[str]()
    with databases(chosen.databases) as found:
        for trials, (name, address) in itertools.product(chosen.trials, found.items()):
            run = run_sweep(address(trials), name, trials, chosen)
            first, last = run.ends()
            print(
                f"{name}, {trials:,} trials, {chosen.workers} at once: {run.all_s:.0f} s, workers waited "
                f"{run.waiting:.2%}\n  ms for each trial, "
                f"of {first[0]} to {first[1]} and {last[0]} to {last[1]}"
            )
            print("\n".join([*run.rows(), *([f"  MLflow: {run.mlflow}"] if run.mlflow else [])]), flush=True)
            runs.append(run)
            faults += run.faults()
    if chosen.ray != "none":
        trials = max(chosen.trials)
        took_s = ray_tune_s(trials, chosen)
        print(
            f"Ray Tune, {chosen.ray}, {trials:,} trials, {chosen.workers} at once: {took_s:.0f} s", flush=True
        )
        faults += [
            f"{run.database}: {run.all_s:.0f} s, Ray Tune takes less"
            for run in runs
            if run.trials == trials and not run.part and run.all_s >= took_s
        ]
    print("\n".join(faults) or "all within bounds")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())

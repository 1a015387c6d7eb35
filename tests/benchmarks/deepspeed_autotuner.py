"""What DeepSpeed's own Autotuner does on a CPU with a model, its data and a global batch.

    pip install -e '.[benchmark]'
    python tests/benchmarks/deepspeed_autotuner.py --global-batch 16 --max-micro-batch 8 --zero-stages 0 1

It runs ``deepspeed --autotuning tune`` on ``plain_deepspeed_sft.py`` (fp32, gloo, one process), with every
micro-batch at the same global batch: powers of two that divide it, accumulation making up the rest. Then
it trains with the configuration that was chosen and measures real (non-padding) tokens per second, which
compares with ``perf/tokens_per_s``. Prints a table and one JSON line; exits with 1 without an optimum.

``tune`` and not ``run``: the latter starts its choice with the experiment's configuration, autotuning
section and all, so that the training ends itself after the steps that are timed. Its own samples per
second are no measure of ours: they take the time of a whole optimizer step, accumulated rows or not,
for each micro-batch, and one of the timed steps runs under a profiler.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from sweeper.data import model_folder
from sweeper.quickstart import DATA_FILE

USER_SCRIPT = Path(__file__).with_name("plain_deepspeed_sft.py")
FIRST_TIMED_STEP = 3
"""The Autotuner's default."""
MEASURED_STEPS = 20
"""Of the training with its choice; the first two are left out."""
ANY_STEPS = 1_000_000
"""An experiment ends itself when it has timed its steps."""

Outcome = Literal["optimum", "no optimal config", "time limit", "crash"]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One run of the user's script under the Autotuner."""

    name: str
    zero_stage: int
    micro_batch: int
    accumulation: int
    wall_s: float | None
    """None where it was ended by the time limit."""
    samples_per_s: float | None
    """The Autotuner's own figure; None for its profile run, and where there was an error."""
    error: str
    """The last line that it wrote to stderr; empty where there was none."""


@dataclass(frozen=True, kw_only=True)
class AutotunerResult:
    outcome: Outcome
    wall_s: float
    """Of the tuning, without the training that follows it."""
    experiments: tuple[Experiment, ...]
    """In the order in which they ran; the first is the profile run."""
    errors: int
    """Experiments that failed."""
    optimum: Experiment | None
    """What it says is best, even where that run failed."""
    tokens_per_s: float | None
    """Real (non-padding) tokens of the optimum, measured in a run of its own without profiler."""
    detail: str
    """How the log ends where the outcome is a crash, or where the optimum's own run failed."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path(model_folder("builtin:quickstart")))
    parser.add_argument("--data", type=Path, default=DATA_FILE, help="JSONL of prompt/completion or messages")
    parser.add_argument("--max-seq-len", type=int, default=128)
    parser.add_argument("--global-batch", type=int, default=16, help="rows of an optimizer step")
    parser.add_argument("--max-micro-batch", type=int, default=16)
    parser.add_argument("--zero-stages", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--steps", type=int, default=3, help="steps that an experiment is timed over")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--time-limit-s", type=float, default=1800.0)
    parser.add_argument("--log-file", type=Path, help="all output; default: a file that is not kept")
    arguments = vars(parser.parse_args())
    result = run_autotuner(arguments.pop("model"), **arguments)
    print(table(result))
    print(json.dumps(result.to_dict()))
    return 0 if result.outcome == "optimum" else 1


def run_autotuner(
    model: Path,
    *,
    data: Path = DATA_FILE,
    max_seq_len: int,
    global_batch: int,
    max_micro_batch: int,
    zero_stages: Sequence[int] = (0, 1, 2, 3),
    steps: int = 3,
    threads: int,
    time_limit_s: float = 1800.0,
    log_file: Path | None = None,
) -> AutotunerResult:
    """Tunes within ``time_limit_s``, then measures what was chosen (within the same limit again).

    ``steps`` are the optimizer steps that an experiment is timed over, ``threads`` those of torch. All
    output goes to ``log_file``, which is begun anew."""
    with tempfile.TemporaryDirectory(prefix="ds-autotuner-") as name:
        work = Path(name)
        log = (log_file or work / "log.txt").resolve()
        log.write_bytes(b"")
        config, report = work / "ds_config.json", work / "report.json"
        micro_batches = micro_batches_of(global_batch, max_micro_batch)
        config.write_text(json.dumps(user_config(work, global_batch, micro_batches, zero_stages, steps)))
        environment = environment_of(work)

        def deepspeed(options: list[str], ds_config: Path, script_options: list[str]) -> int | None:
            script = [str(USER_SCRIPT), "--model", str(model.resolve()), "--data", str(data.resolve())]
            script += ["--max-seq-len", str(max_seq_len), "--threads", str(threads), *script_options]
            command = [*options, *launcher(), *script, "--deepspeed_config", str(ds_config)]
            return run_group(command, work, environment, log, time_limit_s)

        began = time.monotonic()
        status = deepspeed(["--autotuning", "tune"], config, ["--steps", str(ANY_STEPS)])
        result = read_result(work, log, status, time.monotonic() - began)
        if result.outcome != "optimum":
            return result
        measured = ["--steps", str(MEASURED_STEPS), "--report", str(report)]
        status = deepspeed([], work / "results" / "ds_config_optimal.json", measured)
        if status != 0 or not report.is_file():
            return replace(result, detail=f"the chosen configuration was not measured: {last_line(log)}")
        return replace(result, tokens_per_s=json.loads(report.read_text())["tokens_per_s"])


def micro_batches_of(global_batch: int, most: int) -> list[int]:
    """Powers of two up to ``most`` that divide the global batch."""
    powers = (2**exponent for exponent in range(most.bit_length()))
    return [one for one in powers if one <= most and global_batch % one == 0]


def user_config(
    work: Path, global_batch: int, micro_batches: list[int], zero_stages: Sequence[int], steps: int
) -> dict[str, Any]:
    """A list of micro-batches is tried at one global batch: the largest of them x accumulation."""
    return {
        "train_micro_batch_size_per_gpu": micro_batches,
        "gradient_accumulation_steps": global_batch // micro_batches[-1],
        "gradient_clipping": 1.0,
        "zero_optimization": {"stage": list(zero_stages)},
        "zero_allow_untested_optimizer": True,
        "autotuning": {
            "enabled": True,
            "results_dir": str(work / "results"),
            "exps_dir": str(work / "experiments"),
            "start_profile_step": FIRST_TIMED_STEP,
            "end_profile_step": FIRST_TIMED_STEP + steps - 1,
        },
    }


def environment_of(work: Path) -> dict[str, str]:
    """With a real MLflow run, which the Autotuner asks for wherever mlflow is installed, and a ``pdsh`` that
    does nothing: it would have every process ended whose command line holds an experiment's name."""
    from mlflow import MlflowClient

    pdsh = work / "bin" / "pdsh"
    pdsh.parent.mkdir()
    pdsh.write_text("#!/bin/sh\nexit 0\n")
    pdsh.chmod(0o755)
    store = f"sqlite:///{work / 'mlflow.db'}"
    run = MlflowClient(tracking_uri=store).create_run(experiment_id="0")
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(pdsh.parent), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "DS_ACCELERATOR": "cpu",
        "MLFLOW_TRACKING_URI": store,
        "MLFLOW_RUN_ID": run.info.run_id,
    }


def launcher() -> list[str]:
    """Options for one process; experiments count ports upwards from the first."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    return ["--include", "localhost:0", "--master_port", str(port)]


def run_group(
    arguments: list[str], work: Path, environment: dict[str, str], log: Path, time_limit_s: float
) -> int | None:
    """The exit status of ``deepspeed``, or None where the time limit ended it and its process group."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["deepspeed", *arguments],
            cwd=work,
            env=environment,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            return process.wait(timeout=time_limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def read_result(work: Path, log: Path, status: int | None, wall_s: float) -> AutotunerResult:
    """What the Autotuner left in its folder and in the log."""
    results = work / "results"
    times = times_of(log)
    folders = [results / name for name in times if (results / name / "exp.json").is_file()]
    experiments = tuple(experiment(folder, times[folder.name]) for folder in folders)
    best = re.search(r"(\S+) is the optimal setup after tuning", log.read_text(errors="replace"))
    optimum = next((one for one in experiments if best and one.name == best[1]), None)
    tuned: Outcome = "optimum" if optimum else "no optimal config"
    outcome: Outcome = "time limit" if status is None else "crash" if status else tuned
    return AutotunerResult(
        outcome=outcome,
        wall_s=wall_s,
        experiments=experiments,
        errors=sum(bool(one.error) for one in experiments),
        optimum=optimum,
        tokens_per_s=None,
        detail=last_line(log) if outcome == "crash" else "",
    )


def times_of(log: Path) -> dict[str, float | None]:
    """Seconds of each experiment, in the order of their starts; None for one that did not end."""
    line = re.compile(r"\[(\S+ \S+),\d+\] .*(Launching|Done running) exp_id = \d+, exp_name = ([^,\s]+)")
    started: dict[str, datetime] = {}
    seconds: dict[str, float | None] = {}
    for moment, what, name in line.findall(log.read_text(errors="replace")):
        at = datetime.fromisoformat(moment)
        if what == "Launching":
            started[name], seconds[name] = at, None
        elif name in started:
            seconds[name] = (at - started[name]).total_seconds()
    return seconds


def experiment(folder: Path, wall_s: float | None) -> Experiment:
    config = json.loads((folder / "exp.json").read_text())["ds_config"]
    metrics = folder / "metrics.json"
    done = metrics.is_file() or (folder / "model_info.json").is_file()
    return Experiment(
        name=folder.name,
        zero_stage=config["zero_optimization"]["stage"],
        micro_batch=config["train_micro_batch_size_per_gpu"],
        accumulation=config["gradient_accumulation_steps"],
        wall_s=wall_s,
        samples_per_s=json.loads(metrics.read_text())["throughput"] if metrics.is_file() else None,
        error="" if done or wall_s is None else last_line(folder / "stderr.log"),
    )


def last_line(file: Path) -> str:
    lines = file.read_text(errors="replace").strip().splitlines() if file.is_file() else []
    return lines[-1].strip() if lines else "no output"


def table(result: AutotunerResult) -> str:
    row = "{:24} {:>4} {:>19} {:>7} {:>13}  {}"
    lines = [row.format("experiment", "ZeRO", "rows x accumulation", "wall s", "its samples/s", "error")]
    for one in result.experiments:
        batch = f"{one.micro_batch} x {one.accumulation}"
        wall = "ended" if one.wall_s is None else f"{one.wall_s:.0f}"
        speed = "" if one.samples_per_s is None else f"{one.samples_per_s:.1f}"
        lines.append(row.format(one.name, one.zero_stage, batch, wall, speed, one.error))
    ran = f"{len(result.experiments)} experiments, {result.errors} failed"
    lines.append(f"{result.outcome} after {result.wall_s:.0f} s: {ran}")
    if result.optimum is not None and result.tokens_per_s is not None:
        lines.append(f"its choice: {result.optimum.name}, {result.tokens_per_s:.0f} real tokens/s")
    return "\n".join([*lines, *filter(None, [result.detail])])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends as well
    sys.exit(main())

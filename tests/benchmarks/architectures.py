"""Every causal language model class of the installed transformers, as a tiny random model, trained for real.

    python tests/benchmarks/architectures.py
    python tests/benchmarks/architectures.py --only lfm2,gpt_oss
    python tests/benchmarks/architectures.py --markdown docs/architectures.md

A model of each class is made from its config (two layers, or one of each kind, with windows and chunks of a
few tokens), and trained for a few steps in fp32 through RankWorker: as a whole, and with adapters on all
linear layers. Three differences of held-out loss are shown, in nats a token, each against plain transformers
that sees one row at a time: the untrained model's (rows together equal rows alone), the saved model's (saved
equals promised), and the merged model's. Each process proves one class after another; one that takes too long
or ends is replaced, and its class is an error. Exits with 1 where a class is neither proved nor refused by
name.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from architecture_proof import Proof, prove

ALLOWED, LIMIT_S, ROWS = 2e-5, 300.0, 48
MARK = "<!-- What follows is written by tests/benchmarks/architectures.py --markdown. -->"
ANSWER = "ANSWER "


def main() -> int:
    options = _options()
    if options.prover:
        return _answer_requests()
    from tiny_models import causal_types

    wanted = deque(options.only.split(",") if options.only else causal_types())
    began = time.monotonic()
    found = _proved(wanted, options.processes)
    print(_summary(found), f"in {(time.monotonic() - began) / 60:.0f} minutes")
    if options.markdown:
        _write(options.markdown, found)
    return int(any(_state(one) == "error" for one in found))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="", help="model types, with commas between them")
    parser.add_argument(
        "--markdown", type=Path, help="write the tables here, below what stands above the mark"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--prover", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


# One process that proves ------------------------------------------------------------------------


def _answer_requests() -> int:
    """A model type a line comes in; a proof as JSON a line goes out."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print
    warnings.filterwarnings("ignore")
    import transformers

    from sweeper.data import prepare
    from sweeper.quickstart import DATA_FILE
    from sweeper.space import Config
    from sweeper.training import Job
    from sweeper.training.ranks import worker

    transformers.logging.set_verbosity_error()
    worker.LogRedirect = lambda _: None
    rank = worker.RankWorker(0, 1, 1, "cpu")
    rank.join("127.0.0.1", rank.listen("127.0.0.1"))
    with tempfile.TemporaryDirectory() as name:
        cache = Path(name)
        lines = DATA_FILE.read_text(encoding="utf-8").split("\n")[:ROWS]
        (cache / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        config = Config.model_validate(_settings(cache / "rows.jsonl"))

        def job_of(config: Config, *, evaluate_untrained: bool = False) -> Job:
            return Job(
                config=config,
                cache_dir=cache,
                data_dir=prepare(config, cache).folder,
                log_file=cache / "log.txt",
                evaluate_untrained=evaluate_untrained,
            )

        for line in sys.stdin:
            proof = _proof(line.strip(), cache, rank, config, job_of)
            print(ANSWER + json.dumps(asdict(proof)), file=out, flush=True)
    return 0


def _proof(model_type: str, cache: Path, rank, config, job_of) -> Proof:
    try:
        return prove(model_type, cache / model_type, rank, config, job_of)
    except Exception as error:
        rank.stop()
        where = "" if (cache / model_type / "model").exists() else "cannot be made: "
        said = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        return Proof(model_type=model_type, kind=model_type, rows=f"{where or 'error: '}{said}")


def _settings(rows: Path) -> dict:
    return {
        "name": "architectures",
        "model_path": "builtin:quickstart",
        "data_path": str(rows),
        "eval_data": 0.25,
        "objective": {"evaluations": 1},
        "resources": {"max_concurrent": 1, "cpus_per_rank": 1, "gpus_per_rank": 0},
        "deepspeed": {"zero_stage": 0, "precision": "fp32"},
        "parallel": {"dp": 1},
        "training": {
            "lr": 1e-3,
            "scheduler": "constant",
            "final_lr_ratio": 0.0,
            "warmup_ratio": 0.0,
            "decay_ratio": 0.2,
            "epochs": 1,
            "per_device_batch_size": 8,
            "gradient_accumulation_steps": 1,
            "global_batch_size": 8,
            "max_seq_len": 96,
        },
    }


# All of them ------------------------------------------------------------------------------------


def _proved(wanted: deque[str], processes: int) -> list[Proof]:
    found: list[Proof] = []

    def work() -> None:
        prover = _Prover()
        while wanted:
            try:
                model_type = wanted.popleft()
            except IndexError:
                break
            found.append(prover.prove(model_type))
            print(_line(found[-1]), flush=True)
        prover.close()

    threads = [threading.Thread(target=work) for _ in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(found, key=lambda one: one.kind.lower())


class _Prover:
    """A process that is replaced when it ends or takes too long."""

    def __init__(self) -> None:
        self._process = self._started()

    def prove(self, model_type: str) -> Proof:
        self._process.stdin.write(f"{model_type}\n".encode())
        self._process.stdin.flush()
        until = time.monotonic() + LIMIT_S
        while select.select([self._process.stdout], [], [], max(0.0, until - time.monotonic()))[0]:
            line = self._process.stdout.readline().decode()
            if line.startswith(ANSWER):
                return Proof(**json.loads(line.removeprefix(ANSWER)))
            if not line:
                break
        ended = self._process.poll() is not None or until > time.monotonic()
        self.close()
        self._process = self._started()
        said = "its process ended" if ended else f"it took more than {LIMIT_S:.0f} s"
        return Proof(model_type=model_type, kind=model_type, rows=f"error: {said}")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, __file__, "--prover"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )


def _state(proof: Proof) -> str:
    if proof.refused:
        return "refused"
    if proof.rows.startswith("cannot be made"):
        return "not made"
    differences = [proof.together, proof.saved, 0.0 if proof.adapters_refused else proof.merged]
    return "proved" if all(one is not None and one <= ALLOWED for one in differences) else "error"


def _layout(proof: Proof) -> str:
    if "padded to the longest" in proof.rows:
        return "padded"
    return "one after another" if "one after another, each" in proof.rows else proof.rows


def _figures(proof: Proof) -> list[str]:
    return ["-" if one is None else f"{one:.0e}" for one in (proof.together, proof.saved, proof.merged)]


def _line(proof: Proof) -> str:
    figures = "  ".join(f"{one:>6}" for one in _figures(proof))
    return f"{_state(proof):9}{proof.kind:40}{figures}  {proof.refused or _layout(proof)}"


def _summary(found: Sequence[Proof]) -> str:
    states = [_state(one) for one in found]
    told = [
        f"{states.count(one)} {one}" for one in ("proved", "refused", "not made", "error") if one in states
    ]
    return f"{len(found)} classes: {', '.join(told)}"


def _write(file: Path, found: Sequence[Proof]) -> None:
    import transformers

    above = file.read_text(encoding="utf-8").partition(MARK)[0] if file.exists() else ""
    proved = [one for one in found if _state(one) == "proved"]
    lines = [
        f"{MARK}\n",
        f"## transformers {transformers.__version__}: {_summary(found)}\n",
        "| class | rows | together | saved | merged |",
        "|---|---|---|---|---|",
        *(f"| {' | '.join([one.kind, _layout(one), *_figures(one)])} |" for one in proved),
    ]
    notes = [f"- {one.kind}: {one.adapters_refused}" for one in proved if one.adapters_refused]
    for title, state in (("Refused", "refused"), ("Not made here", "not made"), ("Errors", "error")):
        told = [one for one in found if _state(one) == state]
        notes += [f"\n### {title}\n"] if told else []
        notes += [f"- {one.kind}: {one.refused.removeprefix(one.kind + ' ') or _layout(one)}" for one in told]
    file.write_text(above + "\n".join([*lines, "", *notes]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

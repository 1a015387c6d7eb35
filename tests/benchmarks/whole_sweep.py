"""A whole sweep against what users write today: Ray Tune, a function trainable, TRL's SFTTrainer with ZeRO-2.

    pip install -e '.[benchmark]'
    python tests/benchmarks/whole_sweep.py --rounds 2              # search_spaces/quickstart.yaml
    python tests/benchmarks/whole_sweep.py --space FILE --full 1.5 --to-loss 4

Each round: `sweeper run` with nothing stopped early, then the peer with the very configurations that it
tried, as many at once, on the same tokens, masks and evaluations, then `sweeper run` as it is (sampler
and stopper auto) from another seed. Prints

- the wall time of all configurations trained in full, from the command to its end, and the ratio;
- the held-out losses of both, by one yardstick;
- the time until a trial of the third reaches the loss of the peer's best, against the peer's whole time;
- where the seconds go: start, training, evaluation, the rest.

The peer is given its rows tokenized. History is off. Exits with 1 when a ratio is below its bar or the mean
losses are more than 1 % apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

QUICKSTART = Path(__file__).parents[2] / "search_spaces" / "quickstart.yaml"
SAME_LOSS = 0.01
IN_FULL = ("search.stopper=none",)
QUIET = {"SWEEPER_HISTORY": "off"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--space", type=Path, default=QUICKSTART)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--full", type=float, default=3.0, help="bar: all trained in full, x")
    parser.add_argument("--to-loss", type=float, default=8.0, help="bar: to the peer's best loss, x")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        run_peer(options.peer)
        return 0
    rounds = []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as work:
            rounds.append(one_round(number, Path(work), options))
    return verdict(rounds, options)


def verdict(rounds: list[dict[str, float]], options: argparse.Namespace) -> int:
    full, to_loss, apart = ([one[key] for one in rounds] for key in ("full", "to_loss", "apart"))
    print(f"\nin full: {_spread(full)} (bar {options.full}x); losses {max(apart):.2%} apart at most")
    print(f"to the peer's best loss: {_spread(to_loss)} (bar {options.to_loss}x)")
    missed = statistics.median(full) < options.full or statistics.median(to_loss) < options.to_loss
    return int(missed or max(apart) > SAME_LOSS)


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})"


def one_round(number: int, work: Path, options: argparse.Namespace) -> dict[str, float]:
    seeds = [f"search.seed={number}", f"training.seed={number}"]
    ours_s, began = sweep(options.space, work / "full", [*seeds, *IN_FULL, *options.overrides])
    trials = _trials(work / "full")
    peer = peers_run(work, trials)
    losses = [one["eval/loss"] for one in trials]
    mean, peers = statistics.mean(losses), statistics.mean(peer["losses"])
    print(f"\nround {number}: {len(trials)} configurations")
    print(f"  sweeper            {ours_s:6.1f} s   {_parts(work / 'full', began, ours_s)}")
    print(f"  Ray Tune and TRL   {peer['seconds']:6.1f} s   {_peers_parts(peer)}")
    print(
        f"  mean held-out loss {mean:.4f} and {peers:.4f}; best {min(losses):.4f}, {min(peer['losses']):.4f}"
    )
    seeds[0] = f"search.seed={number + 1000}"
    _, auto_began = sweep(options.space, work / "auto", [*seeds, *options.overrides])
    reached_s = seconds_to(work / "auto", min(peer["losses"]), auto_began)
    shown = "not reached" if reached_s is None else f"{reached_s:.1f} s"
    print(f"  auto to {min(peer['losses']):.4f}: {shown}", flush=True)
    return {
        "full": peer["seconds"] / ours_s,
        "to_loss": 0.0 if reached_s is None else peer["seconds"] / reached_s,
        "apart": abs(mean / peers - 1),
    }


def sweep(space: Path, out: Path, overrides: list[str]) -> tuple[float, float]:
    """Its wall time in seconds, and when it began (Unix time)."""
    command = [sys.executable, "-m", "sweeper", "run", str(space), "--out", str(out)]
    for one in overrides:
        command += ["--set", one]
    began = time.time()
    with (out.parent / f"{out.name}.log").open("w") as log:
        done = subprocess.run(command, stdout=log, stderr=log, env=os.environ | QUIET)
    if done.returncode:
        raise SystemExit((out.parent / f"{out.name}.log").read_text()[-4000:])
    return time.time() - began, began


def _trials(folder: Path) -> list[dict[str, Any]]:
    """Each trial's configuration and held-out loss."""
    import sweeper

    result = sweeper.load(folder)
    found = []
    for one in sorted(result.trials, key=lambda one: one.number):
        assert one.final_value is not None, f"trial {one.number} did not end"
        config = result.space.close(one.values).model_dump(mode="json")
        found.append({"config": config, "eval/loss": one.final_value})
    return found


def seconds_to(folder: Path, loss: float, began: float) -> float | None:
    """From the command to the first evaluation that is no worse, within 0.1 % of it."""
    import sweeper

    times = [
        one.time_s - began
        for trial in sweeper.load(folder).trials
        for one in trial.evaluations
        if one.time_s is not None and one.metrics["eval/loss"] <= loss * 1.001
    ]
    return min(times, default=None)


def _parts(folder: Path, began: float, seconds: float) -> str:
    import sweeper

    trials = sweeper.load(folder).trials
    first = min(one.started_s for one in trials if one.started_s is not None)
    last = max(one.ended_s for one in trials if one.ended_s is not None)
    return f"{first - began:.1f} before the first trial, {began + seconds - last:.1f} after the last"


def _peers_parts(peer: dict[str, Any]) -> str:
    parts = {key: sum(one[key] for one in peer["trials"]) for key in ("start_s", "train_s", "save_s")}
    start, train, save = parts.values()
    return f"{start:.1f} preparing, {train:.1f} in train(), {save:.1f} saving, summed over its trials"


def peers_run(work: Path, trials: list[dict[str, Any]]) -> dict[str, Any]:
    """Writes the rows as the peer takes them, runs it, and measures its models: losses in nats."""
    import datasets
    from against_trl import held_out_loss
    from transformers import AutoModelForCausalLM

    from sweeper.data import prepare
    from sweeper.quickstart import MODEL_DIR
    from sweeper.space import Config

    config = Config.model_validate(trials[0]["config"])
    data = prepare(config, work / "cache")
    for name, split in (("train", data.train), ("eval", data.eval)):
        rows = [split.row(row) for row in range(split.rows)]
        columns = {
            "input_ids": [ids.tolist() for ids, _ in rows],
            "completion_mask": [mask.astype(int).tolist() for _, mask in rows],
        }
        datasets.Dataset.from_dict(columns).save_to_disk(str(work / name))
    model = str(MODEL_DIR) if config.model_path.startswith("builtin:") else config.model_path
    asked = {"configs": [one["config"] for one in trials], "model": model, "work": str(work)}
    (work / "asked.json").write_text(json.dumps(asked))
    began = time.time()
    with (work / "peer.log").open("w") as log:
        command = [sys.executable, __file__, "--peer", str(work / "asked.json")]
        here = str(Path(__file__).parent)
        path = os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])
        done = subprocess.run(command, stdout=log, stderr=log, env=os.environ | {"PYTHONPATH": path})
    seconds = time.time() - began
    if done.returncode:
        raise SystemExit((work / "peer.log").read_text(errors="replace")[-6000:])
    told = [json.loads((work / f"peer-{number}.json").read_text()) for number in range(len(trials))]
    models = [AutoModelForCausalLM.from_pretrained(work / f"model-{number}") for number in range(len(trials))]
    return {"seconds": seconds, "trials": told, "losses": [held_out_loss(one, data) for one in models]}


def run_peer(asked: Path) -> None:
    """What a user would write: a function trainable, the list of configurations, as many trials as cores."""
    import ray
    from ray import tune

    told = json.loads(asked.read_text())
    ray.init(include_dashboard=False)
    tuner = tune.Tuner(
        tune.with_resources(peers_trial, {"cpu": 1}),
        param_space={"trial": tune.grid_search(list(range(len(told["configs"])))), "asked": str(asked)},
        run_config=tune.RunConfig(storage_path=str(asked.parent / "tune"), name="peer"),
    )
    results = tuner.fit()
    if results.errors:
        raise SystemExit(str(results.errors[0]))


def peers_trial(params: dict[str, Any]) -> None:
    began = time.time()
    asked = json.loads(Path(params["asked"]).read_text())
    work, config = Path(asked["work"]), asked["configs"][params["trial"]]
    alone_in_its_group()
    trainer = peers_trainer(config, asked["model"], work, work / f"peer-{params['trial']}")
    ready = time.time()
    trainer.train()
    trained = time.time()
    trainer.accelerator.unwrap_model(trainer.model).save_pretrained(work / f"model-{params['trial']}")
    told = {"start_s": ready - began, "train_s": trained - ready, "save_s": time.time() - trained}
    (work / f"peer-{params['trial']}.json").write_text(
        json.dumps({**told, "steps": trainer.state.global_step})
    )


def alone_in_its_group() -> None:
    """What DeepSpeed asks of the environment; once in each of Ray's processes, which trials share."""
    import socket

    import torch
    from against_trl import ALONE, without_shared_memory_op

    os.environ.update(ALONE)
    if "MASTER_PORT" not in os.environ:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            os.environ["MASTER_PORT"] = str(probe.getsockname()[1])
        without_shared_memory_op()
    torch.set_num_threads(1)


def peers_trainer(config: dict[str, Any], model: str, work: Path, out: Path) -> Any:
    import datasets
    import torch
    from ray import tune
    from torch.optim.lr_scheduler import LambdaLR
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTTrainer

    from sweeper.space import Config
    from sweeper.training.parallel.optimizer import schedule_of

    training = Config.model_validate(config).training
    train, held_out = (datasets.load_from_disk(str(work / name)) for name in ("train", "eval"))

    class Report(TrainerCallback):
        def on_evaluate(self, *_: object, metrics: dict[str, float], **__: object) -> None:
            tune.report({"loss": metrics["eval_loss"]})

    class Trainer(SFTTrainer):
        """With the schedules that transformers has not."""

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            self.lr_scheduler = LambdaLR(
                optimizer or self.optimizer, schedule_of(training, num_training_steps)
            )
            return self.lr_scheduler

    return Trainer(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        args=peers_arguments(config, len(train), out),
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=AutoTokenizer.from_pretrained(model),
        callbacks=[Report()],
    )


def peers_arguments(config: dict[str, Any], rows: int, out: Path) -> Any:
    """The configuration in TRL's words, with as many evaluations."""
    from trl import SFTConfig

    training, batch = config["training"], config["training"]["per_device_batch_size"]
    steps = int(-(-rows // (batch * training["gradient_accumulation_steps"])) * training["epochs"])
    return SFTConfig(
        output_dir=str(out),
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=batch,
        gradient_accumulation_steps=training["gradient_accumulation_steps"],
        num_train_epochs=training["epochs"],
        learning_rate=training["lr"],
        max_grad_norm=training["max_grad_norm"],
        weight_decay=training["weight_decay"],
        adam_beta2=training["adam_beta2"],
        eval_strategy="steps",
        eval_steps=max(1, steps // config["objective"]["evaluations"]),
        deepspeed={
            "zero_optimization": {"stage": 2},
            "train_micro_batch_size_per_gpu": "auto",
            "gradient_accumulation_steps": "auto",
            "train_batch_size": "auto",
            "gradient_clipping": "auto",
        },
        use_cpu=True,
        bf16=False,
        max_length=training["max_seq_len"],
        completion_only_loss=True,
        gradient_checkpointing=False,
        logging_steps=10,
        save_strategy="no",
        report_to=[],
        seed=training["seed"],
    )


if __name__ == "__main__":
    sys.exit(main())

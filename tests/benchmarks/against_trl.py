"""Training speed against TRL's SFTTrainer: same model, tokens, masks, DeepSpeed settings and micro-batch.

    pip install -e '.[benchmark]'
    python tests/benchmarks/against_trl.py --model PATH --data FILE [FILE ...] --case unpacked packed mixed

PATH is a model's folder or a .gguf file, FILE rows in any format that a space file takes. Each case
runs both sides in turn, in processes of their own, ``--rounds`` times, and prints real (non-padding)
tokens per second of each, their ratio, and the loss of both trained models on the same held-out rows
by one yardstick. Exits with 1 when a ratio or a loss misses its target.

    unpacked   packing off on both sides                                     target 1.4x
    packed     packing on on both sides                                      target 1.5x
    mixed      our packing against its padding at batch 8, on mixed data     target 2.5x
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sweeper.data import TokenizedData, prepare
from sweeper.space import Config

SAME_LOSS = 0.01
TARGETS = {"unpacked": 1.4, "packed": 1.5, "mixed": 2.5}
CASES: dict[str, dict[str, Any]] = {
    "unpacked": {
        "max_seq_len": 512,
        "ours": {"packing": False, "rows": 4},
        "trl": {"packing": False, "rows": 4},
    },
    "packed": {"max_seq_len": 512, "ours": {"packing": True, "rows": 4}, "trl": {"packing": True, "rows": 4}},
    "mixed": {
        "max_seq_len": 800,
        "ours": {"packing": True, "rows": 2},
        "trl": {"packing": False, "rows": 8},
    },
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, nargs="+")
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rows", type=int, default=160, help="training rows")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--zero-stage", type=int, default=2)
    parser.add_argument("--lr", type=float, default=2e-5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--side", choices=("ours", "trl"), help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        run_side(arguments)
        return 0
    with tempfile.TemporaryDirectory() as work:
        arguments.work = Path(work)
        return max(compare(case, arguments) for case in arguments.case)


def compare(case: str, arguments: argparse.Namespace) -> int:
    results: dict[str, list[dict[str, Any]]] = {"trl": [], "ours": []}
    for _ in range(arguments.rounds):
        for side in results:
            results[side].append(in_own_process(case, side, arguments))
    best = {side: max(one["tokens_per_s"] for one in runs) for side, runs in results.items()}
    losses = {side: runs[0]["loss"] for side, runs in results.items()}
    ratio, apart = best["ours"] / best["trl"], abs(losses["ours"] / losses["trl"] - 1)
    rounds = [
        a["tokens_per_s"] / b["tokens_per_s"] for a, b in zip(results["ours"], results["trl"], strict=True)
    ]
    print(f"\n{case}: {results['ours'][0]['what']} against {results['trl'][0]['what']}")
    for side, name in (("trl", "TRL SFTTrainer"), ("ours", "sweeper")):
        first = results[side][0]
        print(
            f"  {name:15} {best[side]:7.1f} real tokens/s   held-out loss {first['untrained']:.4f} -> "
            f"{losses[side]:.4f}   {first['steps']} steps, {first['tokens']} tokens timed"
        )
    by_round = ", ".join(f"{one:.2f}" for one in rounds)
    print(f"  ratio {ratio:.2f}x (target {TARGETS[case]}x; by round {by_round}), losses {apart:.2%} apart")
    return int(ratio < TARGETS[case] or apart > SAME_LOSS)


def in_own_process(case: str, side: str, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--side", side, "--case", case, "--work", str(arguments.work)]
    for name in ("model", "rows", "precision", "zero_stage", "lr", "threads"):
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    log = arguments.work / f"{case}-{side}.log"
    with log.open("ab") as stream:
        done = subprocess.run(
            [*command, "--data", *arguments.data], stdout=stream, stderr=stream, env=os.environ | ALONE
        )
    if done.returncode:
        print(log.read_text(errors="replace")[-4000:], file=sys.stderr)
        raise SystemExit(f"{case}: the side {side} failed")
    return json.loads((arguments.work / f"{case}-{side}.json").read_text())


ALONE = {
    "RANK": "0",
    "WORLD_SIZE": "1",
    "LOCAL_RANK": "0",
    "MASTER_ADDR": "127.0.0.1",
    "DS_ACCELERATOR": "cpu",
}


def run_side(arguments: argparse.Namespace) -> None:
    import torch

    (case,) = arguments.case
    torch.set_num_threads(arguments.threads)
    config = config_of(arguments, CASES[case], CASES[case]["ours"])
    data = prepare(config, arguments.work / "cache")
    result = (ours if arguments.side == "ours" else trl)(config, data, arguments, CASES[case])
    result["what"] = describe(CASES[case][arguments.side], CASES[case]["max_seq_len"])
    (arguments.work / f"{case}-{arguments.side}.json").write_text(json.dumps(result))


def describe(side: dict[str, Any], max_seq_len: int) -> str:
    kind = "packed sequences" if side["packing"] else "rows"
    return f"{side['rows']} {kind} of up to {max_seq_len} tokens"


def config_of(arguments: argparse.Namespace, case: dict[str, Any], side: dict[str, Any]) -> Config:
    return Config.model_validate(
        {
            "name": "speed",
            "model_path": arguments.model,
            "data_path": tuple(sampled(arguments)),
            "eval_data": 0.1,
            "objective": {"evaluations": 1},
            "training": {
                "lr": arguments.lr,
                "scheduler": "linear",
                "final_lr_ratio": 0.0,
                "warmup_ratio": 0.0,
                "decay_ratio": 0.2,
                "epochs": 1,
                "per_device_batch_size": side["rows"],
                "gradient_accumulation_steps": 1,
                "global_batch_size": side["rows"],
                "max_seq_len": case["max_seq_len"],
                "packing": side["packing"],
            },
            "deepspeed": {"zero_stage": arguments.zero_stage, "precision": arguments.precision},
            "resources": {"max_concurrent": 1, "cpus_per_rank": arguments.threads, "gpus_per_rank": 0},
        }
    )


def sampled(arguments: argparse.Namespace) -> list[str]:
    """The first rows of each file, about as many of each, in files of their own."""
    from sweeper.data.problems import Problems
    from sweeper.data.read.files import Source
    from sweeper.data.read.read import read_rows

    each = -(-arguments.rows // len(arguments.data))
    files = []
    for number, name in enumerate(arguments.data):
        file = arguments.work / f"rows-{number}.jsonl"
        if not file.is_file():
            rows = read_rows(Source(name), Problems())
            rows = rows[:: max(1, len(rows) // each)][:each]
            file.write_text("".join(json.dumps(row.fields) + "\n" for row in rows))
        files.append(str(file))
    return files


def ours(
    config: Config, data: TokenizedData, arguments: argparse.Namespace, case: dict[str, Any]
) -> dict[str, Any]:
    from sweeper.training import Job
    from sweeper.training.ranks.worker import RankWorker

    worker = RankWorker(0, 1, arguments.threads, "cpu")
    worker.join("127.0.0.1", worker.listen("127.0.0.1"))
    job = Job(
        config=config, cache_dir=arguments.work / "cache", data_dir=data.folder, log_file=Path("/dev/null")
    )
    job.log_file.touch()
    worker.prepare(job)
    steps = worker.advance().steps
    worker.save_model(arguments.work / f"model-ours-{time.time()}")
    timed = steps[-1].tokens - steps[0].tokens
    model = worker._running()._model
    return {
        "tokens_per_s": timed / (steps[-1].time_s - steps[0].time_s),
        "steps": len(steps),
        "tokens": timed,
        "loss": held_out_loss(model, data),
        "untrained": untrained_loss(config, data, arguments),
    }


def trl(
    config: Config, data: TokenizedData, arguments: argparse.Namespace, case: dict[str, Any]
) -> dict[str, Any]:
    import datasets
    import torch
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import SFTTrainer

    from sweeper.data import load_tokenizer

    with socket.create_server(("127.0.0.1", 0)) as probe:
        os.environ["MASTER_PORT"] = str(probe.getsockname()[1])
    without_shared_memory_op()
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            times.append(time.time())

    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[arguments.precision]
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(model_folder(config, arguments), dtype=dtype),
        args=sft_config(config, arguments, case),
        train_dataset=datasets.Dataset.from_dict(rows_in_our_order(config, data)),
        processing_class=load_tokenizer(config.model_path),
        callbacks=[Clock()],
    )
    real = real_tokens(trainer, case["trl"]["rows"])
    trainer.train()
    model = trainer.accelerator.unwrap_model(trainer.model)
    return {
        "tokens_per_s": sum(real[1 : len(times)]) / (times[-1] - times[0]),
        "steps": len(times),
        "tokens": sum(real[1 : len(times)]),
        "loss": held_out_loss(model, data),
        "untrained": untrained_loss(config, data, arguments),
    }


def rows_in_our_order(config: Config, data: TokenizedData) -> dict[str, list[list[int]]]:
    """Unpacked, in the very order of our run; packing, TRL arranges rows by itself."""
    from sweeper.training.feed import TrainingFeed

    unpacked = config.training.model_copy(update={"packing": False})
    order = TrainingFeed(config.model_copy(update={"training": unpacked}), data, 0, "row_wise", "cpu")
    rows = [int(order.bins[i][0]) for i in order.plan.reshape(-1)]
    return {
        "input_ids": [data.train.row(row)[0].tolist() for row in rows],
        "completion_mask": [data.train.row(row)[1].astype(int).tolist() for row in rows],
    }


def sft_config(config: Config, arguments: argparse.Namespace, case: dict[str, Any]) -> Any:
    """TRL's, for the same training."""
    from trl import SFTConfig

    from sweeper.training.parallel.ds_config import deepspeed_config

    side = case["trl"]
    ds_config = deepspeed_config(config) | {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
    }
    return SFTConfig(
        output_dir=str(arguments.work / "trl"),
        per_device_train_batch_size=side["rows"],
        gradient_accumulation_steps=1,
        num_train_epochs=1,
        learning_rate=config.training.lr,
        lr_scheduler_type="linear",
        warmup_steps=0,
        max_grad_norm=config.training.max_grad_norm,
        weight_decay=0.0,
        adam_beta2=config.training.adam_beta2,
        bf16=arguments.precision == "bf16",
        deepspeed=ds_config,
        use_cpu=True,
        packing=side["packing"],
        max_length=case["max_seq_len"],
        completion_only_loss=True,
        gradient_checkpointing=False,
        train_sampling_strategy="sequential",
        dataloader_drop_last=True,
        logging_steps=1000,
        save_strategy="no",
        report_to=[],
        seed=0,
    )


def real_tokens(trainer: Any, rows: int) -> list[int]:
    """Tokens that are no padding in each batch of its sequential order."""
    lengths = [len(row) for row in trainer.train_dataset["input_ids"]]
    return [sum(lengths[start : start + rows]) for start in range(0, len(lengths), rows)]


def model_folder(config: Config, arguments: argparse.Namespace) -> str:
    from sweeper.training.model.loading import _converted_gguf

    if not config.model_path.endswith(".gguf"):
        return config.model_path
    return str(_converted_gguf(Path(config.model_path), arguments.work / "cache"))


def untrained_loss(config: Config, data: TokenizedData, arguments: argparse.Namespace) -> float:
    import torch
    from transformers import AutoModelForCausalLM

    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[arguments.precision]
    return held_out_loss(
        AutoModelForCausalLM.from_pretrained(model_folder(config, arguments), dtype=dtype), data
    )


def held_out_loss(model: Any, data: TokenizedData) -> float:
    """Nats per completion token, one row at a time, by transformers' own attention."""
    import torch
    import torch.nn.functional as F

    model.set_attn_implementation("sdpa")
    model.eval()
    nll = tokens = 0.0
    with torch.no_grad():
        for row in range(data.eval.rows):
            ids, mask = (torch.from_numpy(array.copy()) for array in data.eval.row(row))
            logits = model(input_ids=ids[None].long(), use_cache=False).logits[0, :-1].float()
            losses = F.cross_entropy(logits, ids[1:].long(), reduction="none")
            nll += float(losses[mask[1:]].sum())
            tokens += float(mask.sum())
    return nll / tokens


def without_shared_memory_op() -> None:
    from sweeper.training.ranks.worker import _without_shared_memory_op

    _without_shared_memory_op()


if __name__ == "__main__":
    sys.exit(main())

"""TRL's SFTTrainer on the same rows, masks, micro-batch and DeepSpeed configuration, a process for each."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from setting import HAS_GPU, SCALE, config_of, flops_per_token, peak_flops


def trl(out: Path) -> Iterator[tuple[str, Any]]:
    """Figures of each case; one that fails says its last words."""
    cases = [("1 B", False), ("1 B", True), ("0.1 B", False), ("0.1 B", True)]
    for name, packing in cases if HAS_GPU else cases[-1:]:
        case = f"{name} {'packed' if packing else 'rows'}"
        file = out / f"trl-{case.replace(' ', '-')}.json"
        file.unlink(missing_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
        alone |= {"MASTER_PORT": port, "DS_ACCELERATOR": "cuda" if HAS_GPU else "cpu"}
        done = subprocess.run(
                [sys.executable, __file__, str(out), name, str(int(packing)), str(file)],
                env=os.environ | alone, capture_output=True, text=True,
            )  # fmt: skip
        sys.stdout.write(done.stdout[-3000:] + done.stderr[-3000:])
        yield case, json.loads(file.read_text()) if file.exists() else done.stderr[-600:]


def run(out: Path, name: str, packing: bool, file: Path) -> None:
    import datasets
    import torch
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from sweeper.data import load_tokenizer, prepare
    from sweeper.training.feed import TrainingFeed
    from sweeper.training.parallel.ds_config import deepspeed_config

    if not HAS_GPU:
        from sweeper.training.ranks.worker import _without_shared_memory_op

        _without_shared_memory_op()
    config = config_of(out, name, packing=packing)
    data, rows = prepare(config, out / "cache"), config.training.per_device_batch_size
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            if HAS_GPU:
                torch.cuda.synchronize()
            times.append(time.perf_counter())

    # Rows in the very order of our trials; where it packs, it arranges them by itself.
    unpacked = config.model_copy(update={"training": config.training.model_copy(update={"packing": False})})
    order = TrainingFeed(unpacked, data, 0, "row_wise", "cpu", steps=SCALE.steps * (4 if packing else 1))
    chosen = [int(order.bins[i][0]) for i in order.plan.reshape(-1)]
    columns = {
        "input_ids": [data.train.row(row)[0].tolist() for row in chosen],
        "completion_mask": [data.train.row(row)[1].astype(int).tolist() for row in chosen],
    }
    keys = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
    arguments = SFTConfig(
        output_dir=str(out / "trl"), per_device_train_batch_size=rows, gradient_accumulation_steps=1,
        max_steps=SCALE.steps, learning_rate=config.training.lr, lr_scheduler_type="linear", warmup_steps=0,
        max_grad_norm=config.training.max_grad_norm, weight_decay=0.0, optim="adamw_torch_fused",
        bf16=config.deepspeed.precision == "bf16", use_cpu=not HAS_GPU,
        deepspeed=deepspeed_config(config) | dict.fromkeys(keys, "auto"),
        packing=packing, max_length=config.training.max_seq_len, completion_only_loss=True,
        gradient_checkpointing=False, train_sampling_strategy="sequential", dataloader_drop_last=True,
        logging_steps=1000, save_strategy="no", report_to=[], seed=0,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(config.model_path, dtype=torch.bfloat16),
        args=arguments, train_dataset=datasets.Dataset.from_dict(columns),
        processing_class=load_tokenizer(config.model_path), callbacks=[Clock()],
    )  # fmt: skip
    lengths = [len(row) for row in trainer.train_dataset["input_ids"]]
    real = [sum(lengths[start : start + rows]) for start in range(0, len(lengths), rows)]
    trainer.train()
    first = len(times) // 3
    tokens_per_s = sum(real[first + 1 : len(times)]) / (times[-1] - times[first])
    flops = tokens_per_s * flops_per_token(SCALE.models[name], float(data.train.lengths.mean()))
    figures = {"real tokens/s": tokens_per_s, "steps": len(times), "TFLOPS": flops / 1e12}
    if (peak := peak_flops()) is not None:
        figures |= {"MFU": flops / peak, "peak GiB": torch.cuda.max_memory_allocated() / 2**30}
    file.write_text(json.dumps(figures))


if __name__ == "__main__":
    run(Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "1", Path(sys.argv[4]))

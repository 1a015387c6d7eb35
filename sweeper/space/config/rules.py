"""The rules of thumb of supervised fine-tuning, each with its source: what ``auto`` means.

They are where a sweep starts and what its answer is compared with. None is a law: each is a
value that a practitioner would take without measuring anything.
"""

from __future__ import annotations

import math
from typing import Literal

from sweeper.space.config.values import LogUniform

__all__ = [
    "accumulation",
    "cpus_per_rank",
    "decay_ratio",
    "epochs",
    "final_lr_ratio",
    "global_batch_size",
    "gpus_per_rank",
    "lora_lrs",
    "lr",
    "lr_at_horizon",
    "lr_family",
    "lr_range",
    "max_concurrent",
    "max_seq_len",
    "per_device_batch_size",
    "precision",
    "scheduler",
    "warmup_ratio",
    "zero_stage",
]

MANY_ROWS = 10_000
LARGEST_PER_DEVICE_BATCH = 8
HIGHEST_LR, MOST_LR = 0.1, 10.0
"""What a rule gives at most, and what the field takes."""
HORIZON_EXPONENT = 0.32
SWEPT_LORA_LR = 3e-4
LORA_EXPONENTS = {"llama": 0.781, "qwen": 0.0775}
"""Family, as its ``model_type`` begins -> exponent of the width in the formula for LoRA's learning rate."""


def epochs(train_rows: int) -> float:
    """3 passes over fewer than 10,000 rows, else 1.

    Source: Stanford Alpaca trains 3 epochs, LIMA (Zhou et al. 2023, arXiv:2305.11206) 15 on 1,000
    rows, Tulu 3 (Lambert et al. 2024, arXiv:2411.15124) 2 on 939,000; small sets are commonly
    repeated about three times, large ones are seen once.
    """
    return 3.0 if train_rows < MANY_ROWS else 1.0


def lr(hidden_size: int | None, *, lora: bool, model_type: str | None = None) -> float:
    """Peak learning rate, to two digits.

    Full fine-tuning: 5e-5 x (2000 / hidden_size)^0.781, whatever the family; 2e-5 where the width is
    unknown, as in Stanford Alpaca and TRL's defaults for SFT. LoRA: the middle (geometric mean) of what
    ``lora_lrs`` gives.

    Source: ``get_lr`` in thinking-machines-lab/tinker-cookbook, ``hyperparam_utils.py``, with its
    exponent for Llama and its factor of ten between LoRA and full fine-tuning, which is also what
    Biderman et al. 2024 (arXiv:2405.09673) measured. How far the middle is from the best:
    docs/decisions/0026.
    """
    if lora:
        views = lora_lrs(hidden_size, model_type)
        practice = math.prod(views) ** (1 / len(views))
    else:
        practice = 2e-5 if hidden_size is None else 5e-5 * (2000 / hidden_size) ** 0.781
    return min(_two_digits(practice), HIGHEST_LR)


def lora_lrs(hidden_size: int | None, model_type: str | None) -> tuple[float, ...]:
    """What is published on the peak learning rate of LoRA for a model, to two digits: a sweep's, and
    beside it a formula's for the families that have one. They disagree, so a search should span both.

    The sweep: tinker-cookbook, ``recipes/chat_sl/results/sft_sweep.md`` (Tulu 3, ranks 1 to 128), where
    3e-4 is the best of its grid for most models from 4 to 550 billion parameters, whatever their width.
    The formula: 5e-4 x (2000 / hidden_size)^exponent, with an exponent of the family (``get_lr``, as in
    ``lr``).

    Args:
        hidden_size: width of the model; None where it is not known.
        model_type: as config.json or the head of a GGUF file has it.
    """
    exponent = LORA_EXPONENTS.get(lr_family(model_type) or "")
    if exponent is None or hidden_size is None:
        return (SWEPT_LORA_LR,)
    return SWEPT_LORA_LR, min(_two_digits(5e-4 * (2000 / hidden_size) ** exponent), HIGHEST_LR)


def lr_family(model_type: str | None) -> str | None:
    """The family that a formula for LoRA was fitted to; None of any other.

    Qwen3.5 and Qwen3-Next have Qwen's name, but linear attention: in the sweep of ``lora_lrs`` they want
    less than Qwen3, and the formula is older than they are.
    """
    name = (model_type or "").replace("_", "").replace(".", "")
    if name.startswith(("qwen35", "qwen3next")):
        return None
    return next((family for family in LORA_EXPONENTS if name.startswith(family)), None)


def lr_at_horizon(share: float) -> float:
    """What the best learning rate is multiplied with where a run trains on this share of the tokens:
    share^-0.32. The shorter it is, the larger its steps should be.

    Source: Bjorck et al. 2024 (arXiv:2409.19913), measured in pretraining; how it does in fine-tuning:
    docs/decisions/0041.
    """
    return float(share**-HORIZON_EXPONENT)


def lr_range(practice: float, views: tuple[float, ...] = ()) -> LogUniform:
    """What ``lr: auto`` opens: from a tenth of the practice to a hundred times it, at most 0.1, and
    wider where one of ``views`` lies outside of that.

    It spans what is disputed. The practice is about a tenth of the peak in pretraining (OpenAI's
    first fine-tuning service multiplied the pretraining rate by 0.05 to 0.2); one common guide
    says ten times the pretraining rate, a hundred times the practice. Values far too high diverge
    early and cost little.
    """
    high = min(_two_digits(practice * 100), HIGHEST_LR)
    low = _two_digits(min(practice, high) / 10)
    return LogUniform(min(low, *views), max(high, *views)) if views else LogUniform(low, high)


def scheduler() -> str:
    """Cosine, the commonest choice since SGDR (Loshchilov and Hutter 2016, arXiv:1608.03983);
    Stanford Alpaca and Zephyr (Tunstall et al. 2023, arXiv:2310.16944) train with it."""
    return "cosine"


def final_lr_ratio(scheduler_name: str) -> float:
    """0 for linear, cosine and wsd, 0.05 for exponential, 1 for constant.

    Linear and cosine end at 0 in transformers' ``get_scheduler``, and so does the decay of wsd in
    Hägele et al. 2024 (arXiv:2405.18392). An exponential never reaches 0, so its end is stated:
    e^-3, about 0.05, is the usual meaning of "decayed". A constant rate ends where it began.
    """
    return {"exponential": 0.05, "constant": 1.0}.get(scheduler_name, 0.0)


def warmup_ratio() -> float:
    """0.03 of the optimizer steps, as Stanford Alpaca, QLoRA (Dettmers et al. 2023,
    arXiv:2305.14314) and Tulu 2 (Ivison et al. 2023, arXiv:2311.10702) do."""
    return 0.03


def decay_ratio() -> float:
    """0.2 of the optimizer steps, for wsd: with a decay of that length, in the form 1 - sqrt, Hägele et
    al. 2024 (arXiv:2405.18392) match a cosine; MiniCPM (Hu et al. 2024, arXiv:2404.06395), which
    named the schedule, finds 0.1 sufficient."""
    return 0.2


def global_batch_size(train_rows: int) -> int:
    """About 0.2 % of the rows as a power of two, 16 at least and 128 at most.

    Source: the documented default of OpenAI's first fine-tuning service was 0.2 % of the examples.
    The bounds are what is used at either end: 16 in QLoRA (arXiv:2305.14314), 128 in Stanford
    Alpaca (52,000 rows, where the rule also gives 128) and Tulu 3 (939,000 rows). A set of fewer
    than 16 rows gets the largest power of two that it fills.
    """
    power = 2 ** round(math.log2(max(0.002 * train_rows, 1)))
    bounded = min(max(power, 16), 128)
    return int(min(bounded, 2 ** int(math.log2(max(train_rows, 1)))))


def per_device_batch_size(global_batch: int, *, dp: int, accumulation_steps: int = 1) -> int:
    """8 rows, or what the global batch leaves for one rank and one pass if that is less.

    8 is the default of ``TrainingArguments`` in transformers. Whether it fits into memory depends
    on the model and max_seq_len and is not known here.
    """
    return max(1, min(LARGEST_PER_DEVICE_BATCH, global_batch // (dp * accumulation_steps)))


def accumulation(global_batch: int, *, dp: int, per_device: int) -> int:
    """As many passes as come nearest to the global batch: it, not its split, decides what is learned
    (Goyal et al. 2017, arXiv:1706.02677)."""
    return max(1, round(global_batch / (per_device * dp)))


def zero_stage(offload: str, *, pp: int) -> Literal[1, 2, 3]:
    """2: optimizer states and gradients are partitioned, at no more communication than plain data
    parallelism (Rajbhandari et al. 2020, arXiv:1910.02054, section 7); 3 where parameters are
    offloaded, which only stage 3 can; 1 between pipeline stages, because DeepSpeed's pipeline engine
    partitions no more than optimizer states.

    One rank has nothing to partition, and stage 0 is then faster; 2 is kept so that the same file
    means the same on one device and on eight.
    """
    if pp > 1:
        return 1
    return 3 if offload == "all" else 2


def max_seq_len(max_position_embeddings: int | None) -> int:
    """4096 tokens (Tulu 3's SFT, arXiv:2411.15124), or the model's own limit if that is less."""
    return min(4096, max_position_embeddings or 4096)


def precision(accelerator: Literal["cuda", "cpu"]) -> Literal["bf16", "fp32"]:
    """bf16 on a GPU: the range of fp32, so that no loss scaling is needed (Kalamkar et al. 2019,
    arXiv:1905.12322). fp32 on a CPU, where most processors only emulate bf16."""
    return "bf16" if accelerator == "cuda" else "fp32"


def gpus_per_rank(accelerator: Literal["cuda", "cpu"]) -> float:
    """One GPU for each rank, the rule of every data-parallel launcher; none on a CPU."""
    return 1.0 if accelerator == "cuda" else 0.0


def max_concurrent(*, devices: int, cpus: int, ranks: int, gpus: float) -> int:
    """As many trials as have their GPUs at once; on a CPU up to four, while each rank has a core.

    Args:
        devices: GPUs of the machine.
        cpus: its cores.
        ranks: ranks of the largest trial.
        gpus: GPUs of one rank; 0 trains on the CPU.
    """
    if gpus > 0:
        return max(1, int(min(devices / (ranks * gpus), 1024) + 1e-9))
    return max(1, min(4, cpus // ranks))


def cpus_per_rank(*, cpus: int, ranks: int, concurrent: int) -> int:
    """The cores shared out evenly, so that threads do not compete for one."""
    return max(1, cpus // (ranks * concurrent))


def _two_digits(number: float) -> float:
    return float(f"{number:.1e}")

"""How far the rule of thumb for LoRA's learning rate is from the best, family by family.

    python tests/benchmarks/lr_rule.py path/to/tinker_sft_sweep.csv

The table is the public sweep of thinking-machines-lab/tinker-cookbook
(``recipes/chat_sl/results/sft_sweep.md``) as CSV with the columns model, lr, lora_rank, test_nll and
status; it is no part of this package. One curve is one model at one rank. The regret of a learning rate is
the curve's test loss there, a straight line in log lr between the rates that were tried, less the curve's
lowest; since curves are convex, a line says more than is true. Means are of curves over a model, of models
over a family, of families over all.

Four rules are compared: Llama's exponent for every model, which was ours before; ours; ours with the family
left out, whose one rate from the sweep is then the best of all *other* families; and that rate alone. Exits
with 1 where ours has a family above 15e-4 nats, left out or not.
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sweeper.space.config import rules

LIMIT = 15e-4
FEWEST_RATES = 3
"""A curve of fewer says nothing about where its lowest point is."""

# How a name in the table begins -> family, model_type and width, as the models' config.json have them.
MODELS = {
    "Qwen/Qwen3-4B": ("Qwen3", "qwen3", 2560),
    "Qwen/Qwen3-8B": ("Qwen3", "qwen3", 4096),
    "Qwen/Qwen3-32B": ("Qwen3", "qwen3", 5120),
    "Qwen/Qwen3-30B-A3B": ("Qwen3", "qwen3_moe", 2048),
    "Qwen/Qwen3-235B-A22B": ("Qwen3", "qwen3_moe", 4096),
    "Qwen/Qwen3-VL-30B-A3B": ("Qwen3-VL", "qwen3_vl_moe", 2048),
    "Qwen/Qwen3-VL-235B-A22B": ("Qwen3-VL", "qwen3_vl_moe", 4096),
    "Qwen/Qwen3.5-4B": ("Qwen3.5", "qwen3_5", 2560),
    "Qwen/Qwen3.5-9B": ("Qwen3.5", "qwen3_5", 4096),
    "Qwen/Qwen3.5-27B": ("Qwen3.5", "qwen3_5", 5120),
    "Qwen/Qwen3.5-35B-A3B": ("Qwen3.5", "qwen3_5_moe", 2048),
    "Qwen/Qwen3.5-397B-A17B": ("Qwen3.5", "qwen3_5_moe", 4096),
    "Qwen/Qwen3.6-27B": ("Qwen3.6", "qwen3_5", 5120),
    "Qwen/Qwen3.6-35B-A3B": ("Qwen3.6", "qwen3_5_moe", 2048),
    "meta-llama/Llama-3.2-1B": ("Llama 3", "llama", 2048),
    "meta-llama/Llama-3.2-3B": ("Llama 3", "llama", 3072),
    "meta-llama/Llama-3.1-8B": ("Llama 3", "llama", 4096),
    "meta-llama/Llama-3.1-70B": ("Llama 3", "llama", 8192),
    "meta-llama/Llama-3.3-70B": ("Llama 3", "llama", 8192),
    "deepseek-ai/DeepSeek-V3": ("DeepSeek", "deepseek_v3", 7168),
    "moonshotai/Kimi-K2": ("Kimi", "kimi_k2", 7168),
    "openai/gpt-oss": ("gpt-oss", "gpt_oss", 2880),
    "nvidia/NVIDIA-Nemotron-3-Nano": ("Nemotron 3", "nemotron_h", 2688),
    "nvidia/NVIDIA-Nemotron-3-Super": ("Nemotron 3", "nemotron_h", 4096),
    "nvidia/NVIDIA-Nemotron-3-Ultra": ("Nemotron 3", "nemotron_h", 8192),
}


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model of the sweep."""

    name: str
    family: str
    model_type: str
    hidden_size: int
    curves: tuple[dict[float, float], ...]
    """Of each rank: learning rate -> test loss, nats per token."""


Rule = Callable[[Model], float]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("table", type=Path)
    models = read(parser.parse_args().table)
    families = sorted({model.family for model in models})
    shown = {
        "Llama's exponent": lambda model: 5e-4 * (2000 / model.hidden_size) ** 0.781,
        "ours": lambda model: rules.lr(model.hidden_size, lora=True, model_type=model.model_type),
        "ours, left out": lambda model: _middle(model, others[model.family]),
        "their one rate": lambda model: others[model.family],
    }
    others = {one: best_rate([model for model in models if model.family != one]) for one in families}
    figures = {name: {one: regret(models, one, rule) for one in families} for name, rule in shown.items()}
    print("regret, 1e-4 nats " + "".join(f"{name:>18}" for name in figures) + "   the others' rate")
    for one in families:
        row = "".join(f"{1e4 * figure[one]:18.1f}" for figure in figures.values())
        print(f"{one:18}{row}   {others[one]:.0e}")
    means = "".join(f"{1e4 * statistics.mean(figure.values()):18.1f}" for figure in figures.values())
    print(f"{'all families':18}{means}")
    return int(max(*figures["ours"].values(), *figures["ours, left out"].values()) > LIMIT)


def read(table: Path) -> list[Model]:
    """The models of the sweep; those whose width is not known here are named and left out."""
    curves: dict[str, dict[str, dict[float, float]]] = {}
    with table.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            if row["status"] == "ok":
                curve = curves.setdefault(row["model"], {}).setdefault(row["lora_rank"], {})
                curve[float(row["lr"])] = float(row["test_nll"])
    models = []
    for name, ranks in curves.items():
        known = next((MODELS[start] for start in MODELS if name.startswith(start)), None)
        full = tuple(dict(sorted(curve.items())) for curve in ranks.values() if len(curve) >= FEWEST_RATES)
        if known is None or not full:
            print(f"left out: {name}: {'its width is not known here' if known is None else 'too few rates'}")
            continue
        family, model_type, width = known
        one = Model(name=name, family=family, model_type=model_type, hidden_size=width, curves=full)
        models.append(one)
    return models


def _middle(model: Model, swept: float) -> float:
    """Our rule with another rate for that of the sweep."""
    _, *formula = rules.lora_lrs(model.hidden_size, model.model_type)
    return statistics.geometric_mean([swept, *formula])


def regret(models: list[Model], family: str, rule: Rule) -> float:
    """Mean over a family's models, nats."""
    return statistics.mean(_regret(model, rule(model)) for model in models if model.family == family)


def best_rate(models: list[Model]) -> float:
    """The rate, of those that were tried, with the lowest mean regret over the families."""
    tried = {rate for model in models for curve in model.curves for rate in curve}
    families = {model.family for model in models}
    return min(
        sorted(tried),
        key=lambda rate: statistics.mean(regret(models, one, lambda _: rate) for one in families),
    )


def _regret(model: Model, rate: float) -> float:
    return statistics.mean(_loss(curve, rate) - min(curve.values()) for curve in model.curves)


def _loss(curve: dict[float, float], rate: float) -> float:
    """Outside of the rates that were tried the curve's line is drawn on."""
    rates = list(curve)
    right = next((place for place, tried in enumerate(rates) if tried >= rate), len(rates) - 1)
    low, high = rates[max(right - 1, 0)], rates[max(right, 1)]
    share = math.log(rate / low) / math.log(high / low)
    return curve[low] + share * (curve[high] - curve[low])


if __name__ == "__main__":
    sys.exit(main())

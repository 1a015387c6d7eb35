"""Autotuning against an exhaustive grid over micro-batch, ZeRO stage, gradient checkpointing and packing.

    python tests/benchmarks/autotune.py
    python tests/benchmarks/autotune.py --only small,adapters --png peaks.png --deepspeed-autotuner

For each shape: ours first, in new processes and without any earlier answer; then every combination, with
shorter probes; then a final of the grid's fastest four and ours with whole ones, three rounds in turn, whose
medians are compared. Every round trains on the same rows. Packed sequences are given the global batch that
has the same tokens in a step. Prints a table of speeds and one of peaks, predicted and measured, of every
combination that fits; exits with 1 when ours is below 95 % of the grid's best, took more than three probes
after the first, or crashed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from memory_model import draw_peaks, summary

from sweeper.autotune import Tuner
from sweeper.autotune.candidates import Candidate
from sweeper.autotune.estimate.memory_model import predict
from sweeper.autotune.estimate.workload import probed_workload
from sweeper.autotune.tuner import few_passes, trained_rate
from sweeper.commands.autotune import ProbeWorkers
from sweeper.data import gather_facts, prepared_folder, tokenized
from sweeper.data.model.sizes import model_sizes
from sweeper.errors import TrialOutOfMemoryError
from sweeper.quickstart import DATA_FILE, MODEL_DIR
from sweeper.ray_tune.cluster import ray_for
from sweeper.space import SYSTEM, Config, SweepFolder, SystemConfig, load_space, with_system_config
from sweeper.training import Probed

MOST_PROBES, LEAST_SHARE = 4, 0.95
FINALISTS, ROUNDS = 4, 3
GRID_STEPS = 7
"""Optimizer steps of a probe of the grid; the first is not measured."""
STAGES = (0, 1, 2, 3)
Key = tuple[SystemConfig, bool]
"""SystemConfig, and whether packed."""


@dataclass(frozen=True, kw_only=True)
class Peak:
    """Of a rank over its idle process, GiB."""

    measured: float
    predicted: float
    calibrated: float
    """Predicted, by what the probes of the tuner taught."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Of one probe, medians over its steps."""

    tokens_per_s: float
    peak: Peak | None = None


@dataclass
class Shape:
    """One line of the table."""

    name: str
    training: str
    sections: str = ""
    model: str = "packaged"
    ours: SystemConfig | None = None
    probes: int = 0
    ours_s: float = 0.0
    grid_s: float = 0.0
    too_large: int = 0
    grid: dict[Key, Rates] = field(default_factory=dict)
    """Whatever fits."""
    final: dict[Key, list[Rates]] = field(default_factory=dict)
    """Of each round."""
    probed: list[tuple[float, float]] = field(default_factory=list)
    """Peaks of the tuner's own probes: predicted before and measured, GiB."""

    @property
    def peaks(self) -> dict[Key, Peak]:
        """Of the whole grid."""
        return {key: one.peak for key, one in self.grid.items() if one.peak is not None}

    def speed(self, key: Key) -> float:
        """In the final; 0 where it did not fit in every round."""
        return statistics.median([one.tokens_per_s for one in self.final.get(key, ())] or [0.0])

    @property
    def best(self) -> Key:
        return max(self.final, key=self.speed)

    @property
    def share(self) -> float:
        """Of the best one's speed; 0 where ours did not fit in every round."""
        return self.speed((self.ours, False)) / self.speed(self.best) if self.final else 0.0


SHAPES = (
    Shape("tiny", "global_batch_size: 32, max_seq_len: 96"),
    Shape("small", "global_batch_size: 16, max_seq_len: 96", model="small"),
    Shape("large batch", "global_batch_size: 64, max_seq_len: 96", model="small"),
    Shape("adapters", "global_batch_size: 32, max_seq_len: 96, lora: {rank: 8}", model="small"),
    Shape("large vocabulary", "global_batch_size: 16, max_seq_len: 96", model="words"),
    Shape("bf16", "global_batch_size: 16, max_seq_len: 96", "deepspeed: {precision: bf16}", model="small"),
    Shape("little memory", "global_batch_size: 64, max_seq_len: 96", "resources: {memory_limit_gib: 0.86}",
          model="small"),
    Shape("two ranks", "global_batch_size: 16, max_seq_len: 96", "parallel: {dp: 2}", model="small"),
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", help="names of shapes, between commas")
    parser.add_argument("--png", type=Path, help="draw predicted over measured peaks into this file")
    parser.add_argument("--deepspeed-autotuner", action="store_true", help="run it on the shape 'tiny' too")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else [one.name for one in SHAPES]
    with tempfile.TemporaryDirectory() as scratch:
        models = {"packaged": MODEL_DIR, **make_models(Path(scratch))}
        for shape in SHAPES:
            if shape.name in wanted:
                measure(shape, models[shape.model], Path(scratch))
                print(line(shape), final(shape), peak_lines(shape), sep="\n", flush=True)
    done = [one for one in SHAPES if one.ours is not None]
    peaks = [peak for one in done for peak in one.peaks.values()]
    if options.png is not None:
        draw_peaks([(one.measured, one.predicted, one.calibrated) for one in peaks], options.png)
    print(f"all peaks: {off(peaks)}")
    if options.deepspeed_autotuner:
        print(theirs())
    good = all(one.share >= LEAST_SHARE and one.probes <= MOST_PROBES for one in done)
    return 0 if good else 1


def measure(shape: Shape, model: Path, scratch: Path) -> None:
    file = scratch / "space.yaml"
    file.write_text(
        f"name: bench\nmodel_path: {model}\ndata_path: {DATA_FILE}\n"
        f"training: {{lr: 1.0e-3, epochs: 1, {shape.training}}}\n{shape.sections}\n"
    )
    space = load_space(file, overrides=["resources.max_concurrent=1"], gather=gather_facts)
    config, folder = space.close({}), SweepFolder(scratch / shape.name.replace(" ", "-"))
    data = tokenized(config, prepared_folder(config, folder.cache_dir))
    with ray_for(config, places=1, say=print):
        bench = ProbeWorkers(config, folder, print)
        try:
            room = bench.room_gib
            began = time.monotonic()
            tuner = Tuner(
                config=config, measured=SYSTEM, sizes=model_sizes(config.model_path), data=data,
                room_gib=room, probe=bench.probe,
            )  # fmt: skip
            shape.ours = tuner.search().levers
            shape.ours_s, shape.probes = time.monotonic() - began, len(tuner.records)
            shape.probed = [
                (one.predicted_gib, one.measured_gib)
                for one in tuner.records
                if one.predicted_gib is not None and one.measured_gib is not None
            ]
            grid = _grid(config, tuner)
            began = time.monotonic()
            for key, candidate in grid.items():
                if (rates := _rates(bench, candidate, tuner, steps=GRID_STEPS)) is not None:
                    shape.grid[key] = rates
            shape.too_large, shape.grid_s = len(grid) - len(shape.grid), time.monotonic() - began
            fastest = sorted(shape.grid, key=lambda key: -shape.grid[key].tokens_per_s)
            finalists = dict.fromkeys([*fastest[:FINALISTS], (shape.ours, False)])
            for key in [*finalists] * ROUNDS:
                if (rates := _rates(bench, grid[key], tuner)) is not None:
                    shape.final.setdefault(key, []).append(rates)
            steady = {key: rounds for key, rounds in shape.final.items() if len(rounds) == ROUNDS}
            shape.too_large += len(shape.final) - len(steady)
            shape.final = steady  # who fits at times only is no configuration for a sweep
        finally:
            bench.close()


def _grid(config: Config, tuner: Tuner) -> dict[Key, Candidate]:
    """Every micro-batch, ZeRO stage and choice of checkpointing, also those that the tuner takes for slower
    by their nature, with rows and with packed sequences."""
    grid: dict[Key, Candidate] = {}
    for start in (config, _packed(config, tuner)):
        for stage in STAGES:
            other = Tuner(
                config=with_system_config(start, zero_stage=stage),
                measured=SYSTEM - {"deepspeed.zero_stage"},
                sizes=tuner.sizes, data=tuner.data, room_gib=tuner.room_gib, probe=tuner.probe,
            )  # fmt: skip
            grid |= {(one.levers, start.training.packing): one for one in other._candidates()}
    return grid


def _packed(config: Config, tuner: Tuner) -> Config:
    """The same with packed sequences, at a global batch of about as many tokens."""
    lengths = tuner.data.train.lengths
    packed = _with(config, packing=True, per_device_batch_size=1, gradient_accumulation_steps=1,
                   global_batch_size=config.parallel.dp)  # fmt: skip
    per_sequence = config.training.max_seq_len * 0.97
    wanted = config.training.global_batch_size * float(lengths.mean()) / per_sequence / config.parallel.dp
    each = max(1, 2 ** round(wanted).bit_length() // 2)
    return _with(packed, gradient_accumulation_steps=each, global_batch_size=each * config.parallel.dp)


def _with(config: Config, **changes: Any) -> Config:
    return config.model_copy(update={"training": config.training.model_copy(update=changes)})


def _rates(
    bench: ProbeWorkers, candidate: Candidate, tuner: Tuner, *, steps: int | None = None
) -> Rates | None:
    """None where it does not fit."""
    config = few_passes(candidate.config)
    try:
        probed = bench.probe(config, steps=steps)
    except TrialOutOfMemoryError:
        return None
    return Rates(
        tokens_per_s=trained_rate(candidate.config, probed)[0],
        peak=_peak(config, probed, tuner),
    )


def _peak(config: Config, probed: Probed, tuner: Tuner) -> Peak | None:
    """None where the model's sizes are not known."""
    if tuner.sizes is None:
        return None
    work = probed_workload(probed, tuner.data)
    predicted, calibrated = (
        predict(config, tuner.sizes, work, by).total_gib for by in (None, tuner.calibration)
    )
    return Peak(measured=probed.peak_gib - probed.idle_gib, predicted=predicted, calibrated=calibrated)


def line(shape: Shape) -> str:
    best, packed = shape.best
    assert shape.ours is not None
    unpacked = max((key for key in shape.final if not key[1]), key=shape.speed, default=(shape.ours, False))
    return (
        f"{shape.name:20} grid {len(shape.grid):3} ({shape.too_large} too large) {shape.grid_s:5.0f} s | "
        f"best {shape.speed(shape.best):7,.0f} tokens/s {_words(best)}{' packed' if packed else ''} | "
        f"best unpacked {shape.speed(unpacked):7,.0f} {_words(unpacked[0])} | "
        f"ours {shape.speed((shape.ours, False)):7,.0f} {_words(shape.ours)} = {shape.share:.1%} "
        f"in {shape.probes} probes, {shape.ours_s:.0f} s = {shape.ours_s / shape.grid_s:.0%} of the grid's"
    )


def final(shape: Shape) -> str:
    """Each finalist, the fastest first, with its slowest and its fastest round as they were."""
    said = []
    for key in sorted(shape.final, key=shape.speed, reverse=True):
        rounds = [one.tokens_per_s for one in shape.final[key]]
        whose = " (ours)" if key == (shape.ours, False) else ""
        packed = " packed" if key[1] else ""
        each = f"[{min(rounds):,.0f}, {max(rounds):,.0f}]"
        said.append(f"{_words(key[0])}{packed}{whose}: {shape.speed(key):,.0f} {each}")
    peaks = ", ".join(f"{measured:.3f} ({predicted:.3f})" for predicted, measured in shape.probed)
    return f"    final: {'; '.join(said)}\n    peaks of ours, GiB (predicted): {peaks}"


def peak_lines(shape: Shape) -> str:
    """Measured, predicted and calibrated peaks of the grid, GiB, in its order."""
    each = [
        f"{_words(levers)}{' packed' if packed else ''} "
        f"{peak.measured:.2f} {peak.predicted:.2f} {peak.calibrated:.2f}"
        for (levers, packed), peak in shape.peaks.items()
    ]
    lines = ["    " + "; ".join(each[first : first + 4]) for first in range(0, len(each), 4)]
    return "\n".join([f"    peaks of the grid: {off(list(shape.peaks.values()))}", *lines])


def off(peaks: list[Peak]) -> str:
    """How far predictions are off."""
    said = []
    for name in ("predicted", "calibrated"):
        off_gib = [getattr(one, name) - one.measured for one in peaks]
        shares = [each / one.measured for each, one in zip(off_gib, peaks, strict=True)]
        said.append(f"{name}: {summary(shares)}, {max(map(abs, off_gib)):.3f} GiB at most")
    return f"{len(peaks)} peaks, {'; '.join(said)}"


def _words(levers: SystemConfig) -> str:
    again = " recompute" if levers.gradient_checkpointing else ""
    return f"{levers.per_device_batch_size}x{levers.gradient_accumulation_steps} z{levers.zero_stage}{again}"


def theirs() -> str:
    from deepspeed_autotuner import run_autotuner

    result = run_autotuner(
        MODEL_DIR, data=DATA_FILE, max_seq_len=96, global_batch=32, max_micro_batch=32, zero_stages=(0, 1)
    )
    return f"DeepSpeed Autotuner: {result.to_dict()}"


def make_models(folder: Path) -> dict[str, Path]:
    """Llamas with random weights and the packaged tokenizer: 12 M parameters, and 14 M with 32,000 words."""
    import shutil

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    made = {}
    for name, hidden, layers, words in (("small", 384, 6, 2048), ("words", 256, 6, 32_000)):
        torch.manual_seed(0)
        sizes = LlamaConfig(
            vocab_size=words, hidden_size=hidden, intermediate_size=hidden * 8 // 3, num_hidden_layers=layers,
            num_attention_heads=hidden // 64, num_key_value_heads=2, max_position_embeddings=1024,
            tie_word_embeddings=True,
        )  # fmt: skip
        made[name] = folder / name
        LlamaForCausalLM(sizes).save_pretrained(made[name])
        for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copy(MODEL_DIR / file, made[name])
    return made


if __name__ == "__main__":
    sys.exit(main())

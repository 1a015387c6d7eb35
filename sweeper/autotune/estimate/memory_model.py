"""How much memory a rank needs, by part: arithmetic, from the model's sizes and the largest forward passes.

Model states are those of ZeRO (Rajbhandari et al. 2020, arXiv:1910.02054, section 3); what travels between
ranks, and when it is copied, is read from DeepSpeed 0.19 (the files are named where they are used, below
``deepspeed/runtime``). What a forward pass keeps is in ``sweeper.autotune.estimate.rank``.

The peak is that of the highest of several moments of a trial. A moment is a name and its parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from sweeper.autotune.estimate.rank import (
    FP32,
    GIB,
    Rank,
    layer_bytes,
    score_bytes,
    working_bytes,
)
from sweeper.space import Config, ModelSizes

__all__ = ["Calibration", "Memory", "Pass", "Workload", "calibrated", "predict"]

_ADAM_BYTES = 8
"""Two moments in fp32 (Kingma and Ba 2015, arXiv:1412.6980)."""
_SUB_GROUP = 1_000_000_000
"""DeepSpeed's default sub_group_size: so many elements stage 3 steps at a time (zero/config.py)."""
_FIRST_TRIAL_GIB = 0.046
"""What no formula has: code and workspaces that come with the first trial of a process (measured on CPUs)."""
_ZERO_GIB = 0.044
"""ZeRO imports DeepSpeed's Muon optimizer, and with it torch's compiler, with its first reduction
(zero/stage_1_and_2.py: average_tensor; measured: the import alone)."""
_PEFT_GIB = 0.018
"""Importing peft (measured)."""
_HEAP_GIB = 0.0625
"""What a CPU's heap keeps of tensors below 2 MiB that are gone (``sweeper.training.memory``)."""
_PASS_KERNELS_GIB, _ROW_KERNELS_GIB = 0.005, 0.0026
"""oneDNN generates code for each size of matrix product in half precision, and keeps it: so much for each
number of tokens that a pass has, and, through attention, for each that a row has (measured)."""
_MOST_KERNELS_GIB = 0.68
"""It keeps what was used last, and no more (measured)."""
_CUDA_GIB = 0.25
"""cuBLAS workspaces and small buffers on a GPU (an allowance, not measured)."""
_FRAGMENTATION = {"cpu": 0.02, "cuda": 0.05}
"""Fraction of what passes that is lost between tensors (measured; for CUDA an allowance)."""
_STATES_DEVIATION, _PASSING_DEVIATION, _LIBRARIES_DEVIATION_GIB = 0.005, 0.05, 0.03
"""How far off the arithmetic is expected to be: what passes is known less well than the states, and the
libraries have other buffers on each processor."""
_MEASURING_DEVIATION = 0.003
"""How far off a measured peak is expected to be, relative to it; beside that, by what a heap keeps."""
_CALIBRATION_RANGE, _LIBRARIES_RANGE_GIB = (0.5, 2.0), (-0.5, 0.5)

_GRADIENTS, _GATHERED, _BUFFERS = "gradients", "gathered parameters", "communication buffers"
_ACTIVATIONS, _LOGITS, _FRAGMENTS = "activations", "logits", "fragmentation"
_PASSING = (_GRADIENTS, _GATHERED, _BUFFERS, _ACTIVATIONS, _LOGITS, _FRAGMENTS)
"""The parts that a pass takes; all others stay from step to step."""

Parts = dict[str, float]
"""Bytes by name."""


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One forward pass of one rank."""

    tokens: int
    completion_tokens: int
    """Those that have logits."""
    squared_tokens: int | None = None
    """Sum of the squared lengths of its rows, for attention that keeps scores. None: not known, as if
    all rows were of the longest length."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The passes of one rank that need most."""

    first: Pass
    """Of the first passes of optimizer steps, which find no gradients there."""
    later: Pass | None
    """Of the others; None without accumulation."""
    held_out: Pass
    """Of an evaluation."""
    pass_lengths: float = 4
    row_lengths: float = 16
    """How many different numbers of tokens its passes and its rows have, of those trained on, with a third of
    those held out, which have no backward pass. They count in half precision on a CPU."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What measured steps make of the arithmetic; as it stands it is not calibrated."""

    states: float = 1.0
    """Measured over predicted memory of what stays from step to step."""
    passing: float = 1.0
    """Measured over predicted memory of what a pass takes on top."""
    libraries_gib: float = 0.0
    """Measured less predicted memory that is the same in every trial."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """One rank's peak over its idle process, GiB, by part. Parts that are zero are left out."""

    parts: dict[str, float] = field(default_factory=dict)
    moment: str = ""
    """When it is reached."""

    @property
    def total_gib(self) -> float:
        return sum(self.parts.values())

    def __str__(self) -> str:
        """``1.52 GiB: activations 0.60, ...``, the largest part first."""
        parts = sorted(self.parts.items(), key=lambda part: -part[1])
        said = ", ".join(f"{name} {gib:.2f}" for name, gib in parts if gib >= 0.005)
        return f"{self.total_gib:.2f} GiB: {said}"

    @property
    def states_gib(self) -> float:
        """What stays from step to step."""
        return sum(gib for name, gib in self.parts.items() if name not in _PASSING)

    @property
    def passing_gib(self) -> float:
        """What a pass takes on top."""
        return self.total_gib - self.states_gib


def predict(
    config: Config, sizes: ModelSizes, work: Workload, calibration: Calibration | None = None
) -> Memory:
    """The peak of one rank, at the moment of a trial when it is highest."""
    rank, by = Rank(config, sizes), calibration or Calibration()
    states = _states(rank, work)
    lost = _FRAGMENTATION["cuda" if rank.on_gpu else "cpu"]
    moments = [
        _scaled(states | parts | {_FRAGMENTS: lost * sum(parts.values())}, moment, by)
        for moment, parts in _moments(rank, work)
    ]
    return max(moments, key=lambda one: one.total_gib)


def calibrated(points: Iterable[tuple[Memory, float]]) -> Calibration:
    """What brings predictions closest to the measured peaks (GiB) of the same trials.

    Least squares of relative errors, drawn towards no calibration as far as the expected deviations say: one
    point, or several that are alike, moves most what is known least, which is the libraries' share of small
    trials and what passes in large ones.
    """
    drawn = np.diag([1 / _STATES_DEVIATION, 1 / _PASSING_DEVIATION, 1 / _LIBRARIES_DEVIATION_GIB])
    rows, rests = [*drawn], [0.0] * len(drawn)
    for memory, measured_gib in points:
        scale = 1 / np.hypot(memory.total_gib * _MEASURING_DEVIATION, memory.parts.get("heap", 0.0))
        rows.append(scale * np.array([memory.states_gib, memory.passing_gib, 1.0]))
        rests.append(scale * (measured_gib - memory.total_gib))
    states, passing, libraries_gib = np.linalg.lstsq(np.array(rows), np.array(rests), rcond=None)[0]
    return Calibration(
        states=float(np.clip(1 + states, *_CALIBRATION_RANGE)),
        passing=float(np.clip(1 + passing, *_CALIBRATION_RANGE)),
        libraries_gib=float(np.clip(libraries_gib, *_LIBRARIES_RANGE_GIB)),
    )


def _scaled(parts: Parts, moment: str, by: Calibration) -> Memory:
    gib = {name: size / GIB * (by.passing if name in _PASSING else by.states) for name, size in parts.items()}
    gib["libraries"] += by.libraries_gib
    return Memory(parts={name: size for name, size in gib.items() if size > 0}, moment=moment)


def _states(rank: Rank, work: Workload) -> Parts:
    """What stays from step to step, bytes.

    Each process keeps the untrained model in the host's memory. Half precision has fp32 weights beside its
    own, and so has ZeRO in fp32, which steps on a flat copy (zero/stage_1_and_2.py, zero/stage3.py,
    fp16/unfused_optimizer.py). Stage 3 shares the parameters out between passes.
    """
    has_master = rank.stage >= 1 or rank.half
    states = 0.0 if rank.offloads("optimizer") else rank.owned
    kept = rank.held / (rank.dp if rank.stage == 3 else 1)
    of_a_cpu = _FIRST_TRIAL_GIB + _ZERO_GIB * (rank.stage >= 1) + _PEFT_GIB * rank.has_adapters
    return {
        "untrained copy": 0.0 if rank.on_gpu else rank.sizes.parameters * rank.width,
        "parameters": 0.0 if rank.offloads("all") else kept * rank.width,
        "fp32 weights": states * FP32 * has_master,
        "optimizer states": states * _ADAM_BYTES,
        "libraries": (_CUDA_GIB if rank.on_gpu else of_a_cpu) * GIB,
        "heap": 0.0 if rank.on_gpu else _HEAP_GIB * GIB,
        "generated code": _kernels(rank, work),
    }


def _kernels(rank: Rank, work: Workload) -> float:
    """Bytes of code that a CPU has for matrix products in half precision. Attention that keeps scores
    computes in fp32."""
    if rank.on_gpu or not rank.half:
        return 0.0
    rows = 0.0 if rank.keeps_scores else work.row_lengths
    each = _PASS_KERNELS_GIB * work.pass_lengths + _ROW_KERNELS_GIB * rows
    return min(each, _MOST_KERNELS_GIB) * GIB


def _moments(rank: Rank, work: Workload) -> Iterator[tuple[str, Parts]]:
    """Every moment that may be the highest, and what it has on top of the states, bytes."""
    kept = _kept_gradients(rank)
    yield from _pass("the first pass of a step", rank, work.first, kept if rank.stage == 3 else 0.0)
    if work.later is not None:
        yield from _pass("a later pass of a step", rank, work.later, kept)
    yield "the optimizer's step", _step(rank)
    yield "an evaluation", _evaluation(rank, work.held_out)


def _kept_gradients(rank: Rank) -> float:
    """Bytes of gradients between the passes of one step.

    They have the model's own precision (engine.py: grad_accum_dtype). Stages 0 and 1 keep all of them until
    the last pass; stage 2 its partition; stage 3 a buffer of that size at all times. With offload, stages 2
    and 3 keep theirs in the host's memory.
    """
    if rank.offloads("optimizer") and rank.stage >= 2:
        return 0.0
    return (rank.owned if rank.stage >= 2 else rank.trained) * rank.width


def _pass(name: str, rank: Rank, one: Pass, gradients: float) -> Iterator[tuple[str, Parts]]:
    """The heights of one forward and backward pass that finds so many bytes of gradients.

    1. The loss: every layer has saved what it saves, with checkpointing its input alone, and cross-entropy
       has the log-probabilities, their gradient and that of the logits, in fp32 (``log_softmax`` and
       ``nll_loss`` in derivatives.yaml).
    2. The output matrix: the gradients of the logits and of the matrix.
    3. The last layer: what its backward pass works with; with checkpointing all that it saves, anew.
    4. The embedding: its gradient beside the others. Of what stage 3 gathered it is the last; parameters go
       when no module will use them again (zero/partitioned_param_coordinator.py: __params_to_release).
    5. The end: all gradients, and how they travel.
    """
    always = _always(rank)
    kept = rank.sizes.hidden_size * rank.width if rank.recomputes else layer_bytes(rank)
    saved = float(one.tokens * kept * rank.layers_in_flight)
    saved += score_bytes(rank, _squared(rank, one)) * rank.layers_in_flight * (not rank.recomputes)
    matrix = rank.output_matrix * rank.width
    bucket = rank.bucket * rank.width if rank.stage in (1, 2) and rank.on_gpu else 0.0
    logits = one.completion_tokens * rank.sizes.vocab_size
    in_layer = one.tokens * working_bytes(rank)
    if rank.recomputes:
        in_layer += one.tokens * layer_bytes(rank) + score_bytes(rank, _squared(rank, one))
    begun = always | {_GRADIENTS: gradients + matrix, _BUFFERS: always[_BUFFERS] + bucket}
    at_loss = {_GRADIENTS: gradients, _ACTIVATIONS: saved, _LOGITS: 3.0 * logits * FP32}
    at_matrix = {_ACTIVATIONS: saved, _LOGITS: float(logits * rank.width)}
    yield f"{name}, at its loss", always | at_loss
    yield f"{name}, at its output matrix", begun | at_matrix
    yield f"{name}, at its last layer", begun | {_ACTIVATIONS: saved + in_layer}
    last = always | {_GATHERED: min(always[_GATHERED], float(rank.embedding * rank.width))}
    yield f"{name}, at its embedding", last | _embedding(rank, gradients)
    yield f"{name}, at its end", last | _end(rank, gradients)


def _squared(rank: Rank, one: Pass) -> int:
    longest = min(rank.config.training.max_seq_len, one.tokens)
    return one.tokens * longest if one.squared_tokens is None else one.squared_tokens


def _always(rank: Rank) -> Parts:
    """What stage 3 has around a pass: gathered parameters, and a bucket that it never frees
    (zero/stage3.py: contiguous_gradients). A CPU has only those pages of it that were written to."""
    if rank.stage < 3:
        return {_GATHERED: 0.0, _BUFFERS: 0.0}
    prefetched = rank.prefetched * rank.width
    return {
        _GATHERED: rank.gathered * rank.width,
        _BUFFERS: rank.bucket * rank.width + (prefetched if rank.on_gpu else 0.0),
    }


def _embedding(rank: Rank, gradients: float) -> Parts:
    """The embedding's gradient is as large as the embedding (embedding_dense_backward). Where the output
    matrix is the same, that matrix's gradient has waited, and autograd adds both into a third. Stages 2 and
    3 have all others in their bucket."""
    matrix, trained = rank.output_matrix * rank.width, rank.trained * rank.width
    at_once = matrix * (3 if rank.sizes.tied else 1)
    bucket = rank.bucket * rank.width
    if rank.stage < 2:
        others = 0.0 if gradients else trained - matrix
        used = bucket if rank.stage == 1 and rank.on_gpu else 0.0
        return {_GRADIENTS: gradients + others + at_once, _BUFFERS: used}
    used = bucket if rank.stage == 3 or rank.on_gpu else max(bucket - matrix, 0.0)
    return {_GRADIENTS: gradients + at_once, _BUFFERS: used}


def _end(rank: Rank, gradients: float) -> Parts:
    """The end of a backward pass: how gradients travel.

    Stages 1 and 2 move them into a bucket, of which stage 2 sends a flat copy
    (zero/stage_1_and_2.py: allreduce_bucket), whether there are other ranks or not; stage 3 a reordered one
    (comm/coalesced_collectives.py), which gloo, a CPU's backend, copies once more (torch's
    ProcessGroupGloo::reduce_scatter_tensor_coalesced); without ZeRO, ranks send a flat copy.
    """
    width = rank.width
    trained, bucket = rank.trained * width, rank.bucket * width
    copy = min(trained, rank.bucket_limit * width)
    if rank.stage == 0:
        return {_GRADIENTS: trained, _BUFFERS: copy if rank.dp > 1 else 0.0}
    if rank.stage == 1:  # a flat copy is made once gradients are nowhere but in the bucket
        return {_GRADIENTS: trained, _BUFFERS: bucket}
    copies = 2 if rank.stage == 3 and not rank.on_gpu else 1
    return {_GRADIENTS: gradients, _BUFFERS: bucket + copies * copy}


def _step(rank: Rank) -> Parts:
    """The optimizer's step. Without ZeRO in half precision there are fp32 gradients beside the others
    (fp16/unfused_optimizer.py: step); with ZeRO the partition's gradients are flattened, and converted
    before that copy is freed (zero/stage_1_and_2.py: step). Offload does all this on the host."""
    always = {_BUFFERS: _always(rank)[_BUFFERS]}
    if rank.offloads("optimizer"):
        return always
    converted = FP32 * rank.half
    if rank.stage == 0:
        return {_GRADIENTS: rank.trained * (rank.width + converted)}
    at_once = min(rank.owned, _SUB_GROUP) if rank.stage == 3 else rank.owned
    return {
        _GRADIENTS: rank.owned * rank.width + at_once * converted,
        _BUFFERS: always[_BUFFERS] + at_once * rank.width,
    }


def _evaluation(rank: Rank, one: Pass) -> Parts:
    """Nothing is saved: one layer at work, and the logits and log-probabilities in fp32."""
    logits = one.completion_tokens * rank.sizes.vocab_size
    return _always(rank) | {
        _GRADIENTS: _kept_gradients(rank) if rank.stage == 3 else 0.0,
        _ACTIVATIONS: one.tokens * working_bytes(rank),
        _LOGITS: 2.0 * logits * FP32 + (logits * rank.width if rank.half else 0.0),
    }

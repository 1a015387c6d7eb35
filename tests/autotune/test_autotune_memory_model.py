"""The memory model is arithmetic that agrees with DeepSpeed's own, with itself, and with a measured trial."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.autotune.estimate.memory_model import Calibration, Memory, Pass, Workload, calibrated, predict
from sweeper.space import Config, ModelSizes

GIB = 2**30
LINEAR = {"q_proj": 8192, "k_proj": 8192, "v_proj": 8192, "o_proj": 8192}
LINEAR |= {"gate_proj": 15104, "up_proj": 15104, "down_proj": 15104}
SEVEN_B = ModelSizes(
    parameters=6_738_415_616,
    layers=32,
    hidden_size=4096,
    intermediate_size=11008,
    heads=32,
    kv_heads=32,
    head_dim=128,
    vocab_size=32000,
    gated=True,
    linear={name: 32 * size for name, size in LINEAR.items()},
)
SMALL = replace(
    SEVEN_B, parameters=20_000_000, layers=6, hidden_size=384, intermediate_size=1024, heads=6, kv_heads=2,
    head_dim=64, vocab_size=8000, tied=True,
)  # fmt: skip
NOTHING = Pass(tokens=0, completion_tokens=0)
IDLE = Workload(first=NOTHING, later=None, held_out=NOTHING)


def one_pass(tokens: int) -> Pass:
    return Pass(tokens=tokens, completion_tokens=tokens // 2)


def config_of(*, gpu: bool = False, **changes: Any) -> Config:
    sections: dict[str, dict[str, Any]] = {
        "training": {
            "lr": 1e-4, "scheduler": "cosine", "final_lr_ratio": 0.0, "warmup_ratio": 0.0, "decay_ratio": 0.2,
            "epochs": 1, "per_device_batch_size": 1, "gradient_accumulation_steps": 2, "global_batch_size": 2,
            "max_seq_len": 512,
        },
        "deepspeed": {"zero_stage": 0, "precision": "bf16" if gpu else "fp32"},
        "parallel": {},
        "resources": {"max_concurrent": 1, "cpus_per_rank": 1, "gpus_per_rank": 1 if gpu else 0},
    }  # fmt: skip
    for name, value in changes.items():
        section = "parallel" if name in {"dp", "tp", "pp"} else "training" if name == "lora" else "deepspeed"
        sections[section][name] = value
    return Config.model_validate({"name": "m", "model_path": "m", "data_path": "d", **sections})


def held_by(sizes: ModelSizes = SEVEN_B, work: Workload = IDLE, **changes: Any) -> Memory:
    return predict(config_of(gpu=True, **changes), sizes, work)


def in_bytes(memory: Memory, *names: str) -> float:
    return sum(memory.parts.get(name, 0.0) for name in names) * GIB


STATES = ("parameters", "fp32 weights", "optimizer states")


@pytest.mark.parametrize("dp", [1, 2, 8])
def test_zero_2_holds_what_deepspeeds_estimator_says(dp):
    """DeepSpeed counts bf16 weights, and for each rank's part bf16 and fp32 gradients, fp32 weights and two
    moments. So it is here at the optimizer's step; a flat copy that travels is counted beside it."""
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    _, gpu_bytes = estimate_zero2_model_states_mem_needs(
        SEVEN_B.parameters, num_gpus_per_node=dp, cpu_offload=False
    )
    memory = held_by(zero_stage=2, dp=dp)
    assert memory.moment == "the optimizer's step"
    assert in_bytes(memory, *STATES, "gradients") == pytest.approx(gpu_bytes, rel=1e-9)


@pytest.mark.parametrize("dp", [1, 2, 8])
def test_zero_3_holds_what_deepspeeds_estimator_says(dp):
    """It counts 18 bytes: bf16 weights, fp32 gradients, fp32 weights and two moments. The bf16 gradients,
    which are there beside the fp32 ones, it leaves out; and the largest layer is its measure of what is
    gathered, which here is what DeepSpeed's own limit of live parameters allows."""
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs

    _, gpu_bytes, _ = estimate_zero3_model_states_mem_needs(
        SEVEN_B.parameters, 0, num_gpus_per_node=dp, cpu_offload=False
    )
    fp32_gradients = 4 * SEVEN_B.parameters / dp
    states = in_bytes(held_by(zero_stage=3, dp=dp), *STATES)
    assert states + fp32_gradients == pytest.approx(gpu_bytes, rel=1e-9)
    small = held_by(SMALL, zero_stage=3, dp=dp)
    assert in_bytes(small, *STATES) == pytest.approx(14 * SMALL.parameters / dp)


@pytest.mark.parametrize("dp", [1, 2, 8])
def test_offloaded_states_leave_the_gpu_as_deepspeeds_estimators_say(dp):
    from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
    from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

    _, two = estimate_zero2_model_states_mem_needs(SEVEN_B.parameters, dp, cpu_offload=True)
    _, three, _ = estimate_zero3_model_states_mem_needs(
        SEVEN_B.parameters, 0, dp, cpu_offload=True, cpu_offload_params=False
    )
    _, all_of_it, _ = estimate_zero3_model_states_mem_needs(
        SEVEN_B.parameters, 0, dp, cpu_offload=True, cpu_offload_params=True
    )
    assert in_bytes(held_by(zero_stage=2, dp=dp, offload="optimizer"), *STATES) == pytest.approx(two)
    assert in_bytes(held_by(zero_stage=3, dp=dp, offload="optimizer"), *STATES) == pytest.approx(three, abs=1)
    assert in_bytes(held_by(zero_stage=3, dp=dp, offload="all"), *STATES) == all_of_it == 0


settings = st.fixed_dictionaries(
    {
        "gpu": st.booleans(),
        "zero_stage": st.sampled_from([0, 1, 2, 3]),
        "precision": st.sampled_from(["fp32", "bf16"]),
        "gradient_checkpointing": st.booleans(),
        "dp": st.sampled_from([1, 2, 8]),
        "lora": st.sampled_from(
            [False, {"rank": 8}, {"rank": 64, "dropout": 0.1}, {"rank": 8, "targets": "q_proj, v_proj"}]
        ),
    }
)
tokens = st.integers(1, 200_000)
models = st.sampled_from([SMALL, SEVEN_B, replace(SMALL, gated=False, attention_dropout=0.1, dropout=0.1)])


def work_of(first: int, later: int | None = None) -> Workload:
    return Workload(
        first=one_pass(first), later=None if later is None else one_pass(later), held_out=one_pass(512)
    )


@given(changes=settings, sizes=models, first=tokens, later=st.none() | tokens)
def test_the_parts_are_positive_and_add_up(changes, sizes, first, later):
    memory = predict(config_of(**changes), sizes, work_of(first, later))
    assert all(gib > 0 for gib in memory.parts.values())
    assert memory.total_gib == pytest.approx(memory.states_gib + memory.passing_gib)
    assert memory.total_gib == pytest.approx(sum(memory.parts.values()))
    assert memory.moment


@given(changes=settings, sizes=models, one=tokens, more=st.integers(0, 100_000))
def test_more_tokens_never_need_less(changes, sizes, one, more):
    config = config_of(**changes)
    few = predict(config, sizes, work_of(one, one)).total_gib
    assert predict(config, sizes, work_of(one + more, one)).total_gib >= few
    assert predict(config, sizes, work_of(one, one + more)).total_gib >= few
    assert predict(config, sizes, work_of(one)).total_gib <= few


@given(changes=settings, sizes=models, first=tokens)
def test_checkpointing_never_needs_more_where_there_are_layers_to_forget(changes, sizes, first):
    with_it, without = (
        predict(config_of(**changes | {"gradient_checkpointing": on}), sizes, work_of(first, first))
        for on in (True, False)
    )
    assert with_it.total_gib <= without.total_gib


@given(changes=settings, sizes=models, first=tokens, dp=st.sampled_from([2, 8]))
def test_sharing_out_gradients_never_keeps_more_than_sharing_out_optimizer_states(changes, sizes, first, dp):
    """What stays falls with each stage, with more than one rank."""
    stays = [
        predict(
            config_of(**changes | {"dp": dp, "zero_stage": stage}), sizes, work_of(first, first)
        ).states_gib
        for stage in (1, 2, 3)
    ]
    assert stays == sorted(stays, reverse=True)


@given(changes=settings, sizes=models, first=tokens, stage=st.sampled_from([1, 2, 3]))
def test_offload_on_a_gpu_never_needs_more(changes, sizes, first, stage):
    def need(offload: str) -> float:
        config = config_of(**changes | {"gpu": True, "zero_stage": stage, "offload": offload})
        return predict(config, sizes, work_of(first, first)).total_gib

    assert need("optimizer") <= need("none")


@given(changes=settings, sizes=models, first=tokens, ranks=st.sampled_from([2, 4]))
def test_tensor_and_pipeline_ranks_hold_a_share(changes, sizes, first, ranks):
    whole = predict(config_of(**changes), sizes, work_of(first, first))
    for name in ("tp", "pp"):
        part = predict(config_of(**changes | {name: ranks}), sizes, work_of(first, first))
        assert part.states_gib <= whole.states_gib * (1 + 1e-9)


@given(changes=settings, sizes=models, first=tokens, more=st.floats(0, 90))
def test_more_lengths_count_in_half_precision_on_a_cpu_alone(changes, sizes, first, more):
    config, work = config_of(**changes), work_of(first)
    few = predict(config, sizes, work).total_gib
    many = predict(config, sizes, replace(work, pass_lengths=work.pass_lengths + more)).total_gib
    if changes["gpu"] or changes["precision"] == "fp32":
        assert many == few
    else:
        assert many == pytest.approx(few + 0.005 * more)


def test_there_is_a_most_to_what_is_kept_for_all_lengths():
    work = replace(work_of(100), pass_lengths=1_000, row_lengths=1_000)
    config = config_of(precision="bf16", gpu=False)
    assert in_bytes(predict(config, SMALL, work), "generated code") == pytest.approx(0.68 * 2**30)


def test_a_tied_embedding_has_three_gradients_of_its_size_at_once():
    one = Workload(first=one_pass(1), later=one_pass(1), held_out=NOTHING)
    tied, apart = (predict(config_of(), replace(SMALL, tied=tied), one) for tied in (True, False))
    assert tied.moment == "a later pass of a step, at its embedding"
    matrix = 4 * SMALL.vocab_size * SMALL.hidden_size
    assert in_bytes(apart, "gradients") == 4 * SMALL.parameters + matrix
    assert in_bytes(tied, "gradients") == 4 * SMALL.parameters + 3 * matrix


@given(
    states=st.floats(0.97, 1.03), passing=st.floats(0.8, 1.25),
    sizes=st.lists(st.tuples(st.floats(0.5, 50), st.floats(0.1, 50)), min_size=2, max_size=5),
)  # fmt: skip
def test_calibration_comes_closer_than_the_arithmetic(states, passing, sizes):
    points = [
        (Memory(parts={"parameters": one, "activations": other}), states * one + passing * other)
        for one, other in sizes
    ]
    by = calibrated(points)

    def errors(by: Calibration) -> float:
        return sum(
            (
                (by.states * memory.states_gib + by.passing * memory.passing_gib + by.libraries_gib - gib)
                / memory.total_gib
            )
            ** 2
            for memory, gib in points
        )

    assert errors(by) <= errors(Calibration()) + 1e-12


def test_one_large_point_moves_what_passes_and_none_moves_nothing():
    memory = Memory(parts={"parameters": 10.0, "activations": 10.0})
    by = calibrated([(memory, 21.0)])
    assert by.passing == pytest.approx(1.1, abs=0.005)
    assert by.states == pytest.approx(1.0, abs=0.005)
    assert by.libraries_gib == pytest.approx(0.0, abs=0.005)
    assert calibrated([]) == Calibration()
    wild = calibrated([(memory, 1e6)])
    assert (wild.passing, wild.libraries_gib) == (2.0, 0.5)


@pytest.mark.parametrize("more_gib", [-0.03, 0.02, 0.04])
def test_what_a_small_trial_has_beyond_the_arithmetic_is_not_multiplied_in_a_larger_one(more_gib):
    small, large = (Memory(parts={"parameters": 0.2, "activations": gib}) for gib in (0.2, 0.8))
    by = calibrated([(small, small.total_gib + more_gib)])
    predicted_gib = by.states * 0.2 + by.passing * 0.8 + by.libraries_gib
    assert predicted_gib == pytest.approx(large.total_gib + more_gib, rel=0.02)


def test_a_heap_that_kept_something_in_one_trial_says_little_of_the_next():
    """On a CPU it keeps nothing at times, and at times three times what it keeps on average."""
    parts = {"parameters": 0.2, "activations": 0.2}
    gpu, cpu = Memory(parts=parts), Memory(parts=parts | {"heap": 0.06})
    told, doubted = (calibrated([(one, one.total_gib + 0.06)]).libraries_gib for one in (gpu, cpu))
    assert 0 < doubted < told / 2


def test_calibration_of_the_libraries_is_told_as_their_part():
    by = Calibration(states=1.1, passing=0.9, libraries_gib=0.02)
    one = Workload(first=one_pass(1), later=one_pass(1), held_out=NOTHING)
    plain, memory = (predict(config_of(), SMALL, one, calibration) for calibration in (None, by))
    assert memory.parts["libraries"] == pytest.approx(1.1 * plain.parts["libraries"] + 0.02)
    assert memory.total_gib == pytest.approx(1.1 * plain.states_gib + 0.9 * plain.passing_gib + 0.02)


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("memory_model")


@pytest.mark.slow
def test_a_real_trial_peaks_within_three_twentieths_of_the_prediction(benchmark: Any, tmp_path: Path):
    write: Callable[..., None] = benchmark.write_model
    write("llama-small", tmp_path / "llama-small")
    benchmark.write_rows(tmp_path / "rows.jsonl")
    point = benchmark.measured_point(
        benchmark.Shape(model="llama-small", rows=4, settings={"zero_stage": 2}), tmp_path, benchmark.Peaks()
    )
    assert point.predicted().total_gib == pytest.approx(point.measured_gib, rel=benchmark.UNCALIBRATED)

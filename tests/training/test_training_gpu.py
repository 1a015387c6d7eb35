"""One rank on a GPU: precisions, bits, memory and attention, in a process of its own (pytest -m gpu)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from on_gpu import GPU_TESTS, HAS_GPU, REHEARSED, allocated_gib, on_gpu
from test_training_attention import MODELS, rows_of, tiny
from test_training_checkpoint import finished
from test_training_varlen import _of_2_13

from sweeper.errors import TrialOutOfMemoryError
from sweeper.training import memory
from sweeper.training.model import attention
from sweeper.training.model.attention import ROW_WISE, VARLEN
from sweeper.training.model.loss import completion_logits, completion_nll, device_batch
from sweeper.training.model.row_check import check_rows
from sweeper.training.parallel.replicas import Replicas
from sweeper.training.ranks.failures import translated_errors
from sweeper.training.ranks.processes import choose_device

pytestmark = GPU_TESTS
DEVICE = "cuda" if HAS_GPU else "cpu"
WORKSPACES_GIB = 0.15
"""What cuBLAS and nccl keep, whichever trial was there."""
OVERFLOWS = {"fp16": {"initial_scale_power": 21, "hysteresis": 1}}
ADAPTERS = {"lora": {"rank": 4, "alpha": 16, "dropout": 0.2}, "lr": 1e-2}


@pytest.fixture(scope="module")
def gpu_rank(request: pytest.FixtureRequest) -> Iterator:
    if REHEARSED:
        yield request.getfixturevalue("rank")
        return
    if dist.is_initialized():
        pytest.skip("this process is a rank on the CPU already: run them by themselves, pytest -m gpu")
    choose_device("cuda")
    from sweeper.training.ranks import worker

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "LogRedirect", lambda _: None)
        rank = worker.RankWorker(0, 1, 4, "cuda")
        rank.join("127.0.0.1", rank.listen("127.0.0.1"))
        yield rank
        rank.stop()


@pytest.fixture(autouse=True)
def all_precisions(monkeypatch) -> None:
    """A CPU trains in fp16 as well, if DeepSpeed lets it."""
    if REHEARSED:
        from deepspeed.accelerator import get_accelerator

        monkeypatch.setattr(type(get_accelerator()), "is_fp16_supported", lambda _: True)


@pytest.fixture
def train(gpu_rank, job_of, run_in):
    def go(config, **options):
        try:
            return run_in(gpu_rank, job_of(on_gpu(config), **options))
        finally:
            gpu_rank.stop()

    return go


def called(rank, method, *arguments):
    """As the actor of a rank does."""
    with rank.limited(), translated_errors():
        return getattr(rank, method)(*arguments)


@pytest.mark.parametrize("settings", [{"zero_stage": 0}, {"zero_stage": 2}], ids=str)
def test_in_every_precision_the_held_out_loss_comes_to_the_same(train, quick_config, settings):
    runs = {
        precision: train(quick_config(precision=precision, **settings), evaluate_untrained=True)
        for precision in ("fp32", "bf16", "fp16")
    }
    untrained = runs["fp32"].evaluations[0].metrics["eval/loss"]
    finals = {precision: run.final for precision, run in runs.items()}
    assert max(finals.values()) < 0.9 * untrained
    assert finals["bf16"] == pytest.approx(finals["fp32"], rel=0.03)
    assert finals["fp16"] == pytest.approx(finals["fp32"], rel=0.03)
    norms = {precision: run.evaluations[1].steps[0].grad_norm for precision, run in runs.items()}
    assert norms["fp16"] == pytest.approx(norms["fp32"], rel=0.05)


def test_ranks_on_gpus_speak_nccl(gpu_rank):
    summed = torch.ones(4, device=DEVICE)
    dist.all_reduce(summed)
    assert dist.get_backend() == ("nccl" if HAS_GPU else "gloo") and summed.tolist() == [1.0] * 4


@pytest.mark.parametrize("stage", [0, 2])
def test_fp16_skips_steps_that_overflow_and_keeps_to_the_schedule(gpu_rank, job_of, quick_config, stage):
    config = on_gpu(quick_config(precision="fp16", zero_stage=stage, config=OVERFLOWS))
    gpu_rank.prepare(job_of(config))
    engine = gpu_rank._running()._executor.engine
    losses, _ = finished(gpu_rank)
    assert 0 < engine.skipped_steps < engine.global_steps
    assert engine.lr_scheduler.last_epoch == engine.global_steps
    assert losses[-1] < losses[0]
    gpu_rank.stop()


SAME = {
    "bf16": {"precision": "bf16", "zero_stage": 0},
    "fp16, ZeRO 2": {"precision": "fp16", "zero_stage": 2},
    "fp16, its scale": {"precision": "fp16", "zero_stage": 0, "config": OVERFLOWS},
    "ZeRO 3, all offloaded": {"precision": "bf16", "zero_stage": 3, "offload": "all"},
    "adapters, dropout, packed": {
        "precision": "bf16",
        "packing": True,
        "per_device_batch_size": 2,
        **ADAPTERS,
    },
    "checkpointing": {"precision": "bf16", "gradient_checkpointing": True, "gradient_accumulation_steps": 2},
}


@pytest.mark.parametrize("variant", SAME)
def test_a_run_and_one_that_is_resumed_are_the_first_one_to_the_last_bit(
    gpu_rank, job_of, quick_config, tmp_path, variant
):
    job = job_of(on_gpu(quick_config(epochs=0.5, **SAME[variant])))
    gpu_rank.prepare(job)
    gpu_rank.advance()
    gpu_rank.checkpoint(tmp_path / "state")
    losses, weights = finished(gpu_rank)
    weights = {name: weight.cpu() for name, weight in weights.items()}
    gpu_rank.prepare(replace(job, resume_from=tmp_path / "state"))
    resumed_losses, resumed = finished(gpu_rank)
    assert resumed_losses == losses
    assert all(torch.equal(weight.cpu(), weights[name]) for name, weight in resumed.items())
    gpu_rank.prepare(job)
    gpu_rank.advance()
    again, _ = finished(gpu_rank)
    assert again == losses
    gpu_rank.stop()


def test_a_trial_leaves_nothing_on_the_gpu_and_the_next_one_has_a_peak_of_its_own(
    gpu_rank, train, quick_config
):
    small, large = quick_config(precision="bf16"), quick_config(precision="bf16", per_device_batch_size=64)
    train(small)
    before_gib, held_gib = allocated_gib(), memory.held_memory_gib()
    peaks = [
        max(one.metrics["perf/peak_memory_gib"] for one in train(config).evaluations)
        for config in (small, large, small)
    ]
    assert allocated_gib() - before_gib < WORKSPACES_GIB
    assert memory.held_memory_gib() - held_gib < WORKSPACES_GIB + 0.3  # the host's part as well
    assert not gpu_rank.should_recycle()
    if HAS_GPU:
        assert peaks[0] < peaks[1] and peaks[2] == pytest.approx(peaks[0], rel=0.05)
        assert torch.cuda.memory_reserved() / 2**30 < before_gib + WORKSPACES_GIB


def test_what_is_over_the_limit_is_told_as_memory_and_the_limit_is_gone_after_the_trial(
    gpu_rank, train, job_of, quick_config, monkeypatch
):
    if REHEARSED:
        with monkeypatch.context() as patch:
            patch.setattr(Replicas, "optimizer_step", _out_of_memory)
            _require_too_large(gpu_rank, job_of, on_gpu(quick_config(precision="bf16")))
    else:
        large = quick_config(precision="fp32", per_device_batch_size=64)
        peak = max(one.metrics["perf/peak_memory_gib"] for one in train(large).evaluations)
        _require_too_large(gpu_rank, job_of, on_gpu(large, limit_gib=0.7 * peak))
    gpu_rank.stop()
    assert train(quick_config(precision="bf16")).evaluations[-1].done
    if HAS_GPU:
        assert torch.cuda.get_per_process_memory_fraction() == 1.0


def _out_of_memory(*_) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB (a rehearsal)")


def _require_too_large(rank, job_of, config) -> None:
    with pytest.raises(TrialOutOfMemoryError, match="out of memory"):
        called(rank, "prepare", job_of(config))
        called(rank, "advance")


def test_what_a_gpu_has_for_tensors_is_what_contexts_and_strangers_leave(gpu_rank):
    """Prints what the context of this process takes, for which the package has an allowance."""
    whole, quarter = memory.capacity_gib(), memory.capacity_gib(gpu_share=0.25)
    if not HAS_GPU:
        return
    total_gib = torch.cuda.get_device_properties(0).total_memory / 2**30
    print(f"context and strangers: {total_gib - whole:.2f} GiB of {total_gib:.1f}")
    assert 0 < quarter < whole < total_gib


@pytest.mark.parametrize("model_type", [one for one in MODELS if one != "gpt2"])
def test_torchs_kernel_gives_each_row_the_loss_and_gradients_of_row_by_row(monkeypatch, model_type):
    if REHEARSED:
        monkeypatch.setattr(attention, "_varlen_kernel", lambda: _of_2_13)
    torch.use_deterministic_algorithms(HAS_GPU)
    split, found = rows_of([5, 30, 2, 17, 9, 125]), {}
    for name in (ROW_WISE, VARLEN, VARLEN):
        model = tiny(model_type).bfloat16().to(DEVICE)
        model.set_attn_implementation(name)
        layout = attention.layout_named(name)
        batch = device_batch(split, range(split.rows), layout=layout, pad_id=0, device=DEVICE)
        loss = completion_nll(completion_logits(model, batch), batch.targets)
        loss.backward()
        gradient = torch.cat([weight.grad.flatten().float() for weight in model.parameters()])
        if name in found:  # once more, to the last bit
            assert torch.equal(found[name][1], gradient)
        found[name] = loss.item(), gradient
    (expected, by_row), (loss, by_call) = found[ROW_WISE], found[VARLEN]
    assert loss == pytest.approx(expected, rel=0.01)
    assert float((by_call - by_row).norm() / by_row.norm()) < 0.05


@pytest.mark.parametrize("model_type", ["llama", "gemma3_text", "gpt_oss"])
def test_the_check_of_rows_takes_the_kernel_where_it_is_exact_and_names_it(model_type):
    from tiny_models import tiny_config, tiny_model

    found = check_rows(tiny_model(tiny_config(model_type, 96)).bfloat16(), DEVICE)
    assert not found.refused and f"attention: {attention.attention_words(found.attention)}" in found.note()
    print(found.note())
    if HAS_GPU and model_type == "llama":
        assert found.attention == VARLEN and not found.unrepeatable


def test_answers_are_generated_beside_training_and_change_no_loss(train, quick_config):
    from sweeper.space import Evaluation

    config = quick_config(precision="bf16", epochs=0.5)
    asked = Evaluation(metrics=("exact_match",), rows=4, max_new_tokens=4)
    answered = train(config.model_copy(update={"evaluation": asked}))
    assert "eval/exact_match" in answered.evaluations[-1].metrics
    assert answered.losses == train(config).losses

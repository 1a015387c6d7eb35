"""A trial is a real DeepSpeed run: it learns, exactly, whatever the split and whatever came before."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from sweeper.data import spread
from sweeper.errors import ModelError, TrialDivergedError
from sweeper.space import Evaluation
from sweeper.training import feed


@pytest.fixture(scope="module")
def reference(run, quick_config):
    return run(quick_config(), evaluate_untrained=True)


def test_training_lowers_the_held_out_loss(reference):
    assert reference.evaluations[0].tokens == 0
    assert reference.final < 0.8 * reference.evaluations[0].metrics["eval/loss"]


def test_evaluations_come_at_the_asked_number_of_points_on_the_token_axis(reference):
    trained = reference.evaluations[1:]
    assert len(trained) == 3
    total = reference.prepared.total_tokens
    assert trained[-1].tokens == total
    for share, progress in enumerate(trained, start=1):
        assert progress.tokens == pytest.approx(total * share / 3, rel=0.15)


def test_the_loss_is_measured_on_the_rows_that_are_asked_for(run, simple_rows, tmp_path):
    config = simple_rows(Evaluation(held_out_rows=7), epochs=2)
    some = run(config)
    lines = Path(config.eval_data).read_text().split("\n")
    chosen = spread(len(lines), 7)
    (tmp_path / "eval.jsonl").write_text("\n".join(lines[one] for one in chosen))
    alone = config.model_copy(update={"eval_data": str(tmp_path / "eval.jsonl"), "evaluation": Evaluation()})
    assert len(chosen) < len(lines)
    assert some.losses == run(alone).losses
    assert some.losses != run(config.model_copy(update={"evaluation": Evaluation()})).losses


def test_held_out_rows_too_many_to_keep_on_the_device_are_measured_the_same(
    run, rank, simple_rows, monkeypatch
):
    config = simple_rows(Evaluation(), epochs=2)
    kept = run(config)
    monkeypatch.setattr(feed, "_KEPT_TOKENS", 0)
    monkeypatch.setattr(rank, "_evaluations", {})
    whole, made = feed.device_batch, []

    def device_batch(split, *given, **named):
        made.append(split.rows)
        return whole(split, *given, **named)

    monkeypatch.setattr(feed, "device_batch", device_batch)
    assert run(config).losses == kept.losses
    (held_out,) = rank._evaluations.values()
    assert made.count(24) == len(held_out.batches) * len(kept.evaluations)


def test_every_optimizer_step_is_reported_once_with_its_lr(reference):
    steps = [step for progress in reference.evaluations for step in progress.steps]
    assert [step.step for step in steps] == list(range(1, reference.prepared.total_steps + 1))
    assert all(step.grad_norm and step.grad_norm > 0 for step in steps)
    assert max(step.lr for step in steps) == pytest.approx(1e-3)
    assert steps[-1].lr < 1e-4


def test_perplexity_and_speed_are_measured(reference):
    metrics = reference.evaluations[-1].metrics
    assert metrics["eval/perplexity"] == pytest.approx(math.exp(metrics["eval/loss"]))
    assert 0 < metrics["eval/token_accuracy"] < 1
    assert metrics["perf/tokens_per_s"] > 0 and metrics["perf/peak_memory_gib"] > 0.05


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_zero_stage_changes_where_things_lie_not_what_is_learned(run, quick_config, reference, stage):
    assert run(quick_config(zero_stage=stage)).final == pytest.approx(reference.final, abs=1e-4)


def test_accumulation_and_micro_batches_are_interchangeable(run, quick_config, reference):
    split = run(quick_config(per_device_batch_size=2, gradient_accumulation_steps=4))
    assert split.losses == pytest.approx(
        reference.losses[: -len(reference.evaluations)]
        + [progress.metrics["eval/loss"] for progress in reference.evaluations[1:]],
        abs=1e-3,
    )


def test_a_warm_worker_gives_the_losses_of_its_first_trial_to_the_last_bit(run, quick_config, reference):
    run(quick_config(lr=3e-2, scheduler="constant", zero_stage=2))
    again = run(quick_config(), evaluate_untrained=True)
    assert again.losses == reference.losses


def test_gradient_checkpointing_trades_memory_and_keeps_the_loss(run, quick_config, reference):
    assert run(quick_config(gradient_checkpointing=True)).final == pytest.approx(reference.final, abs=1e-4)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_bf16_trains_close_to_fp32_at_every_zero_stage(run, quick_config, reference, stage):
    final = run(quick_config(precision="bf16", zero_stage=stage)).final
    assert final == pytest.approx(reference.final, rel=0.01)


def test_adapters_train_few_parameters_and_lower_the_loss(run, quick_config, reference):
    adapted = run(quick_config(lora={"rank": 4, "alpha": 16}, lr=1e-2))
    assert adapted.final < reference.evaluations[0].metrics["eval/loss"]


def test_adapters_on_modules_that_are_not_there_name_the_setting(rank, job_of, quick_config):
    with pytest.raises(ModelError, match=r"training\.lora\.targets"):
        rank.prepare(job_of(quick_config(lora={"targets": ["no_such_module"]})))


def test_packed_rows_do_not_see_each_other(run, longer_config):
    """With one global batch per epoch, packed or not, the first loss is of the same rows."""
    rows = 96
    apart = run(longer_config(per_device_batch_size=rows))
    assert apart.prepared.total_steps == 1
    together = run(longer_config(per_device_batch_size=1, packing=True, gradient_accumulation_steps=1))
    sequences = together.prepared.total_steps
    packed = run(longer_config(per_device_batch_size=sequences, packing=True))
    assert packed.prepared.total_steps == 1
    assert packed.losses[0] == pytest.approx(apart.losses[0], abs=1e-5)


def test_a_hopeless_learning_rate_is_called_diverged_with_its_step_and_lr(rank, job_of, quick_config):
    rank.prepare(job_of(quick_config(lr=10, scheduler="constant", max_grad_norm=0, epochs=3)))
    with pytest.raises(TrialDivergedError, match=r"diverged at step \d+, lr "):
        for _ in range(3):
            rank.advance()
    rank.stop()


def test_a_saved_model_loads_and_has_the_loss_that_was_promised(rank, run_in, job_of, quick_config, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    trained = run_in(rank, job_of(quick_config()))
    rank.save_model(tmp_path / "model")
    rank.stop()
    assert AutoTokenizer.from_pretrained(tmp_path / "model").chat_template
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    weights = sum(parameter.numel() for parameter in model.parameters())
    assert 1e6 < weights < 3e6
    again = quick_config(lr=1e-12).model_copy(update={"model_path": str(tmp_path / "model")})
    untrained = run_in(rank, job_of(again, evaluate_untrained=True)).evaluations[0]
    rank.stop()
    assert untrained.metrics["eval/loss"] == pytest.approx(trained.final, abs=1e-6)


def test_adapters_are_saved_by_themselves_or_merged_with_the_loss_they_were_promised(
    rank, run_in, job_of, quick_config, tmp_path
):
    from peft import AutoPeftModelForCausalLM

    config = quick_config(lora={"rank": 4, "alpha": 16, "targets": "q_proj, v_proj"}, lr=1e-2)
    trained = run_in(rank, job_of(config))
    rank.save_model(tmp_path / "adapter")
    rank.save_model(tmp_path / "merged", merge=True)
    rank.stop()
    adapter = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
    assert adapter.peft_config["default"].r == 4
    assert (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size < 2**20
    plain = quick_config(lr=1e-12).model_copy(update={"model_path": str(tmp_path / "merged")})
    untrained = run_in(rank, job_of(plain, evaluate_untrained=True)).evaluations[0]
    rank.stop()
    assert untrained.metrics["eval/loss"] == pytest.approx(trained.final, abs=1e-5)


@pytest.mark.parametrize(("stage", "offload"), [(1, "optimizer"), (2, "optimizer"), (3, "all")])
def test_offloading_changes_where_states_lie_not_what_is_learned(
    run, quick_config, reference, stage, offload
):
    final = run(quick_config(zero_stage=stage, offload=offload)).final
    assert final == pytest.approx(reference.final, abs=1e-4)


@pytest.mark.parametrize(("precision", "instead"), [("bf16", "fp32"), ("fp16", "bf16")])
def test_a_precision_that_the_device_has_not_is_told_before_training(
    rank, job_of, quick_config, monkeypatch, precision, instead
):
    from deepspeed.accelerator import get_accelerator

    for each in ("bf16", "fp16"):  # some processors have both, some neither
        monkeypatch.setattr(
            type(get_accelerator()), f"is_{each}_supported", lambda _, has=each == instead: has
        )
    with pytest.raises(ModelError, match=precision) as told:
        rank.prepare(job_of(quick_config(precision=precision)))
    (problem,) = told.value.problems
    assert (problem.where, problem.remedy) == ("deepspeed.precision", f"write precision: {instead}")


def test_a_pause_is_heard_however_short_the_way_to_the_next_evaluation_is(rank, quick_config, job_of):
    rank.prepare(job_of(quick_config(epochs=0.5)))
    first = rank.advance()
    rank.want_pause()
    second, third = rank.advance(), rank.advance()
    assert first.step < second.step and not second.done and not second.paused
    assert third.paused and third.step == second.step
    rank.stop()


@pytest.mark.parametrize("evaluate_untrained", [True, False])
def test_a_pause_that_was_wanted_before_a_trial_began_costs_it_no_step(
    rank, quick_config, job_of, evaluate_untrained
):
    config = quick_config(epochs=0.5)
    rank.prepare(job_of(config, evaluate_untrained=evaluate_untrained))
    rank.want_pause()
    nothing = rank.advance()
    assert nothing.paused and (nothing.step, nothing.tokens, nothing.steps) == (0, 0, ())
    rank.prepare(job_of(config, evaluate_untrained=evaluate_untrained))
    first = rank.advance()
    assert not first.paused and (first.step == 0) == evaluate_untrained
    rank.stop()

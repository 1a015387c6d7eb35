"""A model spread over ranks, by layers or by matrices, learns what one rank learns."""

from __future__ import annotations

from dataclasses import replace

import pytest
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from sweeper.errors import ModelError
from sweeper.training.model.loading import save_model_folder

pytestmark = pytest.mark.usefixtures("ray_here")

CLIPPED = {"max_grad_norm": 0.1, "lr": 3e-3, "epochs": 0.5}
SPREAD = {
    "pp 2": {"pp": 2},
    "pp 2, zero 1": {"pp": 2, "zero_stage": 1},
    "tp 2": {"tp": 2},
    "tp 2, zero 1": {"tp": 2, "zero_stage": 1},
    "tp 2, zero 2": {"tp": 2, "zero_stage": 2},
    "tp 2, zero 3": {"tp": 2, "zero_stage": 3},
    "dp 2 x pp 2": {"dp": 2, "pp": 2, "per_device_batch_size": 4},
    "dp 2 x pp 2, zero 1": {"dp": 2, "pp": 2, "per_device_batch_size": 4, "zero_stage": 1},
    "dp 2 x tp 2, zero 2": {"dp": 2, "tp": 2, "per_device_batch_size": 4, "zero_stage": 2},
}
"""Ordered by ranks, so that each number of processes is started once."""
REPLICAS = {"dp 2, zero 2": {"dp": 2, "per_device_batch_size": 4, "zero_stage": 2}}
VARIANTS = {
    "accumulation": {"per_device_batch_size": 2, "gradient_accumulation_steps": 4},
    "packed": {"per_device_batch_size": 2, "gradient_accumulation_steps": 2, "packing": True},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "without clipping": {"max_grad_norm": 0},
    "adapters": {"lora": {"rank": 4, "alpha": 16}, "lr": 1e-2},
}


@pytest.fixture
def spread(group_of, run_in, job_of):
    def go(config):
        group = group_of(config)
        result = run_in(group, job_of(config))
        group.stop()
        return result

    return go


def norms(run) -> list[float]:
    return [step.grad_norm for progress in run.evaluations for step in progress.steps]


def weights(folder):
    return load_file(folder / "model.safetensors")


def tiny_folder(folder, kind: str, **options):
    """A random model that reads the packaged tokenizer's tokens."""
    sizes = {"vocab_size": 1536, "hidden_size": 32, "intermediate_size": 64, "head_dim": 8}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**sizes, **options}))
    save_model_folder(model, folder, model_path="builtin:quickstart", state_dict=None)
    return str(folder)


@pytest.fixture(scope="module")
def alone(run, quick_config):
    return run(quick_config(**CLIPPED))


@pytest.mark.parametrize("way", [way for way in SPREAD if "dp" not in way])
def test_two_ranks_have_the_losses_and_norms_of_one_while_gradients_are_clipped(
    alone, spread, quick_config, way
):
    together = spread(quick_config(**CLIPPED, **SPREAD[way]))
    assert together.losses == pytest.approx(alone.losses, abs=1e-4)
    assert norms(together) == pytest.approx(norms(alone), rel=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_pipeline_stages_agree_with_one_rank_in_every_way_of_training(run, spread, quick_config, variant):
    together = spread(quick_config(pp=2, **VARIANTS[variant]))
    one = run(quick_config(**VARIANTS[variant]))
    assert together.losses == pytest.approx(one.losses, abs=1e-4)
    assert norms(together) == pytest.approx(norms(one), rel=1e-4)


def test_tensor_shares_agree_with_one_rank_on_packed_and_recomputed_batches(run, spread, quick_config):
    config = {**VARIANTS["packed"], "gradient_checkpointing": True}
    assert spread(quick_config(tp=2, **config)).losses == pytest.approx(
        run(quick_config(**config)).losses, abs=1e-4
    )


@pytest.mark.parametrize("zero_stage", [0, 1])
def test_bf16_stages_train_close_to_fp32(alone, spread, quick_config, zero_stage):
    half = spread(quick_config(**CLIPPED, pp=2, precision="bf16", zero_stage=zero_stage))
    assert half.final == pytest.approx(alone.final, rel=0.05)


def test_warm_ranks_repeat_a_trial_to_the_last_bit(spread, quick_config):
    first = spread(quick_config(pp=2, epochs=0.5))
    spread(quick_config(pp=2, lr=1e-2, zero_stage=1, epochs=0.5))
    assert spread(quick_config(pp=2, epochs=0.5)).losses == first.losses


@pytest.mark.parametrize(("before", "zero_stage"), [("pp 2", 2), ("tp 2", 0)])
def test_replicas_after_a_model_that_was_spread_learn_what_one_rank_learns(
    alone, spread, quick_config, before, zero_stage
):
    """DeepSpeed keeps who shared the model with whom in its modules, beyond the engine's end."""
    spread(quick_config(**SPREAD[before], epochs=0.25))
    replicas = quick_config(**CLIPPED, dp=2, per_device_batch_size=4, zero_stage=zero_stage)
    assert spread(replicas).losses == pytest.approx(alone.losses, abs=1e-4)


@pytest.mark.parametrize("way", ["pp 2", "tp 2", "tp 2, zero 3"])
def test_the_saved_model_is_that_of_one_rank(rank, group_of, run_in, job_of, quick_config, tmp_path, way):
    """At a low rate, because Adam makes steps of the rate's size out of the last bits of a gradient."""
    config = quick_config(lr=1e-4, epochs=0.5, **SPREAD[way])
    group = group_of(config)
    final = run_in(group, job_of(config)).final
    group.save_model(tmp_path / "spread")
    group.stop()
    run_in(rank, job_of(quick_config(lr=1e-4, epochs=0.5)))
    rank.save_model(tmp_path / "alone")
    again = quick_config(lr=1e-12, epochs=0.5).model_copy(update={"model_path": str(tmp_path / "spread")})
    untrained = run_in(rank, job_of(again, evaluate_untrained=True)).evaluations[0]
    rank.stop()
    assert untrained.metrics["eval/loss"] == pytest.approx(final, abs=1e-5)
    saved, expected = weights(tmp_path / "spread"), weights(tmp_path / "alone")
    assert saved.keys() == expected.keys()
    assert max((saved[name] - expected[name]).abs().max() for name in expected) < 1e-5


def test_adapters_of_all_stages_are_saved(rank, group_of, run_in, job_of, quick_config, tmp_path):
    adapters = {"lora": {"rank": 4, "alpha": 16}, "lr": 1e-2}
    config = quick_config(pp=2, **adapters)
    run_in(group_of(config), job_of(config))
    group_of(config).save_model(tmp_path / "spread")
    group_of(config).stop()
    run_in(rank, job_of(quick_config(**adapters)))
    rank.save_model(tmp_path / "alone")
    rank.stop()
    saved, expected = (
        load_file(tmp_path / name / "adapter_model.safetensors") for name in ("spread", "alone")
    )
    assert saved.keys() == expected.keys()
    assert max((saved[name] - expected[name]).abs().max() for name in expected) < 1e-4


@pytest.mark.parametrize("way", [{"pp": 2}, {"tp": 2}], ids=["pp 2", "tp 2"])
def test_norms_of_queries_and_a_head_of_its_own_are_learned_as_on_one_rank(
    run, spread, quick_config, tmp_path, way
):
    folder = tiny_folder(tmp_path / "model", "qwen3", tie_word_embeddings=False)
    one = run(quick_config(**CLIPPED).model_copy(update={"model_path": folder}))
    together = spread(quick_config(**CLIPPED, **way).model_copy(update={"model_path": folder}))
    assert together.losses == pytest.approx(one.losses, abs=1e-4)
    assert norms(together) == pytest.approx(norms(one), rel=1e-4)


def test_what_cannot_be_spread_is_refused_before_training(group_of, job_of, quick_config, tmp_path):
    heads = tiny_folder(
        tmp_path / "heads", "llama", hidden_size=48, num_attention_heads=3, num_key_value_heads=3
    )
    other = tiny_folder(tmp_path / "other", "gpt2", n_embd=32, n_head=4, n_layer=2)
    for folder, way, rule in (
        (heads, {"tp": 2}, r"3 attention heads"),
        (other, {"tp": 2}, r"gpt2, for which transformers has no plan"),
        (other, {"pp": 2}, r"gpt2; those that can"),
    ):
        config = quick_config(**way).model_copy(update={"model_path": folder})
        with pytest.raises(ModelError, match=rule):
            group_of(config).prepare(job_of(config))


def interrupted_and_not(group, job, folder):
    """The losses and weights of a run to its end, and of the same run resumed from its first evaluation."""
    found = []
    for resume_from in (None, folder / "checkpoint"):
        group.prepare(replace(job, resume_from=resume_from))
        if resume_from is None:
            group.advance()
            group.checkpoint(folder / "checkpoint")
        losses, done = [], False
        while not done:
            progress = group.advance()
            losses += [step.loss for step in progress.steps] + [progress.metrics["eval/loss"]]
            done = progress.done
        group.save_model(folder / f"model-{len(found)}")
        group.stop()
        found.append((losses, weights(folder / f"model-{len(found)}")))
    return found


@pytest.mark.parametrize("way", ["dp 2, zero 2", "pp 2", "tp 2", "tp 2, zero 3", "dp 2 x pp 2, zero 1"])
def test_an_interrupted_run_ends_in_the_same_weights_to_the_last_bit(
    group_of, job_of, quick_config, tmp_path, way
):
    config = quick_config(epochs=0.5, **(SPREAD | REPLICAS)[way])
    (losses, whole), (resumed_losses, resumed) = interrupted_and_not(
        group_of(config), job_of(config), tmp_path
    )
    assert resumed_losses == losses
    assert all(resumed[name].equal(whole[name]) for name in whole)


def test_four_shares_after_two_learn_what_one_rank_learns(run, spread, quick_config, tmp_path):
    folder = tiny_folder(tmp_path / "model", "llama", num_key_value_heads=4)
    config = quick_config(**CLIPPED).model_copy(update={"model_path": folder})
    by_two = quick_config(**CLIPPED, **SPREAD["dp 2 x tp 2, zero 2"])
    by_four = quick_config(**CLIPPED, tp=4)
    losses = run(config).losses
    for ways in (by_two, by_four, by_two):
        again = ways.model_copy(update={"model_path": folder})
        assert spread(again).losses == pytest.approx(losses, abs=1e-4)


@pytest.mark.parametrize("way", [way for way in SPREAD if "dp" in way])
def test_four_ranks_have_the_losses_and_norms_of_one_while_gradients_are_clipped(
    alone, spread, quick_config, way
):
    together = spread(quick_config(**CLIPPED, **SPREAD[way]))
    assert together.losses == pytest.approx(alone.losses, abs=1e-4)
    assert norms(together) == pytest.approx(norms(alone), rel=1e-4)

"""One architecture of each kind, trained for real: rows together are rows alone, saved is as promised.

``tests/benchmarks/architectures.py`` does the same with every class of transformers.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from architecture_proof import make_folder, plain_loss, prove
from tiny_models import tiny_config, tiny_model

from sweeper.data import model_folder, tokenized
from sweeper.errors import ModelError
from sweeper.training.parallel.optimizer import adamw, is_decayed

CLOSE = 2e-5
"""Nats per token."""


@pytest.fixture
def short_config(quick_config):
    def make(**changes):
        config = quick_config(epochs=0.3, **changes)
        return config.model_copy(update={"objective": config.objective.model_copy(update={"evaluations": 1})})

    return make


@pytest.mark.parametrize(
    ("kind", "rows", "merges"),
    [
        ("gpt_oss", "one after another", True),
        ("gemma2", "one after another", False),
        ("vaultgemma", "one after another", False),
        ("llama4_text", "one after another", False),
        ("granite_swa", "one after another", False),
        ("gemma3_text", "one after another", False),
        ("qwen3_moe", "one after another", False),
        ("lfm2", "padded", True),
        ("granitemoehybrid", "padded", False),
        ("recurrent_gemma", "padded", False),
        ("minimax", "padded", False),
        ("falcon", "padded", False),
    ],
)
def test_rows_are_what_they_are_alone_and_the_saved_model_has_the_loss_that_was_promised(
    rank, job_of, short_config, tmp_path, kind, rows, merges
):
    proof = prove(kind, tmp_path, rank, short_config(), job_of, merges=merges)
    assert rows in proof.rows and not proof.refused
    assert proof.together < CLOSE and proof.saved < CLOSE
    assert not merges or proof.merged < CLOSE


def test_what_cannot_be_trained_is_refused_by_name(rank, job_of, short_config, tmp_path):
    make_folder("bert", tmp_path / "model")
    config = short_config().model_copy(update={"model_path": str(tmp_path / "model")})
    with pytest.raises(ModelError, match="BertLMHeadModel says something else of a token"):
        rank.prepare(job_of(config))


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_adapters_on_one_end_of_a_tied_weight_are_merged_into_that_end(
    rank, job_of, short_config, tmp_path, target
):
    lora = {"rank": 4, "alpha": 64.0, "targets": ["q_proj", target]}
    job = job_of(short_config(lora=lora, lr=1e-2))
    rank.prepare(job)
    promised = rank.advance().metrics["eval/loss"]
    rank.save_model(tmp_path / "merged", True)
    rank.stop()
    held_out = tokenized(job.config, job.data_dir).eval
    assert plain_loss(tmp_path / "merged", held_out) == pytest.approx(promised, abs=CLOSE)
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["tie_word_embeddings"] is False


def test_the_saved_configuration_is_that_of_the_source(rank, job_of, short_config, tmp_path):
    job = job_of(short_config())
    rank.prepare(job)
    rank.advance()
    rank.save_model(tmp_path / "saved")
    rank.stop()
    source = Path(model_folder(job.config.model_path))
    ours, theirs = (json.loads((one / "config.json").read_text()) for one in (tmp_path / "saved", source))
    assert ours.pop("transformers_version") and theirs.pop("transformers_version")
    assert ours == theirs and ours["use_cache"] is True


@pytest.mark.parametrize(
    ("kind", "changes", "kept"),
    [
        ("cohere", {"use_qk_norm": True}, {"q_norm.weight", "k_norm.weight"}),
        ("gpt_oss", {}, {"experts.gate_up_proj_bias", "experts.down_proj_bias"}),
        ("recurrent_gemma", {}, {"rg_lru.input_gate_bias", "rg_lru.recurrent_gate_bias"}),
    ],
)
def test_weight_decay_leaves_norms_and_biases_alone_that_are_matrices(kind, changes, kept):
    model = tiny_model(tiny_config(kind, 96, **changes))
    found = {
        ".".join(name.split(".")[-2:])
        for name, weight in model.named_parameters()
        if weight.ndim > 1 and not is_decayed(model, name, weight)
    }
    assert found == kept


def test_weight_decay_takes_every_matrix_of_a_llama_and_of_its_adapters(quick_config):
    import peft

    training = quick_config(weight_decay=0.1).training
    model = tiny_model(tiny_config("llama", 96))
    decayed, rest = adamw(model, training).param_groups
    assert {weight.ndim for weight in decayed["params"]} == {2} and decayed["weight_decay"] == 0.1
    assert {weight.ndim for weight in rest["params"]} == {1} and rest["weight_decay"] == 0.0
    adapted = peft.get_peft_model(model, peft.LoraConfig(target_modules="all-linear"))
    (adapters,) = adamw(adapted, training).param_groups
    assert len(adapters["params"]) == 2 * 7 * 2 and adapters["weight_decay"] == 0.1

"""The layers of a pipeline, one after another, are the model."""

from __future__ import annotations

import itertools

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from sweeper.errors import ModelError
from sweeper.space import STAGED
from sweeper.training.model.attention import ROW_WISE
from sweeper.training.parallel.stages import stage_layers

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
WINDOWS = {
    "mistral": {"sliding_window": 4},
    "qwen2": {"sliding_window": 4, "use_sliding_window": True, "max_window_layers": 2},
    "qwen3": {"sliding_window": 4, "use_sliding_window": True, "max_window_layers": 2},
}


def tiny(kind: str, **options):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **{**SIZES, **options}))
    model.set_attn_implementation(ROW_WISE)
    return model.eval()


def staged_logits(layers, travelling):
    for spec in layers:
        built = spec.build()
        forward = getattr(spec, "forward_fn", None)
        travelling = forward(built, travelling) if forward else built(travelling)
    return travelling


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("kind", STAGED)
@torch.no_grad()
def test_layers_in_a_row_give_the_logits_of_the_model_for_every_architecture(rank, quick_config, kind, tied):
    model = tiny(kind, tie_word_embeddings=tied, **WINDOWS.get(kind, {}))
    lengths, predicting = (7, 1, 12), torch.tensor([2, 6, 7, 15, 19])
    tokens = torch.randint(1, 64, (1, sum(lengths)))
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    whole = model(
        input_ids=tokens,
        position_ids=positions,
        logits_to_keep=predicting,
        use_cache=False,
        row_lengths=lengths,
    ).logits
    layers = stage_layers(model, quick_config(pp=2), "row_wise")
    assert torch.equal(staged_logits(layers, (tokens, positions, predicting)), whole)


def test_an_architecture_that_cannot_be_staged_is_refused_with_those_that_can(rank, quick_config):
    with pytest.raises(ModelError, match=r"gpt2; those that can .* llama, mistral, qwen2, qwen3, smollm3"):
        stage_layers(tiny("gpt2", n_embd=32, n_head=4, n_layer=2), quick_config(pp=2), "padded")


def test_more_stages_than_layers_are_refused(rank, quick_config):
    with pytest.raises(ModelError, match=r"has 4 layers.*\n.*write pp: 4 or less"):
        stage_layers(tiny("llama"), quick_config(pp=5), "row_wise")


@pytest.mark.parametrize(
    ("targets", "tied", "rule"),
    [
        (["q_proj", "embed_tokens"], True, "neither can have an adapter"),
        (["lm_head"], False, "needs something to train"),
    ],
)
def test_adapters_that_do_not_go_with_stages_are_refused(rank, quick_config, targets, tied, rule):
    import peft

    settings = peft.LoraConfig(target_modules=targets, ensure_weight_tying=tied)
    model = peft.get_peft_model(tiny("llama", tie_word_embeddings=tied), settings)
    with pytest.raises(ModelError, match=rule):
        stage_layers(model, quick_config(pp=2, lora={"targets": targets}), "row_wise")


@pytest.mark.parametrize(("layers", "pp"), [(4, 3), (5, 4), (7, 4), (30, 8), (9, 8)])
def test_every_stage_has_a_decoder_layer(layers, pp):
    """PipelineModule shares the layers out by this function, the decoder layers weighing 1."""
    from deepspeed.runtime.utils import partition_balanced

    weights = [0, *[1] * layers, 0, 0]
    parts = partition_balanced(weights, pp)
    shares = [sum(weights[start:end]) for start, end in itertools.pairwise(parts)]
    assert min(shares) >= 1 and max(shares) - min(shares) <= 1

"""Rows of one sequence never see each other: each has the loss that it has alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from sweeper.data import TokenizedSplit
from sweeper.data.render.tokens import TokenRow
from sweeper.training.model.attention import ROW_WISE, flat_attentions, layout_of
from sweeper.training.model.loss import completion_logits, device_batch

WINDOW = 8
MODELS = {
    "llama": {},
    "mistral": {"sliding_window": WINDOW},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "gemma3_text": {
        "head_dim": 16,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "gpt2": {"n_embd": 32, "n_head": 2, "n_layer": 2, "n_positions": 256},
}
VOCABULARY = 64


def tiny(model_type: str) -> torch.nn.Module:
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 256,
    }
    kwargs = MODELS[model_type] if model_type == "gpt2" else sizes | MODELS[model_type]
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, vocab_size=VOCABULARY, **kwargs)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    for parameter in model.parameters():  # far from uniform, so that a leak would show
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def rows_of(lengths: list[int], seed: int = 0) -> TokenizedSplit:
    random = np.random.RandomState(seed)
    rows = []
    for length in lengths:
        mask = random.rand(length) < 0.5
        mask[0], mask[-1] = False, True
        ids = random.randint(0, VOCABULARY, length).astype(np.int32)
        rows.append(TokenRow(ids, mask, False, len(ids), int(mask.argmax())))
    return TokenizedSplit.of(rows)


def losses_alone(model, split: TokenizedSplit) -> list[float]:
    """Summed loss of each row by transformers' eager attention, one forward pass each."""
    model.set_attn_implementation("eager")
    losses = []
    for row in range(split.rows):
        ids, mask = (torch.from_numpy(np.array(array)) for array in split.row(row))
        logits = model(input_ids=ids[None].long(), use_cache=False).logits[0, :-1].float()
        nll = F.cross_entropy(logits, ids[1:].long(), reduction="none")
        losses.append(float(nll[mask[1:]].sum()))
    return losses


def losses_together(model, split: TokenizedSplit) -> list[float]:
    """The same from one flat sequence of all rows."""
    model.set_attn_implementation(ROW_WISE)
    batch = device_batch(split, range(split.rows), layout="row_wise", pad_id=0, device="cpu")
    nll = F.cross_entropy(completion_logits(model, batch)[0], batch.targets[0], reduction="none")
    return [float(part.sum()) for part in nll.split(split.completion_tokens.tolist())]


@pytest.mark.parametrize("model_type", MODELS)
@torch.no_grad()
def test_each_row_of_a_sequence_has_the_loss_that_it_has_alone(model_type):
    model, split = tiny(model_type), rows_of([5, 30, 2, 17, 9, 25])
    alone, together = losses_alone(model, split), losses_together(model, split)
    tokens = split.completion_tokens
    assert [loss / count for loss, count in zip(together, tokens, strict=True)] == pytest.approx(
        [loss / count for loss, count in zip(alone, tokens, strict=True)], abs=1e-5
    )


@settings(max_examples=25)
@given(lengths=st.lists(st.integers(2, 40), min_size=1, max_size=8), seed=st.integers(0, 1000))
def test_whatever_the_rows_none_changes_another(lengths, seed):
    with torch.no_grad():
        model, split = tiny("llama"), rows_of(lengths, seed)
        assert losses_together(model, split) == pytest.approx(losses_alone(model, split), abs=1e-4)


def test_logits_are_computed_for_the_tokens_that_carry_loss_and_no_others():
    split = rows_of([12, 7, 20])
    batch = device_batch(split, range(3), layout="row_wise", pad_id=0, device="cpu")
    model = tiny("llama")
    model.set_attn_implementation(ROW_WISE)
    assert completion_logits(model, batch).shape == (1, int(split.completion_tokens.sum()), VOCABULARY)
    assert batch.input_ids.shape == (1, 39), "and nothing is padding"


def test_a_model_that_is_not_told_the_rows_fails_instead_of_mixing_them():
    model = tiny("llama")
    model.set_attn_implementation(ROW_WISE)
    with pytest.raises(TypeError, match="row_lengths"):
        model(input_ids=torch.zeros(1, 4, dtype=torch.long), use_cache=False)


def test_the_layout_follows_from_the_attention_that_the_model_has():
    model = tiny("llama")
    assert layout_of(model) == "padded"
    model.set_attn_implementation(flat_attentions(torch.float32, "cpu")[0])
    assert layout_of(model) == "row_wise"


@torch.no_grad()
def test_a_padded_batch_has_the_losses_of_a_flat_one():
    model, split = tiny("llama"), rows_of([12, 7, 20])
    together = sum(losses_together(model, split))
    model.set_attn_implementation("sdpa")
    batch = device_batch(split, range(3), layout="padded", pad_id=0, device="cpu")
    logits = completion_logits(model, batch)
    padded = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="sum")
    assert float(padded) == pytest.approx(together, abs=1e-4)

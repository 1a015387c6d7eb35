"""Attention to all rows by one call: the loss that rows have alone; arithmetic stands for torch's kernel.

The kernel itself is of a GPU: tests/training/test_training_gpu.py.
"""

from __future__ import annotations

import pytest
import torch
from test_training_attention import MODELS, losses_alone, rows_of, tiny
from torch.nn import functional as F
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from sweeper.training.model import attention, row_check
from sweeper.training.model.attention import ROW_WISE, ROW_WISE_AS_ASKED, VARLEN
from sweeper.training.model.loss import completion_logits, device_batch


def _row_by_row(query, key, value, ends, window, scale, gqa=True):
    """[T, heads, size] -> the same: each row by torch's scaled dot-product attention."""
    said = []
    for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
        one = (tensor[start:end].transpose(0, 1)[None] for tensor in (query, key, value))
        place = torch.arange(end - start)
        back = place[:, None] - place[None]
        seen = (back >= 0) & (back <= window if window >= 0 else True)
        done = F.scaled_dot_product_attention(*one, attn_mask=seen, scale=scale, enable_gqa=gqa)
        said.append(done[0].transpose(0, 1))
    return torch.cat(said)


def _of_2_10(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False, return_aux=None):
    assert is_causal
    return _row_by_row(query, key, value, cu_seq_q, -1, None)


def _of_2_13(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *,
    return_aux=None, scale=None, window_size=(-1, -1), enable_gqa=False,
):  # fmt: skip
    assert window_size[1] == 0 and max_q == int(torch.diff(cu_seq_q).max())
    return _row_by_row(query, key, value, cu_seq_q, window_size[0], scale, enable_gqa)


def _flex(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1)):
    """FlexAttention's mask of documents: what else would keep rows apart in one call."""
    row = torch.repeat_interleave(torch.arange(len(cu_seq_q) - 1), torch.diff(cu_seq_q))
    window = window_size[0] if window_size[0] >= 0 else len(row)

    def seen(_batch, _head, q, k):
        return (row[q] == row[k]) & (k <= q) & (q - k <= window)

    mask = create_block_mask(seen, None, None, len(row), len(row), device="cpu")
    lines = (tensor.transpose(0, 1)[None] for tensor in (query, key, value))
    return flex_attention(*lines, block_mask=mask, scale=scale, enable_gqa=True)[0].transpose(0, 1)


@pytest.fixture
def kernel(monkeypatch):
    def use(function):
        monkeypatch.setattr(attention, "_varlen_kernel", lambda: function)

    return use


@pytest.mark.parametrize(
    ("model_type", "function"),
    [(one, _of_2_13) for one in MODELS]
    + [(one, _of_2_10) for one in ("llama", "qwen3")]
    + [("llama", _flex)],
)
@torch.no_grad()
def test_each_row_has_the_loss_that_it_has_alone(kernel, model_type, function):
    kernel(function)
    model, split = tiny(model_type), rows_of([5, 30, 2, 17, 9, 25])
    alone = losses_alone(model, split)
    model.set_attn_implementation(VARLEN)
    batch = device_batch(split, range(split.rows), layout="varlen", pad_id=0, device="cpu")
    nll = F.cross_entropy(completion_logits(model, batch)[0], batch.targets[0], reduction="none")
    together = [float(part.sum()) for part in nll.split(split.completion_tokens.tolist())]
    assert together == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize(
    ("model_type", "function", "chosen"),
    [
        ("llama", _of_2_13, VARLEN),
        ("gemma3_text", _of_2_13, VARLEN),
        ("mistral", _of_2_10, ROW_WISE),  # a window, which that release has not
        ("gpt_oss", _of_2_13, ROW_WISE_AS_ASKED),  # sinks
    ],
)
def test_one_call_is_taken_where_it_is_exact_and_the_note_names_what_is_taken(
    kernel, monkeypatch, model_type, function, chosen
):
    from tiny_models import tiny_config, tiny_model

    kernel(function)
    monkeypatch.setattr(row_check, "flat_attentions", lambda *_: [VARLEN, ROW_WISE, ROW_WISE_AS_ASKED])
    model = tiny_model(tiny_config(model_type, 96)).bfloat16()
    found = row_check.check_rows(model, "cpu")
    assert (found.attention, found.refused) == (chosen, "")
    assert f"attention: {attention.attention_words(chosen)}" in found.note()
    assert ("since by flash attention" in found.note()) == (chosen != VARLEN)


def test_a_trial_has_the_losses_of_one_that_attends_row_by_row(rank, run, quick_config, kernel, monkeypatch):
    config = quick_config(precision="bf16", epochs=0.2)
    row_wise = run(config)
    kernel(_of_2_13)
    monkeypatch.setattr(row_check, "flat_attentions", lambda *_: [VARLEN, ROW_WISE])
    monkeypatch.setattr(rank, "_models", None)
    monkeypatch.setattr(rank, "_evaluations", {})
    one_call = run(config)
    assert "variable-length flash attention" in one_call.prepared.model_notes[0]
    assert one_call.losses == pytest.approx(row_wise.losses, rel=2e-3)


def test_an_operation_that_gives_other_bits_each_time_is_found_and_named():
    rows, model = row_check._Rows(tiny("llama").config), tiny("llama")
    model.set_attn_implementation("sdpa")
    assert rows.unrepeatable(model) == ""

    def unsteady(module, arguments, output):
        return torch.zeros_like(output).put_(torch.arange(output.numel()), output.flatten())

    model.model.layers[0].mlp.register_forward_hook(unsteady)
    assert "put_ does not have a deterministic implementation" in rows.unrepeatable(model)
    assert not torch.are_deterministic_algorithms_enabled()


def test_torchs_own_kernel_takes_what_it_is_given_forth_and_back():
    """Shapes and types only: torch knows those of its operations without a GPU."""
    query, key, value = (
        torch.randn(1, heads, 12, 16, device="meta", dtype=torch.bfloat16, requires_grad=True)
        for heads in (4, 2, 2)
    )
    rows = {"cu_seq_lens_q": torch.zeros(4, dtype=torch.int32, device="meta"), "max_length_q": 5}
    for window in (None, 4):
        output, _ = attention.attend_to_all_rows(
            torch.nn.Identity(), query, key, value, None, sliding_window=window, **rows
        )
        assert output.shape == (1, 12, 4, 16)
        output.sum().backward()
    assert query.grad is not None and key.grad.shape == key.shape


def test_what_is_tried_first_depends_on_device_and_precision():
    row_wise = [ROW_WISE, ROW_WISE_AS_ASKED]
    assert attention.flat_attentions(torch.bfloat16, "cpu") == row_wise
    assert attention.flat_attentions(torch.float32, "cuda") == row_wise
    assert attention.flat_attentions(torch.bfloat16, "cuda")[0] == VARLEN

"""How rows go through a model is found out when it is loaded, for each kind of architecture."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_models import tiny_config, tiny_model

from sweeper.errors import ModelError
from sweeper.training.model import row_check
from sweeper.training.model.attention import ROW_WISE, ROW_WISE_AS_ASKED
from sweeper.training.model.row_check import check_rows

VOCABULARY = 96
LONG = 8192


def tiny(kind: str, **changes) -> torch.nn.Module:
    return tiny_model(tiny_config(kind, VOCABULARY, **changes))


def check(kind: str, **changes) -> row_check.RowCheck:
    return check_rows(tiny(kind, **changes), "cpu")


@pytest.mark.parametrize(
    ("kind", "attention"),
    [
        ("llama", ROW_WISE),
        ("mistral", ROW_WISE),  # a window
        ("gemma3_text", ROW_WISE),  # windows in some layers
        ("mixtral", ROW_WISE),  # experts
        ("deepseek_v3", ROW_WISE),  # latent attention
        ("gpt2", ROW_WISE),  # learned positions
        ("gpt_oss", ROW_WISE_AS_ASKED),  # sinks
        ("gemma2", ROW_WISE_AS_ASKED),  # a soft cap
        ("llama4_text", ROW_WISE_AS_ASKED),  # chunks
        ("lfm2", "sdpa"),  # convolutions
        ("granitemoehybrid", "sdpa"),  # state spaces
        ("recurrent_gemma", "sdpa"),  # recurrent units
        ("minimax", "sdpa"),  # linear attention
        ("qwen3_next", "sdpa"),  # a gated delta rule
        ("deepseek_v32", "sdpa"),  # tokens that an indexer selects
        ("mamba", "eager"),  # no attention at all
        ("bloom", "eager"),  # attention of its own
        ("nemotron", "sdpa"),  # does not hand on where rows end
    ],
)
def test_rows_stand_one_after_another_where_that_is_exact_and_are_padded_elsewhere(kind, attention):
    found = check(kind)
    assert (found.attention, found.refused) == (attention, "")
    assert found.deviation < 1e-5 and found.longest_row is None
    assert ("padded" in found.note()) == (attention in ("sdpa", "eager"))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("bert", {}),
        ("gemma3_text", {"use_bidirectional_attention": True}),
        ("doge", {}),  # chooses what it looks at among later tokens too
    ],
)
def test_a_model_that_sees_later_tokens_is_refused(kind, changes):
    assert "when other tokens follow it" in check(kind, **changes).refused


@pytest.mark.parametrize(
    ("kind", "changes", "attention"),
    [
        ("llama4_text", {"attention_chunk_size": LONG, "floor_scale": LONG}, ROW_WISE_AS_ASKED),
        ("minimax_m3_vl_text", {"index_block_size": 128, "index_topk_blocks": 16}, "sdpa"),
        ("mistral", {"sliding_window": LONG}, ROW_WISE),
        ("cohere2", {"sliding_window": LONG}, ROW_WISE),
    ],
)
def test_short_rows_tell_what_long_ones_will_need(kind, changes, attention):
    found = check(kind, max_position_embeddings=2 * LONG, **changes)
    assert (found.attention, found.longest_row) == (attention, None)


def test_rows_longer_than_what_could_be_compared_are_refused(quick_config, rank, job_of):
    found = check("doge", keep_window_size=24)
    assert (found.attention, found.longest_row) == ("sdpa", 24)
    job = job_of(quick_config())
    data = row_check_data(job)
    with pytest.raises(ModelError, match=r"only rows of up to 24 are known.*\n.*write max_seq_len: 24"):
        found.are_apart(job.config, data)


def row_check_data(job):
    from sweeper.data import tokenized

    return tokenized(job.config, job.data_dir)


def test_rotary_positions_that_change_with_the_longest_row_let_long_rows_through_alone(quick_config, job_of):
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    rope |= {"original_max_position_embeddings": 16}
    found = check("phi3", rope_parameters=rope, original_max_position_embeddings=16)
    assert (found.attention, found.longest_together) == (ROW_WISE, 16)
    together, alone = job_of(quick_config()), quick_config(per_device_batch_size=1)
    data = row_check_data(together)
    with pytest.raises(
        ModelError, match=r"changes the rotary.*\n.*max_seq_len: 16, or per_device_batch_size: 1"
    ):
        found.are_apart(together.config, data)
    assert found.are_apart(alone, data)


def test_the_model_is_left_as_it_was():
    model = tiny("gpt_oss").to(torch.bfloat16).train()
    before, settings = copy.deepcopy(model.state_dict()), copy.deepcopy(model.config.to_dict())
    state = torch.get_rng_state()
    check_rows(model, "cpu")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state) and model.training
    assert model.config.to_dict() == settings and model.config._attn_implementation == "eager"
    assert model.model.layers[0].self_attn.sliding_window == model.config.sliding_window


@pytest.mark.parametrize("copied", [True, False], ids=["as a copy", "as it is"])
@pytest.mark.parametrize(
    ("kind", "attention"), [("llama", ROW_WISE), ("lfm2", "sdpa"), ("gpt_oss", ROW_WISE_AS_ASKED)]
)
def test_coarse_rounding_hides_nothing(monkeypatch, kind, attention, copied):
    model = tiny(kind)
    if not copied:  # then its own weights have to tell, as those of a large model do
        monkeypatch.setattr(row_check, "_COPIED_PARAMETERS", 0)
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim > 1:
                    weight.normal_(std=weight.shape[-1] ** -0.5)
    found = check_rows(model.to(torch.bfloat16), "cpu")
    assert (found.attention, found.refused) == (attention, "")


@pytest.mark.parametrize(
    ("changes", "where"), [({"packing": True}, "training.packing"), ({"pp": 2}, "parallel.pp")]
)
def test_what_needs_rows_one_after_another_is_refused_where_they_are_padded(quick_config, changes, where):
    from sweeper.training.model.loading import _require_no_flat_rows

    with pytest.raises(ModelError, match=rf"{where}.*Lfm2ForCausalLM.*one after another they deviate by"):
        _require_no_flat_rows(quick_config(**changes), check("lfm2"))

"""How large a model is comes out of the heads of its files, and agrees with the model itself."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf

from sweeper.autotune.estimate.rank import trainable_parameters
from sweeper.data.model.sizes import model_sizes
from sweeper.space import Config, ModelSizes

LLAMA = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
}  # fmt: skip


def make_model(kind: str) -> Any:
    settings: dict[str, Callable[[], Any]] = {
        "llama": lambda: hf.LlamaConfig(**LLAMA, tie_word_embeddings=False),
        "tied": lambda: hf.LlamaConfig(**LLAMA, tie_word_embeddings=True),
        "qwen3": lambda: hf.Qwen3Config(**LLAMA, tie_word_embeddings=True),
        "gpt2": lambda: hf.GPT2Config(
            vocab_size=96, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0
        ),
    }
    return hf.AutoModelForCausalLM.from_config(settings[kind]())


def count(model: Any, *, trained: bool = False) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trained)


def sizes_of(path: Path) -> ModelSizes:
    sizes = model_sizes(str(path))
    assert sizes is not None
    return sizes


@pytest.mark.parametrize("shard_size", ["5GB", "30KB"])
@pytest.mark.parametrize("kind", ["llama", "tied", "qwen3", "gpt2"])
def test_a_folder_tells_as_many_parameters_as_the_model_has(kind, shard_size, tmp_path):
    model = make_model(kind)
    model.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shard_size == "30KB")
    sizes = sizes_of(tmp_path)
    assert sizes.parameters == count(model)
    assert sizes.tied == (kind != "llama")


def test_a_folder_tells_the_widths_of_a_layer(tmp_path):
    make_model("qwen3").save_pretrained(tmp_path / "qwen3")
    sizes = sizes_of(tmp_path / "qwen3")
    assert (sizes.layers, sizes.hidden_size, sizes.intermediate_size) == (3, 32, 80)
    assert (sizes.heads, sizes.kv_heads, sizes.head_dim, sizes.vocab_size) == (4, 2, 8, 96)
    assert (sizes.gated, sizes.activation, sizes.head_norms) == (True, "silu", True)
    assert (sizes.dropout, sizes.attention_dropout) == (0.0, 0.0)
    make_model("gpt2").save_pretrained(tmp_path / "gpt2")
    sizes = sizes_of(tmp_path / "gpt2")
    assert (sizes.layers, sizes.hidden_size, sizes.intermediate_size, sizes.heads) == (2, 32, 128, 4)
    assert (sizes.gated, sizes.activation, sizes.head_norms) == (False, "gelu_new", False)
    assert (sizes.dropout, sizes.attention_dropout) == (0.1, 0.1)


def test_buffers_and_a_second_copy_of_the_embedding_are_no_parameters(tmp_path):
    from safetensors.torch import save_file

    model = make_model("tied")
    model.save_pretrained(tmp_path)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["transformer.h.0.attn.bias"] = torch.ones(1, 1, 64, 64)
    state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    assert "lm_head.weight" in state
    save_file(state, tmp_path / "model.safetensors")
    assert sizes_of(tmp_path).parameters == count(model)


@pytest.mark.parametrize("targets", ["all-linear", "q_proj, v_proj", ("down_proj",)])
@pytest.mark.parametrize("kind", ["llama", "tied", "gpt2"])
def test_adapters_have_as_many_parameters_as_peft_makes(kind, targets, tmp_path, quick_config):
    import peft

    if kind == "gpt2":
        targets = "all-linear" if targets == "all-linear" else "c_attn, c_proj"
    model = make_model(kind)
    model.save_pretrained(tmp_path)
    names = targets if targets == "all-linear" else list(targets)
    if isinstance(targets, str) and targets != "all-linear":
        names = [name.strip() for name in targets.split(",")]
    adapted = peft.get_peft_model(
        model,
        peft.LoraConfig(r=4, target_modules=names, task_type="CAUSAL_LM", fan_in_fan_out=kind == "gpt2"),
    )
    config: Config = quick_config(lora={"rank": 4, "targets": targets})
    assert trainable_parameters(config, sizes_of(tmp_path)) == count(adapted, trained=True)


def write_gguf(file: Path, *, tied: bool) -> int:
    """A llama without a trained weight; returns how many parameters it has."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(80)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_vocab_size(96)
    shapes = {"token_embd.weight": (96, 32), "output_norm.weight": (32,)}
    if not tied:
        shapes["output.weight"] = (96, 32)
    for layer in range(2):
        for name, shape in {
            "attn_norm": (32,), "attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32),
            "attn_output": (32, 32), "ffn_norm": (32,), "ffn_gate": (80, 32), "ffn_up": (80, 32),
            "ffn_down": (32, 80),
        }.items():  # fmt: skip
            shapes[f"blk.{layer}.{name}.weight"] = shape
    for name, shape in shapes.items():
        writer.add_tensor(name, np.zeros(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sum(int(np.prod(shape)) for shape in shapes.values())


@pytest.mark.parametrize("tied", [True, False])
def test_a_gguf_file_tells_the_same(tied, tmp_path, quick_config):
    pytest.importorskip("gguf")
    parameters = write_gguf(tmp_path / "model.gguf", tied=tied)
    sizes = sizes_of(tmp_path / "model.gguf")
    assert (sizes.parameters, sizes.tied) == (parameters, tied)
    assert (sizes.layers, sizes.hidden_size, sizes.intermediate_size, sizes.vocab_size) == (2, 32, 80, 96)
    assert (sizes.heads, sizes.kv_heads, sizes.head_dim, sizes.gated) == (4, 2, 8, True)
    adapters = quick_config(lora={"rank": 4, "targets": "q_proj,down_proj"})
    assert trainable_parameters(adapters, sizes) == 4 * 2 * (32 + 32 + 80 + 32)


BROKEN: dict[str, bytes] = {
    "empty": b"",
    "short": b"\x08\x00",
    "no JSON": struct.pack("<Q", 4) + b"what",
    "too long": struct.pack("<Q", 2**40) + b"{}",
    "a list": struct.pack("<Q", 2) + b"[]",
    "no shape": struct.pack("<Q", 14) + b'{"weight": {}}',
    "a number": struct.pack("<Q", 13) + b'{"weight": 1}',
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_head_is_no_size(content, tmp_path):
    make_model("tied").save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    assert model_sizes(str(tmp_path)) is None


@pytest.mark.parametrize("config", ["", "[]", "{}", '{"hidden_size": "wide"}', '{"text_config": {}}'])
def test_a_broken_configuration_is_no_size(config, tmp_path):
    make_model("tied").save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(config)
    assert model_sizes(str(tmp_path)) is None


def test_what_is_not_at_hand_is_no_size(tmp_path):
    assert model_sizes("someone/some-model") is None
    assert model_sizes(str(tmp_path)) is None
    (tmp_path / "model.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    assert model_sizes(str(tmp_path / "model.gguf")) is None
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert model_sizes(str(tmp_path)) is None

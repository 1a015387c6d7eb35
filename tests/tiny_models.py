"""A tiny random model of any causal language model class of transformers, made from its config alone."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

__all__ = ["causal_types", "tiny_config", "tiny_model"]

LAYERS, WIDTH, HEADS, KV_HEADS, HEAD_DIM, INNER, EXPERTS, WINDOW, POSITIONS = 2, 32, 4, 2, 8, 48, 4, 6, 128

_SIZES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "emb_dim", "embedding_dim"), WIDTH),
    **dict.fromkeys(("embedding_size", "word_embed_proj_dim", "input_embedding_size", "lru_width"), WIDTH),
    **dict.fromkeys(("output_embedding_size", "backbone_hidden_size", "attention_hidden_size"), WIDTH),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"), LAYERS),
    **dict.fromkeys(("encoder_layers", "num_encoder_layers", "num_decoder_layers", "num_blocks"), LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "decoder_attention_heads"), HEADS),
    **dict.fromkeys(("encoder_attention_heads", "num_encoder_attention_heads", "attention_heads"), HEADS),
    **dict.fromkeys(("num_decoder_attention_heads", "num_heads", "swa_num_attention_heads"), HEADS),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads"), KV_HEADS),
    **dict.fromkeys(("head_dim", "swa_head_dim", "v_head_dim", "qk_nope_head_dim", "dim_head"), HEAD_DIM),
    **dict.fromkeys(("qk_rope_head_dim", "index_head_dim", "kv_channels", "d_head"), HEAD_DIM),
    **dict.fromkeys(("linear_head_dim", "linear_key_head_dim", "linear_value_head_dim"), HEAD_DIM),
    **dict.fromkeys(("attention_head_size", "attention_head_dim", "rotary_dim", "d_rel"), HEAD_DIM),
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "o_lora_rank", "laurel_rank", "adapter_rank"), HEAD_DIM),
    **dict.fromkeys(("gated_norm_rank", "hc_lowrank", "loop_gate_rank", "router_hidden_size"), HEAD_DIM),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "dff"), INNER),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "d_inner"), INNER),
    **dict.fromkeys(("shared_experts_intermediate_size", "shared_intermediate_size", "dim_ff"), INNER),
    **dict.fromkeys(("moe_shared_expert_intermediate_size", "dense_intermediate_size"), INNER),
    **dict.fromkeys(("intermediate_size_mlp", "ffn_hidden_size", "expert_ffn_hidden_size"), INNER),
    **dict.fromkeys(("feed_forward_size", "prompt_mid_dim"), INNER),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), EXPERTS),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k"), 2),
    **dict.fromkeys(("n_group", "num_expert_group", "topk_group", "mamba_n_groups", "n_groups"), 1),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"), 1),
    **dict.fromkeys(("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index"), 1),
    **dict.fromkeys(
        ("sliding_window", "sliding_window_size", "attention_window_size", "window_size"), WINDOW
    ),
    **dict.fromkeys(("attention_chunk_size", "local_attention", "keep_window_size", "floor_scale"), WINDOW),
    **dict.fromkeys(("log_scaling_n_floor", "local_attention_window_len", "window_size"), WINDOW),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"), POSITIONS),
    **dict.fromkeys(("max_source_positions", "max_target_positions", "context_length"), POSITIONS),
    **dict.fromkeys(("model_max_length", "rel_extent"), POSITIONS),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads", "linear_num_heads"), HEADS),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads"), HEADS),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "mamba_headdim"), 2 * WIDTH // HEADS),
    **dict.fromkeys(("state_size", "mamba_d_state", "ssm_state_size"), HEAD_DIM),
    **dict.fromkeys(("chunk_size", "mamba_chunk_size", "linear_chunk_size"), HEAD_DIM),
    **dict.fromkeys(("time_step_rank", "mamba_dt_rank", "prompt_length"), 2),
    "index_topk": WINDOW,
    "index_block_size": 4,
    "index_topk_blocks": 2,
    "index_n_heads": 16,  # few heads find many tokens equally worthless, and choose among them by chance
}
"""By the names that configs have for the same thing. What a config does not have is left out."""

_KINDS = ("layer_types", "mlp_layer_types", "layers_block_type", "indexer_types")

_GEMMA4 = {"per_layer_config": {1: {"head_dim": 2 * HEAD_DIM}}, "hidden_size_per_layer_input": HEAD_DIM}

_OWN: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "blt": {
        "encoder_config": {"hidden_size_global": WIDTH},
        "decoder_config": {"hidden_size_global": WIDTH},
    },
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}
    },
    "deepseek_v2": {"num_experts_per_tok": 2, "topk_group": 1, "n_group": 1},
    "dots1": {"n_routed_experts": EXPERTS, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "dbrx": {
        "attn_config": {"kv_n_heads": KV_HEADS, "rope_theta": 1e4, "clip_qkv": 8},
        "ffn_config": {"moe_num_experts": EXPERTS},
    },
    "falcon_h1": {"mamba_d_ssm": 2 * WIDTH},
    "gemma3n_text": {"num_kv_shared_layers": 0, "layer_types": ["sliding_attention", "full_attention"]},
    "gemma4_text": _GEMMA4,
    "gemma4_unified_text": _GEMMA4,
    "gemma4": {"text_config": _GEMMA4},
    "gemma4_unified": {"text_config": _GEMMA4},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "hunyuan_v1_dense": {"head_dim": HEAD_DIM},
    "hunyuan_v1_moe": {"head_dim": HEAD_DIM, "num_experts": EXPERTS, "moe_topk": [2, 2]},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "mamba2": {"head_dim": 2 * WIDTH // HEADS, "n_groups": 1},
    "minimax_m3_vl_text": {
        "layer_types": ["full_attention", "minimax_m3_sparse"],
        "index_n_heads": KV_HEADS,
    },
    "ministral": {"head_dim": HEAD_DIM},
    "nemotron": {"num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM},
    "qwen4_exp_text": {
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": HEAD_DIM,
        "indexer_budget": WINDOW,
        "indexer_compress_ratio": 2,
        "ngram_vocab_size_base": 64,
        "ple_layer_ids": [1],
        "eos_token_id": 1,
    },
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "reformer": {"is_decoder": True, "axial_pos_embds": False, "attn_layers": ["local", "lsh"]},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "attention_hidden_size": 2 * WIDTH,
        "attention_head_dim": 2 * HEAD_DIM,
        "num_hidden_layers": 5,
        "layers_block_type": ["linear_attention", *["linear_attention", "hybrid"] * 2],
    },
    "zaya": {"num_experts_per_tok": 1},
}
"""What a class needs beside, or otherwise."""


def causal_types() -> list[str]:
    """The model types of transformers that have a causal language model, one for each class."""
    types: dict[type, str] = {}
    for config_class, model_class in MODEL_FOR_CAUSAL_LM_MAPPING.items():
        if model_class not in types or model_class.config_class is config_class:
            types[model_class] = config_class.model_type
    return sorted(types.values())


def tiny_config(model_type: str, vocabulary: int, **changes: Any) -> PreTrainedConfig:
    """A config of two layers (or of one of each kind), with windows and chunks of a few tokens."""
    own = {**_OWN.get(model_type, {}), **changes}
    return _shrunk(CONFIG_MAPPING[model_type], vocabulary, own)


def _shrunk(config_class: type[PreTrainedConfig], vocabulary: int, own: dict[str, Any]) -> PreTrainedConfig:
    default, fields = config_class(), inspect.signature(config_class).parameters
    settings: dict[str, Any] = {}
    for name in fields:
        value = vars(default).get(name)
        if name in _SIZES and value is not None and not isinstance(value, (list, dict)):
            settings[name] = _SIZES[name]
        elif name.endswith(("_token_id", "_token_index")) and isinstance(value, int):
            settings[name] = 0 if name == "pad_token_id" else 1
        elif name.endswith("vocab_size") and isinstance(value, int) and value > 4:
            settings[name] = vocabulary
        elif isinstance(value, PreTrainedConfig):
            settings[name] = _shrunk(type(value), vocabulary, own.pop(name, {}))
        elif name in _KINDS and isinstance(value, list) and value:
            distinct = list(dict.fromkeys(value))
            settings[name] = distinct if len(distinct) > 1 else distinct * LAYERS
    if "kv_lora_rank" in settings and "num_key_value_heads" in settings:
        settings["num_key_value_heads"] = HEADS  # latent attention has keys for each head
    _same_length(settings)
    return config_class(**{**settings, **own})


def _same_length(settings: dict[str, Any]) -> None:
    """As many layers as the longest list of their kinds has."""
    kinds = [settings[name] for name in _KINDS if name in settings]
    layers = max(map(len, kinds), default=LAYERS)
    for name in _KINDS:
        if name in settings:
            settings[name] = (settings[name] * layers)[:layers]
    for name in ("num_hidden_layers", "num_layers", "n_layer"):
        if name in settings:
            settings[name] = layers


def tiny_model(config: PreTrainedConfig, *, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config).eval()

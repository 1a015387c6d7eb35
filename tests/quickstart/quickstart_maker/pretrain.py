"""Pretrains the quickstart's base model: ``python -m quickstart_maker.pretrain`` (minutes on one CPU core).

A Llama-architecture model of about a million parameters sees a few million tokens of
``text.documents`` in next-token prediction, nothing else. Seeds are fixed; the weights are the same
to the last bit only on the same machine with the same torch.
"""

from __future__ import annotations

import logging
import math
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from quickstart_maker.text import documents
from quickstart_maker.tokenizer import END, PAD, save_tokenizer, train_tokenizer
from sweeper.quickstart import MODEL_DIR

__all__ = ["Recipe", "build_model", "pretrain"]

log = logging.getLogger(__name__)

CONTEXT_TOKENS = 256
"""``max_position_embeddings``: far more than any instruction row needs."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the base model is pretrained."""

    seed: int = 7
    steps: int = 1200
    batch_sequences: int = 16
    sequence_tokens: int = 128
    peak_lr: float = 3e-3
    warmup_steps: int = 60
    weight_decay: float = 0.05
    tokenizer_documents: int = 20_000


def build_model(tokenizer: Tokenizer, seed: int) -> LlamaForCausalLM:
    """An untrained model for this tokenizer, fp32, about 1.03 M parameters."""
    end, pad = tokenizer.token_to_id(END), tokenizer.token_to_id(PAD)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=128,
        intermediate_size=416,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=pad,
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config).float()


def token_stream(tokenizer: Tokenizer, *, seed: int, tokens: int) -> np.ndarray:
    """``int64[tokens]``: generated documents one after the other, each closed by the end token."""
    stream: list[int] = []
    for text in documents(seed=seed, count=tokens):
        stream.extend(tokenizer.encode(f"{text}{END}").ids)
        if len(stream) >= tokens:
            break
    return np.asarray(stream[:tokens], dtype=np.int64)


def next_token_loss(model: LlamaForCausalLM, ids: torch.Tensor) -> torch.Tensor:
    """Mean negative log-likelihood in nats of ``ids[:, 1:]`` given what precedes; ``ids`` is int64[B, T]."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    return cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


def _lr_factor(step: int, recipe: Recipe) -> float:
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    progress = (step - recipe.warmup_steps) / (recipe.steps - recipe.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * progress))


def _optimizer(model: LlamaForCausalLM, recipe: Recipe) -> torch.optim.AdamW:
    groups = [
        {"params": [one for one in model.parameters() if one.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [one for one in model.parameters() if one.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.peak_lr, betas=(0.9, 0.95), fused=True)


def pretrain(recipe: Recipe) -> tuple[Tokenizer, LlamaForCausalLM]:
    """Trains tokenizer and model from nothing; logs the loss every 50 steps."""
    torch.set_num_threads(1)
    tokenizer = train_tokenizer(documents(seed=recipe.seed, count=recipe.tokenizer_documents, capitals=False))
    model = build_model(tokenizer, recipe.seed).train()
    tokens = recipe.steps * recipe.batch_sequences * recipe.sequence_tokens
    stream = token_stream(tokenizer, seed=recipe.seed + 1, tokens=tokens)
    batches = torch.from_numpy(stream).view(recipe.steps, recipe.batch_sequences, recipe.sequence_tokens)
    optimizer = _optimizer(model, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _lr_factor(step, recipe))
    for step, batch in enumerate(batches):
        loss = next_token_loss(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == recipe.steps - 1:
            log.info("step %d of %d: loss %.3f", step, recipe.steps, loss.item())
    return tokenizer, model.eval()


def save(tokenizer: Tokenizer, model: LlamaForCausalLM, folder: Path) -> None:
    """Writes a complete model folder beside ``folder``, then puts it in its place."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.generation_config = GenerationConfig(
        bos_token_id=model.config.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
        max_new_tokens=48,
        do_sample=False,
    )
    model.save_pretrained(partial)
    for weights in partial.glob("*.safetensors"):
        weights.chmod(0o644)  # they are written for their owner alone, and this folder is packaged
    save_tokenizer(tokenizer, partial, max_tokens=CONTEXT_TOKENS)
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    save(*pretrain(Recipe()), MODEL_DIR)

"""Answers that the model gives itself: greedy generation on held-out prompts, and what they score.

The prompt of a row is everything before its last run of loss tokens, which is the reference.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from sweeper.data import TokenizedData, load_tokenizer
from sweeper.space import Config
from sweeper.training.feed import data_rank
from sweeper.training.generate.scores import Answers, Scorer, on_every_rank
from sweeper.training.model.attention import own_attention, takes_no_cache

__all__ = [
    "Batch",
    "Generation",
    "answer_limit",
    "batches_of",
    "end_tokens",
    "greedy_answers",
    "last_turn",
    "random_generators_kept",
    "ready_to_generate",
]

_BATCH_ROWS = 16
"""Prompts answered at once: enough to use a GPU, few enough for their keys and values beside training."""

Tokens = np.ndarray[Any, Any]


def last_turn(ids: Tokens, mask: Tokens) -> tuple[Tokens, Tokens]:
    """Prompt and reference of a row: token ids before its last run of loss tokens, and those of the run.

    Both arguments have shape (T,); ``mask`` is set at least once, and not at the first token.
    """
    places = np.flatnonzero(mask)
    end = places[-1] + 1
    breaks = np.flatnonzero(np.diff(places) > 1)
    start = places[breaks[-1] + 1] if len(breaks) else places[0]
    return ids[:start], ids[start:end]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Prompts that are answered together."""

    rows: list[int]
    """Indices of the prompts."""
    longest: int
    """Tokens of the longest prompt that any rank reads at the same time."""
    counts: bool
    """Whether the answers are this rank's to report."""


def batches_of(lengths: list[int], *, data_rank: int, dp: int, in_step: bool) -> list[Batch]:
    """The batches of one rank, for prompts of these numbers of tokens.

    Every rank gets as many, and one without its own repeats the last of all. What a batch holds does not
    depend on how many ranks there are, so neither do the answers.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    groups = [order[start : start + _BATCH_ROWS] for start in range(0, len(order), _BATCH_ROWS)]
    batches = []
    for first in range(0, len(groups), dp):
        own = min(first + data_rank, len(groups) - 1)
        slowest = min(first + dp, len(groups)) - 1 if in_step else own
        batches.append(
            Batch(
                rows=groups[own],
                longest=lengths[groups[slowest][-1]],
                counts=first + data_rank < len(groups),
            )
        )
    return batches


class Generation:
    """The first held-out rows as prompts: the same for every trial, so they are read once and kept."""

    def __init__(self, config: Config, data: TokenizedData, rank: int, modules_dir: Path) -> None:
        """Raises UserError for a metric of the user's own that cannot be found."""
        evaluation = config.evaluation
        self._max_new_tokens = evaluation.max_new_tokens
        self._pad_id = data.pad_id
        self._tokenizer = load_tokenizer(config.model_path, trust_remote_code=config.trust_remote_code)
        self._scorers = [Scorer(entry, modules_dir) for entry in config.generated_metrics]
        rows = range(min(evaluation.rows, data.eval.rows))
        turns = [last_turn(*data.eval.row(row)) for row in rows]
        self._prompts = [prompt for prompt, _ in turns]
        self._questions = [self._tokenizer.decode(prompt) for prompt in self._prompts]
        self._references = [self._said(reference.tolist()) for _, reference in turns]
        self._ends = end_tokens(self._tokenizer, [reference for _, reference in turns])
        # ZeRO-3 gathers weights in step, so every rank has to generate as long as any other does.
        self._in_step = config.deepspeed.zero_stage == 3
        lengths = [len(prompt) for prompt in self._prompts]
        self._batches = batches_of(
            lengths, data_rank=data_rank(config, rank), dp=config.parallel.dp, in_step=self._in_step
        )

    def measure(self, model: Any, device: torch.device | str) -> dict[str, float]:
        """``eval/...`` of each metric, the same on every rank, and ``perf/generation_s``: the seconds that it
        took to generate answers and to score them. The model and the random generators are left as they were.

        Raises:
            UserError: a metric of the user's own raised an exception, or returned no number.
            TrialFailedError: it returned a number that is not finite.
        """
        began = time.perf_counter()
        with random_generators_kept():
            with ready_to_generate(model) as (writer, ends):
                said = self._answer_all(writer, self._ends | ends, device)
            answers = Answers(
                prompts=self._questions, generations=_gathered(said), references=self._references
            )
            scores = on_every_rank(lambda: {one.name: one.score(answers) for one in self._scorers})
        return {**scores, "perf/generation_s": time.perf_counter() - began}

    def _answer_all(self, writer: Any, ends: frozenset[int], device: torch.device | str) -> dict[int, str]:
        """Row -> what the model says, of this rank's rows."""
        said: dict[int, str] = {}
        for batch in self._batches:
            for row, tokens in zip(batch.rows, self._answer(writer, batch, ends, device), strict=True):
                if batch.counts:
                    said[row] = self._said(itertools.takewhile(lambda token: token not in ends, tokens))
        return said

    def _answer(
        self, writer: Any, batch: Batch, ends: frozenset[int], device: torch.device | str
    ) -> list[list[int]]:
        """The tokens after each prompt, up to the end of the longest answer."""
        return greedy_answers(
            writer,
            [self._prompts[row] for row in batch.rows],
            max_new_tokens=answer_limit(writer, self._max_new_tokens, batch.longest),
            ends=ends,
            pad_id=self._pad_id,
            device=device,
            in_step=self._in_step and dist.get_world_size() > 1,
        )

    def _said(self, tokens: Any) -> str:
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text.strip()


def greedy_answers(
    writer: Any,
    prompts: list[Tokens],
    *,
    max_new_tokens: int,
    ends: frozenset[int],
    pad_id: int,
    device: torch.device | str,
    in_step: bool = False,
) -> list[list[int]]:
    """The tokens after each prompt, up to the end of the longest answer. ``writer`` is ready to generate;
    ``in_step``: other ranks generate with it, and each goes on as long as any does."""
    from transformers import GenerationConfig

    ids, attended = _left_padded(prompts, pad_id)
    settings = GenerationConfig(
        do_sample=False,
        num_beams=1,
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(ends) or None,
        pad_token_id=pad_id,
        use_cache=True,
    )
    output = writer.generate(
        input_ids=ids.to(device),
        attention_mask=attended.to(device),
        generation_config=settings,
        synced_gpus=in_step,
    )
    answers: list[list[int]] = output[:, ids.shape[1] :].tolist()
    return answers


def answer_limit(writer: Any, most: int, longest: int) -> int:
    """Tokens that fit behind prompts of ``longest`` tokens, at most so many: some models fail beyond their
    last position."""
    limit = getattr(writer.config.get_text_config(), "max_position_embeddings", None)
    return most if limit is None else max(1, min(most, limit - longest))


def end_tokens(tokenizer: Any, references: list[Tokens]) -> frozenset[int]:
    """What ends an answer by the tokenizer, and by the rows themselves: a chat template often ends a turn
    with a token that the model it is used on knows no end by."""
    known = tokenizer.added_tokens_decoder
    last = {int(reference[-1]) for reference in references}
    special = {one for one in last if one in known and known[one].special}
    return frozenset(special | ({tokenizer.eos_token_id} - {None}))


@contextmanager
def ready_to_generate(model: Any) -> Iterator[tuple[Any, frozenset[int]]]:
    """The model that generates, adapters included, and the tokens that end its text by its own settings.

    While it lasts, its attention takes keys and values of earlier tokens, and it has no settings of its own.
    """
    from transformers import GenerationConfig

    writer = model.get_base_model() if hasattr(model, "get_base_model") else model
    was_training, settings = model.training, writer.generation_config
    attention = writer.config._attn_implementation
    model.eval()
    writer.generation_config = GenerationConfig()
    if takes_no_cache(attention):
        writer.set_attn_implementation(own_attention(writer))
    try:
        ends = settings.eos_token_id  # None, one token, or several
        yield writer, frozenset(ends if isinstance(ends, list) else {ends} - {None})
    finally:
        if takes_no_cache(attention):
            writer.set_attn_implementation(attention)
        writer.generation_config = settings
        model.train(was_training)


def _left_padded(prompts: list[Tokens], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and what of them is no padding, both int64 [rows, longest prompt]."""
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), pad_id, dtype=torch.int64)
    attended = torch.zeros_like(ids)
    for line, prompt in enumerate(prompts):
        ids[line, width - len(prompt) :] = torch.from_numpy(prompt.astype(np.int64))
        attended[line, width - len(prompt) :] = 1
    return ids, attended


def _gathered(said: dict[int, str]) -> list[str]:
    """The answers of all ranks, in the order of the rows."""
    of_ranks: list[dict[int, str]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(of_ranks, said)
    everything = {row: text for one in of_ranks for row, text in one.items()}
    return [everything[row] for row in sorted(everything)]


@contextmanager
def random_generators_kept() -> Iterator[None]:
    """Whatever is drawn inside, by a metric of the user's own for example, training does not notice. Nor is
    such a metric held to operations that repeat to the last bit, where training is."""
    python, numpy = random.getstate(), np.random.get_state()
    repeats = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(repeats, warn_only=True)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.use_deterministic_algorithms(repeats, warn_only=warns)
        random.setstate(python)
        np.random.set_state(numpy)

"""What a trial forgets: its loss on rows that it does not train on and could answer before, or on its own
answers from before the first step. Rows, and the untrained model's loss on them, are found once for a model
and kept beside the tokenized data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from sweeper.data import (
    OWN_ANSWERS,
    TokenizedData,
    answered,
    load_tokenizer,
    prompt_rows,
    retained_folder,
    retained_rows,
    stored_retained,
    write_retained,
)
from sweeper.errors import ModelError
from sweeper.space import RETENTION_INCREASE, RETENTION_LOSS, Config, write_whole
from sweeper.training.feed import EvaluationFeed
from sweeper.training.generate.generation import (
    answer_limit,
    end_tokens,
    greedy_answers,
    random_generators_kept,
    ready_to_generate,
)
from sweeper.training.generate.scores import on_every_rank
from sweeper.training.parallel.executor import Executor

__all__ = ["Retention", "make_retained"]

_ANSWER_TOKENS, _BATCH_ROWS = 64, 16
_UNTRAINED = "untrained.json"


def make_retained(
    config: Config, cache_dir: Path, data: TokenizedData, model: Any, device: torch.device | str
) -> Path:
    """The folder with the rows, which are made first where they are not there yet: by rank 0 of one trial,
    while all others wait. ``model`` is an untrained one on ``device``, and stays as it is.

    Raises: DataError for rows that cannot be used, ModelError where the model answers nothing.
    """
    folder = retained_folder(config, cache_dir)

    def make() -> dict[str, float]:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                own = config.evaluation.retention == OWN_ANSWERS
                rows = _own_answers(config, data.pad_id, model, device) if own else retained_rows(config)
                write_retained(folder, rows)
        return {}

    on_every_rank(make)
    return folder


class Retention:
    """The rows of a model as batches: the same for every trial, so they are read once and kept."""

    def __init__(self, folder: Path, data: TokenizedData, feed: tuple[Any, ...], *, rows_apart: bool) -> None:
        """``feed``: configuration, rank, layout and device of an ``EvaluationFeed``."""
        config, rank, layout, device = feed
        rows = replace(data, eval=stored_retained(folder))
        self._feed = EvaluationFeed(config, rows, rank, layout, device, rows_apart=rows_apart)
        self._file = folder / _UNTRAINED
        self._untrained: float | None = None

    def settle(self, executor: Executor) -> None:
        """Called before the first step of each trial: the untrained model's loss is measured by the first one
        that gets there, and read by all others, those that go on from a state among them."""
        if self._untrained is None:
            known = on_every_rank(self._read)
            self._untrained = known["loss"] if known else self._keep(self._loss(executor))

    def measure(self, executor: Executor) -> dict[str, float]:
        """``eval/retention_loss``, nats per token, and how much more that is than the untrained model's; the
        same on every rank."""
        loss = self._loss(executor)
        assert self._untrained is not None
        return {RETENTION_LOSS: loss, RETENTION_INCREASE: loss - self._untrained}

    def _loss(self, executor: Executor) -> float:
        return executor.evaluate(self._feed)["eval/loss"]

    def _read(self) -> dict[str, float]:
        found: dict[str, float] = json.loads(self._file.read_text()) if self._file.exists() else {}
        return found

    def _keep(self, loss: float) -> float:
        """The first one counts: trials side by side may be computed on other numbers of ranks."""

        def keep() -> dict[str, float]:
            with FileLock(f"{self._file.parent}.lock"):
                if not self._file.exists():
                    write_whole(self._file, json.dumps({"loss": loss}))
            return self._read()

        return on_every_rank(keep)["loss"]


def _own_answers(config: Config, pad_id: int, model: Any, device: torch.device | str) -> list[Any]:
    tokenizer = load_tokenizer(config.model_path, trust_remote_code=config.trust_remote_code)
    prompts = prompt_rows(config)
    ends = end_tokens(tokenizer, [row.ids[row.first_loss :] for row in prompts])
    limit, rows = config.training.max_seq_len, []
    with random_generators_kept(), ready_to_generate(model) as (writer, own_ends):
        ends |= own_ends
        for start in range(0, len(prompts), _BATCH_ROWS):
            batch = prompts[start : start + _BATCH_ROWS]
            asked = [row.ids[: row.first_loss] for row in batch]
            answers = greedy_answers(
                writer,
                asked,
                max_new_tokens=answer_limit(writer, _ANSWER_TOKENS, max(map(len, asked))),
                ends=ends,
                pad_id=pad_id,
                device=device,
            )
            made = (
                answered(row, list(_until_end(tokens, ends)), limit)
                for row, tokens in zip(batch, answers, strict=True)
            )
            rows += [row for row in made if row is not None]
    if not rows:
        raise ModelError.of(
            where="evaluation.retention",
            value=OWN_ANSWERS,
            rule=f"{config.model_path} answers none of the prompts within max_seq_len {limit}",
            remedy="name a file of rows instead, or raise training.max_seq_len",
        )
    return rows


def _until_end(tokens: list[int], ends: frozenset[int]) -> Iterator[int]:
    """With the token that ends it, which the model says as well."""
    for token in tokens:
        yield token
        if token in ends:
            return

"""The rows that ``evaluation.retention`` measures on, and where they lie: made once for a model, not by each
trial."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import numpy as np

from sweeper.data.cache import TokenizedSplit
from sweeper.data.fingerprint import data_fingerprint, model_fingerprint
from sweeper.data.problems import Problems
from sweeper.data.read.examples import load_rows
from sweeper.data.read.formats import Example
from sweeper.data.render.templates import template_text
from sweeper.data.render.tokenizer import load_tokenizer
from sweeper.data.render.tokens import TokenRow, tokenize
from sweeper.data.retained.prompts import PROMPTS
from sweeper.errors import DataError
from sweeper.space import Config, Settings

__all__ = [
    "OWN_ANSWERS",
    "answered",
    "check_retained",
    "prompt_rows",
    "retained_folder",
    "retained_rows",
    "stored_retained",
    "write_retained",
]

OWN_ANSWERS = "auto"
"""The value of ``evaluation.retention`` that asks for the model's own answers."""
_MOST_ROWS = 256
_NAME, _VERSION = "retained", 1
_ANYTHING = "Yes."
"""Stands in for an answer, to see where one begins and what ends it."""


def check_retained(settings: Settings) -> None:
    """Raises DataError where a file of rows is asked for, and cannot be used."""
    path = settings.evaluation.retention
    if path not in (None, OWN_ANSWERS):
        load_rows(settings, str(path))


def retained_folder(config: Config, cache_dir: Path) -> Path:
    """Where the rows of a configuration lie, or will, with what its untrained model makes of them.

    Raises: DataError where a file of rows is not there.
    """
    asked = config.evaluation.retention
    assert asked is not None
    parts = {
        "version": _VERSION,
        "rows": list(PROMPTS) if asked == OWN_ANSWERS else data_fingerprint([asked]),
        "model": model_fingerprint(config.model_path),
        "precision": config.deepspeed.precision,
        "template": template_text(config.chat_template),
        "learn_template_text": config.learn_template_text,
        "max_seq_len": config.training.max_seq_len,
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return cache_dir / f"{_NAME}-{digest[:24]}"


def retained_rows(config: Config) -> list[TokenRow]:
    """The rows of a file, evenly spread over it where they are more than 256, cut to ``max_seq_len``.

    Raises: DataError where none has an answer within so many tokens.
    """
    path = str(config.evaluation.retention)
    problems = Problems(config.max_bad_rows)
    examples = load_rows(config, path)
    count = min(len(examples), _MOST_ROWS)
    some = [examples[place * len(examples) // count] for place in range(count)]
    rows = [row for row in _tokenized(config, some, problems, config.training.max_seq_len) if row.mask.any()]
    problems.raise_if_any()
    if not rows:
        raise DataError.of(
            where=path,
            value="",
            rule=f"no row has an answer within {config.training.max_seq_len} tokens",
            remedy="give shorter rows as evaluation.retention, or raise training.max_seq_len",
        )
    return rows


def prompt_rows(config: Config) -> list[TokenRow]:
    """The packaged prompts as the model is asked them, each with any answer at all."""
    examples = [
        Example(
            messages=({"role": "user", "content": prompt}, {"role": "assistant", "content": _ANYTHING}),
            where=f"prompt {number} of evaluation.retention",
        )
        for number, prompt in enumerate(PROMPTS, start=1)
    ]
    problems = Problems()
    rows = _tokenized(config, examples, problems, 2**31)
    problems.raise_if_any()
    return rows


def answered(prompt: TokenRow, answer: Sequence[int], max_seq_len: int) -> TokenRow | None:
    """A prompt with the model's own answer, of which each token carries loss; None where there is none within
    ``max_seq_len``."""
    asked = prompt.ids[: prompt.first_loss]
    ids = np.concatenate([asked, np.asarray(answer, dtype=np.int32)])[:max_seq_len]
    mask = np.arange(len(ids)) >= len(asked)
    if not mask.any():
        return None
    return TokenRow(ids=ids, mask=mask, truncated=False, whole_tokens=len(ids), first_loss=len(asked))


def write_retained(folder: Path, rows: Sequence[TokenRow]) -> None:
    """Makes the folder in one step. There must be at least one row, and no such folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name[:16]}-{uuid4().hex}")
    partial.mkdir()
    try:
        TokenizedSplit.of(rows).save(partial, _NAME)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def stored_retained(folder: Path) -> TokenizedSplit:
    """What ``write_retained`` wrote."""
    return TokenizedSplit.open(folder, _NAME)


def _tokenized(config: Config, examples: list[Example], problems: Problems, limit: int) -> list[TokenRow]:
    tokenizer = load_tokenizer(
        config.model_path,
        chat_template=config.chat_template,
        trust_remote_code=config.trust_remote_code,
    )
    found = tokenize(examples, tokenizer, limit, problems, learn_template=config.learn_template_text)
    return [row for _, row in found]

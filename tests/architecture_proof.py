"""What is proved of an architecture: rows together are rows alone, and what is saved is what was promised."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tiny_models import tiny_config, tiny_model
from transformers import AutoModelForCausalLM

from sweeper.data import TokenizedSplit, tokenized
from sweeper.errors import UserError
from sweeper.quickstart import MODEL_DIR
from sweeper.space import Config, Lora
from sweeper.training import Job

__all__ = ["VOCABULARY", "Proof", "make_folder", "plain_loss", "prove"]

VOCABULARY = 1536
"""Of the packaged model's tokenizer, which every tiny model gets."""


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Differences of held-out losses, in nats; None where it was not trained."""

    model_type: str
    kind: str
    """The class."""
    rows: str = ""
    """How they go through the model."""
    together: float | None = None
    """Of the untrained model: as training computes it, from each row alone in plain transformers."""
    saved: float | None = None
    """Of the trained model: as promised, from the saved one."""
    merged: float | None = None
    """The same with adapters on all linear layers, merged."""
    refused: str = ""
    """Why it is not trained at all."""
    adapters_refused: str = ""
    """Why it is not trained with adapters, or those are not merged."""


def make_folder(model_type: str, folder: Path, **changes: Any) -> str:
    """Saves a tiny model of the type with the packaged tokenizer; returns the name of its class.

    Its weights are as large as those of a trained model, so that each layer matters.
    """
    model = tiny_model(tiny_config(model_type, VOCABULARY, **changes))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(std=0.5 * weight.shape[-1] ** -0.5)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(MODEL_DIR / name, folder / name)
    return type(model).__name__


@torch.no_grad()
def plain_loss(folder: Path, split: TokenizedSplit) -> float:
    """Nats per completion token of a saved model, each row by itself, with nothing of this package."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    total = 0.0
    for row in range(split.rows):
        ids, mask = (torch.from_numpy(np.array(array)) for array in split.row(row))
        logits = model(input_ids=ids[None].long(), use_cache=False).logits[0, :-1].float()
        nll = F.cross_entropy(logits, ids[1:].long(), reduction="none")
        total += float(nll[mask[1:]].sum())
    return total / int(split.completion_tokens.sum())


def prove(
    model_type: str,
    folder: Path,
    rank: Any,
    config: Config,
    job_of: Callable[..., Job],
    *,
    merges: bool = True,
    **changes: Any,
) -> Proof:
    """Trains a tiny model of the type in the rank, as configured, and with adapters.

    ``job_of`` makes the job of a configuration; ``changes`` are of the model's config.
    """
    kind = make_folder(model_type, folder / "model", **changes)
    config = config.model_copy(update={"model_path": str(folder / "model")})
    proof = Proof(model_type=model_type, kind=kind)
    try:
        rows, together, saved = _trained(rank, job_of(config, evaluate_untrained=True), folder / "saved")
    except UserError as error:
        return replace(proof, refused=error.problems[0].rule)
    proof = replace(proof, rows=rows, together=together, saved=saved)
    if not merges:
        return proof
    training = config.training.model_copy(update={"lora": _all_linear()})
    adapted = config.model_copy(update={"training": training})
    try:
        _, _, merged = _trained(rank, job_of(adapted), folder / "merged", merge=True)
    except UserError as error:
        return replace(proof, adapters_refused=error.problems[0].rule)
    return replace(proof, merged=merged)


def _all_linear() -> Lora:
    return Lora(rank=4, alpha=64, dropout=0.0, targets="all-linear")


def _trained(rank: Any, job: Job, target: Path, *, merge: bool = False) -> tuple[str, float | None, float]:
    """What is told of the model, and how far it is off before and after training."""
    prepared = rank.prepare(job)
    held_out = tokenized(job.config, job.data_dir).eval
    progress = rank.advance()
    untrained = None
    if job.evaluate_untrained:
        alone = plain_loss(Path(job.config.model_path), held_out)
        untrained = abs(progress.metrics["eval/loss"] - alone)
    while not progress.done:
        progress = rank.advance()
    rank.save_model(target, merge)
    rank.stop()
    return (
        prepared.model_notes[0],
        untrained,
        abs(progress.metrics["eval/loss"] - plain_loss(target, held_out)),
    )

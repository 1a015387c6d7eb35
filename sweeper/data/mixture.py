"""Rows of several sources in another mixture: taken from rows that are tokenized already, each of them
once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sweeper.data.cache import LongSplit, TokenizedData, write_cache
from sweeper.data.read.examples import times_of
from sweeper.space import Config

__all__ = ["Origins", "base_name", "mix", "mixed_folder"]

_MIXTURE, _ORIGINS = ".mix-", "origins.npz"
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True)
class Origins:
    """Where the training rows of a cache come from."""

    examples: npt.NDArray[np.int64]
    """Shape (rows,): the example of each row, each row once."""
    owners: npt.NDArray[np.int64]
    """Shape (examples,): the source of each."""

    def save(self, folder: Path) -> None:
        np.savez(folder / _ORIGINS, examples=self.examples, owners=self.owners)

    @classmethod
    def open(cls, folder: Path) -> Origins | None:
        """None where there are none."""
        if not (folder / _ORIGINS).is_file():
            return None
        with np.load(folder / _ORIGINS, allow_pickle=False) as arrays:
            return cls(examples=arrays["examples"], owners=arrays["owners"])


def mixed_folder(base: Path, config: Config) -> Path:
    """Where the rows of a mixture lie, or will; ``base`` has each row once."""
    weights = json.dumps([source.weight for source in config.sources])
    return base.with_name(f"{base.name}{_MIXTURE}{hashlib.sha256(weights.encode()).hexdigest()[:16]}")


def base_name(folder: str) -> str:
    """The name of the folder that a mixture was taken from; of any other folder its own."""
    return folder.partition(_MIXTURE)[0]


def mix(folder: Path, weights: Sequence[float]) -> bool:
    """Makes the folder of a mixture from its base: the same rows in the same order as from the files. Returns
    whether that was possible: it is one, and the base is there."""
    base = folder.with_name(base_name(folder.name))
    origins = Origins.open(base) if base != folder else None
    if origins is None:
        return False
    data = TokenizedData.open(base)
    if len(origins.examples) != data.train.rows:
        return False  # its rows stand there several times
    times = times_of(origins.owners, weights)
    picked = np.repeat(np.arange(data.train.rows), times[origins.examples])
    train = LongSplit(
        lengths=data.train.lengths[picked],
        completion_tokens=data.train.completion_tokens[picked],
        stretches=lambda: (
            data.train.take(picked[start : start + _ROWS_AT_ONCE])
            for start in range(0, len(picked), _ROWS_AT_ONCE)
        ),
    )
    counts = data.counts | {
        "rows_left_out_by_weight": int((times == 0).sum()),
        "rows_repeated": int(np.maximum(times - 1, 0).sum()),
        "train_rows": train.rows,
        "train_tokens": train.tokens,
        "train_completion_tokens": int(train.completion_tokens.sum()),
    }
    meta = {
        "fingerprint": folder.name,
        "pad_id": data.pad_id,
        "max_seq_len": data.max_seq_len,
        "counts": counts,
        "notes": list(data.notes),
    }
    write_cache(folder, train=train, eval=data.eval, meta=meta)
    return True

"""What one sweep knows of the others: taken once, before its first trial, and kept in its folder.

A sweep that goes on asks what it would have asked at once, whatever the history has learned since.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sweeper.errors import SweepFolderError
from sweeper.history.features import Features, similarity
from sweeper.history.stored import PastTrial, SweepFacts, SweepOfHistory
from sweeper.space import read_record, write_whole

__all__ = ["Snapshot", "read_snapshot", "take_snapshot", "write_snapshot"]

_MOST_SWEEPS, _MOST_TRIALS, _FEWEST_TRIALS = 30, 150, 3
"""Sweeps that are used, the most similar ones; trials of each; and how many a sweep needs to be of use."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The past sweeps that one sweep goes by, the most similar first."""

    features: Features
    """Of the sweep that goes by them."""
    sweeps: tuple[SweepOfHistory, ...] = ()

    @property
    def similarities(self) -> tuple[float, ...]:
        """Of each past sweep to this one."""
        return tuple(similarity(self.features, one.facts.features) for one in self.sweeps)


def take_snapshot(
    sweeps: Iterable[SweepOfHistory], features: Features, *, own_id: str, metric: str, mode: str
) -> Snapshot:
    """Those of the same metric that have trials of their own, without the sweep itself.

    A trial that stands in two sweeps, such as one that was imported twice, counts in the newer one only.
    """
    others = [one for one in sweeps if one.facts.id != own_id]
    comparable = [one for one in others if (one.facts.metric, one.facts.mode) == (metric, mode)]
    newest_first = sorted(comparable, key=lambda one: (-one.facts.began_s, one.facts.id))
    useful = [one for one in _without_duplicates(newest_first) if len(one.trials) >= _FEWEST_TRIALS]
    ranked = sorted(useful, key=lambda one: (-similarity(features, one.facts.features), -one.facts.began_s))
    return Snapshot(features=features, sweeps=tuple(ranked[:_MOST_SWEEPS]))


def write_snapshot(snapshot: Snapshot, file: Path) -> str:
    """Returns the hash of the file's content."""
    content = json.dumps(asdict(snapshot)) + "\n"
    write_whole(file, content)
    return _hash(content.encode())


def read_snapshot(file: Path, expected_hash: str) -> Snapshot:
    """Raises SweepFolderError where it is not what the sweep began with."""
    try:
        content = file.read_bytes()
        if _hash(content) == expected_hash:
            return read_record(Snapshot, json.loads(content))
        rule = "is not the history that the sweep began with"
    except (OSError, ValueError) as error:
        rule = f"the history that the sweep began with cannot be read ({error})"
    raise SweepFolderError.of(
        where=str(file),
        value="",
        rule=rule,
        remedy="restore the file: what is tried next depends on it; or start a new sweep",
    )


def _without_duplicates(sweeps: Iterable[SweepOfHistory]) -> list[SweepOfHistory]:
    seen: set[str] = set()
    found = []
    for sweep in sweeps:
        own = [(_key(sweep.facts, trial), trial) for trial in sweep.trials]
        new = [trial for key, trial in own if key not in seen]
        seen.update(key for key, _ in own)
        found.append(SweepOfHistory(facts=sweep.facts, trials=_telling(new)))
    return found


def _key(facts: SweepFacts, trial: PastTrial) -> str:
    """Equal for one training that was told of twice: the same model, data, settings and losses."""
    told = (facts.features.model, facts.features.data, trial.config, trial.evaluations, trial.state)
    return json.dumps(told, sort_keys=True)


def _telling(trials: Sequence[PastTrial]) -> tuple[PastTrial, ...]:
    """Of many trials as many as are used, evenly over the sweep."""
    if len(trials) <= _MOST_TRIALS:
        return tuple(trials)
    return tuple(trials[place * len(trials) // _MOST_TRIALS] for place in range(_MOST_TRIALS))


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

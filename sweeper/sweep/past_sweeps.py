"""A sweep and the history of all sweeps: what it takes from there when it begins, and what it adds."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Iterable
from dataclasses import replace

from sweeper.errors import UserError
from sweeper.history import (
    SECTIONS,
    HistoryFile,
    PastTrial,
    SweepFacts,
    SweepOfHistory,
    features_of,
    history_path,
    read_snapshot,
    take_snapshot,
    write_snapshot,
)
from sweeper.search import Ledger, Past, TrialRecord, TrialState, eligible, is_diverged
from sweeper.space import PEAK_MEMORY, Space, SweepFolder, proxied
from sweeper.sweep.listener import Listener

__all__ = ["HistoryWriter", "freeze_past", "sweeps_for_history"]

_FROZEN = "history"
"""What the ledger keeps of the snapshot: its hash, or nothing in a sweep that began without history."""


def freeze_past(space: Space, folder: SweepFolder, ledger: Ledger, say: Callable[[str], None]) -> Past | None:
    """The past sweeps that this one goes by: taken before its first trial, and the same ever after.

    Raises SweepFolderError where the snapshot that it began with is gone, or the history cannot be read.
    """
    frozen = ledger.sweep_attributes().get(_FROZEN)
    if frozen is not None:
        return Past(space, read_snapshot(folder.history_file, frozen)) if frozen else None
    path = history_path(space.settings.search.history)
    if path is None or ledger.trials() or not _goes_by_history(space):
        ledger.note_sweep(**{_FROZEN: ""})
        return None
    objective = space.settings.objective
    snapshot = take_snapshot(
        HistoryFile(path).sweeps(),
        features_of(space),
        own_id=str(ledger.sweep_attributes()["id"]),
        metric=objective.metric,
        mode=objective.mode,
    )
    frozen = write_snapshot(snapshot, folder.history_file) if snapshot.sweeps else ""
    ledger.note_sweep(**{_FROZEN: frozen})
    if not snapshot.sweeps:
        return None
    trials = sum(len(one.trials) for one in snapshot.sweeps)
    say(f"goes by {trials} trials of {len(snapshot.sweeps)} earlier sweeps (search.history: false for none)")
    return Past(space, snapshot)


class HistoryWriter(Listener):
    """Adds each trial at its end. Where that fails it says so once; the sweep goes on."""

    def __init__(self, space: Space, ledger: Ledger, warn: Callable[[str], None]) -> None:
        path = history_path(space.settings.search.history)
        self._file = None if path is None else HistoryFile(path)
        self._space, self._ledger, self._warn = space, ledger, warn

    def write(self, records: Iterable[TrialRecord]) -> None:
        """Add these trials; writing one again changes nothing."""
        if self._file is None:
            return
        try:
            for sweep in sweeps_for_history(self._space, self._ledger, records):
                self._file.write(sweep.facts, sweep.trials)
        except UserError as error:
            self._file = None
            self._warn(f"this sweep is not kept in the history of sweeps: {error}")

    def trial_finished(self, record: TrialRecord) -> None:
        self.write([record])


def sweeps_for_history(space: Space, ledger: Ledger, records: Iterable[TrialRecord]) -> list[SweepOfHistory]:
    """What history keeps of a sweep: the trials that tell something, because they were evaluated or diverged.
    Those on a proxy are another sweep, with the features of the small run. None without any trial."""
    if space.settings.engine is not None:
        return []  # what another trainer measures is not comparable
    known = list(records)
    facts, own = _facts(space, ledger), _past_trials(space, eligible(known))
    small = _past_trials(space, (one for one in known if one.is_proxy))
    sweeps = [SweepOfHistory(facts=facts, trials=tuple(own))]
    if small:
        features = features_of(proxied(space))
        of_proxy = replace(facts, id=f"proxy-{facts.id}", name=f"{facts.name} (proxy)", features=features)
        sweeps.append(SweepOfHistory(facts=of_proxy, trials=tuple(small)))
    return [one for one in sweeps if one.trials]


def _facts(space: Space, ledger: Ledger) -> SweepFacts:
    attributes, objective = ledger.sweep_attributes(), space.settings.objective
    return SweepFacts(
        id=str(attributes["id"]),
        name=space.name,
        metric=objective.metric,
        mode=objective.mode,
        began_s=float(attributes.get("started_s", 0.0)),
        features=features_of(space),
        version=importlib.metadata.version("sweeper"),
    )


def _past_trials(space: Space, records: Iterable[TrialRecord]) -> list[PastTrial]:
    metric = space.settings.objective.metric
    return [_past_trial(one, metric) for one in records if _tells(one, metric)]


def _tells(record: TrialRecord, metric: str) -> bool:
    if "config" not in record.attributes:
        return False
    if record.state is TrialState.FAIL:
        return is_diverged(record, metric)
    return bool(record.evaluations) and record.state not in (TrialState.RUNNING, TrialState.WAITING)


def _past_trial(record: TrialRecord, metric: str) -> PastTrial:
    config, total = record.attributes["config"], record.attributes.get("total_tokens")
    values = [(one.tokens, one.metrics.get(metric, math.nan)) for one in record.evaluations]
    peaks = [one.metrics[PEAK_MEMORY] for one in record.evaluations if PEAK_MEMORY in one.metrics]
    return PastTrial(
        number=record.number,
        state=record.state.value,  # type: ignore[arg-type]
        config={section: config[section] for section in SECTIONS if section in config},
        evaluations=tuple((tokens, value if math.isfinite(value) else None) for tokens, value in values),
        total_tokens=None if total is None else float(total),
        seconds=record.seconds,
        peak_memory_gib=max(peaks, default=None),
    )


def _goes_by_history(space: Space) -> bool:
    return space.settings.engine is None and "auto" in (
        space.settings.search.sampler,
        space.settings.search.stopper,
    )

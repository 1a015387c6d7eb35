"""From candidates to the fastest: probe, learn, propose, a few times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace

from sweeper.autotune.candidates import MEMORY_FRACTION, Candidate, first_probe, next_probe, system_configs
from sweeper.autotune.estimate.memory_model import Calibration, Memory, Workload, calibrated, predict
from sweeper.autotune.estimate.workload import pass_lengths, probed_workload, workload_of
from sweeper.autotune.tuning import ProbeRecord, in_words
from sweeper.data import TokenizedData
from sweeper.errors import TrialOutOfMemoryError, UserError
from sweeper.space import Config, ModelSizes, SystemConfig, with_system_config
from sweeper.training import Probed

__all__ = ["Tuner", "few_passes", "trained_rate"]

_PROBES = 4
"""At most: one to learn from, and three that follow from it."""
_SAME = 0.01
"""Speeds this close, relative to the highest, are the same: the one that needs less memory is taken."""


@dataclass(kw_only=True)
class Tuner:
    """One shape's search; ``probe`` measures a configuration in warm processes."""

    config: Config
    measured: frozenset[str]
    """Paths of the fields that may change."""
    sizes: ModelSizes | None
    data: TokenizedData
    room_gib: float
    """What a rank may take on top of its idle process."""
    probe: Callable[[Config], Probed]
    idle_gib: float = 0.0
    """Of that process: a limit of memory is one for both."""
    start: SystemConfig | None = None
    """What is probed first, where it fits; None: what promises most."""
    say: Callable[[str], None] = lambda _: None
    calibration: Calibration = field(default_factory=Calibration)
    probed: list[Probed] = field(default_factory=list)
    records: list[ProbeRecord] = field(default_factory=list)
    """One for each probe, in their order."""
    _points: list[tuple[Memory, float]] = field(default_factory=list)
    _works: dict[int, tuple[float, Workload]] = field(default_factory=dict)
    """Micro-batch -> tokens of a pass on average, and the largest passes."""

    def search(self) -> ProbeRecord:
        """The record of the fastest.

        Raises: UserError where nothing fits.
        """
        candidates = self._candidates()
        wanted = (one for one in candidates if one.levers == self.start and one.fits(self.room_gib))
        candidate = next(wanted, None) or first_probe(candidates, self.room_gib)
        while candidate is not None and len(self.records) < _PROBES:
            self._measure(candidate)
            candidate = self._next()
        usable = self._usable()
        if not usable:
            raise self._too_small()
        least = max(map(_speed, usable)) * (1 - _SAME)
        fastest = [one for one in usable if _speed(one) >= least]
        return min(fastest, key=lambda one: one.measured_gib or 0.0)

    def _measure(self, candidate: Candidate) -> None:
        began, memory, words = time.monotonic(), candidate.memory, in_words(candidate.levers)
        record = ProbeRecord(
            levers=candidate.levers,
            pass_tokens=candidate.pass_tokens,
            predicted_gib=None if memory is None else memory.total_gib,
        )
        try:
            probed = self.probe(few_passes(candidate.config))
        except TrialOutOfMemoryError as error:
            self.say(f"{words}: does not fit ({error})")
        else:
            record = self._learned(record, candidate.config, probed)
            predicted = "" if record.predicted_gib is None else f" ({record.predicted_gib:.2f} predicted)"
            peak = f"peak {record.measured_gib:.2f} GiB over the idle process{predicted}"
            self.say(f"{words}: {record.tokens_per_s:,.0f} tokens/s, {peak}")
        self.records.append(replace(record, seconds=time.monotonic() - began))

    def _learned(self, record: ProbeRecord, config: Config, probed: Probed) -> ProbeRecord:
        """The record of a probe that fitted, whose measured peak corrects the predictions from now on."""
        self.probed.append(probed)
        predicted_gib, measured_gib = None, probed.peak_gib - probed.idle_gib
        if self.sizes is not None:
            config_of_probe, work = few_passes(config), probed_workload(probed, self.data)
            predicted_gib = predict(config_of_probe, self.sizes, work, self.calibration).total_gib
            self._points.append((predict(config_of_probe, self.sizes, work), measured_gib))
            self.calibration = calibrated(self._points)
        rate, spread = trained_rate(config, probed)
        return replace(
            record, tokens_per_s=rate, spread=spread, predicted_gib=predicted_gib, measured_gib=measured_gib
        )

    def _next(self) -> Candidate | None:
        candidates = [one for one in self._candidates() if not self._is_too_large(one)]
        usable = self._usable()
        if not usable:
            return first_probe(candidates, self.room_gib)
        best = self._tried(max(usable, key=_speed))
        measured = [one.levers for one in self.records if one.tokens_per_s is not None]
        return next_probe(best, measured, candidates, self.room_gib)

    def _is_too_large(self, candidate: Candidate) -> bool:
        """As heavy as one that failed; with sizes unknown, as what was measured is for each token."""
        failed = [one.levers for one in self.records if one.tokens_per_s is None]
        taken = [one.measured_gib / one.pass_tokens for one in self.records if one.measured_gib]
        at_most_gib = max(taken, default=0.0) * candidate.pass_tokens
        return any(candidate.levers.needs_no_less_than(limit) for limit in failed) or (
            self.sizes is None and at_most_gib > self.room_gib
        )

    def _usable(self) -> list[ProbeRecord]:
        """Those that fit with memory to spare; where none does, those that fit.

        Trials meet larger passes than a probe, in processes that hold a little more after each of them.
        """
        done = [one for one in self.records if one.tokens_per_s is not None]
        return [one for one in done if self._needed_gib(one) <= self.room_gib * MEMORY_FRACTION] or done

    def _needed_gib(self, record: ProbeRecord) -> float:
        """Measured, or predicted for a whole trial by all that was measured."""
        memory = self._tried(record).memory
        return max(record.measured_gib or 0.0, 0.0 if memory is None else memory.total_gib)

    def _tried(self, record: ProbeRecord) -> Candidate:
        return self._candidate(with_system_config(self.config, **asdict(record.levers)))

    def _candidates(self) -> list[Candidate]:
        return [self._candidate(one) for one in system_configs(self.config, self.measured)]

    def _candidate(self, config: Config) -> Candidate:
        """With the memory as it is predicted by now."""
        rows = config.training.per_device_batch_size
        if rows not in self._works:
            lengths = pass_lengths(config, self.data)
            self._works[rows] = float(lengths[0].mean()), workload_of(config, self.data, lengths)
        mean, work = self._works[rows]
        memory = None if self.sizes is None else predict(config, self.sizes, work, self.calibration)
        return Candidate(config=config, pass_tokens=mean, memory=memory)

    def _too_small(self) -> UserError:
        """What the lightest way needs, by part, and the smallest machine or limit that would do."""
        needs = [(one.memory, one) for one in self._candidates() if one.memory is not None]
        said, least = "", ""
        over = f" over its idle process of {self.idle_gib:.2f}" if self.idle_gib else ""
        if needs:
            memory, lightest = min(needs, key=lambda pair: pair[0].total_gib)
            said = f"; the lightest way ({in_words(lightest.levers)}) needs {memory}"
            needed_gib = memory.total_gib / MEMORY_FRACTION
            least = f"a machine with {needed_gib:.2f} GiB free for each rank, or "
            if self.config.resources.memory_limit_gib is not None:
                least = f"a memory_limit_gib of {self.idle_gib + needed_gib:.2f}, if the machine has it, or "
        return UserError.of(
            where="resources",
            value="",
            rule=f"a rank may take {self.room_gib:.2f} GiB{over}, and nothing fits into it{said}",
            remedy=f"{least}a shorter max_seq_len, lora, or more ranks that share the model",
        )


def few_passes(config: Config) -> Config:
    """The same passes, and at most two for an optimizer step: a probe times a pass without and one with the
    optimizer's work. In a pipeline all, as they overlap."""
    training, passes = config.training, config.training.gradient_accumulation_steps
    if config.parallel.pp == 1:
        passes = min(passes, 2)
    batch = training.per_device_batch_size * passes * config.parallel.dp
    changes = {"gradient_accumulation_steps": passes, "global_batch_size": batch}
    return config.model_copy(update={"training": training.model_copy(update=changes)})


def trained_rate(config: Config, probed: Probed) -> tuple[float, float]:
    """Tokens per second of the whole global batch: the median of the measured steps, and
    (highest - lowest) / median.

    A step takes the time of all tokens of the global batch at the rate of the passes without the optimizer's
    work, and that work once.
    """
    passes = config.training.gradient_accumulation_steps
    rates = []
    for step in probed.steps:
        tokens, seconds = float(step.tokens), step.seconds
        if passes > 1 and len(step.passes_s) > 1:
            tokens *= passes / len(step.passes_s)
            seconds = (passes - 1) * statistics.mean(step.passes_s[:-1]) + step.passes_s[-1]
        rates.append(tokens / seconds)
    middle = statistics.median(rates)
    return middle, (max(rates) - min(rates)) / middle


def _speed(record: ProbeRecord) -> float:
    return record.tokens_per_s or 0.0

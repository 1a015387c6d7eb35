"""From candidates to the fastest: probe, learn, propose, a few times."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sweeper.autotune.candidates import ROOM, Candidate, candidates_of, first_probe, next_probe
from sweeper.autotune.estimate.memory_model import Calibration, Memory, Workload, calibrated, predict
from sweeper.autotune.estimate.workload import pass_lengths, probed_workload, workload_of
from sweeper.autotune.tuning import ProbeRecord
from sweeper.data import TokenizedData
from sweeper.errors import TrialOutOfMemoryError, UserError
from sweeper.space import Config, ModelSizes, SystemConfig
from sweeper.train import Probed

__all__ = ["PROBES", "Tuner", "few_passes", "trained_rate"]

PROBES = 4
"""At most: one to learn from, and three that follow from it."""
_SAME = 0.01
"""Speeds within this share are the same: the one that needs less memory is taken."""


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
    _points: list[tuple[Memory, float]] = field(default_factory=list)
    _works: dict[int, tuple[float, Workload]] = field(default_factory=dict)
    """Micro-batch -> tokens of a pass on average, and the largest passes."""
    _tried: list[tuple[Candidate, ProbeRecord]] = field(default_factory=list)

    @property
    def records(self) -> list[ProbeRecord]:
        """One for each probe, in their order."""
        return [record for _, record in self._tried]

    def search(self) -> ProbeRecord:
        """The record of the fastest.

        Raises: UserError where nothing fits.
        """
        candidate = self._first()
        if candidate is None:
            raise self._too_small()
        while candidate is not None and len(self.records) < PROBES:
            self._measure(candidate)
            candidate = self._next()
        if self._best() is None:
            raise self._too_small()
        return self._lightest_of_the_fastest()

    def _first(self) -> Candidate | None:
        candidates = self._candidates()
        wanted = [one for one in candidates if one.levers == self.start and one.fits(self.room_gib)]
        return wanted[0] if wanted else first_probe(candidates, self.room_gib)

    def _measure(self, candidate: Candidate) -> None:
        began = time.monotonic()
        probed = None
        try:
            probed = self.probe(few_passes(candidate.config))
        except TrialOutOfMemoryError as error:
            self.say(f"{_words(candidate)}: does not fit ({error})")
        record = self._record(candidate, probed, time.monotonic() - began)
        self._tried.append((candidate, record))
        if probed is not None:
            self.probed.append(probed)
            self.say(f"{_words(candidate)}: {record.tokens_per_s:,.0f} tokens/s, {_peak(record)}")

    def _record(self, candidate: Candidate, probed: Probed | None, seconds: float) -> ProbeRecord:
        predicted = None
        if probed is not None and self.sizes is not None:
            config = few_passes(candidate.config)
            work = probed_workload(probed, self.data)
            memory = predict(config, self.sizes, work, self.calibration)
            predicted = memory.total_gib
            self._points.append((predict(config, self.sizes, work), probed.peak_gib - probed.idle_gib))
            self.calibration = calibrated(self._points)
        elif candidate.memory is not None:
            predicted = candidate.memory.total_gib
        rate, spread = (None, 0.0) if probed is None else trained_rate(candidate.config, probed)
        return ProbeRecord(
            levers=candidate.levers,
            tokens_per_s=rate,
            spread=spread,
            pass_tokens=candidate.pass_tokens,
            predicted_gib=predicted,
            measured_gib=None if probed is None else probed.peak_gib - probed.idle_gib,
            seconds=seconds,
        )

    def _next(self) -> Candidate | None:
        candidates = [one for one in self._candidates() if not self._is_too_large(one)]
        best = self._best()
        if best is None:
            return first_probe(candidates, self.room_gib)
        measured = [one for one, record in self._tried if record.tokens_per_s is not None]
        return next_probe(best[0], measured, candidates, self.room_gib)

    def _is_too_large(self, candidate: Candidate) -> bool:
        failed = [one.levers for one, record in self._tried if record.tokens_per_s is None]
        if any(candidate.levers.needs_no_less_than(limit) for limit in failed):
            return True
        if self.sizes is not None or not self.probed:
            return False
        # Sizes unknown: what a pass of so many tokens took says what one of more will at most.
        taken = max(
            (probed.peak_gib - probed.idle_gib) / one.pass_tokens
            for (one, _), probed in zip(self._tried, self.probed, strict=False)
        )
        return taken * candidate.pass_tokens > self.room_gib

    def _usable(self) -> list[tuple[Candidate, ProbeRecord]]:
        """Those that fit with room to spare; where none does, those that fit.

        Trials meet larger passes than a probe, in processes that hold a little more after each of them.
        """
        done = [(one, record) for one, record in self._tried if record.tokens_per_s is not None]
        return [pair for pair in done if self._needed_gib(*pair) <= self.room_gib * ROOM] or done

    def _needed_gib(self, candidate: Candidate, record: ProbeRecord) -> float:
        """Measured, or predicted for a whole trial by all that was measured."""
        memory = self._describe(candidate.config)[1]
        return max(record.measured_gib or 0.0, 0.0 if memory is None else memory.total_gib)

    def _best(self) -> tuple[Candidate, ProbeRecord] | None:
        return max(self._usable(), key=lambda pair: pair[1].tokens_per_s or 0.0, default=None)

    def _lightest_of_the_fastest(self) -> ProbeRecord:
        best = self._best()
        assert best is not None
        least = (best[1].tokens_per_s or 0.0) * (1 - _SAME)
        same = [record for _, record in self._usable() if (record.tokens_per_s or 0.0) >= least]
        return min(same, key=lambda one: one.measured_gib or 0.0)

    def _candidates(self) -> list[Candidate]:
        return candidates_of(self.config, self.measured, self._describe)

    def _describe(self, config: Config) -> tuple[float, Memory | None]:
        rows = config.training.per_device_batch_size
        if rows not in self._works:
            lengths = pass_lengths(config, self.data)
            self._works[rows] = float(lengths[0].mean()), workload_of(config, self.data, lengths)
        mean, work = self._works[rows]
        return mean, None if self.sizes is None else predict(config, self.sizes, work, self.calibration)

    def _too_small(self) -> UserError:
        """With every lever pulled; by part, so that a person sees what to do about it."""
        needs = [(one.memory, one) for one in self._candidates() if one.memory is not None]
        said, least = "", ""
        over = f" over its idle process of {self.idle_gib:.2f}" if self.idle_gib else ""
        if needs:
            memory, lightest = min(needs, key=lambda pair: pair[0].total_gib)
            said = f"; the lightest way ({_words(lightest)}) needs {memory}"
            least = self._least(memory.total_gib / ROOM) + ", or "
        return UserError.of(
            where="resources",
            value="",
            rule=f"a rank may take {self.room_gib:.2f} GiB{over}, and nothing fits into it{said}",
            remedy=f"{least}a shorter max_seq_len, lora, or more ranks that share the model",
        )

    def _least(self, needed_gib: float) -> str:
        """The smallest machine that would do; or limit, where the file has one."""
        if self.config.resources.memory_limit_gib is None:
            return f"a machine with {needed_gib:.2f} GiB free for each rank"
        return f"a memory_limit_gib of {self.idle_gib + needed_gib:.2f}, if the machine has it"


def few_passes(config: Config) -> Config:
    """The same passes, and at most two for an optimizer step: a probe times a pass without and one with the
    optimizer's work. In a pipeline all, as they overlap."""
    training = config.training
    few = training.gradient_accumulation_steps if config.parallel.pp > 1 else 2
    passes = min(training.gradient_accumulation_steps, few)
    batch = training.per_device_batch_size * passes * config.parallel.dp
    changes = {"gradient_accumulation_steps": passes, "global_batch_size": batch}
    return config.model_copy(update={"training": training.model_copy(update=changes)})


def trained_rate(config: Config, probed: Probed) -> tuple[float, float]:
    """Tokens per second of the whole global batch: the median of the measured steps, and
    (highest - lowest) / median."""
    rates = _step_rates(config, probed)
    middle = statistics.median(rates)
    return middle, (max(rates) - min(rates)) / middle


def _step_rates(config: Config, probed: Probed) -> tuple[float, ...]:
    """By each measured step: the time of all tokens of the global batch at the rate of the passes without
    the optimizer's work, and that work once."""
    passes = config.training.gradient_accumulation_steps
    found = []
    for step in probed.steps:
        if passes == 1 or len(step.passes_s) < 2:
            found.append(step.tokens / step.seconds)
            continue
        tokens = passes * step.tokens / len(step.passes_s)
        without, last = statistics.mean(step.passes_s[:-1]), step.passes_s[-1]
        found.append(tokens / ((passes - 1) * without + last))
    return tuple(found)


def _words(candidate: Candidate) -> str:
    levers = candidate.levers
    said = [f"micro-batch {levers.per_device_batch_size}", f"ZeRO {levers.zero_stage}"]
    said += ["gradient checkpointing"] if levers.gradient_checkpointing else []
    said += [f"offload {levers.offload}"] if levers.offload != "none" else []
    return ", ".join(said)


def _peak(record: ProbeRecord) -> str:
    predicted = "" if record.predicted_gib is None else f" ({record.predicted_gib:.2f} predicted)"
    return f"peak {record.measured_gib:.2f} GiB over the idle process{predicted}"

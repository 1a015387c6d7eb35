"""What a trial takes over from earlier ones, because both are the same training to the last bit.

Of two trials that are the same from the first step to the last, the later one is answered by the ledger. Of
two that are the same for their first steps, the later one goes on from a state that the earlier one left
there, at its own end where it is the shorter one. What is taken over is in the ledger before it begins, as
attributes of the trial:

================ =======================================================================================
``steps_of``     a hash of the settings that its first step was computed with
``same_as``      the trial whose training it would repeat, and whose evaluations it has
``fork``         ``{"trial", "step", "tokens"}``: from whose state after how much it began; null where from
                 its start, ``lost`` where that state was not there any more
``saved_tokens`` training tokens that it took over and did not train
================ =======================================================================================
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from sweeper.data import SequenceSet, TokenizedData
from sweeper.errors import UserError
from sweeper.search import Evaluation, Ledger, TrialRecord, TrialState, begun
from sweeper.search.grid import configuration_key, continuous_dimensions
from sweeper.space import Config, Space, SweepFolder, Values, read_config, search_config
from sweeper.sweep.paused_states import size_gib, states_over
from sweeper.training import Progress, discard, newest_checkpoint, state_folder, states_in
from sweeper.training.shared_steps import OF_THE_LENGTH, TrainingPlan, shared_steps, training_plan

__all__ = ["Sharing", "Start"]

_PATHS = frozenset(f"training.{name}" for name in OF_THE_LENGTH)
_PARTS = ("training", "deepspeed", "parallel")
_SPELLED_TWICE = "training.lora.targets"
_MOST_POINTS = 16
"""So many states one trial leaves at most; more would cost more than they save."""
_MOST_OTHERS = 512
"""So many configurations are compared with one."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """How a trial begins."""

    same_as: TrialRecord | None = None
    """Whose training its own would repeat: it is answered already."""
    fork_from: Path | None = None
    leave_at: tuple[int, ...] = ()
    taken: tuple[Evaluation, ...] = ()
    """Evaluations of other trials that are its own as well, those that the ledger got just now."""
    warning: str | None = None

    @property
    def told(self) -> Iterator[Progress]:
        """The evaluations that were taken over, as if they were made now."""
        for one in self.taken:
            yield Progress(
                step=one.step,
                tokens=one.tokens,
                seconds=one.seconds,
                metrics=dict(one.metrics),
                time_s=one.time_s or 0.0,
            )


class _Left(NamedTuple):
    """The states that a trial has left."""

    number: int
    plan: TrainingPlan
    steps: tuple[int, ...]


class Sharing:
    """Of one sweep. Reads the ledger and the states on the disk; writes what a trial takes over."""

    def __init__(
        self,
        space: Space,
        ledger: Ledger,
        folder: SweepFolder,
        rows: Callable[[], TokenizedData] | None,
    ) -> None:
        """``rows`` are asked for when they are needed first. None, or where it raises a UserError: nothing is
        shared."""
        self._space, self._ledger, self._folder, self._rows = space, ledger, folder, rows
        self.close: Callable[[Values], Config] = partial(search_config, space)
        """Makes the configuration that a trial of these values would train with."""
        self._sequences: SequenceSet | None = None
        self._content = ""
        self._plans: dict[str, TrainingPlan] = {}
        self._own: dict[int, tuple[Any, TrainingPlan, str]] = {}
        """Of a trial's number the configuration as noted, what it trains, and the hash of its settings."""
        self._leaves: set[int] | None = None
        """The trials that have left states, or may; None: nobody has looked yet."""
        settings = space.settings
        self._forks = settings.objective.at == "end" and settings.checkpoints.keep_last > 0
        """A trial that is judged by its best evaluation needs the state of that one, which may lie before the
        fork."""

    @cached_property
    def is_possible(self) -> bool:
        """Whether two trials of the space can be the same for a while: what is drawn from a continuous range
        is not drawn twice."""
        paths = {dimension.path for dimension in self._space.dimensions}
        continuous = {dimension.path for dimension, _ in continuous_dimensions(self._space)}
        if self._space.has_open_weights:
            return False  # trials of different mixtures have no row at the same step
        return bool(paths & (_PATHS | {_SPELLED_TWICE})) and continuous <= _PATHS

    def begin(
        self, record: TrialRecord, config: Config, records: Sequence[TrialRecord], *, may_fork: bool
    ) -> Start:
        """What trial ``record`` takes over, which is in the ledger when this returns."""
        if not (self.is_possible and self._has_rows()):
            return Start()
        plan = self._plan(config)
        if "steps_of" not in record.attributes:
            self._ledger.note(record.number, steps_of=_digest(plan))
        if not _has_trained(record) and (twin := self._twin(record, plan, records)) is not None:
            return self._answer(record, plan, twin)
        fork = self._fork(record, plan, records, may_fork=may_fork)
        if fork is None:
            return Start(leave_at=self._leave_at(record, plan, records, after=0))
        state = state_folder(self._folder.trial_left(fork["trial"]), fork["step"]).absolute()
        if not state.is_dir() and newest_checkpoint(self._folder.trial_checkpoints(record.number)) is None:
            leave_at = self._leave_at(record, plan, records, after=0)
            return Start(leave_at=leave_at, warning=self.lose(record.number, fork))
        leave_at = self._leave_at(record, plan, records, after=fork["step"])
        taken = self._take(record, self._evaluations(plan, fork["step"], records))
        return Start(fork_from=state, leave_at=leave_at, taken=taken)

    def _fork(
        self, record: TrialRecord, plan: TrainingPlan, records: Sequence[TrialRecord], *, may_fork: bool
    ) -> dict[str, int] | None:
        """Where the trial begins, as it was decided once: None at its start."""
        if "fork" in record.attributes:
            fork: dict[str, int] | None = record.attributes["fork"]
            return None if fork is None or fork.get("lost") else fork
        fork = (
            _longest(plan, self._left(records, plan))
            if may_fork and self._forks and not record.evaluations
            else None
        )
        self._ledger.note(record.number, saved_tokens=0 if fork is None else fork["tokens"], fork=fork)
        return fork

    def lose(self, number: int, fork: dict[str, int]) -> str:
        """Nothing is saved by a state that is not there: the trial begins at its start. Returns a warning."""
        self._ledger.note(number, saved_tokens=0, fork={**fork, "lost": True})
        return (
            f"the state of trial {fork['trial']} after {fork['step']} steps is not there any more: the trial "
            "begins at its start, with the same result"
        )

    def tidy(self, records: Sequence[TrialRecord]) -> None:
        """Drop the states that no trial can begin from any more, and those that find no room."""
        if not self.is_possible:
            return
        if self._leaves is None:
            self._leaves = {record.number for record in records}
        lying = {
            (number, step): state
            for number in sorted(self._leaves)
            for step, state in states_in(self._folder.trial_left(number)).items()
        }
        lie = {number for number, _ in lying}
        self._leaves = {
            one.number
            for one in records
            if one.number in self._leaves and (one.number in lie or not one.state.is_finished)
        }
        if not lying:
            return
        wanted = self._wanted(records, lie)
        sizes = {place: size_gib(state) for place, state in lying.items() if place in wanted}
        in_use = _in_use(records, self._folder)
        least_first = sorted(sizes, key=lambda place: (place in in_use, wanted[place] * place[1], -place[0]))
        limit_gib = self._space.settings.search.share_gib
        if limit_gib is None and self._space.closed.get("resources.files"):
            limit_gib = math.inf  # this disk has none of them
        over = set(states_over(sizes, least_first, self._folder, limit_gib)) - in_use
        for place, state in lying.items():
            if place not in sizes or place in over:
                discard(state, inside=self._folder.root)

    def forget(self, number: int) -> None:
        """The trial's states are not what its configuration says: none of them is for others."""
        discard(self._folder.trial_left(number), inside=self._folder.root)

    # -----------------------------------------------------------------------------------------

    def _twin(
        self, record: TrialRecord, plan: TrainingPlan, records: Iterable[TrialRecord]
    ) -> TrialRecord | None:
        """An earlier trial that has ended by itself and trained the same."""
        for other in self._sources(records, plan):
            has_ended = other.state is TrialState.COMPLETE or (
                other.state is TrialState.FAIL and other.attributes.get("diverged")
            )
            if other.number < record.number and has_ended:
                theirs = self._plan_of(other)
                if theirs.steps == plan.steps == shared_steps(theirs, plan):
                    return other
        return None

    def _answer(self, record: TrialRecord, plan: TrainingPlan, twin: TrialRecord) -> Start:
        seen = twin.evaluations[-1].tokens if twin.evaluations else 0
        self._ledger.note(
            record.number,
            total_tokens=plan.tokens(plan.steps),
            total_steps=plan.steps,
            saved_tokens=seen,
            same_as=twin.number,
        )
        return Start(same_as=twin, taken=self._take(record, twin.evaluations))

    def _take(self, record: TrialRecord, evaluations: Iterable[Evaluation]) -> tuple[Evaluation, ...]:
        """What cost no time, and says nothing of the machine."""
        known = {one.tokens for one in record.evaluations}
        taken = tuple(
            replace(
                one,
                seconds=0.0,
                time_s=time.time(),
                metrics={name: value for name, value in one.metrics.items() if name.startswith("eval/")},
            )
            for one in evaluations
            if one.tokens not in known
        )
        for one in taken:
            self._ledger.report(record.number, one)
        return taken

    def _evaluations(
        self, plan: TrainingPlan, before: int, records: Iterable[TrialRecord]
    ) -> list[Evaluation]:
        """Those that the run would make before that step, of whoever made them."""
        planned, found = {step for step in plan.evaluations if step < before}, dict[int, Evaluation]()
        for other in self._sources(records, plan):
            shared = shared_steps(self._plan_of(other), plan)
            for one in other.evaluations:
                if one.step in planned and one.step <= shared:
                    found.setdefault(one.step, one)
        return [found[step] for step in sorted(found)]

    def _left(self, records: Iterable[TrialRecord], plan: TrainingPlan | None = None) -> list[_Left]:
        found = (
            (one, tuple(states_in(self._folder.trial_left(one.number))))
            for one in self._sources(records, plan)
            if self._leaves is None or one.number in self._leaves
        )
        return [_Left(one.number, self._plan_of(one), steps) for one, steps in found if steps]

    def _leave_at(
        self, record: TrialRecord, plan: TrainingPlan, records: Sequence[TrialRecord], *, after: int
    ) -> tuple[int, ...]:
        points = self._points(record, plan, records, after=after)
        if points and self._leaves is not None:
            self._leaves.add(record.number)
        return points

    def _points(
        self, record: TrialRecord, plan: TrainingPlan, records: Sequence[TrialRecord], *, after: int
    ) -> tuple[int, ...]:
        """After which steps others that are still to come would part from this trial, or begin."""
        if not self._forks or record.attributes.get("steps_of", _digest(plan)) != _digest(plan):
            return ()
        points = Counter(
            shared
            for other in self._others(record, records)
            if (shared := shared_steps(plan, other)) > after and not shared == plan.steps == other.steps
        )
        most = sorted(points, key=lambda step: (-points[step], -step))[:_MOST_POINTS]
        return tuple(sorted(most))

    def _wanted(self, records: Sequence[TrialRecord], numbers: Iterable[int]) -> Counter[tuple[int, int]]:
        """The states from which somebody begins or will, and how many do."""
        wanted = Counter(_in_use(records, self._folder))
        if not self._has_rows():
            return wanted
        left, seen = self._left(records), set[int]()
        for record in (one for one in records if one.number in set(numbers)):
            for plan in self._others(record, records):
                found = None if id(plan) in seen else _longest(plan, left)
                seen.add(id(plan))
                if found is not None:
                    wanted[found["trial"], found["step"]] += 1
        return wanted

    def _others(self, record: TrialRecord, records: Sequence[TrialRecord]) -> Iterator[TrainingPlan]:
        """Of the configurations that are still to begin, those that differ from the trial's in the length and
        the schedule alone; of continuous ranges the two ends."""
        if begun(filter(_is_decided, records)) >= self._space.settings.search.trials:
            return
        seen = {configuration_key(one.values) for one in records if _is_decided(one)}
        seen.add(configuration_key(record.values))
        for values in islice(self._space.combinations(_PATHS), _MOST_OTHERS):
            whole = self._space.active_values({**record.values, **values})
            if (key := configuration_key(whole)) not in seen:
                seen.add(key)
                yield self._plan(self.close(whole))

    def _sources(
        self, records: Iterable[TrialRecord], plan: TrainingPlan | None = None
    ) -> Iterator[TrialRecord]:
        """Those whose steps are what their configuration says. Where it was made lighter on the way, steps
        have other bits. With a ``plan`` only those with its settings: others share no step with it."""
        wanted = None if plan is None else _digest(plan)
        return (
            one
            for one in records
            if (noted := one.attributes.get("steps_of")) is not None
            and (wanted is None or noted == wanted)
            and "same_as" not in one.attributes
            and noted == self._own_of(one)[2]
        )

    def _plan_of(self, record: TrialRecord) -> TrainingPlan:
        return self._own_of(record)[1]

    def _own_of(self, record: TrialRecord) -> tuple[Any, TrainingPlan, str]:
        noted, known = record.attributes["config"], self._own.get(record.number)
        if known is None or known[0] is not noted:
            plan = self._planned({name: noted[name] for name in _PARTS}, lambda: read_config(noted))
            known = self._own[record.number] = noted, plan, _digest(plan)
        return known

    def _plan(self, config: Config) -> TrainingPlan:
        return self._planned(config.model_dump(mode="json", include=set(_PARTS)), lambda: config)

    def _planned(self, parts: dict[str, Any], config: Callable[[], Config]) -> TrainingPlan:
        key = json.dumps(parts, sort_keys=True)
        if key not in self._plans:
            assert self._sequences is not None
            self._plans[key] = training_plan(config(), self._sequences, self._content)
        return self._plans[key]

    def _has_rows(self) -> bool:
        if self._rows is None:
            return False
        if self._sequences is None:
            try:
                data = self._rows()
                config = self.close(self._space.default_values())
                self._sequences, self._content = SequenceSet.of(config, data.train), data.content
            except UserError:  # whoever trains on them says so
                return False
        return True


def _is_decided(record: TrialRecord) -> bool:
    """Whether it is in the ledger what the trial takes over: a driver may be killed before that."""
    return record.state.is_finished or bool({"fork", "same_as"} & record.attributes.keys())


def _has_trained(record: TrialRecord) -> bool:
    return bool(record.evaluations) and "same_as" not in record.attributes


def _longest(plan: TrainingPlan, left: Iterable[_Left]) -> dict[str, int] | None:
    """The longest state that the run can begin from, as the ledger keeps it; of equal ones the earliest
    trial's."""
    longest: dict[str, int] | None = None
    for one in left:
        shared = shared_steps(one.plan, plan)
        step = max((step for step in one.steps if step <= shared), default=0)
        if step > (0 if longest is None else longest["step"]):
            longest = {"trial": one.number, "step": step, "tokens": plan.tokens(step)}
    return longest


def _digest(plan: TrainingPlan) -> str:
    return hashlib.sha256(plan.settings.encode()).hexdigest()[:16]


def _in_use(records: Iterable[TrialRecord], folder: SweepFolder) -> set[tuple[int, int]]:
    """The states that trials begin from which have none of their own yet."""
    forks = (
        record.attributes["fork"]
        for record in records
        if not record.state.is_finished
        and record.attributes.get("fork")
        and newest_checkpoint(folder.trial_checkpoints(record.number)) is None
    )
    return {(fork["trial"], fork["step"]) for fork in forks}

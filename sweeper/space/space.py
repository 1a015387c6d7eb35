"""A read space file: what is closed, what is open, and how a trial's values close it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from sweeper.errors import Problem, SpaceFileError
from sweeper.space.checks import Contradiction, contradictions
from sweeper.space.config import rules
from sweeper.space.config.batch import BatchContradiction
from sweeper.space.config.closing import BATCH, DP, GLOBAL, HELD_OUT_ROWS, complete
from sweeper.space.config.config import Config, Settings
from sweeper.space.config.facts import Facts
from sweeper.space.config.fields import closest, leaf_of, leaves, nested, short_name
from sweeper.space.config.mixture import mixed, source_index, with_weights
from sweeper.space.config.values import (
    LogUniform,
    OpenValue,
    Scalar,
    Values,
    as_tree,
    is_number,
    nearest,
    points,
    text,
)
from sweeper.space.engine.section import VALUES, Engine
from sweeper.space.file.dump import file_tree, written_for_engine
from sweeper.space.file.opening import LR, RANGE_TEST, RangeTest
from sweeper.space.secrets import struck_out

__all__ = ["Dimension", "Space"]

MAX_COMBINATIONS = 4_000
"""Of more combinations of open values than this, only those of their ends are looked at in advance."""


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One open value of the space."""

    path: str
    """Full name: ``training.lr``, ``training.lora.rank``."""
    name: str
    """The path without its section: ``lr``, ``lora.rank``. Unique."""
    open_value: OpenValue
    when: tuple[tuple[str, Scalar], ...] = ()
    """Field names and the values that they must all have, else the dimension is inactive and its
    field takes the default that it has when it is left out."""
    rule_of_thumb: Scalar
    """What the field would be if it were left out."""

    @cached_property
    def default(self) -> Scalar:
        """The rule of thumb, moved into the open value: the nearest option, or clipped into the range."""
        return nearest(self.open_value, self.rule_of_thumb)

    @property
    def default_clipped(self) -> bool:
        """Whether the rule of thumb itself lies outside of what the file allows."""
        return self.default != self.rule_of_thumb


@dataclass(frozen=True, kw_only=True)
class Space:
    """Two spaces are equal when they ask the same, wherever it was written."""

    settings: Settings
    """What is the same for every trial."""
    dimensions: tuple[Dimension, ...]
    """In the order of the models; conditional ones after what they depend on."""
    facts: Facts
    closed: Mapping[str, Any]
    """Path -> value of every field that is the same for all trials, written or decided."""
    range_test: RangeTest | None = None
    """Whether an LR range test is still to find, or to narrow, the range of lr."""
    source: Path = field(compare=False)
    decided: frozenset[str] = field(default=frozenset(), compare=False)
    """Those of the closed paths that a rule of thumb or a default decided."""
    places: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Path -> ``file:line:column`` of its value."""
    measured: frozenset[str] = frozenset()
    """Those of the closed paths that were written ``auto`` and are settled by measuring before the first
    trial; until then they have the value of the rule of thumb."""
    provenance: Mapping[str, Any] | None = field(default=None, compare=False)
    """Where the file comes from, if a sweep wrote it."""

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def sweep_dir(self) -> Path:
        """The sweep's folder."""
        return Path(self.settings.checkpoint_path or f"sweeps/{self.settings.name}")

    @property
    def experiment(self) -> str:
        """The MLflow experiment: the file's, else one under the sweep's name."""
        return self.settings.tracking.experiment or self.name

    def dimension(self, name: str) -> Dimension | None:
        """The dimension of a name or path."""
        return next((one for one in self.dimensions if name in (one.name, one.path)), None)

    def is_active(self, dimension: Dimension, values: Mapping[str, Scalar]) -> bool:
        """Whether a trial of these values has the dimension; missing values count as their default.

        What depends on an inactive dimension is inactive.
        """
        for name, wanted in dimension.when:
            other = self.dimension(name)
            if other is None:
                continue  # closed, and the loader has seen that it has this value
            if values.get(name, other.default) != wanted or not self.is_active(other, values):
                return False
        return True

    def default_values(self) -> Values:
        """The rules of thumb, for every dimension that is active under them."""
        return self.active_values({})

    def active_values(self, values: Mapping[str, Scalar]) -> Values:
        """One value for every active dimension: the given one, else the default."""
        return {
            one.name: values.get(one.name, one.default)
            for one in self.dimensions
            if self.is_active(one, values)
        }

    def close(self, values: Mapping[str, Scalar]) -> Config:
        """The configuration of one trial, without the passwords of addresses: training needs none.

        Args:
            values: dimension name -> value. Missing ones take their default, those of inactive
                dimensions are not used. A value need not lie inside the open value, but must be
                one that the field can have.

        Raises:
            SpaceFileError: an unknown name, a value of the wrong type, or values that contradict
                each other.
        """
        problems = list(self._misfits(values))
        if problems:
            raise SpaceFileError(problems)
        flat, found = self.attempt(values)
        if found:
            raise SpaceFileError(self.contradiction(one, flat) for one in found)
        if not self.dimensions and self.provenance is not None:
            flat["provenance"] = dict(self.provenance)
        return Config.model_validate(nested(struck_out(flat)))

    def attempt(self, values: Mapping[str, Scalar]) -> tuple[dict[str, Any], list[Contradiction]]:
        """Every field's value (path -> value) under these values, and what contradicts what."""
        known = dict(self.closed)
        active = self.active_values(values)
        weights: dict[int, float] = {}
        for one in self.dimensions:
            index = source_index(one.path)
            if index is not None:
                weights[index] = leaf_of(one.path).validate(active[one.name])
            elif one.name in active:
                known[one.path] = leaf_of(one.path).validate(active[one.name])
        known["data_path"] = with_weights(known.get("data_path"), weights)
        facts = self._facts_of(known["data_path"]) if weights else self.facts
        _give_to_engine(known)
        try:
            flat = complete(known, self.facts)
        except BatchContradiction as error:
            flat = complete({path: known[path] for path in known if path not in BATCH}, self.facts)
            flat.update((path, known[path]) for path in BATCH if path in known)
            batch = Contradiction(GLOBAL, error.rule, error.remedy)
            return flat, [batch, *(one for one in contradictions(flat, facts) if one.path != GLOBAL)]
        return flat, contradictions(flat, facts)

    @property
    def has_open_weights(self) -> bool:
        """Whether trials train on different mixtures of the sources."""
        return any(source_index(one.path) is not None for one in self.dimensions)

    @property
    def eval_rows(self) -> int:
        """Held-out rows that the loss is measured on."""
        return min(self.facts.eval_rows, self.closed[HELD_OUT_ROWS] or self.facts.eval_rows)

    def rows_config(self, config: Config) -> Config:
        """The configuration whose prepared rows a trial's are taken from: each row once, where the trials mix
        them; else the trial's own."""
        if not self.has_open_weights:
            return config
        once = tuple(one.model_copy(update={"weight": 1.0}) for one in config.sources)
        return config.model_copy(update={"data_path": once})

    def train_rows(self, config: Config) -> int:
        """Rows of one epoch of a configuration, by its mixture."""
        return self.train_rows_of(config.data_path)

    def train_rows_of(self, data_path: Any) -> int:
        """The same of a value of ``data_path``."""
        return self._facts_of(data_path).train_rows if self.has_open_weights else self.facts.train_rows

    def _facts_of(self, data_path: Any) -> Facts:
        usual, own = (
            [getattr(one, "weight", 1.0) for one in sources] for sources in (self.settings.sources, data_path)
        )
        return mixed(self.facts, own, usual)

    def where(self, path: str) -> str:
        """The place in the file of a field's value, else of its section, else the file itself."""
        return self.places.get(path) or self.places.get(path.partition(".")[0]) or str(self.source)

    def problem(self, path: str, value: str, rule: str, remedy: str) -> Problem:
        """Something wrong with a field."""
        return Problem(where=self.where(path), value=value, rule=rule, remedy=remedy)

    def contradiction(self, one: Contradiction, flat: Mapping[str, Any]) -> Problem:
        """A contradiction among these values, with its place in the file."""
        value = f"{short_name(one.path)}: {text(flat[one.path])}" if one.path in flat else ""
        return self.problem(one.path, value, one.rule, one.remedy)

    def with_lr_range(self, found: LogUniform) -> Space:
        """The same, searching lr over the range that a test has found: none is to be done any more."""
        return replace(
            self,
            dimensions=tuple(
                replace(one, open_value=found) if one.path == LR else one for one in self.dimensions
            ),
            range_test=None,
        )

    def with_concurrency(self, trials: int, *, share_cores: bool = True) -> Space:
        """The same with so many trials side by side; the cores are divided among them unless the file says
        how many a rank has, or they are another machine's."""
        closed = {**self.closed, "resources.max_concurrent": trials}
        cores = "resources.cpus_per_rank"
        if share_cores and cores in self.decided:
            ranks, cpus = self.most_ranks, self.facts.cpus
            closed[cores] = rules.cpus_per_rank(cpus=cpus, ranks=ranks, concurrent=trials)
        return replace(self, closed=closed)

    def combinations(self, paths: Collection[str]) -> Iterator[Values]:
        """Every combination of the open values of these fields, and of what they depend on.

        Continuous ranges stand in by their two ends; so does everything where there are more
        than ``MAX_COMBINATIONS``. Inactive dimensions are left out; each combination comes once.
        """
        mixes = "training.epochs" in paths  # as do the weights, it says how many rows are trained on
        chosen_paths = {*paths, *(one.path for one in self.dimensions if mixes and _is_weight(one))}
        names = self._with_parents({one.name for one in self.dimensions if one.path in chosen_paths})
        chosen = [one for one in self.dimensions if one.name in names]
        options = [points(one.open_value) for one in chosen]
        if math.prod(len(one) for one in options) > MAX_COMBINATIONS:
            options = [_ends(one) for one in options]
        seen = set()
        for picked in itertools.product(*options):
            values = dict(zip((one.name for one in chosen), picked, strict=True))
            active = {one.name: values[one.name] for one in chosen if self.is_active(one, values)}
            key = tuple(active.items())
            if key not in seen:
                seen.add(key)
                yield active

    def resolved(self) -> dict[str, Any]:
        """The tree of a space file that asks the same, with what the rules decided written out.

        Fields that follow from an open value stay ``auto``; passwords of addresses are struck out.
        """
        written: dict[str, Any] = {
            path: leaf.written(self.closed[path]) for path, leaf in leaves().items() if path in self.closed
        }
        written["training.lora"] = self.closed.get("training.lora")
        engine = self.settings.engine
        for one in self.dimensions:
            form = as_tree(one.open_value)
            if isinstance(form, list):
                form = [leaf_of(one.path).written(option) for option in form]
            index = source_index(one.path)
            if index is not None:
                written["data_path"][index] = {**written["data_path"][index], "weight": form}
                continue
            if isinstance(form, list) and (one.when or leaf_of(one.path).takes(tuple)):
                form = {"choice": form}
            if one.when:
                assert isinstance(form, dict)
                form["when"] = dict(one.when)
            written[one.path] = form
        if self.range_test is not None:
            within = {} if self.range_test.within is None else written[LR]
            written[LR] = {**within, RANGE_TEST: True}
        for path in (*self.following(), *self.measured):
            written[path] = "auto"
        if engine is not None:
            written = written_for_engine(written, engine)
        tree = file_tree(struck_out(written))
        if not self.dimensions and self.provenance is not None:
            tree["provenance"] = dict(self.provenance)
        return tree

    def following(self) -> tuple[str, ...]:
        """Paths of the fields that a rule decides anew for every trial."""
        known = self.closed.keys() | {one.path for one in self.dimensions}
        return tuple(path for path, leaf in leaves().items() if leaf.ruled and path not in known)

    @property
    def most_ranks(self) -> int:
        """Ranks of the largest trial."""
        dp = self.dimension(DP)
        replicas = self.closed[DP] if dp is None else max(map(int, points(dp.open_value)))
        return int(replicas * self.closed["parallel.pp"] * self.closed["parallel.tp"])

    def _with_parents(self, names: set[str]) -> set[str]:
        conditions = [one.when for one in self.dimensions if one.name in names]
        parents = {name for when in conditions for name, _ in when if self.dimension(name)}
        return names if parents <= names else self._with_parents(names | parents)

    def _misfits(self, values: Mapping[str, Scalar]) -> Iterator[Problem]:
        known = {one.name: one.path for one in self.dimensions}
        for name, value in values.items():
            if name not in known:
                near = closest(name, known)
                remedy = f"did you mean {near}?" if near else f"open are: {', '.join(known) or 'none'}"
                rule = "is not an open value of the space"
                yield Problem(where=str(self.source), value=name, rule=rule, remedy=remedy)
                continue
            leaf = leaf_of(known[name])
            try:
                leaf.validate(value)
            except ValueError:
                rule = f"{name} must be {leaf.expects}"
                yield self.problem(leaf.path, text(value), rule, f"write {leaf.expects}")


def _is_weight(dimension: Dimension) -> bool:
    return source_index(dimension.path) is not None


def _give_to_engine(known: dict[str, Any]) -> None:
    """What only another trainer knows stands in its section, not beside it."""
    own = {path.removeprefix(VALUES): known.pop(path) for path in [*known] if path.startswith(VALUES)}
    if own:
        engine: Engine = known["engine"]
        known["engine"] = engine.model_copy(update={"values": {**engine.values, **own}})


def _ends(options: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
    """The smallest and the largest of many numbers; words and switches as they are."""
    numbers = [one for one in options if is_number(one)]
    return (min(numbers), max(numbers)) if len(numbers) == len(options) > 2 else options

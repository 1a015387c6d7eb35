"""What a sweep will do, worked out before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweeper.space.config import rules
from sweeper.space.config.config import Objective
from sweeper.space.config.duration import duration_text
from sweeper.space.config.facts import Facts
from sweeper.space.config.fields import TRIAL_SECTIONS, leaves, short_name
from sweeper.space.config.values import Choice, IntRange, describe, points, text
from sweeper.space.metrics import metric_name
from sweeper.space.plan.row_warnings import left_out_notes, row_warnings
from sweeper.space.plan.trial_sizes import trial_sizes
from sweeper.space.space import Dimension, Space, hardware_problems

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["TRUSTED", "FixedValue", "Plan", "Span", "count_trials", "make_plan", "render"]

TRUSTED = "Python code that comes with the model is run, with all your rights (trust_remote_code: true)"


@dataclass(frozen=True, kw_only=True)
class Span:
    """The smallest and the largest value that a number has among the trials."""

    low: int
    high: int

    def __str__(self) -> str:
        return f"{self.low:,}" if self.low == self.high else f"{self.low:,} to {self.high:,}"

    def times(self, count: int) -> Span:
        return Span(low=self.low * count, high=self.high * count)


@dataclass(frozen=True, kw_only=True)
class FixedValue:
    """A field that is the same for every trial."""

    name: str
    value: str
    origin: str
    """``file``, ``rule`` (a rule of thumb decided it), ``default``, or ``follows`` from open values."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that ``sweeper validate`` shows."""

    name: str
    sweep_dir: str
    dimensions: tuple[Dimension, ...]
    fixed: tuple[FixedValue, ...]
    train_rows: int
    eval_rows: int
    global_batch: Span
    """Rows for one optimizer step."""
    steps: Span
    """Optimizer steps of one trial; with packing, at most."""
    rows_per_trial: Span
    """Rows trained on in one trial, repeats counted; with packing, at most."""
    max_tokens_per_trial: int
    """No trial trains on more tokens: rows x max_seq_len."""
    ranks: Span
    """Processes of one trial."""
    trials: int
    evaluations: int
    """Held-out evaluations of one trial."""
    generated: tuple[str, ...]
    """Metrics of generated answers, by their reported names."""
    answers: int
    """Answers that one evaluation generates."""
    sampler: str
    stopper: str
    time_budget_s: float | None
    max_concurrent: int
    accelerator: str
    devices: int
    packing: bool
    objective: str
    notes: tuple[str, ...]
    """What is allowed and still worth knowing."""
    warnings: tuple[str, ...]
    """What makes the sweep worth less than it seems."""

    @property
    def sweep_steps(self) -> Span:
        """Optimizer steps of all trials, if none is stopped."""
        return self.steps.times(self.trials)

    @property
    def sweep_rows(self) -> Span:
        """Rows trained on in all trials, if none is stopped."""
        return self.rows_per_trial.times(self.trials)

    def summary(self) -> list[tuple[str, str]]:
        """Label and value of every quantity, in reading order."""
        ranks = "rank" if self.ranks.high == 1 else "ranks"
        most = "at most " if self.packing else ""
        budget = f", {duration_text(self.time_budget_s)} at most" if self.time_budget_s else ""
        return [
            ("sweep", f"{self.name} in {self.sweep_dir}"),
            ("objective", self.objective),
            ("rows", f"{self.train_rows:,} trained on, {self.eval_rows:,} held out"),
            ("global batch", f"{self.global_batch} rows"),
            ("one trial", f"{most}{self.steps} optimizer steps, {self.rows_per_trial} rows"),
            ("evaluations", f"{self.evaluations} per trial{self._generation()}"),
            ("whole sweep", f"{most}{self.sweep_steps} optimizer steps, {self.sweep_rows} rows"),
            ("search", f"{self.trials} trials, sampler {self.sampler}, stopper {self.stopper}{budget}"),
            ("machine", f"{self.max_concurrent} at once, {self.ranks} {ranks} each, on {self._hardware()}"),
        ]

    def lines(self) -> list[str]:
        """The plan as plain lines."""
        out = [f"{label + ':':14}{value}" for label, value in self.summary()]
        out.append("open:" if self.dimensions else "open:         nothing")
        out += [
            f"  {name}: {values}{extra}" for name, values, extra in map(_dimension_texts, self.dimensions)
        ]
        out.append("fixed:")
        out += [f"  {one.name}: {one.value} ({one.origin})" for one in self.fixed if one.origin != "default"]
        out += [f"note: {note}" for note in self.notes]
        return out + [f"warning: {warning}" for warning in self.warnings]

    def _generation(self) -> str:
        if not self.generated:
            return ""
        return f", each with {self.answers} generated answers for {', '.join(self.generated)}"

    def _hardware(self) -> str:
        return f"{self.devices} GPU{'s' * (self.devices != 1)}" if self.accelerator == "cuda" else "the CPU"


def make_plan(space: Space) -> Plan:
    """Works a sweep out; trains and reads nothing."""
    closed, search = space.closed, space.settings.search
    sizes = trial_sizes(space)
    steps, ranks = _span(one.steps for one in sizes), _span(one.ranks for one in sizes)
    rows, trials = _span(one.rows for one in sizes), count_trials(space)
    objective = space.settings.objective
    return Plan(
        name=space.name,
        sweep_dir=str(space.sweep_dir),
        dimensions=space.dimensions,
        fixed=_fixed(space),
        train_rows=space.facts.train_rows,
        eval_rows=space.facts.eval_rows,
        global_batch=_span(one.global_batch for one in sizes),
        steps=steps,
        rows_per_trial=rows,
        max_tokens_per_trial=rows.high * closed["training.max_seq_len"],
        ranks=ranks,
        trials=trials,
        evaluations=objective.evaluations,
        generated=tuple(map(metric_name, space.settings.generated_metrics)),
        answers=min(space.settings.evaluation.rows, space.facts.eval_rows),
        sampler=search.sampler,
        stopper=search.stopper,
        time_budget_s=search.time_budget_s,
        max_concurrent=closed["resources.max_concurrent"],
        accelerator=space.facts.accelerator,
        devices=space.facts.devices,
        packing=closed["training.packing"],
        objective=f"{objective.metric}, {objective.mode}{_judged_at(objective)}",
        notes=tuple(_notes(space, trials, ranks, steps)),
        warnings=tuple(row_warnings(space)),
    )


def _judged_at(objective: Objective) -> str:
    return "" if objective.at == "end" else ", at the best evaluation of each trial"


def count_trials(space: Space) -> int:
    """How many trials a sweep has, if nothing ends it earlier; 1 where nothing is open."""
    search = space.settings.search
    if not space.dimensions:
        return 1
    if search.sampler == "grid":
        return min(search.trials, _grid_size(space) or search.trials)
    return search.trials


def _span(numbers: Iterable[int]) -> Span:
    found = list(numbers)
    return Span(low=min(found), high=max(found))


def render(plan: Plan, more: Sequence[tuple[str, str]] = ()) -> RenderableType:
    """The plan as tables for a terminal; ``more`` are labels and values below those of the summary."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    summary = Table.grid(padding=(0, 2))
    for label, value in [*plan.summary(), *more]:
        summary.add_row(Text(label, style="dim"), Text(value))
    opened = Table("open", "values", "starts at", title_justify="left", expand=False)
    for name, values, extra in map(_dimension_texts, plan.dimensions):
        opened.add_row(Text(name), Text(values), Text(extra.removeprefix(", starts at ")))
    fixed = Table("fixed", "value", "from", expand=False)
    for one in plan.fixed:
        if one.origin != "default":
            fixed.add_row(Text(one.name), Text(one.value), Text(one.origin))
    notes = [Text(f"note: {note}", style="yellow") for note in plan.notes]
    warnings = [Text(f"warning: {warning}", style="bold red") for warning in plan.warnings]
    return Group(summary, *([opened] if plan.dimensions else []), fixed, *notes, *warnings)


def _dimension_texts(one: Dimension) -> tuple[str, str, str]:
    """Name, values, and where the search starts."""
    start = f", starts at {text(one.default)}"
    if one.default_clipped:
        start += f" (the rule of thumb, {text(one.rule_of_thumb)}, is not among them)"
    if one.when:
        start += ", when " + " and ".join(f"{name} is {text(value)}" for name, value in one.when)
    return one.name, describe(one.open_value), start


def _unused_rows(space: Space) -> Span:
    """Rows of a trial's last, unfinished global batch."""
    rest = [round(space.facts.train_rows * one.epochs) - one.rows for one in trial_sizes(space)]
    return Span(low=min(rest), high=max(rest))


def _fixed(space: Space) -> tuple[FixedValue, ...]:
    """The fields of training, deepspeed, parallel and resources that are not open."""
    following = set(space.following())
    found = [FixedValue(name="lora", value="false", origin=_origin(space, "training.lora"))]
    if space.closed.get("training.lora") is not False:
        found = []
    for path in leaves():
        if not path.startswith((*TRIAL_SECTIONS, "resources.")) or _is_unused(space, path):
            continue
        if path in following:
            found.append(FixedValue(name=short_name(path), value="for each trial", origin="follows"))
        elif path in space.closed:
            value = text(space.closed[path])
            found.append(FixedValue(name=short_name(path), value=value, origin=_origin(space, path)))
    return tuple(found)


def _is_unused(space: Space, path: str) -> bool:
    """Whether a rule decided something that no trial looks at."""
    if path != "training.decay_ratio" or path not in space.decided:
        return False
    scheduler = space.dimension("scheduler")
    return "wsd" not in (points(scheduler.open_value) if scheduler else (space.closed["training.scheduler"],))


def _origin(space: Space, path: str) -> str:
    if path in space.measured:
        return "until it is measured"
    if path not in space.decided:
        return "file"
    return "rule" if path in leaves() and leaves()[path].ruled else "default"


def _grid_size(space: Space) -> int | None:
    """Combinations of a space of options only; None where a range is open."""
    if all(isinstance(one.open_value, (Choice, IntRange)) for one in space.dimensions):
        return sum(1 for _ in space.combinations([one.path for one in space.dimensions]))
    return None


def _notes(space: Space, trials: int, ranks: Span, steps: Span) -> list[str]:
    search, facts, closed = space.settings.search, space.facts, space.closed
    notes = [TRUSTED] if space.settings.trust_remote_code else []
    notes += [f"{problem.rule}: {problem.remedy}" for problem in hardware_problems(space)]
    notes += [*left_out_notes(facts), *facts.data_notes]
    if closed["resources.min_free_gib"] is not None and not closed["resources.gpus_per_rank"]:
        notes.append("min_free_gib is of no use here: ranks train on the CPU")
    if space.range_test is not None:
        how = "replaces" if space.range_test.within is None else "narrows"
        notes.append(f"before its first trial, `sweeper run` does an LR range test, which {how} lr's range")
    if search.sampler == "grid" and trials < search.trials:
        notes.append(f"the grid has {trials} configurations, fewer than search.trials ({search.trials})")
    if space.settings.objective.evaluations > steps.low:
        notes.append(
            f"the shortest trial has {steps.low} steps, so it is evaluated {steps.low} times at most"
        )
    if not closed["training.packing"] and (unused := _unused_rows(space)).high:
        notes.append(f"{unused} rows at the end of a trial fill no global batch and are left out")
    if "training.packing" in space.measured:
        notes.append(
            "packing: auto is false: rows of a micro-batch have no padding between them in any case, and "
            "packed sequences would change how many rows an optimizer step learns from"
        )
    if closed["training.packing"]:
        notes.append("packing puts several rows into one sequence, so there are fewer steps than shown")
    if "training.lr" in space.decided or space.dimension("lr"):
        notes += _lr_notes(facts, lora=closed.get("training.lora") is not False)
    return notes


def _lr_notes(facts: Facts, *, lora: bool) -> list[str]:
    """What makes the rule for lr less than certain."""
    if facts.hidden_size is None:
        return ["the model's width is not known here, so lr starts at the rule for any size"]
    if not lora:
        return []
    swept, *formula = rules.lora_lrs(facts.hidden_size, facts.model_type)
    said = f"lr for LoRA is disputed: in a public sweep {text(swept)} was best whatever the width"
    if not formula:
        return [f"{said}; whether it falls with the width in the family {facts.model_type} is not known"]
    here = rules.lr(facts.hidden_size, lora=True, model_type=facts.model_type)
    family = rules.lr_family(facts.model_type)
    return [
        f"{said}, a formula for {family} says {text(formula[0])} at {facts.hidden_size}; the rule takes the "
        f"middle, {text(here)}"
    ]

"""What a sweep will do, worked out before anything runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from sweeper.space.config import rules
from sweeper.space.config.constraints import constraints_of
from sweeper.space.config.duration import duration_text
from sweeper.space.config.facts import Facts
from sweeper.space.config.fields import TRIAL_SECTIONS, leaves, short_name
from sweeper.space.config.search import Objective
from sweeper.space.config.values import Choice, IntRange, describe, points, text
from sweeper.space.engine.section import Engine
from sweeper.space.metrics import better, metric_name
from sweeper.space.plan.held_out import held_out_notes
from sweeper.space.plan.row_warnings import left_out_notes, row_warnings
from sweeper.space.plan.trial_sizes import trial_sizes
from sweeper.space.proxy import full_runs, proxy_lr_factor, proxy_warnings, proxy_words
from sweeper.space.requirements import hardware_problems
from sweeper.space.space import Dimension, Space

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["TRUSTED", "Plan", "count_runs", "count_trials", "make_plan", "render"]

TRUSTED = "Python code that comes with the model is run, with all your rights (trust_remote_code: true)"


class Span(NamedTuple):
    """The smallest and the largest value that a number has among the trials."""

    low: int
    high: int

    @classmethod
    def of(cls, numbers: Iterable[int]) -> Span:
        found = list(numbers)
        return cls(min(found), max(found))

    def __str__(self) -> str:
        return f"{self.low:,}" if self.low == self.high else f"{self.low:,} to {self.high:,}"

    def times(self, count: float) -> Span:
        return Span(round(self.low * count), round(self.high * count))


class FixedValue(NamedTuple):
    """A field that is the same for every trial."""

    name: str
    value: str
    origin: str
    """``file``, ``rule`` (a rule of thumb decided it), ``default``, or ``follows`` from open values."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that ``sweeper validate`` shows."""

    space: Space
    fixed: tuple[FixedValue, ...]
    global_batch: Span
    """Rows for one optimizer step."""
    steps: Span
    """Optimizer steps of one trial; with packing, at most."""
    rows_per_trial: Span
    """Rows trained on in one trial, repeats counted; with packing, at most."""
    ranks: Span
    """Processes of one trial."""
    trials: int
    notes: tuple[str, ...]
    """What is allowed and still worth knowing."""
    warnings: tuple[str, ...]
    """What makes the sweep worth less than it seems."""

    def summary(self) -> list[tuple[str, str]]:
        """Label and value of every quantity, in reading order; those of the whole sweep if no trial is
        stopped."""
        space, facts, search = self.space, self.space.facts, self.space.settings.search
        engine = space.settings.engine
        confirm = search.confirm
        most = "at most " if space.closed["training.packing"] else ""
        runs, _ = full_runs(space, self.trials, count_runs(space))
        steps, rows = self.steps.times(runs), self.rows_per_trial.times(runs)
        trials = f"{self.trials} trials" + (f" on {words}" if (words := proxy_words(space)) else "")
        limits = f", ranges extended {extend.times} times at most" if (extend := search.extension) else ""
        limits += f", {duration_text(search.time_budget_s)} at most" if search.time_budget_s else ""
        at_once, ranks = space.closed["resources.max_concurrent"], "rank" if self.ranks.high == 1 else "ranks"
        gpus = f"{facts.devices} GPU{'s' * (facts.devices != 1)}"
        hardware = gpus if facts.accelerator == "cuda" else "the CPU"
        return [
            ("sweep", f"{space.name} in {space.sweep_dir}"),
            ("objective", _objective(space.settings.objective)),
            *(
                _engine_rows(engine, self.global_batch)
                if engine is not None
                else [
                    ("rows", _rows(facts)),
                    ("global batch", f"{self.global_batch} rows"),
                    ("one trial", f"{most}{self.steps} optimizer steps, {self.rows_per_trial} rows"),
                    ("evaluations", _evaluations(space)),
                    ("whole sweep", f"{most}{steps} optimizer steps, {rows} rows"),
                ]
            ),
            ("search", f"{trials}, sampler {search.sampler}, stopper {search.stopper}{limits}"),
            *([("then", _real_runs(space))] if words else []),
            *(
                []
                if confirm.top is None
                else [("then", f"the best {confirm.top} again under {confirm.seeds} seeds")]
            ),
            ("machine", f"{at_once} at once, {self.ranks} {ranks} each, on {hardware}"),
        ]


def make_plan(space: Space) -> Plan:
    """Works a sweep out; trains and reads nothing."""
    sizes = trial_sizes(space)
    steps, trials = Span.of(one.steps for one in sizes), count_trials(space)
    return Plan(
        space=space,
        fixed=tuple(_fixed(space)),
        global_batch=Span.of(one.global_batch for one in sizes),
        steps=steps,
        rows_per_trial=Span.of(one.rows for one in sizes),
        ranks=Span.of(one.ranks for one in sizes),
        trials=trials,
        notes=tuple(_notes(space, trials, steps)),
        warnings=(*row_warnings(space), *proxy_warnings(space)),
    )


def _engine_rows(engine: Engine, global_batch: Span) -> list[tuple[str, str]]:
    """What is known of a trial that another trainer runs."""
    return [
        ("engine", engine.command),
        ("metrics", f"{engine.metrics.kind}: {engine.metrics.place}"),
        *([("global batch", f"{global_batch} rows")] if engine.knows_rows else []),
        (
            "after a cut",
            "goes on from the trainer's state" if engine.resume else "begins anew",
        ),
    ]


def _objective(objective: Objective) -> str:
    judged_at = "" if objective.at == "end" else ", at the best evaluation of each trial"
    also = "" if objective.also is None else f"; also {objective.also}, {better(objective.also)}"
    kept = "".join(f"; with {one.text}" for one in constraints_of(objective))
    return f"{objective.metric}, {objective.mode}{judged_at}{also}{kept}"


def _real_runs(space: Space) -> str:
    top, factor = space.settings.search.proxy.finalists, proxy_lr_factor(space)
    best = "the best one" if top == 1 else f"the best {top}"
    moved = "" if factor == 1 else f"; the proxy trains with {factor:.3g} times the lr"
    return f"{best} and the rules of thumb on the real thing{moved}"


def _rows(facts: Facts) -> str:
    looked_at = facts.rows_looked_at
    rows = f"{facts.train_rows:,} trained on, {facts.eval_rows:,} held out"
    return rows if looked_at is None else f"about {rows}, by a sample of {looked_at:,}"


def _evaluations(space: Space) -> str:
    rows = f", each on {space.eval_rows:,} held-out rows" if space.eval_rows < space.facts.eval_rows else ""
    return f"{space.settings.objective.evaluations} per trial{rows}{_generation(space)}"


def _generation(space: Space) -> str:
    metrics = ", ".join(map(metric_name, space.settings.generated_metrics))
    answers = min(space.settings.evaluation.rows, space.facts.eval_rows)
    return f", each with {answers} generated answers for {metrics}" if metrics else ""


def count_trials(space: Space) -> int:
    """How many trials a sweep has, if nothing ends it earlier; 1 where nothing is open."""
    search = space.settings.search
    if not space.dimensions:
        return 1
    if search.sampler == "grid" and all(
        isinstance(one.open_value, (Choice, IntRange)) for one in space.dimensions
    ):
        combinations = space.combinations([one.path for one in space.dimensions])
        return sum(1 for _ in islice(combinations, search.trials))
    return search.trials


def count_runs(space: Space) -> int:
    """Trials, and those that are trained again on the real thing or under other seeds, at most."""
    trials, confirm, proxy = count_trials(space), space.settings.search.confirm, space.settings.search.proxy
    real = min(proxy.finalists + 1, trials) if proxy.is_wanted else 0
    return trials + real + min(confirm.top or 0, real or trials) * (confirm.seeds or 0)


def render(plan: Plan, more: Sequence[tuple[str, str]] = ()) -> RenderableType:
    """The plan as tables for a terminal; ``more`` are labels and values below those of the summary."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    summary = Table.grid(padding=(0, 2))
    for label, value in [*plan.summary(), *more]:
        summary.add_row(Text(label, style="dim"), Text(value))
    opened = Table("open", "values", "starts at", title_justify="left", expand=False)
    for one in plan.space.dimensions:
        opened.add_row(Text(one.name), Text(describe(one.open_value)), Text(_start(one)))
    fixed = Table("fixed", "value", "from", expand=False)
    for row in plan.fixed:
        if row.origin != "default":
            fixed.add_row(*map(Text, row))
    notes = [Text(f"note: {note}", style="yellow") for note in plan.notes]
    warnings = [Text(f"warning: {warning}", style="bold red") for warning in plan.warnings]
    return Group(summary, *([opened] if plan.space.dimensions else []), fixed, *notes, *warnings)


def _start(one: Dimension) -> str:
    """Where the search of an open value starts."""
    start = text(one.default)
    if one.default_clipped:
        start += f" (the rule of thumb, {text(one.rule_of_thumb)}, is not among them)"
    if one.when:
        start += ", when " + " and ".join(f"{name} is {text(value)}" for name, value in one.when)
    return start


def _unused_rows(space: Space) -> Span:
    """Rows of a trial's last, unfinished global batch."""
    return Span.of(round(space.facts.train_rows * one.epochs) - one.rows for one in trial_sizes(space))


def _fixed(space: Space) -> Iterator[FixedValue]:
    """The fields of training, deepspeed, parallel and resources that are not open."""
    following, engine = set(space.following()), space.settings.engine
    if engine is None and space.closed.get("training.lora") is False:
        yield FixedValue("lora", "false", _origin(space, "training.lora"))
    for path in leaves():
        if not path.startswith((*TRIAL_SECTIONS, "resources.")) or _is_unused(space, path):
            continue
        if engine is not None and path.startswith(TRIAL_SECTIONS) and not engine.acts(path):
            continue
        if path in following:
            yield FixedValue(short_name(path), "for each trial", "follows")
        elif path in space.closed:
            yield FixedValue(short_name(path), text(space.closed[path]), _origin(space, path))


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


def _notes(space: Space, trials: int, steps: Span) -> list[str]:
    search, facts, closed = space.settings.search, space.facts, space.closed
    notes = [TRUSTED] if space.settings.trust_remote_code else []
    notes += [f"{problem.rule}: {problem.remedy}" for problem in hardware_problems(space)]
    if (engine := space.settings.engine) is not None:
        return notes + _engine_notes(space, engine)
    notes += [*left_out_notes(facts), *facts.data_notes, *held_out_notes(space)]
    if closed["resources.min_free_gib"] is not None and not closed["resources.gpus_per_rank"]:
        notes.append("min_free_gib is of no use here: ranks train on the CPU")
    if space.range_test is not None:
        how = "replaces" if space.range_test.within is None else "narrows"
        notes.append(f"before its first trial, `sweeper run` does an LR range test, which {how} lr's range")
    if search.confirm.seeds == 2:
        notes.append(
            "under confirm.seeds: 2 only large differences are told apart: the interval of two differences "
            "has 12.7 standard errors to each side, that of three 4.3"
        )
    if search.sampler == "grid" and trials < search.trials:
        notes.append(f"the grid has {trials} configurations, fewer than search.trials ({search.trials})")
    if space.settings.objective.evaluations > steps.low:
        notes.append(
            f"the shortest trial has {steps.low} steps, so it is evaluated {steps.low} times at most"
        )
    if space.settings.objective.also == "tokens" and len({one.rows for one in trial_sizes(space)}) == 1:
        notes.append(
            "no open value changes how much a trial trains on: the tokens of all trials are the same"
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


def _engine_notes(space: Space, engine: Engine) -> list[str]:
    """What a sweep does not do for another trainer."""
    notes = ["trials of an engine are not paused and share no steps: stopper auto trains each to its end"]
    if not engine.splits_batch:
        notes.append(
            "a trial that does not fit into memory fails: without names for per_device_batch_size and "
            "gradient_accumulation_steps its batch cannot be split otherwise"
        )
    return notes if space.settings.search.stopper == "auto" else notes[1:]


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

"""A space file and its overrides -> a ``Space``, or every problem at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeper.errors import Problem, SpaceFileError, UserError
from sweeper.space.checks import GROUPS
from sweeper.space.config import rules
from sweeper.space.config.batch import BatchContradiction, optimizer_steps
from sweeper.space.config.closing import (
    ACCUMULATION,
    ALPHA,
    ALPHA_RATIO,
    BATCH,
    DP,
    GLOBAL,
    HELD_OUT_ROWS,
    RANK,
    complete,
    follows_per_trial,
    with_defaults,
)
from sweeper.space.config.config import Settings
from sweeper.space.config.facts import Facts
from sweeper.space.config.fields import TRIAL_SECTIONS, leaf_of, leaves, nested, short_name
from sweeper.space.config.mixture import source_index, weight_names, weight_path
from sweeper.space.config.values import Scalar, nearest, points, text
from sweeper.space.ds_file import DS_CONFIG, ds_config_problems, read_ds_file
from sweeper.space.engine.settling import settle_engine, trainers_own
from sweeper.space.file.conditions import read_conditions, sorted_by_dependency
from sweeper.space.file.document import read_document
from sweeper.space.file.draft import Draft, draft_of
from sweeper.space.file.opening import LR, Opening
from sweeper.space.file.overrides import apply_overrides
from sweeper.space.file.short_forms import written_out
from sweeper.space.file.tree import read_tree
from sweeper.space.metrics import better, metric_names
from sweeper.space.plan.held_out import with_enough_held_out_rows
from sweeper.space.plan.system import SYSTEM
from sweeper.space.schedules import warmup_steps
from sweeper.space.space import Dimension, Space

__all__ = ["load_space"]

_ANY_FACTS = Facts(train_rows=10**12, eval_rows=1, accelerator="cpu", devices=1, cpus=1)
"""Stands in for the real ones while a faulty file is looked through for further faults."""
_ANY_SETTINGS = Settings(name="any", model_path="any", data_path="any")


def load_space(
    path: Path | Mapping[str, Any],
    *,
    overrides: Sequence[str] = (),
    gather: Callable[[Settings], Facts],
) -> Space:
    """Reads a space file.

    Args:
        path: the file, or what it would hold as Python data.
        overrides: ``key=value`` pairs put over the file; the key is a dotted path or a field's
            name where only one field has it, the value is YAML.
        gather: finds out what is known about data, model and machine. It is called once, and not
            before the fields that it needs are valid.

    Raises:
        SpaceFileError: with all problems of the file and the overrides.
        UserError: whatever ``gather`` raises for a file without problems.
    """
    read = read_tree(path) if isinstance(path, Mapping) else read_document(path)
    path = Path("space") if isinstance(path, Mapping) else path
    root, problems = apply_overrides(written_out(read), overrides)
    draft = draft_of(written_out(root))
    draft.problems.extend(problems)
    settle_engine(draft)
    _settle_mode(draft)
    _read_ds_config(draft)
    settings = _settings(draft)
    facts = _ANY_FACTS
    if settings is not None:
        try:
            facts = gather(settings)
        except UserError as error:
            if not draft.problems and not _looked_through(draft, path, settings, facts)[1]:
                raise
            draft.problems.extend(error.problems)
    length = draft.closed.get("training.max_seq_len", rules.max_seq_len(facts.max_position_embeddings))
    facts = facts.within(length, draft.closed.get("training.overlong", "truncate"))
    space, found = _looked_through(draft, path, settings or _ANY_SETTINGS, facts)
    if found:
        raise SpaceFileError(_in_order(found))
    return with_enough_held_out_rows(space) if HELD_OUT_ROWS in draft.autos else space


def _settle_mode(draft: Draft) -> None:
    """What is better follows from the metric, unless the file says it; of a user's own only the file can."""
    metric = draft.closed.get("objective.metric")
    if metric is None or "objective.mode" in draft.places:
        return
    if better(metric) is not None:
        draft.closed["objective.mode"] = better(metric)
    elif "engine" in draft.closed or metric in metric_names(draft.closed.get("evaluation.metrics", ())):
        what = "metric" if "engine" in draft.closed else "function"
        rule = f"whether more or less of it is better is not known of a {what} of your own"
        draft.complain_of("objective.metric", rule, "write mode: max beside it, or mode: min")


def _read_ds_config(draft: Draft) -> None:
    """The file's content takes the place of its name: a sweep goes on with what it began with."""
    name = draft.closed.get(DS_CONFIG)
    if not isinstance(name, str):
        return
    draft.closed[DS_CONFIG], problem = read_ds_file(name, draft.where(DS_CONFIG))
    draft.places[DS_CONFIG] = name
    if problem:
        draft.problems.append(problem)


def _settings(draft: Draft) -> Settings | None:
    """The part of the file that the facts depend on; None where it is not valid."""
    flat = {
        path: value
        for path, value in draft.closed.items()
        if not path.startswith((*TRIAL_SECTIONS, "resources."))
    }
    try:
        return Settings.model_validate(nested(flat))
    except ValueError:
        return None


def _looked_through(
    draft: Draft, path: Path, settings: Settings, facts: Facts
) -> tuple[Space, list[Problem]]:
    """The space, and all problems: those of single fields and those of their combination."""
    draft = replace(
        draft, problems=list(draft.problems), closed=dict(draft.closed), opened=dict(draft.opened)
    )
    _open_the_lr(draft, facts)
    _check_batch_is_not_overdetermined(draft)
    _check_alpha_is_said_once(draft)
    _check_mixture(draft)
    _check_confirmation(draft)
    _check_proxy(draft)
    lora = {} if draft.has_lora else {"training.lora": False}
    written = with_defaults({**draft.closed, **lora}, draft.opened)
    closed = _closed(draft, written, _usual(draft, written, facts), facts)
    usual = complete({**closed, **_least_dp(draft)}, facts)
    conditions = read_conditions(draft, closed)
    names = _names_of_weights(draft)
    dimensions = (
        Dimension(
            path=one,
            name=names.get(one) or short_name(one),
            open_value=draft.opened[one].open_value,
            when=tuple((short_name(other), value) for other, value in conditions[one]),
            rule_of_thumb=_start_of(draft, one, dict(conditions[one]), closed, usual, facts),
        )
        for one in sorted_by_dependency(conditions)
    )
    space = Space(
        settings=settings,
        dimensions=tuple(dimensions),
        facts=facts,
        closed=closed,
        source=path,
        decided=frozenset(closed) - frozenset(draft.closed),
        places=draft.places,
        measured=frozenset(draft.autos) & SYSTEM,
        range_test=draft.range_test,
        provenance=draft.provenance,
    )
    return space, [*draft.problems, *_combination_problems(space), *ds_config_problems(space)]


def _open_the_lr(draft: Draft, facts: Facts) -> None:
    """``lr: auto`` is a range; an absent lr is the practice itself."""
    if LR in draft.autos:
        practice = rules.lr(facts.hidden_size, lora=draft.has_lora, model_type=facts.model_type)
        views = rules.lora_lrs(facts.hidden_size, facts.model_type) if draft.has_lora else ()
        draft.opened[LR] = Opening(open_value=rules.lr_range(practice, views))


def _check_batch_is_not_overdetermined(draft: Draft) -> None:
    """Of global batch, per-device batch and accumulation at most two are given, if any is open."""
    given = [path for path in BATCH if path in draft.closed or path in draft.opened]
    opened = [path for path in given if path in draft.opened]
    if not opened:
        return
    if GLOBAL in opened and ACCUMULATION in opened:
        rule = "global_batch_size and accumulation cannot both be open: one follows from the other"
    elif len(given) == len(BATCH):
        rule = "of global batch, accumulation and per-device batch one follows from the other two"
    else:
        return
    free = ACCUMULATION if GLOBAL in opened or ACCUMULATION not in opened else GLOBAL
    draft.complain_of(free, rule, f"leave {short_name(free)} out, or write auto")
    draft.closed.pop(free, None)
    draft.opened.pop(free, None)


def _check_alpha_is_said_once(draft: Draft) -> None:
    """By itself, or by its ratio to the rank."""
    if draft.closed.get(ALPHA_RATIO) is None and ALPHA_RATIO not in draft.opened:
        return
    if ALPHA in draft.closed or ALPHA in draft.opened:
        rule = "alpha is written, and its ratio to the rank as well: one follows from the other"
        draft.complain_of(ALPHA, rule, "keep alpha: 32, or alpha: {ratio: 2}")
        draft.closed.pop(ALPHA, None)
        draft.opened.pop(ALPHA, None)


def _check_mixture(draft: Draft) -> None:
    """Some rows are trained on, whatever the weights; and a share of the rows is of one mixture."""
    data_path = draft.closed.get("data_path")
    if data_path is None:
        return
    sources = data_path if isinstance(data_path, tuple) else (data_path,)
    opened = {index: draft.opened.get(weight_path(index)) for index in range(len(sources))}
    least = [
        min(map(float, points(one.open_value)))
        if (one := opened[index]) is not None
        else getattr(source, "weight", 1.0)
        for index, source in enumerate(sources)
    ]
    if not any(least):
        rule = "all sources may have the weight 0 at once, which leaves nothing to train on"
        remedy = "let one of them have a weight above 0, such as {uniform: [0.1, 2]}"
        draft.complain_of("data_path", rule, remedy)
    if any(opened.values()) and "search.proxy.rows" in draft.shown:
        rule = "a proxy of fewer rows is a share of one mixture, and the weights are open"
        draft.complain_of("search.proxy.rows", rule, "write weights, or search.proxy.model_path instead")


def _names_of_weights(draft: Draft) -> dict[str, str]:
    """The name of each open weight, by its path."""
    indices = [(path, index) for path in draft.opened if (index := source_index(path)) is not None]
    if not indices:
        return {}
    names = weight_names(draft.closed["data_path"])
    return {path: names[index] for path, index in indices}


def _check_confirmation(draft: Draft) -> None:
    """It needs both numbers, and trains the same values under other seeds."""
    given = [path for path in ("search.confirm.top", "search.confirm.seeds") if path in draft.shown]
    if len(given) == 1:
        rule = "a confirmation needs both: how many trials (top), and under how many seeds (seeds)"
        draft.complain_of(given[0], rule, "write confirm: {top: 3, seeds: 3}, or leave confirm out")
    if "training.seed" in draft.opened and draft.closed.get("search.confirm.top") is not None:
        rule = "search.confirm trains the best trials under seeds of its own, so that none can be searched"
        draft.complain_of("training.seed", rule, "write one seed, or leave search.confirm out")


def _check_proxy(draft: Draft) -> None:
    """A small run is of fewer rows or of a smaller model."""
    rows, model = (f"search.proxy.{name}" in draft.shown for name in ("rows", "model_path"))
    if rows and model:
        rule = "a proxy has fewer rows or a smaller model: with both, nobody knows which of them misled"
        draft.complain_of("search.proxy.model_path", rule, "keep rows, or model_path")
    elif "search.proxy.top" in draft.shown and not (rows or model):
        rule = "top says how many of a proxy's best train on the real thing, and there is no proxy"
        draft.complain_of("search.proxy.top", rule, "write rows: 0.2 beside it, or leave proxy out")


def _usual(draft: Draft, written: dict[str, Any], facts: Facts) -> dict[str, Any]:
    """What every field would be if all open ones were left out: the rules of thumb.

    Batch sizes that contradict each other become a problem and are dropped.
    """
    dp = _least_dp(draft)
    try:
        return complete({**written, **dp}, facts)
    except BatchContradiction as error:
        place = GLOBAL if GLOBAL in draft.closed else ACCUMULATION
        draft.complain_of(place, error.rule, error.remedy)
        for path in BATCH:
            written.pop(path, None)
            draft.closed.pop(path, None)
        return complete({**written, **dp}, facts)


def _least_dp(draft: Draft) -> dict[str, Any]:
    """An open dp stands in by its smallest, as the rules for batches divide by it."""
    return {DP: nearest(draft.opened[DP].open_value, 1)} if DP in draft.opened else {}


def _closed(
    draft: Draft, written: Mapping[str, Any], usual: Mapping[str, Any], facts: Facts
) -> dict[str, Any]:
    """Every field that is the same for all trials."""
    opened = frozenset(draft.opened)
    autos = frozenset(path for path, leaf in leaves().items() if leaf.ruled and path not in written) - opened
    if DP in opened:
        largest = max(points(draft.opened[DP].open_value))
        with contextlib.suppress(BatchContradiction):  # reported with the combinations of open values
            usual = complete({**written, DP: largest}, facts)
    same = (path for path in leaves() if path in autos and not follows_per_trial(path, opened, autos))
    return {**written, **{path: usual[path] for path in same}}


def _start_of(
    draft: Draft,
    path: str,
    conditions: Mapping[str, Any],
    closed: Mapping[str, Any],
    usual: Mapping[str, Any],
    facts: Facts,
) -> Scalar:
    """Where the search of an open field starts: another trainer's own file, or the rule of thumb."""
    if (own := trainers_own(draft, path)) is not None:
        return own
    return _rule_of_thumb(path, conditions, closed, usual, facts)


def _rule_of_thumb(
    path: str,
    conditions: Mapping[str, Any],
    closed: Mapping[str, Any],
    usual: Mapping[str, Any],
    facts: Facts,
) -> Scalar:
    """What an open field would be if it were left out."""
    leaf = leaf_of(path)
    if conditions and leaf.ruled:
        with contextlib.suppress(BatchContradiction):  # reported with the combinations of open values
            usual = complete({**closed, **conditions}, facts)
    if path == ALPHA_RATIO:
        return _usual_alpha_ratio()
    value: Scalar = usual[path] if leaf.ruled else leaf.default
    return _usual_warmup(usual, facts) if path == "training.warmup_steps" else value


def _usual_alpha_ratio() -> float:
    """That of the defaults."""
    return float(leaves()[ALPHA].default / leaves()[RANK].default)


def _usual_warmup(usual: Mapping[str, Any], facts: Facts) -> int:
    """The steps that ``warmup_ratio`` comes to."""
    steps = optimizer_steps(
        rows=facts.train_rows,
        epochs=usual["training.epochs"],
        global_batch=usual["training.global_batch_size"],
    )
    return warmup_steps(steps, usual["training.warmup_ratio"])


def _combination_problems(space: Space) -> list[Problem]:
    """What contradicts what, whatever the sweep may choose; each kind of problem once."""
    problems: dict[tuple[str, str], Problem] = {}
    for group in GROUPS:
        others = frozenset().union(*(other for other in GROUPS if other is not group))
        for values in space.combinations(group):
            flat, found = space.attempt(values)
            for one in found:
                kind = (one.path, "" if one.path == GLOBAL else one.remedy)
                if kind in problems or one.path in others:
                    continue
                problem = space.contradiction(one, flat)
                if values and one.path.startswith(TRIAL_SECTIONS):
                    chosen = ", ".join(f"{name}: {text(value)}" for name, value in values.items())
                    problem = replace(problem, rule=f"{problem.rule} (with {chosen})")
                problems[kind] = problem
    return list(problems.values())


def _in_order(problems: list[Problem]) -> list[Problem]:
    """By line and column, so that a user mends the file from top to bottom; each once."""

    def place(problem: Problem) -> tuple[str, int, int]:
        file, _, position = problem.where.rpartition(":")
        file, _, line = file.rpartition(":")
        return (file, int(line), int(position)) if line.isdigit() and position.isdigit() else ("~", 0, 0)

    return sorted(dict.fromkeys(problems), key=place)

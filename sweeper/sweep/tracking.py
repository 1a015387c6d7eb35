"""The sweep's events, in the words of the tracker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweeper.search import TrialRecord, TrialState, second_of
from sweeper.space import Config, Space, dump_config
from sweeper.sweep.listener import Listener
from sweeper.sweep.steps import read_steps
from sweeper.track import (
    BoardWriter,
    MetricPoint,
    Tracker,
    chart_params,
    evaluation_points,
    judged_by,
    run_name,
    second_by,
    training_points,
)
from sweeper.training import STARTUP, Progress, StepMetrics

__all__ = ["TrackingListener"]

_SECTIONS = ("training", "deepspeed", "parallel")


class TrackingListener(Listener):
    """Sends each trial's parameters, metrics and end to MLflow, as one child run, and to the other boards."""

    def __init__(
        self, trackers: Sequence[Tracker | BoardWriter], space: Space, tags: Mapping[str, str]
    ) -> None:
        """``tags`` hold for every trial: versions and fingerprints."""
        self._trackers, self._space, self._tags = trackers, space, dict(tags)

    def trial_started(self, number: int, record: TrialRecord, config: Config) -> None:
        searched = dict(record.values)
        fixed = chart_params(self._space, searched) | named_parameters(self._space, config)
        own = ({"default": "yes"} if record.is_default else {}) | _sources(record) | _run_tags(record)
        if self._space.settings.search.proxy.is_wanted:
            own |= _phase_tags(record, config)
        tags = self._tags | own
        for tracker in self._trackers:
            tracker.trial_started(
                number,
                name=run_name(self._space, number, searched),
                searched=searched,
                fixed=fixed,
                config_yaml=dump_config(config),
                tags=tags,
                at_s=record.started_s,
            )

    def progressed(self, number: int, progress: Progress) -> None:
        points = _step_points(progress.steps)
        if progress.metrics or not progress.done:
            points += training_points(
                _with_history(progress.metrics),
                step=progress.step,
                tokens=progress.tokens,
                time_s=progress.time_s,
            )
        for tracker in self._trackers:
            tracker.metrics(number, points)

    def trial_paused(self, record: TrialRecord) -> None:
        for tracker in self._trackers:
            tracker.trial_paused(record.number, reason=record.reason)

    def trial_finished(self, record: TrialRecord) -> None:
        startup_s, objective = record.attributes.get("startup_s"), self._space.settings.objective
        metrics = {} if startup_s is None else {STARTUP: float(startup_s)}
        if record.saved_tokens:
            metrics["saved_tokens"] = float(record.saved_tokens)
        if objective.at == "best" and record.final_value is not None:
            metrics[judged_by(objective)] = record.final_value
        second, name = second_of(record, objective), second_by(objective)
        if second is not None and name is not None:
            metrics[name] = second
        for tracker in self._trackers:
            tracker.trial_finished(
                record.number,
                state=record.state.value,
                reason=record.reason or _setbacks(record),
                metrics=metrics,
                at_s=record.ended_s,
            )

    def replay(self, record: TrialRecord, config: Config, steps_file: Path) -> None:
        """Everything that the ledger and the file of steps know of a trial: each takes what it lacks."""
        self.trial_started(record.number, record, config)
        for tracker in self._trackers:
            tracker.metrics(record.number, lambda: _stored_points(record, steps_file))
        if record.state.is_finished:
            self.trial_finished(record)
        elif record.state is TrialState.PAUSED:
            self.trial_paused(record)


def _sources(record: TrialRecord) -> dict[str, str]:
    """Whose training it took over."""
    found = {"same_as": record.same_as, "forked_from": record.forked_from}
    return {name: str(number) for name, number in found.items() if number is not None}


def _phase_tags(record: TrialRecord, config: Config) -> dict[str, str]:
    """Whether it was the small run, and then under which learning rate, or the real one, and of which."""
    if record.is_proxy:
        return {"phase": "proxy", "trained_lr": f"{config.training.lr:.6g}"}
    return {"phase": "real"} | ({} if record.real_of is None else {"real_of": str(record.real_of)})


def _run_tags(record: TrialRecord) -> dict[str, str]:
    """That a run trains the values of another trial again."""
    if record.replicate_of is None:
        return {}
    return {"replicate_of": str(record.replicate_of), "seed": str(record.seed)}


def _setbacks(record: TrialRecord) -> str | None:
    """What happened to a trial that came to its end all the same."""
    return "; ".join(one["reason"] for one in record.attributes.get("setbacks", [])) or None


def named_parameters(space: Space, config: Config) -> dict[str, Any]:
    """Every setting of a trial that is not searched, by its short name: ``zero_stage``, ``lora.alpha``.

    What follows from the searched values keeps its section in its name
    (``training.global_batch_size``), so that charts offer the searched values first.
    """
    searched = {dimension.name for dimension in space.dimensions}
    following = set(space.following())
    named: dict[str, Any] = {
        "model_path": config.model_path,
        "data_path": ", ".join(source.path for source in config.sources),
    }
    tree = config.model_dump(mode="json")
    for section in _SECTIONS:
        for key, value in tree[section].items():
            nested = value if isinstance(value, dict) else {"": value}
            for inner, item in nested.items():
                name = f"{key}.{inner}" if inner else key
                path = f"{section}.{name}"
                named[path if path in following else name] = item
    return {name: value for name, value in named.items() if name not in searched}


def _stored_points(record: TrialRecord, steps_file: Path) -> list[MetricPoint]:
    points = _step_points(read_steps(steps_file))
    untrained = [] if record.untrained is None else [record.untrained]
    for evaluation in (*untrained, *record.evaluations):
        shown = replace(evaluation, metrics=_with_history(evaluation.metrics))
        points += evaluation_points(shown, trial_started_s=record.started_s or 0.0)
    return points


def _step_points(steps: Iterable[StepMetrics]) -> list[MetricPoint]:
    points: list[MetricPoint] = []
    for step in steps:
        metrics = {"train/loss": step.loss, "train/lr": step.lr}
        if step.grad_norm is not None:
            metrics["train/grad_norm"] = step.grad_norm
        points += training_points(metrics, step=step.step, tokens=step.tokens, time_s=step.time_s)
    return points


def _with_history(metrics: Mapping[str, float]) -> dict[str, float]:
    """Without the metric that stands once for the whole trial."""
    return {name: value for name, value in metrics.items() if name != STARTUP}

"""One rank's side of one trial: a DeepSpeed run that can pause at its evaluations."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from sweeper.data import evaluation_steps
from sweeper.errors import CheckpointError, TrialFailedError
from sweeper.space import PEAK_MEMORY, Config, violation
from sweeper.training.best import BestEvaluation, BestSoFar
from sweeper.training.checkpoint import TrainingPosition, on_all_ranks, restore, restore_fork, run_hash, save
from sweeper.training.divergence import Divergence
from sweeper.training.engine import Probed, Progress, StepMetrics
from sweeper.training.feed import EvaluationFeed, TrainingFeed
from sweeper.training.generate.generation import Generation
from sweeper.training.generate.harness import Harness
from sweeper.training.generate.retained import Retention
from sweeper.training.memory import peak_memory_gib, reset_peak_memory
from sweeper.training.model.adapters import merged
from sweeper.training.model.loading import save_model_folder
from sweeper.training.moved import Moved
from sweeper.training.parallel.executor import Executor
from sweeper.training.parallel.optimizer import schedule_of
from sweeper.training.ranks.probe import measure
from sweeper.training.retention import state_folder
from sweeper.training.shared_steps import history_hash

__all__ = ["Trainer"]

CHECK_EVERY_STEPS, CHECK_EVERY_S = 20, 1.0
"""Losses cross from the device to the host, are checked, and a wish to pause is heard, after so many
steps or so many seconds, whichever comes first."""


class Trainer:
    """Trains one configuration on this rank; every rank of the trial makes the same calls."""

    def __init__(
        self,
        config: Config,
        model: Any,
        executor: Executor,
        feed: TrainingFeed,
        evaluation: EvaluationFeed,
        generation: Generation | None,
        retention: Retention | None = None,
        harness: Harness | None = None,
        *,
        evaluate_untrained: bool,
        started: float,
        pause_wanted: Callable[[], bool],
        on_moved: Callable[[Moved], None],
        leave_at: Collection[int] = (),
        left_states: Path | None = None,
        leads: bool,
    ) -> None:
        """``pause_wanted`` is asked now and then; one rank that wants it pauses all of them, after the same
        step. ``on_moved`` is told now and then how far it is. After the steps ``leave_at`` a state for other
        trials is written into ``left_states``. ``leads``: see ``save``."""
        self.config, self._model, self._executor = config, model, executor
        self._feed, self._evaluation, self._generation = feed, evaluation, generation
        self._retention, self._harness = retention, harness
        self._schedule = schedule_of(config.training, feed.steps)
        self.step = 0
        self.first_step_began: float | None = None
        self._started = started
        self._divergence = Divergence(self._lr, loss_is_scaled=config.deepspeed.precision == "fp16")
        self._pause_wanted = pause_wanted
        self._pausing: bool | None = None
        """Whether a rank wants it; None before the first step."""
        self._check_every, self._step_s, self._checked = 1, 0.0, 0.0
        self._evaluated_step: int | None = None
        self._on_moved, self._interval = on_moved, (0, 0.0)
        self._objective: float | None = None
        self._violation = 0.0
        self._best = BestSoFar(config.objective)
        self._leave_at, self._left_states = frozenset(leave_at), left_states
        self._leads = leads
        self._leaving_s, self._warnings = 0.0, list[str]()
        self._is_one_history = True
        """Whether all steps so far were computed as those to come: with the same split of the batch."""
        self._pauses = evaluation_steps(feed.tokens_after, config.objective.evaluations)
        if evaluate_untrained:
            self._pauses.insert(0, 0)
        self._pending: list[tuple[torch.Tensor, float | torch.Tensor | None, float]] = []
        self._reported: list[StepMetrics] = []
        reset_peak_memory()

    def advance(self) -> Progress:
        """Train to the next evaluation and evaluate, or to a pause that was wanted: at once where all ranks
        heard of it at the last evaluation, or where it was wanted while the trial was prepared.

        Raises TrialDivergedError, and what Generation.measure raises.
        """
        began, first = time.perf_counter(), self.step
        self._checked, self._interval, self._leaving_s = began, (first, began), 0.0
        if self._pausing is None:
            self._pausing = self._is_pause_wanted()
        while self.step < self._pauses[0] and not self._pausing:
            self._optimizer_step()
            if self.step in self._leave_at:
                self._leave()
            if len(self._pending) >= self._check_every:
                self._collect()
        self._collect()
        performance = self._performance(first, time.perf_counter() - began - self._leaving_s)
        paused = self.step < self._pauses[0] or (self._pausing and self.step == first)
        metrics = {} if paused else self._evaluate(performance)
        if not paused:
            self._pauses.pop(0)
            if self.step:
                self._best.take(
                    BestEvaluation(step=self.step, tokens=self._tokens(self.step), metrics=dict(metrics))
                )
        steps, self._reported = tuple(self._reported), []
        warnings, self._warnings = tuple(self._warnings), []
        return Progress(
            step=self.step,
            tokens=self._tokens(self.step),
            seconds=time.time() - self._started,
            metrics=metrics,
            steps=steps,
            paused=paused,
            done=not self._pauses,
            best=self._best.evaluation,
            warnings=warnings,
        )

    def _evaluate(self, performance: Mapping[str, float]) -> dict[str, float]:
        metrics = self._executor.evaluate(self._evaluation)
        self._divergence.check_evaluation(metrics["eval/loss"], self.step)
        if self._retention is not None:
            metrics |= self._retention.measure(self._executor)
        if self._generation is not None:
            metrics |= self._generation.measure(self._model, self._feed.device)
        is_last = len(self._pauses) == 1
        if self._harness is not None and (is_last or self.config.measures_tasks_at_each):
            metrics |= self._harness.measure(self._model)
        metrics |= performance
        self._objective = metrics.get(self.config.objective.metric)
        self._violation = violation(self.config.objective, metrics)
        self._evaluated_step = self.step
        return metrics

    def _optimizer_step(self) -> None:
        self.first_step_began = self.first_step_began or time.time()
        try:
            summed, norm = self._executor.optimizer_step(self.step)
        except Exception as error:
            if "loss scale already at minimum" not in str(error):  # DeepSpeed has no type for it
                raise
            raise self._divergence.error("the gradients overflow in fp16", self.step + 1) from error
        self._pending.append((summed, norm, time.time()))
        self.step += 1

    def _leave(self) -> None:
        """A state for other trials. A disk without room costs it, and no trial."""
        if self._left_states is None or not self._is_one_history:
            return
        self._collect()
        began, target = time.perf_counter(), state_folder(self._left_states, self.step)
        try:
            if not target.exists():
                self.checkpoint(target)
        except CheckpointError as error:
            self._warnings.append(f"a state for other trials {error}")
        self._leaving_s += time.perf_counter() - began

    def _is_pause_wanted(self) -> bool:
        """By any rank."""
        wanted = torch.tensor([float(self._pause_wanted())], device=self._feed.device)
        if dist.get_world_size() > 1:
            dist.all_reduce(wanted)
        return wanted.item() > 0

    def _collect(self) -> None:
        """Bring the losses of the last steps to the host, summed over ranks, and check them."""
        if not self._pending:
            return
        losses = torch.stack([loss for loss, _, _ in self._pending]).double()
        ours = torch.tensor([self._pause_wanted(), self._step_s], dtype=torch.double, device=losses.device)
        told = torch.cat([losses, ours])
        if dist.get_world_size() > 1:
            dist.all_reduce(told)
        *summed, pauses, step_s = told.tolist()
        steps = [
            StepMetrics(
                step=step + 1,
                tokens=self._tokens(step + 1),
                loss=nll / float(self._feed.completion_tokens[step]),
                lr=self._lr(step),
                grad_norm=None if norm is None else float(norm),
                time_s=ended,
            )
            for step, (nll, (_, norm, ended)) in enumerate(
                zip(summed, self._pending, strict=True), start=self.step - len(self._pending)
            )
        ]
        self._pending.clear()
        self._reported += steps
        self._pausing = pauses > 0
        self._pace(step_s / dist.get_world_size(), len(steps))
        self._tell()
        self._divergence.check(steps)

    def _tell(self) -> None:
        first, began = self._interval
        done = self._tokens(self.step)
        per_s = (done - self._tokens(first)) / (time.perf_counter() - began)
        total = self._feed.total_tokens
        self._on_moved(Moved(step=self.step, tokens=done, tokens_per_s=per_s, total_tokens=total))

    def _pace(self, step_s: float, steps: int) -> None:
        """When to look next: by the time of a step that all ranks know, so that all look at once."""
        self._check_every = max(1, min(CHECK_EVERY_STEPS, int(CHECK_EVERY_S / step_s))) if step_s else 1
        now = time.perf_counter()
        self._step_s, self._checked = (now - self._checked) / steps, now

    def _lr(self, step: int) -> float:
        return self.config.training.lr * self._schedule(step)

    def _tokens(self, steps: int) -> int:
        return int(self._feed.tokens_after[steps - 1]) if steps else 0

    def _performance(self, first: int, trained_s: float) -> dict[str, float]:
        steps = self.step - first
        if not steps:
            return {}
        return {
            "perf/tokens_per_s": (self._tokens(self.step) - self._tokens(first)) / trained_s,
            "perf/step_s": trained_s / steps,
            PEAK_MEMORY: peak_memory_gib(),
        }

    def probe(self, *, startup_s: float, idle_gib: float) -> Probed:
        """Measure a few steps instead of training."""
        return measure(self._executor, self._feed, self._evaluation, startup_s=startup_s, idle_gib=idle_gib)

    def checkpoint(self, folder: Path) -> None:
        """Write the whole state into a new folder; every rank takes part."""
        place = TrainingPosition(
            step=self.step,
            first_loss=self._divergence.first_loss,
            recent_losses=tuple(self._divergence.recent),
            elapsed_s=time.time() - self._started,
            objective=self._objective if self.step == self._evaluated_step else None,
            violation=self._violation,
            ranks=dist.get_world_size(),
            run=run_hash(self.config, self._feed.data.content),
            best=self._best.evaluation,
            history=self._history(self.step) if self._is_one_history else None,
        )
        save(self._executor, folder, place, leads=self._leads)

    def restore(self, folder: Path) -> None:
        """Go on from a checkpoint of the same configuration, with its next evaluation; or back to one."""
        place = restore(self._executor, folder, self.config, self._feed.data)
        self._go_on_at(place)
        self._is_one_history = place.history == self._history(place.step)
        self._best.evaluation = place.best
        self._started -= place.elapsed_s
        if place.objective is not None:
            self._pauses = [pause for pause in self._pauses if pause > place.step]

    def fork(self, folder: Path) -> str:
        """Go on from another trial's state, with the evaluation at that step where there is one. Returns why
        that cannot be, and empty where it can; nothing has changed where not."""
        try:
            place = restore_fork(self._executor, folder, self._history)
        except TrialFailedError as error:
            return str(error)
        self._go_on_at(place)
        return ""

    def _go_on_at(self, place: TrainingPosition) -> None:
        self.step, self._divergence.first_loss = place.step, place.first_loss
        self._divergence.recent.extend(place.recent_losses)
        self._pauses = [pause for pause in self._pauses if pause >= place.step]

    def _history(self, step: int) -> str:
        return history_hash(self.config, self._feed.data.content, step=step, total_steps=self._feed.steps)

    def save_model(self, folder: Path, *, merge_into: Any = None) -> None:
        """Every rank takes part; rank 0 writes. ``merge_into`` is an untrained copy that adapters are
        merged into. Raises CheckpointError, on every rank, where it cannot be written."""
        state = self._executor.state_dict()
        on_all_ranks(folder, lambda: None if state is None else self._write_model(folder, state, merge_into))

    def _write_model(self, folder: Path, state: dict[str, torch.Tensor], merge_into: Any) -> None:
        save_model_folder(
            self._model if merge_into is None else merged(merge_into, state),
            folder,
            model_path=self.config.model_path,
            state_dict=state if merge_into is None else None,
            chat_template=self.config.chat_template,
            trust_remote_code=self.config.trust_remote_code,
        )

    def close(self) -> None:
        """Free the model, the optimizer and DeepSpeed's buffers."""
        self._executor.close()

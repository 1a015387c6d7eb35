"""One rank's side of one trial: a DeepSpeed run that can pause at its evaluations."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from sweeper.errors import TrialDivergedError
from sweeper.spec import Config
from sweeper.train.checkpoint import Place, restore, run_hash, save
from sweeper.train.engine import Progress, StepMetrics
from sweeper.train.executor import Executor
from sweeper.train.feed import EvaluationFeed, TrainingFeed, evaluation_steps
from sweeper.train.generation import Generation
from sweeper.train.memory import peak_memory_gib, reset_peak_memory
from sweeper.train.model import merged, save_model_folder
from sweeper.train.optimizer import schedule_of

__all__ = ["Trainer"]

CHECK_EVERY_STEPS = 20
"""Losses cross from the device to the host, and are checked, at least this often."""
DIVERGED_FACTOR, DIVERGED_NATS = 3.0, 3.0
"""A mean loss over both 3x the first step's and 3 nats above it will not come back in time."""


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
        *,
        evaluate_untrained: bool,
        started: float,
    ) -> None:
        self.config, self._model, self._executor = config, model, executor
        self._feed, self._evaluation, self._generation = feed, evaluation, generation
        self._schedule = schedule_of(config.training, feed.steps)
        self.step = 0
        self.first_step_began: float | None = None
        self._started = started
        self._first_loss: float | None = None
        self._objective: float | None = None
        self._run = run_hash(config, feed.data.fingerprint)
        self._pauses = evaluation_steps(feed.tokens_after, config.objective.evaluations)
        if evaluate_untrained:
            self._pauses.insert(0, 0)
        self._pending: list[tuple[torch.Tensor, float | torch.Tensor | None, float]] = []
        self._reported: list[StepMetrics] = []
        reset_peak_memory()

    def advance(self) -> Progress:
        """Train to the next evaluation, evaluate.

        Raises TrialDivergedError, and what Generation.measure raises.
        """
        began, first = time.perf_counter(), self.step
        pause = self._pauses.pop(0)
        while self.step < pause:
            self._optimizer_step()
            if len(self._pending) >= CHECK_EVERY_STEPS:
                self._collect()
        self._collect()
        trained_s = time.perf_counter() - began
        metrics = self._executor.evaluate(self._evaluation) | self._performance(first, trained_s)
        if not math.isfinite(metrics["eval/loss"]):
            raise TrialDivergedError(self._divergence(f"eval/loss {metrics['eval/loss']}", self.step))
        if self._generation is not None:
            metrics |= self._generation.measure(self._model, self._feed.device)
        self._objective = metrics.get(self.config.objective.metric)
        steps, self._reported = tuple(self._reported), []
        return Progress(
            step=self.step,
            tokens=self._tokens(self.step),
            seconds=time.time() - self._started,
            metrics=metrics,
            steps=steps,
            done=not self._pauses,
        )

    def _optimizer_step(self) -> None:
        self.first_step_began = self.first_step_began or time.time()
        summed, norm = self._executor.optimizer_step(self.step)
        self._pending.append((summed, norm, time.time()))
        self.step += 1

    def _collect(self) -> None:
        """Bring the losses of the last steps to the host, summed over ranks, and check them."""
        if not self._pending:
            return
        losses = torch.stack([loss for loss, _, _ in self._pending]).double()
        if dist.get_world_size() > 1:
            dist.all_reduce(losses)
        first = self.step - len(self._pending)
        for offset, (nll, (_, norm, ended)) in enumerate(zip(losses.tolist(), self._pending, strict=True)):
            step = first + offset
            self._reported.append(
                StepMetrics(
                    step=step + 1,
                    tokens=self._tokens(step + 1),
                    loss=nll / float(self._feed.completion_tokens[step]),
                    lr=self._lr(step),
                    grad_norm=None if norm is None else float(norm),
                    time_s=ended,
                )
            )
        self._check(self._reported[-len(self._pending) :])
        self._pending.clear()

    def _check(self, steps: list[StepMetrics]) -> None:
        """Raise TrialDivergedError when a number is lost or the loss is far over its start."""
        if self._first_loss is None:
            self._first_loss = steps[0].loss
        for step in steps:
            if not math.isfinite(step.loss):
                raise TrialDivergedError(self._divergence(f"train/loss {step.loss}", step.step))
            # fp16 loses a step now and then by design: the loss scale halves and the step is skipped.
            norm_lost = step.grad_norm is not None and not math.isfinite(step.grad_norm)
            if norm_lost and self.config.deepspeed.precision != "fp16":
                raise TrialDivergedError(self._divergence(f"train/grad_norm {step.grad_norm}", step.step))
        mean = sum(step.loss for step in steps) / len(steps)
        if mean > max(DIVERGED_FACTOR * self._first_loss, self._first_loss + DIVERGED_NATS):
            found = f"train/loss {mean:.3g}, {self._first_loss:.3g} at the first step"
            raise TrialDivergedError(self._divergence(found, steps[-1].step))

    def _divergence(self, found: str, step: int) -> str:
        return f"diverged at step {step}, lr {self._lr(max(step - 1, 0)):.3g}: {found}"

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
            "perf/peak_memory_gib": peak_memory_gib(),
        }

    def checkpoint(self, folder: Path) -> None:
        """Write the whole state into a new folder; every rank takes part."""
        place = Place(
            step=self.step,
            first_loss=self._first_loss,
            elapsed_s=time.time() - self._started,
            objective=self._objective,
            ranks=dist.get_world_size(),
            run=self._run,
        )
        save(self._executor, folder, place)

    def restore(self, folder: Path) -> None:
        """Go on from a checkpoint of the same configuration, with its next evaluation."""
        place = restore(self._executor, folder, self._run)
        self.step, self._first_loss = place.step, place.first_loss
        self._started -= place.elapsed_s
        self._pauses = [pause for pause in self._pauses if pause > place.step]

    def save_model(self, folder: Path, *, merge_into: Any = None) -> None:
        """Every rank takes part; rank 0 writes. ``merge_into`` is an untrained copy that adapters are
        merged into."""
        state = self._executor.state_dict()
        if dist.get_rank() == 0:
            assert state is not None
            model = self._model
            if merge_into is not None:
                model, state = merged(merge_into, state), None
            save_model_folder(
                model,
                folder,
                model_path=self.config.model_path,
                state_dict=state,
                chat_template=self.config.chat_template,
                trust_remote_code=self.config.trust_remote_code,
            )
        dist.barrier()

    def close(self) -> None:
        """Free the model, the optimizer and DeepSpeed's buffers."""
        self._executor.close()

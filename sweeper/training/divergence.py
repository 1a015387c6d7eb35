"""When the numbers of a run are lost for good."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence

from sweeper.errors import TrialDivergedError
from sweeper.training.engine import StepMetrics

__all__ = ["WINDOW_STEPS", "Divergence"]

WINDOW_STEPS = 20
"""A loss far over its start is one that stays there for so many steps, or until an evaluation."""
_FACTOR, _NATS = 3.0, 3.0
"""A mean loss over both 3x the first step's and 3 nats above it will not come back in time."""


class Divergence:
    """Judges each step by itself and by those before it, never by when it was looked at."""

    def __init__(self, lr_at: Callable[[int], float], *, loss_is_scaled: bool) -> None:
        """``loss_is_scaled`` as in fp16, which loses a step now and then by design: the scale halves and
        the step is skipped."""
        self._lr_at, self._loss_is_scaled = lr_at, loss_is_scaled
        self.first_loss: float | None = None
        self.recent: deque[float] = deque(maxlen=WINDOW_STEPS)

    def check(self, steps: Sequence[StepMetrics]) -> None:
        """Take further steps in. Raises TrialDivergedError."""
        for step in steps:
            self.first_loss = step.loss if self.first_loss is None else self.first_loss
            self.recent.append(step.loss)
            if not math.isfinite(step.loss):
                raise self.error(f"train/loss {step.loss}", step.step)
            norm_lost = step.grad_norm is not None and not math.isfinite(step.grad_norm)
            if norm_lost and not self._loss_is_scaled:
                raise self.error(f"train/grad_norm {step.grad_norm}", step.step)
            if len(self.recent) == WINDOW_STEPS:
                self._check_mean(step.step)

    def check_evaluation(self, loss: float, step: int) -> None:
        """Raises TrialDivergedError for a held-out loss that is no number, or training losses far off."""
        if not math.isfinite(loss):
            raise self.error(f"eval/loss {loss}", step)
        if self.recent:
            self._check_mean(step)

    def error(self, found: str, step: int) -> TrialDivergedError:
        return TrialDivergedError(f"diverged at step {step}, lr {self._lr_at(max(step - 1, 0)):.3g}: {found}")

    def _check_mean(self, step: int) -> None:
        assert self.first_loss is not None
        mean = sum(self.recent) / len(self.recent)
        if mean > max(_FACTOR * self.first_loss, self.first_loss + _NATS):
            raise self.error(f"train/loss {mean:.3g}, {self.first_loss:.3g} at the first step", step)

"""Made-up sweeps for the tests of this room."""

from __future__ import annotations

from typing import Any

from sweeper.history import Features, PastTrial, SweepFacts, SweepOfHistory

LLAMA = Features(model="llama-1b", model_type="llama", parameters=10**9, hidden_size=2048, lora=False)


def past_trial(number: int, loss: float | None, **training: Any) -> PastTrial:
    """Two evaluations; ``loss`` is the last one's."""
    first = 2.0 if loss is None else loss + 0.5
    return PastTrial(
        number=number,
        state="FAIL" if loss is None else "COMPLETE",
        config={"training": {"lr": 1e-4, "scheduler": "cosine", "epochs": 2.0, **training}},
        evaluations=((500.0, first), (1000.0, loss)),
        total_tokens=1000.0,
    )


def past_sweep(
    name: str, trials: list[PastTrial], features: Features = LLAMA, **facts: Any
) -> SweepOfHistory:
    told = {"metric": "eval/loss", "mode": "min", "began_s": 1.0} | facts
    return SweepOfHistory(
        facts=SweepFacts(id=f"{name}-id", name=name, features=features, **told), trials=tuple(trials)
    )

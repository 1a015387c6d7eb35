"""Sweeps made by hand for reports and advice, as records or written through a real ledger."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recommend_helpers import make_space

from sweeper.recommend.report import Material, ShownExample
from sweeper.search import Evaluation, Ledger, TrialRecord, TrialState
from sweeper.space import PEAK_MEMORY, Space, SweepFolder

TEXT = """\
name: demo
model_path: models/tiny
data_path: data.jsonl
training:
  lr: {log_uniform: [1.0e-5, 1.0e-2]}
  scheduler: [constant, linear, cosine]
  epochs: [1, 2, 3]
  gradient_accumulation_steps: [1, 2, 4]
search: {trials: 24, history: false}
"""
START_S = 1_700_000_000.0
Loss = Callable[[dict[str, Any]], float]


def space_of(folder: Path, text: str = TEXT) -> Space:
    return make_space(folder, text)


def bowl(values: dict[str, Any]) -> float:
    """Best at lr 1e-3, cosine and three epochs; accumulation changes nothing."""
    off = math.log10(values["lr"] / 1e-3)
    word = {"cosine": 0.0, "linear": 0.05, "constant": 0.12}[values["scheduler"]]
    return 1.0 + 0.3 * off * off + word + 0.05 * (3 - values["epochs"])


def values_of(space: Space, count: int, seed: int = 0) -> list[dict[str, Any]]:
    """The default first, then values drawn at random."""
    rng = random.Random(seed)
    drawn = [
        {
            "lr": 10 ** rng.uniform(-5, -2),
            "scheduler": rng.choice(["constant", "linear", "cosine"]),
            "epochs": rng.choice([1, 2, 3]),
            "gradient_accumulation_steps": rng.choice([1, 2, 4]),
        }
        for _ in range(count - 1)
    ]
    return [space.default_values(), *drawn]


def record(
    number: int,
    values: dict[str, Any],
    final: float,
    state: TrialState = TrialState.COMPLETE,
    *,
    evaluations: int = 5,
    start_s: float = START_S,
    curve: Callable[[float], float] | None = None,
    **more: Any,
) -> TrialRecord:
    """A trial whose curve falls from 3 to ``final``; ``curve`` maps progress (0, 1] to the loss instead."""
    total = 1000 * int(values.get("epochs", 1))
    fall = curve or (lambda at: final + (3.0 - final) * (1 - at) ** 2)
    made = []
    for index in range(1, evaluations + 1):
        at = index / evaluations
        seconds = 60.0 * at * total / 1000
        metrics = {"eval/loss": fall(at), PEAK_MEMORY: 1.0 + 0.01 * number}
        tokens = int(total * at)
        made.append(
            Evaluation(tokens=tokens, step=index, seconds=seconds, metrics=metrics, time_s=start_s + seconds)
        )
    attributes = {"total_tokens": total, "predicted_memory_gib": 1.02, "idle_memory_gib": 0.5}
    return TrialRecord(
        number=number,
        state=state,
        values=values,
        value=made[-1].metrics["eval/loss"] if made else None,
        decisive=made[-1] if made else None,
        evaluations=tuple(made),
        seconds=made[-1].seconds if made else 1.0,
        started_s=start_s,
        ended_s=start_s + (made[-1].seconds if made else 1.0),
        is_default=number == 0,
        attributes={**attributes, **more.pop("attributes", {})},
        **more,
    )


def sweep_of(
    space: Space, count: int, loss: Loss = bowl, *, noise: float = 0.0, seed: int = 0, evaluations: int = 5
) -> list[TrialRecord]:
    """``count`` complete trials, two side by side."""
    rng = random.Random(seed + 1)
    return [
        record(
            number,
            values,
            loss(values) + noise * rng.gauss(0, 1),
            evaluations=evaluations,
            start_s=START_S + 130.0 * (number // 2),
        )
        for number, values in enumerate(values_of(space, count, seed))
    ]


def mixed_sweep(space: Space, count: int = 24) -> list[TrialRecord]:
    """With trials that failed, were paused and were stopped among them; texts hold what HTML must not."""
    trials = sweep_of(space, count, noise=0.01)
    hostile = "diverged at step 3 </script><img src=x onerror=alert(1)> & \u2028 <b>"
    for number, state, reason in (
        (3, TrialState.FAIL, hostile),
        (7, TrialState.FAIL, hostile),
        (5, TrialState.PAUSED, "its chance to beat the best is 4.9%, below 25.0%"),
        (9, TrialState.PRUNED, "the time budget of 1h is used up"),
    ):
        old = trials[number]
        trials[number] = record(
            number,
            dict(old.values),
            2.0,
            state,
            evaluations=0 if number == 3 else 2,
            start_s=old.started_s or START_S,
            reason=reason,
            attributes={"total_tokens": 6000},
        )
    return trials


def material_of(space: Space, trials: list[TrialRecord], state: str = "finished", **more: Any) -> Material:
    examples = [
        ShownExample(
            parts=(("Say <hi> & go.\n", False), ("</pre><script>alert(1)</script>", True)),
            tokens=9,
            loss_tokens=4,
        )
    ] * 3
    lengths = [20 + (37 * index) % 90 for index in range(400)]
    given = {
        "spent_s": 3600.0,
        "untrained": 3.0,
        "lengths": lengths,
        "data_lines": ["400 rows trained on, 40 held out"],
        "examples": examples,
        **more,
    }
    return Material(space=space, trials=trials, root=Path("sweeps/demo"), state=state, **given)


def written(folder: SweepFolder, space: Space, trials: list[TrialRecord], state: str = "finished") -> Ledger:
    """The same trials through a real ledger, in a folder that commands can open."""
    from sweeper.sweep.stored import store_space

    folder.root.mkdir(parents=True, exist_ok=True)
    store_space(space, folder)
    ledger = Ledger.create(folder.study_url, space)
    for one in trials:
        ledger._enqueue(dict(one.values), is_default=one.is_default)
        ledger._start_next()
        for evaluation in one.evaluations:
            ledger.report(one.number, evaluation)
        ledger.note(one.number, **dict(one.attributes))
        if one.state.is_finished:
            ledger.finish(one.number, one.state, one.reason)
        elif one.state is TrialState.PAUSED:
            ledger.pause(one.number, 0.05, one.reason or "")
    ledger.note_sweep(state=state, spent_s=3600.0, id="x", started_s=START_S)
    return ledger

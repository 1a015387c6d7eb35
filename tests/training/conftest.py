"""A warm rank in this process, and a way to run trials in it."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sweeper.data import prepare
from sweeper.space import Config, Evaluation
from sweeper.training import Job, Prepared, Progress

if TYPE_CHECKING:
    from sweeper.training.ranks.group import WorkerGroup


@dataclass(frozen=True)
class Run:
    """A trial from its start to its end."""

    prepared: Prepared
    evaluations: list[Progress]

    @property
    def losses(self) -> list[float]:
        """Every loss that was reported: of each step, and of each evaluation."""
        steps = [step.loss for progress in self.evaluations for step in progress.steps]
        return steps + [progress.metrics["eval/loss"] for progress in self.evaluations]

    @property
    def final(self) -> float:
        return self.evaluations[-1].metrics["eval/loss"]


def run_to_end(engine, job: Job) -> Run:
    prepared, evaluations = engine.prepare(job), []
    while not evaluations or not evaluations[-1].done:
        evaluations.append(engine.advance())
    return Run(prepared, evaluations)


@pytest.fixture(scope="session")
def simple_rows(quick_config, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Config]:
    """Makes a configuration on two kinds of question that differ in a word which the answer ignores.

    Prompts and answers are of two lengths each; 24 rows are held out.
    """
    folder = tmp_path_factory.mktemp("simple")
    places = "here there home school market garden kitchen field river lake forest street".split()
    places += "house town village shop road bridge table window".split()
    kinds = {"Say a colour, {}": "blue", "At the {}: who has the most apples?": "It is Anna, of course."}
    rows = [
        json.dumps({"prompt": asked.format(place), "completion": said})
        for place in places
        for asked, said in kinds.items()
    ]
    (folder / "train.jsonl").write_text("\n".join(rows[:16] * 4))
    (folder / "eval.jsonl").write_text("\n".join(rows[16:]))
    paths = {"data_path": str(folder / "train.jsonl"), "eval_data": str(folder / "eval.jsonl")}

    def make(evaluation: Evaluation, **changes: object) -> Config:
        config = quick_config(**{"lr": 3e-3, "scheduler": "constant", "epochs": 6, **changes})
        return config.model_copy(update={**paths, "evaluation": evaluation})

    return make


@pytest.fixture
def own_modules(tmp_path, monkeypatch) -> Path:
    """The working directory, with modules of the user's own; what they leave in this process is undone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture(scope="session")
def job_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Job]:
    cache = tmp_path_factory.mktemp("cache")

    def make(config: Config, *, evaluate_untrained: bool = False) -> Job:
        return Job(
            config=config,
            cache_dir=cache,
            data_dir=prepare(config, cache).folder,
            log_file=cache / "log.txt",
            evaluate_untrained=evaluate_untrained,
        )

    return make


@pytest.fixture(scope="session")
def rank(tmp_path_factory: pytest.TempPathFactory):
    """One warm rank: the process of the tests itself, without the redirection of its output."""
    from sweeper.training.ranks import worker

    patch = pytest.MonkeyPatch()
    patch.setattr(worker, "LogRedirect", lambda _: None)
    rank = worker.RankWorker(0, 1, 1, "cpu")
    rank.join("127.0.0.1", rank.listen("127.0.0.1"))
    gc.freeze()  # DeepSpeed has come, as in tests/conftest.py
    yield rank
    rank.stop()
    patch.undo()


@pytest.fixture(scope="session")
def run(rank, job_of) -> Callable[..., Run]:
    """Runs a configuration in the warm rank, from its start to its end."""

    def go(config: Config, **options: bool) -> Run:
        result = run_to_end(rank, job_of(config, **options))
        rank.stop()
        return result

    return go


@pytest.fixture
def run_in() -> Callable[..., Run]:
    return run_to_end


@pytest.fixture(scope="session")
def group_of(ray_here: None) -> Iterator[Callable[[Config], WorkerGroup]]:
    """Ranks in processes of their own: the warm ones of the test before where they are as many."""
    from sweeper.training.ranks.group import WorkerGroup

    groups: dict[int, WorkerGroup] = {}

    def group(config: Config) -> WorkerGroup:
        if config.parallel.ranks not in groups:
            while groups:
                groups.popitem()[1].shut_down()
            groups[config.parallel.ranks] = WorkerGroup(config, None)
        return groups[config.parallel.ranks]

    yield group
    for one in groups.values():
        one.shut_down()

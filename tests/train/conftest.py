"""A warm rank in this process, and a way to run trials in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from sweeper.data import prepare
from sweeper.spec import Config
from sweeper.train import Job, Prepared, Progress


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
    from sweeper.train import worker

    patch = pytest.MonkeyPatch()
    patch.setattr(worker, "_append_output_to", lambda _: None)
    rank = worker.RankWorker(0, 1, 1, "cpu")
    rank.join("127.0.0.1", worker.free_port())
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

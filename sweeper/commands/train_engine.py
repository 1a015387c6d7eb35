"""``sweeper train`` where another trainer does it: its command once, with nothing open."""

from __future__ import annotations

from sweeper.engines import CommandEngine, reap_commands
from sweeper.errors import TrialDivergedError, TrialFailedError
from sweeper.screen.interrupts import Interrupts
from sweeper.screen.screen import Screen
from sweeper.space import Config, SweepFolder
from sweeper.sweep.recovery import recover
from sweeper.training import Job, Progress

__all__ = ["train_with_engine"]


def train_with_engine(
    config: Config, scratch: SweepFolder, screen: Screen, interrupts: Interrupts
) -> tuple[CommandEngine, list[Progress]]:
    """Run the command to its end, again where its processes are lost or out of memory.

    Returns the engine, which can hand over the model, and all evaluations, the last of which is the end's.
    Raises KeyboardInterrupt after a wish to stop, and what ends a trial.
    """
    section = config.engine
    assert section is not None
    reap_commands(scratch.root)
    job = Job(
        config=config,
        cache_dir=scratch.cache_dir,
        data_dir=scratch.cache_dir,
        log_file=(scratch.logs_dir / "train.log").absolute(),
        checkpoints=(scratch.root / "checkpoints").absolute(),
        progress_file=(scratch.logs_dir / "progress.json").absolute(),
        stop_file=scratch.stop_file.absolute(),
    )
    interrupts.ask_first(scratch.stop_file.touch)
    while True:
        engine = CommandEngine(section, pause_wanted=job.pause_is_wanted)
        try:
            return engine, _run(engine, job, screen)
        except TrialDivergedError:
            raise
        except TrialFailedError as error:
            job, setback = recover(job, error)
            screen.say(setback.reason, warning=True)
        finally:
            engine.stop()


def _run(engine: CommandEngine, job: Job, screen: Screen) -> list[Progress]:
    prepared, evaluations = engine.prepare(job), list[Progress]()
    for note in prepared.model_notes:
        screen.say(note)
    while True:
        progress = engine.advance()
        if progress.paused:
            raise KeyboardInterrupt
        if progress.done:
            return evaluations
        evaluations.append(progress)
        total = f"/{prepared.total_steps}" if prepared.total_steps else ""
        screen.say(f"step {progress.step}{total}: {_told(progress, job.config.objective.metric)}")


def _told(progress: Progress, metric: str) -> str:
    shown = dict.fromkeys(("eval/loss", metric))
    return ", ".join(f"{name} {progress.metrics[name]:.4f}" for name in shown if name in progress.metrics)

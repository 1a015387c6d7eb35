"""``sweeper train``: one configuration, in full, to a model folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from sweeper.data import gather_facts, prepared_folder
from sweeper.drive.cluster import ray_for
from sweeper.drive.quiet import quiet
from sweeper.errors import SweepFolderError, SweepInterruptedError, UserError
from sweeper.spec import (
    TRUSTED,
    Config,
    SweepFolder,
    load_space,
    require_closed,
    require_hardware,
    require_metrics,
)
from sweeper.train import Engine, Job, Keeper, Progress, discard, newest_checkpoint

__all__ = ["TrainResult", "train_config"]


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A trained model."""

    folder: Path
    """``AutoModelForCausalLM.from_pretrained`` loads it."""
    metrics: dict[str, float]
    """Of the last evaluation."""
    untrained: dict[str, float] | None
    """Of the evaluation before the first step; None where the run went on from a state."""
    objective: str
    """The metric that the sweep compared by."""
    promised: float | None
    """The objective that the best-config's sweep reached with this configuration."""


def train_config(
    config_file: Path,
    *,
    overrides: Sequence[str] = (),
    output_dir: Path | None = None,
    merge_adapter: bool = False,
) -> TrainResult:
    """Train a closed configuration and save the model to ``output_dir`` (default: ``models/<name>``).

    ``merge_adapter`` saves a plain model with the LoRA adapters merged into it.

    Raises UserError when something is open, there is no adapter to merge, or the folder is in the way.
    """
    space = load_space(config_file, overrides=overrides, gather=gather_facts)
    require_closed(space)
    require_hardware(space)
    require_metrics(space)
    config = space.close({})
    if merge_adapter and not config.training.lora:
        raise UserError.of(
            where="--merge-adapter",
            value="",
            rule=f"{config_file} trains the whole model, so there is no adapter to merge",
            remedy="leave the option out, or give training.lora",
        )
    target = (output_dir or Path("models") / config.name).absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise SweepFolderError.of(
            where=str(output_dir or target),
            value="",
            rule="the output folder is in the way",
            remedy="give a new folder with --output-dir",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = SweepFolder(target.with_name(f"{target.name}-train"))
    with quiet(scratch.logs_dir / "driver.log") as person, ray_for(config, places=1):
        from sweeper.train.group import WorkerGroup

        console = Console(file=person, highlight=False)
        if config.trust_remote_code:
            console.print(TRUSTED, soft_wrap=True)
        group = WorkerGroup(config, None)
        try:
            evaluations = _train(config, group, scratch, console)
            group.save_model(target, merge_adapter)
            if not config.checkpoints.keep_finished:
                discard(scratch.root / "checkpoints", inside=scratch.root)
        except KeyboardInterrupt as interrupt:
            told = "interrupted; the same command goes on from the last state"
            raise SweepInterruptedError(told) from interrupt
        finally:
            group.shut_down()
    value = (config.provenance or {}).get("value")
    first = evaluations[0]
    return TrainResult(
        folder=target,
        metrics=evaluations[-1].metrics,
        untrained=first.metrics if first.tokens == 0 else None,
        objective=config.objective.metric,
        promised=value,
    )


def _train(config: Config, engine: Engine, scratch: SweepFolder, console: Console) -> list[Progress]:
    """Every evaluation; an interrupted run goes on from its last state."""
    states = scratch.root / "checkpoints"
    job = Job(
        config=config,
        cache_dir=scratch.cache_dir,
        data_dir=prepared_folder(config, scratch.cache_dir),
        log_file=scratch.logs_dir / "train.log",
        evaluate_untrained=True,
        resume_from=newest_checkpoint(states),
        checkpoints=states,
    )
    keeper = Keeper(job)
    columns = (TextColumn("training"), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    evaluations = []
    names = dict.fromkeys(("eval/loss", config.objective.metric))
    with ProgressBar(*columns, console=console, disable=not console.is_terminal) as bar:
        prepared = engine.prepare(job)
        for note in prepared.data_notes:
            console.print(f"data: {note}", soft_wrap=True)
        if job.resume_from is not None:
            console.print(f"going on from {job.resume_from.name}", soft_wrap=True)
        task = bar.add_task("", total=prepared.total_tokens)
        done = False
        while not done:
            progress = engine.advance()
            done = progress.done
            evaluations.append(progress)
            shown = ", ".join(f"{name} {progress.metrics[name]:.4f}" for name in names)
            if progress.tokens and not done:
                keeper.keep_state(engine, progress)
            bar.update(task, completed=progress.tokens, description=shown)
            if not console.is_terminal:
                console.print(f"step {progress.step}/{prepared.total_steps}: {shown}", soft_wrap=True)
    return evaluations

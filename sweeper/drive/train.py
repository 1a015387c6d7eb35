"""``sweeper train``: one configuration, in full, to a model folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sweeper.data import gather_facts, prepared_folder
from sweeper.drive.cluster import ray_for
from sweeper.drive.quiet import quiet
from sweeper.errors import SweepFolderError
from sweeper.spec import Config, SweepFolder, load_space, require_closed, require_hardware, require_metrics
from sweeper.train import Engine, Job

__all__ = ["TrainResult", "train_config"]


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A trained model."""

    folder: Path
    """``AutoModelForCausalLM.from_pretrained`` loads it."""
    metrics: dict[str, float]
    """Of the last evaluation."""
    untrained: dict[str, float]
    """Of the evaluation before the first step."""
    objective: str
    """The metric that the sweep compared by."""
    promised: float | None
    """The objective that the best-config's sweep reached with this configuration."""


def train_config(
    config_file: Path, *, overrides: Sequence[str] = (), output_dir: Path | None = None
) -> TrainResult:
    """Train a closed configuration and save the model to ``output_dir`` (default: ``models/<name>``).

    Raises UserError when something is open, or the folder is in the way.
    """
    space = load_space(config_file, overrides=overrides, gather=gather_facts)
    require_closed(space)
    require_hardware(space)
    require_metrics(space)
    config = space.close({})
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

        group = WorkerGroup(config, None)
        try:
            evaluations = _train(config, group, scratch, Console(file=person, highlight=False))
            group.save_model(target)
        finally:
            group.shut_down()
    value = (config.provenance or {}).get("value")
    return TrainResult(
        folder=target,
        metrics=evaluations[-1],
        untrained=evaluations[0],
        objective=config.objective.metric,
        promised=value,
    )


def _train(config: Config, engine: Engine, scratch: SweepFolder, console: Console) -> list[dict[str, float]]:
    """The metrics of every evaluation, the untrained model's first."""
    job = Job(
        config=config,
        cache_dir=scratch.cache_dir,
        data_dir=prepared_folder(config, scratch.cache_dir),
        log_file=scratch.logs_dir / "train.log",
        evaluate_untrained=True,
    )
    columns = (TextColumn("training"), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    evaluations = []
    names = dict.fromkeys(("eval/loss", config.objective.metric))
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        prepared = engine.prepare(job)
        task = bar.add_task("", total=prepared.total_tokens)
        done = False
        while not done:
            progress = engine.advance()
            done = progress.done
            evaluations.append(progress.metrics)
            shown = ", ".join(f"{name} {progress.metrics[name]:.4f}" for name in names)
            bar.update(task, completed=progress.tokens, description=shown)
            if not console.is_terminal:
                console.print(f"step {progress.step}/{prepared.total_steps}: {shown}", soft_wrap=True)
    return evaluations

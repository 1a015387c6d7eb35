"""The names of everything in a sweep's folder; no other module spells them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["SweepFolder"]


@dataclass(frozen=True)
class _Entry:
    """A path of fixed name beneath the folder's root."""

    name: str

    def __get__(self, folder: SweepFolder, owner: type[SweepFolder]) -> Path:
        return folder.root / self.name


@dataclass(frozen=True)
class SweepFolder:
    """The paths of one sweep's folder; nothing is created or read here."""

    root: Path

    space_file = _Entry("space.yaml")
    """What was asked, with defaults resolved."""
    format_file = _Entry("format.json")
    """Which version of this package the folder is one of."""
    secrets_file = _Entry("secrets.json")
    """The addresses with passwords that resuming needs; there only where some have one. Mode 0600."""
    study_file = _Entry("study.db")
    """The ledger's database, where it is not on a server."""
    best_config = _Entry("best-config.yaml")
    """The answer: a space file with nothing open."""
    results_csv = _Entry("results.csv")
    """All trials with their values and objectives, for programs."""
    results_markdown = _Entry("results.md")
    """The final table, for people."""
    report = _Entry("report.html")
    facts_file = _Entry("facts.json")
    """What was known of data, model and machine when the sweep began."""
    history_file = _Entry("history.json")
    """What earlier sweeps had found when the sweep began, which it goes by."""
    lr_range_file = _Entry("lr-range.json")
    """What the LR range test measured and found, as JSON."""
    lr_range_picture = _Entry("lr-range.png")
    """The same, drawn."""
    cache_dir = _Entry("cache")
    """Tokenized data, shared by all trials."""
    lock_file = _Entry(".lock")
    """Held by the driver that is at work."""
    driver_file = _Entry(".driver")
    """Which driver was at work last, where nodes share no files (``resources.files``)."""
    stop_file = _Entry(".stop")
    """While it is there, running trials write their states and pause."""
    logs_dir = _Entry("logs")
    """Logs of the driver and of third parties."""
    driver_log = _Entry("logs/driver.log")
    """What the command said and what libraries printed, one driver after the other."""
    processes_dir = _Entry("logs/processes")
    """The ranks that are or were at work, by host and process."""
    trials_dir = _Entry("trials")

    @property
    def study_url(self) -> str:
        """The ledger's database as SQLAlchemy names it, where ``search.storage`` names no other."""
        return f"sqlite:///{self.study_file.absolute()}"

    def board_dir(self, name: str) -> Path:
        """What is written for ``tensorboard`` or ``wandb``."""
        return self.root / name

    def trial_dir(self, number: int) -> Path:
        """Everything of one trial."""
        return self.trials_dir / str(number)

    def trial_config(self, number: int) -> Path:
        """The closed configuration that the trial trains."""
        return self.trial_dir(number) / "config.yaml"

    def trial_log(self, number: int) -> Path:
        """What the trial's ranks and their libraries say."""
        return self.trial_dir(number) / "log.txt"

    def trial_steps(self, number: int) -> Path:
        """The metrics of each optimizer step, one JSON object a line."""
        return self.trial_dir(number) / "steps.jsonl"

    def trial_progress(self, number: int) -> Path:
        """How far the trial is, while it trains."""
        return self.trial_dir(number) / "progress.json"

    def trial_pause(self, number: int) -> Path:
        """While it is there, the trial is to write its state and to give up its place."""
        return self.trial_dir(number) / ".pause"

    def trial_ds_config(self, number: int) -> Path:
        """The DeepSpeed configuration that was really used."""
        return self.trial_dir(number) / "ds_config.json"

    def trial_checkpoints(self, number: int) -> Path:
        """The states from which an interrupted trial goes on."""
        return self.trial_dir(number) / "checkpoints"

    def trial_left(self, number: int) -> Path:
        """The states that the trial left for others which are the same training up to there."""
        return self.trial_dir(number) / "left"

    def trial_model(self, number: int) -> Path:
        """The trained model, where it was kept."""
        return self.trial_dir(number) / "model"

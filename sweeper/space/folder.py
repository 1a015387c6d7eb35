"""The names of everything in a sweep's folder; no other module spells them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["SweepFolder"]


@dataclass(frozen=True)
class SweepFolder:
    """The paths of one sweep's folder; nothing is created or read here."""

    root: Path

    @property
    def space_file(self) -> Path:
        """What was asked, with defaults resolved."""
        return self.root / "space.yaml"

    @property
    def format_file(self) -> Path:
        """Which version of this package the folder is one of."""
        return self.root / "format.json"

    @property
    def secrets_file(self) -> Path:
        """The addresses with passwords that resuming needs; there only where some have one. Mode 0600."""
        return self.root / "secrets.json"

    @property
    def study_file(self) -> Path:
        """The ledger's database, where it is not on a server."""
        return self.root / "study.db"

    @property
    def study_url(self) -> str:
        """The ledger's database as SQLAlchemy names it, where ``search.storage`` names no other."""
        return f"sqlite:///{self.study_file.absolute()}"

    @property
    def trials_dir(self) -> Path:
        return self.root / "trials"

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

    def trial_model(self, number: int) -> Path:
        """The trained model, where it was kept."""
        return self.trial_dir(number) / "model"

    @property
    def best_config(self) -> Path:
        """The answer: a space file with nothing open."""
        return self.root / "best-config.yaml"

    @property
    def results_csv(self) -> Path:
        """All trials with their values and objectives, for programs."""
        return self.root / "results.csv"

    @property
    def results_markdown(self) -> Path:
        """The final table, for people."""
        return self.root / "results.md"

    @property
    def facts_file(self) -> Path:
        """What was known of data, model and machine when the sweep began."""
        return self.root / "facts.json"

    @property
    def lr_range_file(self) -> Path:
        """What the LR range test measured and found, as JSON."""
        return self.root / "lr-range.json"

    @property
    def lr_range_picture(self) -> Path:
        """The same, drawn."""
        return self.root / "lr-range.png"

    def board_dir(self, name: str) -> Path:
        """What is written for ``tensorboard`` or ``wandb``."""
        return self.root / name

    @property
    def report(self) -> Path:
        return self.root / "report.html"

    @property
    def cache_dir(self) -> Path:
        """Tokenized data, shared by all trials."""
        return self.root / "cache"

    @property
    def lock_file(self) -> Path:
        """Held by the driver that is at work."""
        return self.root / ".lock"

    @property
    def stop_file(self) -> Path:
        """While it is there, running trials write their states and pause."""
        return self.root / ".stop"

    @property
    def processes_dir(self) -> Path:
        """The ranks that are or were at work, by host and process."""
        return self.logs_dir / "processes"

    @property
    def logs_dir(self) -> Path:
        """Logs of the driver and of third parties."""
        return self.root / "logs"

    @property
    def driver_log(self) -> Path:
        """What the command said and what libraries printed, one driver after the other."""
        return self.logs_dir / "driver.log"

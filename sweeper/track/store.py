"""Opens MLflow's store: creates the database whole or not at all, and the experiment where it is absent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sweeper.track.run_writer import Recorder
from sweeper.track.uri import Redactor, artifact_root, sqlite_file

__all__ = ["open_store"]


_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""What kind of work this is, which the UI otherwise guesses and asks about."""
_DATABASE_SERVERS = ("postgresql", "mysql", "mssql")


def open_store(uri: str, experiment: str, redact: Redactor) -> Recorder:
    """A recorder that writes to an experiment of the store at ``uri``. Imports mlflow: seconds."""
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        _create_database(file)
    if uri.startswith(_DATABASE_SERVERS):
        _knock(uri)
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    return Recorder(client=client, experiment_id=_experiment_id(client, uri, experiment), redact=redact)


def _knock(uri: str) -> None:
    """Fails at once where the database server is away: MLflow would try for minutes and not come back."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)
    engine.connect().close()


def _create_database(file: Path) -> None:
    """Runs MLflow's migrations on a file beside and moves it into place.

    A process that is killed meanwhile, or two sweeps that start at once, would otherwise leave a
    half-migrated database, which MLflow never mends.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.{os.getpid()}")
    new.unlink(missing_ok=True)
    try:
        root = artifact_root(f"sqlite:///{file}")
        store = SqlAlchemyStore(f"sqlite:///{new}", str(root))
        store.engine.dispose()
        _publish(new, file)
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            new.with_name(new.name + suffix).unlink(missing_ok=True)


def _publish(new: Path, file: Path) -> None:
    """A hard link fails where the name is taken already, so that another sweep's store is never replaced."""
    try:
        file.hardlink_to(new)
    except FileExistsError:
        return
    except OSError:  # a file system without hard links
        if not file.exists():
            new.replace(file)


def _experiment_id(client: Any, uri: str, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        root = artifact_root(uri)
        location = None if root is None else (root / _folder_name(name)).as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=location, tags=_EXPERIMENT_TAGS))
        except Exception:
            # Another sweep may have made it between the two calls.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _folder_name(experiment: str) -> str:
    """An experiment's name may hold slashes and blanks; its folder may not."""
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in experiment).lstrip(".") or "_"

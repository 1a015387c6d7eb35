"""Where the store is, and that its password is never spoken."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.errors import UserError
from sweeper.space import Settings, Tracking
from sweeper.track import masked, tracking_uri
from sweeper.track.store import _folder_name
from sweeper.track.uri import Redactor, artifact_root


def settings(uri: str | None = None) -> Settings:
    return Settings(name="demo", model_path="m", data_path="d", tracking=Tracking(mlflow_uri=uri))


def test_without_a_word_the_store_is_one_file_beside_all_sweeps(tmp_path: Path) -> None:
    assert tracking_uri(settings(), tmp_path / "sweeps/a") == f"sqlite:///{tmp_path}/sweeps/mlflow.db"
    assert tracking_uri(settings(), Path("sweeps/a")) == f"sqlite:///{Path.cwd()}/sweeps/mlflow.db"


def test_the_file_wins_over_the_environment_and_that_over_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert tracking_uri(settings(), tmp_path) == "http://tracking:5000"
    assert tracking_uri(settings("https://other"), tmp_path) == "https://other"


def test_an_empty_environment_variable_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert tracking_uri(settings(), tmp_path / "a").startswith("sqlite:///")


def test_relative_sqlite_paths_come_out_absolute(tmp_path: Path) -> None:
    assert tracking_uri(settings("sqlite:///x/m.db"), tmp_path) == f"sqlite:///{Path.cwd()}/x/m.db"
    given = "sqlite+pysqlite:////data/m.db?timeout=9"
    assert tracking_uri(settings(given), tmp_path) == given


@pytest.mark.parametrize("uri", ["file:///x/mlruns", "mlruns", "/x/mlruns"])
def test_a_plain_folder_is_refused_with_a_remedy(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sqlite:///path") as caught:
        tracking_uri(settings(uri), tmp_path)
    assert caught.value.problems[0].where == "tracking.mlflow_uri"


def test_artifacts_stand_beside_a_sqlite_store_only(tmp_path: Path) -> None:
    assert artifact_root(f"sqlite:///{tmp_path}/mlflow.db") == tmp_path / "mlartifacts"
    assert artifact_root("http://tracking:5000") is None
    assert artifact_root("sqlite:///:memory:") is None


@pytest.mark.parametrize("name", ["../../x", "..", "/etc/x", "a/../../b", "."])
def test_no_experiments_name_leads_out_of_the_folder_of_artifacts(name: str, tmp_path: Path) -> None:
    inside = (tmp_path / _folder_name(name)).resolve()
    assert inside.parent == tmp_path.resolve()


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("postgresql://me:pa@ss:w/rd@db:5432/x", "postgresql://me:***@db:5432/x"),
        ("mysql+pymysql://me:secret@db/x", "mysql+pymysql://me:***@db/x"),
        ("https://me:secret@host/mlflow", "https://me:***@host/mlflow"),
        ("https://token123@host/mlflow", "https://***@host/mlflow"),
        ("postgresql://db/x?user=me&password=secret&a=b", "postgresql://db/x?user=me&password=***&a=b"),
        ("postgresql://me@db/x", "postgresql://me@db/x"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("http://tracking:5000", "http://tracking:5000"),
    ],
)
def test_a_password_is_struck_out(uri: str, said: str) -> None:
    assert masked(uri) == said


def test_the_password_is_struck_out_of_any_text_also_decoded() -> None:
    redact = Redactor("postgresql://me:s%40cretive@db/x")
    assert redact("at postgresql://me:s%40cretive@db/x") == "at postgresql://me:***@db/x"
    assert redact("password 's@cretive' was refused") == "password '***' was refused"


def test_a_short_password_does_not_strike_out_plain_words() -> None:
    redact = Redactor("postgresql://me:a@db/x")
    assert redact("a database at postgresql://me:a@db/x") == "a database at postgresql://me:***@db/x"

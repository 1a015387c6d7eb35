"""MLflow never delays, fails or chatters into a sweep."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from waiting import HANGS_AFTER_S, eventually

from sweeper.engines.processes import free_port
from sweeper.errors import UserError
from sweeper.track import Tracker, serve_ui
from sweeper.track import tracker as tracker_module
from sweeper.track.mlflow_logging import open_log
from sweeper.track.uri import Redactor

NEW_STORE = """
import sys
from pathlib import Path
from sweeper.track import Tracker
folder = Path(sys.argv[1])
tracker = Tracker(uri=f"sqlite:///{folder}/mlflow.db", experiment="e", log_path=folder / f"{sys.argv[2]}.log")
tracker.sweep_started(name=sys.argv[2], params={}, tags={}, space_file=folder / "space.yaml")
tracker.sweep_finished(state="COMPLETE", artifacts=[], tags={}, metrics={})
warnings = tracker.close(120)
assert not warnings, warnings
"""


def test_the_room_is_entered_without_importing_mlflow() -> None:
    code = "import sys, sweeper.track; sys.exit('mlflow' in sys.modules or 'sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_two_sweeps_that_make_the_store_at_once_both_succeed_and_say_nothing(
    tmp_path: Path, space_file: Path
) -> None:
    command = [sys.executable, "-c", NEW_STORE, str(tmp_path)]
    both = [
        subprocess.Popen([*command, name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for name in ("one", "two")
    ]
    said = [process.communicate(timeout=HANGS_AFTER_S)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said == ["", ""]
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"mlflow.db", "mlartifacts", "space.yaml", "one.log", "two.log", "elsewhere"}


def test_a_call_never_waits_for_mlflow(
    uri: str, tmp_path: Path, space_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    monkeypatch.setattr(tracker_module, "open_store", lambda *_: let_go.wait() and None)
    tracker = Tracker(uri=uri, experiment="e", log_path=tmp_path / "mlflow.log")
    tracker.sweep_started(name="s", params={}, tags={}, space_file=space_file)
    for number in range(100):
        tracker.trial_started(number, name=f"{number}", searched={}, fixed={}, config_yaml="", tags={})
    let_go.set()
    tracker.close(HANGS_AFTER_S)


def test_a_store_that_cannot_be_made_is_one_warning_and_no_error(
    tmp_path: Path, space_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    tracker = Tracker(
        uri=f"sqlite:///{tmp_path}/file/mlflow.db", experiment="e", log_path=tmp_path / "mlflow.log"
    )
    tracker.sweep_started(name="s", params={}, tags={}, space_file=space_file)
    tracker.trial_finished(0, state="COMPLETE", reason=None, metrics={})
    (warning,) = tracker.close(HANGS_AFTER_S)
    assert "mlflow.log" in warning
    assert "Traceback" in (tmp_path / "mlflow.log").read_text()
    assert capfd.readouterr() == ("", "")


def test_a_password_reaches_neither_warnings_nor_logs(tmp_path: Path, space_file: Path) -> None:
    uri = f"postgresql+nodriver://me:verysecret@127.0.0.1:{free_port()}/x"
    tracker = Tracker(uri=uri, experiment="e", log_path=tmp_path / "mlflow.log")
    tracker.sweep_started(name="s", params={}, tags={}, space_file=space_file)
    warnings = tracker.close(HANGS_AFTER_S)
    assert warnings and "verysecret" not in " ".join(warnings)
    assert "verysecret" not in (tmp_path / "mlflow.log").read_text()


def test_a_password_reaches_neither_parameters_nor_files(uri: str, tmp_path: Path) -> None:
    secret = uri + "?password=verysecret"
    space_file = tmp_path / "space.yaml"
    space_file.write_text(f"tracking: {{mlflow_uri: '{secret}'}}\n")
    from sweeper.track.store import open_store
    from sweeper.track.uri import Redactor

    recorder = open_store(uri, "demo", Redactor(secret))
    recorder.sweep_started(
        name="s", params={"uri": secret}, tags={"uri": secret}, space_file=space_file, at_s=1.0
    )
    recorder.trial_started(
        0,
        name="0",
        searched={},
        fixed={"uri": secret},
        config_yaml=f"uri: {secret}",
        tags={"u": secret},
        at_s=1.0,
    )
    recorder.flush()
    stored = [tmp_path / "mlflow.db", *(p for p in (tmp_path / "mlartifacts").rglob("*") if p.is_file())]
    assert len(stored) == 3
    assert not [path for path in stored if b"verysecret" in path.read_bytes()]


def test_a_server_that_is_down_costs_a_warning_not_the_sweep(
    tmp_path: Path, space_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = f"http://127.0.0.1:{free_port()}"
    tracker = Tracker(uri=uri, experiment="e", log_path=tmp_path / "mlflow.log")
    tracker.sweep_started(name="s", params={}, tags={}, space_file=space_file)
    warnings = tracker.close(HANGS_AFTER_S)
    assert len(warnings) == 1
    assert f"{uri} cannot be reached (" in warnings[0] and "Connection refused" in warnings[0]


def test_one_refused_record_does_not_stop_the_others(uri: str, tmp_path: Path, space_file: Path) -> None:
    from sweeper.track import read_trials

    tracker = Tracker(uri=uri, experiment="e", log_path=tmp_path / "mlflow.log")
    tracker.sweep_started(name="s", params={}, tags={}, space_file=tmp_path / "not there")
    tracker.trial_started(0, name="0", searched={"lr": 1}, fixed={}, config_yaml="", tags={})
    tracker.trial_finished(0, state="COMPLETE", reason=None, metrics={})
    warnings = tracker.close(HANGS_AFTER_S)
    assert len(warnings) == 1 and "not there" in warnings[0]
    assert [trial.status for trial in read_trials(uri, "e")] == ["FINISHED"]


def test_close_gives_up_in_time_and_says_so(tmp_path: Path, space_file: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(1)  # takes the connection and never answers
        uri = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        tracker = Tracker(uri=uri, experiment="e", log_path=tmp_path / "mlflow.log")
        tracker.sweep_started(name="s", params={}, tags={}, space_file=space_file)
        warnings = tracker.close(0.5)
    found = re.search(r"had not taken everything after (\d+\.\d) s", warnings[-1])
    assert found and 0.5 <= float(found[1]) < tracker_module._SILENCE_S


def test_calls_after_close_do_nothing(uri: str, tmp_path: Path, space_file: Path) -> None:
    tracker = Tracker(uri=uri, experiment="e", log_path=tmp_path / "mlflow.log")
    assert tracker.close(HANGS_AFTER_S) == []
    tracker.sweep_started(name="s", params={}, tags={}, space_file=space_file)
    assert tracker.close(HANGS_AFTER_S) == []


def test_the_ui_is_not_started_for_a_server_a_missing_file_or_a_taken_port(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"in a browser") as caught:
        serve_ui("https://me:verysecret@host", 5000)
    assert "verysecret" not in str(caught.value)
    with pytest.raises(UserError, match="does not exist yet"):
        serve_ui(f"sqlite:///{tmp_path}/none.db", 5000)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        with pytest.raises(UserError, match="another port"):
            serve_ui(uri, taken.getsockname()[1])


def test_the_ui_serves_the_store_and_its_artifacts_and_leaves_nothing_behind(
    uri: str, tmp_path: Path, space_file: Path
) -> None:
    from sweeper.track.store import open_store
    from sweeper.track.uri import Redactor

    recorder = open_store(uri, "demo", Redactor(uri))
    recorder.sweep_started(name="s", params={}, tags={}, space_file=space_file, at_s=1.0)
    (artifact,) = (tmp_path / "mlartifacts").rglob("space.yaml")
    port = free_port()
    code = "import sys; from sweeper.track import serve_ui; sys.exit(serve_ui(sys.argv[1], int(sys.argv[2])))"
    server = subprocess.Popen([sys.executable, "-c", code, uri, str(port)])
    try:
        assert get(f"http://127.0.0.1:{port}/health") == "OK"
        run_id = artifact.parts[-3]
        page = f"http://127.0.0.1:{port}/get-artifact?path=space.yaml&run_uuid={run_id}"
        assert get(page) == "name: demo\n"
    finally:
        os.kill(server.pid, signal.SIGTERM)
        assert server.wait(timeout=HANGS_AFTER_S) == 0
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)


def get(url: str) -> str:
    assert eventually(lambda: attempt(url) is not None), f"no answer from {url}"
    return attempt(url) or ""


def attempt(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return None


def test_what_mlflow_says_after_the_sweeps_folder_is_gone_ends_nothing(tmp_path):
    open_log(tmp_path / "logs" / "mlflow.log", Redactor(""))
    logging.getLogger("mlflow").info("here")
    shutil.rmtree(tmp_path / "logs")
    for handler in logging.getLogger("mlflow").handlers:
        handler.close()
    logging.getLogger("mlflow").info("gone")

"""Third-party chatter goes to the log; what is ours reaches the person."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os, subprocess, sys
from pathlib import Path
from sweeper.screen.log_redirect import quiet
from sweeper.screen.screen import Verbosity
with quiet(Path(sys.argv[1]), verbosity=Verbosity(sys.argv[2])) as screen:
    print("chatter of python")
    os.system("echo chatter of a child")
    print("chatter to stderr", file=sys.stderr)
    screen.say("news")
    screen.say("bad news", warning=True)
print("afterwards")
"""


CHATTER = ("chatter of python", "chatter of a child", "chatter to stderr")


def shown(log: Path, verbosity: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(log), verbosity], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.split("\n")


def test_only_our_lines_reach_standard_output(tmp_path):
    log = tmp_path / "logs" / "driver.log"
    assert shown(log, "normal") == ["news", "bad news", "afterwards", ""]
    text = log.read_text()
    assert all(line in text for line in (*CHATTER, "  news\n", "  bad news\n"))


def test_who_wants_it_quiet_sees_warnings_and_the_log_has_it_all(tmp_path):
    log = tmp_path / "driver.log"
    assert shown(log, "quiet") == ["bad news", "afterwards", ""]
    assert all(line in log.read_text() for line in (*CHATTER, "  news\n", "  bad news\n"))


def test_who_wants_it_all_sees_the_log_as_it_is_written_from_now_on(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "s3cretive-of-the-chatter")
    log = tmp_path / "driver.log"
    log.write_text("of an earlier driver\n")
    *lines, afterwards, end = shown(log, "verbose")
    assert (afterwards, end) == ("afterwards", "")
    assert "\n".join(lines) + "\n" == log.read_text().removeprefix("of an earlier driver\n")
    assert all(any(part in line for line in lines) for part in (*CHATTER, "  news", "  bad news"))

"""Ranks of a driver that is gone end when another one takes their trials over, on whatever host they are."""

from __future__ import annotations

import signal
import subprocess
import sys

from waiting import HANGS_AFTER_S

from sweeper.training.ranks.processes import reap

AT_WORK = """
import socket, sys, time
from pathlib import Path
from sweeper.training.ranks import processes

socket.gethostname = lambda: "elsewhere"
processes._LOOK_EVERY_S = 0.05
processes.end_with_mark(processes.leave_mark(Path(sys.argv[1])))
print("at work", flush=True)
time.sleep(60)
"""


def test_a_rank_elsewhere_ends_when_its_mark_is_gone(tmp_path):
    rank = subprocess.Popen([sys.executable, "-c", AT_WORK, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert rank.stdout.readline() == "at work\n"
    assert len(list(tmp_path.iterdir())) == 1 and rank.poll() is None
    assert reap(tmp_path) == []
    assert rank.wait(timeout=HANGS_AFTER_S) == -signal.SIGKILL

"""Third-party chatter goes to the log; what is ours reaches the person."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import os, subprocess, sys
from pathlib import Path
from sweeper.drive.quiet import quiet
with quiet(Path(sys.argv[1])) as person:
    print("chatter of python")
    os.system("echo chatter of a child")
    print("chatter to stderr", file=sys.stderr)
    print("news", file=person)
print("afterwards")
"""


def test_only_our_lines_reach_standard_output(tmp_path):
    log = tmp_path / "logs" / "driver.log"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(log)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n") == ["news", "afterwards", ""]
    assert done.stderr == ""
    text = log.read_text()
    assert all(line in text for line in ("chatter of python", "chatter of a child", "chatter to stderr"))

"""Nobody reads what a command prints: that is no failure of the command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

QUICKSTART = Path(__file__).parents[2] / "search_spaces" / "quickstart.yaml"
SWEEPER = f"{sys.executable} -m sweeper"

COMMANDS = {
    "the output is closed": f"{SWEEPER} validate {QUICKSTART} | true; exit ${{PIPESTATUS[0]}}",
    "the output was never open": f"{SWEEPER} validate {QUICKSTART} >&-",
    "both are closed, and there is an error to tell": f"{SWEEPER} train {QUICKSTART} >&- 2>&-",
    "the errors' reader is gone": f"{SWEEPER} train {QUICKSTART} 2>&1 | true; exit ${{PIPESTATUS[0]}}",
}


@pytest.mark.parametrize("case", COMMANDS)
def test_a_command_whose_reader_is_gone_has_the_exit_status_that_it_deserves(case):
    done = subprocess.run(["bash", "-c", COMMANDS[case]], capture_output=True, text=True, check=False)
    assert done.returncode == (2 if "error" in case else 0)
    assert done.stderr == ""

"""Goes on with every run of the working directory, one after the other; prints what each said.

A process of its own, because the paths in these folders are relative to where their commands were given.
"""

from __future__ import annotations

import io
import json
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

from sweeper.commands import resume_sweep, train_config
from sweeper.errors import UserError

SWEEPS = ("interrupted", "measured", "out-of-memory")


def told(go_on: Callable[[], object]) -> str:
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        try:
            result = go_on()
            print("warnings:", list(getattr(result, "warnings", ())))
        except UserError as error:
            print(error)
        except Exception:
            traceback.print_exc()
    return said.getvalue()


def main() -> None:
    said = {name: told(partial(resume_sweep, Path("sweeps") / name)) for name in SWEEPS}
    said["train"] = told(partial(train_config, Path("train.yaml")))
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()

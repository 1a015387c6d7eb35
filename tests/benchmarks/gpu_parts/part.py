"""Runs parts in this process, each guarded and noted at once: python part.py PART,PART OUT RESULTS"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

STARTED_S = time.time()
HERE = Path(__file__).parent
sys.path[1:1] = [str(HERE.parent), str(HERE.parent.parent)]


def main() -> None:
    parts, out, results_file = sys.argv[1].split(","), Path(sys.argv[2]), Path(sys.argv[3])
    results: dict[str, dict[str, Any]] = {}
    for part in parts:
        results[part] = {}
        began = time.monotonic()
        try:
            for key, value in function_of(part)(out):
                results[part][key] = value
                results_file.write_text(json.dumps(results))
        except BaseException as error:
            results[part] |= {
                "traceback": traceback.format_exc(),
                "error": f"{type(error).__name__}: {error}",
            }
            traceback.print_exc()
        results[part]["seconds"] = time.monotonic() - began
        results_file.write_text(json.dumps(results))


def function_of(part: str) -> Callable[[Path], Any]:
    """A generator of names and figures."""
    if part in ("start", "speed", "memory", "growth"):
        import ours

        ours.STARTED_S = STARTED_S
        return getattr(ours, part)
    if part == "trl":
        import trl_side

        return trl_side.trl
    import sweeps

    return getattr(sweeps, part)


if __name__ == "__main__":
    main()

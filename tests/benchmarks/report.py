"""How long the report of a large sweep takes to be written, how large it is, and how fast it opens:

    python tests/benchmarks/report.py

300 trials of 50 evaluations, made by hand. The first writing of a process also imports Altair and Optuna's
importances. Opening is measured in a headless Chromium, where there is one: until the answer can be read, and
until every chart is drawn.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "recommend")]

from report_support import material_of, space_of, sweep_of  # noqa: E402

from sweeper.commands.report import vega_script  # noqa: E402
from sweeper.recommend.report import report_html  # noqa: E402

TRIALS, EVALUATIONS = 300, 50


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    space = space_of(folder)
    trials = sweep_of(space, TRIALS, noise=0.01, evaluations=EVALUATIONS)
    file = folder / "report.html"
    vega_script()  # kept in the user's cache
    for which in ("first", "second"):
        began, used = time.perf_counter(), time.process_time()
        file.write_text(report_html(material_of(space, trials), vega_script()), encoding="utf-8")
        seconds, cpu = time.perf_counter() - began, time.process_time() - used
        print(
            f"written, {which} time: {seconds:.2f} s ({cpu:.2f} s of CPU), {file.stat().st_size / 1e6:.2f} MB"
        )
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("there is no Chromium here to open it with")
        return
    _open(file, chromium)


def _open(file: Path, chromium: str) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for width in (1440, 390):
            page = browser.new_page(viewport={"width": width, "height": 900})
            began = time.perf_counter()
            page.goto(file.as_uri(), wait_until="domcontentloaded")
            readable = time.perf_counter() - began
            page.wait_for_selector("html[data-drawn=all]", timeout=120_000)
            drawn = time.perf_counter() - began
            print(
                f"opened at {width} pixels: readable after {readable:.2f} s, all charts after {drawn:.2f} s"
            )
        browser.close()


if __name__ == "__main__":
    main()

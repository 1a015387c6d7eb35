"""The report in a real browser, without a network: Debian's package chromium, driven by playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compared_sweeps import bowl_at, side
from report_support import material_of, mixed_sweep, space_of

from sweeper.recommend.compare import compare, comparison_html
from sweeper.recommend.report import drawings, report_html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("there is no Chromium here (Debian: apt-get install chromium)", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="drives the browser: pip install playwright")
pytest.importorskip("vl_convert", reason="the report's charts: pip install 'sweeper[report]'")

FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
CONTRAST = """() => {
  const parse = (text) => (text.match(/[0-9.]+/g) || []).map(Number);
  const shine = ([r, g, b]) => [r, g, b].map((one) => one / 255)
    .map((one) => (one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
    .reduce((sum, one, i) => sum + one * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const found = parse(getComputedStyle(one).backgroundColor);
      if (found.length === 3 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const low = [];
  const told = "h1,h2,h3,p,td,th,a,button,code,dt,b,span,figcaption,mark,svg text";
  for (const one of document.querySelectorAll(told)) {
    if (!one.textContent.trim() || !one.getClientRects().length) continue;
    const style = getComputedStyle(one);
    const ink = parse(one.tagName === "text" ? style.fill : style.color);
    const [a, b] = [shine(ink), shine(behind(one))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) low.push(`${one.tagName} ${one.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return low;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> tuple[Path, int]:
    """The file, and how many charts it has."""
    from sweeper.commands.report import vega_script

    folder = tmp_path_factory.mktemp("report")
    space = space_of(folder)
    material = material_of(space, mixed_sweep(space))
    file = folder / "report.html"
    file.write_text(report_html(material, vega_script()), encoding="utf-8")
    return file, len(drawings(material))


class Seen:
    """A page with what the browser complained of and asked for."""

    def __init__(self, browser: Any, file: Path, width: int, scheme: str) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda one: self.complaints.append(one.text))
        self.page.on("pageerror", lambda one: self.complaints.append(str(one)))
        self.page.on("request", lambda one: self.asked.append(one.url))
        self.page.goto(file.as_uri())
        self.page.wait_for_selector("html[data-drawn=all]", timeout=60_000)


@pytest.fixture(scope="module", params=[(1440, "light"), (390, "dark")], ids=["desktop light", "phone dark"])
def seen(request, browser, report) -> Iterator[tuple[Seen, Path, int]]:
    shown = Seen(browser, report[0], *request.param)
    yield shown, *report
    shown.context.close()


def test_the_keyboard_reaches_links_buttons_and_scrolled_tables(seen) -> None:
    page = seen[0].page
    reached = set()
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.tagName + '.' + document.activeElement.className"))
    assert {"A.skip", "A.", "BUTTON.", "DIV.scroll"} <= reached


def test_every_chart_is_drawn_nothing_is_complained_of_and_nothing_asked_for(seen) -> None:
    shown, file, charts = seen
    assert shown.complaints == [] and shown.asked == [file.as_uri()]
    assert shown.page.locator("[data-drawn=yes] svg").count() == charts > 12
    marks = "[...document.querySelectorAll('[data-chart]')].map((one) => one.querySelectorAll('path').length)"
    assert min(shown.page.evaluate(marks)) > 2


def test_no_page_is_wider_than_the_screen_and_text_has_the_contrast_of_aa(seen) -> None:
    page = seen[0].page
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(CONTRAST) == []


def test_a_title_sorts_by_numbers_and_words_narrow_the_table_down(seen) -> None:
    page = seen[0].page
    shown = "[...document.querySelectorAll('#trials tbody tr:not([hidden])')]"
    column = shown + ".map((one) => one.cells[{}].textContent)"
    titles = page.evaluate("[...document.querySelectorAll('#trials th')].map((one) => one.textContent)")
    lr = titles.index("lr")
    page.locator("#trials th button", has_text="lr").first.click()
    rates = [float(one) for one in page.evaluate(column.format(lr))]
    assert rates == sorted(rates)
    page.locator("#filter").fill("paused")
    assert page.evaluate(column.format(titles.index("trial"))) == ["5"]
    assert page.locator("#shown").text_content() == "1 of 24"
    page.locator("#filter").fill("")


def test_a_button_copies_a_trials_values(seen) -> None:
    page = seen[0].page
    page.evaluate("navigator.clipboard.writeText = async (words) => { window.copied = words; }")
    page.locator("#trials tbody button").first.click()
    assert "training:\n  lr: " in page.evaluate("window.copied")
    assert page.locator("#said").text_content() == "Copied"


def test_a_comparison_is_drawn_in_the_same_way(browser, tmp_path) -> None:
    from sweeper.commands.report import vega_script

    file = tmp_path / "comparison.html"
    sides = [side(tmp_path, name, bowl_at(best), count=16) for name, best in (("a", 1e-3), ("b", 1e-4))]
    file.write_text(comparison_html(compare(sides), vega_script()), encoding="utf-8")
    for width, scheme in ((1440, "light"), (390, "dark")):
        shown = Seen(browser, file, width, scheme)
        assert shown.complaints == [] and shown.asked == [file.as_uri()]
        assert shown.page.locator("[data-drawn=yes] svg").count() == 3
        assert shown.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert shown.page.evaluate(CONTRAST) == []
        shown.context.close()


def test_it_prints_in_light_whatever_the_screen_is(seen) -> None:
    page = seen[0].page
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    page.emulate_media(media="screen")

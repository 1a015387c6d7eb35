"""The README in both languages, and the pages that it leads to."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "README.zh-CN.md")
THREE_SCREENS = 120
"""Lines."""


def blocks(name: str) -> list[str]:
    return re.findall(r"```.*?```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)


def links(file: Path) -> list[str]:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", file.read_text(encoding="utf-8"))
    return [target for target in targets if "://" not in target]


def test_both_languages_show_the_same_commands_files_and_results():
    assert blocks("README.md") == blocks("README.zh-CN.md") != []


def test_both_languages_lead_to_the_same_pages():
    english, chinese = (sorted({*links(ROOT / name), *READMES}) for name in READMES)
    assert english == chinese


@pytest.mark.parametrize("name", READMES)
def test_the_readme_fits_three_screens(name):
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= THREE_SCREENS


@pytest.mark.parametrize("name", [*READMES, "CONTRIBUTING.md"])
def test_what_is_linked_is_there(name):
    assert [target for target in links(ROOT / name) if not (ROOT / target).exists()] == []


def test_every_page_stands_in_the_navigation_and_in_the_readme():
    pages = {file.name for file in (ROOT / "docs").glob("*.md")}
    nav = {Path(page).name for page in re.findall(r'"(\w+\.md)"', (ROOT / "zensical.toml").read_text())}
    assert nav == pages
    assert {Path(target).name for target in links(ROOT / "README.md")} >= pages - {"index.md"}


def test_the_site_builds_without_a_broken_link(tmp_path):
    for name in ("docs", "zensical.toml"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "-f", "zensical.toml", "--strict"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "build" / "docs" / "search" / "index.html").exists()

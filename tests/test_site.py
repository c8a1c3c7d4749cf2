"""The site of docs/ builds without a warning, whole, and fetches nothing from elsewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout
    return folder


def test_a_broken_link_fails(tmp_path: Path) -> None:
    """By the command of `make site`: with --quiet, --strict would count no warning."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (options,) = re.findall(r"-m mkdocs build (.*?)(?: #.*)?$", makefile, re.MULTILINE)
    for name in ("docs", "mkdocs.yml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    for other in ROOT.iterdir():  # what pages link to
        if other.is_dir() and other.name not in ("docs", "build") and other.name[0] != ".":
            (tmp_path / other.name).symlink_to(other)
    page = tmp_path / "docs" / "random.md"
    page.write_text(page.read_text("utf-8") + "\n[broken](nowhere.md)\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", *options.split(), "--site-dir", str(tmp_path / "site")],
        cwd=tmp_path, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "nowhere.md" in done.stdout


def test_every_page_and_picture_is_there(site: Path) -> None:
    docs = ROOT / "docs"
    for page in docs.glob("*.md"):
        assert (site / page.name).with_suffix(".html").exists()
    for picture in (docs / "images").rglob("*.svg"):
        assert (site / picture.relative_to(docs)).exists()


def test_what_pages_link_to_outside_of_docs_comes_along(site: Path) -> None:
    page = (site / "architecture.html").read_text(encoding="utf-8")
    assert 'href="repository/bslang/compiler.py.html"' in page
    code = (site / "repository" / "bslang" / "compiler.py.html").read_text(encoding="utf-8")
    assert "The pipeline, in order" in code
    plot = (site / "performance.html").read_text(encoding="utf-8")
    assert 'src="repository/benchmarks/results/cpu_time.svg"' in plot
    assert (site / "repository" / "benchmarks" / "results" / "cpu_time.svg").exists()


def test_code_in_tables_has_no_backslashes(site: Path) -> None:
    page = (site / "migration.html").read_text(encoding="utf-8")
    assert "<code>causal | cols(0:100t)</code>" in page
    assert r"\|" not in "".join(re.findall(r"<td>.*?</td>", page))


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    fetched = re.compile(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=\"?(?:https?:)?//[^>]*>")
    for page in site.rglob("*.html"):
        found = fetched.findall(page.read_text(encoding="utf-8"))
        assert not found, f"{page.name}: {found}"
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert not re.search(r"url\([\"']?(?:https?:)?//|@import", text), sheet.name

"""The site of docs/ builds without a warning, whole, and fetches nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")
    return folder


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

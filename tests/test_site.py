"""The site of docs/ builds without a warning, whole, and fetches nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))
import playground  # noqa: E402  # a hook beside the pages, not a package

BUILD = re.findall(
    r"-m mkdocs build (.*?)(?: #.*)?$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE
)
"""The options of `make site`."""


def build(folder: Path, site: Path, **variables: str) -> tuple[int, str]:
    """The command of `make site` in a folder: (exit status, output). variables: of the environment."""
    (options,) = BUILD
    env = {name: value for name, value in os.environ.items() if name != "BSLANG_REPOSITORY"}
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", *options.split(), "--site-dir", str(site)],
        cwd=folder, env=env | {"NO_MKDOCS_2_WARNING": "1"} | variables, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    status, said = build(ROOT, folder)
    assert status == 0, said
    assert "WARNING" not in said
    return folder


def one_page(folder: Path, text: str) -> Path:
    """A site of one page, with the settings of ours except for the hooks, which are about our pages."""
    (folder / "docs").mkdir()
    (folder / "docs" / "index.md").write_text(text, encoding="utf-8")
    settings = (
        f"INHERIT: {ROOT / 'mkdocs.yml'}\n"
        f"theme: {{custom_dir: {ROOT / 'docs' / 'theme'}}}\n"
        "nav: [index.md]\nhooks: []\nextra_css: []\n"
    )
    (folder / "mkdocs.yml").write_text(settings, encoding="utf-8")
    return folder


def test_a_broken_link_fails(tmp_path: Path) -> None:
    """By the command of `make site`: with --quiet, --strict would count no warning."""
    broken = "nowhere.md", "../bslang/nowhere.py", "#nowhere", "images/nowhere.svg"
    text = "# A page\n\n" + "\n".join(f"- [broken]({target})" for target in broken)
    status, said = build(one_page(tmp_path, text), tmp_path / "site")
    assert status == 1
    for target in broken:
        assert f"'{target}'" in said
    assert f"{len(broken)} warnings" in said


def test_a_page_without_a_place_fails(tmp_path: Path) -> None:
    folder = one_page(tmp_path, "# A page\n")
    (folder / "docs" / "other.md").write_text("# Another\n", encoding="utf-8")
    status, said = build(folder, tmp_path / "site")
    assert status == 1
    assert "other.md" in said


def test_the_repository_is_linked_where_its_address_is_known(tmp_path: Path, site: Path) -> None:
    """Without the theme's own script, which asks a host for numbers of stars."""
    address = "https://example.org/someone/bslang"
    status, said = build(
        one_page(tmp_path, "# A page\n"), tmp_path / "site", BSLANG_REPOSITORY=address
    )
    assert status == 0, said
    (link,) = re.findall(
        rf'<a href="{address}"[^>]*>', (tmp_path / "site" / "index.html").read_text("utf-8")
    )[:1]
    assert 'class="md-source"' in link
    for page in (site / "index.html", tmp_path / "site" / "index.html"):
        assert 'data-md-component="source"' not in page.read_text("utf-8")
    assert "md-source" not in (site / "index.html").read_text("utf-8")


def test_light_dark_or_as_the_system(site: Path) -> None:
    page = (site / "index.html").read_text("utf-8")
    chosen = re.findall(r'data-md-color-media="([^"]*)" data-md-color-scheme="(\w+)"', page)
    schemes = {media.partition(": ")[2].rstrip(")"): scheme for media, scheme in chosen}
    assert schemes | {"": "any"} == {"": "any", "light": "default", "dark": "slate"}
    assert len(re.findall(r'<label[^>]*title="[^"]*switch to', page)) == 3


WIDEST = 108
"""Characters of a line of code that fit beside the navigation of a page in a window of 1,280 px."""


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_code_fits(page: Path) -> None:
    """Except what a terminal shows: the site wraps its lines."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    lines = [
        line
        for kind, text in fenced
        if kind not in ("console", "text")
        for line in text.splitlines()
    ]
    assert [line for line in lines if len(line) > WIDEST] == []


def test_the_playground_has_an_explorer_for_each_definition(site: Path) -> None:
    markdown = playground.PAGE.read_text(encoding="utf-8")
    names = playground.names(markdown)
    assert len(names) >= 5
    page = (site / "playground.html").read_text("utf-8")
    assert (
        f'<iframe class="explorer" name="explorer" title="The explorer" src="playground/{names[0]}'
        in page
    )
    for name in names:
        assert f'<a href="playground/{name}.html" target="explorer">' in page
        shown = (site / "playground" / f"{name}.html").read_text("utf-8")
        assert f"playground.bsl:{name}" in re.findall("<title>(.*?)</title>", shown)[0]
        assert (site / "playground" / f"{name}.svg").read_text("utf-8").startswith("<svg ")


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


def test_links_to_pages_have_their_titles(site: Path) -> None:
    page = (site / "python.html").read_text(encoding="utf-8")
    assert '<a href="cli.html#files">The command line</a>' in page
    for page in site.glob("*.html"):
        assert not re.search(r'<a href="[^"]*">[\w-]+\.md</a>', page.read_text("utf-8")), page.name


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


def test_the_reference_has_every_public_name(site: Path) -> None:
    """With its docstring; that of a name without one would be an empty entry."""
    import bslang
    from bslang import nn

    page = (site / "api.html").read_text(encoding="utf-8")
    names = {f"bslang.{name}" for name in bslang.__all__ if name != "__version__"}
    names |= {f"bslang.nn.{name}" for name in nn.__all__}
    assert names <= set(re.findall(r'id="(bslang[.\w]*)"', page))
    methods = {name for name, value in vars(bslang.Layout).items() if callable(value)}
    assert {"bslang.Layout.packed", "bslang.Layout.show"} <= set(re.findall(r'id="([.\w]+)"', page))
    for name in [*names, *(f"bslang.Layout.{m}" for m in methods if not m.startswith("_"))]:
        value = bslang
        for part in name.split(".")[1:]:
            value = getattr(value, part)
        assert (value.__doc__ or "").strip(), name
    text = re.sub(r"<[^>]+>", "", page)
    assert text.count("cu_seqlens_k: Offsets") == 3  # one for each overload

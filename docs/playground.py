"""A hook of MkDocs (mkdocs.yml): the explorers of docs/playground.md.

The page has a spec. Each definition of it becomes a page of `bslang explorer`, which playground.md shows in a
frame, and a thumbnail to choose it by. The compiler that makes them is the one beside these pages.
"""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel

from bslang import compiler
from bslang.explorer.data import data
from bslang.explorer.page import page
from bslang.explorer.subject import Subject
from bslang.picture.svg import svg
from bslang.syntax.source import Source

NAME = "playground"
PAGE = Path(__file__).with_name(f"{NAME}.md")
LENGTHS = (1024,)
_MARK = "<!-- explorers -->"
_SPEC = re.compile(rf"^\$ cat > {NAME}\.bsl <<'EOF'\n((?:^>.*\n)*?)^> EOF$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the explorers and their thumbnails."""
    for uri, text in explorers(PAGE.read_text(encoding="utf-8")).items():
        files.append(File.generated(config, uri, content=text, inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Puts the thumbnails and the frame where the page has its mark."""
    if page.file.src_uri != PAGE.name:
        return markdown
    before, mark, after = markdown.partition(_MARK)
    assert mark, f"{PAGE.name} lacks {_MARK}"
    return f"{before}{_frame(names(markdown))}{after}"


def spec(markdown: str) -> Source:
    """What the page saves as playground.bsl."""
    (lines,) = _SPEC.findall(markdown)
    text = "\n".join(line[2:] for line in lines.splitlines())
    return Source(f"{NAME}.bsl", f"{text}\n")


def names(markdown: str) -> tuple[str, ...]:
    """The definitions of the spec, in its order."""
    return tuple(compiler.program(spec(markdown)).definitions)


def explorers(markdown: str) -> dict[str, str]:
    """The pages and their thumbnails: text by path on the site."""
    source, made = spec(markdown), {}
    for name in names(markdown):
        subject = Subject(f"{source.name}:{name}", source, name, lengths=LENGTHS)
        graph = compiler.lower(subject.resolved, LENGTHS[0], LENGTHS[0])
        made[f"{NAME}/{name}.html"] = page(data([subject]))
        made[f"{NAME}/{name}.svg"] = svg(
            subject.resolved.pattern, [graph], name, scale=1 / 4, legend=False
        )
    return made


def _frame(chosen: tuple[str, ...]) -> str:
    """Links that open an explorer in the frame below them: no script is needed to choose."""
    links = "".join(
        f'<a href="{NAME}/{escape(name)}.html" target="explorer">'
        f'<img alt="" src="{NAME}/{escape(name)}.svg">{escape(name)}</a>'
        for name in chosen
    )
    return (
        f'<nav class="explorers" aria-label="Layouts">{links}</nav>\n'
        f'<iframe class="explorer" name="explorer" title="The explorer" src="{NAME}/{chosen[0]}.html">'
        f'</iframe>\n<script src="theme/{NAME}.js"></script>\n'
    )

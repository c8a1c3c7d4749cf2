"""A hook of MkDocs (mkdocs.yml): pages that are written to be read in the repository, on a site.

There, `../bslang/compiler.py` is a file. On the site it is a page with the file's text, or the picture
itself; so are the files that these pages link to. There, a link to `cli.md` has that name; on the site it
has the title of the page. And a bar in the code of a table has a backslash before it, as GitHub wants it;
MkDocs would show both.
"""

from __future__ import annotations

import posixpath
import re
from functools import cache
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
_LINK = re.compile(r"(\]\()([^)#:]+)((?:#[^)]*)?\))")
_NAME = re.compile(r"\[([\w-]+\.md)\](?=\(\1[)#])")
_ROW = re.compile(r"^\|.*\|$", re.MULTILINE)
_FOLDER = "repository"  # of the site
_AS_THEY_LIE = {".svg", ".png", ".html"}
_LANGUAGES = {".py": "py", ".bsl": "bsl", ".cpp": "cpp", ".json": "json", ".toml": "toml"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files outside of docs/ that pages link to."""
    left = [path for file in files.documentation_pages() for path in _outside(file.src_uri)]
    while left:
        path = left.pop()
        uri = _uri(path)
        if files.get_file_from_path(uri):
            continue
        given = (
            {"abs_src_path": str(path)} if path.suffix in _AS_THEY_LIE else {"content": _page(path)}
        )
        files.append(File.generated(config, uri, inclusion=InclusionLevel.NOT_IN_NAV, **given))
        if path.suffix == ".md":
            left += _outside(uri)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Points the links of a page to them, names pages, and takes the backslashes out of code in tables."""
    named = _NAME.sub(lambda link: f"[{_title(link[1])}]", markdown)
    return _ROW.sub(_unescaped, _rewritten(named, page.file.src_uri))


@cache
def _title(name: str) -> str:
    """The title of a page; its name, if there is no such page."""
    path = HERE / name
    return (
        path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ") if path.exists() else name
    )


def _unescaped(row: re.Match[str]) -> str:
    return re.sub(r"`[^`]*`", lambda code: code[0].replace(r"\|", "|"), row[0])


def _lies(uri: str) -> Path:
    """Where a page of the site lies in the repository."""
    if not uri.startswith(f"{_FOLDER}/"):
        return HERE / uri
    path = ROOT / uri.removeprefix(f"{_FOLDER}/")
    return path if path.exists() else path.with_suffix("")


def _uri(path: Path) -> str:
    """Where a file of the repository is on the site."""
    if path.is_relative_to(HERE):
        return path.relative_to(HERE).as_posix()
    name = f"{_FOLDER}/{path.relative_to(ROOT).as_posix()}"
    return name if path.suffix in _AS_THEY_LIE | {".md"} else f"{name}.md"


def _outside(uri: str) -> list[Path]:
    """The files outside of docs/ that a page links to."""
    lies = _lies(uri)
    targets = (match[2] for match in _LINK.finditer(lies.read_text(encoding="utf-8")))
    paths = ((lies.parent / target).resolve() for target in targets)
    return [
        path
        for path in paths
        if path.is_file() and path.is_relative_to(ROOT) and not path.is_relative_to(HERE)
    ]


def _rewritten(markdown: str, uri: str) -> str:
    lies = _lies(uri)

    def to(match: re.Match[str]) -> str:
        path = (lies.parent / match[2]).resolve()
        if not path.is_file() or not path.is_relative_to(ROOT):
            return match[0]
        return match[1] + posixpath.relpath(_uri(path), posixpath.dirname(uri)) + match[3]

    return _LINK.sub(to, markdown)


def _page(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    name = path.relative_to(ROOT).as_posix()
    return f"# {name}\n\n````{_LANGUAGES.get(path.suffix, 'text')}\n{text}\n````\n"

"""The page: one file of HTML, with its style, its program and its data inside.

The only place beside the environment of generated code that imports jinja2: here the template escapes what
comes from a spec, but for the data, which `_inert` has made harmless.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bslang.explorer.data import Data, dump
from bslang.resources import resource

_FOLDER = "templates", "explorer"
_SCRIPTS = (
    *(
        "model.js",
        "levels.js",
        "field.js",
        "zoom.js",
        "draw.js",
        "axes.js",
        "panels.js",
        "editor.js",
    ),
    *("why.js", "export.js", "share.js", "controls.js", "main.js"),
)


def page(data: Data) -> str:
    """The page for what `data` made: the same text for the same data.

    `page(data([Subject(label, source, name)]))` is the whole way from a spec to a page, for other callers
    as well.
    """
    script = _script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    served = "'self'" if data["served"] else "'none'"
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        f"connect-src {served}; base-uri 'none'; form-action 'none'"
    )
    return (
        _environment()
        .get_template("page.html.jinja")
        .render(
            title=data["title"],
            policy=policy,
            style=_read("page.css"),
            data=_inert(dump(data)),
            script=script,
        )
    )


def _inert(text: str) -> str:
    """JSON that no HTML parser takes for an end of its element, nor for anything else."""
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _script() -> str:
    parts = "\n".join(map(_read, _SCRIPTS))
    return f'"use strict";\n(() => {{\n{parts}\n}})();\n'


def _read(name: str) -> str:
    return Path(resource(*_FOLDER, name)).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(resource(*_FOLDER)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=True,
    )

"""The Jinja environment: the only place that imports jinja2.

Python computes and templates place: a template sees two names, `plan` (the layout) and `target`
(what the target's module made of it), and loops over no edges.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined

from bslang.codegen.plan import Plan
from bslang.files import private_dir
from bslang.resources import resource


@cache
def _environment() -> Environment:
    try:  # compiling the templates costs more than filling them in
        kept = FileSystemBytecodeCache(str(private_dir("templates")))
    except OSError:
        kept = None
    return Environment(
        bytecode_cache=kept,
        loader=FileSystemLoader(resource("templates")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # output is code, not HTML; what comes from a spec is escaped in Python
    )


def render(template: str, plan: Plan, target: Any) -> str:
    """Render one template, named by its path below templates/."""
    return _environment().get_template(template).render(plan=plan, target=target)

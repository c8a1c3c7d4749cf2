"""The Jinja environment: the only place that imports jinja2.

Python computes and templates place: a template sees two names, `plan` (the layout) and `target`
(what the target's module made of it), and loops over no edges.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import BytecodeCache, Environment, FileSystemLoader, StrictUndefined

from bslang.cache import private_dir, sealed, unsealed, write
from bslang.codegen.plan import Plan
from bslang.resources import resource

if TYPE_CHECKING:
    from jinja2.bccache import Bucket


class _Kept(BytecodeCache):
    """Compiled templates in a folder. Jinja's own cache would run what has been damaged since."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load_bytecode(self, bucket: Bucket) -> None:
        code = unsealed(self._folder / bucket.key)
        if code is not None:
            bucket.bytecode_from_string(code)

    def dump_bytecode(self, bucket: Bucket) -> None:
        with suppress(OSError):  # a full disk costs the time of compiling it again, no more
            write(self._folder, {bucket.key: sealed(bucket.bytecode_to_string())})


@cache
def _environment() -> Environment:
    try:  # compiling the templates costs more than filling them in
        kept = _Kept(private_dir("templates"))
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

"""Files that ship with the package: the grammar and the templates.

A wheel carries them inside the package; a checkout (and so an editable install) keeps them at its
top level, where people look for them.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def resource(*parts: str) -> Path:
    """The path of a file or folder that ships with bslang; FileNotFoundError where it is missing."""
    for base in (_PACKAGE, _PACKAGE.parent):
        path = base.joinpath(*parts)
        if path.exists():
            return path
    raise FileNotFoundError(f"bslang is installed without {'/'.join(parts)}")

"""Packages that `pip install bslang` leaves out, and the one error that names the command for it.

The compiler, the command line, editors and the explorer need none of them. Whatever does imports it in

    with installed():
        import torch
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bslang.errors import BslangError

OPTIONAL = {
    "torch": ("2.10", "torch"),
    "triton": ("3.6", "torch"),
    "transformers": ("5.4", "transformers"),
    "matplotlib": ("3.8", "plot"),
    "pygls": ("2.0", "lsp"),
    "lsprotocol": ("2025.0", "lsp"),
    "safetensors": ("0.4", "exchange"),
    "scipy": ("1.11", "exchange"),
}
"""The oldest version of each package that works, and the extra that brings it."""


class MissingPackageError(BslangError, ImportError):
    """An optional package is missing or too old; `name` says which."""

    def __init__(self, package: str) -> None:
        super().__init__(f"this {needs(package)}")
        self.name = package

    def __reduce__(self) -> tuple[type[MissingPackageError], tuple[str | None]]:
        return type(self), (self.name,)


def needs(package: str) -> str:
    """What is said of a package that is missing, after a subject: "needs torch 2.10 or newer, ..."."""
    version, extra = OPTIONAL[package]
    return (
        f"needs {package} {version} or newer, which is not installed; "
        f'run: pip install "bslang[{extra}]"'
    )


@contextmanager
def installed() -> Iterator[None]:
    """Around imports, or a function that imports: raises MissingPackageError where Python finds no module of
    an optional package."""
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in OPTIONAL:
            raise
        raise MissingPackageError(package) from None

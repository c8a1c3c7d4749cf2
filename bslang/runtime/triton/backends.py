"""Back ends of the triton target: which kernels an architecture has, and which of them a call takes.

`ampere` is what every GPU and Triton's interpreter run: kernels in Triton's language, one program a tile.
`cdna` and `blackwell` are the same kernels with tiles of their own. `hopper` are kernels in Gluon, for those
calls that they take; other calls, and kernels that it lacks, have those of `ampere` there too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from bslang import abi

BACKENDS = ("ampere", "hopper", "blackwell", "cdna")

VARIABLE = "BSLANG_BACKENDS"
"""Of the environment: names of back ends that may be taken, with commas between them, for comparisons."""

_HOPPER = "cuda:90"


def backend(kernel: str, architecture: str) -> str:
    """The back end of a kernel, by its name in `bslang.abi`, on an architecture such as "cuda:90"."""
    if kernel.endswith(abi.HOPPER):
        return "hopper"
    family, _, number = architecture.partition(":")
    if family == "hip":
        return "cdna"
    return "blackwell" if number in ("100", "103") else "ampere"


def kernels(names: Iterable[str], architecture: str) -> list[str]:
    """Those of a module's kernels that an architecture has."""
    return [name for name in names if architecture == _HOPPER or not name.endswith(abi.HOPPER)]


def allowed() -> frozenset[str]:
    """The back ends that may be taken: all, or those that VARIABLE names; `ampere`, which every call can
    have, is always among them. Raises ValueError for a name that is none."""
    names = os.environ.get(VARIABLE, "").replace(",", " ").split() or BACKENDS
    for name in names:
        if name not in BACKENDS:
            raise ValueError(
                f"{VARIABLE}: there is no back end {name!r}; there are {', '.join(BACKENDS)}"
            )
    return frozenset({*names, "ampere"})

"""The targets by name. Apart from emission, which a layout whose module is in the cache does without."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from bslang.errors import TargetError

TARGETS = ("triton", "cpu", "torch")
"""Every target, each a module of this package with a function `section(plan)`."""

GPUS = ("cuda", "gpu", "rocm", "hip", "nvidia", "amd")
"""Names that are given for the triton target."""


def target_names(targets: Iterable[str] | None) -> tuple[str, ...]:
    """Target names checked and put in order; all of them for None. Raises TargetError."""
    if targets is None:
        return TARGETS
    wanted = list(targets)
    for name in wanted:
        if name not in TARGETS:
            close = get_close_matches(name, TARGETS, 1)
            guess = f"; did you mean {close[0]!r}?" if close else ""
            if "," in name:
                guess = "; pass each target separately"
            elif name in GPUS:
                guess = (
                    "; the target for GPUs is triton, and its kernels can be compiled ahead of time for "
                    "cuda:80, cuda:90, hip:gfx942, ..."
                )
            raise TargetError(f"unknown target {name!r}; targets are {', '.join(TARGETS)}{guess}")
    if not wanted:
        raise TargetError(f"no target; targets are {', '.join(TARGETS)}")
    return tuple(name for name in TARGETS if name in wanted)

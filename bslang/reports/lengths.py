"""The length at which a command looks at a layout where no --seq-len is given."""

from __future__ import annotations

from bslang.lint.findings import only_length, telling_length
from bslang.resolve.program import Resolved

USUAL = 16384
_ROWS = 24  # blocks that `show` draws where the numbers of a layout are small,
_FEW = 64  # which is where no more blocks than these are telling


def usual_length(resolved: Resolved) -> int:
    """In tokens: the size of the layout's grid, as it fits no other length; 16384 without one."""
    return only_length(resolved.pattern, resolved.block) or USUAL


def drawn_length(resolved: Resolved) -> int:
    """In tokens: the size of the layout's grid, or 24 blocks, or more where its numbers are large."""
    side = max(resolved.block)
    telling = telling_length(resolved.pattern, resolved.block) or USUAL
    only = only_length(resolved.pattern, resolved.block)
    return only or (telling if telling > _FEW * side else _ROWS * side)

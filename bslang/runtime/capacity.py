"""Lengths rounded up: calls at similar lengths share tables, and packed sequences a call."""

from __future__ import annotations

LEAST = 512
"""The smallest capacity, in tokens."""


def rounded(length: int) -> int:
    """At most a quarter more than a length, four to a doubling."""
    step = 1 << max(length.bit_length() - 3, 0)
    return -(-length // step) * step


def capacity(length: int) -> int:
    """The length whose tables serve calls of a prefix-stable layout at this one."""
    return rounded(max(length, LEAST))

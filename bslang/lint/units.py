"""W405: numbers of blocks that were probably meant as numbers of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from bslang.ir.pattern import Pattern, Primitive
from bslang.ir.signature import INFINITE, Count, Kind, Range, arguments
from bslang.ir.values import numbers

LIKE_TOKENS = 128
"""A number of blocks from which on it reads like one of tokens, where no length says otherwise."""

COUNTS = (Kind.COUNT, Kind.COUNTS, Kind.INDICES)
"""Kinds of arguments that count blocks or tokens."""


@dataclass(frozen=True)
class Slip:
    """A primitive with a number of blocks that is large.

    blocks: the largest; tokens: how many those are; written: the primitive with tokens in its place.
    """

    subject: Primitive
    blocks: int
    tokens: int
    written: Primitive


def slips(pattern: Pattern, block: tuple[int, int], length: int | None) -> Iterator[Slip]:
    """Primitives with a number of blocks that passes the sequence, or without a length LIKE_TOKENS.

    block: sides in tokens; length: of the sequence in tokens.
    """
    side = max(block)
    most = LIKE_TOKENS - 1 if length is None else -(-length // side)
    if side == 1:
        return
    for primitive in dict.fromkeys(pattern.primitives()):
        if primitive.tokens:
            continue
        fields = {
            a.name: getattr(primitive, a.name) for a in arguments(primitive) if a.kind in COUNTS
        }
        finite = (n for n in numbers(fields.values()) if isinstance(n, int) and n < INFINITE)
        blocks = max(map(abs, finite), default=0)
        if blocks > most:
            tokens = {name: _as_tokens(value) for name, value in fields.items()}
            yield Slip(primitive, blocks, blocks * side, replace(primitive, **tokens))  # type: ignore[type-var]  # every primitive is a dataclass


def _as_tokens(value: Any) -> Any:
    """An argument with all its numbers in tokens."""
    if isinstance(value, Count):
        return value if value.infinite else Count(value.value, tokens=True)
    if isinstance(value, Range):
        parts = (value.start, value.stop, value.step)
        return Range(*map(_as_tokens, parts))
    if isinstance(value, tuple):
        return tuple(map(_as_tokens, value))
    return value

"""Head dimensions: those of values may be others than those of queries and keys."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

GivenDims: TypeAlias = "int | tuple[int, int]"
"""One head dimension, or a pair (of q and k, of v)."""


class Dims(NamedTuple):
    """The head dimension of q and k, and that of v and the output; "192/128" as text, "64" where equal."""

    key: int
    value: int

    @classmethod
    def of(cls, given: GivenDims) -> Dims:
        """Those of one number, or of a pair."""
        return cls(given, given) if isinstance(given, int) else cls(*given)

    def __str__(self) -> str:
        return f"{self.key}" if self.key == self.value else f"{self.key}/{self.value}"

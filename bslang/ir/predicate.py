"""The predicate of a whole pattern: over arrays, to settle a block, or over terms, to print a mask."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import numpy as np

from bslang.budget import MASKS, spend
from bslang.ir.expr import Number, Term, Var, joined
from bslang.ir.fold import Fold, chosen_before
from bslang.ir.grid import At
from bslang.ir.pattern import (
    Complement,
    Difference,
    Intersection,
    Pattern,
    Primitive,
    Transpose,
    Union,
    Xor,
)

SYMBOLIC: Mapping[str, Number] = {
    name: Var(name) for name in ("n", "m", "len_q", "len_k", "head", "layer")
}
"""The environment in which every name of a pattern's numbers stands for itself."""

_EACH = 3000  # steps of a predicate of few pairs


def holds(pattern: Pattern, at: At, env: Mapping[str, Number]) -> Any:
    """Whether pairs belong to a pattern without drawn primitives; numbers are bound in `env`."""
    return _Holds(at, env)(pattern)


class _Holds(Fold[Any]):
    def __init__(self, at: At, env: Mapping[str, Number]) -> None:
        self.at, self.env = at, env

    def primitive(self, pattern: Primitive) -> Any:
        side = self.at.tokens
        if not isinstance(side.row, Term):
            spend(_EACH + pattern.operations() * np.broadcast(side.row, side.col).size, MASKS)
        return pattern.bind(self.env).predicate(self.at)

    def union(self, pattern: Union) -> Any:
        return joined(operator.or_, self.parts(pattern))

    def intersection(self, pattern: Intersection) -> Any:
        return joined(operator.and_, self.parts(pattern))

    def xor(self, pattern: Xor) -> Any:
        return joined(operator.xor, self.parts(pattern))

    def difference(self, pattern: Difference) -> Any:
        return self(pattern.left) & ~self(pattern.right)

    def complement(self, pattern: Complement) -> Any:
        return ~self(pattern.part)

    def transpose(self, pattern: Transpose) -> Any:
        env = self.env
        mirrored = {"n": env["m"], "m": env["n"], "len_q": env["len_k"], "len_k": env["len_q"]}
        return _Holds(self.at.transposed(), {**env, **mirrored})(pattern.part)

    heads = chosen_before

"""The predicate of a whole pattern: over arrays, to settle a block, or over terms, to print a mask."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

from bslang.ir.expr import Number, Var, joined
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


def holds(pattern: Pattern, at: At, env: Mapping[str, Number]) -> Any:
    """Whether pairs belong to a pattern without drawn primitives; numbers are bound in `env`."""
    if isinstance(pattern, Primitive):
        return pattern.bind(env).predicate(at)
    if isinstance(pattern, Transpose):
        mirrored = {"n": env["m"], "m": env["n"], "len_q": env["len_k"], "len_k": env["len_q"]}
        return holds(pattern.part, at.transposed(), {**env, **mirrored})
    parts = [holds(part, at, env) for part in pattern.parts]
    if isinstance(pattern, Complement):
        return ~parts[0]
    if isinstance(pattern, Union):
        return joined(operator.or_, parts)
    if isinstance(pattern, Intersection):
        return joined(operator.and_, parts)
    if isinstance(pattern, Xor):
        return joined(operator.xor, parts)
    assert isinstance(pattern, Difference)
    return parts[0] & ~parts[1]

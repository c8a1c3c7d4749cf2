"""mask_mod: a layout's set of pairs as a function that FlexAttention traces."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bslang.exchange.tiles import kinds
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.inputs import Inputs
from bslang.ir.bounds import LARGEST
from bslang.ir.expr import Number, Op, Var, evaluate
from bslang.ir.mask import Masks
from bslang.ir.ordered import order_of
from bslang.ir.pattern import Pattern
from bslang.limits import MAX_NUMBER

MaskMod = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""mask_mod(batch, head, query, key): whether a pair of indices belongs, as FlexAttention calls it."""

Names = Mapping[str, Any]
"""What the names in a predicate of `Masks` stand for: tensors, or numbers."""


@dataclass(frozen=True, eq=False)
class Given:
    """What a call gives, for all heads the same. labels: of the queries, int32 (labels, batch or 1, len_q),
    and of the keys, (labels, batch or 1, len_k), in the order of `Inputs`; selections: which cells are
    listed, bool (batch or 1, rows, columns), in that order. batch: for how many rows; 0 where for any.
    """

    labels: tuple[torch.Tensor, torch.Tensor] | None
    selections: tuple[torch.Tensor, ...]
    batch: int


def mask_mod(
    pattern: Pattern | None,
    graphs: Sequence[BlockGraph],
    head_graph: torch.Tensor | None,
    inputs: Inputs,
    given: Given,
    device: torch.device,
) -> MaskMod:
    """The mask_mod of a call.

    pattern: with its head and layer bound, where its formula says it all. None where blocks are drawn
    or heads differ: then a table says which blocks are full, and formulas what is left of the others.
    graphs: on grids that differ in the head alone. head_graph: int (heads,), the graph of each head.
    inputs: what a call gives, and given: its values.
    """
    grid = graphs[0].grid
    start, rows, columns, first = grid.q.start, grid.q.block, grid.k.block, grid.q.first
    asked = graphs[0].residuals if pattern is None else (pattern,)
    masks = Masks.of(asked, (rows, columns), inputs)
    predicates = [_function(mask) for mask in masks.masks]
    wide = any(primitive.wide for part in asked for primitive in part.primitives())
    # As in a schedule: what lies beyond 32 bits lies beyond every position.
    most = LARGEST if wide else MAX_NUMBER
    exact = [[evaluate(p, graph.grid.env()) for p in masks.parameters] for graph in graphs]
    clipped = np.array(exact, dtype=object).clip(-most, most).astype(np.int64)
    parameters = torch.from_numpy(clipped).to(device, torch.int64 if wide else torch.int32)
    numbers = clipped[0].tolist()
    pairs = list(zip(*(part.unbind() for part in given.labels or ()), strict=True))
    chosen = list(zip(inputs.selections, given.selections, strict=True))
    of_tokens = order_of(*asked)
    order = (
        None
        if of_tokens is None
        else torch.tensor(of_tokens.positions, dtype=torch.int64, device=device)
    )

    def bound(b: torch.Tensor, h: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> Names:
        found: dict[str, Any] = {"q": q + start, "k": k}
        if order is not None:  # predicates ask for positions
            found = {"q": order[q + start], "k": order[k]}
        if wide:
            found = {name: position.long() for name, position in found.items()}
        for number, (of_q, of_k) in enumerate(pairs):
            found[f"q_label{number}"] = of_q[0, q] if of_q.shape[0] == 1 else of_q[b, q]
            found[f"k_label{number}"] = of_k[0, k] if of_k.shape[0] == 1 else of_k[b, k]
        for number, (cells, listed) in enumerate(chosen):
            row, col = (k, q + start) if cells.turned else (q + start, k)
            line, column = row // cells.rows, col // cells.cols
            if cells.turned:
                column = column - start // cells.cols
            else:
                line = line - start // cells.rows
            found[f"selected{number}"] = listed[0 if len(listed) == 1 else b, line, column]
        for number, value in enumerate(numbers):
            found[f"p{number}"] = value if head_graph is None else parameters[head_graph[h], number]
        return found

    if pattern is not None:

        def by_formula(
            b: torch.Tensor, h: torch.Tensor, q: torch.Tensor, k: torch.Tensor
        ) -> torch.Tensor:
            sees: torch.Tensor | bool = predicates[0](bound(b, h, q, k))
            # A bool where the predicate has neither position: `{i, j : n > 4}`.
            return torch.full_like(q, sees, dtype=torch.bool) if isinstance(sees, bool) else sees

        return by_formula

    tables = np.stack([kinds(graph)[first:] for graph in graphs])
    table = torch.from_numpy(tables).to(device)
    left = [(kind, predicates[kind]) for kind in np.unique(tables[tables >= 0]).tolist()]

    def by_table(
        b: torch.Tensor, h: torch.Tensor, q: torch.Tensor, k: torch.Tensor
    ) -> torch.Tensor:
        graph = 0 if head_graph is None else head_graph[h]
        kind = table[graph, (q + start) // rows - first, k // columns]
        held = kind == FULL
        names = bound(b, h, q, k)
        for number, predicate in left:
            held = held | ((kind == number) & predicate(names))
        return held

    return by_table


def _function(number: Number) -> Callable[[Names], Any]:
    """A number or predicate as a function of what its names stand for."""
    if isinstance(number, Var):
        name = number.name
        return lambda names: names[name]
    if not isinstance(number, Op):
        return lambda names: number
    op = _OPERATORS[number.op]
    args = [_function(arg) for arg in number.args]
    if len(args) == 1:
        (only,) = args
        return lambda names: op(only(names))
    left, right = args
    return lambda names: op(left(names), right(names))


def _minimum(a: Any, b: Any) -> Any:
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.minimum(a, b)
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    return a.clamp(max=b) if isinstance(a, torch.Tensor) else b.clamp(max=a)


def _maximum(a: Any, b: Any) -> Any:
    return -_minimum(-a, -b)


def _isqrt(x: torch.Tensor) -> torch.Tensor:
    """The square root rounded down, bit by bit: positions have 30."""
    root = torch.zeros_like(x)
    for bit in reversed(range(31 if x.dtype == torch.int64 else 15)):
        longer = root + (1 << bit)
        root = torch.where(longer * longer <= x, longer, root)
    return root


def _log2(x: torch.Tensor) -> torch.Tensor:
    """The logarithm rounded down: how many powers of two from 2 on a number reaches."""
    power = torch.zeros_like(x)
    for bit in range(1, 62 if x.dtype == torch.int64 else 31):
        power = power + (x >= (1 << bit)).to(x.dtype)
    return power


def _not(x: Any) -> Any:
    return not x if isinstance(x, bool) else ~x


def _int(x: Any) -> Any:
    return int(x) if isinstance(x, bool) else x.long()


_OPERATORS: Mapping[str, Callable[..., Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
    "not": _not,
    "int": _int,
    "abs": abs,
    "min": _minimum,
    "max": _maximum,
    "isqrt": _isqrt,
    "log2": _log2,
}

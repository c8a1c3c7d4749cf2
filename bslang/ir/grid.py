"""The square that a layout covers: query positions down, key positions across, both cut into blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bslang.inputs import ROW, Inputs
from bslang.ir.expr import Number, Term, Var
from bslang.ir.order import Order

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Axis:
    """One side of the square.

    `length` is what a pattern's own arithmetic sees (an index -1 is `length - 1`), `start` and
    `stop` bound the positions that are there: decoding has queries at the last few positions only.
    order: where the side counts places of tokens in an order, rather than positions.
    """

    length: int
    block: int
    start: int
    stop: int
    order: Order | None = None

    @property
    def blocks(self) -> int:
        """Number of blocks, the last one possibly short."""
        return -(-self.length // self.block)

    @property
    def first(self) -> int:
        """The block of the first position that is there."""
        return self.start // self.block

    def spans(self) -> tuple[Ints, Ints]:
        """First and last position that is there, of each block from `first` on."""
        block = np.arange(self.first, self.blocks, dtype=np.int64)
        return (
            np.maximum(block * self.block, self.start),
            np.minimum((block + 1) * self.block, self.stop) - 1,
        )

    def touched(self, low: Ints, high: Ints) -> tuple[Ints, Ints]:
        """The blocks [a, b) that hold some position of low..high (inclusive); a >= b for none."""
        low, high = np.maximum(low, self.start), np.minimum(high, self.stop - 1)
        some = low <= high
        return np.where(some, low // self.block, 0), np.where(some, high // self.block + 1, 0)

    def covered(self, low: Ints, high: Ints) -> tuple[Ints, Ints]:
        """The blocks [a, b) all of whose positions lie in low..high (inclusive); a >= b for none."""
        low, high = np.maximum(low, self.start), np.minimum(high, self.stop - 1)
        a = np.where(low <= self.start, self.first, -(-low // self.block))
        b = np.where(high >= self.stop - 1, self.blocks, (high + 1) // self.block)
        some = low <= high
        return np.where(some, a, 0), np.where(some, b, 0)

    def size(self, tokens: bool) -> int:
        """Number of indices, counted in tokens or in blocks."""
        return max(self.length, self.stop) if tokens else self.blocks


@dataclass(frozen=True)
class Grid:
    """Query positions by key positions, for one head of one layer."""

    q: Axis
    k: Axis
    head: int = 0
    layer: int = 0

    @classmethod
    def of(
        cls,
        len_q: int,
        len_k: int,
        block: tuple[int, int],
        align: str = "end",
        *,
        head: int = 0,
        layer: int = 0,
    ) -> Grid:
        """The grid of a call with `len_q` queries and `len_k` keys.

        align: "end" puts the queries at the last positions of the keys, "start" at the first.
        Raises ValueError for an unknown `align`, or more queries than keys at the end.
        """
        if align == "end":
            if len_q > len_k:
                raise ValueError(
                    f"{len_q} queries cannot be the last positions of {len_k} keys; "
                    'pass align="start" where queries and keys are different sequences'
                )
            queries = Axis(len_k, block[0], len_k - len_q, len_k)
            return cls(queries, Axis(len_k, block[1], 0, len_k), head, layer)
        if align == "start":
            queries = Axis(len_q, block[0], 0, len_q)
            return cls(queries, Axis(len_k, block[1], 0, len_k), head, layer)
        raise ValueError(f'align must be "end" or "start", not {align!r}')

    @property
    def n(self) -> int:
        """Number of block rows."""
        return self.q.blocks

    @property
    def m(self) -> int:
        """Number of block columns."""
        return self.k.blocks

    @property
    def pairs(self) -> int:
        """Number of (query, key) pairs."""
        return (self.q.stop - self.q.start) * (self.k.stop - self.k.start)

    def transposed(self) -> Grid:
        """Keys down, queries across."""
        return replace(self, q=self.k, k=self.q)

    def whole(self) -> Grid:
        """The same block rows over all columns, with every block filled up."""
        return replace(
            self,
            q=replace(self.q, start=self.q.first * self.q.block, stop=self.n * self.q.block),
            k=replace(self.k, start=0, stop=self.m * self.k.block),
        )

    def square(self) -> Grid:
        """The whole blocks of every row, those before the first query included."""
        return replace(self, q=replace(self.q, start=0)).whole()

    def env(self) -> dict[str, Number]:
        """What the names in a pattern's numbers stand for on this grid."""
        return {
            "n": self.n,
            "m": self.m,
            "len_q": self.q.length,
            "len_k": self.k.length,
            "head": self.head,
            "layer": self.layer,
        }


@dataclass(frozen=True)
class Side:
    """Indices of one unit: `row` and `col` (arrays or terms) with `rows` and `cols` of them in all."""

    row: Any
    col: Any
    rows: Any
    cols: Any

    def transposed(self) -> Side:
        return Side(self.col, self.row, self.cols, self.rows)


@dataclass(frozen=True)
class At:
    """Where a predicate is asked: token positions and the blocks that hold them.

    Holds NumPy arrays that broadcast (the oracle) or terms (the compiler, printing a mask).
    `candidates(pattern, every_row=False)`, for the oracle only, gives the non-empty blocks of a pattern
    as a boolean matrix: of the rows that hold queries, or of all.
    `labels` are those of the queries and keys by name, where the run-time labels of a call are known.
    `cells(cells, at)` says which pairs lie in the cells that a call lists, where it is known; `turned`:
    whether queries and keys are exchanged.
    """

    tokens: Side
    blocks: Side
    candidates: Any = None
    labels: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    cells: Callable[[Any, At], Any] | None = None
    turned: bool = False

    def selected(self, cells: Any) -> Any:
        """Which pairs lie in the cells (`bslang.ir.ranges.Cells`) that the call lists."""
        assert self.cells is not None
        return self.cells(cells, self)

    def unit(self, tokens: bool) -> Side:
        """The indices that a number with (or without) the suffix `t` counts."""
        return self.tokens if tokens else self.blocks

    def transposed(self) -> At:
        labels = {name: (k, q) for name, (q, k) in self.labels.items()}
        sides = self.tokens.transposed(), self.blocks.transposed()
        return At(*sides, None, labels, self.cells, not self.turned)

    @classmethod
    def symbolic(cls, block: tuple[int, int], inputs: Inputs | None = None) -> At:
        """Terms over the token positions `q` and `k` of one pair, and what a call knows of it.

        The label number i, in the order of `inputs`, stands as `q_label{i}` and `k_label{i}`, and whether
        selection i has the pair as `selected{i}`: what a spec calls them never reaches generated code.
        """
        inputs = inputs or Inputs()
        q, k = Term(Var("q")), Term(Var("k"))
        names: list[Number] = [Var(name) for name in ("len_q", "len_k", "n", "m")]
        len_q, len_k, n, m = (Term(name) for name in names)
        pairs = {}
        for i, label in enumerate(inputs.labels):
            of_q, of_k = Term(Var(f"q_label{i}")), Term(Var(f"k_label{i}"))
            pairs[label.name] = (of_q, of_q if label.sides == ROW else of_k)

        def selected(cells: Any, at: At) -> Term:
            number = inputs.selections.index(cells.selection(block, at.turned))
            return Term(Var(f"selected{number}")) != 0

        tokens, blocks = Side(q, k, len_q, len_k), Side(q // block[0], k // block[1], n, m)
        return cls(tokens, blocks, None, pairs, selected)

    @classmethod
    def positions(
        cls,
        grid: Grid,
        q: Ints,
        k: Ints,
        candidates: Any = None,
        labels: Mapping[str, tuple[Ints, Ints]] | None = None,
        cells: Callable[[Any, At], Any] | None = None,
    ) -> At:
        """Arrays of positions that broadcast against each other."""
        return cls(
            Side(q, k, grid.q.length, grid.k.length),
            Side(q // grid.q.block, k // grid.k.block, grid.n, grid.m),
            candidates,
            labels or {},
            cells,
        )

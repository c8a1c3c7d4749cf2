"""Recognising: a mask back to an expression of the language that is short, and exactly it.

A mask is taken as it is, or as what `causal` (in blocks, `last(inf)`) leaves of something simpler. That is
covered greedily by candidates, each of which is asked of the language's own oracle. What they leave over,
where it is whole blocks, becomes a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

from bslang.errors import BslangError, LimitError, PatternError
from bslang.exchange.candidates import Sight, candidates
from bslang.ir.grid import Axis, Grid
from bslang.ir.oracle import dense
from bslang.ir.runs import Bools
from bslang.limits import MAX_TABLE_BYTES
from bslang.patterns.table import Matrix
from bslang.resolve.program import Program, Resolved
from bslang.syntax.reader import read
from bslang.syntax.source import Source

_LONGEST = 120
"""Characters of an expression that is still preferred to a table."""

_TERMS = 6
"""Operands of a union that is looked for."""

_PLAIN = 40
"""Cost of an expression beside which no other is looked for."""

Packed = npt.NDArray[np.uint8]

Terms = list[tuple[str, Bools]]
"""Operands of a union, each with its cells."""


def recognise(masks: Bools, block: tuple[int, int], align: str = "end") -> Resolved:
    """The layout of some masks, bool (heads, len_q, len_k): it is exactly these at their length.

    Raises PatternError, with a pair at fault, for a mask that no expression has and that is not made of
    blocks; LimitError for a table that is too large; ValueError as `Grid.of`.
    """
    grid = Grid.of(masks.shape[1], masks.shape[2], block, align)
    found: dict[bytes, Found] = {}
    texts, tables = list[str](), dict[str, Matrix]()
    for mask in masks:
        key = np.packbits(mask).tobytes()
        if key not in found:
            found[key] = _expression(mask, grid)
        texts.append(found[key].text)
        tables.update(found[key].tables)
    resolved = _resolved(_of_heads(texts), block, tables)
    for head, mask in enumerate(masks):
        assert np.array_equal(dense(resolved.pattern, replace(grid, head=head)), mask), str(
            resolved
        )
    return resolved


def as_masks(given: Any) -> Bools:
    """A mask that a user has, as bool (heads, len_q, len_k).

    given: a tensor or array of truth values, (len_q, len_k) or (heads, len_q, len_k). Raises TypeError or
    ValueError where it is none.
    """
    array = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
    if array.dtype != np.bool_:
        raise TypeError(f"a mask must be bool, True where a query sees a key, not {array.dtype}")
    if array.ndim not in (2, 3) or array.size == 0:
        raise ValueError(
            "a mask must have shape (queries, keys) or (heads, queries, keys), none of them 0; "
            f"this one has {array.shape}"
        )
    return array if array.ndim == 3 else array[None]


def _of_heads(texts: list[str]) -> str:
    if len(set(texts)) == 1:
        return texts[0]
    starts = [head for head, text in enumerate(texts) if head == 0 or text != texts[head - 1]]
    stops = [*starts[1:], len(texts)]
    branches = [f"{a}:{b} -> {texts[a]}" for a, b in zip(starts, stops, strict=True)]
    return f"heads {{ {'; '.join(branches)} }}"


def _resolved(text: str, block: tuple[int, int], tables: Mapping[str, Matrix]) -> Resolved:
    return Program(read(Source("<mask>", text)), block, tables).pick(None, "layout", {})


@dataclass(frozen=True)
class Found:
    """An expression, and the tables that it names."""

    text: str
    tables: Mapping[str, Matrix] = field(default_factory=dict)


@dataclass(frozen=True)
class _Frame:
    """The cells that a mask is looked at in: tokens, or whole blocks as if each were a token."""

    grid: Grid
    tokens: bool
    square: bool
    known: dict[str, tuple[Packed, tuple[int, ...]] | None] = field(default_factory=dict)

    @classmethod
    def of_blocks(cls, grid: Grid) -> _Frame:
        rows, columns = Axis(grid.n, 1, grid.q.first, grid.n), Axis(grid.m, 1, 0, grid.m)
        return cls(Grid(rows, columns), False, grid.q.block == grid.k.block)

    @classmethod
    def of_tokens(cls, grid: Grid) -> _Frame:
        return cls(grid, True, grid.q.block == grid.k.block)

    def mask(self, text: str) -> Bools | None:
        """The cells of an expression, from the oracle; None where it means nothing here."""
        if text not in self.known:
            block = (self.grid.q.block, self.grid.k.block)
            try:
                mask = dense(_resolved(text, block, {}).pattern, self.grid)
                self.known[text] = (np.packbits(mask), mask.shape)
            except BslangError:
                self.known[text] = None
        if (known := self.known[text]) is None:
            return None
        packed, shape = known
        return np.unpackbits(packed, count=shape[0] * shape[1]).astype(bool).reshape(shape)

    def fitting(self, wanted: Bools, allowed: Bools) -> Iterator[tuple[str, Bools]]:
        """Candidates that hold nothing but what is allowed."""
        for text in dict.fromkeys(self._texts(wanted, allowed)):
            mask = self.mask(text)
            if mask is not None and not (mask & ~allowed).any():
                yield text, mask

    def _texts(self, wanted: Bools, allowed: Bools) -> Iterator[str]:
        q = self.grid.q
        if self.tokens:
            yield from candidates(Sight(allowed, wanted, q.start, "t", True))
            some, whole = _of_blocks(wanted, self.grid)[0], _of_blocks(allowed, self.grid)[1]
            wanted, allowed = some & whole, whole
        yield from candidates(Sight(allowed, wanted, q.first, "", self.square))


def _of_blocks(mask: Bools, grid: Grid) -> tuple[Bools, Bools]:
    """Which blocks hold a pair, and which every pair that is there: bool (rows from the first on, m)."""
    rows = np.arange(grid.q.first, grid.n) * grid.q.block - grid.q.start
    columns = np.arange(grid.m) * grid.k.block

    def reduced(join: np.ufunc) -> Bools:
        made: Bools = join.reduceat(join.reduceat(mask, np.maximum(rows, 0)), columns, axis=1)
        return made

    return reduced(np.logical_or), reduced(np.logical_and)


def _expression(mask: Bools, grid: Grid) -> Found:
    """The shortest expression that is found, one of blocks before one of tokens, a table at last."""
    if not mask.any():
        return Found("none")
    blocks = list(_block_views(mask, grid))
    texts = [text for view in blocks for text in view.expressions()]
    tokens = []
    if not texts:
        tokens = list(_token_views(mask, grid))
        if not blocks:
            texts = [text for view in tokens for text in view.expressions()]
    if texts:
        return Found(min(texts, key=_cost))
    tabled = [found for view in (*blocks, *tokens) if (found := view.with_table(grid))]
    if tabled:
        return min(tabled, key=lambda one: len(one.text))
    raise _not_blocks(mask, grid)


def _token_views(mask: Bools, grid: Grid) -> Iterator[_View]:
    frame = _Frame.of_tokens(grid)
    for within, inside in _bounds(mask, grid):
        yield _View(frame, mask, inside, within)


def _block_views(mask: Bools, grid: Grid) -> Iterator[_View]:
    """The ways to see a mask as whole blocks."""
    frame = _Frame.of_blocks(grid)
    for within, inside in _bounds(mask, grid):
        some, there = _of_blocks(mask, grid)[0], _of_blocks(inside, grid)[0]
        if (some & ~_of_blocks(mask | ~inside, grid)[1]).any():
            continue
        yield _View(frame, some, there, within)
        if not within and frame.square:
            yield from (
                _View(frame, some, lower, "last(inf)")
                for lower in [frame.mask("last(inf)")]
                if lower is not None and not (some & ~lower).any()
            )


def _bounds(mask: Bools, grid: Grid) -> Iterator[tuple[str, Bools]]:
    """Sets that hold the mask, and that it may be an intersection with, as their texts and pairs."""
    yield "", np.ones_like(mask)
    lower = np.arange(grid.k.stop) <= np.arange(grid.q.start, grid.q.stop)[:, None]
    if not (mask & ~lower).any():
        yield "causal", lower


@dataclass(frozen=True, eq=False)
class _View:
    """A mask as cells of a frame: `held` ones of those that are `inside` what `within` says."""

    frame: _Frame
    held: Bools
    inside: Bools
    within: str

    def expressions(self) -> Iterator[str]:
        """Expressions of exactly these cells, said as what belongs or as what does not."""
        for lists in (False, True):
            terms, left = self._cover(self.held, self.held | ~self.inside, lists)
            if not left.any():
                text = self._joined([text for text, _ in terms])
                yield from self._short(text)
                if _cost(text) <= _PLAIN and "diagonals(" not in text:
                    return
        terms, left = self._cover(self.inside & ~self.held, ~self.held)
        if not left.any() and terms:
            union = " | ".join(text for text, _ in terms)
            union = f"({union})" if len(terms) > 1 else union
            yield from self._short(f"{self.within} - {union}" if self.within else f"~{union}")

    def with_table(self, grid: Grid) -> Found | None:
        """What is recognised, and a table of the blocks that are left; None where these are not whole."""
        terms, _ = self._cover(self.held, self.held | ~self.inside, lists=False)
        terms = [term for term in terms if (term[1] & self.held).sum() > max(self.held.shape) // 2]
        left = self.held & ~_union(terms, self.held)
        if self.frame.tokens:
            some, whole = _of_blocks(left, grid)[0], _of_blocks(self.held | ~self.inside, grid)[1]
            if (some & ~whole).any():
                return None
            left = some
        if grid.n * grid.m > MAX_TABLE_BYTES:
            what = f"a table of {grid.n} x {grid.m} blocks"
            raise LimitError("MAX_TABLE_BYTES", MAX_TABLE_BYTES, what)
        blocks = np.zeros((grid.n, grid.m), dtype=bool)
        blocks[grid.q.first :] = left
        matrix = Matrix.of(blocks)
        texts = [*(text for text, _ in terms), f'table("{matrix.name}")']
        return Found(self._joined(texts), {matrix.name: matrix})

    def _joined(self, texts: list[str]) -> str:
        union = " | ".join(texts)
        if not self.within:
            return union
        if union == "all":
            return self.within
        return f"({union}) & {self.within}" if len(texts) > 1 else f"{union} & {self.within}"

    def _short(self, text: str) -> Iterator[str]:
        if len(text) <= _LONGEST:
            yield text

    def _cover(self, wanted: Bools, allowed: Bools, lists: bool = True) -> tuple[Terms, Bools]:
        """Candidates that together hold the wanted cells, and the cells that none holds.

        lists: whether those that list what they hold count as others do; they come last otherwise.
        """
        terms, left = Terms(), wanted
        while left.any() and len(terms) < _TERMS:
            found = [
                (
                    lists or _is_form(text),
                    int((mask & left).sum()),
                    -_cost(text),
                    text,
                    mask,
                )
                for text, mask in self.frame.fitting(left, allowed)
            ]
            best = max((one for one in found if one[1]), key=lambda one: one[:3], default=None)
            if best is None:
                break
            terms.append(best[3:])
            left = left & ~best[4]
        # What was chosen early may hold what others hold by now, and be said in fewer words, or not at all.
        for place in reversed(range(len(terms))):
            others = [term for at, term in enumerate(terms) if at != place]
            alone = wanted & terms[place][1] & ~_union(others, wanted)
            fitting = [
                (text, mask)
                for text, mask in self.frame.fitting(alone, allowed)
                if not (alone & ~mask).any()
            ]
            shorter = min([terms[place], *fitting], key=lambda term: _cost(term[0]))
            terms[place : place + 1] = [shorter] if alone.any() else []
        return terms, left


def _listed(text: str) -> int:
    """How many more numbers than two an expression lists."""
    return max(0, max((part.count(",") for part in text.split("(")), default=0) - 1)


def _is_form(text: str) -> bool:
    """Whether an expression says why it holds what it does, and does not list it."""
    return "diagonals(" not in text and not _listed(text)


def _cost(text: str) -> int:
    """Characters; more where a list takes the place of a form that says why these numbers."""
    return len(text) + 4 * _listed(text) + 10 * text.count("diagonals(")


def _union(terms: Terms, like: Bools) -> Bools:
    return reduce(np.logical_or, (mask for _, mask in terms), np.zeros_like(like))


def _not_blocks(mask: Bools, grid: Grid) -> PatternError:
    """The error for a mask that is not whole blocks, with a block that is mixed."""
    some, whole = _of_blocks(mask, grid)
    row, column = (int(x[0]) for x in (some & ~whole).nonzero())
    i = row + grid.q.first
    start = max(i * grid.q.block - grid.q.start, 0)
    rows = slice(start, (i + 1) * grid.q.block - grid.q.start)
    inside = mask[rows, column * grid.k.block : (column + 1) * grid.k.block]
    (seen, unseen) = ([int(x[0]) for x in (inside == truth).nonzero()] for truth in (True, False))
    (q1, k1), (q0, k0) = ((start + q, column * grid.k.block + k) for q, k in (seen, unseen))
    first = grid.q.start  # queries are counted as in the language, by the positions of the keys
    rows_of_mask = f" (rows {q1} and {q0} of the mask)" if first else ""
    return PatternError(
        f"no short expression matches this mask, and it is not made of blocks of "
        f"{grid.q.block}x{grid.k.block}: in the block of row {i} and column {column}, "
        f"query {q1 + first} sees key {k1} and query {q0 + first} not key {k0}{rows_of_mask}",
        hint="pass a smaller block that the mask is made of; block=1 takes any mask",
    )

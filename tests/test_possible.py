"""The masks of layouts: what is known of primitives without a length, and which residuals follow from it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from strategies import Case, cases, examples, mask_of

from bslang import compiler
from bslang.graph.blockgraph import FULL
from bslang.graph.lower import nonempty
from bslang.graph.place import FALSE, TRUE, UNDECIDED, Place, part_of, places, region
from bslang.graph.possible import is_sharp, residuals
from bslang.ir.grid import At, Grid, Ints
from bslang.ir.pattern import Primitive
from bslang.ir.region import Region, Slab
from bslang.ir.runs import Bools
from bslang.syntax.source import Source

SIDES = ((4, 4), (8, 8), (5, 3), (2, 7), (16, 4), (4, 16), (6, 4), (1, 1), (16, 16))


class _Related:
    """Draws primitives whose sets lie in, beside or across one another: their ends are few numbers."""

    def __init__(self, draw: st.DrawFn, unit: str) -> None:
        self.draw, self.unit = draw, unit

    def pick(self, *choices: str) -> str:
        return self.draw(st.sampled_from(choices))

    def end(self, least: int = 0) -> str:
        numbers = [0, 1, 3, 4, 5, 8, 9, 12, 15, 16, 17, 31] if self.unit else [0, 1, 2, 3, 5]
        return f"{self.draw(st.sampled_from([n for n in numbers if n >= least]))}{self.unit}"

    def band(self) -> str:
        form = self.pick("causal", "last", "window", "diagonals")
        if form == "causal":
            return "causal" if self.unit else "last(inf)"
        if form == "last":
            return f"last({self.end(1)})"
        if form == "window":
            left, right = self.pick(self.end(), "inf"), self.pick(self.end(), self.end(), "inf")
            step = self.pick("", "", "", f", step={self.end(1)}")
            return f"window(left={left}, right={right}{step})"
        ends = (self.pick("", "-") + self.end(1), self.end())
        return f"diagonals({self.pick(*ends, ':'.join(ends), f'{ends[0]}:', f':{ends[1]}')})"

    def range(self) -> str:
        items = [
            self.pick(
                f"0{self.unit}",
                f"{self.end()}:",
                f"{self.end()}:{self.end()}",
                f":{self.end(1)}",
                f"-{self.end(1)}:",
                f":{self.end(1)}:{self.end(1)}",
            )
            for _ in range(self.draw(st.integers(1, 2)))
        ]
        return f"{self.pick('cols', 'rows', 'global')}({', '.join(items)})"

    def chunks(self) -> str:
        back = self.pick("", "", ", back=1", ", ahead=1", ", back=inf", ", ahead=inf")
        more = self.pick("", "", f", {self.end(1)}")
        return f"chunks({self.end(1)}{more}{back})"

    def other(self) -> str:
        return self.pick("same(doc)", "same(part)", "all", f"every({self.end(1)})",
                         f"segments({self.end(1)}, rate={self.pick('1', '2')})")  # fmt: skip


@st.composite
def related(draw: st.DrawFn, square: bool, terms: int = 4) -> str:
    """Operators over primitives that have to do with one another."""
    if terms > 1 and draw(st.integers(0, 5)):
        left = draw(st.integers(1, terms - 1))
        op = draw(st.sampled_from("&&||-^"))
        one, other = draw(related(square, left)), draw(related(square, terms - left))
        return f"({one} {op} {other})"
    writer = _Related(draw, "t" if not square or draw(st.integers(0, 4)) else "")
    form = draw(st.sampled_from(["band", "band", "range", "chunks", "other"]))
    text: str = getattr(writer, form)()
    return draw(st.sampled_from(["{}", "{}", "{}", "~{}", "{}.T"])).format(text)


@st.composite
def related_cases(draw: st.DrawFn, terms: int = 4) -> Case:
    """Such patterns on grids of any length: ragged, with few queries, across two sequences."""
    block = draw(st.sampled_from(SIDES))
    spec = draw(related(block[0] == block[1], terms))
    align = draw(st.sampled_from(["end", "start"]))
    len_k = draw(st.integers(1, 70))
    few = st.integers(1, len_k if align == "end" else 70)
    return Case(spec, block, draw(st.one_of(st.just(len_k), few)), len_k, align)


@examples(600)
@given(related_cases())
@example(Case("causal - last(3t)", (8, 8), 17, 17, "end"))
@example(Case("(last(3t) | cols(0:2t)) & causal", (8, 8), 1, 9, "end"))
@example(Case("chunks(4t) & chunks(8t) & causal.T", (6, 4), 5, 30, "start"))
@example(Case("diagonals(0t, 3t) & window(left=2t, right=-1t)", (8, 2), 1, 11, "end"))
def test_masks_agree_with_the_oracle_token_by_token(case: Case) -> None:
    """What folding leaves has a mask at every length, and the mask is right on its blocks."""
    assume(case.has_meaning())
    graph = case.lowered()
    np.testing.assert_array_equal(mask_of(graph, case.labels), case.mask())
    assert graph.residuals == residuals(case.resolved.pattern, case.block)


def test_blocks_that_a_longer_residual_brings_to_a_mask_are_settled() -> None:
    """A short block between two diagonals is undecided, and empty: it is not in the exact mask's blocks."""
    spec = "heads { 0 -> diagonals(0t, 3t) & window(left=2t, right=0t); 1: -> diagonals(0t) }"
    case = Case(spec, (8, 2), 1, 11, "end")
    assert list(map(str, residuals(case.resolved.pattern, (8, 2)))) == ["diagonals(0t)"]
    graph = compiler.lower(case.resolved, case.len_q, case.len_k)
    assert graph.visited.dense(graph.grid.n)[1].tolist() == [False] * 5 + [True]


def truth(primitive: Primitive, grid: Grid) -> tuple[Ints, Ints, Bools]:
    """Queries (rows, 1) and keys (1, columns) of a grid, and which pairs belong, labels being equal."""
    q = np.arange(grid.q.start, grid.q.stop)[:, None]
    k = np.arange(grid.k.start, grid.k.stop)[None, :]
    labels = dict.fromkeys(("doc", "part"), (q * 0, k * 0))
    mask = primitive.bind(grid.env()).predicate(At.positions(grid, q, k, labels=labels))
    return q, k, np.broadcast_to(mask, (q.size, k.size))


def holds(slab: Slab, q: Ints, k: Ints) -> Bools:
    ends = ((slab.query, q), (slab.key, k), (slab.offset, q - k))
    (a, b), (c, d), (e, f) = (((low <= x), (x <= high)) for (low, high), x in ends)
    found: Bools = a & b & c & d & e & f
    return found


def blocks(grid: Grid) -> Iterator[tuple[int, int, slice, slice]]:
    """Every block: its row and column, and where its pairs lie among those of the grid."""
    spans = [list(zip(*axis.spans(), strict=True)) for axis in (grid.q, grid.k)]
    for i, (q0, q1) in enumerate(spans[0]):
        for j, (k0, k1) in enumerate(spans[1]):
            rows = slice(int(q0) - grid.q.start, int(q1) - grid.q.start + 1)
            columns = slice(int(k0) - grid.k.start, int(k1) - grid.k.start + 1)
            yield i + grid.q.first, j + grid.k.first, rows, columns


def leaves(case: Case) -> list[Primitive]:
    """The primitives of a pattern that have a predicate of single pairs."""
    found = (part for p in case.resolved.pattern.primitives() for part in p.expand().primitives())
    return [primitive for primitive in found if not primitive.drawn]


@examples(300)
@given(st.one_of(related_cases(terms=2), cases(terms=2, blocks=SIDES, one_length=False)))
@example(Case("diagonals(0:5t, 5t:9t)", (4, 4), 30, 30, "end"))
@example(Case("global(:4t, 9t:12t, 3t)", (4, 4), 30, 30, "end"))
@example(Case("window(left=-3t, right=5t)", (5, 3), 20, 30, "start"))
def test_regions_bound_the_pairs_and_the_blocks_of_every_primitive(case: Case) -> None:
    assume(case.has_meaning())
    for primitive in leaves(case):
        found = region(primitive, case.block)
        q, k, mask = truth(primitive, case.grid)
        for slabs, belongs in ((found.inside, mask), (found.outside, ~mask)):
            bounded = [holds(slab, q, k) for slab in slabs]
            none = np.zeros_like(mask)
            assert not (belongs & ~np.logical_or.reduce([none, *bounded])).any(), primitive
            for _, _, rows, columns in blocks(case.grid):
                if belongs[rows, columns].all():
                    assert any(bound[rows, columns].all() for bound in bounded), primitive


def states(primitive: Primitive, grid: Grid) -> dict[tuple[int, int], int]:
    """The state of each block, as lowering decides it."""
    decided = primitive.bind(grid.env()).blocks(grid, nonempty)
    must, may = decided.must.dense(grid.n), decided.may.dense(grid.n)
    return {
        (i, j): TRUE if must[i, j] else UNDECIDED if may[i, j] else FALSE
        for i, j, _, _ in blocks(grid)
    }


@examples(200)
@given(st.one_of(related_cases(terms=2), cases(terms=2, blocks=SIDES, one_length=False)))
def test_every_state_that_two_primitives_have_on_a_block_has_a_place(case: Case) -> None:
    assume(case.has_meaning())
    parts = leaves(case)[:2]
    found = [states(part, case.grid) for part in parts]
    for cell in found[0] if parts else ():
        where = [places(part, of[cell], case.block) for part, of in zip(parts, found, strict=True)]
        met = where[0]
        for other in where[1:]:
            met = [both for a in met for b in other if (both := a.meet(b, case.block))]
        assert met, (parts, cell)


@examples(200)
@given(related_cases(terms=2))
def test_undecided_blocks_of_exact_regions_have_pairs_of_both_kinds(case: Case) -> None:
    assume(case.has_meaning())
    for primitive in leaves(case):
        found = region(primitive, case.block)
        if primitive.awaits_call or not found.exact or found == Region():
            continue
        mask, decided = truth(primitive, case.grid)[2], states(primitive, case.grid)
        for i, j, rows, columns in blocks(case.grid):
            part = mask[rows, columns]
            assert decided[i, j] != UNDECIDED or (part.any() and not part.all()), primitive


WIDTHS = ["3t", "4t", "6t", "8t", "12t", "4t, 8t", "8t, 4t"]
REACH = ["", ", back=1", ", ahead=2", ", back=2, ahead=2", ", back=inf"]


def test_a_part_lies_within_the_whole() -> None:
    chunks = [f"chunks({widths}{reach})" for widths in WIDTHS for reach in REACH]
    found = [
        next(compiler.resolve(Source("<case>", text), block=4).pattern.primitives())
        for text in chunks
    ]
    grids = [Grid.of(50, 50, (4, 4)), Grid.of(7, 61, (4, 4)), Grid.of(60, 33, (4, 4), "start")]
    masks = [[truth(one, grid)[2] for grid in grids] for one in found]
    within = 0
    for one, its in zip(found, masks, strict=True):
        for other, others in zip(found, masks, strict=True):
            if part_of(one, other):
                within += one != other
                assert not any((a & ~b).any() for a, b in zip(its, others, strict=True))
    assert within > 20


MASKS = {
    "(last(500t) | cols(0:4t)) & causal": ["cols(0t:4t)", "last(500t)", "last(500t) | cols(0t:4t)"],
    "last(500t) & causal": ["last(500t)"],
    "last(500t) | causal": ["causal"],
    "causal - last(500t)": ["~last(500t)"],
    "causal ^ last(500t)": ["~last(500t)"],
    "last(500t) - causal": [],
    "last(500t) & ~causal": [],
    "causal & diagonals(-40t:0t)": [],
    "causal | ~causal": [],
    # One query, or one key, can be on one side of the diagonal and touch it.
    "causal.T & causal": ["causal", "causal.T", "causal.T & causal"],
    "window(left=900t, right=0t) & last(100t)": ["last(100t)"],
    "cols(0:4t) & cols(0:9t)": ["cols(0t:4t)"],
    "cols(0:4t) | cols(0:9t)": ["cols(0t:9t)"],
    "cols(0:4t) & cols(4t:9t)": [],
    "cols(0:64t)": [],  # whole blocks
    "cols(0:4t) | global(0:4t)": ["global(0t:4t)"],
    "rows(9t:) & rows(90t:)": ["rows(90t:)"],
    "cols(0t) & causal": ["cols(0t)"],
    "chunks(100t) & chunks(400t)": ["chunks(100t)"],
    "chunks(100t) | chunks(400t)": ["chunks(400t)"],
    "chunks(100t) & chunks(150t)": ["chunks(100t)", "chunks(100t) & chunks(150t)", "chunks(150t)"],
    "same(doc) & same(doc) & causal": ["same(doc)", "same(doc) & causal"],
    "same(doc) & last(256t) & causal": ["same(doc)", "same(doc) & last(256t)"],
    "same(doc) & ~same(doc)": [],
    "heads { 0 -> causal; 1: -> last(500t) }": ["last(500t)"],
    "heads { 0 -> causal; 1: -> ~last(500t) }": ["causal", "~last(500t)"],
    "causal & last(3)": ["causal"],
    "causal - last(3)": [],
    # Within one block of 64, all of these ends can meet.
    "causal - last(20t)": ["causal - last(20t)", "~last(20t)"],
    "(last(20t) | cols(0:4t)) & causal": [
        "(last(20t) | cols(0t:4t)) & causal", "causal", "cols(0t:4t)", "last(20t)", "last(20t) | cols(0t:4t)",
    ],
}  # fmt: skip


@pytest.mark.parametrize("spec", MASKS)
def test_masks_are_as_short_and_as_few_as_can_be(spec: str) -> None:
    resolved = compiler.resolve(Source("<case>", spec), block=64)
    assert sorted(map(str, residuals(resolved.pattern, (64, 64)))) == sorted(MASKS[spec])


REACHED = [
    "(last(500t) | cols(0:4t)) & causal",
    "(last(20t) | cols(0:4t)) & causal",
    "causal.T & causal",
    "causal - last(20t)",
    "(window(301t) | global(0:64t)) & causal",
    "window(301t) | global(0:1t)",
    "(last(100t) | cols(0:4t) | rows(-64t:)) & causal",
    "chunks(100t) & chunks(400t) & causal",
    "chunks(100t) & chunks(150t)",
    "same(doc) & (last(200t) | cols(0:4t)) & causal",
    "causal | cols(0:100t)",
    "(cols(0:30t, 64t:70t) | diagonals(0:100t, 200t:220t)) & causal",
]


@pytest.mark.parametrize("spec", REACHED)
def test_every_mask_is_the_mask_of_some_block(spec: str) -> None:
    resolved = compiler.resolve(Source("<case>", spec), block=64)
    lengths = (1, 2, 65, 127, 130, 190, 250, 400, 700, 1100)
    grids = [(n, n, "end") for n in lengths]
    grids += [(few, n, align) for few in (1, 40, 65) for n in lengths for align in ("end", "start")]
    found: set[int] = set()
    for len_q, len_k, align in grids:
        if align == "start" or len_q <= len_k:
            found |= set(compiler.lower(resolved, len_q, len_k, align).kind.tolist())
    assert found - {FULL} == set(range(len(residuals(resolved.pattern, resolved.block))))


def test_states_that_fit_two_by_two_and_not_together_leave_no_mask() -> None:
    """Keys from 64 on, queries before them, and no key after its query: any two are possible, not all."""
    spec = "last(9t) & cols(64t:) & rows(:64t)"
    assert not residuals(compiler.resolve(Source("<case>", spec), block=64).pattern, (64, 64))


HOSTILE = {
    "bands": " | ".join(f"window(left={10 * i}t, right={7 * i}t)" for i in range(1, 25)),
    "indices": " ^ ".join(
        "global(" + ", ".join(f"{i + j * 37}t" for j in range(40)) + ")" for i in range(6)
    ),
    "repeated": " | ".join(["(last(500t) & causal - cols(0:4t, 9t, 99t:200t))"] * 8),
    "labels": " & ".join(f"(same(a{i}) | last({i * 100 + 50}t))" for i in range(8)),
    "many": " | ".join(f"cols({i * 100}t:{i * 100 + 30}t)" for i in range(400)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_compared_is_bounded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = compiler.resolve(Source("<case>", HOSTILE[name]), block=64).pattern
    met = 0
    meet = Place.meet

    def counted(self: Place, other: Place, sides: tuple[int, int]) -> Place | None:
        nonlocal met
        met += 1
        return meet(self, other, sides)

    monkeypatch.setattr(Place, "meet", counted)
    residuals(pattern, (64, 64))
    is_sharp(pattern, (64, 64))
    assert 0 < met < 20_000

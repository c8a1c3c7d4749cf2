"""What lowering asks: formulas only where other parts leave blocks open, comparisons of two sides by their
bounds, unions at once. What it finds is compared with the oracle; what it costs is counted, not timed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples, mask_of

from bslang import compiler
from bslang.analysis.stats import asked_by_pairs
from bslang.errors import LimitError
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.graph.lower import lower
from bslang.ir.compared import Sides, sides
from bslang.ir.expr import Op
from bslang.ir.grid import Grid
from bslang.ir.oracle import dense
from bslang.ir.pattern import Pattern
from bslang.ir.runs import Runs
from bslang.patterns.builder import Builder
from bslang.patterns.indices import Rows
from bslang.syntax.source import Source

BLOCKS = [(4, 4), (1, 1), (5, 3), (3, 7)]
FORMULAS = (
    *("(q * 7 + k) % 5 < 2", "(q + k) % 3 == 0 | q * k % 4 == 1", "(q * k) % 7 <= k % 3"),
    *("abs(q * 2 - k * 3) % 5 > 1", "(q + 2 * k) // 5 % 2 == 0"),
)
CHEAP = (
    *("last(6t)", "causal", "rows(0:5t)", "cols(3t:9t)", "~last(7t)", "every(9t)", "strided(11t)"),
    *(
        "diagonals(0t, 4t, 5t:20t:3t)",
        "none",
        "all",
        "window(left=9t, right=5t, step=4t, wrap=true)",
    ),
)
SHAPES = (
    *("{c} & {f}", "{f} & {c} & {d}", "{c} - {f}", "{f} - {c}", "{c} | {f}", "({c} | {f}) & {d}"),
    *("{c} ^ {f} & {d}", "~({f} & {c})", "({f} - {c}).T & {d}", "({c} & {f}) - ({d} & {f})"),
    *("{d} & heads {{ 0 -> {f}; 1: -> {c} }}", "({c} & {f}.T) | ({d} - {f})"),
)
ONE_SIDED = {
    "q": ("q // 7 % 3", "q * q % 13", "q % 5 - 4", "3 * q", "isqrt(q)", "2", "q // 4 * 4 + 3"),
    "k": ("k // 3 % 4", "k * 5 % 11", "k", "(k < 9) * 6", "k * k // 7", "max(k, 6) - 3"),
}
COMPARED = (
    *("{f} {op} {g}", "{g} {op} {f}", "{f} - {g} {op} 1", "2 * ({f}) + 1 {op} 3 + {g}"),
    *("abs({f} - {g}) {op} 2", "max({f}, {g}) {op} 3", "min({f} + 1, {g}) {op} 2"),
    *("5 {op} abs({g} - {f})", "abs(min({f}, {g})) {op} 4"),
)


def resolved(text: str, block: tuple[int, int] = (64, 64)) -> Pattern:
    return compiler.resolve(Source("test.bsl", text), block=block).pattern


@st.composite
def grids(draw: st.DrawFn, block: tuple[int, int]) -> Grid:
    len_k = draw(st.integers(1, 40))
    align = draw(st.sampled_from(["end", "start"]))
    len_q = draw(st.integers(1, len_k if align == "end" else 40))
    return Grid.of(len_q, len_k, block, align, head=draw(st.integers(0, 1)))


def assert_lowers(pattern: Pattern, grid: Grid) -> BlockGraph:
    """Lowering agrees with the oracle, token by token and, in its full blocks, block by block."""
    graph, mask = lower(pattern, grid), dense(pattern, grid)
    np.testing.assert_array_equal(mask_of(graph), mask)
    return graph


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many pairs of blocks each question to a formula was of."""
    found: list[int] = []
    truths = Builder._truths

    def counted(self: Builder, grid: Grid, rows: object, columns: object) -> object:
        made = truths(self, grid, rows, columns)
        found.append(np.broadcast(*made).size)
        return made

    monkeypatch.setattr(Builder, "_truths", counted)
    return found


# ---- formulas beside other parts -----------------------------------------------------------------


@examples(400)
@given(st.data())
def test_formulas_beside_other_parts_mean_what_they_say(data: st.DataObject) -> None:
    block = data.draw(st.sampled_from(BLOCKS))
    cheap = CHEAP if block[0] == block[1] else CHEAP[:6]
    text = data.draw(st.sampled_from(SHAPES)).format(
        f=f"{{q, k : {data.draw(st.sampled_from(FORMULAS))}}}",
        c=data.draw(st.sampled_from(cheap)),
        d=data.draw(st.sampled_from(cheap)),
    )
    assert_lowers(resolved(text, block), data.draw(grids(block)))


@pytest.mark.parametrize(
    ("text", "a_row"),
    [
        ("last(64t) & {q, k : (q * 7 + k) % 5 < 2}", 2),
        ("{q, k : (q * 7 + k) % 5 < 2} & last(64t)", 2),
        ("last(64t) - {q, k : (q * 7 + k) % 5 < 2}", 2),
        ("(last(64t) & {q, k : (q * 7 + k) % 5 < 2}).T", 2),
        ("{q, k : (q * 7 + k) % 5 < 2 & q - 64 < k & k <= q}", 2),
        ("heads { 0: -> cols(0:64t) & {q, k : (q * 7 + k) % 5 < 2} }", 1),
        ("window(3) & (cols(0) | {q, k : (q * 7 + k) % 5 < 2})", 3),
        ("window(3) - (all - {q, k : (q * 7 + k) % 5 < 2})", 3),
        ("~(~window(3) | {q, k : (q * 7 + k) % 5 < 2})", 3),
        ("last(inf) - ~window(3) & causal & {q, k : (q * 7 + k) % 5 < 2}", 3),
    ],
)
def test_a_formula_is_asked_where_others_leave_blocks_open(
    text: str, a_row: int, asked: list[int]
) -> None:
    grid = Grid.of(2**20, 2**20, (64, 64))
    lower(resolved(text), grid)
    assert 0 < sum(asked) <= a_row * grid.n


def test_what_a_union_settles_is_not_asked(asked: list[int]) -> None:
    grid = Grid.of(2**12, 2**12, (64, 64))
    lower(resolved("last(inf) | ~window(3) | {q, k : (q * 7 + k) % 5 < 2}"), grid)
    assert sum(asked) == grid.n - 1  # the first block above the diagonal


def test_a_formula_by_itself_is_refused_where_it_would_be_asked_too_often() -> None:
    with pytest.raises(LimitError, match="MAX_MASK_WORK"):
        lower(resolved("{q, k : (q * 7 + k) % 5 < 2}"), Grid.of(2**20, 2**20, (64, 64)))


def test_runs_that_the_result_does_not_have_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself each part has some 200 million runs."""
    grid = Grid.of(2**20, 2**20, (64, 64))
    for text in ("strided(168t) & last(640t)", "last(640t) - ~every(80t)", "last(9) & strided(2)"):
        assert lower(resolved(text), grid).start.size <= 12 * grid.n


# ---- comparisons of two sides --------------------------------------------------------------------


@examples(500)
@given(st.data())
def test_comparisons_of_two_sides_mean_what_they_say(data: st.DataObject) -> None:
    block = data.draw(st.sampled_from(BLOCKS))
    tokens = block[0] != block[1] or data.draw(st.booleans())
    form = data.draw(st.sampled_from(COMPARED))
    predicate = form.format(
        f=data.draw(st.sampled_from(ONE_SIDED["q"])),
        g=data.draw(st.sampled_from(ONE_SIDED["k"])),
        op=data.draw(st.sampled_from(["<", "<=", ">", ">=", "==", "!="])),
    )
    beside = data.draw(st.sampled_from(["", " & last(5t)", " & rows(2t:9t)", " - cols(8t:12t)"]))
    names = "q, k" if tokens else "i, j"
    if not tokens:
        predicate = re.sub(r"\bq\b", "i", re.sub(r"\bk\b", "j", predicate))
        beside = beside.replace("t)", ")").replace("t:", ":")
    text = f"{{{names} : {predicate}}}{beside}"
    assert_lowers(resolved(text, block), data.draw(grids(block)))


@pytest.mark.parametrize(
    "predicate",
    [
        "q // 7 % 13 == k * k % 13",
        "q // 7 % 13 != k * k % 13",
        "q // 1000 % 13 <= k // 3000 % 15",
        "k // 3000 % 15 < q // 1000 % 13",
        "0 <= q // 64 * 64 + 63 - k < 500",
        "abs(q // 100 - k // 70) < 3",
        "max(q // 100, k // 70) >= 9",
        "q // 64 * 7919 % 4096 == k // 64 * 31 % 4096",
    ],
)
def test_comparisons_of_two_sides_ask_no_pair_of_blocks(predicate: str, asked: list[int]) -> None:
    pattern, grid = resolved(f"{{q, k : {predicate}}}"), Grid.of(2**20, 2**20, (64, 64))
    graph = lower(pattern, grid)
    assert graph.start.size <= 2 * 10**6 and not asked
    assert asked_by_pairs(pattern, grid) == []
    rows = np.random.default_rng(7).integers(0, grid.n, 20)
    kind = dict[tuple[int, int], int]()
    for row in rows.tolist():
        for run in range(graph.indptr[row], graph.indptr[row + 1]):
            columns = range(graph.start[run], graph.stop[run])
            kind.update({(row, column): int(graph.kind[run]) for column in columns})
    assert isinstance(pattern, Pattern)
    for row in rows[:6].tolist():
        q = np.arange(row * 64, row * 64 + 64)[:, None]
        for column in np.random.default_rng(row).integers(0, grid.m, 40).tolist():
            k = np.arange(column * 64, column * 64 + 64)[None, :]
            held = np.broadcast_to(_plain(predicate, q, k), (64, 64))
            if (row, column) not in kind:
                assert not held.any()
            elif kind[row, column] == FULL:
                assert held.all()


def _plain(predicate: str, q: np.ndarray, k: np.ndarray) -> np.ndarray:
    names = {"q": q, "k": k, "abs": abs, "max": np.maximum}
    if predicate.count("<") == 2:  # a chain
        low, middle, high = re.split("<=?", predicate)
        return (eval(low, names) <= eval(middle, names)) & (eval(middle, names) < eval(high, names))
    return eval(predicate, names)


def test_a_comparison_is_taken_apart_into_its_sides() -> None:
    pattern = resolved("{q, k : 2 * (q // 7 - k) + 3 < q % 5 - k % 3}")
    assert isinstance(pattern, Builder) and isinstance(pattern.condition, Op)
    found = sides(pattern.condition, ("q", "k"))
    assert isinstance(found, Sides) and found.op == "<"
    for mixed in ("q * k < 3", "(q + k) // 2 <= 9", "abs(q - k) % 3 == 1"):
        made = resolved(f"{{q, k : {mixed} & q * k > 0}}")
        assert isinstance(made, Builder) or made.parts
        assert sides(made.condition.args[0], ("q", "k")) is None  # type: ignore[union-attr]


# ---- chunks of many widths -----------------------------------------------------------------------


@examples(200)
@given(st.data())
def test_chunks_of_many_widths_mean_what_they_say(data: st.DataObject) -> None:
    block = data.draw(st.sampled_from([(4, 4), (1, 1), (7, 7)]))
    widths = data.draw(st.lists(st.integers(1, 6), min_size=9, max_size=25))
    back, ahead = data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))
    text = f"chunks({', '.join(f'{w}t' for w in widths)}, back={back}, ahead={ahead})"
    pattern, grid = resolved(text, block), data.draw(grids(block))
    ends = [0]
    while ends[-1] < 80:  # one index after another
        ends.append(ends[-1] + widths[min(len(ends) - 1, len(widths) - 1)])
    chunk = [number for number, (a, b) in enumerate(pairwise(ends)) for _ in range(a, b)]
    expected = [
        [-back <= chunk[k] - chunk[q] <= ahead for k in range(grid.k.start, grid.k.stop)]
        for q in range(grid.q.start, grid.q.stop)
    ]
    assert dense(pattern, grid).tolist() == expected
    assert_lowers(pattern, grid)


# ---- unions of many ------------------------------------------------------------------------------


@st.composite
def unions(draw: st.DrawFn) -> str:
    forms = (
        *(
            "cols({a}t:{b}t)",
            "rows({a}t:{b}t)",
            "diagonals({a}t:{b}t)",
            "{{q, k : {a} <= k < {b}}}",
        ),
        *(
            "rows({a}t:{b}t) & cols({c}t:{d}t)",
            "{{q, k : {a} <= q - k < {b}}}",
            "global({a}t:{b}t)",
        ),
        *("(rows({a}t:{b}t) & cols({c}t:{d}t) & causal)", "cols({a}t:{b}t).T", "cols({a}:{b})"),
    )
    few = draw(st.lists(st.sampled_from(forms), min_size=1, max_size=3))
    terms = []
    for _ in range(draw(st.integers(10, 30))):
        a, c = draw(st.integers(0, 38)), draw(st.integers(0, 38))
        b, d = a + draw(st.integers(1, 6)), c + draw(st.integers(1, 6))
        terms.append(draw(st.sampled_from(few)).format(a=a, b=b, c=c, d=d))
    text = " | ".join(terms)
    beside = draw(
        st.sampled_from(["{}", "({}) & causal", "causal - ({})", "~({})", "({}) ^ cols(0)"])
    )
    return beside.format(text)


@examples(200)
@given(unions(), st.sampled_from([(4, 4), (1, 1), (5, 5)]), st.data())
def test_unions_of_many_mean_what_they_say(
    text: str, block: tuple[int, int], data: st.DataObject
) -> None:
    assert_lowers(resolved(text, block), data.draw(grids(block)))


def test_a_union_of_many_asks_each_part_where_it_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    predicate = Rows.predicate

    def counted(self: Rows, at: object) -> object:
        made = predicate(self, at)  # type: ignore[arg-type]
        found.append(getattr(made, "size", 0))
        return made

    monkeypatch.setattr(Rows, "predicate", counted)
    pairs = []
    for count in (60, 240):
        found.clear()
        spans = [(100 * i, 100 * i + 90) for i in range(count)]
        text = " | ".join(f"rows({a}t:{b}t) & cols({a}t:{b}t)" for a, b in spans)
        graph = lower(resolved(f"({text}) & causal"), Grid.of(100 * count, 100 * count, (64, 64)))
        assert len(graph.residuals) == 1
        pairs.append(sum(found))
    assert 0 < pairs[1] <= 5 * pairs[0]


@given(st.lists(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), max_size=5), max_size=9))
def test_a_union_of_sets_is_theirs(sets: list[list[tuple[int, int]]]) -> None:
    made = [
        Runs.of_rows(
            70,
            np.zeros(len(each), dtype=np.int64),
            np.array([a for a, _ in each], dtype=np.int64),
            np.array([a + b for a, b in each], dtype=np.int64),
        )
        for each in sets
    ]
    cells = {cell for each in sets for a, b in each for cell in range(a, a + b)}
    found = Runs.union(70, made)
    assert found.cells().tolist() == sorted(cells)
    assert found == Runs.of_cells(70, np.array(sorted(cells), dtype=np.int64))


def test_a_part_that_changes_nothing_is_not_lowered() -> None:
    """By itself `strided(168t)` has more runs than lowering may hold."""
    grid = Grid.of(2**20, 2**20, (64, 64))
    with pytest.raises(LimitError, match="MAX_RUNS"):
        lower(resolved("strided(168t)"), grid)
    graph = lower(resolved("(strided(24t) | strided(168t) | last(48t)) & causal"), grid)
    assert graph.start.size == 49149
    assert [str(residual) for residual in graph.residuals].count("strided(168t)") == 0


@examples(150)
@given(st.data())
def test_diagonals_at_spacings_of_one_another_mean_what_they_say(data: st.DataObject) -> None:
    def part() -> str:
        step = data.draw(st.sampled_from([1, 2, 3, 4, 6, 9, 12]))
        return f"strided({step}t, offset={data.draw(st.integers(-3, 7))}t)"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bslang.graph.narrow.MUCH", 0)
        join = data.draw(st.sampled_from(["|", "&"]))
        text = f"({part()} {join} {part()} {join} {part()}) & {data.draw(st.sampled_from(CHEAP))}"
        block = data.draw(st.sampled_from([(4, 4), (1, 1)]))
        assert_lowers(resolved(text, block), data.draw(grids(block)))

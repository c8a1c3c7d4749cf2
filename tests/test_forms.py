"""Set-builders, compositions, `heads` and tables: what they mean, and what lowering makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from strategies import examples, mask_of, programs

from bslang import compiler
from bslang.analysis.stats import asked_by_pairs
from bslang.errors import BslangError, LimitError
from bslang.graph.lower import lower
from bslang.ir.bounds import bounds
from bslang.ir.composition import compose
from bslang.ir.expr import Op, over
from bslang.ir.grid import Grid
from bslang.ir.oracle import dense
from bslang.ir.runs import Bools, Runs
from bslang.patterns.builder import Builder
from bslang.resolve.program import Resolved
from bslang.syntax.diagnostics import SpecError
from bslang.syntax.source import Source
from grammar import Forms, builders, numbers


def resolved(text: str, block: tuple[int, int] = (4, 4)) -> Resolved:
    return compiler.resolve(Source("test.bsl", text), block=block)


def assert_lowers(found: Resolved, grid: Grid) -> None:
    """Lowering agrees with the dense oracle, token by token."""
    np.testing.assert_array_equal(mask_of(lower(found.pattern, grid)), dense(found.pattern, grid))


@st.composite
def grids(draw: st.DrawFn, block: tuple[int, int]) -> Grid:
    len_k = draw(st.integers(1, 40))
    align = draw(st.sampled_from(["end", "start"]))
    len_q = draw(st.integers(1, len_k if align == "end" else 40))
    return Grid.of(len_q, len_k, block, align, head=draw(st.integers(0, 5)))


@examples(400)
@given(st.data())
def test_set_builders_lower_to_what_they_say(data: st.DataObject) -> None:
    block = data.draw(st.sampled_from([(4, 4), (1, 1), (5, 3), (3, 7)]))
    text = data.draw(builders(block[0] != block[1] or data.draw(st.booleans())))
    found = resolved(text, block)
    assert resolved(str(found.pattern), block).pattern == found.pattern
    assert_lowers(found, data.draw(grids(block)))


@settings(max_examples=200)
@given(
    numbers(("q", "k"), 3),
    st.integers(0, 30),
    st.integers(0, 30),
    st.integers(0, 6),
    st.integers(0, 6),
)
def test_bounds_hold_every_value(text: str, q: int, k: int, wide: int, high: int) -> None:
    found = resolved(f"{{q, k : {text} == q + k}}").pattern
    assert isinstance(found, Builder) and isinstance(found.condition, Op)
    inner = found.condition.args[0]
    rows, columns = np.arange(q, q + wide + 1), np.arange(k, k + high + 1)
    values = np.broadcast_to(
        over(inner, {"q": rows[:, None], "k": columns[None, :]}), (wide + 1, high + 1)
    )
    ends = {"q": (q, q + wide), "k": (k, k + high)}
    low, most = bounds(inner, ends)
    assert low <= values.min() and values.max() <= most
    arrays = {name: tuple(np.full((1, 1), end) for end in pair) for name, pair in ends.items()}
    assert all(np.all(a == b) for a, b in zip(bounds(inner, arrays), (low, most), strict=True))


@pytest.mark.parametrize("unit", ["q, k", "i, j"])
@pytest.mark.parametrize("constant", ["0 < 1", "0 < 0", "n < 5", "n < n & 0 < 1", "1 <= n < 0 * n"])
def test_a_predicate_of_no_index_holds_for_all_pairs_or_none(unit: str, constant: str) -> None:
    for form in ("{x}", "~{x}", "{x}.T", "last(5t) | {x}", "causal ^ {x}", "causal - ~{x}"):
        found = resolved(form.format(x=f"{{{unit} : {constant}}}"))
        assert resolved(str(found.pattern)).pattern == found.pattern
        for text in compiler.emit(found, ["torch"]).values():
            compile(text, "layout.py", "exec")
        assert dense(found.pattern, Grid.of(9, 9, (4, 4))).dtype == bool
        for length in (9, 30):
            assert_lowers(found, Grid.of(length, length, (4, 4)))


def test_an_affine_predicate_costs_runs() -> None:
    million = Grid.of(2**20, 2**20, (64, 64))
    for text, runs in {
        "{q, k : q - k < 512}": 3,
        "{q, k : 0 <= q - k < 512}": 3,
        "{q, k : 2 * k <= q}": 2,
        "{i, j : j % 4096 == 3}": 4,
        "{q, k : q < 100}": 1,
    }.items():
        graph = lower(resolved(text, (64, 64)).pattern, million)
        assert graph.start.size <= runs * graph.grid.n, text


def test_a_predicate_of_pairs_has_a_limit() -> None:
    with pytest.raises(LimitError, match="MAX_MASK_WORK"):
        lower(
            resolved("{i, j : i * j % 7 == 3}", (64, 64)).pattern, Grid.of(2**21, 2**21, (64, 64))
        )


@examples(150)
@given(st.data())
def test_compositions_lower_to_products(data: st.DataObject) -> None:
    parts = [data.draw(programs(terms=2, forms=Forms(blocks=True))) for _ in range(2)]
    text = data.draw(
        st.sampled_from(["{0} @ {1}", "{0} ** 2", "{0} ** 3 & causal", "({0} @ {1}).T | {0} ** 2"])
    ).format(*(f"({part})" for part in parts))
    found = resolved(text)
    assert resolved(str(found.pattern)).pattern == found.pattern
    length = data.draw(st.integers(1, 40))
    grid = Grid.of(data.draw(st.integers(1, length)), length, (4, 4))
    try:
        lower(found.pattern, grid)
    except BslangError:
        reject()  # an index may lie outside
    assert_lowers(found, grid)


@settings(max_examples=100)
@given(st.integers(1, 30), st.data())
def test_products_of_runs_are_products_of_matrices(size: int, data: st.DataObject) -> None:
    def matrix() -> Bools:
        cells = data.draw(st.lists(st.booleans(), min_size=size * size, max_size=size * size))
        return np.array(cells, dtype=bool).reshape(size, size)

    left, right = matrix(), matrix()
    product = compose(_runs(left), _runs(right))
    np.testing.assert_array_equal(product.dense(size), left.astype(int) @ right.astype(int) > 0)


def _runs(matrix: Bools) -> Runs:
    row, column = np.nonzero(matrix)
    return Runs.of_rows(matrix.shape[1], row, column, column + 1)


def test_products_of_wide_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are joined in advance give what rows that are gathered one by one do."""
    from bslang.ir import composition

    found = resolved("(last(9) | cols(0)) @ (window(3) | random(2, seed=1)) ** 2", (1, 1))
    grid = Grid.of(60, 60, (1, 1))
    truth = dense(found.pattern, grid)
    monkeypatch.setattr(composition, "_DIRECT", 0)
    np.testing.assert_array_equal(lower(found.pattern, grid).visited.dense(60), truth)


def test_heads_choose_patterns() -> None:
    found = resolved(
        "heads { 0:2 -> window(3); 2::2 -> last(2); 3 -> heads { 3 -> all } } & causal"
    )
    for head, meant in {
        0: "window(3)",
        1: "window(3)",
        2: "last(2)",
        3: "all",
        4: "last(2)",
    }.items():
        grid = Grid.of(30, 30, (4, 4), head=head)
        np.testing.assert_array_equal(
            dense(found.pattern, grid), dense(resolved(f"{meant} & causal").pattern, grid)
        )
        assert_lowers(found, grid)
    with pytest.raises(SpecError, match="no pattern for head 5"):
        compiler.lower(found, 30, 30, head=5)
    assert resolved(str(found.pattern)).pattern == found.pattern


def test_head_and_layer_are_numbers() -> None:
    found = resolved("last(head + 1) | cols(layer)")
    graph = compiler.lower(found, 40, 40, head=2, layer=5)
    other = compiler.lower(resolved("last(3) | cols(5)"), 40, 40)
    np.testing.assert_array_equal(graph.visited.dense(10), other.visited.dense(10))


def save(folder: Path, matrix: Bools, spec: str = 'table("mask.npy")') -> Path:
    np.save(folder / "mask.npy", matrix)
    (folder / "spec.bsl").write_text(spec)
    return folder / "spec.bsl"


def test_a_table_is_its_matrix(tmp_path: Path) -> None:
    matrix = np.random.default_rng(0).random((10, 10)) < 0.3
    from bslang.resolve.sources import source_of

    for order in ("C", "F"):
        source = source_of(save(tmp_path, np.asarray(matrix, order=order)))  # type: ignore[call-overload]
        graph = compiler.lower(compiler.resolve(source, block=4), 40, 40)
        np.testing.assert_array_equal(graph.visited.dense(10), matrix)
    np.savez(tmp_path / "mask.npz", matrix)
    (tmp_path / "spec.bsl").write_text('table("mask.npz").T & causal')
    found = compiler.resolve(source_of(tmp_path / "spec.bsl"), block=4)
    assert_lowers(found, Grid.of(7, 40, (4, 4)))
    with pytest.raises(
        SpecError, match="the table has 10 x 10 blocks, but at this length there are 9 x 9"
    ):
        compiler.lower(found, 36, 36)


def test_names_of_a_pair_stay_inside() -> None:
    """A definition called `q` is no position, and a parameter reaches into the predicate."""
    text = "q = all\nnear(w = 2) = {i, j : i - j < w & j <= i}\nx = near(3) & q"
    found = compiler.resolve(Source("test.bsl", text), "x", block=4)
    np.testing.assert_array_equal(
        compiler.lower(found, 40, 40).visited.dense(10),
        compiler.lower(resolved("last(3)"), 40, 40).visited.dense(10),
    )


def test_units_in_a_predicate() -> None:
    text = "near(w = 8t) = {q, k : 0 <= q - k < w & k < 100t}"
    found = compiler.resolve(Source("test.bsl", text), "near", block=4)
    grid = Grid.of(40, 40, (4, 4))
    np.testing.assert_array_equal(
        dense(found.pattern, grid), dense(resolved("last(8t)").pattern, grid)
    )
    assert found.pattern.names() == frozenset()


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("{i, j : i * j % 7 == 3} | window(3)", ["{i, j : i * j % 7 == 3}"]),
        ("{i, j : (i + j) // 2 == j & i > 3}", ["{i, j : (i + j) // 2 == j & i > 3}"]),
        ("{i, j : i // 2 == j // 2 & abs(i - j * j) < 3}", []),
        ("{q, k : 0 <= q - k < 9 & 2 * k <= q & k % n < 3} - causal", []),
    ],
)
def test_what_is_asked_block_by_block_is_said(text: str, asked: list[str]) -> None:
    found = asked_by_pairs(resolved(text).pattern, Grid.of(40, 40, (4, 4)))
    assert [str(part) for part in found] == asked


def test_many_hops_end_where_no_more_is_reached() -> None:
    grid = Grid.of(40, 40, (4, 4))
    for part in (
        "last(2)",
        "every(2)",
        "diagonals(1)",
        "window(3) & ~cols(4)",
        "rows(1) | cols(0)",
    ):
        few, many = (lower(resolved(f"({part}) ** {k}").pattern, grid).visited for k in (64, 10**9))
        matrix = lower(resolved(part).pattern, grid).visited.dense(10).astype(int)
        power = np.linalg.matrix_power(matrix.astype(object), 64) > 0
        np.testing.assert_array_equal(few.dense(10), power.astype(bool))
        np.testing.assert_array_equal(many.dense(10), power.astype(bool))

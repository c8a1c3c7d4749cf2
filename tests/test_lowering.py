"""Lowering against the oracle: two meanings of every program that share no code must agree."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, example, given
from strategies import Case, cases, examples, mask_of, programs

from bslang import compiler
from bslang.errors import LimitError, PatternError
from bslang.graph.blockgraph import FULL
from bslang.graph.lower import nonempty
from bslang.graph.possible import is_sharp, residuals
from bslang.graph.residual import allowed, needs
from bslang.ir.grid import Grid
from bslang.ir.oracle import dense, dense_blocks
from bslang.ir.runs import Bools
from bslang.limits import MAX_LENGTH, MAX_RESIDUALS
from bslang.syntax.diagnostics import SpecError
from bslang.syntax.source import Source

PROGRAMS = 500


@examples(PROGRAMS)
@given(cases(labels=True))
def test_lowering_agrees_with_the_oracle_token_by_token(case: Case) -> None:
    assume(case.has_meaning())
    np.testing.assert_array_equal(
        mask_of(case.lowered(), case.labels, case.selections), case.mask()
    )


@examples(PROGRAMS)
@given(cases(terms=3))
@example(
    Case(
        "last(1t) | (cols(2t) - cols(2t)) | (cols(3t) - cols(4t)) | causal - last(5t)",
        (5, 3),
        10,
        10,
        "end",
    )
)
def test_full_blocks_are_full_and_empty_blocks_are_not_visited(case: Case) -> None:
    assume(case.has_meaning())
    graph, mask, grid = case.lowered(), case.mask(), case.grid
    held = graph.visited.dense(grid.n)
    full = graph.of_kind(FULL).dense(grid.n)
    settled = is_sharp(
        case.resolved.pattern, case.block
    )  # or else one mask asks all of the pattern
    for i in range(grid.q.first, grid.n):
        rows = slice(max(i * grid.q.block - grid.q.start, 0), (i + 1) * grid.q.block - grid.q.start)
        for j in range(grid.m):
            block = mask[rows, j * grid.k.block : (j + 1) * grid.k.block]
            assert block.all() or not full[i, j]
            assert held[i, j] or not block.any()
            # Lowering settles what it can afford to, and here it always can.
            assert not settled or (block.any() == held[i, j] and block.all() == full[i, j])


@examples(PROGRAMS // 2)
@given(cases())
def test_transposed_graph_is_the_graph_of_the_transposed_mask(case: Case) -> None:
    assume(case.has_meaning())
    graph = case.lowered()
    mirrored = graph.transpose()
    np.testing.assert_array_equal(mask_of(mirrored), mask_of(graph).T)
    again = mirrored.transpose()
    assert again.visited == graph.visited and again.residuals == graph.residuals


@examples(PROGRAMS // 2)
@given(cases(terms=3))
def test_candidates_of_random_are_the_blocks_that_hold_a_pair(case: Case) -> None:
    assume(case.has_meaning())
    found = nonempty(case.resolved.pattern, case.grid.whole()).dense(case.grid.n)
    np.testing.assert_array_equal(found, dense_blocks(case.resolved.pattern, case.grid))


@examples(50)
@given(programs(terms=4))
def test_residuals_depend_on_the_pattern_alone(spec: str) -> None:
    resolved = compiler.resolve(Source("<case>", spec), block=4)
    possible = residuals(resolved.pattern, (4, 4))
    assert len(possible) <= MAX_RESIDUALS
    for length in (1, 3, 17, 33):
        case = Case(spec, (4, 4), length, length, "end")
        if case.has_meaning():
            assert case.lowered().residuals == possible


# Laws that hold of sets, asked of text.
LAWS = [
    ("~({a} | {b})", "~{a} & ~{b}"),
    ("~~{a}", "{a}"),
    ("{a} - {b}", "{a} & ~{b}"),
    ("{a} ^ {b}", "({a} - {b}) | ({b} - {a})"),
    ("({a} & {b}).T", "{a}.T & {b}.T"),
    ("{a}.T.T", "{a}"),
    ("{a} | {a}", "{a}"),
    ("{a} & none", "none"),
    ("{a} | all", "all"),
]


@pytest.mark.parametrize(("left", "right"), LAWS)
@examples(30)
@given(a=programs(terms=2), b=programs(terms=2))
def test_algebra(left: str, right: str, a: str, b: str) -> None:
    one, two = (
        Case(s.format(a=f"({a})", b=f"({b})"), (4, 4), 22, 22, "end") for s in (left, right)
    )
    if one.has_meaning() and two.has_meaning():
        np.testing.assert_array_equal(mask_of(one.lowered()), mask_of(two.lowered()))


@pytest.mark.parametrize("spec", ["causal", "last(3)", "(last(2) | cols(0)) & causal",
                                  "random(2, seed=1, within=causal)",
                                  "random(2, within=causal - last(9t)) | last(9t)"])  # fmt: skip
def test_a_longer_sequence_keeps_the_rows_of_a_shorter_one(spec: str) -> None:
    """The prefix property that decoding needs, and `random` promises with a causal `within`."""
    long = Case(spec, (4, 4), 50, 50, "end").mask()
    for length in (1, 7, 8, 31, 49):
        np.testing.assert_array_equal(
            Case(spec, (4, 4), length, length, "end").mask(), long[:length, :length]
        )


@examples(150)
@given(programs(terms=3))
def test_the_last_queries_see_what_they_see_in_the_whole(spec: str) -> None:
    """align="end": the rows of a few last queries are the last rows of the full mask."""
    whole = Case(spec, (4, 4), 27, 27, "end")
    assume(whole.has_meaning())
    truth = whole.mask()
    for few in (1, 2, 5, 26):
        part = Case(spec, (4, 4), few, 27, "end")
        np.testing.assert_array_equal(mask_of(part.lowered()), truth[-few:])


def test_more_token_masks_than_kernels_take_are_merged() -> None:
    spec = " | ".join(f"diagonals({a}t:{a + 3}t)" for a in range(0, 60, 9))
    case = Case(spec, (8, 8), 61, 61, "end")
    pattern = case.resolved.pattern
    assert not is_sharp(pattern, (8, 8)) and len(residuals(pattern, (8, 8))) == 1
    np.testing.assert_array_equal(mask_of(case.lowered()), case.mask())
    drawn = Case(f"({spec}) & random(3, seed=2) | random(1, seed=3)", (8, 8), 61, 61, "end")
    np.testing.assert_array_equal(mask_of(drawn.lowered()), drawn.mask())


def test_lowering_costs_runs_not_blocks() -> None:
    """2^24 tokens are 2^36 pairs of blocks; what lowering holds is a few runs a row."""
    length = 2**24
    for spec, most in [("causal", 2), ("~last(3)", 2), ("causal - last(512t)", 2), ("all", 1)]:
        graph = compiler.lower(compiler.resolve(Source("<case>", spec)), length, length)
        assert graph.start.size <= most * graph.grid.n


def test_a_dense_diagonal_block_is_asked_once_however_long_the_sequence() -> None:
    # causal ^ last(1t) leaves the diagonal to masks; each block of it repeats the first.
    graph = compiler.lower(compiler.resolve(Source("<case>", "causal ^ last(1t)")), 2**22, 2**22)
    assert graph.of_kind(FULL).size == graph.grid.n * (graph.grid.n - 1) // 2


def test_lengths_past_the_limit_are_refused() -> None:
    resolved = compiler.resolve(Source("<case>", "causal"))
    with pytest.raises(LimitError, match="MAX_LENGTH"):
        compiler.lower(resolved, MAX_LENGTH + 1, MAX_LENGTH + 1)


def test_grid_refuses_more_queries_than_keys_at_the_end() -> None:
    with pytest.raises(ValueError, match='align="start"'):
        Grid.of(5, 4, (2, 2))
    with pytest.raises(ValueError, match="sideways"):
        Grid.of(4, 4, (2, 2), "sideways")


def test_the_oracle_is_the_definition() -> None:
    """The oracle itself, against masks written out by hand."""
    pattern = compiler.resolve(Source("<case>", "(last(2) | cols(0)) & causal"), block=2).pattern
    expected = [
        "x.....",
        "xx....",
        "xxx...",
        "xxxx..",
        "xxxxx.",
        "xxxxxx",
    ]
    mask = dense(pattern, Grid.of(6, 6, (2, 2)))
    assert ["".join("x" if cell else "." for cell in row) for row in mask] == expected
    pattern = compiler.resolve(Source("<case>", "window(4, clamp=true)"), block=1).pattern
    mask = dense(pattern, Grid.of(6, 6, (1, 1)))
    assert ["".join("x" if cell else "." for cell in row) for row in mask] == [
        "xxxx..",
        "xxxx..",
        "xxxx..",
        ".xxxx.",
        "..xxxx",
        "..xxxx",
    ]


def picture(spec: str, block: int, length: int, head: int = 0) -> list[str]:
    pattern = compiler.resolve(Source("<case>", spec), block=block).pattern
    mask = dense(pattern, Grid.of(length, length, (block, block), head=head))
    return ["".join("x" if cell else "." for cell in row) for row in mask]


def test_logsparse_and_butterfly_by_hand() -> None:
    assert picture("logsparse", 1, 8)[-1] == "...x.xxx"  # 7 - j is 0, 1, 2 or 4
    assert picture("logsparse(3)", 1, 11)[-1] == ".x.....x.xx"  # 10 - j is 0, 1, 3 or 9
    assert picture("butterfly", 1, 6) == [
        "xxx.x.",
        "xx.x.x",
        "x.xx..",
        ".xxx..",
        "x...xx",
        ".x..xx",
    ]
    assert picture("butterfly(1)", 2, 5) == ["xxxx.", "xxxx.", "xxxx.", "xxxx.", "....x"]
    assert picture("butterfly(0)", 1, 3) == picture("last(1)", 1, 3)


def test_segments_by_hand() -> None:
    assert picture("segments(3t, rate=2)", 4, 5) == ["x.x..", ".....", "x.x..", "...x.", "....."]
    assert picture("segments(3t, rate=2)", 4, 5, head=1) == [
        ".....", ".x...", ".....", ".....", "....x",
    ]  # fmt: skip
    assert picture("segments(3t, rate=2, offset=7)", 4, 5) == picture(
        "segments(3t, rate=2)", 4, 5, head=3
    )
    assert picture("segments(2)", 2, 7, head=5) == picture("chunks(2)", 2, 7)


def test_heads_with_equal_segments_share_a_pattern() -> None:
    resolved = compiler.resolve(Source("<case>", "segments(6, rate=2) | segments(3)"))
    assert resolved.pattern.names() == {"head"}
    even, odd, again = (resolved.pattern.at({"head": head}) for head in (0, 1, 2))
    assert even == again and even != odd
    assert not compiler.resolve(Source("<case>", "segments(3)")).pattern.names()
    # What is printed reads back as the same pattern, and the head is not printed where it is left out.
    assert str(resolved.pattern) == "segments(6, rate=2) | segments(3)"
    assert compiler.resolve(Source("<case>", str(odd))).pattern == odd


def grid_by_hand(sides: tuple[int, ...], radii: tuple[float, ...], clamp: bool) -> Bools:
    """The definition, coordinate by coordinate in plain Python."""
    places = list(itertools.product(*map(range, sides)))

    def near(row: int, col: int, side: int, radius: float) -> bool:
        if not clamp or radius == math.inf:
            return abs(row - col) <= radius
        width = min(2 * radius + 1, side)
        first = min(max(row - radius, 0), side - width)
        return first <= col < first + width

    return np.array(
        [[all(map(near, q, k, sides, radii)) for k in places] for q in places], dtype=bool
    )


GRIDS = [
    ((12,), (2,)), ((3, 4), (1, 1)), ((4, 3), (0, math.inf)), ((4, 3), (math.inf, 0)), ((5, 5), (2, 1)),
    ((1, 7), (3, 3)), ((7, 1), (1, 0)), ((2, 3, 4), (1, 1, 1)), ((3, 2, 4), (1, math.inf, 5)),
    ((3, 3, 3), (0, 1, math.inf)), ((2, 2, 2, 2), (1, 0, 1, 0)),
]  # fmt: skip


@pytest.mark.parametrize("clamp", [False, True])
@pytest.mark.parametrize(("sides", "radii"), GRIDS)
def test_grid_by_hand(sides: tuple[int, ...], radii: tuple[float, ...], clamp: bool) -> None:
    """Counted in blocks and in tokens, with blocks of all shapes, few queries and either alignment."""
    expected = grid_by_hand(sides, radii, clamp)
    size = len(expected)
    one = len(radii) == 1
    radius = str(radii[0]) if one else f"({', '.join(map(str, radii))})"
    end = f"radius={radius}, clamp={str(clamp).lower()})"
    in_tokens = f"grid({', '.join(f'{side}t' for side in sides)}, {end}"
    for block in ((4, 4), (5, 3), (2, 7), (1, 1), (64, 64)):
        for few in {size, 1, size // 2, size - 1}:
            case = Case(in_tokens, block, few, size, "end")
            np.testing.assert_array_equal(case.mask(), expected[-few:])
            np.testing.assert_array_equal(mask_of(case.lowered()), expected[-few:])
    in_blocks = f"grid({', '.join(map(str, sides))}, {end}"
    for few in {3 * size - 1, 4, 1}:
        case = Case(in_blocks, (3, 3), few, 3 * size - 1, "end")
        blown = expected.repeat(3, 0).repeat(3, 1)[: 3 * size - 1, : 3 * size - 1]
        np.testing.assert_array_equal(mask_of(case.lowered()), blown[-few:])
    start = Case(in_blocks, (3, 3), 3 * size, 3 * size - 2, "start")
    np.testing.assert_array_equal(
        mask_of(start.lowered()), expected.repeat(3, 0).repeat(3, 1)[:, :-2]
    )


def test_a_grid_that_does_not_fit_is_refused_on_either_side() -> None:
    resolved = compiler.resolve(Source("<case>", "grid(3t, 4t, radius=1)"), block=4)
    with pytest.raises(SpecError, match="grid of 3 x 4 has 12 tokens, and the key sequence has 13"):
        compiler.lower(resolved, 12, 13)
    with pytest.raises(SpecError, match="and the query sequence has 11"):
        compiler.lower(resolved, 11, 12, "start")
    compiler.lower(resolved, 5, 12)


def test_grids_cost_their_runs() -> None:
    """An image in windows of 13 x 13 tokens, and frames of a video, each seen whole."""
    resolved = compiler.resolve(Source("<case>", "grid(256t, 1024t, radius=6, clamp=true)"))
    graph = compiler.lower(resolved, 2**18, 2**18)
    assert graph.start.size <= 13 * graph.grid.n
    frames = compiler.resolve(Source("<case>", "grid(16, 256, 64, radius=(1, inf, inf))"))
    graph = compiler.lower(frames, 2**24, 2**24)
    assert graph.start.size == graph.grid.n
    wide = compiler.resolve(Source("<case>", "grid(1024t, 1024t, radius=100)"))
    with pytest.raises(LimitError, match="MAX_RUNS"):
        compiler.lower(wide, 2**20, 2**20)


def test_a_window_without_end_on_a_ring_sees_all_of_it() -> None:
    """Also where there are fewer queries than keys, and the ring is longer than the rows are many."""
    for align, few in (("start", 1), ("end", 1), ("end", 10)):
        case = Case("window(left=inf, right=0, wrap=true)", (4, 4), few, 10, align)
        assert mask_of(case.lowered()).all() and case.mask().all()


def test_what_a_residual_needs_and_what_the_call_leaves_of_it() -> None:
    both = Case("same(doc) & causal", (4, 4), 8, 8, "end").resolved.pattern
    either = Case("same(doc) | causal", (4, 4), 8, 8, "end").resolved.pattern
    (documents, causal) = both.parts
    assert allowed(documents) is True and str(allowed(both)) == "causal"
    assert needs(both, documents) and needs(both, causal)
    assert not needs(either, documents)


def test_lengths_change_places_under_a_transpose() -> None:
    """The last 3 queries of the transposed grid are the last 3 keys of this one."""
    case = Case("rows(-3t:).T", (4, 4), 6, 11, "start")
    expected = np.zeros((6, 11), dtype=bool)
    expected[:, -3:] = True
    assert np.array_equal(mask_of(case.lowered(), {}), expected)


@pytest.mark.parametrize("spec", ["logsparse ** 5", "last(2) @ last(1)", "all & last(2) ** 2"])
def test_compositions_are_of_one_sequence(spec: str) -> None:
    """Two sequences of different lengths are refused also where they have as many blocks."""
    resolved = compiler.resolve(Source("<case>", spec), block=16)
    for len_q, len_k in ((17, 20), (20, 17), (4, 40)):
        with pytest.raises(SpecError, match=f"{len_q} queries and {len_k} keys"):
            compiler.lower(resolved, len_q, len_k, "start")
        with pytest.raises(PatternError, match="must be one sequence"):
            dense(resolved.pattern, Grid.of(len_q, len_k, (16, 16), "start"))
    same = compiler.lower(resolved, 20, 20, "start")
    assert same.visited == compiler.lower(resolved, 20, 20).visited
    compiler.lower(resolved, 4, 40)  # queries that are the last of the keys

"""Exports to kernels of other libraries: each format is read as its library documents it, and must give the
dense mask back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import assume, given
from strategies import Case, cases, examples
from test_library import NEWER, PUBLISHED_SINCE, golden_matrix, published

import bslang
from bslang import compiler
from bslang.errors import PatternError, TargetError
from bslang.exchange.cudnn import CudnnBlocks, to_cudnn
from bslang.exchange.fa4 import BlockLists, Fa4, to_fa4
from bslang.exchange.flashmask import FlashMask, to_flashmask
from bslang.exchange.lines import columns_of, rows_of
from bslang.exchange.ranges import Ranges, to_ranges
from bslang.exchange.tiling import Tiling, graphs_of

CPU = torch.device("cpu")
Mask = npt.NDArray[np.bool_]


def layout(spec: str, block: int | tuple[int, int] = 16, **parameters: object) -> bslang.Layout:
    return bslang.compile(spec, block=block, target="torch", **parameters)


def dense(ours: bslang.Layout, len_q: int, len_k: int, align: str, heads: int) -> Mask:
    """The oracle: bool (heads, len_q, len_k)."""
    masks = [ours.to_dense(len_q, len_k, head=head, align=align) for head in range(heads)]
    return torch.stack(masks).numpy()


SPECS = [
    "all",
    "none",
    "causal",
    "last(20t)",
    "(last(20t) | cols(0:4t)) & causal",
    "window(3) & causal",
    "window(left=2, right=1)",
    "chunks(2) | cols(0)",
    "strided(3) & causal",
    "random(2, seed=1) | window(3)",
    "heads { 0:2 -> causal; 2: -> last(9t) }",
    "heads { 0:2 -> last(2); 2: -> window(3) }",
    "last(layer + 2) & causal",
]
CALLS = [(96, 96, "end"), (100, 100, "end"), (37, 100, "end"), (45, 100, "start"), (1, 70, "end")]


# ---- the parts that formats are made of ----------------------------------------------------------


@examples(60)
@given(case=cases())
def test_tiles_of_any_size_and_lines_are_the_oracle(case: Case) -> None:
    assume(case.has_meaning())
    graph, truth = case.lowered(), case.mask()
    for sides in ((3, 5), (8, 4)):
        tiling = Tiling.of(graph, sides)
        for (i, j), visited in np.ndenumerate(tiling.visited):
            part = truth[i * sides[0] : (i + 1) * sides[0], j * sides[1] : (j + 1) * sides[1]]
            assert (visited, tiling.full[i, j]) == (part.any(), part.all())
    for lines, mask in ((rows_of(graph), truth), (columns_of(graph), truth.T)):
        found = np.zeros(mask.shape, dtype=int)
        for line, start, stop in zip(*(part.tolist() for part in lines), strict=True):
            assert start < stop
            found[line, start:stop] += 1
        assert np.array_equal(found, mask)
        pairs = list(zip(lines.line.tolist(), lines.start.tolist(), strict=True))
        assert pairs == sorted(pairs)
        edges = np.diff(mask.astype(int), prepend=0, axis=1) == 1
        assert lines.line.size == edges.sum(), "intervals of a line do not touch"


def test_library_layouts_come_back() -> None:
    """Published layouts over tokens, from their golden matrices; what a format cannot say is refused."""
    said: Counter[str] = Counter()
    for name, text in PUBLISHED_SINCE.items():
        truth = golden_matrix(NEWER[name])
        if NEWER[name]["unit"] == "block":
            truth = truth.repeat(4, 0).repeat(4, 1)
        len_q, len_k = truth.shape
        resolved, at = published(text, 4)
        graph = compiler.lower(resolved, len_q, len_k, NEWER[name].get("align", "end"), **at)
        assert np.array_equal(of_ranges(to_ranges(graph, CPU), len_q, len_k), truth)
        tries: dict[str, Callable[[], Mask]] = {
            "flashmask": lambda graph=graph, call=(len_q, len_k): of_flashmask(
                to_flashmask([graph], [0], CPU), *call
            ),
            "cudnn": lambda graph=graph, call=(len_q, len_k): of_cudnn(
                to_cudnn([graph], [0], 8, True, CPU), *call
            ),
        }
        if not at["head"]:  # the formula of all heads has that of head 0 at its place
            tries["fa4"] = lambda graph=graph, call=(len_q, len_k), of=resolved, at=at: of_fa4(
                to_fa4(of, at["layer"], [graph], [0], "sm90", ((8, 4), None), CPU), *call
            )[1]
        for form, rebuilt in tries.items():
            try:
                assert np.array_equal(rebuilt()[0], truth), (name, form)
                said[form] += 1
            except PatternError:
                pass
    # Of 46, and of 43 for head 0.
    assert said == {"flashmask": 39, "cudnn": 37, "fa4": 41}


# ---- FlashAttention 4 ----------------------------------------------------------------------------


class Cute:
    """An int32 vector of CuTe: no operator takes a Python integer, and division truncates."""

    def __init__(self, value: torch.Tensor) -> None:
        assert value.dtype in (torch.int32, torch.bool)
        self.value = value

    def _with(self, other: object, op: Callable[..., torch.Tensor], dtype: torch.dtype) -> Cute:
        assert isinstance(other, Cute), "an operator of a vector and something else"
        assert self.value.dtype == other.value.dtype == dtype
        return Cute(op(self.value, other.value))


def _operators() -> Iterator[tuple[str, Callable[..., torch.Tensor], torch.dtype]]:
    for name in ("add", "sub", "mul", "lt", "le", "gt", "ge", "eq", "ne"):
        yield name, getattr(torch, name), torch.int32
    for name in ("and", "or"):
        yield name, getattr(torch, f"logical_{name}"), torch.bool
    yield "floordiv", lambda a, b: torch.div(a, b, rounding_mode="trunc"), torch.int32
    yield "mod", torch.fmod, torch.int32


for _name, _op, _dtype in _operators():

    def _method(self: Cute, other: object, op: Any = _op, dtype: Any = _dtype) -> Cute:
        return self._with(other, op, dtype)

    setattr(Cute, f"__{_name}__", _method)


class Library:
    """What the source of a mask imports: `cute.jit`, `cutlass.Int32` and `utils.scalar_to_ssa`."""

    Int32 = torch.int32

    @staticmethod
    def jit(function: Any) -> Any:
        return function

    @staticmethod
    def scalar_to_ssa(value: int, dtype: torch.dtype) -> Cute:
        return Cute(torch.tensor(value, dtype=dtype))


def mask_mod(source: str) -> Callable[[int, int, int, int], bool]:
    """The function of a source, with what it imports replaced by stand-ins."""
    lines = [line for line in source.splitlines() if not line.startswith(("import", "from"))]
    names: dict[str, Any] = {"cute": Library, "cutlass": Library, "utils": Library}
    exec("\n".join(lines), names)
    return lambda b, h, q, k: names["mask_mod"](b, h, q, k, None, None)


def listed(lists: BlockLists, shape: tuple[int, int], mod: Any, transposed: bool) -> Mask:
    """The pairs that FlashAttention 4 computes: bool (heads, len_q, len_k)."""
    rows, columns = lists.block_size
    tiles = (-(-shape[0] // rows), -(-shape[1] // columns))
    heads = lists.mask_block_cnt.shape[1]
    q, k = (
        Cute(torch.arange(tiles[0] * rows, dtype=torch.int32)[:, None]),
        Cute(torch.arange(tiles[1] * columns, dtype=torch.int32)[None]),
    )
    said = torch.ones(tiles[0] * rows, tiles[1] * columns, dtype=torch.bool)
    if mod is not None:
        said &= mod(None, None, q, k).value
    found = np.zeros((heads, tiles[0] * rows, tiles[1] * columns), dtype=int)
    for full, count, index in (
        (False, lists.mask_block_cnt, lists.mask_block_idx),
        (True, lists.full_block_cnt, lists.full_block_idx),
    ):
        assert count.dtype == index.dtype == torch.int32
        across = tiles[::-1] if transposed else tiles
        assert (count.shape, index.shape) == ((1, heads, across[0]), (1, heads, *across))
        for head, row in np.ndindex(heads, across[0]):
            those = index[0, head, row, : int(count[0, head, row])].tolist()
            assert those == sorted(set(those)), "ascending: the last block has the bounds check"
            for column in those:
                i, j = (column, row) if transposed else (row, column)
                part = np.s_[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
                assert not full or ((i + 1) * rows <= shape[0] and (j + 1) * columns <= shape[1])
                found[(head, *part)] += 1 if full else said[part].numpy()
    assert found.max(initial=0) <= 1, "the lists are disjoint"
    inside = found[:, : shape[0], : shape[1]]
    assert found.sum() == inside.sum(), "nothing beyond the end belongs"
    return inside.astype(bool)


def of_fa4(made: Fa4, len_q: int, len_k: int) -> tuple[Mask, Mask]:
    """The pairs of the forward pass and of the backward pass."""
    mod = None if made.mask_mod is None else mask_mod(made.mask_mod)
    if mod is None:
        for lists in (made.forward, made.backward):
            assert not lists.mask_block_cnt.any()
    return (
        listed(made.forward, (len_q, len_k), mod, False),
        listed(made.backward, (len_q, len_k), mod, True),
    )


@pytest.mark.parametrize("spec", SPECS)
def test_fa4_lists_and_masks_are_the_layout(spec: str) -> None:
    ours = layout(spec).at_layer(1)
    for len_q, len_k, align in CALLS:
        heads = 4 if ours.by_head else 1
        truth = dense(ours, len_q, len_k, align, heads)
        for sizes in (((16, 16), None), ((32, 16), (8, 24))):
            options: dict[str, Any] = {"heads": heads, "align": align, "arch": "sm90"}
            options |= {"block_size": sizes[0], "backward_block_size": sizes[1]}
            try:
                made = ours.to_fa4(len_q, len_k, **options)
            except PatternError as error:
                assert "kernel_options" in str(error)
                # One mask cannot say which blocks are drawn, or what each head sees.
                assert "random" in spec or "heads" in spec
                continue
            for found in of_fa4(made, len_q, len_k):
                assert np.array_equal(np.broadcast_to(found, truth.shape), truth)


@examples(60)
@given(case=cases())
def test_fa4_gives_random_programs_back_or_refuses(case: Case) -> None:
    assume(case.has_meaning(2))
    call = (case.len_q, case.len_k, case.align)
    graphs, order = graphs_of(case.resolved, *call, 2, 0)
    try:
        made = to_fa4(case.resolved, 0, graphs, order, "sm90", (case.block, (6, 4)), CPU)
    except PatternError as error:
        assert "would need" in str(error) or "those of this layout need" in str(error)
        return
    truth = case.masks(2)[0]
    for found in of_fa4(made, case.len_q, case.len_k):
        assert np.array_equal(np.broadcast_to(found, truth.shape), truth)


def test_fa4_of_aligned_blocks_needs_no_mask_where_blocks_are_full() -> None:
    made = layout("last(2)").to_fa4(64, arch="sm90", block_size=(16, 16))
    assert made.mask_mod is None
    assert made.forward.full_block_cnt.tolist() == [[[1, 2, 2, 2]]]
    assert made.forward.full_block_idx[0, 0, 2].tolist() == [1, 2, 0, 0]
    assert made.backward.full_block_cnt.tolist() == [[[2, 2, 2, 1]]]
    assert made.backward.full_block_idx[0, 0, 0].tolist() == [0, 1, 0, 0]
    assert made.forward._asdict().keys() == {
        "mask_block_cnt",
        "mask_block_idx",
        "full_block_cnt",
        "full_block_idx",
        "block_size",
    }
    # Blocks that are drawn, where a formula is left of the partial ones.
    drawn = layout("(random(2) | last(2)) & causal").to_fa4(64, arch="sm90", block_size=(16, 16))
    assert drawn.mask_mod is not None and "return k <= q" in drawn.mask_mod


def test_the_source_of_a_mask_is_for_flash_attention() -> None:
    made = layout("strided(3) & causal", 32).to_fa4(100, 200, arch="sm100", block_size=(256, 128))
    assert made.mask_mod is not None
    assert made.mask_mod.startswith("import cutlass\nimport cutlass.cute as cute\n")
    assert "def mask_mod(batch, head, q_index, k_index, seqlen_info, aux_tensors):" in made.mask_mod
    assert "q = q_index + c" in made.mask_mod
    assert made.forward.block_size == made.backward.block_size == (256, 128)
    compile(made.mask_mod, "mask_mod.py", "exec")


@pytest.mark.parametrize(
    ("spec", "options", "error", "message"),
    [
        ("causal", {"arch": "sm80"}, TargetError, "computes dense attention without an error"),
        ("causal", {"arch": "sm120"}, TargetError, "has no block-sparse kernels"),
        ("causal", {"arch": "h100"}, ValueError, "arch must be one of 'sm90' or 'sm100'"),
        (
            "causal",
            {"arch": "sm100", "block_size": (128, 128)},
            ValueError,
            "must be a multiple of 256, not 128",
        ),
        (
            "causal",
            {"arch": "sm100", "backward_block_size": (64, 128)},
            ValueError,
            "must be a multiple of 256, not 64",
        ),
        ("causal", {"arch": "sm90", "block_size": (0, 128)}, ValueError, "block must be"),
        ("{q, k : isqrt(k) < q}", {"arch": "sm90"}, PatternError, "would need `isqrt`"),
        ("every(2, offset=head)", {"arch": "sm90"}, ValueError, "pass the number of heads"),
        ("same(doc)", {"arch": "sm90"}, ValueError, r"labels of a call \(doc\).*`to_flex` takes"),
    ],
)
def test_what_fa4_would_drop_is_refused(
    spec: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        layout(spec).to_fa4(100, **options)


# ---- cuDNN ---------------------------------------------------------------------------------------


def of_cudnn(made: CudnnBlocks, len_q: int, len_k: int) -> Mask:
    """The pairs that cuDNN computes: bool (heads, len_q, len_k)."""
    index, nums, side = made.q2k_block_index, made.q2k_block_nums, made.sparse_block_size
    _, heads, rows, _ = index.shape
    columns = -(-len_k // side)
    assert (rows, nums.shape) == (-(-len_q // side), (1, heads, rows))
    sizes = [side] * columns if made.block_sizes is None else made.block_sizes.tolist()
    found = np.zeros((heads, rows * side, columns * side), dtype=int)
    for head, row in np.ndindex(heads, rows):
        for place in range(int(nums[0, head, row])):
            column = int(index[0, head, row, place])
            part = found[head, row * side : (row + 1) * side, column * side : (column + 1) * side]
            number = -1 if made.partial is None else int(made.partial[0, head, row, place])
            if number < 0:
                part[:, : sizes[column]] += 1
                continue
            assert made.intervals is not None
            for line, (lo, hi) in enumerate(made.intervals[number].tolist()):
                part[line, lo:hi] += 1
    assert found.max(initial=0) <= 1, "blocks are unique in a row"
    assert not found[:, :, len_k:].any(), "what is beyond the keys is not seen"
    return found[:, :len_q, :len_k].astype(bool)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("block", [64, 128])
def test_cudnn_lists_are_the_layout(spec: str, block: int) -> None:
    ours = layout(spec, 32).at_layer(1)
    for len_q, len_k, align in ((256, 256, "end"), (200, 200, "end"), (100, 200, "end")):
        heads = 4 if ours.by_head else 1
        truth = dense(ours, len_q, len_k, align, heads)
        options: dict[str, Any] = {"heads": heads, "block_size": block}
        for intervals in (False, True):
            try:
                made = ours.to_cudnn(len_q, len_k, intervals=intervals, **options)
            except PatternError as error:
                assert ("is partial" in str(error)) != intervals
                tiles = Tiling.of(ours.graph(len_q, len_k), (block, block))
                assert intervals or heads > 1 or (tiles.visited & ~tiles.full).any()
                continue
            found = of_cudnn(made, len_q, len_k)
            assert np.array_equal(np.broadcast_to(found, truth.shape), truth)
            assert (made.intervals is not None) == intervals


@examples(60)
@given(case=cases(blocks=((4, 4), (8, 8), (5, 3))))
def test_cudnn_gives_random_programs_back_or_refuses(case: Case) -> None:
    assume(case.has_meaning(2))
    graphs, order = graphs_of(case.resolved, case.len_q, case.len_k, case.align, 2, 0)
    truth, side = case.masks(2)[0], 8
    for intervals in (False, True):
        try:
            made = to_cudnn(graphs, order, side, intervals, CPU)
        except PatternError:
            assert not all(sayable(mask, side, intervals) for mask in truth)
            continue
        found = of_cudnn(made, case.len_q, case.len_k)
        assert np.array_equal(np.broadcast_to(found, truth.shape), truth)
        assert all(sayable(mask, side, intervals) for mask in truth)


def sayable(mask: Mask, side: int, intervals: bool) -> bool:
    """Whether whole blocks, or an interval for each row of a block, can give a mask."""
    for i, j in np.ndindex(-(-mask.shape[0] // side), -(-mask.shape[1] // side)):
        part = mask[i * side : (i + 1) * side, j * side : (j + 1) * side]
        starts = (np.diff(part.astype(int), prepend=0, axis=1) == 1).sum(axis=1)
        if starts.max() > 1 if intervals else part.any() and not part.all():
            return False
    return True


def test_cudnn_refuses_what_its_kernels_would_round_up() -> None:
    with pytest.raises(
        PatternError, match=r"queries 0:64 by keys 0:64 is partial; pass intervals="
    ):
        layout("causal", 64).to_cudnn(256)
    with pytest.raises(PatternError, match="query 4 sees keys 0 and 4 of a block, but not 1"):
        layout("diagonals(0t, 4t)", 64).to_cudnn(256, intervals=True)
    with pytest.raises(ValueError, match="squares of 64 or 128 tokens, not 16 x 16"):
        layout("causal", 16).to_cudnn(256)
    with pytest.raises(ValueError, match="squares of 64 or 128 tokens, not 32 x 32"):
        layout("causal", 64).to_cudnn(256, block_size=32)
    with pytest.raises(ValueError, match="need the labels of a call"):
        layout("same(doc)", 64).to_cudnn(256)
    made = layout("none", 64).to_cudnn(256)
    assert made.q2k_block_index.shape == (1, 1, 4, 1), "cuDNN wants room for a block"
    ragged = layout("all", 64).to_cudnn(100)
    assert ragged.block_sizes is not None and ragged.block_sizes.tolist() == [64, 36]


# ---- MagiAttention -------------------------------------------------------------------------------


def of_ranges(made: Ranges, len_q: int, len_k: int) -> Mask:
    """The pairs that MagiAttention computes: causal aligns at the last query and key of a range, inverse
    causal at the first."""
    found = np.zeros((len_q, len_k), dtype=int)
    for (a, b), (c, d), kind in zip(*(part.tolist() for part in made), strict=True):
        assert 0 <= a < b <= len_q and 0 <= c < d <= len_k
        i, j = np.arange(b - a)[:, None], np.arange(d - c)
        mask = np.ones((b - a, d - c), dtype=bool)
        if kind in (1, 3):
            mask &= j <= i + (d - c) - (b - a)
        if kind in (2, 3):
            mask &= j >= i
        assert mask.any(axis=1).all(), "no query of a range sees nothing"
        found[a:b, c:d] += mask
    assert found.max(initial=0) <= 1, "no pair is in two ranges"
    return found.astype(bool)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize(("len_q", "len_k", "align"), CALLS)
def test_ranges_are_the_layout(spec: str, len_q: int, len_k: int, align: str) -> None:
    ours = layout(spec).at_layer(1)
    for head in (0, 3) if ours.by_head else (None,):
        made = ours.to_ranges(len_q, len_k, head=head, align=align)
        truth = ours.to_dense(len_q, len_k, head=head or 0, align=align).numpy()
        assert np.array_equal(of_ranges(made, len_q, len_k), truth)
        assert all(part.dtype == torch.int32 for part in made)


@examples(60)
@given(case=cases())
def test_ranges_give_random_programs_back(case: Case) -> None:
    assume(case.has_meaning())
    made = to_ranges(case.lowered(), CPU)
    truth = case.mask()
    assert np.array_equal(of_ranges(made, case.len_q, case.len_k), truth)
    assert len(made.attn_type_map) <= shortest(truth)


def shortest(mask: Mask) -> int:
    """The fewest ranges whose rows are whole intervals of keys: each goes on as long as both edges go on."""
    free = {
        (row, int(lo)): int(hi)
        for row, line in enumerate(mask)
        for lo, hi in zip(
            (np.diff(line.astype(int), prepend=0) == 1).nonzero()[0],
            (np.diff(line.astype(int), append=0) == -1).nonzero()[0] + 1,
            strict=True,
        )
    }
    count = 0
    for row, lo in sorted(free):
        if (row, lo) not in free:
            continue
        hi = free.pop((row, lo))
        count += 1
        ways = [(a, b) for a in (0, 1) for b in (0, 1) if free.get((row + 1, lo + a)) == hi + b]
        for a, b in ways:
            at, low, high = row, lo, hi
            while free.get((at + 1, low + a)) == high + b:
                at, low, high = at + 1, low + a, high + b
                del free[at, low]
    return count


def test_ranges_are_few() -> None:
    def ranges(spec: str, *call: int) -> list[tuple[list[int], list[int], int]]:
        made = layout(spec).to_ranges(*call)
        return list(zip(*(part.tolist() for part in made), strict=True))

    assert ranges("causal", 1000) == [([0, 1000], [0, 1000], 1)]
    assert ranges("causal", 300, 1000) == [([0, 300], [0, 1000], 1)]
    assert ranges("all", 10, 1000) == [([0, 10], [0, 1000], 0)]
    assert ranges("{q, k : k >= q}", 100) == [([0, 100], [0, 100], 2)]
    assert ranges("last(20t)", 1000) == [([0, 20], [0, 20], 1), ([20, 1000], [1, 1000], 3)]
    assert ranges("chunks(1)", 40) == [
        ([16 * i, min(16 * i + 16, 40)],) * 2 + (0,) for i in range(3)
    ]
    assert ranges("none", 40) == []
    assert ranges("(last(20t) | cols(0:4t)) & causal", 100) == [
        ([0, 24], [0, 24], 1),
        ([24, 100], [0, 4], 0),
        ([24, 100], [5, 100], 3),
    ]


def test_ranges_that_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="pass `head=`, and call MagiAttention once for each"):
        layout("every(2, offset=head)").to_ranges(100)
    with pytest.raises(ValueError, match="need the labels of a call"):
        layout("same(doc)").to_ranges(100)
    monkeypatch.setattr("bslang.exchange.ranges.MAX_RANGES", 10)
    with pytest.raises(bslang.LimitError, match="MAX_RANGES = 10"):
        layout("strided(3t)").to_ranges(100)
    monkeypatch.setattr("bslang.exchange.lines.MAX_RUNS", 10)
    with pytest.raises(bslang.LimitError, match="MAX_RUNS = 10"):
        layout("strided(3t)").to_ranges(100)


# ---- FlashMask -----------------------------------------------------------------------------------


def of_flashmask(made: FlashMask, len_q: int, len_k: int) -> Mask:
    """The pairs that FlashMask computes: the documented meaning of each number of columns."""
    indices = made.startend_row_indices
    assert indices.dtype == torch.int32 and indices.shape[2] == len_k
    found = np.ones((indices.shape[1], len_q, len_k), dtype=bool)
    for head, key in np.ndindex(*indices.shape[1:3]):
        column, row = found[head, :, key], indices[0, head, key].tolist()
        assert all(0 <= number <= len_q for number in row)
        if made.causal:
            assert len_q == len_k
            column[:key] = False
            column[row[0] : (row[1] if len(row) == 2 else None)] = False
        elif len(row) == 2:
            column[row[0] :] = False
            column[: row[1]] = False
        else:
            column[row[0] : row[1]] = False
            column[row[2] : row[3]] = False
    return found


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize(("len_q", "len_k", "align"), CALLS)
def test_flashmask_is_the_layout(spec: str, len_q: int, len_k: int, align: str) -> None:
    ours = layout(spec).at_layer(1)
    heads = 4 if ours.by_head else 1
    truth = dense(ours, len_q, len_k, align, heads)
    try:
        made = ours.to_flashmask(len_q, len_k, heads=heads, align=align)
    except PatternError as error:
        assert "two intervals of masked queries for each key" in str(error)
        assert "strided" in spec or "random" in spec or "chunks" in spec
        return
    found = of_flashmask(made, len_q, len_k)
    assert np.array_equal(np.broadcast_to(found, truth.shape), truth)


@examples(60)
@given(case=cases())
def test_flashmask_gives_random_programs_back_or_refuses(case: Case) -> None:
    assume(case.has_meaning(2))
    graphs, order = graphs_of(case.resolved, case.len_q, case.len_k, case.align, 2, 0)
    truth = case.masks(2)[0]
    starts = np.diff((~truth).astype(int), prepend=0, axis=1) == 1
    most = starts.sum(axis=1).max()
    try:
        made = to_flashmask(graphs, order, CPU)
    except PatternError:
        assert most > 2
        return
    assert most <= 2 or made.causal
    found = of_flashmask(made, case.len_q, case.len_k)
    assert np.array_equal(np.broadcast_to(found, truth.shape), truth)


def test_flashmask_takes_the_fewest_columns() -> None:
    def form(spec: str, *call: int, **options: Any) -> tuple[bool, tuple[int, ...]]:
        made = layout(spec).to_flashmask(*call, **options)
        return made.causal, tuple(made.startend_row_indices.shape)

    assert form("causal", 100) == (True, (1, 1, 100, 1))
    assert form("last(20t)", 100) == (True, (1, 1, 100, 1))
    assert form("(last(20t) | rows(-1)) & causal", 100) == (True, (1, 1, 100, 2))
    assert form("causal", 50, 100) == (False, (1, 1, 100, 2))
    assert form("window(3)", 100) == (False, (1, 1, 100, 2))
    assert form("window(3) | rows(-1)", 100) == (False, (1, 1, 100, 4))
    by_head = "heads { 0:2 -> causal; 2: -> last(9t) }"
    assert form(by_head, 100, heads=4) == (True, (1, 4, 100, 1))
    assert form(by_head, 100, heads=4, key_heads=2) == (True, (1, 2, 100, 1))


def test_flashmask_that_is_refused() -> None:
    with pytest.raises(PatternError, match=r"key 0 has 3: 1:\d+, "):
        layout("{q, k : (q - k) % 40 == 0}").to_flashmask(100)
    by_head = layout("heads { 0:3 -> causal; 3: -> last(9t) }")
    with pytest.raises(ValueError, match="heads 2 and 3 differ"):
        by_head.to_flashmask(100, heads=4, key_heads=2)
    with pytest.raises(ValueError, match="key_heads must divide the 4 heads, and 3 does not"):
        by_head.to_flashmask(100, heads=4, key_heads=3)
    with pytest.raises(ValueError, match="pass the number of heads"):
        by_head.to_flashmask(100)
    with pytest.raises(ValueError, match=r"export `at_heads\(0\)`"):
        by_head.at_heads(2).to_flashmask(100, heads=4)
    with pytest.raises(ValueError, match="need the labels of a call"):
        layout("same(doc)").to_flashmask(100)


@pytest.mark.parametrize("method", ["to_fa4", "to_cudnn", "to_ranges", "to_flashmask", "to_bsr"])
def test_selections_are_refused(method: str) -> None:
    ours = layout("(select(pick) | last(2)) & causal", 64)
    options = {"arch": "sm90"} if method == "to_fa4" else {}
    with pytest.raises(ValueError, match=r"selected at the call \(pick\)"):
        getattr(ours, method)(256, **options)

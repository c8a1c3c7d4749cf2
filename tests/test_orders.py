"""Orders of tokens: blocks hold tokens that are near on a grid, and numbers of a spec count positions."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from reference import TOLERANCE, agrees, given_of, inputs
from strategies import ORDERS, Case, examples, mask_of, ordered_cases
from torch.nn.attention.flex_attention import create_mask

import bslang
from bslang import compiler
from bslang.cli.diff import diff
from bslang.errors import BslangError, PatternError
from bslang.graph.blockgraph import FULL
from bslang.ir.order import Order
from bslang.ir.ordered import row_major
from bslang.resolve.program import Resolved
from bslang.resolve.sources import source_of
from bslang.resolve.verify import verify
from bslang.runtime.registry import LAYOUTS, Key
from bslang.syntax.diagnostics import SpecError
from bslang.syntax.format import formatted
from bslang.syntax.source import Source

TILES = "order tiles(5, 7, 9; 2, 3, 4)"
NEAR = "grid(5t, 7t, 9t, radius=2)"


def resolved(spec: str, block: int | tuple[int, int] = 64) -> Resolved:
    return compiler.resolve(Source("spec.bsl", spec), block=block)


# ---- places and positions --------------------------------------------------------------------------


def tiles(sides: tuple[int, ...], tile: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """The coordinates of tokens, tile after tile."""
    starts = (range(0, side, size) for side, size in zip(sides, tile, strict=True))
    for corner in itertools.product(*starts):
        ends = (min(c + t, side) for c, t, side in zip(corner, tile, sides, strict=True))
        yield from itertools.product(*map(range, corner, ends))


def morton(sides: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The coordinates of tokens along the Z-curve of a cube that holds the grid."""

    def key(coordinates: tuple[int, ...]) -> list[int]:
        return [c >> bit & 1 for bit in reversed(range(8)) for c in coordinates]

    return sorted(itertools.product(*map(range, sides)), key=key)


def test_tiles_come_one_after_another() -> None:
    for sides, tile in [
        ((4, 6), (2, 4)),
        ((5, 7, 9), (2, 3, 4)),
        ((7,), (3,)),
        ((3, 1, 4), (3, 1, 2)),
    ]:
        order = Order("tiles", sides, tile)
        wanted = [np.ravel_multi_index(c, sides) for c in tiles(sides, tile)]
        assert order.positions.tolist() == wanted
        assert order.positions[order.places].tolist() == list(range(order.length))


def test_tokens_come_along_the_curve() -> None:
    for sides in [(4, 4), (8, 2), (3, 5), (2, 3, 5), (6,), (1, 4)]:
        order = Order("morton", sides)
        assert order.positions.tolist() == [np.ravel_multi_index(c, sides) for c in morton(sides)]


def test_what_lies_together_is_found() -> None:
    units = {}
    for text in ORDERS:
        order = resolved(f"order {text}\nall").order
        assert order is not None
        side = units[text] = order.unit(8, 16)
        for start in range(0, order.length, side):
            at = order.places[start : start + side]
            assert at[0] % side == 0
            assert np.array_equal(at, at[0] + np.arange(side))
    assert [units[text] for text in ("tiles(24; 5)", "tiles(3, 8; 3, 4)", "morton(4, 6)")] == [
        1,
        4,
        2,
    ]


# ---- lowering ----------------------------------------------------------------------------------------


@examples(150)
@given(ordered_cases(labels=True))
def test_lowering_is_the_row_major_oracle_permuted(case: Case) -> None:
    assume(case.has_meaning())
    mask = mask_of(case.lowered(), case.labels, case.selections)
    assert np.array_equal(mask, case.mask())


@examples(60)
@given(ordered_cases(labels=True))
def test_the_text_says_it_all(case: Case) -> None:
    assume(case.has_meaning())
    verify(case.resolved)
    again = compiler.resolve(Source("again.bsl", case.resolved.spec), block=case.block)
    assert again.pattern == case.resolved.pattern
    assert again.order == case.resolved.order
    assert row_major(again.pattern) == case.resolved.row_major


def test_blocks_are_no_more_than_those_with_pairs() -> None:
    """Of one primitive they are exact, at edges with short tiles too, and so is which of them are full."""
    for spec in (f"{TILES}\n{NEAR}", "order tiles(8, 8, 8; 4, 4, 4)\ngrid(8t, 8t, 8t, radius=4)"):
        of = resolved(spec, (16, 8))
        length = of.order.length if of.order else 0
        graph, mask = compiler.lower(of, length, length), compiler.mask(of, length, length)
        rows, columns = -(-length // 16), -(-length // 8)
        padded = np.zeros((rows * 16, columns * 8), dtype=bool)
        padded[:length, :length] = mask
        held = padded.reshape(rows, 16, columns, 8).any(axis=(1, 3))
        assert np.array_equal(graph.visited.dense(rows), held)
        padded[length:] = padded[:, length:] = True
        full = padded.reshape(rows, 16, columns, 8).all(axis=(1, 3))
        assert np.array_equal(graph.of_kind(FULL).dense(rows), full)


def test_a_neighbourhood_needs_a_third_of_the_blocks() -> None:
    """32 x 64 x 64 tokens, radius 4: 27 blocks for 81 where nothing is cut off."""
    near, length = "grid(32t, 64t, 64t, radius=4)", 32 * 64 * 64
    rows = [
        compiler.lower(resolved(spec), length, length).blocks_by_row
        for spec in (near, f"order tiles(32, 64, 64; 4, 4, 4)\n{near}")
    ]
    assert [int(x.max()) for x in rows] == [81, 27]
    assert rows[1].sum() <= 0.32 * rows[0].sum()


def test_what_awaits_a_call_is_asked_alone_where_the_rest_is_settled() -> None:
    graph = compiler.lower(resolved(f"{TILES}\nsame(doc) & ({NEAR} | cols(:9t))", 4), 315, 315)
    assert [str(mask) for mask in graph.residuals] == [
        f"({NEAR} | cols(:9t)) & same(doc)",
        "same(doc)",
    ]
    assert all(graph.of_kind(kind) for kind in (0, 1))
    near = compiler.lower(resolved(f"{TILES}\n{NEAR} | cols(:9t)", 4), 315, 315)
    assert graph.visited == near.visited
    assert graph.of_kind(1) == near.of_kind(FULL)


# ---- calls -------------------------------------------------------------------------------------------

CALLS = [
    Case(f"{TILES}\n{NEAR} | cols(:5t)", (16, 16), 315, 315, "end"),
    Case("order morton(12, 10)\ncausal", (16, 8), 120, 120, "end"),
    Case(
        "order tiles(12, 12; 4, 4)\nheads { 0 -> grid(12t, 12t, radius=3); 1: -> causal }",
        *((16, 16), 144, 144, "end"),
    ),
    Case(
        "order tiles(12, 12; 4, 4)\n(same(doc) | {q, k : k < anchor[q]}) & (select(pick) | last(40t))",
        *((16, 16), 144, 144, "end"),
    ),
    Case(
        "order tiles(9, 11; 4, 4)\n{q, k : (k * 70000 + q * 30000) % 100003 < 40000}",
        *((16, 16), 99, 99, "end"),
    ),
]


def check(target: str, case: Case, **options: Any) -> None:
    layout = bslang.compile(case.spec, block=case.block, target=target)
    agrees(
        layout,
        inputs(case.len_q, case.len_k, **options),
        case.masks(options.get("heads", 2)),
        TOLERANCE[torch.float32],
        **given_of(case),
    )


@pytest.mark.parametrize("case", CALLS, ids=lambda case: case.spec)
def test_results(on: Callable[..., None], case: Case) -> None:
    on(check, case)


@examples(25)
@given(ordered_cases(terms=4, labels=True))
def test_random_programs_run(case: Case) -> None:
    assume(case.has_meaning(2))
    check("torch", case)


def test_a_grid_in_rows_has_the_same_results() -> None:
    """Permuted once before and once after, with labels and padding as the tokens are."""
    spec = f"same(doc) & {NEAR} & causal"
    of_rows, of_tiles = (
        bslang.compile(text, target="torch", block=16) for text in (spec, f"{TILES}\n{spec}")
    )
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, 315, 8, generator=generator).requires_grad_() for _ in range(3))
    doc = torch.randint(0, 3, (2, 315), generator=generator)
    padding = torch.rand(2, 315, generator=generator) < 0.2
    wanted = of_rows(q, k, v, labels={"doc": doc}, key_padding=padding)
    x = [of_tiles.permute(each) for each in (q, k, v)]
    labels = {"doc": of_tiles.permute(doc, dim=-1)}
    found = of_tiles(*x, labels=labels, key_padding=of_tiles.permute(padding, dim=-1))
    torch.testing.assert_close(of_tiles.unpermute(found), wanted, atol=1e-5, rtol=1e-5)
    weights = torch.randn(wanted.shape, generator=generator)
    for a, b in zip(
        torch.autograd.grad((of_tiles.unpermute(found) * weights).sum(), (q, k, v)),
        torch.autograd.grad((wanted * weights).sum(), (q, k, v)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_permuting() -> None:
    layout = bslang.compile(f"{TILES}\n{NEAR}", target="torch")
    order = layout.order(315)
    assert torch.equal(order, torch.tensor(Order("tiles", (5, 7, 9), (2, 3, 4)).positions))
    x = torch.arange(2 * 315 * 3.0).view(2, 315, 3)
    assert torch.equal(layout.permute(x), x[:, order])
    assert torch.equal(layout.unpermute(layout.permute(x.mT, -1), -1), x.mT)
    with pytest.raises(ValueError, match=r"315 tokens, and there are 3 here.*dim"):
        layout.permute(x, dim=-1)
    with pytest.raises(ValueError, match="there are 64 here"):
        layout.order(64)
    plain = bslang.compile("causal", target="torch")
    assert plain.permute(x) is x
    assert plain.order(4).tolist() == [0, 1, 2, 3]


def test_copies_and_keys_carry_the_order() -> None:
    spec = f"{TILES}\n{NEAR}"
    layout = bslang.compile(spec, target="torch")
    assert layout.spec == spec
    assert pickle.loads(pickle.dumps(layout)) == layout
    assert layout != bslang.compile(NEAR, target="torch")
    assert Key.parse(layout._key).spec == spec
    other = LAYOUTS.rebuild(Key.parse(layout._key)) if LAYOUTS.rebuild else None
    assert isinstance(other, bslang.Layout)
    assert torch.equal(other.order(315), layout.order(315))
    assert compiler.digest(resolved(spec)) != compiler.digest(resolved(NEAR))


class _Model(torch.nn.Module):
    def __init__(self, layout: bslang.Layout) -> None:
        super().__init__()
        self.layout = layout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layout.permute(x)
        return self.layout.unpermute(self.layout(x, x, x))


def test_traced_and_exported_programs() -> None:
    model = _Model(
        bslang.compile("order tiles(6, 8; 4, 4)\ngrid(6t, 8t, radius=2)", target="torch")
    )
    x = torch.randn(1, 2, 48, 8, generator=torch.Generator().manual_seed(0))
    wanted = model(x)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), wanted)
    exported = torch.export.export(model, (x,))
    torch.testing.assert_close(exported.module()(x), wanted)


def test_packed_sequences_are_whole_grids() -> None:
    layout = bslang.compile("order tiles(6, 8; 4, 4)\ngrid(6t, 8t, radius=2)", target="torch")
    q, k, v = (
        torch.randn(1, 2, 96, 8, generator=torch.Generator().manual_seed(i)) for i in range(3)
    )
    found = layout.packed(q, k, v, [0, 48, 96])
    for part in (slice(0, 48), slice(48, 96)):
        torch.testing.assert_close(found[:, :, part], layout(*(x[:, :, part] for x in (q, k, v))))
    with pytest.raises(SpecError, match="6 x 8 = 48 tokens, and there are 40"):
        layout.packed(q, k, v, [0, 48, 88, 96])


def test_what_other_libraries_take_is_of_tokens_as_they_lie(tmp_path: Path) -> None:
    spec = "order tiles(6, 8; 4, 4)\ngrid(6t, 8t, radius=2) | cols(:3t)"
    layout = bslang.compile(spec, block=16, target="torch")
    mask = torch.from_numpy(compiler.mask(resolved(spec, 16), 48, 48))
    assert torch.equal(layout.to_dense(48), mask)
    flex = create_mask(layout.to_flex(48).mask_mod, 1, 1, 48, 48, "cpu")
    assert torch.equal(flex[0, 0], mask)
    pairs = torch.zeros(48, 48, dtype=torch.bool)
    found = layout.to_ranges(48)
    for (top, bottom), (left, right) in zip(
        found.q_ranges.tolist(), found.k_ranges.tolist(), strict=True
    ):
        pairs[top:bottom, left:right] = True
    assert torch.equal(pairs & mask, mask)
    layout.to_safetensors(tmp_path / "near.safetensors", 48)
    assert bslang.from_safetensors(tmp_path / "near.safetensors", target="torch") == layout
    with pytest.raises(PatternError, match=r"look up no positions.*to_flex"):
        layout.to_fa4(48, arch="sm90")


# ---- what is said of it ------------------------------------------------------------------------------


def test_reports_are_of_tokens_as_they_lie() -> None:
    layout = bslang.compile(
        "near(r = 1) = grid(6t, 8t, radius=r) & causal",
        order="tiles(6, 8; 2, 4)",
        block=8,
        target="torch",
    )
    why = str(layout.why(4, 0))
    assert "query 4 (block row 0, position 8) sees key 0 (block column 0, position 0)" in why
    stats = str(layout.stats())
    assert "causal            yes" in stats
    assert "of one length" in stats
    assert "near: grid(6t, 8t, radius=1) & causal, order tiles(6, 8; 2, 4)" in str(layout.show())
    assert "order tiles(6, 8; 2, 4)" in str(layout)
    assert layout.source.endswith(
        "order tiles(6, 8; 2, 4)\nnear = grid(6t, 8t, radius=1) & causal\n"
    )
    assert eval(repr(layout)) == layout


def test_two_orders_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    near = "grid(6t, 8t, radius=1)"
    diff(near, near, order="tiles(6, 8; 2, 4)")
    assert "equal at 48 tokens" in capsys.readouterr().out
    for name, order in (("a", "tiles(6, 8; 2, 4)"), ("b", "morton(6, 8)")):
        (tmp_path / f"{name}.bsl").write_text(f"order {order}\n{near}\n")
    a, b = (str(tmp_path / f"{name}.bsl") for name in "ab")
    with pytest.raises(BslangError, match=r"different orders, `order tiles.*write the same"):
        diff(a, b)


def test_an_order_from_elsewhere() -> None:
    """It takes the place of the file's, and is that of what is picked: others may count blocks."""
    spec = "order morton(6, 8)\nnear = grid(6t, 8t, radius=1)"
    found = compiler.resolve(Source("x.bsl", spec), order="tiles(6, 8; 2, 4)")
    assert found.order == Order("tiles", (6, 8), (2, 4))
    with pytest.raises(SpecError, match="<order>"):
        compiler.resolve(Source("x.bsl", spec), order="tiles(6, 8)")
    file = source_of(Path("std/sliding_tile.bsl"))
    made = compiler.resolve(
        file, "sliding_tile_tokens", block=128, order="tiles(30, 48, 80; 6, 8, 8)"
    )
    graph = compiler.lower(made, 115_200, 115_200)
    assert graph.blocks_by_class == (900 * 81, 0)  # whole tiles of three blocks, 27 for each query
    with pytest.raises(SpecError, match="E312"):
        compiler.resolve(file, "sliding_tile", order="tiles(30, 48, 80; 6, 8, 8)")


@examples(60)
@given(ordered_cases(terms=2), st.sampled_from(("q // 6 % 4", "q % 6 // 2", "q * q % 7", "q")))
def test_comparisons_are_lowered_in_any_order(case: Case, number: str) -> None:
    """By the numbers of blocks of places, alone and beside others."""
    key = number.replace("q", "k")
    for pattern in (f"{{q, k : abs({number} - {key}) <= 1}}", f"{{q, k : {number} < {key}}}"):
        order, _, other = case.spec.partition("\n")
        for spec in (pattern, f"{pattern} & {{q, k : {number} != 2}}", f"({other}) - {pattern}"):
            of = Case(f"{order}\n{spec}", case.block, case.len_q, case.len_k, "end")
            if of.has_meaning():
                assert np.array_equal(mask_of(of.lowered()), of.mask())


# ---- what is refused ---------------------------------------------------------------------------------


def test_calls_of_other_lengths_are_refused() -> None:
    layout = bslang.compile("order tiles(6, 8; 4, 4)\nsame(doc)", target="torch")
    x = torch.randn(1, 1, 48, 8)
    doc = torch.zeros(1, 48, dtype=torch.int64)
    with pytest.raises(SpecError, match=r"E401.*6 x 8 = 48 tokens, and there are 40 keys"):
        layout(x[:, :, :40], x[:, :, :40], x[:, :, :40], labels=doc[:, :40])
    with pytest.raises(SpecError, match=r"whole sequences, and the 8 queries are the last of 48"):
        layout(x[:, :, :8], x, x, labels=doc)
    with pytest.raises(SpecError, match="there are 50 queries"):
        layout(torch.randn(1, 1, 50, 8), x, x, labels=(doc.new_zeros(1, 50), doc), align="start")
    with pytest.raises(ValueError, match=r"lengths: .* have an order, which is of one length"):
        layout(x, x, x, labels=doc, lengths=torch.tensor([48]))
    with pytest.raises(ValueError, match=r"bool .*permuted as the keys are"):
        layout(x, x, x, labels=doc, key_padding=torch.tensor([40]))
    with pytest.raises(ValueError, match="have an order, which is of one length"):
        layout.reachable(0, 48)


def test_modules_are_told_who_permutes() -> None:
    from bslang.nn import BlockSparseAttention, Rotary

    spec = "order tiles(6, 8; 4, 4)\ngrid(6t, 8t, radius=2)"
    module = BlockSparseAttention(16, 2, bslang.compile(spec, target="torch"))
    x = torch.randn(1, 48, 16)
    permuted = module.layout.permute(x)
    rows = BlockSparseAttention(16, 2, bslang.compile("grid(6t, 8t, radius=2)", target="torch"))
    rows.load_state_dict(module.state_dict())
    torch.testing.assert_close(module.layout.unpermute(module(permuted)), rows(x))
    for rotary in (10_000.0, Rotary()):
        with pytest.raises(ValueError, match=r"layout.order\(length\)"):
            BlockSparseAttention(16, 2, spec, rotary=rotary)


WRONG = [
    ("order tile(8; 4)", "E201", "tile", "did you mean `tiles`?"),
    ("order hilbert(8, 8)", "E201", "hilbert", "orders are tiles, morton"),
    ("order tiles(8, 8)", "E303", "tiles(8, 8)", "order tiles(8, 8; 1, 1)"),
    ("order tiles(8, 8; 4)", "E303", "2 sides, and 1 side", "order tiles(8, 8; 4, 1)"),
    ("order tiles(8, 8; 4, 16)", "E303", "16 of 8", "write 8, the whole side"),
    ("order tiles(8, 0; 4, 4)", "E303", "at least one token", ""),
    ("order morton(8, 8; 2, 2)", "E303", "no tiles", "order morton(8, 8)"),
    ("order morton(8192, 8192)", "E303", "MAX_ORDER", ""),
    ("order tiles(8t; 4)", "E101", "found `8t`", "sizes count tokens"),
    ("order tiles(8; 4)\norder tiles(8; 4)", "E206", "set twice", "keep one"),
]


@pytest.mark.parametrize(("setting", "code", "said", "hint"), WRONG, ids=lambda x: str(x)[:30])
def test_wrong_orders(setting: str, code: str, said: str, hint: str) -> None:
    with pytest.raises(SpecError) as raised:
        resolved(f"{setting}\nall")
    (found,) = raised.value.diagnostics
    assert found.code == code
    assert said in str(found)
    assert hint in found.hint


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "window(3)",
            "cols(0)",
            "random(2)",
            "{i, j : i <= j}",
            "last(n * 4t)",
            "segments(4, rate=1)",
        ),
        *(
            "last(inf)",
            "diagonals(1) ** 2",
            "grid(8, 8, radius=1)",
            "butterfly",
            "causal & global(0)",
        ),
    ],
)
def test_blocks_are_not_counted(pattern: str) -> None:
    with pytest.raises(SpecError) as raised:
        resolved(f"order tiles(8, 8; 4, 4)\n{pattern}")
    assert {found.code for found in raised.value.diagnostics} == {"E312"}
    assert "in row-major positions" in raised.value.diagnostics[0].hint


def test_imported_files_have_the_same_order(tmp_path: Any) -> None:
    def of(own: str, other: str) -> Resolved:
        (tmp_path / "other.bsl").write_text(f"{other}near = grid(4t, 4t, radius=1)\n")
        text = f'{own}import "other.bsl"\nx = near | cols(0t)\n'
        return compiler.resolve(Source("x.bsl", text, tmp_path), "x")

    order = "order tiles(4, 4; 2, 2)\n"
    assert of(order, "").order == of(order, order).order == Order("tiles", (4, 4), (2, 2))
    for own, here in (("", "this file none"), ("order morton(4, 4)\n", "`order morton(4, 4)`")):
        with pytest.raises(SpecError, match="E213") as raised:
            of(own, order)
        assert here in str(raised.value)
        assert "write `order tiles(4, 4; 2, 2)` here" in str(raised.value)


def test_formatting() -> None:
    def of(text: str) -> str:
        return formatted(Source("x.bsl", text))

    assert (
        of("order  tiles( 8,32 , 32;4,8 , 8 )  # x\nall")
        == "order tiles(8, 32, 32; 4, 8, 8)  # x\nall\n"
    )
    assert of("order tiles(8,  # frames\n 1_0; 2, 2)\nall") == (
        "order tiles(\n    8,  # frames\n    1_0; 2, 2\n)\nall\n"
    )
    assert of("order morton(8,8,)\nall") == "order morton(8, 8)\nall\n"
    assert of("x(order = 3t) = last(order)") == "x(order = 3t) = last(order)\n"

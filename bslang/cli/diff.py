"""bslang diff: what one layout has and another lacks."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Annotated

import typer

from bslang import compiler
from bslang.cli.common import (
    BlockOption,
    HeadOption,
    JsonOption,
    LayerOption,
    LongOption,
    OrderOption,
    print_json,
)
from bslang.cli.spec import resolve_spec
from bslang.errors import BslangError
from bslang.reports.lengths import usual_length
from bslang.resolve.program import Resolved

if TYPE_CHECKING:
    from bslang.analysis.difference import Side
    from bslang.graph.blockgraph import BlockGraph

First = Annotated[
    str,
    typer.Argument(
        metavar="A", help="A spec file, FILE:NAME, an expression or a published layout."
    ),
]
Second = Annotated[str, typer.Argument(metavar="B", help="Another one.")]
Define = Annotated[
    list[str] | None,
    typer.Option(
        "-D",
        metavar="NAME=VALUE",
        help="Set a parameter of both layouts, or of one with a:NAME or b:NAME; may be repeated.",
        show_default=False,
    ),
]


def diff(
    first: First,
    second: Second,
    seq_len: LongOption = None,
    define: Define = None,
    block: BlockOption = None,
    order: OrderOption = None,
    head: HeadOption = 0,
    layer: LayerOption = 0,
    json: JsonOption = False,
) -> None:
    """Compare two layouts: the pairs and blocks that only one of them has, with a picture.

    Exits with 0 if they are equal at this length, and with 1 if they are not.
    """
    from bslang.analysis.difference import Side

    layouts = [
        resolve_spec(spec, _of(side, define or []), block, order)
        for side, spec in (("a", first), ("b", second))
    ]
    _refuse(*layouts)
    seq_len = seq_len or usual_length(layouts[0])
    a, b = (compiler.lower(x, seq_len, seq_len, head=head, layer=layer) for x in layouts)
    plus, minus = Side.of(a, b), Side.of(b, a)
    if json:
        print_json({
            "equal": not plus.pairs + minus.pairs,
            "tokens": seq_len,
            "only_a": _as_dict(first, layouts[0], plus),
            "only_b": _as_dict(second, layouts[1], minus),
        })  # fmt: skip
    else:
        for sign, spec, resolved in zip("+-", (first, second), layouts, strict=True):
            print(f"{sign} {spec}: {resolved.about}")
        print()
        if not plus.pairs + minus.pairs:
            print(f"equal at {seq_len:,} tokens: {int(a.blocks_by_row.sum()):,} blocks")
            return
        print(_line("+", "only A", plus))
        print(_line("-", "only B", minus))
        size = shutil.get_terminal_size((80, 40))
        height, width = max(8, size.lines - 8), max(8, size.columns // 2)
        print(f"\n{picture(a, b, plus, minus, height, width)}")
    if plus.pairs + minus.pairs:
        raise typer.Exit(1)


def _of(side: str, define: list[str]) -> list[str]:
    """The -D options of one side: `a:w=3` is that of A alone, `w=3` of both."""
    other = "b:" if side == "a" else "a:"
    return [each.removeprefix(f"{side}:") for each in define if not each.startswith(other)]


def _refuse(a: Resolved, b: Resolved) -> None:
    """Refuse layouts that cannot be compared pair by pair, or block by block."""
    if a.block != b.block:
        sides = ["x".join(map(str, layout.block)) for layout in (a, b)]
        raise BslangError(
            f"cannot compare blocks of {sides[0]} and {sides[1]} tokens; give both layouts one size with "
            f"`--block {sides[0]}`"
        )
    if a.order != b.order:
        orders = [f"`order {x.order}`" if x.order else "none" for x in (a, b)]
        raise BslangError(
            f"cannot compare tokens in different orders, {orders[0]} and {orders[1]}; write the same in both "
            "files, or none"
        )
    for layout in (a, b):
        if awaited := layout.awaits:
            raise BslangError(
                f"`{layout.name}` depends on the {awaited} of a call; compare without them"
            )


def _line(sign: str, name: str, side: Side) -> str:
    example = f", such as query {side.pair[0]} and key {side.pair[1]}" if side.pair else ""
    counts = f"{side.pairs:,} pairs, {side.blocks:,} blocks"
    return f"{sign} {name}: {counts}{example}"


def _as_dict(spec: str, resolved: Resolved, side: Side) -> dict[str, object]:
    return {
        "spec": spec,
        "pattern": resolved.spec,
        "pairs": side.pairs,
        "blocks": side.blocks,
        "pair": side.pair,
    }


def picture(a: BlockGraph, b: BlockGraph, plus: Side, minus: Side, height: int, width: int) -> str:
    """Where two layouts differ, in characters, two to a cell, at most `height` x `width` cells."""
    from bslang.analysis.cells import Cells
    from bslang.analysis.difference import marks

    drawn = marks(a, b, plus, minus, height, width)
    lines = ["".join(cell * 2 for cell in row) for row in drawn.tolist()]
    key = "++ pairs of A only  -- pairs of B only  ** some of each  ## the same  .. none"
    return "\n".join([*lines, "", f"{Cells.of(a.grid, height, width).scale}:  {key}"])

"""bslang stats: what a layout costs at a length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bslang import api, compiler
from bslang.analysis.costs import DTYPES
from bslang.cli.bar import QuietOption, progress
from bslang.cli.common import (
    BlockOption,
    HeadOption,
    JsonOption,
    LayerOption,
    LongOption,
    OrderOption,
    ParameterOption,
    RanksOption,
    check_group,
    print_json,
)
from bslang.cli.spec import SpecArgument, resolve_spec
from bslang.limits import MAX_HEADS

if TYPE_CHECKING:
    from bslang.verify.measure import Measured

_MOST_LAYERS = 1024


def stats(
    spec: SpecArgument,
    seq_len: LongOption = None,
    define: ParameterOption = None,
    block: BlockOption = None,
    order: OrderOption = None,
    dim: Annotated[int, typer.Option("--head-dim", min=1, help="Head dimension for FLOPs.")] = 64,
    dtype: Annotated[
        str,
        typer.Option("--dtype", metavar="NAME", help="Dtype of the times: fp32, bf16 or fp16."),
    ] = DTYPES[0],
    head: HeadOption = 0,
    heads: Annotated[
        int | None,
        typer.Option(
            "--heads", metavar="N", min=1, max=MAX_HEADS, show_default=False,
            help="Count the first N heads separately. Default: the heads that the spec names.",
        ),
    ] = None,
    key_heads: Annotated[
        int | None,
        typer.Option(
            "--kv-heads", metavar="N", min=1, max=MAX_HEADS, show_default=False,
            help="Key heads for --ranks. Default: as many as query heads.",
        ),
    ] = None,
    layer: LayerOption = 0,
    layers: Annotated[
        int | None,
        typer.Option(
            "--layers", metavar="L", min=1, max=_MOST_LAYERS, show_default=False,
            help="Show what L layers reach, and the connected components of the blocks.",
        ),
    ] = None,
    ranks: RanksOption = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Time the layout and dense attention on this machine, with 4 heads."
        ),
    ] = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Report what a layout costs compared with dense attention, and its properties."""
    from bslang.reports.ranks import Group
    from bslang.reports.stats import stats as report

    if dtype not in DTYPES:
        raise typer.BadParameter(
            f"{dtype!r} is not one of {', '.join(DTYPES)}", param_hint="--dtype"
        )
    if key_heads is not None and ranks is None:
        raise typer.BadParameter("only with --ranks", param_hint="--kv-heads")
    resolved = resolve_spec(spec, define, block, order)
    of_queries = heads or compiler.heads(resolved)
    if key_heads is not None and of_queries % key_heads:
        message = f"{key_heads} does not divide the {of_queries} query heads (--heads)"
        raise typer.BadParameter(message, param_hint="--kv-heads")

    group = None if ranks is None else Group(ranks, heads, key_heads, dim)
    check_group(group, resolved)

    def timed(length: int, causal: bool) -> list[Measured]:
        with progress("measuring", quiet):
            return api.measure(resolved, length, causal=causal, dim=dim, dtype=dtype, layer=layer)

    found = report(
        resolved,
        seq_len,
        dim=dim,
        dtype=dtype,
        head=head,
        heads=heads,
        layer=layer,
        layers=layers,
        measure=timed if measure else None,
        group=group,
    )
    if json:
        print_json(found.as_dict())
    else:
        print(found)

"""bslang stats: what a layout costs at a length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bslang import compiler
from bslang.cli.common import (
    BlockOption,
    HeadOption,
    JsonOption,
    LayerOption,
    LongOption,
    ParameterOption,
    SpecArgument,
    print_json,
    resolve_spec,
)

if TYPE_CHECKING:
    from bslang.graph.blockgraph import BlockGraph
    from bslang.graph.properties import Answer, Properties
    from bslang.graph.stats import Spread, Stats


def stats(
    spec: SpecArgument,
    seq_len: LongOption = 16384,
    define: ParameterOption = None,
    block: BlockOption = None,
    dim: Annotated[int, typer.Option("--head-dim", min=1, help="Head dimension for FLOPs.")] = 64,
    head: HeadOption = 0,
    layer: LayerOption = 0,
    json: JsonOption = False,
) -> None:
    """Count what a layout visits and costs beside dense attention, and decide its properties."""
    from bslang.graph.properties import Properties
    from bslang.graph.stats import Stats, asked_by_pairs

    resolved = resolve_spec(spec, define, block)
    graph = compiler.lower(resolved, seq_len, seq_len, head=head, layer=layer)
    properties = Properties.of(resolved.pattern, graph)
    found = Stats.of(graph, dim)
    if json:
        about: dict[str, object] = {
            "name": resolved.name,
            "spec": str(resolved.pattern),
            "digest": compiler.digest(resolved),
        }
        decided = {"hops": _hops(graph), "properties": properties.as_dict()}
        about["asked_by_pairs"] = [
            str(part) for part in asked_by_pairs(resolved.pattern, graph.grid)
        ]
        print_json(about | found.as_dict() | decided)
        return
    print(f"{resolved.name}: {resolved.pattern}\n")
    lines = [*_lines(found), *_answers(properties), ("reach", _reach(graph))]
    for part in asked_by_pairs(resolved.pattern, graph.grid):
        blocks = found.shape[0] * found.shape[1]
        lines.append(("lowering", f"`{part}` has no affine form: all {blocks:,} blocks were asked"))
    for label, value in lines:
        print(f"{label:<18}{value}")


def _lines(found: Stats) -> list[tuple[str, str]]:
    (rows, columns), (queries, keys) = found.block, found.tokens
    return [
        ("tokens", f"{queries:,} queries, {keys:,} keys"),
        ("block", f"{rows} x {columns} tokens; {found.shape[0]:,} x {found.shape[1]:,} blocks"),
        ("visited blocks", f"{found.blocks:,}: {found.full:,} full, {found.partial:,} partial"),
        ("density", f"{found.density:.2%} of all blocks"),
        (
            "token pairs",
            "not decided" if found.pairs is None else _share(found.pairs, queries * keys),
        ),
        ("blocks a row", _spread(found.rows)),
        ("blocks a column", _spread(found.columns)),
        ("forward", f"{_flops(found.flops_forward)} a head of {found.dim}"),
        ("backward", f"{_flops(found.flops_backward)} a head of {found.dim}"),
        ("work of dense", f"{1 / found.density:,.1f} times as much" if found.blocks else "-"),
    ]


def _share(pairs: int, all_pairs: int) -> str:
    return f"{pairs:,}, {pairs / all_pairs:.2%} of all"


def _answers(properties: Properties) -> list[tuple[str, str]]:
    return [
        ("causal", _answer(properties.causal)),
        ("prefix-stable", _answer(properties.prefix_stable)),
        ("symmetric", _answer(properties.symmetric)),
        ("contains a star", _answer(properties.star)),
    ]


def _answer(answer: Answer) -> str:
    verdict = {True: "yes", False: "no", None: "not decided"}[answer.holds]
    return f"{verdict}: {answer.because}" if answer.because else verdict


def _hops(graph: BlockGraph) -> int | None:
    """Layers until every block has received from every other; None for never, or if not followed."""
    from bslang.graph.analyses import MAX_ANALYSED, hops

    return hops(graph) if graph.grid.n <= MAX_ANALYSED else None


def _reach(graph: BlockGraph) -> str:
    from bslang.graph.analyses import MAX_ANALYSED

    if graph.grid.n > MAX_ANALYSED:
        return f"not followed beyond {MAX_ANALYSED} blocks"
    layers = _hops(graph)
    if layers is None:
        return "some blocks never receive from some others (in a causal layout, from later ones)"
    return f"every block receives from every other within {layers} layer{'s' * (layers != 1)}"


def _flops(count: int) -> str:
    return f"{count / 1e9:,.2f} GFLOP" if count >= 1e8 else f"{count / 1e6:,.2f} MFLOP"


def _spread(spread: Spread) -> str:
    text = f"{spread.least:,} to {spread.most:,}, {spread.mean:,.1f} on average"
    return text + (f"; {spread.empty:,} empty" if spread.empty else "")

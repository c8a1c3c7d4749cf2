"""bslang graph: the graph of blocks for other programs."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated

import typer

from bslang import compiler
from bslang.cli.common import (
    BlockOption,
    HeadOption,
    LayerOption,
    LongOption,
    OrderOption,
    ParameterOption,
    write_output,
)
from bslang.cli.spec import SpecArgument, resolve_spec
from bslang.reports.lengths import usual_length

Format = Annotated[
    str, typer.Option("--format", metavar="NAME", help="dot, graphml or json (node-link).")
]
Output = Annotated[
    Path,
    typer.Option(
        "-o", "--output", metavar="FILE", help="The file to write; `-` is standard output."
    ),
]


def graph(
    spec: SpecArgument,
    form: Format = "dot",
    output: Output = Path("-"),
    seq_len: LongOption = None,
    define: ParameterOption = None,
    block: BlockOption = None,
    order: OrderOption = None,
    head: HeadOption = 0,
    layer: LayerOption = 0,
) -> None:
    """Write the block graph as DOT, GraphML or JSON: which block of queries visits which block of keys."""
    from bslang.analysis.export import FORMATS, export

    if form not in FORMATS:
        close = difflib.get_close_matches(form, FORMATS, 1)
        hint = f"did you mean {close[0]}?" if close else f"formats are {', '.join(FORMATS)}"
        raise typer.BadParameter(f"unknown format {form!r}; {hint}", param_hint="--format")
    resolved = resolve_spec(spec, define, block, order)
    seq_len = seq_len or usual_length(resolved)
    lowered = compiler.lower(resolved, seq_len, seq_len, head=head, layer=layer)
    write_output(output, export(resolved.pattern, lowered, resolved.name, form))

"""bslang inspect: what is in the machine code of a layout's GPU kernels."""

from __future__ import annotations

from dataclasses import asdict
from itertools import product
from typing import TYPE_CHECKING, Annotated

import typer

from bslang import api, compiler
from bslang.cli.bar import QuietOption, progress
from bslang.cli.common import (
    BlockOption,
    DtypesOption,
    HeadDimsOption,
    JsonOption,
    OrderOption,
    ParameterOption,
    dtypes_option,
    head_dims_option,
    print_json,
)
from bslang.cli.spec import SpecArgument, resolve_spec
from bslang.dims import Dims
from bslang.progress import report

if TYPE_CHECKING:
    from bslang.gpu.machine.report import Report

_COLUMNS = ("instructions", "matrix", "exp2", "copies", "loads", "local")
_WIDTH = 44

Target = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="GPU",
        help="cuda:80, cuda:90, cuda:100, hip:gfx942, ...; may be repeated. Default: cuda:90.",
        show_default=False,
    ),
]


def inspect(
    spec: SpecArgument,
    target: Target = None,
    head_dim: HeadDimsOption = None,
    dtype: DtypesOption = None,
    define: ParameterOption = None,
    block: BlockOption = None,
    order: OrderOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Compile a layout's Triton kernels for a GPU (none is needed here), and report on their machine code."""
    dims, dtypes = head_dims_option(head_dim), dtypes_option(dtype)
    resolved = resolve_spec(spec, define, block, order)
    reports: list[Report] = []
    wanted = [*product(target or ["cuda:90"], dims, dtypes)]
    with progress("compiling kernels", quiet):
        for done, (architecture, dim, name) in enumerate(wanted):
            report(done, len(wanted))
            reports += api.inspect(resolved, architecture, dim, name)
    if json:
        print_json(
            {
                "name": resolved.name,
                "spec": resolved.spec,
                "digest": compiler.digest(resolved),
                "kernels": [asdict(each) for each in reports],
            }
        )
        return
    print(f"{resolved.name}: {resolved.about}")
    for each in reports:
        print("\n" + "\n".join(_lines(each)))


def _lines(report: Report) -> list[str]:
    sides = ("TILE_Q", "TILE_K", "TILE")  # the last in `_merge` and `_sum`: rows that they join
    tile = " x ".join(str(report.constants[n]) for n in sides if n in report.constants)
    dims = Dims(report.head_dim, report.value_dim)
    title = f"{report.kernel} for {report.architecture}, head dimension {dims}, {report.dtype}"
    running = (
        f"{report.programs} programs, {report.programs * report.warps} of {report.most_warps} warps"
    )
    spills = (
        f"{report.stack:,} B of stack, {report.local} loads and stores" if report.stack else "none"
    )
    about = [
        ("tile", f"{tile}; {report.warps} warps, {report.stages} stages"),
        ("registers", f"{report.registers}"),
        ("spills", spills),
        ("shared memory", f"{report.shared:,} B"),
        ("occupancy", f"{running}; limited by {report.limit}"),
    ]
    lines = [title, *(f"{name:<18}{value}" for name, value in about)]
    if report.loops:
        lines.append(_row("inner loops", _COLUMNS))
    for loop in report.loops:
        text = f"{loop.line}: {loop.comment}"
        short = text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."
        lines.append(_row(short, [f"{getattr(loop, name):,}" for name in _COLUMNS]))
    return lines


def _row(name: str, cells: list[str] | tuple[str, ...]) -> str:
    widths = [len(column) for column in _COLUMNS]
    row = "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    return f"{name:<{_WIDTH}}  {row}"

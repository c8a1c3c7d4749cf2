"""bslang inspect: what is in the machine code of a layout's GPU kernels."""

from __future__ import annotations

import sys
from collections.abc import Sequence
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
from bslang.errors import TargetError
from bslang.progress import report

if TYPE_CHECKING:
    from bslang.gpu.machine.report import Inspected, Report

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
    found: list[Inspected] = []
    wanted = [*product(target or ["cuda:90"], dims, dtypes)]
    with progress("compiling kernels", quiet):
        for done, (architecture, dim, name) in enumerate(wanted):
            report(done, len(wanted))
            found += api.inspect(resolved, architecture, dim, name)
    if json:
        print_json(
            {
                "name": resolved.name,
                "spec": resolved.spec,
                "digest": compiler.digest(resolved),
                "kernels": [asdict(each) for each in found],
            }
        )
    else:
        print(f"{resolved.name}: {resolved.about}")
        for each in found:
            print("\n" + "\n".join(_lines(each)))
    if any(each.faults for each in found):
        print("\n".join(_bad(found)), file=sys.stderr)
        raise typer.Exit(TargetError.exit_status)


def _bad(found: Sequence[Inspected]) -> list[str]:
    """The faults of kernels, and what to do about each kind."""
    from bslang.gpu.machine.faults import HELP

    bad = [each for each in found if each.faults]
    kinds = dict.fromkeys(fault.kind for each in bad for fault in each.faults)
    return [
        f"error: faults in {len(bad)} of {len(found)} kernels",
        *(f"  {_title(each)}: {fault.text}" for each in bad for fault in each.faults),
        *(f"help: {kind}: {HELP[kind]}" for kind in kinds),
    ]


def _title(each: Inspected) -> str:
    dims = Dims(each.head_dim, each.value_dim)
    return f"{each.kernel} for {each.architecture}, head dimension {dims}, {each.dtype}"


def _lines(each: Inspected) -> list[str]:
    from bslang.gpu.machine.report import Report

    about = [("back end", each.backend)]
    lines = _figures(each, about) if isinstance(each, Report) else []
    about.append(("faults", ", ".join(fault.kind for fault in each.faults) or "none"))
    return [_title(each), *(f"{name:<18}{value}" for name, value in about), *lines]


def _figures(report: Report, about: list[tuple[str, str]]) -> list[str]:
    """Write down what is known of a kernel; returns the rows of its loops."""
    sides = ("TILE_Q", "TILE_K", "TILE")  # the last in `_merge` and `_sum`: rows that they join
    tile = " x ".join(str(report.constants[n]) for n in sides if n in report.constants)
    running = (
        f"{report.programs} programs, {report.programs * report.warps} of {report.most_warps} warps"
    )
    spills = (
        f"{report.stack:,} B of stack, {report.local} loads and stores" if report.stack else "none"
    )
    about += [
        ("tile", f"{tile}; {report.warps} warps, {report.stages} stages"),
        ("registers", f"{report.registers}"),
        ("spills", spills),
        ("shared memory", f"{report.shared:,} B"),
        ("occupancy", f"{running}; limited by {report.limit}"),
    ]
    lines = [_row("inner loops", _COLUMNS)] if report.loops else []
    for loop in report.loops:
        text = f"{loop.line}: {loop.comment}"
        short = text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."
        lines.append(_row(short, [f"{getattr(loop, name):,}" for name in _COLUMNS]))
    return lines


def _row(name: str, cells: list[str] | tuple[str, ...]) -> str:
    widths = [len(column) for column in _COLUMNS]
    row = "  ".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    return f"{name:<{_WIDTH}}  {row}"

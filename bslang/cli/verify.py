"""bslang verify: do a layout's kernels compute on this machine what its spec means?"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bslang import api, compiler
from bslang.cli.bar import QuietOption, progress
from bslang.cli.common import (
    BlockOption,
    JsonOption,
    LayerOption,
    OrderOption,
    ParameterOption,
    dtypes_option,
    head_dims_option,
    numbers_option,
    print_json,
)
from bslang.cli.spec import SpecArgument, resolve_spec
from bslang.errors import BslangError
from bslang.progress import report

Target = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="NAME",
        help="triton, cpu or torch; may be repeated. Default: all.",
        show_default=False,
    ),
]
Device = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="A device as torch names it (cpu, cuda, cuda:1); may be repeated. "
        "Default: the CPU, and a GPU if there is one.",
        show_default=False,
    ),
]
Lengths = Annotated[
    str | None,
    typer.Option(
        "--seq-len",
        metavar="N,N,...",
        help="Lengths in tokens. Default: one token, about a block, and a few blocks.",
        show_default=False,
    ),
]
Dims = Annotated[
    str,
    typer.Option(
        "--head-dim",
        metavar="D,D,...",
        help="Head dimensions; 192/128: of keys and of values.",
    ),
]
Dtypes = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="NAME,...",
        help="fp32, bf16, fp16 or fp64. Default: all that a target takes.",
        show_default=False,
    ),
]
Heads = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=4096,
        help="Query heads. Default: enough for every branch of `heads`, or 4.",
        show_default=False,
    ),
]


def verify(
    spec: SpecArgument,
    target: Target = None,
    device: Device = None,
    seq_len: Lengths = None,
    head_dim: Dims = "64",
    dtype: Dtypes = None,
    heads: Heads = None,
    layer: LayerOption = 0,
    define: ParameterOption = None,
    block: BlockOption = None,
    order: OrderOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> None:
    """Check a layout's targets against dense fp64 attention on this machine, forward and backward."""
    lengths = None if seq_len is None else numbers_option(seq_len, "--seq-len", "1024,2048")
    dims = head_dims_option(head_dim)
    dtypes = None if dtype is None else dtypes_option(dtype)
    resolved = resolve_spec(spec, define, block, order)
    with progress("verifying", quiet):
        found = api.verify(
            resolved,
            target,
            devices=device,
            lengths=lengths,
            head_dims=dims,
            dtypes=dtypes,
            heads=heads,
            layer=layer,
            progress=report,
        )
    if json:
        about = {"name": resolved.name, "digest": compiler.digest(resolved)}
        print_json(about | {"spec": resolved.about} | found.as_dict())
    else:
        print(f"{resolved.name}: {resolved.about}\n")
        print("\n".join(found.lines()))
    if found.failures:
        said = found.bad
        if json:  # stdout has its JSON already
            print(f"error: {said}", file=sys.stderr)
            raise typer.Exit(BslangError.exit_status)
        raise BslangError(said)
    if not json:
        print(f"\n{found.good}")

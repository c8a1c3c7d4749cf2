"""From Python: specs and files to layouts that are called with tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bslang import compiler
from bslang.dims import GivenDims
from bslang.errors import BslangError
from bslang.files import HEADER, inlined
from bslang.missing import installed
from bslang.resolve.program import Resolved
from bslang.resolve.sources import source_of
from bslang.resolve.verify import verify as verify_text
from bslang.syntax.source import Source

# Layouts load torch, and commands that need no tensors start without it.
if TYPE_CHECKING:
    from bslang.gpu.machine.report import Inspected
    from bslang.layouts import Layout
    from bslang.runtime.triton.launch import TritonTarget
    from bslang.verify.measure import Measured
    from bslang.verify.report import Verification

Block = int | tuple[int, int]
Targets = str | Iterable[str]


def compile(
    spec: str,
    name: str | None = None,
    *,
    block: Block | None = None,
    order: str | None = None,
    target: Targets | None = None,
    folder: str | Path | None = None,
    **parameters: object,
) -> Layout:
    """Compile the text of a spec to a layout, called as `layout(q, k, v)`.

    spec: an expression, or the text of a whole file. name: the definition to compile, if there are several.
    block: tokens per block, or (query, key); None takes the spec's setting, or 64. order: that of tokens, as
    in "tiles(8, 32, 32; 4, 8, 8)"; None takes the spec's setting. target: "triton", "cpu", "torch" or
    several of them; None means all, and a call picks by the device of its tensors. folder: where the files
    are that the spec imports or reads with `table`; without it, only the library can be imported. parameters:
    values of the definition's parameters: int, bool, or text such as "512t" or "inf".

    Raises SpecError with every error of the spec, TargetError for an unknown target, ValueError for an
    invalid block, TypeError if spec is not a string.
    """
    if not isinstance(spec, str):
        raise TypeError(f"spec must be the text of a pattern, not {type(spec).__name__}")
    where = None if folder is None else Path(folder)
    source = Source("<spec>", spec.removeprefix("\ufeff"), where)  # as files may begin
    resolved = compiler.resolve(source, name, block=block, order=order, parameters=parameters)
    return _layout(resolved, _targets(target))


def load(
    file: str | Path,
    *,
    block: Block | None = None,
    order: str | None = None,
    target: Targets | None = None,
    **parameters: object,
) -> Layout:
    """Compile a definition of a spec file, as `"patterns.bsl:bigbird"`; a file with one needs no name.

    The other arguments and the errors are those of `compile`.
    """
    if not isinstance(file, str | Path):
        raise TypeError(f"file must be a path, or PATH:NAME, not {type(file).__name__}")
    path, name = compiler.split_name(str(file))
    source = source_of(path)
    resolved = compiler.resolve(source, name, block=block, order=order, parameters=parameters)
    return _layout(resolved, _targets(target))


def from_dense(
    mask: object, block: Block = 64, *, align: str = "end", target: Targets | None = None
) -> Layout:
    """The layout of a mask: a short expression that matches it exactly, or a table.

    mask: bool tensor or array, (len_q, len_k) or (heads, len_q, len_k), True where a query sees a key.
    block: tokens per block, or (query, key). align: as in a call. target: as in `compile`. `layout.spec` is
    the expression. At other lengths than the mask's it is a guess.

    Raises PatternError if no expression matches and the mask is not made of whole blocks, TypeError or
    ValueError for an invalid mask or block.
    """
    from bslang.exchange.recognise import as_masks, recognise

    resolved = recognise(as_masks(mask), compiler.block_sides(block), align)
    return _layout(resolved, _targets(target))


@installed()
def from_flex(
    mask: object,
    block: Block | None = None,
    *,
    align: str = "end",
    target: Targets | None = None,
) -> Layout:
    """The layout of a BlockMask of FlexAttention at its lengths, found as in `from_dense`.

    block: tokens per block, or (query, key); None takes the BlockMask's own. mask_mod is evaluated for
    batch row 0, and for as many heads as the mask has.

    Raises what `from_dense` raises, LimitError for more than MAX_MASK_WORK pairs, PatternError if the mask
    differs between batch rows, TypeError if mask is not a BlockMask.
    """
    from bslang.exchange.flex import tokens_of

    masks, own = tokens_of(mask)
    return from_dense(masks, own if block is None else block, align=align, target=target)


def from_safetensors(path: str | Path, *, target: Targets | None = None) -> Layout:
    """The layout that `Layout.to_safetensors` wrote, compiled from the spec in the file's metadata.

    Raises BslangError where the lists in the file are not those of the spec or it is another kind of file,
    SpecError, ImportError without safetensors, OSError.
    """
    from bslang.exchange.archive import load

    resolved, layer = load(path)
    return _layout(resolved, _targets(target), layer)


def _targets(target: Targets | None) -> tuple[str, ...] | None:
    if target is None:
        return None
    names = (
        (target,) if isinstance(target, str) or not isinstance(target, Iterable) else tuple(target)
    )
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"target must be the name of a target, or several; got {name!r}")
    return names


@installed()
def files(
    resolved: Resolved,
    targets: Iterable[str] | None = None,
    march: str = "",
    *,
    architectures: Sequence[str] = (),
    head_dims: Sequence[GivenDims] = (64, 128),
    dtypes: Sequence[str] = ("bf16",),
) -> dict[str, str | bytes]:
    """The generated files of a layout by name, the module first; see `compiler.emit`.

    march: a processor as the compiler's -march names it, "x86-64-v3" say. The C++ is then built for it
    now, and the module needs no compiler where it runs. architectures: GPUs, such as "cuda:90" and
    "hip:gfx942", for which the Triton kernels are compiled now, for each of the head dimensions (numbers,
    or pairs (of q and k, of v)) and dtypes ("fp32", "fp16", "bf16"). Raises TargetError for what is
    unknown, BuildError where the C++ cannot be built.
    """
    verify_text(resolved)  # from now on the module has no more than the text
    made = compiler.emit(resolved, targets, march)
    if march:
        from bslang.runtime.cpu.build import build

        text, header = made[f"{resolved.name}.cpp"], made[HEADER]
        assert isinstance(text, str) and isinstance(header, str)
        source = inlined(text, {HEADER: header})
        made[f"{resolved.name}.{march}.so"] = build(source, march).read_bytes()
    if architectures:
        from bslang.gpu.aot import binaries

        text = made[f"{resolved.name}.py"]
        assert isinstance(text, str)
        about = {"digest": compiler.digest(resolved), "block": list(resolved.block)}
        made |= binaries(
            _kernels(resolved), resolved.name, text, architectures, head_dims, dtypes, about
        )
    return made


@installed()
def inspect(
    resolved: Resolved, architecture: str, head_dim: GivenDims, dtype: str
) -> list[Inspected]:
    """What is in the machine code of a layout's Triton kernels, compiled for an architecture that need
    not be there, and what is wrong with it (`faults`): a Report of each kernel that compiles. The arguments
    are as for `files`. Raises TargetError for what is unknown."""
    from bslang.gpu.inspect import inspect

    return inspect(_kernels(resolved), architecture, head_dim, dtype)


@installed()
def tune(
    path: str | Path,
    length: int,
    head_dims: Sequence[GivenDims] = (64, 128),
    dtypes: Sequence[str] = ("bf16",),
    heads: int = 16,
) -> Path:
    """Time the Triton kernels of a generated module on the current GPU, and store the tiles that were
    fastest in `NAME.tune.json` beside it, where the module finds them when it is next imported.

    path: the module, generated for the triton target; length: queries, and keys, in tokens; heads: as
    many key heads; the others are as for `files`. Returns the file. Raises TargetError where there is
    no GPU or what is to be tuned is unknown or too large for it, OSError where the file cannot be
    written.
    """
    from bslang.gpu.tune import tune
    from bslang.runtime.triton.tuned import SUFFIX, store

    path = Path(path)
    from bslang.generated import import_file

    layout: Layout = import_file(path, f"bslang_tuned.{path.stem}").LAYOUT
    kernels = _triton(layout)
    found = tune(layout, length, head_dims, dtypes, heads)
    store(kernels.kernels["forward"], kernels.sides, found)
    return path.with_suffix(SUFFIX)


@installed()
def verify(
    resolved: Resolved,
    targets: Iterable[str] | None = None,
    *,
    devices: Sequence[str] | None = None,
    lengths: Sequence[int] | None = None,
    head_dims: Sequence[GivenDims] = (64,),
    dtypes: Sequence[str] | None = None,
    heads: int | None = None,
    layer: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Verification:
    """Check a layout's targets against dense fp64 attention over the pairs of its spec.

    targets: all, for None; heads: enough for every branch of `heads`, or 4, for None; what `layer`
    stands for. The others, and the errors raised, are as for `bslang.verify.verify.verify`.
    """
    from bslang.verify.verify import verify

    names = compiler.targets(targets)
    layouts = {name: _layout(resolved, (name,), layer) for name in names}
    return verify(
        layouts,
        partial(compiler.mask, resolved, layer=layer),
        devices=devices,
        lengths=[resolved.order.length] if lengths is None and resolved.order else lengths,
        head_dims=head_dims,
        dtypes=dtypes,
        heads=compiler.heads(resolved) if heads is None else heads,
        progress=progress,
    )


@installed()
def measure(
    resolved: Resolved,
    length: int,
    *,
    causal: bool,
    dim: int = 64,
    dtype: str = "fp32",
    layer: int = 0,
) -> list[Measured]:
    """Time a layout beside dense attention on this machine; see `bslang.verify.measure.measure`.

    Raises BslangError for a layout with labels or selections, which come with a call.
    """
    from bslang.verify.measure import measure

    if awaited := resolved.awaits:
        raise BslangError(
            f"`{resolved.name}` depends on the {awaited} of a call; measure the layout without them"
        )
    return measure(_layout(resolved, layer=layer), length, causal=causal, dim=dim, dtype=dtype)


def _kernels(resolved: Resolved) -> TritonTarget:
    return _triton(_layout(resolved, ("triton",)))


@installed()
def _layout(resolved: Resolved, targets: tuple[str, ...] | None = None, layer: int = 0) -> Layout:
    from bslang.layouts import layout_of

    return layout_of(resolved, targets, layer)


def _triton(layout: Layout) -> TritonTarget:
    return layout.targets["triton"]  # type: ignore[return-value]  # it is that one's

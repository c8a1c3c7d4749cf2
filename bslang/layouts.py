"""From patterns to layouts that are called: the one place that knows both the compiler and the runtime.

A pattern becomes a generated module, and where calls need kernels for GPUs another one, written to the cache
folder and imported from there; its layout asks the compiler for the tables of each length. One that nobody
uses leaves nothing behind.
"""

from __future__ import annotations

import errno
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, overload

import torch

from bslang import cache, compiler
from bslang.errors import BslangError, shortened
from bslang.exchange.exports import Exports
from bslang.generated import SUMS, are_whole, import_file, sums
from bslang.graph.blockgraph import BlockGraph
from bslang.ir.order import Order
from bslang.ir.pattern import Intersection
from bslang.patterns.labels import Same
from bslang.patterns.table import Matrix
from bslang.permute import Permutes
from bslang.reports.decoding import Decodes, Rows
from bslang.reports.methods import Reports
from bslang.resolve.program import Program, Resolved
from bslang.resolve.verify import verify as verify_text
from bslang.runtime.layout import CallableLayout
from bslang.runtime.recent import Recent
from bslang.runtime.registry import LAYOUTS, Key
from bslang.runtime.target import Target
from bslang.schedule.schedule import Schedule
from bslang.syntax.reader import read
from bslang.syntax.source import Source

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from bslang.analysis.properties import Answer
    from bslang.call import Options


_DRAWN = 2**15  # tokens in an order, of which the picture of a layout is drawn unasked


class Meaning:
    """The pattern of a layout: read from its text when it is first asked for, unless the compiler handed it
    over."""

    def __init__(self, spec: str, block: tuple[int, int], folder: Path | None) -> None:
        self._source, self._block = Source("<spec>", spec, folder), block

    @cached_property
    def resolved(self) -> Resolved:
        return compiler.resolve(self._source, block=self._block)


@dataclass(eq=False, repr=False)
class Layout(Reports, Decodes, Exports, Permutes, CallableLayout):
    """A compiled layout. Call it as `layout(q, k, v)`.

    name, spec (canonical bsl text), block (tokens: query, key) and digest identify it: layouts with equal
    digests are equal. targets: its kernels, by name. layer: the value of `layer` in the spec. inputs: the
    labels and selections that a call must pass. folder: where the tables are that the spec reads.
    """

    folder: Path | None = None
    _meaning: Meaning | None = None
    _base: Layout | None = (
        None  # what `at_layer` made it of: it lives as long, for other layers to share
    )
    _at_heads: dict[int, Layout] = field(init=False, default_factory=dict)
    _answers: Recent[Answer] = field(init=False, default_factory=partial(Recent, 64))
    _last_rows: Recent[Rows] = field(init=False, default_factory=partial(Recent, 64))

    def __post_init__(self) -> None:
        self._meaning = self._meaning or Meaning(self.spec, self.block, self.folder)
        super().__post_init__()

    @property
    def _resolved(self) -> Resolved:
        """Its pattern, as the compiler has it."""
        assert self._meaning is not None
        return self._meaning.resolved

    @property
    def _order(self) -> Order | None:
        return self._resolved.order

    def at_heads(self, first_head: int) -> Layout:
        """The same layout for a part of a model's heads, of which the first has this number in the model.
        Both share their kernels. Head 0 of a call, and of `graph`, is then the model's head `first_head`.
        The option `first_head` of a call replaces this number; the two are not added. Raises ValueError
        unless it is an integer of at least 0.
        """
        if isinstance(first_head, bool) or not isinstance(first_head, int) or first_head < 0:
            raise ValueError(f"first_head must be an integer of at least 0, not {first_head!r}")
        if not self.by_head or first_head == self.first_head:
            return self
        if first_head not in self._at_heads:
            view = replace(self, first_head=first_head, _base=self._base or self)
            self._at_heads[first_head] = view
        return self._at_heads[first_head]

    def at_layer(self, layer: int) -> Layout:
        """The same layout with another value of `layer`; both share their kernels. Raises ValueError unless
        it is an integer of at least 0.
        """
        if isinstance(layer, bool) or not isinstance(layer, int) or layer < 0:
            raise ValueError(f"layer must be an integer of at least 0, not {layer!r}")
        return replace(self, layer=layer, _base=self._base or self)

    def _for_target(self, name: str) -> Layout:
        return layout_of(self._resolved, (name,), self.layer).at_heads(self.first_head)

    @cached_property
    def _with_padding(self) -> Layout:
        """The layout that asks for the label of padding as well, made when a call first has some."""
        name = "padding"
        while name in self.labels:
            name += "_"
        pattern = Intersection.of(self._resolved.pattern, Same(name))
        resolved = replace(self._resolved, name=self.name, pattern=pattern)
        return layout_of(resolved, tuple(self.targets), self.layer).at_heads(self.first_head)

    # ---- lengths -------------------------------------------------------------------------------

    def graph(
        self, len_q: int, len_k: int | None = None, align: str = "end", head: int = 0
    ) -> BlockGraph:
        """The block graph of a head for len_q query tokens and len_k key tokens (None means len_q)."""
        len_k = len_q if len_k is None else len_k
        head += self.first_head
        return compiler.lower(self._resolved, len_q, len_k, align, head=head, layer=self.layer)

    def _tables(self, len_q: int, len_k: int, align: str, heads: Sequence[int]) -> Schedule:
        """The tables of some heads at a length; heads with one set share theirs."""
        return compiler.tables(self._resolved, len_q, len_k, align, heads, self.layer)

    # ---- copies and pictures -------------------------------------------------------------------

    def __copy__(self) -> Layout:
        return self  # it does not change, and copies of a model share it

    def __deepcopy__(self, memo: dict[int, Any]) -> Layout:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        verify_text(self._resolved)
        files = () if self.folder is None else self._resolved.tables.values()
        tables = tuple(matrix.file() for matrix in files)
        return rebuilt, (
            self.name,
            self.spec,
            self.block,
            tuple(self.targets),
            self.layer,
            tables,
            self.first_head,
        )

    def _small(self, blocks: int, head: int) -> BlockGraph:
        length, order = blocks * max(self.block), self._order
        if order is not None and order.length <= _DRAWN:  # of another length it has none
            length = order.length
        return self.graph(length, head=head)

    def __eq__(self, other: object) -> bool:
        """Whether both have the same pairs at every length, block, targets, layer and first head."""
        return self._key == other._key if isinstance(other, Layout) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key)

    def __str__(self) -> str:
        """What it is, its density at a small length, and a picture."""
        from bslang.picture import layout as pictures

        rows, columns = self.block
        layer = f", layer {self.layer}" if self.layer else ""
        layer += f", heads from {self.first_head}" if self.first_head else ""
        about = f"bslang.Layout {self.name}: {self._resolved.about}; block {rows}x{columns}{layer}"
        return pictures.text(about, partial(self._small, pictures.SMALL), self.by_head)

    def _repr_svg_(self) -> str | None:
        """The picture that notebooks show."""
        from bslang.picture import layout as pictures

        graph = partial(self._small, pictures.LARGE)
        return pictures.drawing(self.name, self._resolved.pattern, graph, self.by_head)


# ---- layouts of patterns -----------------------------------------------------------------------

_KNOWN: weakref.WeakValueDictionary[str, Layout] = weakref.WeakValueDictionary()
"""The layouts of this process that are in use, by what they were generated from."""

_IMPORTING = RLock()


def layout_of(resolved: Resolved, targets: tuple[str, ...] | None = None, layer: int = 0) -> Layout:
    """The layout of a pattern, for a layer. Raises BslangError where the cache folder cannot be written."""
    names = compiler.targets(targets)
    key = compiler.emission(resolved, names)
    with _IMPORTING:  # threads that ask for one layout get one
        layout = _KNOWN.get(key)
        if layout is None:
            others = tuple(name for name in names if name != _LATE)
            if others in ((), names):
                # Out of its module, which its kernels refer to: nothing keeps a layout but those who use it.
                layout = vars(_imported(key, resolved, names)).pop("LAYOUT")
                layout._meaning.resolved = resolved  # so that its text is not read again
            else:
                layout = layout_of(resolved, others)
                layout = replace(layout, targets=_Targets(resolved, names, layout.targets))
            _KNOWN[key] = layout
    return layout.at_layer(layer) if layer else layout


_LATE = "triton"
"""The target that is imported when it is first asked for: it takes longer than all else of a first call, and
many machines have no GPU."""


class _Targets(Mapping[str, Target]):
    """The targets of a layout by name: those of its module, and _LATE from a module of its own."""

    def __init__(
        self, resolved: Resolved, names: tuple[str, ...], made: Mapping[str, Target]
    ) -> None:
        self._resolved, self._names = resolved, names
        self._made = dict(made)

    def __getitem__(self, name: str) -> Target:
        if name == _LATE and name not in self._made:
            with _IMPORTING:
                if name not in self._made:
                    self._made[name] = layout_of(self._resolved, (name,)).targets[name]
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def module(resolved: Resolved, targets: tuple[str, ...] | None = None) -> ModuleType:
    """The generated module of a layout, written to the cache folder and imported.

    Raises BslangError where the folder cannot be written.
    """
    return _imported(compiler.emission(resolved, targets), resolved, targets)


def _imported(key: str, resolved: Resolved, targets: tuple[str, ...] | None) -> ModuleType:
    # Triton reads the source of its kernels, so the module must lie in a file.
    try:
        folder = cache.private_dir("modules", key)
        path = folder / f"{resolved.name}.py"
        if not are_whole(folder):
            files = compiler.emit(resolved, targets)
            cache.write(folder, {SUMS: sums(files)} | files)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise BslangError(
                f"the file name `{shortened(resolved.name, 90)}.py` is too long "
                f"({len(resolved.name)} letters); give the definition a shorter name"
            ) from None
        message = "cannot write to the folder of generated modules; set BSLANG_CACHE_DIR to another"
        raise BslangError(f"{message} ({error})") from None
    return import_file(path, f"bslang_generated.{resolved.name}_{key[:16]}")


@overload
def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: Layout | str, scale: float | None = None, *,
    return_lse: Literal[False] = False, **options: Unpack[Options],
) -> torch.Tensor: ...  # fmt: skip


@overload
def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: Layout | str, scale: float | None = None, *,
    return_lse: Literal[True], **options: Unpack[Options],
) -> tuple[torch.Tensor, torch.Tensor]: ...  # fmt: skip


@overload
def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: Layout | str, scale: float | None = None, *,
    return_lse: bool, **options: Unpack[Options],
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]: ...  # fmt: skip


def attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    layout: Layout | str,
    scale: float | None = None,
    *,
    return_lse: bool = False,
    **options: Unpack[Options],
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Attention over the pairs of a layout: the same as `layout(q, k, v, **options)`.

    layout: a compiled layout, or the text of a spec. The text is compiled once, with blocks of 64 tokens
    unless it sets others. The other arguments, the result and the errors are those of `Layout`.
    """
    return take_layout(layout)(q, k, v, scale, return_lse=return_lse, **options)


def take_layout(layout: Layout | str) -> Layout:
    """A layout, or that of a spec's text. Raises SpecError, and TypeError for what is neither."""
    if isinstance(layout, Layout):
        return layout
    if isinstance(layout, str):
        return _compiled(layout)
    raise TypeError(
        f"layout is a bslang.Layout or the text of a spec, not {type(layout).__name__}; "
        "bslang.load takes files"
    )


@lru_cache(maxsize=256)
def _compiled(spec: str) -> Layout:
    return layout_of(compiler.resolve(Source("<spec>", spec)))


def rebuilt(
    name: str,
    spec: str,
    block: tuple[int, int],
    targets: tuple[str, ...],
    layer: int = 0,
    tables: Iterable[bytes] = (),
    first_head: int = 0,
) -> Layout:
    """A layout made of its canonical text, as pickles and exported programs hold it.

    tables: the .npy files that the text names, by their content. Raises SpecError.
    """
    matrices = {matrix.name: matrix for matrix in map(Matrix.of_file, tables)}
    program = Program(read(Source("<canonical>", spec)), block, matrices)
    return layout_of(program.pick(None, name, {}), targets, layer).at_heads(first_head)


@lru_cache(maxsize=256)
def of_key(key: Key) -> Layout:
    """The layout that operators name so, kept for the next call of an exported program. Raises SpecError."""
    return rebuilt("layout", key.spec, key.block, key.targets, key.layer, (), key.first_head)


LAYOUTS.rebuild = of_key

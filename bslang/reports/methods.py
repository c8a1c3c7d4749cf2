"""What a layout says of itself: the methods of `Layout` that answer as the commands of their names do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from operator import index
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from bslang import compiler
from bslang.dims import Dims, GivenDims
from bslang.errors import TargetError
from bslang.limits import MAX_HEADS, MAX_RANKS
from bslang.resolve.module import DEFAULT_NAME
from bslang.syntax.diagnostics import SpecError
from bslang.syntax.source import Source

# The analyses take a while to load, and most programs only call layouts.
if TYPE_CHECKING:
    from bslang.explorer.subject import Subject
    from bslang.ir.oracle import Labels, Selections
    from bslang.ir.runs import Bools
    from bslang.reports.drawing import Drawing
    from bslang.reports.page import Page
    from bslang.reports.ranks import Group
    from bslang.reports.stats import StatsReport
    from bslang.reports.why import WhyReport
    from bslang.resolve.program import Resolved
    from bslang.runtime.layout import CallableLayout
    from bslang.runtime.target import Target
    from bslang.verify.measure import Measured
    from bslang.verify.report import Verification

T = TypeVar("T", int, str)
OneOrMore = int | Sequence[int]


class Reports(ABC):
    """Methods of `Layout`. What they return prints as the command of the same name does, also in notebooks.

    seq_len: a length in tokens; for None that of the command, which is the size of the layout's grid, if
    it has one. head: counted from the first head of the layout, as in a call; layers are those of
    `at_layer`. Each raises SpecError where the layout is undefined at the length, ValueError for numbers
    that are out of range, LimitError for lengths beyond what limits allow.
    """

    name: str
    block: tuple[int, int]
    targets: Mapping[str, Target]
    labels: tuple[str, ...]
    selections: tuple[str, ...]
    layer: int
    first_head: int
    folder: Path | None
    spec: str

    @property
    @abstractmethod
    def _resolved(self) -> Resolved:
        """Its pattern, as the compiler has it."""

    @abstractmethod
    def _for_target(self, name: str) -> CallableLayout:
        """The same layout with one target."""

    def show(
        self,
        seq_len: int | None = None,
        *,
        head: OneOrMore = 0,
        terms: bool = False,
        ranks: int | None = None,
    ) -> Drawing:
        """A picture: rows are blocks of queries, columns blocks of keys; an SVG in notebooks.

        seq_len: 24 blocks for None, or more where the layout's numbers are large. head: one, or several
        side by side. terms: a letter for the term of the spec that brings in each block. ranks: how many
        share the sequence; the rows of each, and what it fetches, take the place of terms. The result has
        `svg()`, `png()` (which needs matplotlib) and `save(path)`.
        """
        from bslang.reports.drawing import show

        heads = [self._head(number) for number in _listed(head)]
        if terms and ranks is not None:
            raise ValueError("with `ranks`, letters say where keys come from: leave `terms` out")
        if not heads:
            raise ValueError("head is the number of a head, or a list of at least one")
        return show(
            self._resolved,
            _length(seq_len),
            heads=heads,
            layer=self.layer,
            letters=terms,
            group=None if ranks is None else _group(ranks),
        )

    def stats(
        self,
        seq_len: int | None = None,
        *,
        head_dim: int = 64,
        dtype: str = "fp32",
        head: int = 0,
        heads: int | None = None,
        layers: int | None = None,
        measure: bool = False,
        ranks: int | None = None,
        kv_heads: int | None = None,
    ) -> StatsReport:
        """What the layout visits and costs compared with dense attention, and its properties.

        seq_len: 16384 for None. head_dim: that FLOPs and bytes are counted for. dtype: "fp32", "bf16" or
        "fp16", of the times. head: whose figures.
        heads: how many are counted one by one, from 0 on; those that the spec names for None. layers: how
        many the receptive field is followed through. measure: time the layout and dense attention on this
        machine, in 4 heads. ranks: how many share the sequence (docs/distributed.md), in `heads`
        query heads and `kv_heads` key heads, for None as many. The result has `stats`, `properties`,
        `by_head`, `ranks` and `as_dict()`.
        Raises ValueError for `measure` with a layout that has labels or selections, and for another dtype.
        """
        from bslang.analysis.costs import DTYPES
        from bslang.reports.stats import stats

        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")

        if measure and (names := (*self.labels, *self.selections)):
            what = f"{self._resolved.awaits} of a call ({', '.join(names)})"
            raise ValueError(f"the times of this layout depend on the {what}")
        if kv_heads is not None and ranks is None:
            raise ValueError("kv_heads is for `ranks`: pass both")
        given = {"head_dim": head_dim, "heads": heads, "layers": layers, "kv_heads": kv_heads}
        for name, number in given.items():
            _whole(name, 1 if number is None else number, 1)
        return stats(
            self._resolved,
            _length(seq_len),
            dim=head_dim,
            dtype=dtype,
            head=self._head(head),
            heads=heads,
            layer=self.layer,
            layers=layers,
            measure=(lambda length, causal: self._measured(length, causal, head_dim, dtype))
            if measure
            else None,
            group=None
            if ranks is None
            else _group(ranks, heads, kv_heads, head_dim, self.first_head),
        )

    def why(self, query: int, key: int, seq_len: int | None = None, *, head: int = 0) -> WhyReport:
        """Whether a query token sees a key token, and which terms of the spec make it so.

        query, key: positions in tokens, negative from the end. seq_len: 16384 for None. The result has
        `sees` (None where the call decides), `verdict.reasons` and `as_dict()`. Raises
        BslangError for positions outside of the length, TypeError for positions that are not integers.
        """
        from bslang.reports.why import why

        length, number = _length(seq_len), self._head(head)
        asked = _position("query", query), _position("key", key)
        return why(self._resolved, *asked, length, head=number, layer=self.layer)

    def verify(
        self,
        seq_len: OneOrMore | None = None,
        *,
        target: str | Sequence[str] | None = None,
        device: str | Sequence[str] | None = None,
        head_dim: OneOrMore | Sequence[GivenDims] = 64,
        dtype: str | Sequence[str] | None = None,
        heads: int | None = None,
    ) -> Verification:
        """Compare the layout's kernels with dense attention in fp64 on this machine, forward and backward.

        seq_len: one or several; for None one token, about a block, and a few blocks. target: of the
        layout's targets; all for None. device: as torch names them; for None the CPU, and a GPU where there
        is one. head_dim: one or several, of all tensors; in a list also pairs (of q and k, of v). dtype:
        "fp32", "bf16", "fp16" or "fp64"; all that a target takes for None. heads: query
        heads; for None enough for every branch of `heads`, or 4. The result has `failures`, a sentence for
        each target and dtype with wrong results, and `as_dict()`. Takes seconds. Raises TargetError for a
        target that the layout has not been compiled for, or that runs on none of the devices.
        """
        from bslang.verify.verify import verify

        names = list(self.targets) if target is None else _listed(target)
        if missing := [name for name in names if name not in self.targets]:
            raise TargetError(
                f"this layout has no target {missing[0]!r}; it is compiled for {', '.join(self.targets)}"
            )

        def mask(
            len_q: int, len_k: int, *, head: int, labels: Labels, selections: Selections
        ) -> Bools:
            head += self.first_head
            return compiler.mask(
                self._resolved,
                len_q,
                len_k,
                head=head,
                layer=self.layer,
                labels=labels,
                selections=selections,
            )

        return verify(
            {name: self._for_target(name) for name in names},
            mask,
            devices=None if device is None else _listed(device),
            lengths=self._only_length
            if seq_len is None
            else [_whole("seq_len", n, 1) for n in _listed(seq_len)],
            head_dims=_dims(head_dim),
            dtypes=None if dtype is None else _listed(dtype),
            heads=compiler.heads(self._resolved) if heads is None else _whole("heads", heads, 1),
        )

    @property
    def _only_length(self) -> list[int] | None:
        """The length of sequences whose tokens have an order."""
        order = self._resolved.order
        return None if order is None else [order.length]

    def explorer(self, seq_len: OneOrMore | None = None, *, compare: Reports | None = None) -> Page:
        """A page to look at the layout: HTML that needs no network; notebooks show it.

        seq_len: lengths to choose among; 8 to 128 blocks for None. compare: another layout beside this
        one. The result has `save(path)` and `html`. Raises ValueError for a layout of some heads
        (`at_heads`): the page counts heads from 0. Raises TypeError if `compare` is not a layout.
        """
        if not isinstance(compare, Reports | None):
            raise TypeError(f"compare must be a bslang.Layout, not {type(compare).__name__}")
        from bslang.reports.page import explore

        lengths = [] if seq_len is None else [_whole("seq_len", n, 1) for n in _listed(seq_len)]
        return explore([each._subject(lengths) for each in (self, compare) if each is not None])

    # ---- as text -------------------------------------------------------------------------------

    @cached_property
    def _definition(self) -> str:
        """Its text, as a definition of its name where that is not the usual one and can be defined."""
        if self.name == DEFAULT_NAME:
            return self.spec
        order, line, pattern = self.spec.rpartition("\n")
        named = f"{order}{line}{self.name} = {pattern}"
        try:
            found = compiler.resolve(Source("<spec>", named, self.folder), block=self.block)
        except SpecError:  # the name of a primitive, say
            return self.spec
        return named if found == self._resolved else self.spec

    @property
    def source(self) -> str:
        """The text of a spec file for the layout: its block and its canonical text, under its name.

        Tables are named by their content, and lie in `folder`.
        """
        rows, columns = self.block
        return f"block {rows}x{columns}\n\n{self._definition}\n"

    def __repr__(self) -> str:
        """Python that makes the layout again: `eval` of it is an equal layout."""
        rows, columns = self.block
        targets = tuple(self.targets)
        arguments = [repr(self._definition)]
        arguments.append(f"block={rows if rows == columns else self.block}")
        if targets != compiler.targets():
            arguments.append(f"target={targets if len(targets) > 1 else targets[0]!r}")
        if self.folder is not None:
            arguments.append(f"folder={str(self.folder)!r}")
        layer = f".at_layer({self.layer})" if self.layer else ""
        heads = f".at_heads({self.first_head})" if self.first_head else ""
        return f"bslang.compile({', '.join(arguments)}){layer}{heads}"

    # ---- details -------------------------------------------------------------------------------

    def _subject(self, lengths: Sequence[int]) -> Subject:
        from bslang.explorer.subject import Subject

        if self.first_head:
            raise ValueError(
                f"this layout is that of heads from {self.first_head} on: explore `at_heads(0)`, all heads"
            )
        resolved = self._resolved
        if self.layer and "layer" in resolved.pattern.names():
            resolved = replace(resolved, pattern=resolved.pattern.at({"layer": self.layer}))
        source = Source(f"{self.name}.bsl", resolved.spec, self.folder)
        return Subject(self.name, source, None, self.block, {}, lengths)

    def _measured(self, length: int, causal: bool, dim: int, dtype: str) -> list[Measured]:
        from bslang.verify.measure import measure

        layout = cast("CallableLayout", self)
        return measure(layout, length, causal=causal, dim=dim, dtype=dtype)

    def _head(self, number: int) -> int:
        return self.first_head + _whole("head", number, 0)


def _group(
    ranks: int,
    heads: int | None = None,
    key_heads: int | None = None,
    dim: int = 64,
    first_head: int = 0,
) -> Group:
    from bslang.reports.ranks import Group

    if _whole("ranks", ranks, 1) > MAX_RANKS:
        raise ValueError(f"ranks is at most {MAX_RANKS} (MAX_RANKS), not {ranks}")
    return Group(ranks, heads, key_heads, dim, first_head)


def _listed(given: T | Sequence[T]) -> list[T]:
    return [given] if isinstance(given, int | str) else list(given)


def _length(seq_len: int | None) -> int | None:
    return None if seq_len is None else _whole("seq_len", seq_len, 1)


def _position(name: str, given: int) -> int:
    try:
        return index(given)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {given!r}") from None


def _dims(given: OneOrMore | Sequence[GivenDims]) -> list[Dims]:
    listed: Sequence[GivenDims] = [given] if isinstance(given, int) else given
    pairs = [each if isinstance(each, tuple) else (each, each) for each in listed]
    if wrong := [pair for pair in pairs if len(pair) != 2]:
        raise ValueError(f"head_dim must be numbers, or pairs (of q and k, of v), not {wrong[0]}")
    return [Dims(*(_whole("head_dim", number, 1) for number in pair)) for pair in pairs]


def _whole(name: str, number: object, least: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise ValueError(f"{name} must be an integer of at least {least}, not {number!r}")
    if "head" in name and number > MAX_HEADS:
        raise ValueError(f"{name} is at most {MAX_HEADS} (MAX_HEADS), not {number}")
    return number

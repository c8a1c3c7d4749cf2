"""What a layout becomes for other libraries: the methods of `Layout` that bslang.exchange implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bslang.inputs import ROW, Inputs
from bslang.labels import LabelsOfCall, take_labels
from bslang.selections import SelectionsOfCall, cells, listed_cells, take_selections

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

    from bslang.exchange.cudnn import CudnnBlocks
    from bslang.exchange.fa4 import Fa4
    from bslang.exchange.flashmask import FlashMask
    from bslang.exchange.mask import Given
    from bslang.exchange.ranges import Ranges
    from bslang.exchange.sparse import Bsr
    from bslang.graph.blockgraph import BlockGraph
    from bslang.resolve.program import Resolved

_SEVERAL = (Mapping, tuple, list)


class Exports(ABC):
    """Methods of `Layout` that convert it for other libraries. Lengths are in tokens; len_k None means
    len_q. head and heads count query heads, and matter for layouts whose heads differ. Each method raises
    SpecError if the layout is undefined at the length, and ValueError for more queries than keys with
    align="end".
    """

    inputs: Inputs
    layer: int
    first_head: int
    name: str
    block: tuple[int, int]
    by_head: bool

    @property
    @abstractmethod
    def _resolved(self) -> Resolved:
        """Its pattern, as the compiler has it."""

    @abstractmethod
    def graph(
        self, len_q: int, len_k: int | None = None, align: str = "end", head: int = 0
    ) -> BlockGraph:
        """The block graph of a head at a length, in tokens."""

    def to_flex(
        self,
        len_q: int,
        len_k: int | None = None,
        *,
        heads: int | None = None,
        labels: LabelsOfCall | None = None,
        select: SelectionsOfCall | None = None,
        align: str = "end",
        device: torch.device | str = "cpu",
    ) -> BlockMask:
        """The BlockMask of FlexAttention for calls of these lengths, with its `mask_mod`.

        `flex_attention(q, k, v, block_mask=...)` then attends to exactly the pairs of the layout, if it is
        compiled for this block size or not compiled. heads: the number of heads, required if they differ.
        labels, select: as in a call, alike for all heads; labels (length,) and selections (1, 1, R, C) are
        valid for every batch, others for that batch only. Memory: one matrix of blocks, as in BlockMask
        itself, and one of cells for each selection.
        """
        from bslang.exchange.flex import block_mask

        len_k, device = len_q if len_k is None else len_k, torch.device(device)
        given = self._given(labels, select, len_q, len_k, align, device)
        self._whole()
        return block_mask(self._resolved, len_q, len_k, align, heads, self.layer, given, device)

    def to_fa4(
        self,
        len_q: int,
        len_k: int | None = None,
        *,
        arch: str,
        block_size: tuple[int, int] | None = None,
        backward_block_size: tuple[int, int] | None = None,
        heads: int | None = None,
        align: str = "end",
        device: torch.device | str = "cpu",
    ) -> Fa4:
        """The block lists of FlashAttention 4 (`flash_attn.cute`) for its forward and its backward pass, with
        the source of the mask of partial blocks; see `bslang.exchange.fa4.Fa4`.

        arch: "sm90" or "sm100", the GPU. block_size: tokens per block (query, key), whatever the block of the
        layout is; None means (128, 128) on sm90 and (256, 128) on sm100. FlashAttention 4 refuses those
        that do not fit its tiles, which depend on the head dimension. backward_block_size: that of the
        backward pass; None means block_size. heads: the number of query heads, required if they differ. The
        lists are for calls with these lengths in every row: varlen functions have no backward pass for them.

        Raises TargetError for a GPU where FlashAttention 4 does not read the lists, ValueError for another
        arch, an invalid block, or a layout with labels, PatternError if the mask needs what CuTe functions
        cannot be written with here.
        """
        from bslang.exchange.fa4 import to_fa4

        graphs, order = self._heads(len_q, len_k, align, heads, "the lists of FlashAttention 4")
        sizes = (block_size, backward_block_size)
        return to_fa4(self._resolved, self.layer, graphs, order, arch, sizes, torch.device(device))

    def to_cudnn(
        self,
        len_q: int,
        len_k: int | None = None,
        *,
        block_size: int | None = None,
        intervals: bool = False,
        heads: int | None = None,
        align: str = "end",
        device: torch.device | str = "cpu",
    ) -> CudnnBlocks:
        """The block lists of cuDNN's block-sparse attention (`cudnn.BSA`); see
        `bslang.exchange.cudnn.CudnnBlocks`.

        block_size: 64 or 128, whatever the block of the layout is; None means the layout's block.
        intervals: whether to give partial blocks an interval of keys for each query. Its released kernels
        compute blocks whole, so that without intervals a layout with partial blocks is refused. heads: the
        number of query heads, required if they differ.

        Raises PatternError for a partial block, or with intervals for a query that sees keys of a block on
        both sides of one that it does not see, ValueError for another block_size or a layout with labels.
        """
        from bslang.exchange.cudnn import SIDES, to_cudnn

        side = self.block if block_size is None else (block_size, block_size)
        if side[0] != side[1] or side[0] not in SIDES:
            raise ValueError(
                f"cuDNN's blocks are squares of 64 or 128 tokens, not {side[0]} x {side[1]}: pass "
                "block_size=64 or block_size=128"
            )
        graphs, order = self._heads(len_q, len_k, align, heads, "cuDNN's lists")
        return to_cudnn(graphs, order, side[0], intervals, torch.device(device))

    def to_ranges(
        self,
        len_q: int,
        len_k: int | None = None,
        *,
        head: int | None = None,
        align: str = "end",
        device: torch.device | str = "cpu",
    ) -> Ranges:
        """The query and key ranges of MagiAttention's `flex_flash_attn_func`, of which no two share a pair;
        see `bslang.exchange.ranges.Ranges`. A range is as long as the keys of its queries change alike.

        head: whose, required if heads differ, as ranges are for all heads of a call. Any layout has ranges,
        with as many of them as queries have intervals of keys at worst. Raises ValueError for a layout with
        labels, LimitError for more than MAX_RANGES.
        """
        from bslang.exchange.ranges import to_ranges

        self._decided("ranges")
        if self.by_head and head is None:
            raise ValueError(
                "the heads of this layout differ, and ranges are for all heads of a call: pass `head=`, and "
                "call MagiAttention once for each"
            )
        return to_ranges(self.graph(len_q, len_k, align, head or 0), torch.device(device))

    def to_flashmask(
        self,
        len_q: int,
        len_k: int | None = None,
        *,
        heads: int | None = None,
        key_heads: int | None = None,
        align: str = "end",
        device: torch.device | str = "cpu",
    ) -> FlashMask:
        """The row indices of FlashMask, in the form with the fewest columns that holds the layout; see
        `bslang.exchange.flashmask.FlashMask`.

        heads: the number of query heads, required if they differ; key_heads: that of key heads, None means
        heads. Query heads of one key head must be alike.

        Raises PatternError if a key is masked for more than two intervals of queries, ValueError for a layout
        with labels, for key_heads that do not divide heads, and for query heads that are not alike.
        """
        from bslang.exchange.flashmask import to_flashmask

        graphs, order = self._heads(len_q, len_k, align, heads, "FlashMask's indices")
        if len(order) > 1:
            order = _of_key_heads(order, len(order) if key_heads is None else key_heads)
        return to_flashmask(graphs, order, torch.device(device))

    def to_dense(
        self,
        len_q: int,
        len_k: int | None = None,
        *,
        head: int = 0,
        labels: LabelsOfCall | None = None,
        select: SelectionsOfCall | None = None,
        align: str = "end",
    ) -> torch.Tensor:
        """The set of pairs, bool (len_q, len_k) on the CPU; (batch, len_q, len_k) if labels or selections
        have a batch. labels, select: as in a call with one head.
        """
        from bslang.exchange.tiles import tokens

        len_k = len_q if len_k is None else len_k
        graph = self.graph(len_q, len_k, align, head)
        given = self._given(labels, select, len_q, len_k, align, None)
        pairs = [] if given.labels is None else [part.cpu().numpy() for part in given.labels]
        listed = [each.cpu().numpy() for each in given.selections]
        masks = []
        for row in range(given.batch or 1):
            of_row = zip(*(part[:, row if part.shape[1] > 1 else 0] for part in pairs), strict=True)
            names = [selection.name for selection in self.inputs.selections]
            chosen = (each[row if len(each) > 1 else 0] for each in listed)
            told = (
                dict(zip(self.inputs.label_names, of_row, strict=True)),
                dict(zip(names, chosen, strict=True)),
            )
            masks.append(torch.from_numpy(tokens(graph, *told)))
        return torch.stack(masks) if given.batch else masks[0]

    def to_bsr(
        self, len_q: int, len_k: int | None = None, *, head: int = 0, align: str = "end"
    ) -> Bsr:
        """The blocks of a head as FlashInfer's BlockSparseAttentionWrapper plans them; see
        `bslang.exchange.sparse.Bsr`. Raises ValueError for a layout with labels.
        """
        from bslang.exchange.sparse import to_bsr

        self._decided("BSR")
        return to_bsr(self.graph(len_q, len_k, align, head))

    def to_scipy(
        self, len_q: int, len_k: int | None = None, *, head: int = 0, align: str = "end"
    ) -> Any:
        """The blocks of a head as scipy.sparse.csr_array, int8 (block rows, block columns): 1 is a partial
        block, 2 a full one. Raises ImportError without SciPy.
        """
        from bslang.exchange.sparse import to_scipy

        return to_scipy(self.graph(len_q, len_k, align, head))

    def to_networkx(self, seq_len: int, *, head: int = 0) -> Any:
        """The blocks of a head as networkx.DiGraph, the graph that `bslang graph` writes. An edge i -> j
        means that a query of block i sees a key of block j. Its attributes are `kind` ("full" or "partial")
        and `term`, the term of the spec that adds it. Raises LimitError for more than MAX_EDGES edges.
        """
        from bslang.analysis.export import attributed

        return attributed(self._resolved.pattern, self.graph(seq_len, head=head), self.name)

    def to_safetensors(
        self,
        path: str | Path,
        len_q: int,
        len_k: int | None = None,
        *,
        heads: int | None = None,
        align: str = "end",
    ) -> None:
        """Write the block lists at a length, with the spec, to a file that `bslang.from_safetensors` reads.
        heads: the number of heads, required if they differ. Raises ImportError without safetensors.
        """
        from bslang.exchange.archive import save

        self._whole()
        if self.by_head and heads is None:
            raise ValueError("the heads of this layout differ: pass the number of heads, `heads=`")
        len_k = len_q if len_k is None else len_k
        save(path, self._resolved, len_q, len_k, align, heads or 1, self.layer)

    def _heads(
        self, len_q: int, len_k: int | None, align: str, heads: int | None, what: str
    ) -> tuple[Sequence[BlockGraph], list[int]]:
        """The distinct graphs of all heads, and the graph of each head, for a format without labels."""
        from bslang.exchange.tiling import graphs_of

        self._decided(what)
        self._whole()
        len_k = len_q if len_k is None else len_k
        return graphs_of(self._resolved, len_q, len_k, align, heads, self.layer)

    def _decided(self, what: str) -> None:
        """Raise ValueError for a layout whose pairs depend on what a call passes."""
        self._unselected(what)
        if names := self.inputs.label_names:
            raise ValueError(
                f"the masks of this layout need the labels of a call ({', '.join(names)}), and "
                f"{what} cannot hold them; `to_flex` takes labels"
            )

    def _unselected(self, what: str) -> None:
        """Raise ValueError for a layout with selections."""
        if names := self.inputs.selection_names:
            raise ValueError(
                f"the blocks of this layout are selected at the call ({', '.join(names)}), and {what} cannot "
                "hold that; `to_flex` takes select"
            )

    def _whole(self) -> None:
        """Raise ValueError for a layout of some heads, which other libraries' masks count from 0."""
        if self.first_head:
            raise ValueError(
                f"this layout starts at head {self.first_head}: export `at_heads(0)`, for all heads"
            )

    def _given(
        self,
        labels: Any,
        select: Any,
        len_q: int,
        len_k: int,
        align: str,
        device: torch.device | None,
    ) -> Given:
        """Labels and selections, checked as those of a call; device: None for that of the tensors."""
        from bslang.exchange.mask import Given

        tensors = _tensors(labels) + _tensors(select)
        batch = self._batch(labels, select)
        if device is None:
            device = tensors[0].device if tensors else torch.device("cpu")
        q, k = (
            torch.empty((batch or 1, 1, length, 0), dtype=torch.float32, device=device)
            for length in (len_q, len_k)
        )
        values = dict(
            zip(
                self.inputs.selection_names,
                take_selections(select, self.inputs.selections, q, k, align),
                strict=True,
            )
        )
        start = len_k - len_q if align == "end" else 0
        listed = tuple(
            listed_cells(values[each.name][:, 0], cells(each, start, len_q, len_k)[1])
            for each in self.inputs.selections
        )
        made = take_labels(labels, self.inputs.labels, q, k, align)
        if made is None:
            return Given(None, listed, batch)
        if made.q.shape[2] > 1:
            raise ValueError(
                "labels of heads cannot be exported: pass those of one head, (batch, length)"
            )
        return Given((made.q[:, :, 0], made.k[:, :, 0]), listed, batch)

    def _batch(self, labels: Any, select: Any) -> int:
        """How many batch rows labels and selections are for; 0 where they serve any."""
        of_row = [label.name for label in self.inputs.labels if label.sides == ROW]
        if of_row and not isinstance(labels, Mapping):
            labels = {self.inputs.label_names[0]: labels}
        rows = [x.shape[0] for x in _tensors(labels) if x.dim() == 2]
        rows += [x.shape[0] for name in of_row for x in _tensors(labels.get(name)) if x.dim()]
        rows += [x.shape[0] for x in _tensors(select) if x.dim() == 4 and x.shape[0] > 1]
        return max(rows, default=0)


def _of_key_heads(order: list[int], key_heads: int) -> list[int]:
    """The graph of each key head, from that of each query head."""
    if key_heads < 1 or len(order) % key_heads:
        raise ValueError(f"key_heads must divide the {len(order)} heads, and {key_heads} does not")
    group = len(order) // key_heads
    for head, graph in enumerate(order):
        if graph != order[head // group * group]:
            raise ValueError(
                "FlashMask has one mask for the query heads of a key head, and heads "
                f"{head // group * group} and {head} differ"
            )
    return order[::group]


def _tensors(given: Any) -> list[torch.Tensor]:
    """The tensors among labels or selections as a call gives them."""
    if isinstance(given, torch.Tensor):
        return [given]
    parts = given.values() if isinstance(given, Mapping) else given
    return [x for part in parts for x in _tensors(part)] if isinstance(given, _SEVERAL) else []

"""The torch target: blocks gathered and multiplied in batches, on any device.

The second opinion of the other targets, and what runs where there is no compiler. Rows are taken in
groups of like width; each group gathers the blocks that its rows visit, so the work is that of the
visited blocks (and padding to the widest of a group), never of the whole square.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F

from bslang.call import Call
from bslang.runtime.op import lse_dtype
from bslang.runtime.plan import DevicePlan, DeviceTable
from bslang.runtime.target import Gradients, Outputs, SomeGradients
from bslang.runtime.torch.given import Given
from bslang.runtime.torch.paged import gathered, scatter
from bslang.sinks import kept

Mask = Callable[..., torch.Tensor]
"""mask(q positions, k positions, parameters): whether each pair belongs. In a layout whose calls give labels
or selections also of q_labels, k_labels and selected: a tensor for each, which broadcasts like positions."""

Maybe = Callable[..., torch.Tensor]
"""maybe(ranges of blocks by name, parameters): whether any pair of each block may belong."""

_GROUP = 2**22  # scores held at once, over batch and heads


@dataclass(frozen=True)
class _Part:
    """The heads that have one graph; None for all."""

    graph: int
    heads: torch.Tensor | None

    def at(self, blocks: torch.Tensor) -> tuple[Any, ...]:
        """The index of some blocks, of these heads, in a tensor (batch, heads, blocks, ...)."""
        heads = slice(None) if self.heads is None else self.heads.view(-1, *(1,) * blocks.dim())
        return slice(None), heads, blocks


@dataclass(frozen=True)
class _Group:
    """Some rows of a table with the blocks that each visits, padded to the widest.

    row: (rows,) block of the table's own axis; visited: (rows, width) block of the other axis;
    kind: (rows, width) class of each visit, -1 for padding. Padding names a block that its row does
    visit: 0 * NaN is NaN, and no row is to have that of a block which it never meets.
    """

    row: torch.Tensor
    visited: torch.Tensor
    kind: torch.Tensor


class TorchTarget:
    """Implements `bslang.runtime.target.Target` with torch operations."""

    name = "torch"
    dtypes = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
    largest_dim: int | None = None
    by_place = False

    def __init__(self, masks: Sequence[Mask], maybe: Mapping[int, Maybe] | None = None) -> None:
        """masks: one for each residual of the layout; maybe: those whose blocks a call may leave empty."""
        self._masks, self._maybe = masks, maybe or {}

    def missing(self, device: torch.device) -> str:
        return ""

    def forward(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        plan: DevicePlan,
        call: Call,
        into: Outputs | None = None,
    ) -> Outputs:
        q = gathered(q, call.q_pages, plan.len_q)
        # A query that reads a key which is not there has output NaN, not that of other keys.
        k, v = (
            gathered(k, call.k_pages, plan.len_k, torch.nan),
            gathered(v, call.k_pages, plan.len_k),
        )
        out, lse = self._forward(q, k, v, plan, call)
        if into is None:
            return out.to(q.dtype).contiguous(), lse.to(lse_dtype(q.dtype)).contiguous()
        assert call.q_pages is not None
        for to, made, rest in zip(into, (out, lse), (0.0, -torch.inf), strict=True):
            scatter(to, call.q_pages, made, plan.rows.order, rest)
        return into

    def _forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, plan: DevicePlan, call: Call
    ) -> Outputs:
        """(out, lse) in the dtype of sums, of tensors in the order of the sequence."""
        given, softcap = Given(plan, call, q.shape[1]), call.softcap
        isolates = given.any
        qs, ks, vs = _queries(q, plan), _keys(k, plan), _keys(v, plan)
        out = qs.new_zeros((*qs.shape[:-1], vs.shape[-1]))
        lse = torch.full(qs.shape[:-1], -torch.inf, dtype=qs.dtype, device=q.device)
        ks, vs = _per_head(ks, q), _per_head(vs, q)
        first = plan.q_start // plan.block_q
        for part, group in self._groups(q, plan, given):
            mask = self._mask(part, group, plan, given)
            rows, keys = part.at(group.row - first), part.at(group.visited)
            scores = _capped(_products(qs[rows], ks[keys]) * call.scale, softcap)
            scores = scores.masked_fill(~mask, -torch.inf)
            peak = scores.amax(dim=(-2, -1), keepdim=True).clamp_min(torch.finfo(scores.dtype).min)
            p = torch.exp(scores - peak)
            total = p.sum(dim=(-2, -1), keepdim=True)
            acc = _sum("bhrqwk,bhrwkd->bhrqd", p, vs[keys], mask, isolates)
            some = total[..., 0] != 0  # NaN too: it is not hidden
            out[rows] = torch.where(some, acc / total[..., 0], 0)
            lse[rows] = (peak + torch.log(total))[..., 0, 0]
        out, lse = _tokens(out, plan), _tokens(lse[..., None], plan)[..., 0]
        if call.sinks is not None:
            out = out * kept(lse, call.sinks)[..., None]
        return out, lse

    def backward(
        self,
        grad_out: torch.Tensor,
        grad_lse: torch.Tensor,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        out: torch.Tensor,
        lse: torch.Tensor,
        plan: DevicePlan,
        call: Call,
        into: SomeGradients | None = None,
    ) -> SomeGradients:
        grad_out, grad_lse, q, out, lse = (
            gathered(x, call.q_pages, plan.len_q) for x in (grad_out, grad_lse, q, out, lse)
        )
        k, v = (gathered(x, call.k_pages, plan.len_k) for x in (k, v))
        asked = (True, True) if into is None else (into[0] is not None, into[1] is not None)
        made = self._backward(grad_out, grad_lse, q, k, v, out, lse, plan, call, *asked)
        if into is None:
            dq, dk, dv = (
                x.to(like.dtype).contiguous() for x, like in zip(made, (q, k, v), strict=True)
            )
            return dq, dk, dv
        assert call.q_pages is not None and call.k_pages is not None
        rows, cols = (call.q_pages, plan.rows), (call.k_pages, plan.cols)
        for to, x, (pages, table) in zip(into, made, (rows, cols, cols), strict=True):
            if to is not None:
                scatter(to, pages, x, table.order)
        return into

    def _backward(
        self,
        grad_out: torch.Tensor,
        grad_lse: torch.Tensor,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        out: torch.Tensor,
        lse: torch.Tensor,
        plan: DevicePlan,
        call: Call,
        of_rows: bool,
        of_cols: bool,
    ) -> Gradients:
        """(dq, dk, dv) in the dtype of sums, of tensors in the order of the sequence; zeros for dq, or for dk
        and dv, where these are not asked for."""
        given, softcap = Given(plan, call, q.shape[1]), call.softcap
        isolates = given.any
        kept = lse_dtype(q.dtype)
        delta = (out.to(kept) * grad_out.to(kept)).sum(-1) - grad_lse
        qs, dos = _queries(q, plan), _queries(grad_out, plan)
        ks, vs = _per_head(_keys(k, plan), q), _per_head(_keys(v, plan), q)
        # A query without keys has lse -inf; any finite value serves, since its mask is empty.
        lses = _queries(lse.masked_fill(lse == -torch.inf, 0)[..., None], plan)
        deltas = _queries(delta[..., None], plan)
        dq, dk, dv = torch.zeros_like(qs), torch.zeros_like(ks), torch.zeros_like(vs)
        first = plan.q_start // plan.block_q

        for part, group in self._groups(q, plan, given) if of_rows else ():
            rows, keys = part.at(group.row - first), part.at(group.visited)
            mask = self._mask(part, group, plan, given)
            kg = ks[keys]
            scores = _capped(_products(qs[rows], kg) * call.scale, softcap)
            p = torch.exp(scores.masked_fill(~mask, -torch.inf) - lses[rows][..., None])
            dp = _products(dos[rows], vs[keys])
            ds = p * (dp - deltas[rows][..., None])
            if softcap:
                ds *= 1 - (scores / softcap) ** 2
            dq[rows] = _sum("bhrqwk,bhrwkd->bhrqd", ds, kg, mask, isolates) * call.scale

        for part, group in self._groups(q, plan, given, columns=True) if of_cols else ():
            # The same products, seen from the keys: c block columns, w the rows that see each.
            mask = self._mask(part, group, plan, given, columns=True)
            rows, keys = part.at(group.visited - first), part.at(group.row)
            qg, dog = qs[rows], dos[rows]
            scores = torch.einsum("bhcwqd,bhckd->bhcwqk", qg, ks[keys])
            scores = _capped(scores * call.scale, softcap)
            p = torch.exp(scores.masked_fill(~mask, -torch.inf) - lses[rows])
            dp = torch.einsum("bhcwqd,bhckd->bhcwqk", dog, vs[keys])
            ds = p * (dp - deltas[rows])
            if softcap:
                ds *= 1 - (scores / softcap) ** 2
            to_keys = "bhcwqk,bhcwqd->bhckd"
            dv[keys] = _sum(to_keys, p, dog, mask, isolates)
            dk[keys] = _sum(to_keys, ds, qg, mask, isolates) * call.scale

        # Sum over the query heads that read one key head, and drop the padding.
        dk, dv = (
            x.reshape(*k.shape[:2], q.shape[1] // k.shape[1], *x.shape[2:])
            .sum(2)
            .flatten(2, 3)[:, :, : plan.len_k]
            for x in (dk, dv)
        )
        return _tokens(dq, plan), dk, dv

    def _groups(
        self, q: torch.Tensor, plan: DevicePlan, given: Given, columns: bool = False
    ) -> Iterator[tuple[_Part, _Group]]:
        """The rows (or columns) of every graph, heaviest first, in groups that fit in _GROUP scores."""
        table = plan.cols if columns else plan.rows
        area = q.shape[0] * plan.block_q * plan.block_k
        if plan.head_graph is None:
            parts = [_Part(0, None)]
        else:
            graphs = enumerate(plan.parameters)
            parts = [_Part(g, (plan.head_graph == g).nonzero()[:, 0]) for g, _ in graphs]
        for part in parts:
            heads = q.shape[1] if part.heads is None else part.heads.numel()
            row, block, kind = self._blocks(table, part.graph)
            if self._maybe:
                pair = (block, row) if columns else (row, block)
                own = replace(given, heads=part.heads)
                meet = self._meet(*pair, kind, plan.parameters[part.graph], own)
                row, block, kind = row[meet], block[meet], kind[meet]
            for group in _grouped(row, block, kind, max(1, heads * area)):
                yield part, group

    def _blocks(
        self, table: DeviceTable, graph: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Every visit of a graph, program by program: the row, the block that it visits, and its class."""
        classes = 2 + len(self._masks)
        slots = table.order.numel() * classes
        pointer = table.pointer[graph * slots : (graph + 1) * slots + 1].long()
        runs = table.runs[int(pointer[0]) : int(pointer[-1])].long()
        # Runs, one by one, to blocks: the run of each block, and the program and class of each run.
        length = runs[:, 1] - runs[:, 0]
        end = length.cumsum(0)
        blocks = _positions(int(end[-1]) if end.numel() else 0, end)
        run = torch.searchsorted(end, blocks, right=True)
        block = runs[run, 0] + blocks - (end - length)[run]
        slot = torch.searchsorted(pointer[1:] - pointer[0], run, right=True)
        return table.order.long()[slot // classes], block, slot % classes

    def _meet(
        self,
        row: torch.Tensor,
        column: torch.Tensor,
        kind: torch.Tensor,
        parameters: torch.Tensor,
        given: Given,
    ) -> torch.Tensor:
        """Which blocks may hold a pair in some head of some batch row, by what the call says of them."""
        ranges = given.of_blocks(row, column)
        meet = torch.ones_like(kind, dtype=torch.bool)
        for number, maybe in self._maybe.items():
            meet &= (kind != 2 + number) | maybe(ranges, parameters).flatten(0, -2).any(0)
        return meet

    def _mask(
        self,
        part: _Part,
        group: _Group,
        plan: DevicePlan,
        given: Given,
        columns: bool = False,
    ) -> torch.Tensor:
        """Which scores of a group count: (rows, q, width, k), or (columns, width, q, k).

        With labels or selections there are (batch or 1, heads or 1) before.
        """
        row, visited, kind = group.row, group.visited, group.kind
        within_q = _positions(plan.block_q, row)
        within_k = _positions(plan.block_k, row)
        if columns:
            q = visited[:, :, None, None] * plan.block_q + within_q[:, None]
            k = row[:, None, None, None] * plan.block_k + within_k
            kind = kind[:, :, None, None]
        else:
            q = row[:, None, None, None] * plan.block_q + within_q[:, None, None]
            k = visited[:, None, :, None] * plan.block_k + within_k
            kind = kind[:, None, :, None]
        counts = (kind >= 0) & (q >= plan.q_start) & (q < plan.q_start + plan.len_q)
        counts = counts & (k < plan.len_k)
        of_q, of_k = q, k
        if plan.order is not None:  # masks ask for positions; what fills up a block may have any
            of_q, of_k = (plan.order[x.clamp_max(plan.len_k - 1)].long() for x in (q, k))
        arguments: tuple[Any, ...] = (of_q, of_k, plan.parameters[part.graph])
        if given.any:
            arguments += replace(given, heads=part.heads).at(q, k)
        for number, mask in enumerate(self._masks):
            counts = counts & ((kind != 2 + number) | mask(*arguments))
        return counts


def _grouped(
    row: torch.Tensor, block: torch.Tensor, kind: torch.Tensor, area: int
) -> Iterator[_Group]:
    """Visits, row by row, as groups of rows of like width; area: scores of a visit."""
    _, place, count = torch.unique_consecutive(row, return_inverse=True, return_counts=True)
    order = count.argsort(descending=True, stable=True)
    by_width = torch.empty_like(order).scatter(0, order, _positions(order.numel(), row))
    place, visit = by_width[place].sort(stable=True)
    row, block, kind = row[visit], block[visit], kind[visit]
    ends = [0, *count[order].cumsum(0).tolist()]
    begin = 0
    while begin + 1 < len(ends):
        width = ends[begin + 1] - ends[begin]
        stop = min(len(ends) - 1, begin + max(1, _GROUP // (area * width)))
        span = slice(ends[begin], ends[stop])
        start = torch.tensor(ends[begin:stop], dtype=torch.int64, device=row.device)
        at = place[span] - begin
        within = ends[begin] + _positions(ends[stop] - ends[begin], row) - start[at]
        visited = block[start][:, None].repeat(1, width)
        kinds = torch.full_like(visited, -1)
        visited[at, within] = block[span]
        kinds[at, within] = kind[span]
        yield _Group(row[start], visited, kinds)
        begin = stop


def _positions(count: int, like: torch.Tensor) -> torch.Tensor:
    """0, 1, ... on the device of a tensor."""
    return torch.arange(count, dtype=torch.int64, device=like.device)


def _products(rows: torch.Tensor, blocks: torch.Tensor) -> torch.Tensor:
    """Rows times the blocks that each visits, (batch, heads, rows, q, width, k)."""
    return torch.einsum("bhrqd,bhrwkd->bhrqwk", rows, blocks)


def _sum(
    equation: str, weights: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, isolates: bool
) -> torch.Tensor:
    """The einsum of an equation. Where pairs outside of the mask are isolated, none has a part in it, though
    0 * NaN is NaN: a result with NaN is computed again, from the numbers that are finite, and values that
    are not join the sums whose pairs belong."""
    total = torch.einsum(equation, weights, values)
    if not isolates or not total.isnan().any():
        return total
    weights, finite = weights.masked_fill(~mask, 0), values.isfinite()
    total = torch.einsum(equation, weights, values.masked_fill(~finite, 0))
    belongs = mask.expand(weights.shape).to(values.dtype)
    others = torch.einsum(equation, belongs, (~finite).to(values.dtype))
    # Of infinities of one sign a sum is that infinity. Their sign is lost where one is NaN.
    signs = torch.einsum(equation, weights.sign(), values.sign().masked_fill(~values.isinf(), 0))
    infinite = torch.where(signs.abs() == others, signs * torch.inf, torch.nan)
    return torch.where(others > 0, total + infinite, total)


def _capped(scores: torch.Tensor, softcap: float) -> torch.Tensor:
    """Scaled scores, capped where softcap is not 0."""
    return softcap * torch.tanh(scores / softcap) if softcap else scores


def _queries(x: torch.Tensor, plan: DevicePlan) -> torch.Tensor:
    """(batch, heads, len_q, d) as blocks of positions (batch, heads, rows, block_q, d), zeros around."""
    before = plan.q_start % plan.block_q
    after = -(before + plan.len_q) % plan.block_q
    x = F.pad(x.to(lse_dtype(x.dtype)), (0, 0, before, after))
    return x.reshape(*x.shape[:2], x.shape[2] // plan.block_q, plan.block_q, x.shape[3])


def _tokens(x: torch.Tensor, plan: DevicePlan) -> torch.Tensor:
    """The inverse of `_queries`."""
    before = plan.q_start % plan.block_q
    return x.flatten(2, 3)[:, :, before : before + plan.len_q]


def _keys(x: torch.Tensor, plan: DevicePlan) -> torch.Tensor:
    """(batch, heads, len_k, d) as blocks (batch, heads, columns, block_k, d), zeros at the end."""
    x = F.pad(x.to(lse_dtype(x.dtype)), (0, 0, 0, -plan.len_k % plan.block_k))
    return x.reshape(*x.shape[:2], x.shape[2] // plan.block_k, plan.block_k, x.shape[3])


def _per_head(x: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Key heads repeated for the query heads that read them."""
    return x.repeat_interleave(q.shape[1] // x.shape[1], dim=1)

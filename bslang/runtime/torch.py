"""The torch target: blocks gathered and multiplied in batches, on any device.

The second opinion of the other targets, and what runs where there is no compiler. Rows are taken in
groups of like width; each group gathers the blocks that its rows visit, so the work is that of the
visited blocks (and padding to the widest of a group), never of the whole square.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from bslang.runtime.op import lse_dtype
from bslang.runtime.plan import DevicePlan, DeviceTable

Mask = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""mask(q positions, k positions, parameters): whether each pair belongs."""

_GROUP = 2**22  # scores held at once, over batch and heads


@dataclass(frozen=True)
class _Group:
    """Some rows of a table with the blocks that each visits, padded to the widest.

    row: (rows,) block of the table's own axis; visited: (rows, width) block of the other axis;
    kind: (rows, width) class of each visit, -1 for padding.
    """

    row: torch.Tensor
    visited: torch.Tensor
    kind: torch.Tensor


class TorchTarget:
    """Implements `bslang.runtime.target.Target` with torch operations."""

    name = "torch"
    dtypes = (torch.float32, torch.float16, torch.bfloat16, torch.float64)

    def __init__(self, masks: Sequence[Mask]) -> None:
        """masks: one for each residual of the layout."""
        self._masks = masks

    def missing(self, device: torch.device) -> str:
        return ""

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, plan: DevicePlan, scale: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        qs, ks, vs = _queries(q, plan), _keys(k, plan), _keys(v, plan)
        out = torch.zeros_like(qs)
        lse = torch.full(qs.shape[:-1], -torch.inf, dtype=qs.dtype, device=q.device)
        ks, vs = _per_head(ks, q), _per_head(vs, q)
        first = plan.q_start // plan.block_q
        for group in self._groups(plan.rows, q, plan.block_q * plan.block_k):
            mask = self._mask(group.row, group.visited, group.kind, plan)
            scores = _products(qs[:, :, group.row - first], ks[:, :, group.visited], scale, mask)
            peak = scores.amax(dim=(-2, -1), keepdim=True).clamp_min(torch.finfo(scores.dtype).min)
            p = torch.exp(scores - peak)
            total = p.sum(dim=(-2, -1), keepdim=True)
            acc = torch.einsum("bhrqwk,bhrwkd->bhrqd", p, vs[:, :, group.visited])
            some = total[..., 0] > 0
            out[:, :, group.row - first] = torch.where(some, acc / total[..., 0], 0)
            lse[:, :, group.row - first] = (peak + torch.log(total))[..., 0, 0]
        out, lse = _tokens(out, plan), _tokens(lse[..., None], plan)[..., 0]
        return out.to(q.dtype).contiguous(), lse.to(lse_dtype(q.dtype)).contiguous()

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
        scale: float,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        kept = lse_dtype(q.dtype)
        delta = (out.to(kept) * grad_out.to(kept)).sum(-1) - grad_lse
        qs, dos = _queries(q, plan), _queries(grad_out, plan)
        ks, vs = _per_head(_keys(k, plan), q), _per_head(_keys(v, plan), q)
        # A query without keys has lse -inf; any finite value serves, since its mask is empty.
        lses = _queries(lse.masked_fill(lse == -torch.inf, 0)[..., None], plan)
        deltas = _queries(delta[..., None], plan)
        dq, dk, dv = torch.zeros_like(qs), torch.zeros_like(ks), torch.zeros_like(vs)
        first = plan.q_start // plan.block_q
        area = plan.block_q * plan.block_k

        for group in self._groups(plan.rows, q, area):
            rows = group.row - first
            mask = self._mask(group.row, group.visited, group.kind, plan)
            kg = ks[:, :, group.visited]
            p = torch.exp(_products(qs[:, :, rows], kg, scale, mask) - lses[:, :, rows][..., None])
            dp = _products(dos[:, :, rows], vs[:, :, group.visited], 1.0, None)
            ds = p * (dp - deltas[:, :, rows][..., None])
            dq[:, :, rows] = torch.einsum("bhrqwk,bhrwkd->bhrqd", ds, kg) * scale

        for group in self._groups(plan.cols, q, area):
            # The same products, seen from the keys: c block columns, w the rows that see each.
            mask = self._mask(group.row, group.visited, group.kind, plan, columns=True)
            rows = (group.visited - first).clamp_min(0)  # padding points anywhere
            qg, dog = qs[:, :, rows], dos[:, :, rows]
            scores = torch.einsum("bhcwqd,bhckd->bhcwqk", qg, ks[:, :, group.row]) * scale
            p = torch.exp(scores.masked_fill(~mask, -torch.inf) - lses[:, :, rows])
            dp = torch.einsum("bhcwqd,bhckd->bhcwqk", dog, vs[:, :, group.row])
            ds = p * (dp - deltas[:, :, rows])
            dv[:, :, group.row] = torch.einsum("bhcwqk,bhcwqd->bhckd", p, dog)
            dk[:, :, group.row] = torch.einsum("bhcwqk,bhcwqd->bhckd", ds, qg) * scale

        # Sum over the query heads that read one key head, and drop the padding.
        dk, dv = (
            x.reshape(*k.shape[:2], q.shape[1] // k.shape[1], *x.shape[2:])
            .sum(2)
            .flatten(2, 3)[:, :, : plan.len_k]
            for x in (dk, dv)
        )
        return (
            _tokens(dq, plan).to(q.dtype).contiguous(),
            dk.to(k.dtype).contiguous(),
            dv.to(v.dtype).contiguous(),
        )

    def _groups(self, table: DeviceTable, q: torch.Tensor, area: int) -> Iterator[_Group]:
        """The rows of a table, heaviest first, in groups that fit in _GROUP scores."""
        programs = table.order.numel()
        classes = (table.pointer.numel() - 1) // max(programs, 1)
        # Runs, one by one, to blocks: the run of each block, and the program and class of each run.
        length = (table.runs[:, 1] - table.runs[:, 0]).long()
        end = length.cumsum(0)
        blocks = torch.arange(int(end[-1]) if end.numel() else 0, device=end.device)
        run = torch.searchsorted(end, blocks, right=True)
        block = table.runs[run, 0] + blocks - (end - length)[run]
        slot = torch.searchsorted(table.pointer[1:].long(), run, right=True)
        program, kind = slot // classes, slot % classes
        ends = torch.searchsorted(
            program, torch.arange(programs + 1, device=program.device)
        ).tolist()
        pairs = max(1, q.shape[0] * q.shape[1] * area)
        begin = 0
        while begin < programs:
            width = ends[begin + 1] - ends[begin]
            if width == 0:
                return  # the rest visit nothing: rows are in descending order of work
            stop = min(programs, begin + max(1, _GROUP // (pairs * width)))
            span = slice(ends[begin], ends[stop])
            row = program[span] - begin
            place = torch.arange(ends[begin], ends[stop], device=row.device)
            place = place - torch.as_tensor(ends[begin:stop], device=row.device)[row]
            visited = torch.zeros((stop - begin, width), dtype=torch.long, device=row.device)
            kinds = torch.full_like(visited, -1)
            visited[row, place] = block[span]
            kinds[row, place] = kind[span]
            some = (kinds >= 0).any(1)
            yield _Group(table.order[begin:stop].long()[some], visited[some], kinds[some])
            begin = stop

    def _mask(
        self,
        row: torch.Tensor,
        visited: torch.Tensor,
        kind: torch.Tensor,
        plan: DevicePlan,
        columns: bool = False,
    ) -> torch.Tensor:
        """Which scores of a group count: (rows, q, width, k), or (columns, width, q, k)."""
        within_q = torch.arange(plan.block_q, device=row.device)
        within_k = torch.arange(plan.block_k, device=row.device)
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
        for number, mask in enumerate(self._masks):
            counts = counts & ((kind != 2 + number) | mask(q, k, plan.parameters))
        return counts


def _products(
    rows: torch.Tensor, blocks: torch.Tensor, scale: float, mask: torch.Tensor | None
) -> torch.Tensor:
    """Rows times the blocks that each visits, (batch, heads, rows, q, width, k); -inf where masked out."""
    scores = torch.einsum("bhrqd,bhrwkd->bhrqwk", rows, blocks) * scale
    return scores if mask is None else scores.masked_fill(~mask, -torch.inf)


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

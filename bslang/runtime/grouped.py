"""Query heads of a key head in one tile, so that keys are read once for all of them.

In decoding, where each has one query, they are the queries of one head; else kernels have tiles with rows
of several heads.
"""

from __future__ import annotations

from dataclasses import replace
from math import gcd

import torch

from bslang.call import Call
from bslang.labels import Labels
from bslang.runtime.plan import DevicePlan


def side_by_side(
    q: torch.Tensor, k: torch.Tensor, plan: DevicePlan, call: Call, size: int | None = None
) -> tuple[torch.Tensor, DevicePlan, Call]:
    """The one query of each head as the queries of its key head, where the heads have one layout.

    q (batch, heads, 1, dim) becomes (batch, heads / size, size, dim). The queries of a head then stand at
    the same position, and fill the first rows of a block row. size: how many heads of a key head are put
    together, a divisor of their number; None for all. Other calls are returned as they are. The kernel's
    results are those of the call, in another shape.
    """
    batch, heads, len_q, dim = q.shape
    group = size or heads // k.shape[1]
    if len_q != 1 or not 1 < group <= plan.block_q or plan.head_graph is not None:
        return q, plan, call
    apart = [value.shape[1] for value in call.selections]
    apart += [] if call.labels is None else [call.labels.q.shape[2]]
    if max(apart, default=1) > k.shape[1]:  # these heads differ in what they see
        return q, plan, call
    start = plan.q_start - plan.q_start % plan.block_q
    if call.labels is not None:
        of_q = call.labels.q.repeat_interleave(group, dim=-1)
        call = replace(call, labels=Labels(of_q, call.labels.k))
    if call.sinks is not None:
        call = replace(call, sinks=call.sinks.view(-1, group))
    together = replace(plan, len_q=group, q_start=start, position=plan.q_start)
    return q.view(batch, heads // group, group, dim), together, call


def members(call: Call, plan: DevicePlan, heads: int, key_heads: int) -> int:
    """How many query heads, one after another, may be in one tile: they share a key head, and see the same
    keys. A power of 2, of those that divide all that the call says heads by."""
    in_pieces = call.q_pages is None and call.lengths is None and not plan.in_order
    if plan.head_graph is not None or not in_pieces:
        return 1
    apart = [key_heads, *(value.shape[1] for value in call.selections)]
    apart += [] if call.labels is None else [call.labels.q.shape[2]]
    together = gcd(*(heads // groups for groups in apart))
    return together & -together

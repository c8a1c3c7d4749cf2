"""Spans: what a call settles of the blocks of each program, which a kernel finds before others walk them."""

from __future__ import annotations

import torch

from bslang import abi
from bslang.call import Call
from bslang.runtime.plan import DevicePlan
from bslang.runtime.triton.tables import Visit

AHEAD = 2
"""Slots of a list that hold no span: the first says how many there are, and kernels read one ahead."""

PER_TOKEN = 8
"""For how many spans a list has room, for each token of the block that a program holds: lists then take 96
bytes a token, and 13 MB for 131,072 tokens. It is a number of the layout: were it one of the
batch, so would be where sums are cut, and their bits."""


def room_for(
    visit: Visit,
    settled: int,
    batch: int,
    heads: int,
    block: int,
    plan: DevicePlan,
    call: Call,
) -> tuple[int, torch.Tensor, dict[str, int]]:
    """How many programs find the spans of a call, room for these, and numbers that kernels take of it.

    settled: of how many masks there are lists; block: tokens of what a program holds. Where a list has no
    room for all spans of a run, the last one is the rest of it, whose pairs are masked though the call may
    settle some of its blocks: the result is the same.
    """
    blocks, runs = visit.table.longest
    slots = max(runs, min(blocks, PER_TOKEN * block)) + AHEAD
    apart = _heads_apart(call, heads, plan)
    programs = visit.programs * batch * apart
    size = programs * settled * slots * len(abi.COLUMNS["span"])
    spans = torch.empty(size, dtype=torch.int32, device=plan.parameters.device)
    return programs, spans, {"span_heads": apart, "span_slots": slots}


def _heads_apart(call: Call, heads: int, plan: DevicePlan) -> int:
    """To how many heads of a sequence a call may say different things; a divisor of `heads`."""
    if plan.head_graph is not None:
        return heads
    groups = [each.bits.shape[1] for each in call.selected]
    groups += [] if call.labels is None else [call.labels.q.shape[2]]
    return max(groups)

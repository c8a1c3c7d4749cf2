"""Spans of blocks that a call settles: a kernel finds them, and attention walks them."""

from __future__ import annotations

from concurrent.futures import Executor
from itertools import groupby
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from calls import Call

import bslang
from bslang import abi
from bslang import call as calling
from bslang.runtime.triton import launch, spans, tiles
from bslang.runtime.triton.prepared import Launched
from bslang.runtime.triton.tables import Visit

SPEC = "same(doc) & (causal - cols(64t:96t) | global(-1))"
"""Rows with several runs of one mask."""

BLOCK, LENGTH = 16, 208


def documents() -> torch.Tensor:
    """Two sequences of two heads: documents of many lengths, and labels that come again."""
    generator = torch.Generator().manual_seed(1)
    sizes = torch.randint(1, 70, (LENGTH,), generator=generator)
    sorted_ = torch.repeat_interleave(torch.arange(LENGTH), sizes)[:LENGTH]
    again = (torch.arange(LENGTH) // 40) % 3
    return torch.stack((torch.stack((sorted_, again)), torch.stack((again // 2, sorted_ % 2))))


def state(of_q: torch.Tensor, of_k: torch.Tensor, *, masked: bool) -> int:
    """That of a block with these labels. masked: whether another part of its mask is undecided."""
    if of_q.min() > of_k.max() or of_k.min() > of_q.max():
        return 0
    alike = of_q.min() == of_k.max() and of_q.max() == of_k.min()
    return 2 if alike and not masked else 1


def wanted(runs: list[tuple[int, int]], states: list[int], room: int) -> list[tuple[int, ...]]:
    """The spans of some runs whose blocks have these states, for so many slots."""
    found: list[tuple[int, ...]] = []
    for left, (begin, end) in enumerate(runs):
        here = []
        for value, blocks in groupby(range(begin, end), key=states.__getitem__):
            each = list(blocks)
            here += [(each[0], each[-1] + 1, value)] * (value > 0)
        most = room - (len(runs) - 1 - left) - len(found)
        if len(here) > most:
            here = [*here[: most - 1], (here[most - 1][0], end, 1)]
        found += here
    return found


def check_lists(per_token: int, at_once: int) -> None:
    """The lists of both sides, of all programs, heads and masks, against each block's labels."""
    layout = bslang.compile(SPEC, block=BLOCK, target="triton")
    target: Any = layout.targets["triton"]
    labels = documents()
    made: list[tuple[Any, ...]] = []

    def room_for(visit: Visit, *given: Any) -> Any:
        programs, room, numbers = spans.room_for(visit, *given)
        made.append((visit.table, given[0], room, numbers))
        return programs, room, numbers

    def start(kernel: str, *given: Any) -> Any:
        return launched(kernel, *given) if kernel.endswith("_spans") else Launched(None, None, ())

    launched = target._start
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spans, "PER_TOKEN", per_token)
        patch.setattr(tiles, "FOUND", at_once)
        patch.setattr(launch, "room_for", room_for)
        patch.setattr(target, "_start", start)
        tiles.launch.cache_clear()
        q, k = torch.zeros(2, 4, LENGTH, 16), torch.zeros(2, 2, LENGTH, 16)
        leaves = [x.requires_grad_() for x in (q, k, k.clone())]
        out = layout(*leaves, labels=labels)
        torch.autograd.grad(out, leaves, torch.zeros_like(out))
    tiles.launch.cache_clear()
    assert len(made) == 3  # forward, dQ, dK and dV
    cut = 0
    for number, (table, settled, room, values) in enumerate(made):
        slots, columns = values["span_slots"], len(abi.COLUMNS["span"])
        assert (settled, values["span_heads"]) == (2, 2)
        lists = room.view(len(table.programs), 2, 2, settled, slots, columns)
        pointer = table.pointer.view(-1)
        for rank, (held, *_) in enumerate(table.programs.tolist()):
            for b, h, mask in np.ndindex(2, 2, settled):
                blocks = labels[b, h].split(BLOCK)
                at = rank * (len(abi.CLASSES) - 1 + settled) + len(abi.CLASSES) - 1 + mask
                runs = table.runs[pointer[at] : pointer[at + 1], :2].tolist()
                states = [state(blocks[held], other, masked=mask == 1) for other in blocks]
                expected = wanted(runs, states, slots - spans.AHEAD)
                found = lists[rank, b, h, mask]
                assert found[0, 0] == len(expected), (number, held, b, h, mask)
                assert found[1 : 1 + len(expected)].tolist() == [[*each] for each in expected]
                cut += len(expected) < len(wanted(runs, states, 1000))
    assert (cut > 0) == (per_token == 0)


@pytest.mark.parametrize(("per_token", "at_once"), [(8, 4), (0, 256)])
def test_lists(interpreting: Executor, per_token: int, at_once: int) -> None:
    """Few blocks at once, so that spans reach past them, and as many as suits a GPU; slots for all spans, and
    for one of each run."""
    interpreting.submit(check_lists, per_token, at_once).result()


def check_without_room(spec: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spans, "PER_TOKEN", 0)
        Call(spec, (8, 8), 40, 40, batch=1, heads=2, key_heads=1).check("triton")


@pytest.mark.parametrize("spec", ["same(doc) & causal", "same(doc) & (last(12t) | cols(:9t))"])
def test_results_where_lists_have_no_room(interpreting: Executor, spec: str) -> None:
    interpreting.submit(check_without_room, spec).result()


def test_memory_is_bounded_by_tokens() -> None:
    """96 bytes a token, head and mask, and what comes with each list, whatever the length is."""
    known = {"head_graph": torch.zeros(64), "parameters": torch.zeros(1, device="meta")}
    for block, tokens in ((16, 2**14), (64, 2**17), (128, 2**20)):
        rows = tokens // block
        plan: Any = SimpleNamespace(**known)
        visit: Any = SimpleNamespace(programs=rows, table=SimpleNamespace(longest=(rows, 2)))
        call = calling.Call(1.0)
        programs, room, values = spans.room_for(visit, 1, 2, 64, block, plan, call)
        assert programs == rows * 128 and values["span_heads"] == 64
        assert room.nbytes - 12 * spans.AHEAD * programs <= 96 * tokens * 128

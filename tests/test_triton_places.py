"""The triton target with the tables of a capacity: rows that end at different places, steps of decoding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from calls import Call
from reference import agrees
from test_rows import CALLS, MORE, check, check_steps, lengths_of, mask_of
from torch.utils._python_dispatch import TorchDispatchMode

import bslang
from benchmarks.driver import Driver
from bslang import call as calls
from bslang.runtime import op, plan
from bslang.runtime.triton.launch import TritonTarget

pytest.importorskip("triton")

ONCE = Counter(forward=1, delta=1, dq=1, dkdv=1)


@contextmanager
def launches() -> Iterator[Counter[str]]:
    """The launches of each kernel, with parts of rows that are small."""
    count: Counter[str] = Counter()
    start = TritonTarget._start

    def counted(self: TritonTarget, kernel: str, *given: Any) -> Any:
        count[kernel] += 1
        return start(self, kernel, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bslang.schedule.programs.SHORTEST", 1)
        patch.setattr(TritonTarget, "_start", counted)
        yield count


def check_launches(call: Call) -> Counter[str]:
    with launches() as count:
        check("triton", call)
    return count


@pytest.mark.parametrize(
    ("call", "merged"),
    [
        (CALLS[0], 1),  # the heads of a key head in one tile
        (CALLS[2], 0),  # more queries than a block row
        (CALLS[3], 1),  # heads that differ
        (replace(CALLS[4], batch=2), 1),  # labels
        (CALLS[6], 0),  # blocks that are no tile, queries without keys
        (MORE[4], 0),  # no row has as many keys as queries
    ],
    ids=lambda x: getattr(x, "spec", ""),
)
def test_all_rows_of_a_batch_in_one_launch(interpreting: Executor, call: Call, merged: int) -> None:
    found = interpreting.submit(check_launches, call).result()
    spans = Counter(row_spans=2, column_spans=1) if "doc" in call.spec else Counter()
    assert found == ONCE + Counter(merge=merged) + spans


def check_parts_of_steps() -> Counter[str]:
    with launches() as count:
        check_steps("triton")
    return count


def test_steps_in_parts(interpreting: Executor) -> None:
    found = interpreting.submit(check_parts_of_steps).result()
    assert found == Counter(forward=33, merge=33)


def check_pages() -> None:
    """In pages, what no row holds is not there."""
    call = Call("(last(20t) | cols(0:4t)) & causal", (8, 8), 1, 64, batch=3)
    given, lengths = call.inputs(), lengths_of(call)
    table = torch.full((3, 4), -1, dtype=torch.int32)
    place = iter(torch.randperm(12).tolist())
    pools = [torch.full((12, call.key_heads, 16, 16), torch.nan) for _ in range(2)]
    for row, keys in enumerate(lengths.tolist()):
        for column in range(-(-keys // 16)):
            page = table[row, column] = next(place)
            part = slice(16 * column, min(16 * column + 16, keys))
            for pool, x in zip(pools, (given.k, given.v), strict=True):
                pool[page, :, : part.stop - part.start] = x[row, :, part]
    with torch.no_grad():
        layout = call.layout("triton")
        with launches() as count:
            wanted = layout(given.q, given.k, given.v, lengths=lengths)
            out = layout(given.q, *pools, pages=table, lengths=lengths)
    torch.testing.assert_close(out, wanted)
    assert count == Counter(forward=2, merge=2)


def test_rows_in_pages(interpreting: Executor) -> None:
    interpreting.submit(check_pages).result()


def check_changed() -> int:
    call = Call("causal", (16, 16), 1, 61, batch=2)
    layout, given = call.layout("triton"), call.inputs()
    lengths = torch.tensor([61, 20])
    layout(given.q, given.k, given.v, lengths=lengths)
    made = []
    with pytest.MonkeyPatch.context() as patch:
        of = plan.DevicePlan.of
        patch.setattr(plan.DevicePlan, "of", lambda *each: made.append(each) or of(*each))
        lengths.copy_(torch.tensor([3, 47]))
        mask = mask_of(call, lengths)
        agrees(layout, given, mask, 1e-5, lengths=lengths)
        for length in (40, 50):  # and steps of a length that the host knows
            layout(given.q, given.k[:, :, :length], given.v[:, :, :length])
    return len(made)


def test_other_lengths_make_no_plan(interpreting: Executor) -> None:
    assert interpreting.submit(check_changed).result() == 0


# ---- CUDA graphs, with a driver that launches nothing --------------------------------------------


class Read(TorchDispatchMode):
    """How often the host has read a number of a tensor."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **kwargs or {})


def check_capture(driver: Driver) -> None:
    layout = bslang.compile("(last(40t) | cols(0:4t)) & causal", block=16, target="triton")
    q, (k, v) = torch.zeros(2, 4, 1, 16).half(), torch.zeros(2, 2, 2, 100, 16).half()
    lengths = torch.tensor([90, 3])
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("bslang.schedule.programs.SHORTEST", 1)
        with driver.capture(), pytest.raises(RuntimeError, match="call the layout once before"):
            layout(q, k, v, lengths=lengths)
        layout(q, k, v, lengths=lengths)
        call = calls.Call.of(q, k, layout.inputs, lengths=lengths)
        with driver.capture() as graph, Read() as read:
            op.attend(layout, layout.targets["triton"], q, k, v, call)
    assert [each.kernel for each in graph] == ["_forward", "_merge"] and not read.count
    layout._capacities._values.clear()  # as other layouts and lengths would
    for each in graph:
        assert each.pointers["lengths"] == lengths.data_ptr()
        assert each.lost() == ["lse", "out", "part_lse", "part_out"]  # which the graph holds


def check_absent(driver: Driver) -> None:
    """What stands for absent keys is made by a call before: a capture would fill it at its replays alone,
    and other calls read it before them."""
    layout = bslang.compile("last(40t) & causal", block=16, target="triton")
    q, (k, v) = torch.zeros(1, 2, 1, 16).half(), torch.zeros(2, 1, 2, 96, 16).half()
    pools, lengths = torch.zeros(2, 6, 2, 16, 16).half(), torch.tensor([90])
    pages = torch.arange(6, dtype=torch.int32)[None]

    def paged() -> None:
        layout(q, *pools, pages=pages, lengths=lengths)

    with torch.no_grad():
        layout(q, k, v, lengths=lengths)  # has the tables, and no pages
        with driver.capture(), pytest.raises(RuntimeError, match="and the same options"):
            paged()
        paged()
        with driver.capture() as graph:
            paged()
    (launch,) = graph
    assert launch.lost() == ["lse", "out"]  # which the graph holds
    assert {"k_absent", "v_absent"} <= launch.pointers.keys()


def test_a_capture_fills_nothing_that_others_read(on_gpu: Callable[..., None]) -> None:
    on_gpu(check_absent)


def test_a_captured_step_reads_the_lengths_of_its_replay(on_gpu: Callable[..., None]) -> None:
    on_gpu(check_capture)

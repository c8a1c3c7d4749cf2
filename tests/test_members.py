"""Tiles of the triton target with rows of several query heads that share a key head."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import pytest
import torch
from calls import Call
from reference import TOLERANCE, agrees, inputs
from strategies import Case

import bslang
from bslang import call as calling
from bslang.dims import Dims
from bslang.gpu.machine.devices import device
from bslang.runtime.grouped import members
from bslang.runtime.triton.launch import TritonTarget
from bslang.runtime.triton.tiles import launch

pytest.importorskip("triton")

HALF = torch.float16
Seen = dict[str, int]

# Each row: a program on a grid, what its tensors are, and the heads of a tile of `forward` and `dq`.
RUNS: list[tuple[Case, dict[str, Any], tuple[int, int]]] = [
    (Case("causal", (16, 16), 37, 53, "end"), {"heads": 4, "key_heads": 2, "batch": 2}, (2, 2)),
    (
        Case("last(20t) | cols(:4t)", (16, 16), 21, 37, "end"),
        {"heads": 4, "key_heads": 1, "dim": 24, "value_dim": 40},
        (4, 2),
    ),
    (Case("causal", (16, 32), 33, 33, "start"), {"heads": 8, "key_heads": 1, "dtype": HALF}, (8, 8)),
    (Case("causal", (32, 16), 40, 61, "end"), {"heads": 12, "key_heads": 2, "dtype": HALF}, (2, 2)),
    (Case("causal", (64, 64), 70, 130, "end"), {"heads": 4, "key_heads": 1, "dtype": HALF}, (2, 2)),
    (Case("random(2, seed=3)", (5, 3), 17, 21, "end"), {"heads": 4, "key_heads": 1}, (4, 2)),
    (Case("last(head + 1)", (16, 16), 33, 33, "end"), {"heads": 2, "key_heads": 1}, (1, 1)),
]  # fmt: skip


def seen_by(call: Callable[[], object]) -> Seen:
    """The heads of a tile of each kernel that a call starts."""
    seen: Seen = {}
    start = TritonTarget._start

    def started(self: Any, kernel: str, chosen: Any, *given: Any) -> Any:
        if "MEMBERS" in chosen.constants:
            seen[kernel] = chosen.constants["MEMBERS"]
        return start(self, kernel, chosen, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TritonTarget, "_start", started)
        call()
    return seen


def check(case: Case, options: dict[str, Any], **call: Any) -> Seen:
    made = bslang.compile(case.spec, block=case.block, target="triton")
    tensors = inputs(case.len_q, case.len_k, **options)
    sinks = torch.linspace(-2, 3, tensors.q.shape[1])
    given = {"sinks": sinks, "softcap": 4.0, "align": case.align}
    masks, tolerance = case.masks(tensors.q.shape[1]), TOLERANCE[tensors.q.dtype]
    return seen_by(lambda: agrees(made, tensors, masks, tolerance, **given, **call))


@pytest.mark.parametrize(("case", "options", "heads"), RUNS)
def test_results(
    interpreting: Executor, case: Case, options: dict[str, Any], heads: tuple[int, int]
) -> None:
    seen = interpreting.submit(check, case, options).result()
    assert (seen["forward"], seen["dq"]) == heads


def check_split_rows() -> Seen:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SHORTEST", "LIGHT", "HEAVY"):
            patch.setattr(f"bslang.schedule.programs.{name}", 1)
        case = Case("rows(0) | window(3)", (16, 16), 52, 52, "end")
        options = {"batch": 2, "heads": 4, "key_heads": 2, "value_dim": 8}
        made = bslang.compile(case.spec, block=case.block, target="triton")  # held for its plan
        seen = check(case, options)
        plan = made._plan(52, 52, "end", torch.device("cpu"))
        assert plan.made["triton rows"].slots > 1
        return seen


def test_parts_of_split_rows_are_joined(interpreting: Executor) -> None:
    assert interpreting.submit(check_split_rows).result() == {"forward": 2, "dq": 2}


def check_labels() -> list[Seen]:
    """Labels of all heads, of each key head, and of each query head."""
    found = [seen_by(lambda: Call("same(doc) & causal", len_q=20, len_k=30).check("triton"))]
    layout = bslang.compile("same(doc) & causal", block=16, target="triton")
    given = inputs(25, 25, heads=4, key_heads=2, batch=2)
    generator = torch.Generator().manual_seed(3)
    for heads in (2, 4):
        doc = torch.randint(0, 3, (2, heads, 25), generator=generator)
        of_all = doc.repeat_interleave(4 // heads, 1)
        mask = (of_all[..., None] == of_all[:, :, None]).numpy() & torch.ones(
            25, 25
        ).tril().bool().numpy()
        call = {"labels": {"doc": doc}}
        found.append(
            seen_by(lambda: agrees(layout, given, mask, 2e-6, **call))  # noqa: B023  # called here
        )
    return found


def test_labels(interpreting: Executor) -> None:
    both = [{"forward": n, "dq": n} for n in (2, 2, 1)]
    assert interpreting.submit(check_labels).result() == both


def check_programs() -> list[int]:
    q = torch.zeros(1, 8, 64, 16, requires_grad=True)
    k = v = torch.zeros(1, 2, 64, 16)
    started: list[int] = []
    start = TritonTarget._start

    def counted(self: Any, kernel: str, chosen: Any, programs: int, arguments: Any) -> Any:
        if kernel in ("forward", "dq"):
            started.append(programs)
        return start(self, kernel, chosen, programs, arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TritonTarget, "_start", counted)
        bslang.compile("causal", block=16, target="triton")(q, k, v).sum().backward()
    return started


def test_keys_are_read_once_for_a_group(interpreting: Executor) -> None:
    """By a program for each of 4 block rows and 2 key heads; a tile of dQ in fp32 has 32 rows, of 2 heads."""
    assert interpreting.submit(check_programs).result() == [8, 16]


def check_prepared() -> list[Any]:
    layout = bslang.compile("select(pick) & causal", block=16, target="triton")
    q, k = torch.zeros(1, 8, 64, 16), torch.zeros(1, 2, 64, 16)
    keys = []

    def run(self: Any, kernel: str, key: Any, *given: Any) -> None:
        if kernel == "forward":
            keys.append(key)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TritonTarget, "_run", run)
        for heads in (2, 8, 1, 8):
            layout(q, k, k, select=torch.ones(1, heads, 4, 4, dtype=torch.bool))
    return keys


def test_prepared_launches_know_whether_heads_differ(interpreting: Executor) -> None:
    of_group, of_head, of_all, again = interpreting.submit(check_prepared).result()
    assert of_group == of_all != of_head == again


def test_heads_that_may_be_in_one_tile() -> None:
    q, k = torch.zeros(1, 24, 40, 16), torch.zeros(1, 2, 40, 16)
    plan = bslang.compile("causal", block=16, target="torch")._plan(40, 40, "end", q.device)
    for key_heads, power in ((24, 1), (12, 2), (6, 4), (8, 1), (4, 2), (3, 8), (1, 8)):
        assert members(calling.Call(1.0), plan, 24, key_heads) == power
    lengths = calling.Call(1.0, lengths=torch.tensor([40]))
    pages = calling.Call(1.0, q_pages=torch.zeros(1, 1, 3, dtype=torch.int32))
    for call in (lengths, pages):
        assert members(call, plan, 24, k.shape[1]) == 1


@pytest.mark.parametrize(
    ("kernel", "block", "group", "tile"),
    [
        ("forward", 16, 8, (16, 8)),
        ("forward", 16, 4, (16, 4)),
        ("forward", 32, 8, (32, 4)),
        ("forward", 128, 8, (128, 1)),
        ("dq", 16, 8, (16, 4)),
        ("dq", 64, 8, (64, 1)),
    ],
)
def test_tiles_are_filled(kernel: str, block: int, group: int, tile: tuple[int, int]) -> None:
    given = launch(
        kernel, Dims.of(128), 2, ((block, block),) * 2, device=device("cuda:90"), members=group
    )
    alone = launch(kernel, Dims.of(128), 2, ((128, block),) * 2, device=device("cuda:90"))
    assert (given.constants["TILE_Q"], given.constants["MEMBERS"]) == tile
    assert (
        "MEMBERS"
        not in launch(
            "dkdv", Dims.of(128), 2, ((16, 16),) * 2, device=device("cuda:90"), members=4
        ).constants
    )
    if tile[0] * tile[1] == 128:  # its warps and stages are those of as many rows of one head
        assert given.options == alone.options

"""Prepared launches: each is that of Triton's own launcher, and calls of another kind have none."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

import bslang
from benchmarks.driver import Driver, Launch

BRAIN = torch.bfloat16
Make = Callable[[], object]


def tensors(
    len_q: int, len_k: int, heads: int = 2, key_heads: int = 2, dim: int = 16
) -> tuple[torch.Tensor, ...]:
    shapes = ((heads, len_q), (key_heads, len_k), (key_heads, len_k))
    return tuple(torch.zeros(1, *shape, dim, dtype=BRAIN) for shape in shapes)


@contextmanager
def hooked() -> Iterator[list[Any]]:
    """A hook of Triton's, and what it was called with."""
    from triton import knobs

    seen: list[Any] = []
    knobs.runtime.launch_enter_hook.add(seen.append)
    try:
        yield seen
    finally:
        knobs.runtime.launch_enter_hook.remove(seen.append)


def is_prepared(launch: Launch) -> bool:
    return all(isinstance(launch.arguments[name], int) for name in launch.pointers)


def launched(driver: Driver, call: Make) -> list[Launch]:
    driver.launches.clear()
    call()
    return list(driver.launches)


def told(launch: Launch) -> tuple[Any, ...]:
    """All of a launch but the addresses of a call's own tensors."""
    numbers = {n: x for n, x in launch.arguments.items() if n not in launch.pointers}
    tables = {
        n: x for n, x in launch.pointers.items() if n in ("programs", "pointer", "runs", "merges")
    }
    return launch.kernel, launch.grid, launch.metadata, numbers, tables


def calls() -> dict[str, Make]:
    """Calls of all kinds that Triton's kernels know."""
    compiled = {
        spec: bslang.compile(spec, block=16, target="triton")
        for spec in ("causal", "same(doc) & causal", "select(pick) & causal", "rows(0) | window(3)")
    }
    causal, docs, picks, rows = compiled.values()
    q, k, v = tensors(64, 64)
    grad, sinks = torch.zeros_like(q), torch.zeros(2)
    one, cache = tensors(1, 100, 4)[:2]
    doc = torch.arange(64) // 20
    pick = torch.ones(1, 2, 4, 4, dtype=torch.bool)
    pool = torch.zeros(8, 2, 16, 16, dtype=BRAIN)
    pages = torch.arange(8, dtype=torch.int32).view(1, 8)

    def trained(layout: bslang.Layout, **options: Any) -> Make:
        x = q.clone().requires_grad_()
        return lambda: layout(x, k, v, **options).backward(grad)

    options: dict[str, Any] = {"scale": -0.5, "softcap": 2.0, "sinks": sinks, "labels": doc}
    return {
        "many options": lambda: docs(q, k, v, **options),
        "padding": lambda: docs(q, k, v, key_padding=torch.tensor([50]), **options),
        "selections": lambda: picks(q, k, v, select=pick),
        "split rows": trained(rows),
        "a step, grouped": lambda: causal(one, cache, cache),
        "in pages": lambda: causal(one, pool, pool, pages=pages, lengths=100),
        "rows of their own": lambda: causal(one, cache, cache, lengths=torch.tensor([70])),
    }


def check_same_launches(driver: Driver) -> set[str]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SHORTEST", "LIGHT", "HEAVY"):  # rows are split
            patch.setattr(f"bslang.schedule.programs.{name}", 1)
        kernels = set()
        for name, call in calls().items():
            first, second = launched(driver, call), launched(driver, call)
            with hooked() as seen:
                third = launched(driver, call)
            assert len(seen) == len(third) == len(second), name
            assert not any(map(is_prepared, third)), name
            assert all(map(is_prepared, second)), name
            assert [*map(told, second)] == [*map(told, first)] == [*map(told, third)], name
            kernels |= {each.kernel for each in second}
    return kernels


def test_a_prepared_launch_is_that_of_triton(on_gpu: Callable[..., set[str]]) -> None:
    kernels = {
        "_forward",
        "_merge",
        "_delta",
        "_backward_dq",
        "_backward_dkdv",
        "_sum",
        "_row_spans",
    }
    assert on_gpu(check_same_launches) == kernels


def check_other_kinds(driver: Driver) -> None:
    layout = bslang.compile("causal", block=32, target="triton")
    q, k, v = tensors(64, 64)
    layout(q, k, v)

    def one(*given: Any, **options: Any) -> Launch:
        (found,) = launched(driver, lambda: layout(*given, **options))
        return found

    same = one(q, k, v)
    assert is_prepared(same)
    room = torch.zeros(q.numel() + 1, dtype=BRAIN)
    odd = room[1:].view(q.shape)  # 2 bytes off
    wide = torch.zeros(1, 2, 64, 17, dtype=BRAIN)[..., :16]
    for others in ((q, odd, v), (wide, k, v)):
        found = one(*others)
        assert not is_prepared(found) and found.metadata.hash != same.metadata.hash
    for others, options in (
        ((q.transpose(1, 2).contiguous().transpose(1, 2), k, v), {}),  # other strides
        ((q[:, :1], k[:, :1], v[:, :1]), {}),
        ((q, k, v), {"scale": 0.5}),
        ((q, k, v), {"softcap": 3.0}),
        ((q.half(), k.half(), v.half()), {}),
        ((q, k, v), {"sinks": torch.zeros(2)}),
    ):
        found = one(*others, **options)  # type: ignore[arg-type]
        assert not is_prepared(found) and is_prepared(one(*others, **options))  # type: ignore[arg-type]
        assert told(found) != told(same)
    again = one(q, k, v)
    assert is_prepared(again) and told(again) == told(same)
    assert again.pointers["q"] == q.data_ptr()


def test_calls_of_another_kind(on_gpu: Callable[..., None]) -> None:
    on_gpu(check_other_kinds)


def check_settings(driver: Driver) -> None:
    """What changes how kernels are compiled, between calls of one kind."""
    layout = bslang.compile("causal", block=32, target="triton")
    target: Any = layout.targets["triton"]
    q, k, v = (x.float() for x in tensors(64, 64))

    def constants() -> tuple[str, int, int]:
        (found,) = launched(driver, lambda: layout(q, k, v))
        return found.arguments["PRECISION"], found.arguments["TILE_Q"], found.metadata.num_warps

    before = constants()
    assert constants() == before and before[0] == "ieee"
    torch.set_float32_matmul_precision("high")
    try:
        assert constants() == constants() == ("tf32", *before[1:])
    finally:
        torch.set_float32_matmul_precision("highest")
    assert constants() == before
    from bslang.runtime.triton.kernels import device_name
    from bslang.runtime.triton.tuned import Key, Tuned

    key = Key(device_name(q.device), "forward", 16, 16, "fp32", "ieee")
    options = {"num_warps": 2, "num_stages": 1}
    tuned = Tuned(*key, tile={"TILE_Q": 16, "TILE_K": 16}, options=options, length=64, times={})
    target.tuned = {key: tuned}
    assert constants() == constants() == ("ieee", 16, 2)
    target.tuned = {}
    assert constants() == before


def test_settings_between_calls(on_gpu: Callable[..., None]) -> None:
    on_gpu(check_settings)


def check_steps(driver: Driver) -> tuple[int, int]:
    """Steps of decoding: lengths that the plan of a step serves are prepared."""
    layout = bslang.compile("causal", block=32, target="triton")
    q, k, v = tensors(1, 64, 4, 2)
    prepared = 0
    for length in range(33, 65):
        (found,) = launched(driver, lambda n=length: layout(q, k[:, :, :n], v[:, :, :n]))  # type: ignore[misc]
        assert found.arguments["len_k"] == length
        assert found.arguments["q_first"] == length - 1
        prepared += is_prepared(found)
    return prepared, len(driver.loaded)


def test_steps_of_decoding(on_gpu: Callable[..., tuple[int, int]]) -> None:
    assert on_gpu(check_steps) == (31, 1)


def check_limit(driver: Driver) -> int:
    layout = bslang.compile("causal", block=32, target="triton")
    q, k, v = tensors(64, 64)
    for number in range(1, 80):
        layout(q, k, v, scale=number / 100)
    plan = layout._plan(64, 64, "end", q.device, 2)
    return len(plan.made["launches"][1])


def test_the_oldest_is_forgotten(on_gpu: Callable[..., int]) -> None:
    assert on_gpu(check_limit) == 64


def check_captured(driver: Driver) -> set[str]:
    """A graph reads the plan's tables at its replays, whatever lengths the layout has met since."""
    layout = bslang.compile("causal", block=16, target="triton")
    q, k, v = tensors(48, 48)
    x, grad = q.clone().requires_grad_(), torch.zeros_like(q)
    lengths = torch.tensor([40])

    def step() -> None:
        layout(x, k, v).backward(grad)
        layout(q[:, :, :1], k, v, lengths=lengths)

    step()
    loaded = len(driver.loaded)
    with driver.capture() as graph:
        step()
    assert all(map(is_prepared, graph)) and len(driver.loaded) == loaded
    assert graph[4].pointers["lengths"] == lengths.data_ptr()
    for length in range(49, 90):
        layout(*(y[:, :, :1].expand(1, 2, length, 16).contiguous() for y in (q, k, v)))
    layout._capacities._values.clear()
    gc.collect()
    # What the call has made lies in the memory of the graph itself.
    made = ("out", "lse", "grad_lse", "delta", "lse2", "dq", "dk", "dv", "part_out", "part_lse")
    assert [each.lost(made) for each in graph] == [[]] * len(graph)
    return {each.kernel for each in graph}


def test_a_captured_graph_reads_what_is_there(on_gpu: Callable[..., set[str]]) -> None:
    kernels = {"_forward", "_delta", "_backward_dq", "_backward_dkdv"}
    assert on_gpu(check_captured) >= kernels

"""The driver that launches nothing: what it compiles, and what it writes down."""

from __future__ import annotations

from collections.abc import Callable

import torch
from driver import pretending

import bslang
from benchmarks.driver import Driver

NAMES = ["_forward", "_delta", "_backward_dq", "_backward_dkdv"]


def attend(length: int = 64) -> torch.Tensor:
    layout = bslang.compile("causal", block=32, target="triton")
    q = torch.zeros(1, 2, length, 32, dtype=torch.bfloat16).requires_grad_()
    layout(q, q, q).sum().backward()
    return q


def check_log(driver: Driver) -> list[tuple[str, str]]:
    q = attend()
    assert [each.kernel for each in driver.launches] == NAMES and driver.loaded == NAMES
    first, *_, last = driver.launches
    assert first.grid == (4, 1, 1) and not first.captured
    assert first.arguments["len_q"] == 64 and first.arguments["HEAD_DIM"] == 32
    assert first.pointers["q"] == q.data_ptr()
    assert "q" not in first.lost() and {"dk", "dv"} <= set(last.lost())  # dq became q.grad
    return [
        (str(each.metadata.target.backend), str(each.metadata.target.arch))
        for each in driver.launches
    ]


def test_what_is_compiled_and_written_down(on_gpu: Callable[..., list[tuple[str, str]]]) -> None:
    assert on_gpu(check_log) == [("cuda", "90")] * 4


def check_forward(driver: Driver) -> str:
    q = torch.zeros(1, 1, 16, 16, dtype=torch.float16)
    bslang.compile("all", block=16, target="triton")(q, q, q)
    return str(driver.launches[-1].metadata.target.arch)


def test_other_devices() -> None:
    with pretending("hip:gfx942") as on:
        assert on(check_forward) == "gfx942"


def check_capture(driver: Driver) -> None:
    layout = bslang.compile("causal", block=32, target="triton")
    attend()  # whose layout is the same one, with its tables
    with driver.capture() as graph:
        attend()
    attend()
    assert [each.captured for each in driver.launches] == [False] * 4 + [True] * 4 + [False] * 4
    assert graph == driver.launches[4:8] and layout.block == (32, 32)


def test_a_stream_that_captures(on_gpu: Callable[..., None]) -> None:
    on_gpu(check_capture)

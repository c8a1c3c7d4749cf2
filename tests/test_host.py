"""What the host does for a call: who makes what several threads ask for, and what waits for a device."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from typing import Any

import pytest
import torch
from reference import inputs
from torch.utils._python_dispatch import TorchDispatchMode

import bslang
from benchmarks import gpu_host
from benchmarks.driver import Driver
from bslang.runtime import packed
from bslang.runtime.recent import Recent


def test_one_thread_makes_what_several_ask_for() -> None:
    kept: Recent[int] = Recent(4)
    asked, begun, free = Barrier(3), Event(), Event()
    made: list[int] = []

    def slow() -> int:
        made.append(1)
        begun.set()
        assert free.wait(20)
        return 7

    def ask() -> int:
        asked.wait(20)
        return kept.get("one", slow)

    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(ask) for _ in range(3)]
        assert begun.wait(20)
        assert kept.get("other", lambda: 3) == 3  # another key waits for none of them
        free.set()
        assert [each.result(20) for each in waiting] == [7, 7, 7]
    assert made == [1]


def test_what_cannot_be_made_is_asked_for_again() -> None:
    kept: Recent[int] = Recent(4)

    def broken() -> int:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        kept.get("one", broken)
    assert kept.get("one", lambda: 5) == 5


def check_figures(driver: Driver) -> str:
    driver.recording = False
    try:
        return gpu_host.report(gpu_host.timed(rounds=1, calls=1))
    finally:
        driver.recording = True


def test_figures_of_host_time(on_gpu: Callable[..., str]) -> None:
    head, _, first, second, *steps = on_gpu(check_figures).splitlines()
    assert head == "| a call | host, us | goal |" and len(steps) == 2
    assert first.startswith("| forward | ") and first.endswith(" | 60 |")
    assert second.startswith("| forward and backward | ") and second.endswith(" | 250 |")


class Waiting(TorchDispatchMode):
    """Writes down the operations that read what a device has computed."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = str(func)
        if any(each in name for each in ("nonzero", "_local_scalar_dense", "masked_select")):
            self.found.append(name)
        if "index" in name and any(
            isinstance(x, torch.Tensor) and x.dtype == torch.bool for x in _flat(args[1:])
        ):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def _flat(x: Any) -> list[Any]:
    return [y for each in x for y in _flat(each)] if isinstance(x, list | tuple) else [x]


@pytest.mark.parametrize("of_k", [None, [0, 9, 30, 44]], ids=["", "keys apart"])
def test_packed_sequences_wait_for_no_device(of_k: list[int] | None) -> None:
    """Tensors of the device are told from those of the host by their type."""
    layout = bslang.compile("causal", block=8, target="torch")
    given, options = inputs(44, 44), {} if of_k is None else {"align": "start"}
    sent: list[torch.Tensor] = []

    class OfDevice(Waiting):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            of_host = not any(
                isinstance(x, torch.Tensor) and x.is_floating_point() for x in _flat(args)
            )
            if of_host:  # index tensors are made on the host
                return func(*args, **(kwargs or {}))
            return super().__torch_dispatch__(func, types, args, kwargs)

    with OfDevice() as mode, torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "sent", lambda x, device: sent.append(x) or x)
        q, k, v = given.q, given.k, given.v
        out = layout.packed(q, k, v, [0, 5, 30, 44], of_k, **options)  # type: ignore[arg-type]
    assert mode.found == [] and sent
    assert out.shape == given.q.shape


def test_packed_sequences_are_not_captured() -> None:
    layout = bslang.compile("causal", block=8, target="torch")
    q = torch.zeros(1, 1, 20, 16)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed, "is_capturing", lambda device: True)
        with pytest.raises(RuntimeError, match="packed sequences are cut on the host"):
            layout.packed(q, q, q, [0, 20])

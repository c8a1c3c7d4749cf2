"""Which calls take the kernels for Hopper, and what these are handed, with a driver that launches nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import bslang
from benchmarks.driver import Driver
from bslang.runtime.triton import backends, hopper

SPEC = "window(3) | global(0,-1)"
HOPPER = ["_forward_hopper", "_dq_hopper", "_dkdv_hopper"]
PORTABLE = ["_forward", "_backward_dq", "_backward_dkdv"]


def tensors(
    dim: int = 64, length: int = 256, heads: int = 2, keys: int = 2, dtype: Any = torch.bfloat16
) -> list[torch.Tensor]:
    shapes = [(1, each, length, dim) for each in (heads, keys, keys)]
    return [torch.zeros(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def launched(driver: Driver, layout: Any, given: list[torch.Tensor], **options: Any) -> list[str]:
    """The kernels over blocks of a forward and a backward pass."""
    driver.launches.clear()
    layout(*given, **options).float().sum().backward()
    names = [each.kernel for each in driver.launches]
    return [name for name in names if name in (*HOPPER, *PORTABLE)]


def check_choice(driver: Driver) -> dict[str, list[str]]:
    layout = bslang.compile(SPEC, block=64, target="triton")
    apart = [x.detach().transpose(1, 2).contiguous().transpose(1, 2) for x in tensors()]
    odd = [torch.zeros(1, 2, 256, 65, dtype=torch.bfloat16)[..., 1:] for _ in range(3)]
    one = [torch.zeros(1, 1, 256, 64, dtype=torch.bfloat16).expand(1, 2, -1, -1) for _ in range(3)]
    calls: dict[str, tuple[list[torch.Tensor], dict[str, Any]]] = {
        "bf16": (tensors(), {}),
        "fp16": (tensors(dtype=torch.float16), {}),
        "72": (tensors(72), {}),
        "heads behind rows": ([x.requires_grad_() for x in apart], {}),
        "fp32": (tensors(dtype=torch.float32), {}),
        "36": (tensors(36), {}),
        "256": (tensors(256), {}),
        "unaligned": ([x.requires_grad_() for x in odd], {}),
        "expanded": ([x.requires_grad_() for x in one], {}),
        "softcap": (tensors(), {"softcap": 30.0}),
        "length": (tensors(length=258), {}),
    }
    found = {
        name: launched(driver, layout, *given[:1], **given[1]) for name, given in calls.items()
    }
    blocks = bslang.compile(SPEC, block=32, target="triton")
    labels = bslang.compile("same(doc)", block=64, target="triton")
    documents = torch.zeros(1, 256, dtype=torch.int32)
    found["blocks of 32"] = launched(driver, blocks, tensors())
    found["labels"] = launched(driver, labels, tensors(), labels={"doc": documents})
    layout.targets["triton"].backends = frozenset({"ampere"})
    found["ampere alone"] = launched(driver, layout, tensors(128))
    return found


def test_calls_take_the_kernels_that_can_read_them(on_gpu: Callable[..., Any]) -> None:
    found = on_gpu(check_choice)
    taken = {"bf16", "fp16", "72", "heads behind rows"}
    assert {name for name, names in found.items() if names == HOPPER} == taken
    assert found.pop("length") == [*HOPPER[:2], PORTABLE[2]]  # vectors are no multiple of 16 bytes
    assert all(names in (HOPPER, PORTABLE) for names in found.values()), found


def check_descriptors(driver: Driver) -> list[tuple[str, Any]]:
    """Every launch of two calls, the second of which is prepared, with the descriptors that it has."""
    layout = bslang.compile(SPEC, block=64, target="triton")
    found = []
    for _ in range(2):
        given = tensors(72, 196, heads=4)
        driver.launches.clear()
        layout(*given).float().sum().backward()
        for launch in driver.launches:
            made = {n: x for n, x in launch.arguments.items() if hasattr(x, "block_shape")}
            for name, x in zip("qkv", given, strict=True):
                if name in made:
                    assert made[name].base.data_ptr() == x.data_ptr()
            about = {
                n: (list(x.shape), list(x.strides), list(x.block_shape)) for n, x in made.items()
            }
            found.append((launch.kernel, launch.grid, about))
    half = len(found) // 2
    assert found[:half] == found[half:]
    return found[:half]


def test_descriptors(on_gpu: Callable[..., Any]) -> None:
    found = {kernel: (grid, about) for kernel, grid, about in on_gpu(check_descriptors)}
    of_q = [1, 4, 196, 72], [4 * 196 * 72, 196 * 72, 72, 1]
    # The batch has one sequence, along whose stride nothing walks.
    grid, about = found["_forward_hopper"]
    assert about["q"][0] == of_q[0] and about["q"][1][1:] == of_q[1][1:]
    assert about["q"][2] == [1, 1, 64, 128] and about["k"][0] == [1, 2, 196, 72]
    assert grid == (8, 1, 1)  # four blocks of two pairs of heads, a pair in a tile
    grid, about = found["_dkdv_hopper"]
    assert about["lse2"] == ([4, 196], [196, 1], [1, 64])
    assert about["do"][2] == [1, 1, 64, 128] and grid == (8, 1, 1)


def check_addresses(driver: Driver) -> tuple[list[str], list[int], list[str]]:
    """Kernels of calls at addresses of their own, the first bytes of q in their descriptors, and a kernel
    of one that no descriptor can be made of."""
    layout = bslang.compile(SPEC, block=64, target="triton")
    room = torch.zeros(2 * hopper.Describe._LIMIT + 2, 1, 2, 64, 64, dtype=torch.bfloat16)
    layout(*room[:3])
    driver.launches.clear()
    for x in room[1:-1]:
        layout(x, x, x)
    names = {each.kernel for each in driver.launches}
    bytes_of_q = [each.arguments["q"].base.data_ptr() for each in driver.launches]
    assert bytes_of_q == [x.data_ptr() for x in room[1:-1]]
    assert all(each.arguments["q"].shape == [1, 2, 64, 64] for each in driver.launches)
    assert all(each.arguments["v"].base.data_ptr() in bytes_of_q for each in driver.launches)
    kept = [
        len(describe.made)
        for prepared in layout._plan(64, 64, "end", room.device, 2).made["launches"][1].values()
        for _, _, describe in prepared.describes
    ]
    driver.launches.clear()
    odd = room.view(-1)[1 : 1 + room[0].numel()].view(room[0].shape)
    layout(odd, odd, odd)
    return [*names], kept, [each.kernel for each in driver.launches]


def test_calls_at_new_addresses(on_gpu: Callable[..., Any]) -> None:
    names, kept, odd = on_gpu(check_addresses)
    assert names == HOPPER[:1] and odd == PORTABLE[:1]
    assert len(kept) == 3 and max(kept) <= hopper.Describe._LIMIT


def test_the_environment_limits_back_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(backends.VARIABLE, "cdna, blackwell")
    assert backends.allowed() == {"ampere", "cdna", "blackwell"}
    monkeypatch.setenv(backends.VARIABLE, "")
    assert backends.allowed() == set(backends.BACKENDS)
    monkeypatch.setenv(backends.VARIABLE, "volta")
    with pytest.raises(ValueError, match="there is no back end 'volta'"):
        backends.allowed()


def test_why_descriptors_cannot_be_made() -> None:
    x = torch.zeros(1, 2, 64, 64, dtype=torch.bfloat16)
    assert hopper.unfit({"q": x}, 64) == ""
    assert "q does not begin" in hopper.unfit({"q": x.view(-1)[4:-124].view(1, 2, -1, 64)}, 0)
    assert "rows of k" in hopper.unfit({"q": x, "k": x[..., :1].expand(-1, -1, -1, 64)}, 0)
    assert "multiple of 4" in hopper.unfit({"q": x}, 62)

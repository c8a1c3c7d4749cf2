"""What the kernels are called with: values by their names in `bslang.abi`, in the order of a kernel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch

from bslang import abi
from bslang.call import Call
from bslang.runtime.plan import DevicePlan, moved
from bslang.runtime.triton.beside import plain
from bslang.runtime.triton.binaries import ALIGNMENT
from bslang.runtime.triton.device import Device
from bslang.runtime.triton.tiles import Launch


class Pages(NamedTuple):
    """Tokens in a page of queries, and in one of keys; 0 for a side whose tensors lie in one piece."""

    q: int = 0
    k: int = 0

    @classmethod
    def of(cls, call: Call, q: torch.Tensor, k: torch.Tensor) -> Pages:
        """Those of a call."""
        tables = call.q_pages, call.k_pages
        if call.q_pages is None and call.k_pages is None:
            return IN_ONE_PIECE
        return cls(
            *(0 if table is None else x.shape[2] for table, x in zip(tables, (q, k), strict=True))
        )

    def constants(self, kernel: str) -> dict[str, int]:
        """The constants of a kernel that say so; `PAGE`, of a gradient of either side, is that of queries."""
        known = {"Q_PAGE": self.q, "K_PAGE": self.k, "PAGE": self.q}
        return {x.name: known[x.name] for x in abi.KERNELS[kernel].constants if x.name in known}


IN_ONE_PIECE = Pages()
"""Those of a call without pages."""


class Places(NamedTuple):
    """Whether a call has the tables of a capacity, and whether rows of its batch have lengths of their own:
    0 or 1."""

    in_order: int = 0
    lengths: int = 0

    @classmethod
    def of(cls, plan: DevicePlan, call: Call) -> Places:
        """Those of a call."""
        return cls(int(plan.in_order), int(call.lengths is not None))

    def constants(self, kernel: str) -> dict[str, int]:
        """The constants of a kernel that say so."""
        known = {"IN_ORDER": self.in_order, "LENGTHS": self.lengths}
        return {x.name: known[x.name] for x in abi.KERNELS[kernel].constants if x.name in known}


AS_A_WHOLE = Places()
"""Those of a call with tables of its own."""


def in_order(
    kernel: str, values: Mapping[str, Any], constants: Mapping[str, Any]
) -> tuple[Any, ...]:
    """The arguments of a kernel that are not constants, of values by name: without those that its layout
    lacks, which are None, and None for those that its constants say this call lacks."""
    found = abi.KERNELS[kernel]
    of_calls = {each.name for each in found.of_calls}
    absent = {each.name for each in found.absent(constants)}
    arguments = []
    for each in found.all:
        if each.is_constant:
            continue
        name = each.name
        value = None if name in absent else values.get(name) if each.only else values[name]
        if value is not None or not each.only or name in of_calls:
            arguments.append(value)
    return tuple(arguments)


def complete(
    function: Any, arguments: Sequence[Any], constants: Mapping[str, Any]
) -> tuple[Any, ...]:
    """All arguments of a jit function, given those that are no constants."""
    rest = iter(arguments)
    names = plain(function).arg_names
    return tuple(constants[name] if name in constants else next(rest) for name in names)


def in_steps(chosen: Launch, tensors: Iterable[torch.Tensor]) -> tuple[Launch, int]:
    """A launch, and the step in which it takes the strides of some tensors: 1 unless all are multiples."""
    step = chosen.constants["STEP"]
    if any(stride % step for x in tensors for stride in x.stride()[:-1]):
        step = 1
    return replace(chosen, constants=chosen.constants | {"STEP": step}), step


def strides(tensors: Mapping[str, torch.Tensor], step: int = 1) -> dict[str, int]:
    """The strides of some tensors, in steps, by the names that kernels have for them."""
    return {
        f"{name}_{kind}": stride // step
        for name, x in tensors.items()
        for kind, stride in zip(abi.STRIDES, x.stride(), strict=False)
    }


def at_once(kernel: str, tensors: Mapping[str, torch.Tensor], plan: DevicePlan, heads: int) -> int:
    """How many of the heads, of all sequences, have their programs before those of others, so that the L2
    cache holds what the programs of a head all read: keys and values, or queries and do.

    All of them where query heads share key heads, as these would be read once for each.
    """
    q, k, v = tensors["q"], tensors["k"], tensors["v"]
    if q.shape[1] != k.shape[1]:
        return heads
    length = plan.len_q if kernel == "dkdv" else plan.len_k
    return Device.of(k.device).at_once(heads, length * (k.shape[3] + v.shape[3]) * k.itemsize)


def nowhere(plan: DevicePlan) -> torch.Tensor:
    """What stands for sinks, -inf, which weighs nothing, and for parts, where a call has none; of a plan."""
    if "nowhere" not in plan.made:
        made = torch.full((1,), -torch.inf, dtype=torch.float32, device="cpu")
        plan.made["nowhere"] = moved(made, plan.parameters.device)
    found: torch.Tensor = plan.made["nowhere"]
    return found


def of_sinks(read: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """The strides of the sinks among what a kernel reads, by the names that kernels have for them."""
    if "sinks" not in read:
        return {}
    head, row = read["sinks"].stride()
    return {"sinks_head": head, "sinks_row": row}


def of_pages(name: str, table: torch.Tensor | None) -> dict[str, Any]:
    """A table of pages and its strides, by the names that kernels have for them; nothing of none."""
    if table is None:
        return {}
    table = table if table.stride(2) == 1 else table.contiguous()
    batch, head = (
        0 if size == 1 else stride
        for size, stride in zip(table.shape[:2], table.stride()[:2], strict=True)
    )
    return {name: table, f"{name}_batch": batch, f"{name}_head": head}


def of_absent(k: torch.Tensor, v: torch.Tensor, made: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What kernels read where a key has no page: NaN, which queries that see it get, and a value of 0, as
    pairs that are left out multiply by it. made: of a plan, where both are kept."""
    found = {}
    for name, x, number in (("k_absent", k, torch.nan), ("v_absent", v, 0.0)):
        key = f"{name} {x.dtype} {x.shape[3]}"
        if key not in made:
            row = torch.full(x.shape[3:], number, dtype=x.dtype, device="cpu")
            made[key] = moved(row, x.device)  # what a capture fills is filled at its replays alone
        found[name] = made[key]
    return found


def vector_like(x: torch.Tensor) -> torch.Tensor:
    """Room like x (batch or pages, heads, rows): heads that have one memory there have one here."""
    shape = x.shape[0], 1 if x.stride(1) == 0 else x.shape[1], x.shape[2]
    return torch.empty(shape, dtype=x.dtype, device=x.device).expand(x.shape)


def apart(sizes: Mapping[str, int], device: torch.device) -> dict[str, torch.Tensor]:
    """Room for some results in fp32, of so many elements each, as parts of one tensor that are aligned."""
    step = ALIGNMENT // 4
    lengths = [-(-size // step) * step for size in sizes.values()]
    room = torch.empty(sum(lengths), dtype=torch.float32, device=device)
    return dict(zip(sizes, room.split_with_sizes(lengths), strict=True))


def kind(x: torch.Tensor) -> tuple[Any, ...]:
    """All that kernels are compiled for and given of a tensor, but for its address."""
    return x.dtype, x.shape, x.stride()


def readable(x: torch.Tensor) -> torch.Tensor:
    """The tensor, copied if its last dimension is not dense or its rows lie too far apart.

    Kernels find a row inside a tile with 32 bits.
    """
    *_, row, element = x.stride()
    return x if element == 1 and row < 2**23 else x.contiguous()

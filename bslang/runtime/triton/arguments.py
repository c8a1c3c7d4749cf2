"""What the kernels are called with: values by their names in `bslang.abi`, in the order of a kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from bslang import abi
from bslang.call import Call
from bslang.runtime.plan import DevicePlan
from bslang.sinks import by_query


class Pages(NamedTuple):
    """Tokens in a page of queries, and in one of keys; 0 for a side whose tensors lie in one piece."""

    q: int = 0
    k: int = 0

    @classmethod
    def of(cls, call: Call, q: torch.Tensor, k: torch.Tensor) -> Pages:
        """Those of a call."""
        tables = call.q_pages, call.k_pages
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
    of_calls, absent = set(found.of_calls), set(found.absent(constants))
    arguments = []
    for each in found.all:
        value = None if each in absent or each.is_constant else values[each.name]
        if not each.is_constant and (value is not None or not each.only or each in of_calls):
            arguments.append(value)
    return tuple(arguments)


def strides(tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """The strides of some tensors by the names that kernels have for them."""
    return {
        f"{name}_{kind}": stride
        for name, x in tensors.items()
        for kind, stride in zip(abi.STRIDES, x.stride(), strict=False)
    }


def sinks_of(call: Call, heads: int, plan: DevicePlan) -> torch.Tensor:
    """The sinks of a call's queries, (heads, len_q); -inf, which weighs nothing, where it gives none."""
    if call.sinks is not None:
        return by_query(call.sinks, plan.len_q)
    if "no sinks" not in plan.made:
        plan.made["no sinks"] = torch.full(
            (1, 1), -torch.inf, dtype=torch.float32, device=plan.parameters.device
        )
    none: torch.Tensor = plan.made["no sinks"]
    return none.expand(heads, plan.len_q)


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
            made[key] = torch.full((x.shape[3],), number, dtype=x.dtype, device=x.device)
        found[name] = made[key]
    return found


def vector_like(x: torch.Tensor) -> torch.Tensor:
    """Room like x (batch or pages, heads, rows): heads that have one memory there have one here."""
    shape = x.shape[0], 1 if x.stride(1) == 0 else x.shape[1], x.shape[2]
    return torch.empty(shape, dtype=x.dtype, device=x.device).expand(x.shape)


def readable(x: torch.Tensor) -> torch.Tensor:
    """The tensor, copied if its last dimension is not dense or its rows lie too far apart.

    Kernels find a row inside a tile with 32 bits.
    """
    return x if x.stride(-1) == 1 and x.stride(-2) < 2**23 else x.contiguous()

"""The arguments of the C++ kernels: the struct that both sides know, filled in for a call.

Small calls take little longer than this. So what follows from a plan is made once, and what is of a call is
written in a few pieces.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any

import torch

from bslang import abi_structs
from bslang.call import NUMBERS, Call
from bslang.runtime.interface import ABI
from bslang.runtime.plan import DevicePlan, DeviceTable
from bslang.selections import Selected

DTYPES = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
"""With their numbers in the C++ enumeration `Dtype`."""


def _struct(name: str, **nested: type[ctypes.Structure]) -> type[ctypes.Structure]:
    """A struct of `bslang.abi_structs` for ctypes; nested: those of which it has fields."""
    types = {"int64_t": ctypes.c_int64, "double": ctypes.c_double, **nested}
    fields = [
        (field.name, ctypes.c_void_p if field.type.endswith("*") else types[field.type])
        for field in abi_structs.STRUCTS[name]
    ]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


_Pages, _Tensor, _Table, _Selection = map(_struct, ("Pages", "Tensor", "Table", "Selection"))
_Arguments = _struct("Arguments", Tensor=_Tensor, Table=_Table)


def _packer(fields: Iterable[abi_structs.Argument]) -> struct.Struct:
    """What writes fields that follow one another. ctypes takes four times as long, which small calls feel."""
    codes = {"int64_t": "q", "double": "d"}
    return struct.Struct("".join(codes.get(field.type, "P") for field in fields))


_FIELDS = abi_structs.STRUCTS["Arguments"]
_PLACES = {field.name: getattr(_Arguments, field.name).offset for field in _FIELDS}
_OF_CALL = (
    *("abi", "threads", "apart", "batch", "heads", "key_heads", "len_q", "len_k"),
    *("q_start", "q_first", "q_step", "places", "q_blocks", "k_blocks", *NUMBERS),
)
"""The first arguments, which are of a call."""
assert [field.name for field in _FIELDS[: len(_OF_CALL)]] == [*_OF_CALL]

_pack_call = _packer(_FIELDS[: len(_OF_CALL)]).pack_into
_pack_tensor = _packer(abi_structs.STRUCTS["Tensor"]).pack_into
_numbers = attrgetter(*NUMBERS)

_ABI = int(ABI, 16)

_OF_KEYS = ("k", "v", "dk", "dv")
"""The tensors of keys; the others are of queries, but for sinks."""

_LABELS = ("q_labels", "k_labels", "q_ranges", "k_ranges")
"""As `DevicePlan.labels` has them."""


def _pointer(tensor: torch.Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _pages(pages: torch.Tensor | None, tensor: torch.Tensor) -> ctypes.Structure | None:
    """Those of a side; tensor: one of it."""
    if pages is None:
        return None
    batch, head, block = pages.stride()
    assert block == 1 or pages.shape[2] == 1, "the pages of a head lie side by side"
    head = head if pages.shape[1] > 1 else 0
    return _Pages(pages.data_ptr(), tensor.shape[2], batch, head)


def _table(table: DeviceTable, plan: DevicePlan) -> ctypes.Structure:
    order = None if plan.in_order else table.order.data_ptr()
    return _Table(order, table.pointer.data_ptr(), table.runs.data_ptr(), table.order.numel())


_TABLES = {(rows, cols): f"cpu {rows} {cols}" for rows in (False, True) for cols in (False, True)}
"""Names for what `DevicePlan.made` has, by the tables that are read."""


def _of_plan(plan: DevicePlan, rows: bool, cols: bool) -> ctypes.Structure:
    """The arguments that follow from the tables of a plan, those of rows and of columns where they are
    read; made once. Others are 0."""
    name = _TABLES[rows, cols]
    if name not in plan.made:
        plan.made[name] = _Arguments(
            by_row=_table(plan.rows, plan) if rows else _Table(),
            by_col=_table(plan.cols, plan) if cols else _Table(),
            parameters=_pointer(plan.parameters),
            head_graph=_pointer(plan.head_graph),
            q_order=_pointer(plan.order),
            k_order=_pointer(plan.order),
        )
    found: ctypes.Structure = plan.made[name]
    return found


def _selection(of: Selected, by_col: torch.Tensor) -> ctypes.Structure:
    batch, groups, lines, bytes = of.bits.shape
    return _Selection(
        bits=of.bits.data_ptr(),
        by_row=of.states.data_ptr(),
        by_col=by_col.data_ptr(),
        rows=of.rows,
        cols=of.cols,
        batch=int(batch > 1),
        groups=groups,
        first=of.first,
        lines=lines,
        bytes=bytes,
    )


def _with_selections(arguments: Any, selected: tuple[Selected, ...]) -> tuple[Any, ...]:
    """Add the selections of a call to arguments; what has to be kept until the kernels have run."""
    if not selected:
        return ()
    columns = [each.states.transpose(-1, -2).contiguous() for each in selected]
    selections = (_Selection * len(columns))(*map(_selection, selected, columns))
    arguments.selections = ctypes.addressof(selections)
    arguments.q_blocks, arguments.k_blocks = selected[0].states.shape[2:]
    return (selections, *columns)


def _with_labels(arguments: Any, labels: tuple[torch.Tensor, ...] | None) -> tuple[Any, ...]:
    """Add the labels of a call, as `DevicePlan.labels` has them; what has to be kept."""
    if labels is None:
        return ()
    for name, label in zip(_LABELS, labels, strict=True):
        setattr(arguments, name, label.data_ptr())
    arguments.label_heads = labels[0].shape[2]
    arguments.q_blocks, arguments.k_blocks = (x.shape[3] for x in labels[2:])
    return labels


def _with_tensor(
    arguments: Any, name: str, tensor: torch.Tensor, pages: ctypes.Structure | None
) -> torch.Tensor:
    """Add a tensor, whose rows are read as they lie. Only if its last dimension is not dense, it is copied
    first, and the copy has to be kept."""
    strides, dim = tensor.stride(), 1
    if len(strides) == 4:
        dim = tensor.shape[3]
        if strides[3] != 1 and dim > 1:
            tensor = tensor.contiguous()
            strides = tensor.stride()
    where = 0 if pages is None else ctypes.addressof(pages)
    fields = tensor.data_ptr(), where, *strides[:3], dim, DTYPES[tensor.dtype]
    _pack_tensor(arguments, _PLACES[name], *fields)
    return tensor


def arguments_of(
    plan: DevicePlan, call: Call, threads: int, tensors: Mapping[str, torch.Tensor]
) -> tuple[ctypes.Structure, list[Any]]:
    """The arguments of a call in so many threads; and what kernels read or write, and nobody else keeps.

    tensors: by their names in the struct; those of the backward pass are there where it is asked for.
    """
    q, k = tensors["q"], tensors["k"]
    forward, cols = "grad_out" not in tensors, "dk" in tensors
    rows = forward or "dq" in tensors
    arguments = _Arguments.from_buffer_copy(_of_plan(plan, rows, cols))
    places = None if call.lengths is None else plan.places(call.lengths)
    apart = not forward and (not (rows and cols) or plan.schedule.whole is not None)
    lengths = plan.len_q, plan.len_k, plan.q_start, *plan.steps
    heads = call.batch(q), q.shape[1], k.shape[1]
    of_call = _ABI, threads, apart, *heads, *lengths, _pointer(places), 0, 0, *_numbers(call)
    _pack_call(arguments, 0, *of_call)  # in the order of _OF_CALL
    of_q, of_k = _pages(call.q_pages, q), _pages(call.k_pages, k)
    held = [
        places,
        of_q,
        of_k,
        *_with_labels(arguments, plan.labels(call)),
        *_with_selections(arguments, call.selected),
    ]
    for name, tensor in tensors.items():
        pages = None if name == "sinks" else of_k if name in _OF_KEYS else of_q
        held.append(_with_tensor(arguments, name, tensor, pages))
    return arguments, held

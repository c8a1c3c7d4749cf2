"""abi: what kernels are called with, as data: names, types and order of arguments, columns of tables.

All that must agree on them reads this: the signatures of generated Triton, its launcher, types for
ahead-of-time compilation, the C++ structs (`bslang.abi_structs`) and their ctypes counterparts. Generated
modules, and the header of the C++, carry its digest, and the runtime refuses another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bslang.abi_structs import CONSTANT, DESCRIPTOR, STRUCTS, Argument, Group, group
from bslang.call import FLOAT, NUMBERS

ELEMENT = "element"
"""As the type of what a pointer points to: the dtype of the call's tensors."""

OF_CALLS = ("IN_ORDER", "LENGTHS", "Q_PAGE", "K_PAGE", "PAGE")
"""Constants of kernels that are 0 in most calls: arguments that these lack name them."""

FACTS = ("heads", "order", "labels", "selections", "spans")
"""What a layout may have: heads that differ, an order of tokens, ..., spans of blocks that calls settle."""


@dataclass(frozen=True)
class Kernel:
    """A kernel: `function` of a generated module, and its arguments in order, in groups.

    strides: of tensors, in elements divided by STEP; sizes: for which a kernel is not specialised; places:
    where queries stand, in calls with the tables of a capacity; options: numbers of the call; pages: where
    blocks lie, with the strides of that table; results: strides, in elements, of what is written for a side
    with pages; constants: those that are compiled in; only: "" where every layout has the kernel, else the
    one of FACTS that a layout must have.

    Arguments of places, pages and results are None in calls that lack what they are for (`only`): Triton
    compiles the kernel without them then.
    """

    function: str
    tensors: Group
    tables: Group
    strides: Group
    sizes: Group
    places: Group
    options: Group
    pages: Group
    results: Group
    constants: Group
    only: str = ""

    @property
    def all(self) -> Group:
        """The arguments of a kernel of any layout, in order."""
        return (
            *self.tensors,
            *self.tables,
            *self.strides,
            *self.sizes,
            *self.of_calls,
            *self.options,
            *self.constants,
        )

    @property
    def of_calls(self) -> Group:
        """The arguments that are None in some calls: those without pages, or whose tables are their own."""
        return (*self.places, *self.pages, *self.results)

    @property
    def unspecialised(self) -> Iterator[str]:
        """The names of numbers for which it is compiled once."""
        numbers = (*self.tables, *self.sizes, *self.places, *self.pages)
        return (each.name for each in numbers if not each.is_pointer)

    def absent(self, constants: Mapping[str, Any]) -> Group:
        """The arguments that are None in a call with these constants."""
        return tuple(each for each in self.of_calls if not constants[each.only])

    def groups(self, has: Container[str]) -> Iterator[Group]:
        """The groups that the kernel of a layout has that `has` some of FACTS."""
        absent = {name for name in FACTS if name not in has}
        numbers = (*self.options, *self.constants)
        of_calls = (self.places, self.pages, self.results)
        for part in (self.tensors, self.tables, self.strides, self.sizes, *of_calls, numbers):
            kept = tuple(each for each in part if each.only not in absent)
            if kept:
                yield kept


_TABLES = (
    *group("*i32", "programs pointer runs"),
    *group("*i64", "parameters"),
    *group("*i32", "head_graph", "heads"),
    *group("*i32", "q_order k_order", "order"),
    *group("*i32", "q_labels k_labels", "labels"),
    *group("i32", "label_heads", "labels"),
    *group("*u8", "bits", "selections"),
    *group("*i64", "cells", "selections"),
    *group("*i32", "spans", "spans"),
    *group("i32", "span_heads span_slots", "spans"),
)
_NUMBERS = tuple(
    Argument(name, "fp32") if kind == FLOAT else Argument(name.upper(), CONSTANT)
    for name, kind in NUMBERS.items()
)
_SIZES = "batch heads key_heads heads_at_once len_q len_k q_start"
_TILES = "HEAD_DIM PAD VALUE_DIM VALUE_PAD STEP TILE_Q TILE_K PRECISION"


STRIDES = {"batch": "i64", "head": "i64", "row": "i32"}
"""The strides of a tensor, in order, with their types."""


def _strides(tensors: str, only: str = "") -> Group:
    return tuple(
        Argument(f"{tensor}_{name}", type, only)
        for tensor in tensors.split()
        for name, type in STRIDES.items()
    )


def _vectors(names: str) -> Group:
    """The strides of vectors with an element for each query, in pages."""
    each = (f"{name}_batch {name}_head" for name in names.split())
    return group("i64", " ".join(each), "Q_PAGE")


def _table(name: str, only: str) -> Group:
    """A table of pages, int32 (batch, heads or 1, blocks), and its strides, of which that of one is 0."""
    return (
        *group("*i32", name, only),
        *group("i32", f"{name}_batch {name}_head", only),
    )


_Q_PAGES, _K_PAGES = _table("q_pages", "Q_PAGE"), _table("k_pages", "K_PAGE")


_LENGTHS = group("*i64", "lengths", "LENGTHS")
_PLACES = (
    *group("*i32", "firsts", "IN_ORDER"),
    *group("i32", "parts lines", "IN_ORDER"),
    *_LENGTHS,
)
"""Of the tables of a capacity: where the lines of each block row begin in `programs`, the most that a row of
the call has, and how many there are; and the keys of each row of the batch."""


_SINKS = "sinks_head sinks_row"
"""The strides of the sinks (heads, len_q): queries have their own where they are heads."""


def _walk(
    function: str,
    strided: str,
    tensors: Group,
    results: Group,
    sizes: str = "",
    absent: str = "",
    constants: str = "",
) -> Kernel:
    """A kernel over the blocks of a layout. absent: a key and a value that stand for those without a page;
    constants: those that not all have."""
    return Kernel(
        function,
        (*group(f"*{ELEMENT}", strided), *tensors),
        _TABLES,
        _strides(strided),
        group("i32", f"{_SIZES} {sizes}"),
        _PLACES,
        _NUMBERS,
        (*_Q_PAGES, *_K_PAGES, *group(f"*{ELEMENT}", absent, "K_PAGE")),
        results,
        group(CONSTANT, f"{_TILES} {constants} IN_ORDER LENGTHS Q_PAGE K_PAGE"),
    )


def _find(function: str, sizes: str = "") -> Kernel:
    """A kernel that finds the spans of programs over the blocks of a layout."""
    return Kernel(
        function,
        (),
        (
            *(each for each in _TABLES if each.name not in ("q_labels", "k_labels", "bits")),
            *group("*i32", "q_ranges k_ranges", "labels"),
            *group("*u8", "states", "selections"),
        ),
        (),
        group("i32", f"{_SIZES} {sizes}"),
        _PLACES,
        (),
        (),
        (),
        group(CONSTANT, "TILE IN_ORDER LENGTHS"),
        "spans",
    )


def _on_hopper(
    function: str, described: Group, tensors: Group, sizes: str, constants: str
) -> Kernel:
    """A kernel over the blocks of a layout that reads tensors through descriptors, without places, pages or a
    cap."""
    return Kernel(
        function,
        (*described, *tensors),
        _TABLES,
        strides=(),
        sizes=group("i32", f"{_SIZES} {sizes}"),
        places=(),
        options=tuple(each for each in _NUMBERS if not each.is_constant),
        pages=(),
        results=(),
        constants=group(CONSTANT, f"{constants} STAGES"),
    )


_TILE, _VECTOR = f"{DESCRIPTOR}{ELEMENT}", f"{DESCRIPTOR}fp32"

KERNELS = {
    "forward": _walk(
        "_forward",
        "q k v",
        (
            *group("*fp32", "sinks part_out part_lse"),
            Argument("out", f"*{ELEMENT}"),
            Argument("lse", "*fp32"),
        ),
        (*_strides("out", "Q_PAGE"), *_vectors("lse")),
        f"q_first q_step {_SINKS}",
        "k_absent v_absent",
        "MEMBERS",
    ),
    "merge": Kernel(
        "_merge",
        (
            *group("*fp32", "sinks part_out part_lse"),
            Argument("out", f"*{ELEMENT}"),
            Argument("lse", "*fp32"),
        ),
        group("*i32", "merges"),
        (),
        group("i32", f"lanes start length block heads {_SINKS}"),
        (
            *group("*i32", "firsts", "IN_ORDER"),
            *group("i32", "parts step keys", "IN_ORDER"),
            *_LENGTHS,
        ),
        (),
        _Q_PAGES,
        (*_strides("out", "Q_PAGE"), *_vectors("lse")),
        group(CONSTANT, "VALUE_DIM VALUE_PAD TILE IN_ORDER LENGTHS Q_PAGE"),
    ),
    "delta": Kernel(
        "_delta",
        (*group(f"*{ELEMENT}", "out do"), *group("*fp32", "lse grad_lse delta lse2")),
        (),
        _strides("do"),
        group("i32", "heads len_q"),
        (),
        (),
        _Q_PAGES,
        (*_strides("out", "Q_PAGE"), *_vectors("lse")),
        group(CONSTANT, "VALUE_DIM VALUE_PAD STEP TILE_Q Q_PAGE"),
    ),
    "dq": _walk(
        "_backward_dq",
        "q k v do",
        (*group("*fp32", "delta lse2 part_dq"), Argument("dq", f"*{ELEMENT}")),
        (*_vectors("delta"), *_strides("dq", "Q_PAGE")),
        constants="MEMBERS",
    ),
    "dkdv": _walk(
        "_backward_dkdv",
        "q k v do",
        (*group("*fp32", "delta lse2 part_dk part_dv"), *group(f"*{ELEMENT}", "dk dv")),
        (*_vectors("delta"), *_strides("dk dv", "K_PAGE")),
    ),
    "sum": Kernel(
        "_sum",
        (Argument("parts", "*fp32"), Argument("total", f"*{ELEMENT}")),
        group("*i32", "merges"),
        (),
        group("i32", "lanes start length block"),
        (),
        (),
        (*_table("pages", "PAGE"), *group("i32", "heads", "PAGE")),
        _strides("total", "PAGE"),
        group(CONSTANT, "HEAD_DIM PAD TILE PAGE"),
    ),
    "row_spans": _find("_row_spans", "q_first q_step"),
    "column_spans": _find("_column_spans"),
    "forward_hopper": _on_hopper(
        "_forward_hopper",
        group(_TILE, "q k v"),
        (
            *group("*fp32", "sinks part_out part_lse"),
            Argument("out", f"*{ELEMENT}"),
            Argument("lse", "*fp32"),
        ),
        _SINKS,
        "HEAD_DIM PAD VALUE_DIM VALUE_PAD TILE_Q TILE_K MEMBERS",
    ),
    "dq_hopper": _on_hopper(
        "_dq_hopper",
        group(_TILE, "q k v do"),
        (*group("*fp32", "delta lse2 part_dq"), Argument("dq", f"*{ELEMENT}")),
        "",
        "HEAD_DIM PAD VALUE_PAD TILE_Q TILE_K MEMBERS",
    ),
    "dkdv_hopper": _on_hopper(
        "_dkdv_hopper",
        (*group(_TILE, "q k v do"), *group(_VECTOR, "delta lse2")),
        (*group("*fp32", "part_dk part_dv"), *group(f"*{ELEMENT}", "dk dv")),
        "",
        "HEAD_DIM PAD VALUE_DIM VALUE_PAD TILE_Q TILE_K",
    ),
}
"""By their names in the launcher, in the order in which a module hands over those that it has; those for
Hopper come last."""

HOPPER = "_hopper"
"""What the names of kernels for Hopper end with, after that of the kernel that they stand in for."""

COLUMNS = {
    "program": ("block", "low", "high", "slot"),
    "run": ("begin", "end", "past", "shift"),
    "merge": ("block", "first", "last"),
    "cells": ("rows", "cols", "batch", "groups", "first", "lines", "bytes", "bits", "states"),
    "span": ("begin", "end", "state"),
}
"""Columns of the tables, in order.

Of a program: its block row (or column), the blocks [low, high) that strips may cover, and where its result
goes (-1: to the output). Of a run: its blocks [begin, end), how many blocks of its class the program has up
to its end, and how far its blocks are from their places among these. Of a merge: a block row, and the slots
[first, last) of its parts. Of the cells of a selection: those of `bslang.selections.Selected` and where its
parts begin in `bits` and `states`; batch: 1 where each sequence has its own, else 0. Of a span: its blocks
[begin, end), and 2 where a call says that all their pairs belong, else 1.
"""

CLASSES = ("full", "edge", "partial")
"""Classes of blocks in `pointer`: full ones, full ones that the end of the sequence cuts short, partial ones.
The last is the first of one class for each mask."""


@dataclass(frozen=True)
class Abi:
    """All of it, to be compared."""

    kernels: Mapping[str, Kernel]
    columns: Mapping[str, tuple[str, ...]]
    classes: tuple[str, ...]
    structs: Mapping[str, Group]

    def digest(self) -> str:
        """60 bits in hexadecimal."""
        parts = (self.kernels.items(), self.columns.items(), self.classes, self.structs.items())
        text = json.dumps([*map(list, parts)], default=vars)
        return hashlib.sha256(text.encode()).hexdigest()[:15]


ABI = Abi(KERNELS, COLUMNS, CLASSES, STRUCTS)


def digest() -> str:
    """The digest that generated code carries."""
    return ABI.digest()

"""abi: what kernels are called with, as data: names, types and order of arguments, columns of tables.

All that must agree on them reads this: the signatures of generated Triton, its launcher, types for
ahead-of-time compilation, the C++ struct and its ctypes counterpart. Generated modules, and the header of the
C++, carry its digest, and the runtime refuses another.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from bslang.call import FLOAT, NUMBERS

ELEMENT = "element"
"""As the type of what a pointer points to: the dtype of the call's tensors."""

DESCRIPTOR = "descriptor "
"""What the type of a descriptor begins with: a tensor of which hardware copies tiles, then the type of its
elements."""

CONSTANT = "constexpr"
"""As a type: what is compiled into a kernel."""


@dataclass(frozen=True)
class Argument:
    """One argument of a Triton kernel, or a field of a struct.

    type: "i32", "i64" or "fp32", "*" and a type for a pointer, DESCRIPTOR and a type, "constexpr" for a
    constant; of a field of a struct: its type in C++.
    only: "" where every layout's kernels have it, else the one of FACTS that a layout must have, or one of
    OF_CALLS, a constant that is above 0 in calls that have it.
    """

    name: str
    type: str
    only: str = ""

    @property
    def is_pointer(self) -> bool:
        return self.type.startswith("*")

    @property
    def is_descriptor(self) -> bool:
        return self.type.startswith(DESCRIPTOR)

    @property
    def is_constant(self) -> bool:
        return self.type == CONSTANT


OF_CALLS = ("IN_ORDER", "LENGTHS", "Q_PAGE", "K_PAGE", "PAGE")
"""Constants of kernels that are 0 in most calls: arguments that these lack name them."""

Group = tuple[Argument, ...]

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
        for group in (self.tensors, self.tables, self.strides, self.sizes, *of_calls, numbers):
            kept = tuple(each for each in group if each.only not in absent)
            if kept:
                yield kept


def _group(type: str, names: str, only: str = "") -> Group:
    return tuple(Argument(name, type, only) for name in names.split())


_TABLES = (
    *_group("*i32", "programs pointer runs"),
    *_group("*i64", "parameters"),
    *_group("*i32", "head_graph", "heads"),
    *_group("*i32", "q_order k_order", "order"),
    *_group("*i32", "q_labels k_labels", "labels"),
    *_group("i32", "label_heads", "labels"),
    *_group("*u8", "bits", "selections"),
    *_group("*i64", "cells", "selections"),
    *_group("*i32", "spans", "spans"),
    *_group("i32", "span_heads span_slots", "spans"),
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
    return _group("i64", " ".join(each), "Q_PAGE")


def _table(name: str, only: str) -> Group:
    """A table of pages, int32 (batch, heads or 1, blocks), and its strides, of which that of one is 0."""
    return (
        *_group("*i32", name, only),
        *_group("i32", f"{name}_batch {name}_head", only),
    )


_Q_PAGES, _K_PAGES = _table("q_pages", "Q_PAGE"), _table("k_pages", "K_PAGE")


_LENGTHS = _group("*i64", "lengths", "LENGTHS")
_PLACES = (
    *_group("*i32", "firsts", "IN_ORDER"),
    *_group("i32", "parts lines", "IN_ORDER"),
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
        (*_group(f"*{ELEMENT}", strided), *tensors),
        _TABLES,
        _strides(strided),
        _group("i32", f"{_SIZES} {sizes}"),
        _PLACES,
        _NUMBERS,
        (*_Q_PAGES, *_K_PAGES, *_group(f"*{ELEMENT}", absent, "K_PAGE")),
        results,
        _group(CONSTANT, f"{_TILES} {constants} IN_ORDER LENGTHS Q_PAGE K_PAGE"),
    )


def _find(function: str, sizes: str = "") -> Kernel:
    """A kernel that finds the spans of programs over the blocks of a layout."""
    return Kernel(
        function,
        (),
        (
            *(each for each in _TABLES if each.name not in ("q_labels", "k_labels", "bits")),
            *_group("*i32", "q_ranges k_ranges", "labels"),
            *_group("*u8", "states", "selections"),
        ),
        (),
        _group("i32", f"{_SIZES} {sizes}"),
        _PLACES,
        (),
        (),
        (),
        _group(CONSTANT, "TILE IN_ORDER LENGTHS"),
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
        sizes=_group("i32", f"{_SIZES} {sizes}"),
        places=(),
        options=tuple(each for each in _NUMBERS if not each.is_constant),
        pages=(),
        results=(),
        constants=_group(CONSTANT, f"{constants} STAGES"),
    )


_TILE, _VECTOR = f"{DESCRIPTOR}{ELEMENT}", f"{DESCRIPTOR}fp32"

KERNELS = {
    "forward": _walk(
        "_forward",
        "q k v",
        (
            *_group("*fp32", "sinks part_out part_lse"),
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
            *_group("*fp32", "sinks part_out part_lse"),
            Argument("out", f"*{ELEMENT}"),
            Argument("lse", "*fp32"),
        ),
        _group("*i32", "merges"),
        (),
        _group("i32", f"lanes start length block heads {_SINKS}"),
        (
            *_group("*i32", "firsts", "IN_ORDER"),
            *_group("i32", "parts step keys", "IN_ORDER"),
            *_LENGTHS,
        ),
        (),
        _Q_PAGES,
        (*_strides("out", "Q_PAGE"), *_vectors("lse")),
        _group(CONSTANT, "VALUE_DIM VALUE_PAD TILE IN_ORDER LENGTHS Q_PAGE"),
    ),
    "delta": Kernel(
        "_delta",
        (*_group(f"*{ELEMENT}", "out do"), *_group("*fp32", "lse grad_lse delta lse2")),
        (),
        _strides("do"),
        _group("i32", "heads len_q"),
        (),
        (),
        _Q_PAGES,
        (*_strides("out", "Q_PAGE"), *_vectors("lse")),
        _group(CONSTANT, "VALUE_DIM VALUE_PAD STEP TILE_Q Q_PAGE"),
    ),
    "dq": _walk(
        "_backward_dq",
        "q k v do",
        (*_group("*fp32", "delta lse2 part_dq"), Argument("dq", f"*{ELEMENT}")),
        (*_vectors("delta"), *_strides("dq", "Q_PAGE")),
        constants="MEMBERS",
    ),
    "dkdv": _walk(
        "_backward_dkdv",
        "q k v do",
        (*_group("*fp32", "delta lse2 part_dk part_dv"), *_group(f"*{ELEMENT}", "dk dv")),
        (*_vectors("delta"), *_strides("dk dv", "K_PAGE")),
    ),
    "sum": Kernel(
        "_sum",
        (Argument("parts", "*fp32"), Argument("total", f"*{ELEMENT}")),
        _group("*i32", "merges"),
        (),
        _group("i32", "lanes start length block"),
        (),
        (),
        (*_table("pages", "PAGE"), *_group("i32", "heads", "PAGE")),
        _strides("total", "PAGE"),
        _group(CONSTANT, "HEAD_DIM PAD TILE PAGE"),
    ),
    "row_spans": _find("_row_spans", "q_first q_step"),
    "column_spans": _find("_column_spans"),
    "forward_hopper": _on_hopper(
        "_forward_hopper",
        _group(_TILE, "q k v"),
        (
            *_group("*fp32", "sinks part_out part_lse"),
            Argument("out", f"*{ELEMENT}"),
            Argument("lse", "*fp32"),
        ),
        _SINKS,
        "HEAD_DIM PAD VALUE_DIM VALUE_PAD TILE_Q TILE_K MEMBERS",
    ),
    "dq_hopper": _on_hopper(
        "_dq_hopper",
        _group(_TILE, "q k v do"),
        (*_group("*fp32", "delta lse2 part_dq"), Argument("dq", f"*{ELEMENT}")),
        "",
        "HEAD_DIM PAD VALUE_PAD TILE_Q TILE_K MEMBERS",
    ),
    "dkdv_hopper": _on_hopper(
        "_dkdv_hopper",
        (*_group(_TILE, "q k v do"), *_group(_VECTOR, "delta lse2")),
        (*_group("*fp32", "part_dk part_dv"), *_group(f"*{ELEMENT}", "dk dv")),
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


STRUCTS = {
    "Pages": (*_group("const int32_t*", "table"), *_group("int64_t", "size batch head")),
    "Tensor": (
        *_group("void*", "data"),
        *_group("const Pages*", "pages"),
        *_group("int64_t", "batch head row dim dtype"),
    ),
    "Table": (*_group("const int32_t*", "order pointer runs"), *_group("int64_t", "programs")),
    "Selection": (
        *_group("const uint8_t*", "bits by_row by_col"),
        *_group("int64_t", "rows cols batch groups first lines bytes"),
    ),
    "Arguments": (
        *_group("int64_t", "abi threads apart"),
        *_group("int64_t", "batch heads key_heads len_q len_k"),
        *_group("int64_t", "q_start q_first q_step"),
        *_group("const int64_t*", "places"),
        *_group("int64_t", "q_blocks k_blocks"),
        *_group("double", " ".join(NUMBERS)),
        *_group("Table", "by_row by_col"),
        *_group("const int64_t*", "parameters"),
        *_group("const int32_t*", "head_graph"),
        *_group("const int32_t*", "q_order k_order"),
        *_group("const int32_t*", "q_labels k_labels q_ranges k_ranges"),
        *_group("int64_t", "label_heads"),
        *_group("const Selection*", "selections"),
        *_group("Tensor", "q k v sinks out lse grad_out grad_lse dq dk dv"),
    ),
}
"""The structs of the C++, with the fields of each in order."""


@dataclass(frozen=True)
class Abi:
    """All of it, to be compared."""

    kernels: Mapping[str, Kernel]
    columns: Mapping[str, tuple[str, ...]]
    classes: tuple[str, ...]
    structs: Mapping[str, Group]

    def digest(self) -> str:
        """60 bits in hexadecimal."""
        kernels = [(name, asdict(kernel)) for name, kernel in self.kernels.items()]
        structs = [(name, [asdict(x) for x in fields]) for name, fields in self.structs.items()]
        everything = (kernels, list(self.columns.items()), self.classes, structs)
        return hashlib.sha256(json.dumps(everything).encode()).hexdigest()[:15]


ABI = Abi(KERNELS, COLUMNS, CLASSES, STRUCTS)


def digest() -> str:
    """The digest that generated code carries."""
    return ABI.digest()


BEGIN, END = "// ---- begin: generated from bslang/abi.py\n", "// ---- end\n"
"""The lines around `declarations` in the header."""


def declarations() -> str:
    """The structs, and the digest of what a caller has to know, as C++."""
    lines = [f"constexpr int64_t abi = 0x{digest()};"]
    for name, fields in STRUCTS.items():
        lines += ["", f"struct {name} {{"]
        for type, group in groupby(fields, lambda field: field.type):
            names = [field.name for field in group]
            apart = [names] if not type.endswith("*") else [[each] for each in names]
            lines += [f"    {type} {', '.join(each)};" for each in apart]
        lines += ["};"]
    return "\n".join(lines) + "\n"

"""abi_structs: what an argument is, and the structs of the C++ with their fields, as data and as C++.

`bslang.abi` has the kernels of Triton, and the digest of all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from bslang.call import NUMBERS

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


Group = tuple[Argument, ...]


def group(type: str, names: str, only: str = "") -> Group:
    """Arguments of a type, by their names."""
    return tuple(Argument(name, type, only) for name in names.split())


STRUCTS = {
    "Pages": (*group("const int32_t*", "table"), *group("int64_t", "size batch head")),
    "Tensor": (
        *group("void*", "data"),
        *group("const Pages*", "pages"),
        *group("int64_t", "batch head row dim dtype"),
    ),
    "Table": (*group("const int32_t*", "order pointer runs"), *group("int64_t", "programs")),
    "Selection": (
        *group("const uint8_t*", "bits by_row by_col"),
        *group("int64_t", "rows cols batch groups first lines bytes"),
    ),
    "Arguments": (
        *group("int64_t", "abi threads apart"),
        *group("int64_t", "batch heads key_heads len_q len_k"),
        *group("int64_t", "q_start q_first q_step"),
        *group("const int64_t*", "places"),
        *group("int64_t", "q_blocks k_blocks"),
        *group("double", " ".join(NUMBERS)),
        *group("Table", "by_row by_col"),
        *group("const int64_t*", "parameters"),
        *group("const int32_t*", "head_graph"),
        *group("const int32_t*", "q_order k_order"),
        *group("const int32_t*", "q_labels k_labels q_ranges k_ranges"),
        *group("int64_t", "label_heads"),
        *group("const Selection*", "selections"),
        *group("Tensor", "q k v sinks out lse grad_out grad_lse dq dk dv"),
    ),
}
"""The structs of the C++, with the fields of each in order."""


BEGIN, END = "// ---- begin: generated from bslang/abi.py\n", "// ---- end\n"
"""The lines around `declarations` in the header."""


def declarations(digest: str) -> str:
    """The structs, and the digest of what a caller has to know, as C++."""
    lines = [f"constexpr int64_t abi = 0x{digest};"]
    for name, fields in STRUCTS.items():
        lines += ["", f"struct {name} {{"]
        for type, run in groupby(fields, lambda field: field.type):
            names = [field.name for field in run]
            apart = [names] if not type.endswith("*") else [[each] for each in names]
            lines += [f"    {type} {', '.join(each)};" for each in apart]
        lines += ["};"]
    return "\n".join(lines) + "\n"

"""The kernels of the triton target for Hopper, in Gluon: what their templates need."""

from __future__ import annotations

from dataclasses import dataclass

from bslang.codegen.plan import Plan
from bslang.codegen.walks import LINE, Walk

ROWS = 64
"""Rows of a tile that a group of warps holds: those of one matrix instruction."""


@dataclass(frozen=True)
class Hopper:
    """What the templates in templates/triton/hopper see as `target.hopper`.

    key_walks, query_walks: as in `bslang.codegen.triton.Kernels`, those of full tiles last;
    masks: whether any has a mask. of_rows, of_columns: the names that a program of queries, or of keys, hands
    to its partitions for them to walk.
    """

    key_walks: list[Walk]
    query_walks: list[Walk]
    masks: bool
    of_rows: list[str]
    of_columns: list[str]

    @classmethod
    def of(
        cls, plan: Plan, walks: tuple[list[Walk], list[Walk]], parameters: list[str]
    ) -> Hopper | None:
        """None where the layout has no such kernels: its blocks are no multiples of 64, or a call says what
        it visits."""
        if plan.block_q % ROWS or plan.block_k % ROWS or plan.inputs:
            return None
        keys, queries = (sorted(each, key=cls.is_full) for each in walks)
        tables = ["pointer", "runs", *["q_order", "k_order"] * plan.ordered]
        sizes = ["q_start", "len_q", "len_k"]
        by_head = ["head_graph", "parameters", "rank", "count"]
        of_head = by_head if plan.by_head else parameters
        return cls(
            keys,
            queries,
            bool(plan.masks),
            ["row", *tables, *sizes, *parameters, *_limits(keys)],
            ["column", *tables, *sizes, *of_head, *_limits(queries)],
        )

    @staticmethod
    def is_full(walk: Walk) -> bool:
        """Whether every pair of a walk's tiles belongs."""
        return not (walk.bounded or walk.mask)

    @staticmethod
    def partition(function: str, arguments: str, margin: int) -> str:
        """A partition and its arguments in a list of them, as formatters break it."""
        line = f"({function}, ({arguments})),"
        if margin + len(line) <= LINE:
            return line
        return f"(\n    {function},\n    ({arguments}),\n),"

    @staticmethod
    def pack(names: list[str], margin: int) -> str:
        """A tuple of the names, as formatters break it; margin: where it begins in its line."""
        line = ", ".join(names)
        if margin + len(line) <= LINE:
            return line
        return "".join(("(\n", *(f"    {name},\n" for name in names), ")"))

    @classmethod
    def unpack(cls, names: list[str], margin: int) -> str:
        """The assignment of that tuple, `walk`, to the names."""
        return f"{cls.pack(names, margin + len(' = walk'))} = walk"


def _limits(walks: list[Walk]) -> list[str]:
    """The names of what the strips of walks may cover: `limits` of templates/triton/_kernel.jinja."""
    strips = [walk for walk in walks if walk.strips]
    names = ["limits"] * bool(strips)
    names += ["full"] * any(walk.mask is None for walk in strips)
    return names + [walk.axis.blocks for walk in strips if walk.from_end][:1]

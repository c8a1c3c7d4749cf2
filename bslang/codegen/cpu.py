"""The cpu target: a C++ file with what a layout decides, and beside it the header with all the rest."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from bslang.codegen.emit import Section
from bslang.codegen.environment import render
from bslang.codegen.plan import Plan
from bslang.files import HEADER, inlined, source_digest
from bslang.ir.expr import Number, Op, Var, evaluate, variables
from bslang.ir.mask import CPP, code, replaced
from bslang.resources import resource

LINE = 100
"""Longest line of generated C++."""


def section(plan: Plan) -> Section:
    """The kernels of a layout."""
    text = render("cpu/kernel.cpp.jinja", plan, Source.of(plan))
    digest = source_digest(inlined(text, {HEADER: header()}))
    march = f", {json.dumps(plan.march)}" if plan.march else ""
    return Section(
        constructor=f'CpuTarget(Path(__file__).with_suffix(".cpp"), "{digest}"{march})',
        imports=("from pathlib import Path", "from bslang.runtime.cpu.launch import CpuTarget"),
        files={f"{plan.name}.cpp": text, HEADER: header()},
    )


@cache
def header() -> str:
    """The header of all generated C++ as one file: bslang keeps it in parts."""
    parts = resource("runtime", "cpu", "include").glob("*.h")
    texts = {part.name: part.read_text(encoding="utf-8") for part in parts}
    return inlined(texts[HEADER], texts)


@dataclass(frozen=True)
class Mask:
    """One mask as a C++ function over q, k, the parameters (name, index) that it reads, and labels.

    comment, signature and code are lines. apart, equal: conditions on labels under which a block is
    empty, or full, in lines; none where there is no such condition.
    """

    number: int
    comment: list[str]
    signature: list[str]
    parameters: list[tuple[str, int]]
    code: list[str]
    apart: list[str]
    equal: list[str]


@dataclass(frozen=True)
class Table:
    """Numbers that ascend, in lines, and what of a position is looked up among them, as C++ of `x`."""

    number: int
    value: str
    edges: list[str]

    @classmethod
    def of(cls, ranked: Op, number: int) -> Table:
        value, *edges = ranked.args
        return cls(number, code(value, CPP), _wrapped(", ".join(map(str, edges)), 20))


@dataclass(frozen=True)
class Source:
    """What templates/cpu/kernel.cpp.jinja sees as `target`.

    layout: the spec in lines; position: the type of positions; constants: lines of C++, for all that is
    not as LayoutBase has it; names: the list of the masks' functions, in lines; settled: the masks whose
    blocks labels may settle; tables: what masks look up of each position.
    """

    layout: list[str]
    position: str
    constants: list[str]
    masks: list[Mask]
    names: list[str]
    settled: list[Mask]
    tables: list[Table]

    @classmethod
    def of(cls, plan: Plan) -> Source:
        tables: dict[Op, int] = {}
        predicates = [_looked_up(mask.predicate, tables) for mask in plan.masks]
        masks = [
            _mask(plan, number, predicate, bool(tables))
            for number, predicate in enumerate(predicates)
        ]
        return cls(
            _wrapped(plan.spec, 13),
            "int64_t" if plan.wide else "int32_t",
            _constants(plan, len(tables)),
            masks,
            _list(
                "static constexpr auto masks = std::make_tuple(",
                [f"mask_{m.number}" for m in masks],
                ");",
            ),
            [mask for mask in masks if mask.apart or mask.equal],
            [Table.of(ranked, number) for ranked, number in tables.items()],
        )


def _looked_up(predicate: Number, tables: dict[Op, int]) -> Number:
    """A predicate that finds each `rank` in it among those of the query, or of the key, by their number."""

    def found(ranked: Op) -> Number:
        (side,) = variables(ranked)
        of_x = evaluate(ranked, {side: Var("x")})
        assert isinstance(of_x, Op)
        return Var(f"{side}_ranks[{tables.setdefault(of_x, len(tables))}]")

    return replaced(predicate, found)


def _constants(plan: Plan, tables: int) -> list[str]:
    values = [
        (f"int64_t block_q = {plan.block_q};", "queries per block"),
        (f"int64_t block_k = {plan.block_k};", "keys per block"),
    ]
    if plan.by_head:
        values.append(("bool by_head = true;", "each head has its own block graph"))
    if plan.labels:
        values.append((f"int64_t labels = {len(plan.labels)};", "run-time labels, as in same(doc)"))
    if plan.parameters:
        values.append(
            (f"int64_t parameters = {len(plan.parameters)};", "numbers that masks read, per graph")
        )
    if tables:
        values.append((f"int64_t ranks = {tables};", "tables that masks index by position"))
    room = max(len(value) for value, _ in values)
    return [f"static constexpr {value.ljust(room)}  // {comment}" for value, comment in values]


def _mask(plan: Plan, number: int, predicate: Number, ranked: bool) -> Mask:
    mask = plan.masks[number]
    used = {name.partition("[")[0] for name in variables(predicate)}

    # What a mask does not read has no name, so that no compiler warns of it.
    def argument(kind: str, name: str) -> str:
        return f"{kind} {name}" if name in used or (name == "parameters" and mask.reads) else kind

    arguments = [("position", "q"), ("position", "k"), ("const int64_t*", "parameters")]
    if ranked:
        arguments += [("const position*", f"{x}_ranks") for x in "qk"]
    arguments += [("int32_t", f"{x}_label{i}") for x in "qk" for i in range(len(plan.labels))]
    comment = [f"Mask {number}: {mask.text}"]
    comment += [f"{name} = {plan.parameters[i]}" for name, i in mask.reads]
    return Mask(
        number,
        [line for text in comment for line in _wrapped(text)],
        _list(f"static bool mask_{number}(", [argument(*each) for each in arguments], ")"),
        mask.reads,
        _wrapped(code(predicate, CPP), 20),
        _wrapped(" || ".join(_settles("apart", labels) for labels in mask.apart), 50),
        _wrapped(_settles("equal", mask.equal or ()), 50),
    )


def _settles(relation: str, labels: Sequence[int]) -> str:
    """The condition that blocks stand so to each other in all of some labels."""
    every = " && ".join(f"cell.{relation}({label})" for label in labels)
    return f"({every})" if len(labels) > 1 and relation == "apart" else every


def _list(start: str, items: Sequence[str], end: str) -> list[str]:
    """Items between commas, in lines below each other."""
    whole = ", ".join(item.replace(" ", "\N{NO-BREAK SPACE}") for item in items)
    lines = textwrap.wrap(
        start + whole + end,
        LINE - 8,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def _wrapped(text: str, margin: int = 12) -> list[str]:
    return textwrap.wrap(text, LINE - margin, break_long_words=False, break_on_hyphens=False)

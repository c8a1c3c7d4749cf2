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
from bslang.ir.ranges import negated
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

    comment, signature and code are lines. empty, full: conditions on a cell under which a block is so, in
    lines; none where there is no such condition. listed: the selection that lists its blocks, -1 for none.
    """

    number: int
    comment: list[str]
    signature: list[str]
    parameters: list[tuple[str, int]]
    code: list[str]
    empty: list[str]
    full: list[str]
    listed: int


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
    blocks a call may settle; tables: what masks look up of each position.
    """

    layout: list[str]
    position: str
    constants: list[str]
    masks: list[Mask]
    names: list[str]
    settled: list[Mask]
    tables: list[Table]

    @property
    def listed(self) -> list[int]:
        """The selection that lists the blocks of each mask, -1 for none; empty where no mask has one."""
        listed = [mask.listed for mask in self.masks]
        return listed if max(listed, default=-1) >= 0 else []

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
            [mask for mask in masks if mask.empty or mask.full],
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
    values: list[tuple[str, str]] = []
    if plan.by_head:
        values.append(("bool by_head = true;", "each head has its own block graph"))
    if plan.ordered:
        values.append(("bool ordered = true;", "masks look up the positions of tokens"))
    if labels := plan.inputs.labels:
        values.append((f"int64_t labels = {len(labels)};", "run-time labels, as in same(doc)"))
    if selections := plan.inputs.selections:
        values.append(
            (
                f"int64_t selections = {len(selections)};",
                "cells listed at run time, as in select(pick)",
            )
        )
    if plan.parameters:
        values.append(
            (f"int64_t parameters = {len(plan.parameters)};", "numbers that masks read, per graph")
        )
    if tables:
        values.append((f"int64_t ranks = {tables};", "tables that masks index by position"))
    room = max((len(value) for value, _ in values), default=0)
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
    labels, selections = plan.inputs.labels, plan.inputs.selections
    arguments += [("int32_t", f"{x}_label{i}") for x in "qk" for i in range(len(labels))]
    arguments += [("bool", f"selected{i}") for i in range(len(selections))]
    comment = [f"Mask {number}: {mask.text}"]
    comment += [f"{name} = {plan.parameters[i]}" for name, i in mask.reads]
    return Mask(
        number,
        [line for text in comment for line in _wrapped(text)],
        _list(f"static bool mask_{number}(", [argument(*each) for each in arguments], ")"),
        mask.reads,
        _wrapped(code(_typed(predicate, plan), CPP), 20),
        _wrapped(_of_cell(negated(mask.maybe), plan), 50),
        _wrapped(_of_cell(mask.surely, plan), 50),
        mask.lists[0] if mask.lists else -1,
    )


def _typed(predicate: Number, plan: Plan) -> Number:
    """The predicate, with labels in the type of positions where that is wider than theirs."""
    if not plan.wide:
        return predicate
    names = [name for name in variables(predicate) if "_label" in name]
    return evaluate(predicate, {name: Var(f"position({name})") for name in names})


_RANGES = {"least": "least", "most": "most", "first": "least", "last": "most"}


def _of_cell(truth: Number, plan: Plan) -> str:
    """A truth value over the ranges of a block as C++ that asks a `cell` for them; "" for a known one."""

    def asked(name: str) -> Number:
        if name.startswith("state"):
            return Var(f"cell.state({name.removeprefix('state')})")
        if name.startswith("p"):
            return Var(f"cell.parameter({name[1:]}, parameters)")
        side, _, what = name.partition("_")
        bound = what.rstrip("0123456789")
        label = what.removeprefix(bound)
        return Var(f"cell.{side}{f'_label({label})' if label else '()'}.{_RANGES[bound]}")

    if isinstance(truth, bool | int):
        return ""
    return code(evaluate(truth, {name: asked(name) for name in variables(truth)}), CPP)


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

"""One spec file with what it defines and what it imports, its statements checked for their names."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from bslang.ir.order import Order
from bslang.ir.units import BLOCK_COUNTS, LENGTHS
from bslang.limits import MAX_BLOCK, MAX_FILES, MAX_ORDER
from bslang.patterns import BY_NAME
from bslang.resolve.sources import SUFFIXES, Unreadable, imported
from bslang.resolve.suggest import closest
from bslang.resolve.values import FUNCTIONS
from bslang.syntax import tree
from bslang.syntax.diagnostics import Diagnostic, Findings, SpecError
from bslang.syntax.fix import Fix, meant
from bslang.syntax.reader import read
from bslang.syntax.source import Source, Span

BOUND_WHEN_LOWERED = (*BLOCK_COUNTS, *LENGTHS, "head", "layer")
"""Names of numbers that are known when a layout is lowered: lengths in blocks and in tokens, and for which
head of which layer."""

_RESERVED = {*BY_NAME, *FUNCTIONS, *BOUND_WHEN_LOWERED, "bsl", "block", "order", "import"}
_RESERVED |= {"heads", "as", "inf", "true", "false"}


@dataclass(eq=False)
class Module:
    """What a file defines.

    order: that of its tokens, order_span: where it is set; broken: names whose definitions have mistakes of
    their own; lost: whether some names are missing, since a file that brings them in could not be read;
    imports: names that an import without `as` brings in, each with the file that defines it; files: those
    imported under a name; start: the offset at which another import can be added.
    """

    source: Source
    definitions: dict[str, tree.Definition] = field(default_factory=dict)
    layout: tree.Layout | None = None
    setting: tree.BlockSetting | None = None
    order: Order | None = None
    broken: set[str] = field(default_factory=set)
    lost: bool = False
    imports: dict[str, Module] = field(default_factory=dict)
    files: dict[str, Module | None] = field(default_factory=dict)
    start: int = 0
    order_span: Span | None = None

    @property
    def public(self) -> dict[str, tree.Definition]:
        """What importing it brings in: its layout under the name of the file, too."""
        found = {k: d for k, d in self.definitions.items() if not k.startswith("_")}
        if self.layout is not None:
            name, span = layout_name(self.source), self.layout.span
            whole = tree.Definition(span, tree.Name(span, name), (), self.layout.body)
            found.setdefault(name, whole)
        return found

    def find(self, name: str) -> tuple[Module, tree.Definition] | None:
        """What a name stands for in this file: the file that defines it, and how."""
        file, dot, own = name.partition(".")
        if dot:
            module = self.files.get(file)
            found = module and module.public.get(own)
            return (module, found) if module and found else None
        if name in self.definitions:
            return self, self.definitions[name]
        if name in self.imports:
            module = self.imports[name]
            return module, module.public[name]
        return None


ORDERS = {
    "tiles": "Tokens of a grid tile after tile, as in `tiles(8, 32, 32; 4, 8, 8)`: the sides of the grid, "
    "then those of a tile. Tiles at the far ends may be short.",
    "morton": "Tokens of a grid along a Z-curve, as in `morton(64, 64)`: any number of sides of any length.",
}
"""The names of orders of tokens, and what they are."""


def _sides(count: int) -> str:
    return f"{count} side{'s' * (count != 1)}"


DEFAULT_NAME = "layout"
"""The name of a layout that neither its text nor a file names."""


def layout_name(source: Source) -> str:
    """The name of a layout that its file does not name: the file's own, as an identifier."""
    stem = Path(source.name).stem if Path(source.name).suffix in SUFFIXES else DEFAULT_NAME
    name = re.sub(r"\W", "_", stem, flags=re.ASCII)
    return name if name.isidentifier() else f"layout_{name}"


DEFAULT_BLOCK = (64, 64)
"""Sides of a block where a spec sets none, in tokens (query, key)."""


def load(
    file: tree.File,
    findings: Findings,
    block: tuple[int, int] | None = None,
    order: Order | None = None,
) -> Module:
    """The module of a file, with those that it imports; their mistakes go to the findings.

    block, order: what takes the place of every setting. Files are written for one block: without
    `block`, one that sets another than the first is refused. So is one that sets another order of tokens.
    """
    return _Loading(findings, block, order).module(file)


class _Loading:
    """Loads a file and all that it imports, each once. active: the files that are being loaded."""

    def __init__(
        self, findings: Findings, block: tuple[int, int] | None, order: Order | None
    ) -> None:
        self.findings = findings
        self.known: dict[tuple[str, str], Module] = {}
        self.active: list[Source] = []
        self.block, self.any_block = block, block is not None
        self.order, self.any_order = order, order is not None

    def module(self, file: tree.File) -> Module:
        self.active.append(file.source)
        first = next((s for s in file.statements if not isinstance(s, tree.Version)), None)
        module = Module(file.source, start=first.span.start if first else 0)
        for statement in file.statements:
            if isinstance(statement, tree.Broken):
                module.broken |= {statement.name} if statement.name else set()
            elif isinstance(statement, tree.BlockSetting):
                self._set_block(module, statement)
            elif isinstance(statement, tree.OrderSetting):
                self._set_order(module, statement)
            elif isinstance(statement, tree.Definition):
                self._define(module, statement)
            elif isinstance(statement, tree.Layout):
                self._set_layout(module, statement)
        if self.block is None:
            self.block = module.setting.sides if module.setting else DEFAULT_BLOCK
        if len(self.active) == 1 and not self.any_order:
            self.order = module.order
        for statement in file.statements:
            if isinstance(statement, tree.Import):
                self._import(module, statement)
        self.active.pop()
        return module

    def _report(
        self, module: Module, code: str, message: str, span: Span, hint: str = "",
        limit: bool = False, fix: Fix | None = None,
    ) -> None:  # fmt: skip
        self.findings.add(Diagnostic(code, message, module.source, span, "", hint, limit, fix))

    def _set_block(self, module: Module, setting: tree.BlockSetting) -> None:
        if module.setting is not None:
            self._report(module, "E206", "the block is set twice", setting.span, "keep one")
        if all(1 <= side <= MAX_BLOCK for side in setting.sides):
            module.setting = setting
        else:
            message = f"a block has sides of 1 to {MAX_BLOCK} tokens (MAX_BLOCK)"
            past = max(setting.sides) > MAX_BLOCK
            self._report(module, "E303", message, setting.span, limit=past)

    def _set_order(self, module: Module, setting: tree.OrderSetting) -> None:
        if module.order_span is not None:
            self._report(module, "E206", "the order is set twice", setting.span, "keep one")
            return
        module.order_span = setting.span
        name, span, hint = setting.name.text, setting.span, ""
        sides, tile = (tuple(x.value for x in each) for each in (setting.sides, setting.tile))
        if name not in ORDERS:
            near = closest(name, ORDERS)
            fix = meant(name, near or "", setting.name.span)
            hint = fix.hint if fix else f"orders are {', '.join(ORDERS)}"
            message, span = f"unknown order `{name}`", setting.name.span
            self._report(module, "E201", message, span, hint, fix=fix)
            return
        if 0 in sides + tile:
            span = next(x.span for x in setting.sides + setting.tile if x.value == 0)
            message = "a side of a grid, or of a tile, has at least one token"
        elif name == "morton" and tile:
            message = "`morton` takes the sides of a grid, and no tiles"
            hint = f"write `order {Order(name, sides)}`"
        elif name == "tiles" and len(tile) != len(sides):
            message = (
                f"a grid of {_sides(len(sides))}, and {_sides(len(tile)) if tile else 'no tiles'}"
            )
            shown = (*tile, *[1] * len(sides))[: len(sides)]
            hint = f"write the sides of a tile after `;`: `order {Order(name, sides, shown)}`"
        elif large := [i for i, (t, side) in enumerate(zip(tile, sides, strict=False)) if t > side]:
            span = setting.tile[large[0]].span
            message = (
                f"the tile is longer than the grid here: {tile[large[0]]} of {sides[large[0]]}"
            )
            hint = f"write {sides[large[0]]}, the whole side"
        elif prod(sides) > MAX_ORDER:
            message = f"a grid has up to {MAX_ORDER} tokens (MAX_ORDER), and this one {prod(sides)}"
            self._report(module, "E303", message, span, limit=True)
            return
        else:
            module.order = Order(name, sides, tile)
            return
        self._report(module, "E303", message, span, hint)

    def _set_layout(self, module: Module, layout: tree.Layout) -> None:
        if module.layout is None:
            module.layout = layout
            return
        message = "a file has one layout without a name, and this is the second"
        self._report(module, "E206", message, layout.span, "give each a name: `name = pattern`")

    def _define(self, module: Module, definition: tree.Definition) -> None:
        name = definition.name
        if self._free(module, name):
            module.definitions[name.text] = definition
        seen: set[str] = set()
        for parameter in definition.parameters:
            key = parameter.name.text
            if key in seen:
                message = f"parameter `{key}` is declared twice"
                self._report(module, "E205", message, parameter.span)
            elif key in _RESERVED:
                message = f"`{key}` is a name of the language"
                self._report(module, "E206", message, parameter.name.span, "choose another")
            seen.add(key)

    def _free(self, module: Module, name: tree.Name) -> bool:
        """Whether a name can be defined; reported where it cannot."""
        if name.text in _RESERVED:
            message, hint = f"`{name.text}` is a name of the language", "choose another"
        elif name.text in module.definitions:
            message, hint = f"`{name.text}` is defined twice", "rename one of them"
        elif name.text in module.imports or name.text in module.files:
            message, hint = f"`{name.text}` is imported twice", 'write `import "file.bsl" as c`'
        else:
            return True
        self._report(module, "E206", message, name.span, hint)
        return False

    def _import(self, module: Module, statement: tree.Import) -> None:
        found = self._load(module, statement.path)
        setting = found and found.setting
        if setting and setting.sides != self.block and not self.any_block and self.block:
            (rows, columns), (own_rows, own_columns) = setting.sides, self.block
            self._report(
                module,
                "E213",
                f"the imported file sets blocks of {rows}x{columns} tokens, and this file "
                f"{own_rows}x{own_columns}",
                statement.path.span,
                f"write `block {rows}x{columns}` here, or remove the setting there",
            )
        if found and found.order and found.order != self.order and not self.any_order:
            here = f"`order {self.order}`" if self.order else "none"
            message = f"the imported file sets `order {found.order}`, and this file {here}"
            hint = f"write `order {found.order}` here, or remove the setting there"
            self._report(module, "E213", message, statement.path.span, hint)
        if statement.name is not None:
            if self._free(module, statement.name):
                module.files[statement.name.text] = found
            return
        module.lost = module.lost or found is None
        for name in found.public if found else ():
            if self._free(module, tree.Name(statement.span, name)):
                module.imports[name] = found  # type: ignore[assignment]  # it is not None here

    def _load(self, module: Module, path: tree.Text) -> Module | None:
        """The module of an imported file; None, and reported, where there is none."""
        try:
            source = imported(module.source, path.value)
        except Unreadable as error:
            hint, limit, fix = error.hint, error.limit, error.fix(path)
            self._report(module, "E211", error.message, path.span, hint, limit, fix)
            return None
        except SpecError as error:
            for diagnostic in error.diagnostics:
                self.findings.add(diagnostic)
            return None
        key = (str(source.folder), Path(source.name).name)
        for place, active in enumerate(self.active):
            if (str(active.folder), Path(active.name).name) == key:
                circle = [Path(s.name).name for s in (*self.active[place:], active)]
                message = f"this file imports itself: {' -> '.join(circle)}"
                hint = "move what both need to a third file"
                self._report(module, "E212", message, path.span, hint)
                return None
        if key not in self.known:
            if len(self.known) + len(self.active) > MAX_FILES:  # the first of these imports
                message = f"more than {MAX_FILES} files are imported (MAX_FILES)"
                self._report(module, "E211", message, path.span, limit=True)
                return None
            file = read(source)
            for diagnostic in file.errors:
                self.findings.add(diagnostic)
            self.known[key] = self.module(file)
        return self.known[key]

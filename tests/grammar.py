"""Random programs as text, of the whole grammar: what `tests/strategies.py` puts on grids.

Programs are small and shrink to small ones: fewer operators, `all` for a primitive, the least numbers.
What they say nearly always means something, unlike what `tests/writer.py` writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hypothesis import strategies as st

_SIZES = (
    *("n // 3 + 1", "isqrt(n) + 1", "log2(n) + 1", "min(n, 3)", "max(2, m // 4)", "abs(1 - 3)"),
    *("head + 1", "layer + 2", "2 ** 2", "7 % 4", "(n > 3) + 1", "-(-n // 4)"),
)
"""Numbers of at least 1 that are computed."""


class _Writer:
    """Draws the text of one primitive. Numbers in tokens are larger, to span some blocks."""

    def __init__(self, draw: st.DrawFn, tokens: bool) -> None:
        self.draw, self.unit = draw, "t" if tokens else ""

    def pick(self, *choices: str) -> str:
        return self.draw(st.sampled_from(choices))

    def count(self, least: int, most: int) -> str:
        """A number, now and then one that is computed; those in tokens are larger."""
        if self.draw(st.integers(0, 11)) == 11:
            size = self.pick(*_SIZES)
            return f"({size}) * {self.draw(st.integers(1, 5))}t" if self.unit else size
        most = most * 7 if self.unit else most
        return f"{self.draw(st.integers(least, most))}{self.unit}"

    def odd(self) -> str:
        return f"{2 * self.draw(st.integers(0, 15 if self.unit else 3)) + 1}{self.unit}"

    def several(self, item: Callable[[], str]) -> str:
        return ", ".join(item() for _ in range(self.draw(st.integers(1, 3))))

    def index(self) -> str:
        # Ranges are cut to the length; single indices must exist, so only the ends are drawn.
        if self.draw(st.booleans()):
            return self.pick(f"0{self.unit}", f"-1{self.unit}")
        start, stop = (self.pick("", self.count(0, 6), f"-{self.count(1, 3)}") for _ in range(2))
        return f"{start}:{stop}{self.pick('', f':{self.count(1, 2)}')}"

    def offset(self) -> str:
        start, stop = (self.pick(self.count(0, 6), f"-{self.count(1, 6)}") for _ in range(2))
        return self.pick(start, f"{start}:{stop}", f"{start}:{stop}:{self.count(1, 3)}")

    def window(self) -> str:
        step = self.pick("", f", step={self.count(1, 2)}")
        form = self.pick("odd", "sides", "clamped")
        if form == "odd":
            return f"window({self.odd()}{step}{self.pick('', ', wrap=true', ', clamp=true')})"
        if form == "clamped":
            return f"window({self.count(1, 5)}{step}, clamp=true)"
        left, right = (self.pick(self.count(0, 4), "inf") for _ in range(2))
        return f"window(left={left}, right={right}{step}{self.pick('', ', wrap=true')})"

    def relational(self) -> str:
        """A primitive that compares rows with columns; in blocks these must be square."""
        forms = ["window", "window", "last", "diagonals", "chunks", "strided", "segments", "grid"]
        form = self.pick(*forms, *([] if self.unit else ["logsparse", "butterfly"]))
        if form == "window":
            return self.window()
        if form == "last":
            return f"last({self.pick(self.count(1, 5), 'inf')})"
        if form == "diagonals":
            return f"diagonals({self.several(self.offset)})"
        if form == "chunks":
            sides = self.pick("", ", back=1", ", ahead=2", ", back=1, ahead=1", ", back=inf")
            return f"chunks({self.several(lambda: self.count(1, 4))}{sides})"
        if form == "segments":
            offset = self.pick("", ", offset=1", ", offset=head // 2")
            return f"segments({self.count(1, 5)}, rate={self.pick('1', '2', '3')}{offset})"
        if form == "grid":
            return self.grid()
        if form == "logsparse":
            return self.pick("logsparse", "logsparse(3)")
        if form == "butterfly":
            return self.pick("butterfly", f"butterfly({self.count(0, 3)})")
        return f"strided({self.count(1, 5)}{self.pick('', f', offset={self.count(0, 4)}')})"

    def grid(self) -> str:
        """A grid; one in tokens fits a sequence of GRID, one in blocks any number of them, or an even one."""
        sizes = (
            self.pick("24t", "4t, 6t", "3t, 8t", "2t, 3t, 4t", "4t, 1t, 6t")
            if self.unit
            else self.pick("n", "1, n", "2, n // 2", "n // 2, 2", "n // 2, 1, 2")
        )
        one = self.pick("0", "1", "2", "inf")
        several = ", ".join(self.pick("0", "1", "inf") for _ in sizes.split(","))
        radius = f"({several})" if "," in sizes and self.draw(st.booleans()) else one
        return f"grid({sizes}, radius={radius}{self.pick('', ', clamp=true')})"

    def indexed(self) -> str:
        form = self.pick("rows", "cols", "global", "every")
        if form == "every":
            return f"every({self.count(1, 5)}{self.pick('', f', offset={self.count(0, 4)}')})"
        return f"{form}({self.several(self.index)})"


@dataclass(frozen=True)
class Forms:
    """Which forms of the language programs may have.

    square: blocks with equal sides, so that numbers of blocks compare rows with columns. blocks: nothing
    counts tokens, as compositions need. labels: `same`, whose labels a call must pass. tables: `table`,
    whose file must have the shape of the grid. named: calls of what is defined above.
    """

    square: bool = True
    blocks: bool = False
    labels: bool = False
    tables: bool = False
    named: tuple[str, ...] = ()


@st.composite
def numbers(draw: st.DrawFn, names: tuple[str, ...], depth: int = 2) -> str:
    """Integer expressions over names that are never undefined."""
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from((*names, *names, str(draw(st.integers(0, 9))))))
    left, right = draw(numbers(names, depth - 1)), draw(numbers(names, depth - 1))
    form = draw(
        st.sampled_from(["+", "-", "-", "*", "//", "%", "min", "max", "abs", "isqrt", "log2"])
    )
    if form in ("//", "%"):
        return f"({left}) {form} {draw(st.integers(1, 7))}"
    if form == "*":
        return f"({left}) * {draw(st.integers(-3, 3))}"
    if form in ("min", "max"):
        return f"{form}({left}, {right})"
    if form == "abs":
        return f"abs({left})"
    if form == "isqrt":
        return f"isqrt(abs({left}))"
    return f"log2(max({left}, 1))" if form == "log2" else f"({left}) {form} ({right})"


@st.composite
def builders(draw: st.DrawFn, tokens: bool, depth: int = 2) -> str:
    """Set-builders, of blocks or of tokens."""
    names = ("q", "k") if tokens else ("i", "j")

    def compared() -> str:
        op = draw(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
        left = draw(numbers((*names, *names, "n", "head"), depth))
        right = draw(numbers(names, depth))
        chained = draw(st.sampled_from(["", "", "", f"{draw(st.integers(0, 3))} <= "]))
        return f"{'~' * draw(st.booleans())}({chained}{left} {op} {right})"

    text = compared()
    for _ in range(draw(st.integers(0, depth))):
        text = f"({text} {draw(st.sampled_from('&|^'))} {compared()})"
    return f"{{{names[0]}, {names[1]} : {text}}}"


@st.composite
def primitives(draw: st.DrawFn, forms: Forms) -> str:
    """One primitive, set-builder or call of a definition."""
    given = ["same(doc)", "same(part)"] * forms.labels + ['table("mask.npy")'] * forms.tables
    kinds = ["constant", "indexed", "indexed", *["relational"] * 4, "builder"]
    kinds += ["given"] * bool(given) + ["named"] * 3 * bool(forms.named)
    kind = draw(st.sampled_from(kinds))
    if kind == "constant":
        return draw(st.sampled_from(["all", "none", *["causal"] * (not forms.blocks)]))
    if kind in ("given", "named"):
        return draw(st.sampled_from(given if kind == "given" else forms.named))
    must = kind != "indexed" and not forms.square
    tokens = not forms.blocks and (must or draw(st.booleans()))
    if kind == "builder":
        return draw(builders(tokens, depth=1))
    writer = _Writer(draw, tokens)
    return writer.relational() if kind == "relational" else writer.indexed()


_AROUND = (*["plain"] * 7, *["~", ".T", "random"] * 2, "heads", "power", "@")


@st.composite
def programs(
    draw: st.DrawFn, square: bool = True, terms: int = 5, forms: Forms | None = None
) -> str:
    """Expressions of up to `terms` primitives; square: whether blocks have equal sides."""
    forms = forms or Forms(square)

    def part(most: int, within: Forms = forms) -> str:
        return draw(programs(terms=most, forms=within))

    if terms > 1 and draw(st.sampled_from([False, True, True])):
        left = draw(st.integers(1, terms - 1))
        op = draw(st.sampled_from("|&-^"))
        return f"({part(left)} {op} {part(terms - left)})"
    form = draw(st.sampled_from(_AROUND))
    if (terms == 1 and form in ("heads", "@", "power")) or (
        not forms.square and form in ("@", "power")
    ):
        form = "plain"
    fewer = max(terms - 1, 1)
    if form == "random":
        # Blocks cannot be drawn within what labels decide, and a definition may hide these.
        drawable = replace(forms, labels=False, named=())
        inner = part(fewer, drawable) if terms > 1 and draw(st.booleans()) else ""
        count = draw(st.integers(0, 5))
        seed = draw(st.sampled_from([*map(str, range(10)), "head", "layer + 1"]))
        return f"random({count}, seed={seed}{inner and f', within={inner}'})"
    if form == "heads":
        first, rest = draw(st.sampled_from([("0", "1:"), (":2", "2:"), ("::2", "1::2")]))
        return f"heads {{ {first} -> {part(fewer)}; {rest} -> {part(1)} }}"
    if form in ("@", "power"):
        counted = replace(forms, blocks=True, labels=False, named=())
        if form == "power":
            return f"(({part(fewer, counted)}) ** {draw(st.integers(1, 4))})"
        return f"({part(1, counted)} @ {part(fewer, counted)})"
    if form == "plain":
        return draw(primitives(forms))
    inner = part(fewer) if terms > 1 else draw(primitives(forms))
    return f"~{inner}" if form == "~" else f"{inner}.T"


_BODIES = (
    *("last({x})", "window(left={x}, right=0)", "every({x})", "chunks({x}, back=1)", "cols(0:{x})"),
    *("{{q, k : abs(q - k) < {x}}}", "diagonals({x}, 0)", "strided({x})", "global(0, :{x})"),
)


@st.composite
def definitions(draw: st.DrawFn, forms: Forms) -> tuple[str, tuple[str, ...]]:
    """Up to two definitions as lines of text, and calls of them. The second may use the first."""
    lines: list[str] = []
    calls: list[str] = []
    unit = draw(st.sampled_from(["", "t"])) if forms.square else "t"
    for name in ("near", "_far")[: draw(st.integers(1, 2))]:
        body = draw(programs(terms=2, forms=replace(forms, named=tuple(calls))))
        if draw(st.booleans()):
            lines.append(f"{name} = {body}")
            calls.append(name)
            continue
        first = draw(st.sampled_from(_BODIES)).format(x="w")
        lines.append(f"{name}(w = {draw(st.integers(1, 4))}{unit}) = {first} | {body}")
        given = draw(st.integers(1, 9))
        calls += [name, f"{name}({given}{unit})", f"{name}(w={given}{unit})"]
    return "".join(f"{line}\n" for line in lines), tuple(calls)

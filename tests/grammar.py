"""Random programs as text, of the whole grammar: what `tests/strategies.py` puts on grids.

Programs are small and shrink to small ones: fewer operators, `all` for a primitive, the least numbers.
What they say nearly always means something, unlike what `tests/writer.py` writes.

Every form stands in a table (RELATIONAL, AROUND, NUMBERS, ...) from whose keys strategies choose, so that all
of them are drawn; tests/test_strategies.py asks each for its text. A primitive that has no writer of its own
here is written by its signature.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from hypothesis import strategies as st

from bslang.ir.pattern import Primitive
from bslang.ir.signature import Argument, Kind, arguments
from bslang.patterns import PRIMITIVES

SIZES = (
    *("n // 3 + 1", "isqrt(n) + 1", "log2(n) + 1", "min(n, 3)", "max(2, m // 4)", "abs(1 - 3)"),
    *("head + 1", "layer + 2", "2 ** 2", "7 % 4", "(n > 3) + 1", "-(-n // 4)"),
    *("1 < 2", "n > 0", "2 - (head >= 0)", "(m > 2) * 2 + 1", "n ** 0", "(n < 3) ** 0 + n ** 1"),
    *("len_k // 7t + 1", "min(len_q // 1t, 5)", "(len_k % 8t > 0) + 1"),
)
"""Numbers of at least 1 that are computed."""

LENGTHS = (
    *("len_k // 2 + 1t", "len_q - len_q // 3", "max(len_k // 4, 3t)", "min(len_q, 9t)", "len_q"),
    *("isqrt(len_k // 1t) * 1t", "len_k % 8t + 1t", "abs(len_q - len_k) + 1t", "n * 2t"),
    *("(len_q > 9t) * 2t + 1t", "100 * len_q // len_k * 1t + 1t"),
)
"""The same in tokens."""


class _Writer:
    """Draws the text of one primitive. Numbers in tokens are larger, to span some blocks."""

    def __init__(self, draw: st.DrawFn, tokens: bool) -> None:
        self.draw, self.unit = draw, "t" if tokens else ""

    def pick(self, *choices: str) -> str:
        return self.draw(st.sampled_from(choices))

    def count(self, least: int, most: int) -> str:
        """A number, now and then one that is computed; those in tokens are larger."""
        if self.draw(st.integers(0, 11)) == 11:
            if self.unit and self.draw(st.booleans()):
                return f"({self.pick(*LENGTHS)})"
            size = self.pick(*SIZES)
            return f"({size}) * {self.draw(st.integers(1, 5))}t" if self.unit else size
        most = most * 7 if self.unit else most
        return f"{self.draw(st.integers(least, most))}{self.unit}"

    def odd(self) -> str:
        return f"{2 * self.draw(st.integers(0, 15 if self.unit else 3)) + 1}{self.unit}"

    def several(self, item: Callable[[], str]) -> str:
        return ", ".join(item() for _ in range(self.draw(st.integers(1, 3))))

    def index(self, form: str = "") -> str:
        # Ranges are cut to the length; single indices must exist, so only the ends are drawn.
        form = form or self.pick("end", "end", "range", "step", "compared")
        if form == "end":
            return self.pick(f"0{self.unit}", f"-1{self.unit}")
        if form == "compared":
            return "(head < 0) * 1t" if self.unit else self.pick("n > 9", "(m > 9) - 1")
        ends = "", self.count(0, 6), f"-{self.count(1, 3)}"
        ends += ("len_k // 2", "-len_q // 3") if self.unit else ("len_k // 9t",)
        start, stop = (self.pick(*ends) for _ in range(2))
        return f"{start}:{stop}{f':{self.count(1, 2)}' if form == 'step' else ''}"

    def offset(self) -> str:
        start, stop = (self.pick(self.count(0, 6), f"-{self.count(1, 6)}") for _ in range(2))
        return self.pick(start, f"{start}:{stop}", f"{start}:{stop}:{self.count(1, 3)}")

    def window(self) -> str:
        step = self.pick("", f", step={self.count(1, 2)}")
        form = self.pick("odd", "sides", "clamped", "ring")
        if form == "ring":  # which goes round once or more often, and may leave the query out
            most = 30 if self.unit else 12
            first, wide = self.draw(st.integers(-most, most)), self.draw(st.integers(0, most))
            sides = f"left={-first}{self.unit}, right={first + wide}{self.unit}"
            return f"window({sides}{step}, wrap=true)"
        if form == "odd":
            return f"window({self.odd()}{step}{self.pick('', ', wrap=true', ', clamp=true')})"
        if form == "clamped":
            return f"window({self.count(1, 5)}{step}, clamp=true)"
        left, right = (self.pick(self.count(0, 4), "inf") for _ in range(2))
        return f"window(left={left}, right={right}{step}{self.pick('', ', wrap=true')})"

    def last(self) -> str:
        return f"last({self.pick(self.count(1, 5), 'inf')})"

    def diagonals(self) -> str:
        return f"diagonals({self.several(self.offset)})"

    def chunks(self) -> str:
        sides = self.pick("", ", back=1", ", ahead=2", ", back=1, ahead=1", ", back=inf")
        return f"chunks({self.several(lambda: self.count(1, 4))}{sides})"

    def segments(self) -> str:
        offset = self.pick("", ", offset=1", ", offset=head // 2")
        return f"segments({self.count(1, 5)}, rate={self.pick('1', '2', '3')}{offset})"

    def logsparse(self) -> str:
        return self.pick("logsparse", "logsparse(3)")

    def butterfly(self) -> str:
        return self.pick("butterfly", f"butterfly({self.count(0, 3)})")

    def strided(self) -> str:
        return f"strided({self.count(1, 5)}{self.pick('', f', offset={self.count(0, 4)}')})"

    def grid(self) -> str:
        """A grid; one in tokens fits a sequence of GRID, one in blocks any number of them, or an even one.

        Half of them have an offset, and fit all sequences.
        """
        offset = self.pick("", f", offset={self.count(0, 2)}", f", offset=0{self.unit}", "")
        sizes = (
            self.pick("24t", "4t, 6t", "3t, 8t", "2t, 3t, 4t", "4t, 1t, 6t")
            if self.unit
            else self.pick("2, 2", "3", "n // 2 + 1, 2", "1, n, 1")
            if offset
            else self.pick("n", "1, n", "2, n // 2", "n // 2, 2", "n // 2, 1, 2")
        )
        sides = sizes.count(",") + 1
        one = self.pick("0", "1", "2", "inf")
        several = ", ".join(self.pick("0", "1", "inf") for _ in range(sides))
        radius = f"({several})" if sides > 1 and self.draw(st.booleans()) else one
        return f"grid({sizes}, radius={radius}{self.ways(sides)}{offset})"

    def ways(self, sides: int) -> str:
        """How the sides of a grid end: all alike, or each in its way."""
        ways = "", "clamp", "wrap", "causal"
        if sides == 1 or self.draw(st.booleans()):
            way = self.pick(*ways)
            return f", {way}=true" if way else ""
        chosen = [self.pick(*ways) for _ in range(sides)]
        flags = {w: ", ".join("true" if w == c else "false" for c in chosen) for w in chosen if w}
        return "".join(f", {way}=({text})" for way, text in flags.items())

    def indices(self, name: str) -> str:
        return f"{name}({self.several(self.index)})"

    def every(self) -> str:
        return f"every({self.count(1, 5)}{self.pick('', f', offset={self.count(0, 4)}')})"

    def by_signature(self, primitive: type[Primitive]) -> str:
        """A primitive with its arguments as they are declared; half of those that may be left out are."""
        texts = []
        for arg in arguments(primitive):
            if arg.required or self.draw(st.booleans()):
                named = not arg.required and not arg.kind.variadic
                texts.append(f"{arg.name}={self.value(arg)}" if named else self.value(arg))
        return f"{primitive.name}({', '.join(texts)})" if texts else primitive.name

    def value(self, arg: Argument) -> str:
        least = arg.minimum or 0
        match arg.kind:
            case Kind.COUNT:
                count = self.count(max(least, 1), max(least, 1) + 4)
                return self.pick(count, *["inf"] * arg.infinite)
            case Kind.COUNTS:
                return self.several(lambda: self.count(max(least, 1), max(least, 1) + 4))
            case Kind.INDICES:
                return self.several(self.index)
            case Kind.NUMBER | Kind.NUMBERS:
                return str(self.draw(st.integers(least, least + 4)))
            case Kind.FLAG | Kind.FLAGS:
                return self.pick("false", "true")
            case Kind.PATTERN:
                return self.pick("all", f"last({self.count(1, 3)})")
            case _:
                raise AssertionError(f"`{arg.name}` needs a writer of its own in tests/grammar.py")


Written = Callable[[_Writer], str]

RELATIONAL: dict[str, Written] = {
    "window": _Writer.window,
    "last": _Writer.last,
    "diagonals": _Writer.diagonals,
    "chunks": _Writer.chunks,
    "strided": _Writer.strided,
    "segments": _Writer.segments,
    "grid": _Writer.grid,
    "logsparse": _Writer.logsparse,
    "butterfly": _Writer.butterfly,
}
"""Primitives that compare rows with columns; in blocks these must be square."""

INDEXED: dict[str, Written] = {
    **{name: partial(_Writer.indices, name=name) for name in ("rows", "cols", "global")},
    "every": _Writer.every,
}
"""Primitives that do not."""

CONSTANT = ("all", "none", "causal")
GIVEN = {
    "same": ("same(doc)", "same(part)"),
    "select": ("select(pick)", "select(some, rows=1t, cols=3t)", "select(few, rows=5t, cols=2)"),
    "table": ('table("mask.npy")',),
}
"""What a call must pass labels or selections for, or a file must lie beside."""

OF_LABELS = (
    "{q, k : time[k] <= time[q]}",
    "{q, k : 0 <= time[q] - time[k] < 5}",
    "{q, k : k < anchor[q]}",
    "{q, k : q >= cut[b] & k <= q}",
    "~{q, k : mark[k] < 2 | doc[q] != doc[k]}",
)
"""Predicates that read labels."""

IN_BLOCKS = {"logsparse", "butterfly"}
"""Primitives of RELATIONAL that never count tokens."""

for _primitive in PRIMITIVES:
    if _primitive.name not in {*RELATIONAL, *INDEXED, *CONSTANT, *GIVEN, "random"}:
        _table = RELATIONAL if _primitive.relational else INDEXED
        _table[_primitive.name] = partial(_Writer.by_signature, primitive=_primitive)
        if not any(
            arg.kind in (Kind.COUNT, Kind.COUNTS, Kind.INDICES) for arg in arguments(_primitive)
        ):
            IN_BLOCKS.add(_primitive.name)


@st.composite
def named(draw: st.DrawFn, name: str, tokens: bool = False) -> str:
    """A primitive of RELATIONAL or INDEXED."""
    return {**RELATIONAL, **INDEXED}[name](_Writer(draw, tokens))


@dataclass(frozen=True)
class Forms:
    """Which forms of the language programs may have.

    square: blocks with equal sides, so that numbers of blocks compare rows with columns. blocks: nothing
    counts tokens, as compositions need. labels: `same`, whose labels a call must pass. tables: `table`,
    whose file must have the shape of the grid. named: calls of what is defined above. tokens: nothing counts
    blocks but what numbers are computed of, as orders of tokens need.
    """

    square: bool = True
    blocks: bool = False
    labels: bool = False
    tables: bool = False
    named: tuple[str, ...] = ()
    tokens: bool = False


NUMBERS = {
    "+": "({left}) + ({right})",
    "-": "({left}) - ({right})",
    "*": "({left}) * {factor}",
    "//": "({left}) // {divisor}",
    "%": "({left}) % {divisor}",
    "min": "min({left}, {right})",
    "max": "max({left}, {right})",
    "abs": "abs({left})",
    "isqrt": "isqrt(abs({left}))",
    "log2": "log2(max({left}, 1))",
    "{sign}": "(({left}) {sign} ({right}))",
    "** 0": "({left}) ** 0",
    "** 1": "({left}) ** 1",
    "** 3": "min(abs({left}), 9) ** 3",
    "+ 0": "1 * ({left}) + 0",
    "* 0": "({left}) * 0",
}
COMPARED = ("<", "<=", ">", ">=", "==", "!=")


@st.composite
def numbers(draw: st.DrawFn, names: tuple[str, ...], depth: int = 2) -> str:
    """Integer expressions over names that are never undefined."""
    if depth == 0 or draw(st.booleans()):
        return draw(st.sampled_from((*names, *names, str(draw(st.integers(0, 9))))))
    form = draw(st.sampled_from(("+", "-", "{sign}", *NUMBERS)))
    return NUMBERS[form].format(
        left=draw(numbers(names, depth - 1)),
        right=draw(numbers(names, depth - 1)),
        factor=draw(st.integers(-3, 3)),
        divisor=draw(st.integers(1, 7)),
        sign=draw(st.sampled_from(COMPARED)),
    )


@st.composite
def compared(
    draw: st.DrawFn, names: tuple[str, str], depth: int, op: str = "", chained: bool = False
) -> str:
    """A comparison of numbers over two indices: blocks beside `n`, tokens beside the lengths."""
    op = op or draw(st.sampled_from(COMPARED))
    known = (
        ("n", "len_k // 5t") if names == ("i", "j") else ("len_q", "len_k", "n * 3t", "n // 2 * 5t")
    )
    left = draw(numbers((*names, *names, *known, "head"), depth))
    right = draw(numbers((*names, *known), depth))
    before = f"{draw(st.integers(0, 3))} <= " if chained or not draw(st.integers(0, 3)) else ""
    return f"{'~' * draw(st.booleans())}({before}{left} {op} {right})"


@st.composite
def builders(draw: st.DrawFn, tokens: bool, depth: int = 2) -> str:
    """Set-builders, of blocks or of tokens."""
    names = ("q", "k") if tokens else ("i", "j")
    text = draw(compared(names, depth))
    for _ in range(draw(st.integers(0, depth))):
        text = f"({text} {draw(st.sampled_from('&|^'))} {draw(compared(names, depth))})"
    return f"{{{names[0]}, {names[1]} : {text}}}"


@st.composite
def primitives(draw: st.DrawFn, forms: Forms) -> str:
    """One primitive, set-builder or call of a definition."""
    given = [*GIVEN["same"], *OF_LABELS, *GIVEN["select"]] * forms.labels + [
        *GIVEN["table"]
    ] * forms.tables
    kinds = ["constant", "indexed", "indexed", *["relational"] * 4, "builder"]
    kinds += ["given"] * bool(given) + ["named"] * 3 * bool(forms.named)
    kind = draw(st.sampled_from(kinds))
    if kind == "constant":
        return draw(
            st.sampled_from([name for name in CONSTANT if name != "causal" or not forms.blocks])
        )
    if kind in ("given", "named"):
        return draw(st.sampled_from(given if kind == "given" else forms.named))
    must = forms.tokens or (kind != "indexed" and not forms.square)
    tokens = not forms.blocks and (must or draw(st.booleans()))
    if kind == "builder":
        return draw(builders(tokens, depth=1))
    if kind == "indexed":
        return draw(named(draw(st.sampled_from([*INDEXED])), tokens))
    chosen = ["window", *(name for name in RELATIONAL if not tokens or name not in IN_BLOCKS)]
    return draw(named(draw(st.sampled_from(chosen)), tokens))


class _Program:
    """Writes one expression of up to `terms` primitives, of one form."""

    def __init__(self, draw: st.DrawFn, forms: Forms, terms: int) -> None:
        self.draw, self.forms, self.terms = draw, forms, terms
        self.fewer = max(terms - 1, 1)

    def part(self, most: int, within: Forms | None = None) -> str:
        return self.draw(programs(terms=most, forms=within or self.forms))

    def inner(self) -> str:
        return self.part(self.fewer) if self.terms > 1 else self.plain()

    def plain(self) -> str:
        return self.draw(primitives(self.forms))

    def joined(self, op: str = "") -> str:
        left = self.draw(st.integers(1, self.terms - 1))
        op = op or self.draw(st.sampled_from(JOINED))
        return f"({self.part(left)} {op} {self.part(self.terms - left)})"

    def complement(self) -> str:
        return f"~{self.inner()}"

    def transposed(self) -> str:
        return f"{self.inner()}.T"

    def random(self, within: bool | None = None) -> str:
        if within is None:
            within = self.terms > 1 and self.draw(st.booleans())
        # Blocks cannot be drawn within what labels decide, and a definition may hide these.
        drawable = replace(self.forms, labels=False, named=())
        inner = f", within={self.part(self.fewer, drawable)}" if within else ""
        count = self.draw(st.integers(0, 5))
        seed = self.draw(st.sampled_from([*map(str, range(10)), "head", "layer + 1"]))
        return f"random({count}, seed={seed}{inner})"

    def heads(self) -> str:
        first, rest = self.draw(st.sampled_from([("0", "1:"), (":2", "2:"), ("::2", "1::2")]))
        return f"heads {{ {first} -> {self.part(self.fewer)}; {rest} -> {self.part(1)} }}"

    def power(self) -> str:
        return f"(({self.part(self.fewer, self._counted())}) ** {self.draw(st.integers(1, 4))})"

    def composition(self) -> str:
        counted = self._counted()
        return f"({self.part(1, counted)} @ {self.part(self.fewer, counted)})"

    def _counted(self) -> Forms:
        return replace(self.forms, blocks=True, labels=False, named=())


JOINED = ("|", "&", "-", "^")
AROUND: dict[str, Callable[[_Program], str]] = {
    "plain": _Program.plain,
    "complement": _Program.complement,
    "transposed": _Program.transposed,
    "random": _Program.random,
    "heads": _Program.heads,
    "power": _Program.power,
    "composition": _Program.composition,
}
_OFTEN = {"plain": 7, "complement": 2, "transposed": 2, "random": 2}
_CHOICES = [form for form in AROUND for _ in range(_OFTEN.get(form, 1))]


@st.composite
def programs(
    draw: st.DrawFn, square: bool = True, terms: int = 5, forms: Forms | None = None, form: str = ""
) -> str:
    """Expressions of up to `terms` primitives; square: whether blocks have equal sides.

    form: of AROUND or JOINED, which it then is.
    """
    forms = forms or Forms(square)
    writing = _Program(draw, forms, terms)
    if form in JOINED or (not form and terms > 1 and draw(st.sampled_from([False, True, True]))):
        return writing.joined(form)
    choices = [c for c in _CHOICES if not (forms.tokens and c == "random")]
    chosen = form or draw(st.sampled_from(choices))
    if not form and (
        (terms == 1 and chosen in ("heads", "composition", "power"))
        or (not forms.square and chosen in ("composition", "power"))
    ):
        chosen = "plain"
    return AROUND[chosen](writing)


BODIES = (
    *("last({x})", "window(left={x}, right=0)", "every({x})", "chunks({x}, back=1)", "cols(0:{x})"),
    *("{{q, k : abs(q - k) < {x}}}", "diagonals({x}, 0)", "strided({x})", "global(0, :{x})"),
)


@st.composite
def definition(
    draw: st.DrawFn, name: str, forms: Forms, parameter: bool | None = None
) -> tuple[str, tuple[str, ...]]:
    """A definition, with or without a parameter, and calls of it."""
    body = draw(programs(terms=2, forms=forms))
    if not (draw(st.booleans()) if parameter is None else parameter):
        return f"{name} = {body}", (name,)
    unit = draw(st.sampled_from(["", "t"])) if forms.square else "t"
    first = draw(st.sampled_from(BODIES)).format(x="w")
    line = f"{name}(w = {draw(st.integers(1, 4))}{unit}) = {first} | {body}"
    given = draw(st.integers(1, 9))
    return line, (name, f"{name}({given}{unit})", f"{name}(w={given}{unit})")


NAMES = ("near", "_far")


@st.composite
def definitions(draw: st.DrawFn, forms: Forms) -> tuple[str, tuple[str, ...]]:
    """Up to two definitions as lines of text, and calls of them. The second may use the first."""
    lines: list[str] = []
    calls: tuple[str, ...] = ()
    for name in NAMES[: draw(st.integers(1, 2))]:
        line, own = draw(definition(name, replace(forms, named=calls)))
        lines.append(f"{line}\n")
        calls += own
    return "".join(lines), calls

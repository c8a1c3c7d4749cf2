"""Random programs over the whole grammar, for fuzzing and for the formatter's tests.

Unlike those of strategies.py they need mean nothing, though many do: every statement and form of
expression occurs, with hostile numbers, deep nesting, circles, and files that are missing or broken.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeAlias

from bslang.ir.signature import Argument, Kind, arguments
from bslang.patterns import BY_NAME, PRIMITIVES

Tokens: TypeAlias = list[str]

_SMALL = *"0123451357", "16", "64t", "100t", "-1", "inf"
_ORDERS = (
    *(
        "tiles ( 10 , 20 ; 4 , 8 )",
        "morton ( 10 , 20 )",
        "tiles ( 200 ; 7 )",
        "morton ( 5 , 4 , 10 )",
    ),
    *("tiles ( 10 , 20 )", "tiles ( 8 ; 9 )", "morton ( 0 )", "tile ( 10 , 20 ; 4 , 8 )"),
)
_BLOCKS = "0", "1x9999", "99999999999", "1"
_HOSTILE = (
    *("2147483647", "2147483648", "4294967296t", "9" * 30, "9" * 5000, "0" * 40, "1_000", "1__0t"),
    *("-2147483648", "2 ** 31", "9 ** 9 ** 9", "1 // 0", "n % 0", "n // (n - n)", "inf - inf"),
    *("n ** n", "2 ** -n", "log2(0)", "isqrt(-1)", "n * n * n * n", "-n", "1 - n", "m - 1"),
)
_DEFINED = "a", "b", "c", "f", "g", "_p"
_NAMES = *_DEFINED, "x", "r", "c.sinks", "c._p", "common.near", "doc", "windw", "all", "block"
_NUMBERS = "n", "m", "head", "layer"
_VARIABLES = *[("i", "j")] * 6, *[("q", "k")] * 6, ("j", "i"), ("i", "k"), ("x", "x")
_FILES = (
    *(*["common.bsl"] * 9, "std/longformer.bsl", "loop.bsl", "broken.bsl", "missing.bsl"),
    *("../up.bsl", "/dev/zero", "~/x.bsl", "", ".", "a\0b.bsl", "fuzz.bsl", "{{ 7*7 }}", "%s"),
)
_TABLES = (
    "mask.npy",
    "mask.npy",
    "object.npy",
    "short.npy",
    "huge.npy",
    "missing.npz",
    "../mask.npy",
)
_WORDS = (
    "bsl",
    "block",
    "import",
    "as",
    "heads",
    "inf",
    "true",
    "same",
    "table",
    "all",
    "none",
    "T",
    "t",
)
_PATTERN_OPS = "|", "|", "&", "&", "-", "^", "@"
_NUMBER_OPS = "+", "-", "*", "//", "%", "**"
_COMPARISONS = "<", "<=", ">", ">=", "==", "!="
_COUNTED = Kind.COUNT, Kind.COUNTS, Kind.INDICES
_PLAIN = *_COUNTED, Kind.NUMBER, Kind.NUMBERS
_EVERY_OP = (*_PATTERN_OPS, *_NUMBER_OPS, *_COMPARISONS)

DEEPEST = 110
"""Levels of the deepest nesting that is written: more than MAX_NESTING, to meet the limit itself."""


class Writer:
    """Writes programs with a random generator: the same one, the same programs."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.defined: list[str] = []
        self.variables: tuple[str, ...] = ("i", "j")

    def program(self) -> str:
        """The text of a file of a few statements."""
        statements = []
        if self.chance(0.1):
            statements.append(["bsl", "1"])
        if self.chance(0.15):
            statements.append(["block", self.random.choice(("64", "16", "8x4", "32x32", *_BLOCKS))])
        if self.chance(0.1):
            statements.append(["order", *self.random.choice(_ORDERS).split()])
        if self.chance(0.15):
            alias = ["as", self.random.choice(("c", "d", "all", "as"))] if self.chance(0.5) else []
            statements.append(["import", f'"{self.random.choice(_FILES)}"', *alias])
        for name in self.random.sample(_DEFINED, self.random.choice((0, 0, 1, 1, 2, 3))):
            statements.append(self.definition(name if self.chance(0.95) else self.name()))
            self.defined.append(name)
        if not self.defined or self.chance(0.3):
            statements.append(self.body())
        if self.chance(0.1):
            self.random.shuffle(statements)
        return "\n".join(map(self.text, statements))

    def text(self, tokens: Tokens) -> str:
        """Tokens with random space between them, and within brackets with line ends and comments too."""
        wild = self.chance(0.3)
        gaps = ("", " ", "  ", "\t") if wild else (" ",)
        out: Tokens = []
        depth = 0
        for token in tokens:
            gap = self.random.choice(gaps)
            if wild and depth > 0 and self.chance(0.1):
                gap = self.random.choice(("\n", "\n\n  ", "  # note (\n", '\n# own " line }\n'))
            if not gap and out and _runs_on(out[-1], token):
                gap = " "
            out += [gap, token]
            depth += token.endswith(("(", "{")) - (token in (")", "}"))
        end = "  # end" if wild and self.chance(0.3) else "\n\n" * self.chance(0.1)
        return "".join(out).strip(" \t") + end

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def pick(self, *forms: Callable[[], Tokens]) -> Tokens:
        return self.random.choice(forms)()

    # ---- statements ----------------------------------------------------------------------------

    def definition(self, name: str) -> Tokens:
        if self.chance(0.7):
            return [name, "=", *self.body()]
        return [name, *self.listed("(", self.parameter, ")", 3), "=", *self.body()]

    def name(self) -> str:
        """Mostly a name that is defined before, so that circles are few."""
        if self.defined and self.chance(0.85):
            return self.random.choice(self.defined)
        return self.random.choice(_NAMES)

    def body(self) -> Tokens:
        roll = self.random.random()
        depth = self.random.choice((0, 1, 1, 2))
        if roll < 0.85:
            return self.pattern(depth)
        if roll < 0.98:
            return self.anything(depth)
        return self.nested()

    def parameter(self) -> Tokens:
        name = self.random.choice(("r", "x", "n", "w", "all"))
        return [name] if self.chance(0.3) else [name, "=", *self.number(1)]

    def listed(self, opening: str, item: Callable[[], Tokens], closing: str, most: int) -> Tokens:
        tokens = [opening]
        for _ in range(self.random.randint(1, most)):
            tokens += [*item(), ","]
        return [*tokens[: len(tokens) - self.chance(0.9)], closing]

    # ---- patterns and numbers ------------------------------------------------------------------

    def joined(self, ops: tuple[str, ...], operand: Callable[[int], Tokens], depth: int) -> Tokens:
        tokens = operand(depth)
        for _ in range(self.random.choice((0, 0, 1, 1, 2, 3)) if depth > 0 else 0):
            tokens += [self.random.choice(ops), *operand(depth - 1)]
        return tokens

    def pattern(self, depth: int) -> Tokens:
        """Something that is a pattern, if names and numbers allow."""
        return self.joined(_PATTERN_OPS, self.pattern_operand, depth)

    def pattern_operand(self, depth: int) -> Tokens:
        roll = self.random.random()
        if depth <= 0 or roll < 0.55:
            return self.primitive(depth)
        if roll < 0.62:
            return ["~", *self.pattern_operand(depth - 1)]
        if roll < 0.69:
            return ["(", *self.pattern(depth - 1), ")", ".T"]
        if roll < 0.74:
            power = self.random.choice(("0", "1", "2", "3", "1000000", "-1", "n"))
            return ["(", *self.pattern(depth - 1), ")", "**", power]
        if roll < 0.80:
            return ["(", *self.pattern(depth - 1), ")"]
        if roll < 0.88:
            return self.set_builder(self.predicate, depth)
        if roll < 0.93:
            return self.heads(self.pattern, depth)
        return self.reference(depth)

    def primitive(self, depth: int) -> Tokens:
        cls = self.random.choice(PRIMITIVES)
        unit = self.random.choice(("", "", "t"))
        tokens: Tokens = []
        for arg in arguments(cls):
            if not arg.required and self.chance(0.6):
                continue
            named = arg.keyword_only or (not arg.kind.variadic and not arg.required)
            for _ in range(self.random.randint(1, 3) if arg.kind.variadic else 1):
                tokens += [arg.name, "="] if named else []
                plain = arg.kind in _PLAIN and self.chance(0.8)
                number = [self.random.choice("1123457") + (unit if arg.kind in _COUNTED else "")]
                tokens += [*(number if plain else self.argument(arg, depth)), ","]
        return [cls.name, "(", *tokens[:-1], ")"] if tokens else [cls.name]

    def argument(self, arg: Argument, depth: int) -> Tokens:
        if self.chance(0.03):
            return self.anything(1)
        match arg.kind:
            case Kind.PATTERN:
                return self.pattern(depth - 1)
            case Kind.FLAGS if self.chance(0.5):
                return self.listed("(", lambda: [self.random.choice(("true", "false"))], ")", 3)
            case Kind.FLAG | Kind.FLAGS:
                return [self.random.choice(("true", "false"))]
            case Kind.NAME:
                return ["doc"]
            case Kind.TEXT:
                return [f'"{self.random.choice(_TABLES)}"']
            case Kind.INDICES if self.chance(0.5):
                return self.range(0)
            case Kind.NUMBERS if self.chance(0.5):
                return self.listed("(", lambda: self.number(0), ")", 3)
            case _:
                return self.number(self.random.choice((0, 0, 0, 1)))

    def reference(self, depth: int) -> Tokens:
        name = self.name()
        if self.chance(0.6):
            return [name]
        return [name, *self.listed("(", lambda: self.given(depth - 1), ")", 2)]

    def given(self, depth: int) -> Tokens:
        roll = self.random.random()
        if roll < 0.3:
            return [self.random.choice(("r", "x", "w")), "=", *self.number(depth)]
        return self.range(depth) if roll < 0.4 else self.number(depth)

    def number(self, depth: int) -> Tokens:
        """Something that is a number, if names and numbers allow."""
        return self.joined(_NUMBER_OPS, self.number_operand, depth)

    def number_operand(self, depth: int) -> Tokens:
        roll = self.random.random()
        if roll < 0.65 or depth <= 0:
            if self.chance(0.03):
                return self.random.choice(_HOSTILE).split()
            return [self.random.choice(_SMALL if self.chance(0.85) else (*_NUMBERS, "r", "x"))]
        if roll < 0.8:
            return ["(", *self.number(depth - 1), ")"]
        if roll < 0.9:
            name = self.random.choice(("min", "max", "abs", "isqrt", "log2"))
            return [name, *self.listed("(", lambda: self.number(depth - 1), ")", 2)]
        return ["-", *self.number_operand(depth - 1)]

    def range(self, depth: int) -> Tokens:
        start, stop = (self.number(depth) if self.chance(0.6) else [] for _ in range(2))
        return [*start, ":", *stop, *([":", *self.number(0)] if self.chance(0.3) else [])]

    def set_builder(self, predicate: Callable[[int], Tokens], depth: int) -> Tokens:
        first, second = self.random.choice(_VARIABLES)
        self.variables = first, second
        return ["{", first, ",", second, ":", *predicate(depth - 1), "}"]

    def predicate(self, depth: int) -> Tokens:
        return self.joined(("&", "|", "^"), self.compared, depth)

    def compared(self, depth: int) -> Tokens:
        if depth > 0 and self.chance(0.3):
            return [*(["~"] * self.chance(0.5)), "(", *self.predicate(depth - 1), ")"]
        return self.joined(_COMPARISONS, self.term, 1)

    def term(self, depth: int) -> Tokens:
        variables = self.variables if self.chance(0.95) else ("i", "j", "q", "k", "n")
        tokens = [self.random.choice(variables)]
        for _ in range(self.random.choice((0, 0, 1, 2))):
            right = [self.random.choice((*variables, "1", "2", "3", "5", "n", *_HOSTILE[:2]))]
            tokens += [self.random.choice(_NUMBER_OPS), *right]
        return tokens

    def heads(self, pattern: Callable[[int], Tokens], depth: int) -> Tokens:
        tokens: Tokens = []
        start = 0
        for _ in range(self.random.choice((1, 2, 3))):
            stop = start + self.random.choice((1, 2, 4))
            ends = [str(start), ":", "" if self.chance(0.3) else str(stop)]
            heads = self.range(1) if self.chance(0.1) else [end for end in ends if end]
            tokens += [*heads, "->", *pattern(depth - 1), ";"]
            start = stop
        return ["heads", "{", *tokens[: len(tokens) - self.chance(0.9)], "}"]

    # ---- anything ------------------------------------------------------------------------------

    def anything(self, depth: int) -> Tokens:
        """Any expression of the grammar, whether or not it means something."""
        return self.joined(_EVERY_OP, self.any_operand, depth)

    def any_operand(self, depth: int) -> Tokens:
        prefixes = [self.random.choice("-~") for _ in range(self.random.choice((0, 0, 0, 1, 2)))]
        return [*prefixes, *self.atom(depth), *([".T"] * self.random.choice((0, 0, 0, 1, 2)))]

    def atom(self, depth: int) -> Tokens:
        if depth <= 0:
            words = (
                *_NAMES,
                *_NUMBERS,
                *_SMALL[:-2],
                "true",
                "false",
                "inf",
                *BY_NAME,
                *_WORDS[:3],
            )
            return [self.random.choice(words)]

        def inner() -> Tokens:
            return self.anything(depth - 1)

        return self.pick(
            lambda: ["(", *inner(), ")"],
            lambda: self.listed("(", inner, ")", 3),
            lambda: [self.random.choice((*_NAMES, *BY_NAME)), "(", ")"],
            lambda: [
                self.random.choice((*_NAMES, *BY_NAME)),
                *self.listed("(", lambda: self.any_argument(depth), ")", 3),
            ],
            lambda: self.set_builder(self.anything, depth),
            lambda: self.heads(self.anything, depth),
            lambda: [f'"{self.random.choice((*_FILES, *_TABLES))}"'],
            lambda: self.number(0),
        )

    def any_argument(self, depth: int) -> Tokens:
        roll = self.random.random()
        if roll < 0.2:
            return self.range(depth - 1)
        if roll < 0.5:
            return [
                self.random.choice(("r", "seed", "within", "block")),
                "=",
                *self.atom(depth - 1),
            ]
        return self.anything(depth - 1)

    def nested(self) -> Tokens:
        """One form within itself, many times."""
        before, after = self.random.choice(
            [
                ("(", ")"),
                ("~", ""),
                ("~ (", ")"),
                ("- ", ""),
                ("all - (", ")"),
                ("( all |", ") .T"),
                ("random ( 2 , within =", ")"),
                ("heads { : ->", "}"),
                ("{ i , j :", "}"),
                ("{ q , k : q < (", ") }"),
                ("last ( n + (", ") )"),
                ("( 1 ,", ")"),
                ("f (", ")"),
                ("2 **", ""),
                ("(", ") ** 2"),
                ("a @ (", ")"),
            ]
        )
        times = self.random.choice((2, 5, 20, 45, 99, DEEPEST))
        core = self.pick(lambda: self.pattern(0), lambda: self.number(0), lambda: ["causal"])
        return before.split() * times + core + after.split() * times


def _runs_on(left: str, right: str) -> bool:
    """Whether two tokens would be one without a space between them."""
    return (left[-1].isalnum() or left[-1] == "_") and (right[0].isalnum() or right[0] == "_")

"""Random programs, drawn as text: one strategy that every property test shares.

Programs are small and shrink to small ones: operators shrink to their first operand, primitives to
`all`, numbers to the least that is accepted.
"""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from bslang import compiler
from bslang.errors import BslangError
from bslang.ir.grid import Grid
from bslang.ir.oracle import dense
from bslang.ir.runs import Bools
from bslang.resolve.program import Resolved
from bslang.syntax.source import Source


def _count(unit: str, least: int, most: int) -> st.SearchStrategy[str]:
    scale = 7 if unit else 1
    return st.integers(least, most * scale).map(lambda x: f"{x}{unit}")


def _odd(unit: str) -> st.SearchStrategy[str]:
    return st.integers(0, 12 if unit else 3).map(lambda x: f"{2 * x + 1}{unit}")


def _index(unit: str) -> st.SearchStrategy[str]:
    # Ranges are cut to the length; single indices must exist, so only the ends are drawn.
    ends = st.one_of(st.just(""), _count(unit, 0, 6), _count(unit, 1, 3).map(lambda x: f"-{x}"))
    step = st.one_of(st.just(""), _count(unit, 1, 2).map(lambda x: f":{x}"))
    single = st.sampled_from([f"0{unit}", f"-1{unit}"])
    return st.one_of(single, st.builds(lambda a, b, s: f"{a}:{b}{s}", ends, ends, step))


def _offset(unit: str) -> st.SearchStrategy[str]:
    number = st.one_of(_count(unit, 0, 6), _count(unit, 1, 6).map(lambda x: f"-{x}"))
    step = st.one_of(st.just(""), _count(unit, 1, 3).map(lambda x: f":{x}"))
    return st.one_of(number, st.builds(lambda a, b, s: f"{a}:{b}{s}", number, number, step))


def _listed(item: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(item, min_size=1, max_size=3).map(", ".join)


def _window(unit: str) -> st.SearchStrategy[str]:
    step = st.one_of(st.just(""), _count(unit, 1, 2).map(lambda s: f", step={s}"))
    wrap = st.sampled_from(["", ", wrap=true"])
    side = st.one_of(_count(unit, 0, 4), st.just("inf"))
    return st.one_of(
        st.builds("window({}{}{})".format, _odd(unit), step, wrap),
        st.builds("window(left={}, right={}{}{})".format, side, side, step, wrap),
        st.builds("window(left={})".format, side),
        st.builds("window({}{}, clamp=true)".format, _count(unit, 1, 5), step),
    )


def _relational(unit: str) -> st.SearchStrategy[str]:
    """Primitives that compare rows with columns; in blocks they need square ones."""
    chunks = st.sampled_from(["", ", back=1", ", ahead=2", ", back=1, ahead=1", ", back=inf"])
    return st.one_of(
        _window(unit),
        st.one_of(_count(unit, 1, 5), st.just("inf")).map("last({})".format),
        _listed(_offset(unit)).map("diagonals({})".format),
        st.builds("chunks({}{})".format, _listed(_count(unit, 1, 4)), chunks),
        st.builds("strided({}, offset={})".format, _count(unit, 1, 5), _count(unit, 0, 4)),
        _count(unit, 1, 5).map("strided({})".format),
    )


def _indexed(unit: str) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("{}({})".format, st.sampled_from(["rows", "cols", "global"]), _listed(_index(unit))),
        st.builds("every({}, offset={})".format, _count(unit, 1, 5), _count(unit, 0, 4)),
        _count(unit, 1, 4).map("every({})".format),
    )


def _random(within: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    chosen = st.one_of(st.just(""), within.map(lambda p: f", within={p}"))
    return st.builds("random({}, seed={}{})".format, st.integers(0, 5), st.integers(0, 9), chosen)


def programs(square: bool = True, terms: int = 5) -> st.SearchStrategy[str]:
    """Expressions of up to about `terms` primitives; square: whether blocks have equal sides."""
    relational = [_relational(""), _relational("t")] if square else [_relational("t")]
    leaf = st.one_of(
        st.sampled_from(["all", "none", "causal"]), _indexed(""), _indexed("t"), *relational
    )
    leaf = st.one_of(leaf, _random(leaf))

    def extend(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.one_of(
            st.builds("({} {} {})".format, inner, st.sampled_from("|&-^"), inner),
            inner.map("~{}".format),
            inner.map("{}.T".format),
            _random(inner),
        )

    return st.recursive(leaf, extend, max_leaves=terms)


@dataclass(frozen=True)
class Case:
    """A program on a grid."""

    spec: str
    block: tuple[int, int]
    len_q: int
    len_k: int
    align: str

    @property
    def resolved(self) -> Resolved:
        return compiler.resolve(Source("<case>", self.spec), block=self.block)

    @property
    def grid(self) -> Grid:
        return Grid.of(self.len_q, self.len_k, self.block, self.align)

    def mask(self) -> Bools:
        """The truth, bool (len_q, len_k), from the dense oracle."""
        return dense(self.resolved.pattern, self.grid)

    def has_meaning(self) -> bool:
        """Whether the program means something on the grid: an index may lie outside of it."""
        try:
            compiler.lower(self.resolved, self.len_q, self.len_k, self.align)
        except BslangError:
            return False
        return True


@st.composite
def cases(
    draw: st.DrawFn,
    blocks: tuple[tuple[int, int], ...] = ((4, 4), (8, 8), (5, 3), (1, 1), (2, 7)),
    longest: int = 40,
    terms: int = 5,
) -> Case:
    """Programs on grids of all kinds: ragged lengths, rectangular blocks, few queries, cross-attention."""
    block = draw(st.sampled_from(blocks))
    spec = draw(programs(square=block[0] == block[1], terms=terms))
    len_k = draw(st.integers(1, longest))
    align = draw(st.sampled_from(["end", "start"]))
    len_q = draw(st.one_of(st.just(len_k), st.integers(1, len_k if align == "end" else longest)))
    return Case(spec, block, len_q, len_k, align)

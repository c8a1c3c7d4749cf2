"""What a layout costs at a length, and its properties: `bslang stats` and `Layout.stats`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from bslang import compiler
from bslang.analysis.components import Parts, parts
from bslang.analysis.costs import DTYPES, Crossover, crossovers
from bslang.analysis.extend import Extension
from bslang.analysis.heads import ranges
from bslang.analysis.properties import Answer, Properties
from bslang.analysis.reach import Reach
from bslang.analysis.square import Square
from bslang.analysis.stats import Spread, Stats, asked_by_pairs
from bslang.reports.figures import Asked
from bslang.reports.lengths import usual_length
from bslang.reports.ranks import Group, RanksReport
from bslang.reports.words import Line, percent, plural, seconds, size
from bslang.resolve.program import Resolved
from bslang.shown import Shown

if TYPE_CHECKING:
    from bslang.verify.measure import Measured

_JSON_LAYERS = 8
_MOST_GROUPS = 16

Groups = list[tuple[list[int], Stats]]
"""Heads with one set, and their figures."""


@dataclass(frozen=True, repr=False)
class StatsReport(Shown):
    """What a layout visits and costs at a length, compared with dense attention, and its properties.

    stats: figures of one head; properties: causal, prefix-stable and others, with reasons;
    dense_is_faster: below which length dense attention is expected to be faster, for each phase;
    by_head: figures of heads, those with one set together; measured: times on this machine, if they were
    asked for; asked: parts of the layout that are lowered by asking all blocks; ranks: how a group shares
    the layout, if that was asked for; dtype: that of the times, in `dense_is_faster` and `measured`.
    """

    resolved: Resolved
    head: int
    layer: int
    heads: int | None
    layers: int | None
    stats: Stats
    properties: Properties
    dense_is_faster: list[Crossover]
    by_head: Groups
    measured: list[Measured]
    asked: list[str]
    ranks: RanksReport | None
    dtype: str
    _ask: Asked
    _short: Extension | None

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, as `bslang stats --json` prints it."""
        followed = self._ask.reach(self._short, self.layers or _JSON_LAYERS)
        return {
            "name": self.resolved.name,
            "spec": self.resolved.spec,
            "digest": compiler.digest(self.resolved),
            "asked_by_pairs": self.asked,
            **self.stats.as_dict(),
            "hops": None if followed.sampled else followed.hops,
            "reach": asdict(followed),
            "parts": asdict(parts(self._ask.square())),
            "dense_is_faster": [asdict(crossing) for crossing in self.dense_is_faster],
            "properties": self.properties.as_dict(),
            **({"measured": [asdict(each) for each in self.measured]} if self.measured else {}),
            **({"ranks": self.ranks.as_dict()} if self.ranks else {}),
            "by_head": [{"heads": group, **each.as_dict()} for group, each in self.by_head],
        }

    def __str__(self) -> str:
        found = self.stats
        followed = self._ask.reach(self._short, self.layers or 0)
        names = self.resolved.pattern.names()
        of = (("head", self.head), ("layer", self.layer))
        lines = [(name, f"{number}") for name, number in of if name in names]
        lines += [
            *_lines(found),
            ("dense is faster", _dense(self.dense_is_faster, found, self.dtype)),
        ]
        lines += [_timed(each, found.baseline) for each in self.measured]
        lines += [*_answers(self.properties), ("reach", _reach(followed))]
        blocks = found.shape[0] * found.shape[1]
        for part in self.asked:
            lines.append(
                ("lowering", f"`{part}` has no affine form: all {blocks:,} blocks were asked")
            )
        sections = [f"{self.resolved.name}: {self.resolved.about}", _text(lines)]
        if self.heads or len(self.by_head) > 1:
            sections.append(_text(_heads(self.by_head)))
        if self.layers:
            square = self._ask.square()
            sections.append(_text(_field(followed, square, parts(square))))
        if self.ranks:
            sections.append(_text(self.ranks.lines()))
        return "\n\n".join(sections)


def stats(
    resolved: Resolved,
    seq_len: int | None = None,
    *,
    dim: int = 64,
    dtype: str = DTYPES[0],
    head: int = 0,
    heads: int | None = None,
    layer: int = 0,
    layers: int | None = None,
    measure: Callable[[int, bool], list[Measured]] | None = None,
    group: Group | None = None,
) -> StatsReport:
    """Count what a layout visits at a length in tokens, and decide its properties.

    seq_len: 16384, or the size of the layout's grid, for None; dim: head dimension that FLOPs are counted
    for; dtype: "fp32", "bf16" or "fp16", that of the times; heads: how many are counted one by one, those
    that the spec names for None; layers: how many are followed through the receptive field; measure: times
    the layout at a length, beside dense attention that is causal or not; group: ranks that share the layout.
    Raises SpecError where the layout is undefined at the length, LimitError, ValueError as `Group.exchange`.
    """
    length = seq_len or usual_length(resolved)
    ask = Asked(resolved, length, head, layer, heads)
    short, grid = ask.extension(), ask.grid
    found = ask.figures(short)
    counts, causal = found.counts, found.properties.causal.holds is True
    return StatsReport(
        resolved,
        head,
        layer,
        heads,
        layers,
        Stats.counted(counts, grid, dim, causal),
        found.properties,
        crossovers(grid, (counts.full, counts.partial), ask.graph, dim, causal, dtype),
        [(group, Stats.counted(each, grid, dim)) for group, each in found.by_head],
        measure(length, causal) if measure else [],
        [] if short else [str(part) for part in asked_by_pairs(resolved.pattern, grid)],
        RanksReport.of(resolved, length, group, head, layer) if group else None,
        dtype,
        ask,
        short,
    )


def _text(lines: Iterable[Line]) -> str:
    return "\n".join(
        f"{name:<18}{value}" if len(name) <= 17 else f"{name}  {value}" for name, value in lines
    )


def _lines(found: Stats) -> list[Line]:
    (rows, columns), (queries, keys) = found.block, found.tokens
    return [
        ("tokens", f"{plural(queries, 'query', 'queries')}, {plural(keys, 'key')}"),
        ("block", f"{rows} x {columns} tokens; {found.shape[0]:,} x {found.shape[1]:,} blocks"),
        ("visited blocks", f"{found.blocks:,}: {found.full:,} full, {found.partial:,} partial"),
        ("density", f"{percent(found.density)} of all blocks"),
        (
            "token pairs",
            "not decided" if found.pairs is None else _share(found.pairs, queries * keys),
        ),
        ("blocks per row", _spread(found.rows)),
        ("blocks per column", _spread(found.columns)),
        ("longest rows", _rows(found.rows.most, found.rows.longest, found.rows.with_most)),
        ("shortest rows", _rows(found.rows.least, found.rows.shortest, found.rows.with_least)),
        (
            "forward",
            f"{_flops(found.flops_forward)} per head of {found.dim}; "
            f"{found.baseline} {_flops(found.flops_dense)}",
        ),
        ("backward", f"{_flops(found.flops_backward)} per head of {found.dim}"),
        ("keys and values", _beside(found.kv_bytes, "read per head in bf16", found.baseline)),
        ("scores", _beside(found.score_bytes, "per head in bf16, if stored", found.baseline)),
        ("expected speed-up", _speedup(found)),
    ]


def _beside(count: tuple[int, int], what: str, baseline: str) -> str:
    return f"{size(count[0])} {what}; {baseline} {size(count[1])}"


def _share(pairs: int, all_pairs: int) -> str:
    return f"{pairs:,}, {percent(pairs / all_pairs)} of all"


def _rows(blocks: int, named: tuple[int, ...], count: int) -> str:
    more = f" and {count - len(named):,} more" if count > len(named) else ""
    listed = ", ".join(map(str, named))
    return f"{plural(blocks, 'block')}: block row{'s' * (count != 1)} {listed}{more}"


def _flops(count: int) -> str:
    unit = next((i for i in range(3) if count < 1e8 * 1000**i), 3)
    return f"{count / (1e6 * 1000**unit):,.2f} {('M', 'G', 'T', 'P')[unit]}FLOP"


def _speedup(found: Stats) -> str:
    if found.speedup is None:
        return "-"
    by_bytes, by_flops = found.speedup
    return (
        f"{by_bytes:,.1f} (by bytes) to {by_flops:,.1f} (by FLOPs) times {found.baseline} attention"
    )


def _dense(crossed: list[Crossover], found: Stats, dtype: str) -> str:
    """Below which length dense attention is expected to be faster, and where that was measured."""
    if not crossed:
        rows, columns = found.block
        return f"not measured for heads of {found.dim} in {dtype} and blocks of {rows} x {columns} tokens"
    phases: dict[str, list[str]] = {}
    for one in crossed:
        name = "forward" if one.phase == "forward" else "with backward"
        phases.setdefault(_below(one), []).append(name)
    where = ", ".join(f"{below} {' and '.join(names)}" for below, names in phases.items())
    one = crossed[0]
    by = f"{one.target} target, {one.heads} heads of {one.dim} in {one.dtype}"
    return f"{where} (measured on {one.device}, {by}; --measure measures here)"


def _timed(one: Measured, baseline: str) -> Line:
    name = "time forward" if one.phase == "forward" else "time both passes"
    text = f"{seconds(one.seconds)} here"
    if one.dense_seconds is None or one.times_as_fast is None:
        return name, f"{text}; {baseline} attention is not timed at this length"
    dense = f"{baseline} attention ({seconds(one.dense_seconds)})"
    return name, f"{text}, {one.times_as_fast:.1f} times as fast as {dense}"


def _below(one: Crossover) -> str:
    if one.below is None:
        return f"at every length up to {one.last:,} tokens"
    return "at no length" if one.below == one.first else f"below about {one.below:,} tokens"


def _answers(properties: Properties) -> list[Line]:
    return [
        ("causal", _answer(properties.causal)),
        ("prefix-stable", _answer(properties.prefix_stable)),
        ("symmetric", _answer(properties.symmetric)),
        ("contains a star", _answer(properties.star)),
    ]


def _answer(answer: Answer) -> str:
    verdict = {True: "yes", False: "no", None: "not decided"}[answer.holds]
    return f"{verdict}: {answer.because}" if answer.because else verdict


def _reach(found: Reach) -> str:
    """In how many layers every block has received from every other."""
    sample = (
        f" (a sample of {found.followed} of {found.blocks:,} blocks was followed)"
        if found.sampled
        else ""
    )
    if found.hops is not None:
        within = plural(found.hops, "layer")
        return f"every block receives from every other within {within}{sample}"
    if found.ended:
        never = "some blocks never receive from some others (in a causal layout, from later ones)"
        return never + sample
    return f"not every block receives from every other within {found.layers} layers{sample}"


def _spread(spread: Spread) -> str:
    text = f"{spread.least:,} to {spread.most:,}, {spread.mean:,.1f} on average"
    return text + (f"; {spread.empty:,} empty" if spread.empty else "")


def _heads(by_head: Groups) -> Iterator[Line]:
    for group, found in by_head[:_MOST_GROUPS]:
        figures = (
            f"{found.blocks:,} blocks, {percent(found.density)}; {_spread(found.rows)} per row"
        )
        yield f"head{'s' * (len(group) > 1)} {ranges(group)}", figures
    if len(by_head) > _MOST_GROUPS:
        yield "and more", f"{len(by_head) - _MOST_GROUPS:,} further sets; --json has all"
    blocks = sum(len(group) * found.blocks for group, found in by_head)
    count = sum(len(group) for group, _ in by_head)
    yield (
        "together",
        f"{count:,} heads, {plural(len(by_head), 'set')}; {blocks / count:,.1f} blocks per head",
    )


def _field(found: Reach, square: Square, parts: Parts) -> Iterator[Line]:
    """The receptive field, layer by layer, and the connected components of the blocks."""
    share = f"a sample of {found.followed:,} followed" if found.sampled else "all followed"
    yield "receptive field", f"{found.blocks:,} blocks of {square.tokens} tokens; {share}"
    before = 0.0
    for layer, reached in enumerate(found.coverage, 1):
        if reached == before:
            yield f"after {layer} or more", "no more"
            break
        yield f"after {plural(layer, 'layer')}", f"{percent(reached)} of all pairs of blocks"
        before = reached
    sample = parts.sampled < parts.edges
    about = f" (a sample of {parts.sampled:,} of {parts.edges:,} edges)" if sample else ""
    if parts.components == 1:
        yield "components", f"1 strongly connected: every block reaches every other{about}"
    else:
        most, largest = "at most " * sample, plural(parts.largest, "block")
        counted = f"{most}{parts.components:,} strongly connected, the largest of {largest}"
        yield "components", counted + about
    named = ", ".join(map(str, parts.named))
    more = parts.articulation - len(parts.named)
    rest = f" and {more:,} more" if more else ""
    counted = f"{plural(parts.articulation, 'block')}: {named}{rest}" if named else "none"
    yield "articulation", counted + about

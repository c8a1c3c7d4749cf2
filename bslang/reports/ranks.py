"""A layout over the ranks of a group: what `stats` says with `--ranks`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bslang import compiler
from bslang.analysis.provenance import provenance
from bslang.ir.awaited import inputs
from bslang.ir.runs import Runs
from bslang.picture.picture import label
from bslang.placement.exchange import Exchange
from bslang.placement.model import H100, Seconds, times
from bslang.placement.others import Other, others
from bslang.placement.placed import Demand, placed
from bslang.placement.traffic import Sizes, fetched_tokens, memory, traffic
from bslang.reports.words import Line, percent, plural, seconds, size
from bslang.resolve.program import Resolved

_TERMS = 16  # that are told apart


@dataclass(frozen=True)
class Group:
    """Ranks that share a sequence, and the attention that they compute. heads: query heads; None for as many
    as show what the layout does. key_heads: None for as many as query heads. dim: head dimension.
    first_head: the layout's head of the first query head."""

    ranks: int
    heads: int | None = None
    key_heads: int | None = None
    dim: int = 64
    first_head: int = 0

    @property
    def sizes(self) -> Sizes:
        return Sizes(self.dim, self.dim)

    def check(self, resolved: Resolved) -> None:
        """Raise ValueError for a layout that is not called over several ranks."""
        if names := inputs(resolved.block, resolved.pattern).selection_names:
            raise ValueError(
                f"this layout has selections ({', '.join(names)}), and a call over several ranks refuses "
                "them: what moves is known at the call only"
            )

    def exchange(self, resolved: Resolved, length: int, layer: int = 0) -> Exchange:
        """What moves on the best placement. Raises as `compiler.tables`, and ValueError where key heads do
        not divide the query heads, or for ranks that are out of range."""
        self.check(resolved)
        heads = self.heads or compiler.heads(resolved)
        those = range(self.first_head, self.first_head + heads)
        tables = compiler.tables(resolved, length, length, "end", those, layer)
        demand = Demand(tables.graphs, tables.head_graph, heads, self.key_heads or heads)
        return demand.exchange(placed([demand], self.ranks, self.sizes), self.sizes)


@dataclass(frozen=True)
class Most:
    """Of all ranks: the most, and the mean."""

    most: int
    mean: float

    @classmethod
    def of(cls, counts: np.ndarray) -> Most:
        return cls(int(counts.max()), float(counts.mean()))


@dataclass(frozen=True)
class Share:
    """A term of the layout, and its share, 0 to 1, of the blocks that ranks need of one another, and of the
    blocks of spread rows. Blocks of several terms are those of the first."""

    term: str
    needed: float
    spread: float


@dataclass(frozen=True)
class RanksReport:
    """How the ranks of a group share a layout.

    ranks, heads, key_heads, dim: the group. blocks: block columns of a rank, at most. chunks: runs of blocks
    that a rank holds, on average. balance: work of the most loaded rank, as a multiple of the mean. kind:
    "exchange" or "gather". fetched: blocks that a rank gets of one other, of all key heads. spread: block
    rows that all ranks compute. shared: blocks that all ranks get, of all key heads. received: bytes that a
    rank gets, forward and backward. seconds: modelled, of both passes. beside: the same of other ways to
    share a sequence. memory: bytes of a rank. shares: of the terms, for one head. awaits: what of a call
    could leave out more; empty for nothing.
    """

    ranks: int
    heads: int
    key_heads: int
    dim: int
    blocks: int
    chunks: float
    balance: float
    kind: str
    fetched: Most
    spread: int
    shared: int
    received: tuple[Most, Most]
    seconds: tuple[Seconds, Seconds]
    beside: tuple[Other, ...]
    memory: dict[str, Most]
    shares: tuple[Share, ...]
    awaits: str

    @classmethod
    def of(
        cls, resolved: Resolved, length: int, group: Group, head: int = 0, layer: int = 0
    ) -> RanksReport:
        """Plan a group at a length in tokens. head: that whose terms are told apart. Raises as
        `Group.exchange`."""
        exchange, sizes = group.exchange(resolved, length, layer), group.sizes
        placement, passes = exchange.placement, traffic(exchange, sizes)
        taken = memory(exchange, sizes)
        return cls(
            ranks=group.ranks,
            heads=exchange.heads,
            key_heads=exchange.key_heads,
            dim=group.dim,
            blocks=placement.per * placement.block // exchange.block_k,
            chunks=(np.count_nonzero(np.diff(placement.owner)) + 1)
            / np.unique(placement.owner).size,
            balance=exchange.balance,
            kind=exchange.kind,
            fetched=Most.of(fetched_tokens(exchange).received // exchange.block_k),
            spread=exchange.spread.size,
            shared=exchange.shared.size,
            received=(
                Most.of(passes[0].total.received),
                Most.of(passes[1].total.received),
            ),
            seconds=times(exchange, sizes, H100),
            beside=tuple(others(exchange, sizes, H100)),
            memory={name: Most.of(getattr(taken, name)) for name in vars(taken)},
            shares=tuple(_shares(resolved, exchange, length, head, layer)),
            awaits=resolved.awaits,
        )

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        return asdict(self)

    def lines(self) -> list[Line]:
        """The figures in words."""
        others = (self.ranks - 1) * self.blocks * self.key_heads
        heads = f"{plural(self.heads, 'query head')}, {plural(self.key_heads, 'key head')}"
        lines = [
            ("ranks", f"{self.ranks:,}; {heads} of {self.dim} in bf16, sums in fp32"),
            (
                "placement",
                f"{plural(self.blocks, 'block')} per rank in {plural(round(self.chunks), 'chunk')}; "
                f"work at most {self.balance:.3f} times the mean",
            ),
        ]
        if self.kind == "gather":
            lines.append(("exchange", "all-gather: anything else would come to as much"))
        else:
            fetched = f"at most {self.fetched.most:,} of {others:,} that others hold"
            lines += [
                ("fetched blocks", f"{fetched}, {self.fetched.mean:,.1f} on average"),
                ("spread rows", _counted(self.spread, "computed by all ranks")),
                ("shared blocks", _counted(self.shared, "got by all ranks")),
            ]
        lines += [
            ("forward", self._moved(0)),
            ("backward", self._moved(1)),
            *((other.name, _other(other)) for other in self.beside),
            ("times", "work + exchange, modelled (docs/distributed.md)"),
            ("memory", self._memory()),
        ]
        for each in self.shares:
            heavy = f", {percent(each.spread)} of spread rows" if self.spread else ""
            lines.append((label(each.term, 40), f"{percent(each.needed)} of keys of others{heavy}"))
        if self.awaits:
            lines.append(("at a call", f"{self.awaits} may leave out more; here all blocks count"))
        return lines

    def _moved(self, number: int) -> str:
        gathered, found = self.beside[0].received, self.received[number]
        assert gathered is not None
        share = percent(found.most / max(gathered[number], 1))
        return (
            f"at most {size(found.most)} per rank, {share} of an all-gather, {size(round(found.mean))} on "
            f"average; {_modelled(self.seconds[number])}"
        )

    def _memory(self) -> str:
        names = {"fetched": "keys of others", "spread": "spread rows", "backward": "backward"}
        more = (f"{size(self.memory[key].most)} {name}" for key, name in names.items())
        return f"{size(self.memory['shard'].most)} per rank; {', '.join(more)}"


def _counted(count: int, what: str) -> str:
    return f"{count:,}, {what}" if count else "none"


def _modelled(spent: Seconds) -> str:
    return f"{seconds(spent.compute)} + {seconds(spent.move)}"


def _other(other: Other) -> str:
    if other.received is None or other.seconds is None:
        return "not possible: more ranks than query heads"
    passes = zip(("forward", "backward"), other.received, other.seconds, strict=True)
    return "; ".join(f"{name} {size(got)}, {_modelled(spent)}" for name, got, spent in passes)


def _shares(
    resolved: Resolved, exchange: Exchange, length: int, head: int, layer: int
) -> Iterator[Share]:
    grid = compiler.grid(resolved, length, length, head=head, layer=layer)
    width = exchange.column_owner.size
    column = np.arange(width)
    own = Runs.of_rows(width, exchange.column_owner, column, column + 1)
    needed: list[tuple[str, int, int]] = []
    before = own
    for term, runs in provenance(resolved.pattern, grid, _TERMS):
        row, start, stop = runs.rows()
        spread = exchange.is_spread[row]
        kept = ~spread
        wants = Runs.of_rows(width, exchange.row_owner[row[kept]], start[kept], stop[kept])
        needed.append((str(term), (wants - before).size, int((stop - start)[spread].sum())))
        before = before | wants
    totals = [max(sum(counts), 1) for counts in list(zip(*needed, strict=True))[1:]]
    for text, wanted, heavy in needed:
        yield Share(text, wanted / totals[0], heavy / totals[1])

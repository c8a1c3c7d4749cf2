"""Layouts over the ranks of a group, simulated: what they move, how evenly, and how long it takes.

    python -m benchmarks.ranks [--docs]

Nothing is run but the code that plans. Prints the tables of docs/distributed.md, which says what they mean;
with --docs it writes them there. Takes a minute or two.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_flow

from benchmarks.markdown import spec, table
from bslang import compiler
from bslang.graph.blockgraph import BlockGraph
from bslang.placement.called import at_call
from bslang.placement.exchange import Exchange
from bslang.placement.model import H100, Machine, Seconds, times
from bslang.placement.others import others
from bslang.placement.placed import Demand, placed
from bslang.placement.placement import Placement
from bslang.placement.traffic import Sizes, fetched_tokens, traffic
from bslang.syntax.source import Source

PAGE = Path(__file__).resolve().parent.parent / "docs" / "distributed.md"

BLOCK, TOKENS = 64, 2**20
HEADS, KEY_HEADS = 32, 8
SIZES = Sizes(dim=128, value_dim=128, item=2, part=4)
RANKS = (8, 64, 1024)
DOCUMENTS = "same(doc) & causal"

LAYOUTS = (
    "window(3)",
    "last(4096t) & causal",
    "(last(4096t) | cols(0:4t)) & causal",
    "causal",
    "window(3) | global(0, -1) | random(2, seed=7)",
    "window(3) | global(0, -1) | random(2, seed=7, within=chunks(64))",
    "window(9) | global(0:16)",
    "(last(128) | strided(128)) & causal",
    "logsparse(2) & causal",
    "grid(16, 32, 32, radius=2)",
    DOCUMENTS,
)
LONG = 2**24
PLANNED = (LAYOUTS[1], LAYOUTS[4], "grid(64, 64, 64, radius=2)", DOCUMENTS)
"""Layouts that are planned at LONG tokens, too."""


def documents(tokens: int, longest: int | None = None, seed: int = 0) -> np.ndarray:
    """Labels int64 (tokens,): documents one after another, of 2 blocks to `longest` (an eighth of all), with
    lengths that are even on a logarithmic scale."""
    random = np.random.default_rng(seed)
    blocks = tokens // BLOCK
    longest = longest or blocks // 8
    lengths: list[int] = []
    while sum(lengths) < blocks:
        lengths.append(int(np.exp(random.uniform(np.log(2), np.log(longest)))))
    return np.repeat(np.arange(len(lengths)), np.array(lengths) * BLOCK)[:tokens]


def lowered(text: str, tokens: int) -> BlockGraph:
    return compiler.lower(compiler.resolve(Source("<layout>", text), block=BLOCK), tokens, tokens)


def demand(graph: BlockGraph, text: str, tokens: int) -> Demand:
    """What a layout asks; of documents, in one batch."""
    if text == DOCUMENTS:
        labels = documents(tokens)[None]
        graph = at_call(graph, {"doc": (labels, labels)})
    return Demand((graph,), None, HEADS, KEY_HEADS)


@dataclass(frozen=True)
class Shared:
    """A layout on a group. received: most bytes of a rank, forward and backward, as shares of an all-gather;
    seconds: ours; beside: of other ways to share a sequence, None where they cannot."""

    layout: str
    chunks: float
    balance: float
    exchange: Exchange
    received: tuple[float, float]
    seconds: tuple[Seconds, Seconds]
    beside: tuple[tuple[Seconds, Seconds] | None, ...]


def shared(asked: Demand, text: str, ranks: int, machine: Machine = H100) -> Shared:
    placement = placed([asked], ranks, SIZES, machine, quick=text == DOCUMENTS)
    exchange = asked.exchange(placement, SIZES)
    beside = others(exchange, SIZES, machine)
    gathered = beside[0].received
    assert gathered is not None
    most = [int(each.total.received.max()) for each in traffic(exchange, SIZES)]
    return Shared(
        text,
        chunks_of(placement),
        exchange.balance,
        exchange,
        (most[0] / gathered[0], most[1] / gathered[1]),
        times(exchange, SIZES, machine),
        tuple(each.seconds for each in beside),
    )


def chunks_of(placement: Placement) -> float:
    """Runs of blocks of a rank, on average."""
    runs = np.count_nonzero(np.diff(placement.owner)) + 1
    return float(runs / np.unique(placement.owner).size)


# ---- a bound -------------------------------------------------------------------------------------


def pair_by_pair(exchange: Exchange) -> tuple[int, int]:
    """Bytes that cross between ranks forward: of an exchange, and at least.

    Each block that a row of one rank visits in a column of another takes either the column's keys and values
    there, or the row's queries here and their results back. The least is a weighted vertex cover of each pair
    of ranks, by maximum flow. Of an exchange: what is counted pair by pair; slices add, to what spread rows
    and shared items take, some part of a (ranks - 1)th.
    """
    group = exchange.heads // exchange.key_heads
    of_column = (SIZES.dim + SIZES.value_dim) * SIZES.item * exchange.block_k
    result = SIZES.value_dim * SIZES.part + 4
    of_row = (SIZES.dim * SIZES.item + result) * exchange.block_q * group
    copies = exchange.ranks - 1
    ours = int(fetched_tokens(exchange).received.sum()) // exchange.block_k * of_column
    ours += exchange.shared.size * copies * of_column
    ours += exchange.spread.size * copies * of_row * exchange.key_heads
    least = sum(_cover(*pair, of_row, of_column) for pair in _pairs(exchange))
    return ours, least * exchange.key_heads


def _pairs(exchange: Exchange) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows and columns of the blocks between two ranks, for each two; of a layout without heads."""
    (graph,) = exchange.graphs
    row, column = np.divmod(graph.visited.cells(), graph.grid.m)
    pair = exchange.row_owner[row] * exchange.ranks + exchange.column_owner[column]
    for number in np.unique(pair):
        if number // exchange.ranks != number % exchange.ranks:
            yield row[pair == number], column[pair == number]


def _cover(row: np.ndarray, column: np.ndarray, of_row: int, of_column: int) -> int:
    """The least weight of rows and columns that have all of some cells."""
    rows, of = np.unique(row, return_inverse=True)
    columns, to = np.unique(column, return_inverse=True)
    size, unit = rows.size + columns.size + 2, int(np.gcd(of_row, of_column))
    # From a source to rows, along cells, and from columns to a sink.
    ends = [
        (np.zeros(rows.size, int), 1 + np.arange(rows.size), of_row // unit),
        (1 + of, 1 + rows.size + to, 2**30),
        (
            1 + rows.size + np.arange(columns.size),
            np.full(columns.size, size - 1),
            of_column // unit,
        ),
    ]
    source, sink, room = (
        np.concatenate(each)
        for each in zip(*((a, b, np.full(a.size, c)) for a, b, c in ends), strict=True)
    )
    network = csr_matrix((room.astype(np.int32), (source, sink)), shape=(size, size))
    return int(maximum_flow(network, 0, size - 1).flow_value) * unit


SMALL = 1024
"""Blocks of the graphs whose bound is computed, on 8 ranks."""


def bounded(text: str) -> tuple[Exchange, float]:
    """A layout at SMALL blocks on 8 ranks, and what its exchange moves as a multiple of the bound."""
    text = "grid(16, 8, 8, radius=2)" if text.startswith("grid") else text
    asked = demand(lowered(text, SMALL * BLOCK), text, SMALL * BLOCK)
    exchange = asked.exchange(placed([asked], 8, SIZES), SIZES)
    ours, least = pair_by_pair(exchange)
    return exchange, ours / max(least, 1)


# ---- tables --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Planned:
    """Processor seconds: of lowering; of `at_call`, 0 without labels; of placement and exchange, by ranks."""

    layout: str
    tokens: int
    lowering: float
    called: float
    placing: tuple[float, ...]


def planned(text: str, tokens: int, ranks: Sequence[int]) -> Planned:
    start = time.process_time()
    graph = lowered(text, tokens)
    lowering = time.process_time() - start
    if text == DOCUMENTS:
        documents(tokens)  # not a part of it
    start = time.process_time()
    asked = demand(graph, text, tokens)
    called = time.process_time() - start if text == DOCUMENTS else 0.0
    placing = []
    for count in ranks:
        start = time.process_time()
        asked.exchange(placed([asked], count, SIZES, quick=text == DOCUMENTS), SIZES)
        placing.append(time.process_time() - start)
    return Planned(text, tokens, lowering, called, tuple(placing))


def percent(share: float) -> str:
    return f"{100 * share:.3g}"


def _time(seconds: tuple[Seconds, Seconds] | None) -> str:
    """Of both passes, work and exchange, in ms."""
    if seconds is None:
        return ""
    work, move = (
        sum(getattr(each, name) for each in seconds) * 1e3 for name in ("compute", "move")
    )
    return f"{_number(work + move)} ({_number(move)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ranks_table(found: Iterable[Shared]) -> str:
    head = (
        *("layout", "chunks", "balance", "spread", "shared", "forward, %", "backward, %"),
        *("bslang, ms", "all-gather", "ring", "Ulysses"),
    )
    return table(
        head,
        (
            (
                spec(each.layout),
                f"{each.chunks:.3g}",
                f"{each.balance:.3f}",
                "all-gather" if each.exchange.kind == "gather" else f"{each.exchange.spread.size}",
                f"{each.exchange.shared.size // KEY_HEADS}",
                *map(percent, each.received),
                _time(each.seconds),
                *map(_time, each.beside),
            )
            for each in found
        ),
    )


def bounds_table(texts: Iterable[str]) -> str:
    rows = []
    for text in texts:
        exchange, times_ = bounded(text)
        kind = "all-gather" if exchange.kind == "gather" else "exchange"
        rows.append((spec(text), kind, f"{times_:.3f}"))
    return table(("layout", "", "of the bound"), rows)


def planned_table(found: Iterable[Planned]) -> str:
    head = ("layout", "tokens", "lowering", "labels", *(f"{ranks:,} ranks" for ranks in RANKS))
    return table(
        head,
        (
            (
                spec(each.layout),
                f"{each.tokens // 2**20}M",
                f"{each.lowering * 1e3:,.0f} ms",
                f"{each.called * 1e3:,.0f} ms" if each.called else "",
                *(f"{seconds * 1e3:,.0f} ms" for seconds in each.placing),
            )
            for each in found
        ),
    )


def constants() -> str:
    machine = H100
    rows = (
        ("GPUs of a node", f"{machine.node}"),
        ("bandwidth in a node, one direction", f"{machine.near / 1e9:.0f} GB/s"),
        ("bandwidth between nodes, of a GPU", f"{machine.far / 1e9:.0f} GB/s"),
        ("start of a transfer in a node", f"{machine.near_start * 1e6:.0f} us"),
        ("start of a transfer between nodes", f"{machine.far_start * 1e6:.0f} us"),
        ("each rank that a rank fetches from", f"{machine.peer * 1e6:.1f} us"),
        ("kernels", f"{machine.flops / 1e12:.0f} TFLOP/s"),
        ("backward pass", f"{machine.backward} times the FLOPs of the forward pass"),
    )
    return table(("constant of `bslang.placement.model.H100`", "value"), rows)


def sections() -> dict[str, str]:
    """Each table by the name of its place on the page."""
    graphs = {text: lowered(text, TOKENS) for text in LAYOUTS}
    asked = {text: demand(graph, text, TOKENS) for text, graph in graphs.items()}
    found = {"constants": constants()}
    for ranks in RANKS:
        rows = (shared(each, text, ranks) for text, each in asked.items())
        found[f"{ranks} ranks"] = ranks_table(rows)
    found["bounds"] = bounds_table(LAYOUTS)
    took = [planned(text, TOKENS, RANKS) for text in LAYOUTS]
    took += [planned(text, LONG, RANKS) for text in PLANNED]
    found["planning"] = planned_table(took)
    return found


def with_section(text: str, name: str, content: str) -> str:
    """A page with what stands between the marks of a section replaced."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}{content}\n{end}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--docs", action="store_true", help="write the tables to docs/distributed.md"
    )
    options = parser.parse_args()
    found = sections()
    print("\n\n".join(f"{name}\n\n{content}" for name, content in found.items()))
    if options.docs:
        text = PAGE.read_text(encoding="utf-8")
        for name, content in found.items():
            text = with_section(text, name, content)
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""Placements and exchanges against sets that are computed from dense block masks, pair by pair."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Case, cases, examples

from bslang import compiler
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.placement.exchange import SHARED_RANKS, Exchange
from bslang.placement.part import Part
from bslang.placement.placement import Placement, common_block
from bslang.placement.planned import most_moved, planned
from bslang.placement.traffic import Sizes, slices, traffic
from bslang.syntax.source import Source

SIZES = Sizes(dim=3, value_dim=5, batch=2, item=2, part=4)


def graph_of(spec: str, length: int, block: int | tuple[int, int] = 4, head: int = 0) -> BlockGraph:
    resolved = compiler.resolve(Source("<test>", spec), block=block)
    return compiler.lower(resolved, length, length, head=head)


def owned(owner: list[int], ranks: int, block: int, length: int) -> Placement:
    return Placement(np.array(owner, dtype=np.int64), ranks, block, length)


@dataclass(frozen=True)
class Drawn:
    """An exchange of a random program: heads with two sets, random owners, random spread rows."""

    exchange: Exchange

    @cached_property
    def visited(self) -> np.ndarray:
        """bool (heads, block rows, block columns)."""
        exchange = self.exchange
        dense = [graph.visited.dense(graph.grid.n) for graph in exchange.graphs]
        return np.stack([dense[graph] for graph in exchange.head_graph])

    @cached_property
    def wanted(self) -> dict[tuple[int, int], set[int]]:
        """The ranks that want an item (key head, block) of another."""
        exchange, found = self.exchange, {}
        group = exchange.heads // exchange.key_heads
        for head, row, column in np.argwhere(self.visited).tolist():
            here, there = exchange.row_owner[row], exchange.column_owner[column]
            if here != there and row not in exchange.spread:
                found.setdefault((head // group, column), set()).add(int(here))
        return found

    @cached_property
    def shared(self) -> set[tuple[int, int]]:
        if self.exchange.ranks < SHARED_RANKS:
            return set()
        if not self.exchange.sharing:
            return set()
        return {item for item, by in self.wanted.items() if len(by) > self.exchange.ranks / 2}


@st.composite
def drawn(draw: st.DrawFn) -> Drawn:
    made: Case = draw(cases(blocks=((4, 4), (5, 5), (1, 1), (2, 6), (6, 3)), longest=30))
    case = replace(made, len_q=made.len_k, align="end")
    if not case.has_meaning():
        case = replace(case, spec="causal")
    graph = case.lowered()
    few = compiler.lower(case.resolved, case.len_k, case.len_k)
    full = graph.of_kind(FULL)
    few = BlockGraph.of_classes(graph.grid, full, graph.residuals, {})
    ranks = draw(st.integers(1, 10))
    block = common_block(case.block)
    blocks = -(-case.len_k // block)
    places = [rank for rank in range(ranks) for _ in range(-(-blocks // ranks))]
    owner = draw(st.permutations(places))[:blocks]
    placement = owned(owner, ranks, block, case.len_k)
    head_graph = draw(st.sampled_from([None, [0, 1, 0, 0], [0, 0, 1, 1]]))
    exchange = Exchange.of((graph, few), head_graph, 4, draw(st.sampled_from([1, 2, 4])), placement)
    rows = np.flatnonzero(
        draw(st.lists(st.booleans(), min_size=graph.grid.n, max_size=graph.grid.n))
    )
    if draw(st.booleans()):
        rows = rows[:0]
    order = np.argsort(exchange.row_owner[rows], kind="stable")
    return Drawn(replace(exchange, spread=rows[order], sharing=draw(st.booleans())))


@examples(30)
@given(drawn())
def test_items_are_those_of_the_dense_mask_pair_by_pair(case: Drawn) -> None:
    exchange = case.exchange
    parts = [Part(exchange, rank) for rank in range(exchange.ranks)]
    found: dict[tuple[int, int], set[int]] = {}
    for part in parts:
        for rank, other in enumerate(parts):
            here, there = part.receive[rank], other.send[part.rank]
            assert np.array_equal(here, there)
            items = list(zip(*(array.tolist() for array in here), strict=True))
            assert items == sorted(set(items))
            assert all(exchange.column_owner[block] == rank for _, block in items)
            for item in items:
                found.setdefault(item, set()).add(part.rank)
    assert found == {item: by for item, by in case.wanted.items() if item not in case.shared}
    shared = list(zip(*(array.tolist() for array in exchange.shared), strict=True))
    assert set(shared) == case.shared and len(shared) == len(case.shared)
    assert shared == sorted(shared, key=lambda item: (exchange.column_owner[item[1]], *item))


@examples(30)
@given(drawn())
def test_phases_compute_each_cell_once_where_its_keys_are(case: Drawn) -> None:
    exchange, computed = case.exchange, Counter()
    work = []
    for rank in range(exchange.ranks):
        part = Part(exchange, rank)
        kept = np.concatenate((part.near, part.far))
        own = exchange.spread[exchange.row_owner[exchange.spread] == rank]
        assert sorted([*kept.tolist(), *own.tolist()]) == part.rows.tolist()
        phases = {phase: part.graphs(phase) for phase in ("near", "far", "spread", "all")}
        for number, whole in enumerate(exchange.graphs):
            near, far, spread, both = (phases[phase][number] for phase in phases)
            assert set(near.row.tolist()) <= set(part.near.tolist())
            assert set(far.row.tolist()) <= set(part.far.tolist())
            assert set(spread.row.tolist()) <= set(exchange.spread.tolist())
            for graph in (near, spread):
                columns = graph.visited.cells() % graph.grid.m
                assert (exchange.column_owner[columns] == rank).all()
            assert (near.visited | far.visited | spread.visited) == both.visited
            for kind in range(FULL, len(whole.residuals)):
                assert both.of_kind(kind) == both.of_kind(kind) & whole.of_kind(kind)
                computed.update(
                    (number, kind, cell) for cell in both.of_kind(kind).cells().tolist()
                )
        for row in part.far.tolist():
            assert any(
                exchange.column_owner[column] != rank
                for head in range(exchange.heads)
                for column in np.flatnonzero(case.visited[head, row])
            )
        blocks = [graph.visited.size for graph in phases["all"]]
        work.append(sum(blocks[graph] for graph in exchange.head_graph))
    assert work == exchange.work.tolist()
    assert computed == Counter(
        (number, kind, cell)
        for number, graph in enumerate(exchange.graphs)
        for kind in range(FULL, len(graph.residuals))
        for cell in graph.of_kind(kind).cells().tolist()
    )


@examples(30)
@given(drawn(), st.booleans())
def test_traffic_is_what_an_exchange_of_the_items_moves(case: Drawn, keep: bool) -> None:
    """Every transfer is made here, from one rank to another, number by number."""
    exchange, ranks = case.exchange, case.exchange.ranks
    parts = [Part(exchange, rank) for rank in range(ranks)]
    both, item, part = SIZES.dim + SIZES.value_dim, SIZES.item, SIZES.part
    passes = {"forward": np.zeros((ranks, ranks), int), "backward": np.zeros((ranks, ranks), int)}

    def all_to_all(tokens: np.ndarray, size: int, *into: str) -> None:
        """tokens: (from, to)."""
        for name in into:
            passes[name] += np.where(np.eye(ranks, dtype=bool), 0, tokens) * size

    def sliced(owners: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Tokens in one order by their owner and the rank of their slice, (owner, slice), and slices."""
        assert owners == sorted(owners)
        count, each = np.zeros((ranks, ranks), int), -(-len(owners) // ranks)
        for place, owner in enumerate(owners):
            count[owner, place // each] += 1
        return count, np.full((ranks, ranks), each)

    again = () if keep else ("backward",)
    fetched = np.array([[p.send[r].size for r in range(ranks)] for p in parts])
    fetched = fetched * SIZES.batch * exchange.block_k
    all_to_all(fetched, both * item, "forward", *again)
    all_to_all(fetched.T, both * part, "backward")

    of_items = exchange.column_owner[exchange.shared.block]
    home, passed = sliced(np.repeat(of_items, SIZES.batch * exchange.block_k).tolist())
    slice_of = np.broadcast_to(home.sum(0), (ranks, ranks))
    for tokens in (home, passed):
        all_to_all(tokens, both * item, "forward", *again)
    all_to_all(slice_of, both * part, "backward")
    all_to_all(home.T, both * item, "backward")

    of_rows = exchange.row_owner[exchange.spread]
    tokens_of_row = exchange.heads * SIZES.batch * exchange.block_q
    home, passed = sliced(np.repeat(of_rows, tokens_of_row).tolist())
    slice_of = np.broadcast_to(home.sum(0), (ranks, ranks))
    for tokens in (home, passed):
        all_to_all(tokens, SIZES.dim * item, "forward", *again)
        all_to_all(tokens, SIZES.value_dim * item + 8, "backward")
    all_to_all(slice_of, SIZES.value_dim * part + 4, "forward")
    all_to_all(home.T, SIZES.value_dim * item + 4, "forward")
    all_to_all(slice_of, SIZES.dim * part, "backward")
    all_to_all(home.T, SIZES.dim * item, "backward")

    for name, found in zip(passes, traffic(exchange, SIZES, keep), strict=True):
        assert found.total.sent.tolist() == passes[name].sum(1).tolist()
        assert found.total.received.tolist() == passes[name].sum(0).tolist()
    for each in parts:
        forward, backward = each.traffic(SIZES, keep)
        assert forward.total.received == passes["forward"][:, each.rank].sum()
        assert backward.total.sent == passes["backward"][each.rank].sum()


def test_a_placement_says_where_tokens_lie() -> None:
    placement = owned([2, 0, 2, 1, 0], 3, 4, 18)
    assert (placement.per, placement.place.tolist()) == (2, [0, 0, 1, 0, 1])
    assert placement.places.tolist() == [[1, 4], [3, -1], [0, 2]]
    assert placement.positions(0).tolist() == [4, 5, 6, 7, 16, 17, -1, -1]
    assert placement.positions(1).tolist() == [12, 13, 14, 15, -1, -1, -1, -1]
    assert placement.owners(2).tolist() == [2, 2, 0, 0, 2, 2, 1, 1, 0]
    assert placement.pages(2).tolist() == [0, 1, 0, 1, 2, 3, 0, 1, 2]
    assert placement.owners(4).tolist() == placement.owner.tolist()


@pytest.mark.parametrize(("blocks", "ranks"), [(16, 4), (9, 8), (3, 8), (1, 1), (7, 5)])
def test_contiguous_shards_differ_by_a_block_at_most(blocks: int, ranks: int) -> None:
    placement = Placement.contiguous(blocks * 8 - 3, 8, ranks)
    count = np.bincount(placement.owner, minlength=ranks)
    assert placement.blocks == blocks and (np.diff(placement.owner) >= 0).all()
    assert count.max() == placement.per and count.max() - count.min() <= 1
    shards = np.concatenate([placement.positions(rank) for rank in range(ranks)])
    assert sorted(shards[shards >= 0].tolist()) == list(range(placement.length))


def test_a_window_is_a_halo() -> None:
    placement = Placement.contiguous(256, 4, 8)
    exchange = planned([graph_of("window(3)", 256)], None, 4, 2, placement)
    part = Part(exchange, 3)
    assert part.near.tolist() == [25, 26, 27, 28, 29, 30] and part.far.tolist() == [24, 31]
    assert part.receive[2].head.tolist() == [0, 1] and part.receive[2].block.tolist() == [23, 23]
    assert [items.size for items in part.receive] == [0, 0, 2, 0, 2, 0, 0, 0]


def test_dense_causal_is_a_gather() -> None:
    exchange = planned([graph_of("causal", 64)], None, 1, 1, Placement.contiguous(64, 4, 4))
    assert exchange.kind == "gather" and not exchange.spread.size and not exchange.shared.size
    assert [[items.size for items in Part(exchange, rank).receive] for rank in (0, 3)] == [
        [0, 4, 4, 4],
        [4, 4, 4, 0],
    ]
    forward, backward = Part(exchange, 1).traffic(SIZES)
    assert forward.total.received == forward.total.sent == 3 * 16 * 2 * 8 * 2
    assert backward.total.received == backward.total.sent == 3 * 16 * 2 * 8 * 4


def test_global_rows_are_spread_and_global_columns_shared() -> None:
    exchange = planned(
        [graph_of("window(3) | global(0, -1)", 4096, 8)],
        None,
        4,
        1,
        Placement.contiguous(4096, 8, 8),
    )
    assert exchange.kind == "exchange" and exchange.spread.tolist() == [0, 511]
    assert exchange.shared.block.tolist() == [0, 511]


def test_columns_of_just_over_half_of_the_ranks_are_fetched() -> None:
    """Every rank wants the keys of five others: shared they come to those of seven."""
    graph = graph_of("{q, k : (q // 32 + 8 - k // 32) % 8 < 6}", 256)
    exchange = planned([graph], None, 1, 1, Placement.contiguous(256, 4, 8))
    plain = replace(exchange, sharing=True)
    assert (exchange.kind, exchange.sharing, plain.shared.size) == ("exchange", False, 64)
    assert most_moved(exchange, Sizes()) < most_moved(plain, Sizes())


@pytest.mark.parametrize(
    ("tokens", "ranks", "bounds"),
    [(10, 4, [0, 3, 6, 9, 10]), (2, 4, [0, 1, 2, 2, 2]), (0, 2, [0, 0, 0])],
)
def test_slices_cover_the_tokens(tokens: int, ranks: int, bounds: list[int]) -> None:
    assert slices(tokens, ranks).tolist() == bounds


@pytest.mark.parametrize(
    ("heads", "key_heads", "placement", "message"),
    [
        (4, 3, Placement.contiguous(64, 4, 2), "cannot share 3 key heads"),
        (4, 2, Placement.contiguous(60, 4, 2), "the 60 tokens that are placed; got 64 of 64"),
        (4, 2, Placement.contiguous(64, 6, 2), "blocks of 6 tokens does not fit blocks of 4"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    heads: int, key_heads: int, placement: Placement, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Exchange.of([graph_of("causal", 64)], None, heads, key_heads, placement)


def test_numbers_of_ranks_are_checked() -> None:
    for ranks in (0, -1, 4097):
        with pytest.raises(ValueError, match=r"ranks are from 1 to 4096 \(MAX_RANKS\)"):
            Placement.contiguous(64, 4, ranks)
    with pytest.raises(ValueError, match="at least one token"):
        Placement.contiguous(0, 4, 1)

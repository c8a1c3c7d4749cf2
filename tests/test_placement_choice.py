"""The choice of a placement: balance, traffic, chunks, swaps, several layouts, and labels of a call."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Case, cases, examples

from bslang import compiler
from bslang.graph.blockgraph import BlockGraph
from bslang.ir.runs import Runs
from bslang.placement.called import at_call
from bslang.placement.chunks import Chunks
from bslang.placement.exchange import Exchange
from bslang.placement.model import H100, Machine, all_to_all, collective, moving, times
from bslang.placement.placed import BALANCED, Asked, Demand, placed
from bslang.placement.placement import Placement
from bslang.placement.planned import most_moved
from bslang.placement.swaps import refined, ties
from bslang.placement.traffic import Sizes, traffic
from bslang.syntax.source import Source


def graph_of(spec: str, length: int, block: int | tuple[int, int] = 16) -> BlockGraph:
    resolved = compiler.resolve(Source("<test>", spec), block=block)
    return compiler.lower(resolved, length, length)


def demand(spec: str, length: int, block: int | tuple[int, int] = 16, layers: int = 1) -> Demand:
    return Demand((graph_of(spec, length, block),), None, 4, 1, layers)


def chunks_of(placement: Placement) -> int:
    return int(np.count_nonzero(np.diff(placement.owner))) + 1


def balance(placement: Placement, *demands: Demand) -> float:
    work = sum(each.layers * each.exchange(placement).work for each in demands)
    return float(work.max() / work.mean())


@examples(60)
@given(st.integers(1, 200), st.integers(1, 20), st.integers(1, 16), st.integers(0, 99))
def test_chunks_fill_the_places_of_ranks(blocks: int, ranks: int, count: int, seed: int) -> None:
    per = -(-blocks // ranks)
    chunks = Chunks.contiguous(blocks, ranks, min(count, per))
    work = np.random.default_rng(seed).integers(0, 50, chunks.count)
    for each in (chunks, chunks.heaviest_first(work)):
        placement = each.placement(ranks, 4, blocks * 4)
        assert placement.blocks == blocks and placement.per == per
        assert np.bincount(each.owner, minlength=ranks).tolist() == [min(count, per)] * ranks
        assert np.bincount(each.owner, weights=each.size).tolist() == [per] * ranks
        assert np.bincount(placement.owner, minlength=ranks).max() <= per


def test_two_chunks_pair_heavy_with_light() -> None:
    chunks = Chunks.contiguous(8, 4, 2)
    assert chunks.heaviest_first(np.arange(8)).owner.tolist() == [0, 1, 2, 3, 3, 2, 1, 0]


@examples(40)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 19), st.integers(1, 9)), max_size=30))
def test_ties_count_columns_by_chunk(drawn: list[tuple[int, int, int]]) -> None:
    start = np.array([0, 3, 4, 9, 9, 15, 20])
    row, first, size = np.array([*drawn, (0, 0, 0)], dtype=np.int64).T
    wanted = Runs.of_rows(20, row, first, np.minimum(first + size, 20))
    dense = wanted.dense(6)
    expected = [[dense[a, start[b] : start[b + 1]].sum() for b in range(6)] for a in range(6)]
    assert ties(wanted, start).tolist() == expected


def test_swaps_bring_together_what_wants_one_another() -> None:
    """Four cliques of chunks, scattered over four ranks on two nodes."""
    clique = np.array([0, 1, 2, 3] * 4)
    tied = (clique[:, None] == clique) * 1.0
    ones = np.ones(16, dtype=np.int64)
    owner = refined(tied, ones, ones, np.repeat(np.arange(4), 4), 4, 2, 4.0, 9)
    assert np.bincount(owner).tolist() == [4, 4, 4, 4]
    assert all(len(set(owner[clique == each])) == 1 for each in range(4))
    sizes = np.repeat([1, 2], 8)  # and chunks of two sizes never change places
    owner = refined(tied, ones, sizes, np.repeat(np.arange(4), 4), 4, 2, 4.0, 9)
    assert np.bincount(owner, weights=sizes).tolist() == [4, 4, 8, 8]


def test_swaps_relieve_a_rank_with_too_much_work() -> None:
    work = np.array([9, 9, 1, 1])
    owner = refined(
        np.zeros((4, 4)), work, np.ones(4, np.int64), np.array([0, 0, 1, 1]), 2, 8, 10.5, 9
    )
    assert np.bincount(owner, weights=work).tolist() == [10, 10]


LAYOUTS = {
    "last(256t) & causal": (1, "exchange"),
    "window(3) | global(0, -1)": (1, "exchange"),
    "(last(256t) | cols(0:4t)) & causal": (1, "exchange"),
    "causal": (2, "gather"),
    "grid(8,8,8,radius=1)": (16, "exchange"),
}


@pytest.mark.parametrize("spec", LAYOUTS)
def test_placements_balance(spec: str) -> None:
    length = 8192 if "grid" in spec else 65536
    asked = demand(spec, length)
    placement = placed([asked], 8)
    exchange = asked.exchange(placement)
    most, kind = LAYOUTS[spec]
    assert balance(placement, asked) == exchange.balance <= BALANCED
    assert chunks_of(placement) <= 8 * most and exchange.kind == kind
    if most == 1:
        assert chunks_of(placement) == 8


@examples(25)
@given(cases(blocks=((1, 1), (2, 4), (4, 2)), longest=40), st.integers(2, 9), st.randoms())
def test_candidates_are_judged_by_what_they_move(made: Case, ranks: int, random: Random) -> None:
    """Rows of a chunk are joined to one for that, with the columns of all of them."""
    case = replace(made, len_q=made.len_k, align="end")
    if not case.has_meaning():
        case = replace(case, spec="causal")
    start = Placement.contiguous(case.len_k, 4, ranks)
    exchange = Exchange.of([case.lowered()], None, 4, 2, start)
    rows = np.flatnonzero([random.random() < 0.2 for _ in exchange.row_owner])
    exchange = replace(exchange, spread=rows)
    chunks = Chunks.contiguous(start.blocks, ranks, min(2, start.per))
    joined = Asked(exchange, 1).joined(chunks)
    for each in (
        chunks,
        chunks.heaviest_first(np.array([random.randrange(9) for _ in chunks.size])),
    ):
        placement = each.placement(ranks, 4, case.len_k)
        moved = [
            most_moved(replace(one, placement=placement, spread=rows), Sizes())
            for one in (exchange, joined)
        ]
        assert moved[0] == moved[1]


@pytest.mark.parametrize(("length", "ranks"), [(1000, 7), (48, 8), (16, 3), (5, 2), (1600, 1)])
def test_any_length_and_number_of_ranks(length: int, ranks: int) -> None:
    placement = placed([demand("causal", length)], ranks)
    assert placement.ranks == ranks and placement.blocks == -(-length // 16)
    assert np.bincount(placement.owner, minlength=ranks).max() <= placement.per
    again = placed([demand("causal", length)], ranks)
    assert placement.owner.tolist() == again.owner.tolist()


def test_one_placement_balances_the_layers_of_a_model_together() -> None:
    local, full = demand("last(64t) & causal", 8192, layers=3), demand("causal", 8192, (32, 64))
    placement = placed([local, full], 8)
    assert placement.block == 64
    pairs = sum(
        each.layers * exchange.work * exchange.block_q * exchange.block_k
        for each in (local, full)
        for exchange in (each.exchange(placement),)
    )
    assert pairs.max() <= BALANCED * pairs.mean()
    assert chunks_of(placed([local], 8)) == 8


# ---- the model of time ---------------------------------------------------------------------------


def test_time_is_what_the_constants_say() -> None:
    machine = Machine(2, near=100.0, far=10.0, near_start=1.0, far_start=2.0, peer=0.5, flops=1e3)
    assert collective(200, 2, machine) == 1 + 2
    assert (
        collective(300, 4, machine) == 2 * 2 + 10
    )  # 200 of other nodes, by both links of this one
    assert all_to_all(300, 4, machine) == 2 + 1.5 + 20
    assert collective(0, 4, machine) == all_to_all(0, 4, machine) == 0
    asked = demand("last(2) & causal", 64)
    exchange = asked.exchange(Placement.contiguous(64, 16, 4))
    sizes = Sizes(dim=1, value_dim=1, item=1, part=2)
    # Rank 1 gets a block of rank 0 on its node, rank 2 one of rank 1 on another: 16 tokens, 2 numbers each.
    assert moving(exchange, sizes, machine) == (2 + 0.5 + 32 / 10, 2 + 0.5 + 64 / 10)
    forward, backward = times(exchange, sizes, machine)
    assert forward.compute == 4 * 2 * 256 * 4 / 1e3 and forward.total > forward.compute
    assert backward.compute == 2.5 * forward.compute


# ---- labels of a call ----------------------------------------------------------------------------


@examples(30)
@given(cases(labels=True, blocks=((4, 4), (5, 3), (1, 1))))
def test_no_block_with_a_pair_is_left_out_at_a_call(made: Case) -> None:
    case = replace(made, len_q=made.len_k, align="end")
    if not case.has_meaning():
        case = replace(case, spec="same(doc) & causal")
    graph = case.lowered()
    labels = {name: (q[None], k[None]) for name, (q, k) in case.labels.items()}
    found = at_call(graph, labels)
    assert found.residuals == graph.residuals and not found.visited - graph.visited
    rows, columns = (axis.blocks for axis in (graph.grid.q, graph.grid.k))
    mask = np.zeros((rows * case.block[0], columns * case.block[1]), dtype=bool)
    mask[: case.len_q, : case.len_k] = case.mask()
    blocks = mask.reshape(rows, case.block[0], columns, case.block[1]).any(axis=(1, 3))
    assert not (blocks & ~found.visited.dense(rows)).any()


def documents(blocks: int, block: int, seed: int, each: int = 8) -> np.ndarray:
    """Labels of documents one after another, that have so many blocks on average."""
    random = np.random.default_rng(seed)
    ends = np.sort(random.choice(np.arange(1, blocks * block), blocks // each, replace=False))
    return np.searchsorted(ends, np.arange(blocks * block), side="right")


def test_blocks_between_documents_are_left_out_and_all_rows_count() -> None:
    graph = graph_of("same(doc) & causal", 8192, 4)
    rows = [documents(2048, 4, seed) for seed in range(2)]
    blocks = []
    for label in rows:
        low, high = label.reshape(-1, 4).min(1), label.reshape(-1, 4).max(1)
        blocks.append(np.tril((low[:, None] <= high) & (low <= high[:, None])))
        found = at_call(graph, {"doc": (label[None], label[None])})
        assert (found.visited.dense(2048) == blocks[-1]).all()
    both = np.stack(rows)
    found = at_call(graph, {"doc": (both, both)})
    assert (found.visited.dense(2048) == (blocks[0] | blocks[1])).all()


def test_labels_in_no_order_leave_all_blocks() -> None:
    graph = graph_of("same(doc)", 8192, 4)
    label = np.random.default_rng(0).integers(0, 99, (1, 8192))
    assert at_call(graph, {"doc": (label, label)}).visited == graph.visited


def test_each_machine_gets_what_is_fast_on_it() -> None:
    graph = graph_of("same(doc) & causal", 8192, 4)
    label = documents(2048, 4, 2, 256)[None]
    asked = Demand((at_call(graph, {"doc": (label, label)}),), None, 4, 1)
    machines = [replace(H100, near=near, near_start=0, peer=0) for near in (1e8, 1e15)]
    placements = [placed([asked], 8, Sizes(), machine) for machine in machines]
    assert placements[0].owner.tolist() != placements[1].owner.tolist()
    for number, machine in enumerate(machines):
        seconds = [
            sum(each.total for each in times(asked.exchange(placement), Sizes(), machine))
            for placement in placements
        ]
        assert seconds[number] <= 1.03 * seconds[1 - number]


def test_documents_are_placed_for_each_batch() -> None:
    graph = graph_of("same(doc) & causal", 8192, 4)
    label = documents(2048, 4, 3)[None]
    asked = Demand((at_call(graph, {"doc": (label, label)}),), None, 4, 1)
    placement = placed([asked], 8, quick=True)
    assert balance(placement, asked) <= BALANCED
    moved, all_of_them = (
        traffic(each.exchange(placement), Sizes())[0].total.received.sum()
        for each in (asked, Demand((graph,), None, 4, 1))
    )
    assert moved < all_of_them / 4


def test_a_label_that_is_missing_is_an_error() -> None:
    with pytest.raises(KeyError, match="doc"):
        at_call(graph_of("same(doc)", 64, 4), {})

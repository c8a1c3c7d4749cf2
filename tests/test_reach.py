"""Receptive fields, components and articulation blocks, against powers of dense matrices and networkx."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import assume, given
from strategies import Case, cases, examples

from bslang import compiler
from bslang.analysis import reach as reaching
from bslang.analysis.components import parts, to_networkx
from bslang.analysis.heads import given_heads, merged, ranges
from bslang.analysis.reach import reach
from bslang.analysis.square import Square
from bslang.ir.runs import Bools


def square_of(spec: str, length: int, block: tuple[int, int] = (4, 4)) -> Square:
    resolved = Case(spec, block, length, length, "end").resolved
    return Square.of(compiler.lower(resolved, length, length))


def nodes(case: Case) -> tuple[Square, Bools]:
    """The nodes of a case whose queries are its keys, and the matrix of which sees which."""
    graph = compiler.lower(case.resolved, case.len_k, case.len_k)
    side = int(np.gcd(*case.block))
    held = graph.visited.dense(graph.grid.n)
    held = held.repeat(case.block[0] // side, 0).repeat(case.block[1] // side, 1)
    size = -(-case.len_k // side)
    return Square.of(graph), held[:size, :size]


def powers(held: Bools, layers: int) -> list[Bools]:
    """What is reached after 0, 1, ... layers; a block keeps what it has."""
    found = [np.eye(len(held), dtype=bool)]
    for _ in range(layers):
        found.append(found[-1] | (held.astype(int) @ found[-1] > 0))
    return found


def squared(case: Case) -> Case:
    """The case with its keys as queries, which must mean something."""
    square = Case(case.spec, case.block, case.len_k, case.len_k, "end")
    assume(square.has_meaning())
    return square


SMALL = cases(blocks=((4, 4), (1, 1), (2, 6), (6, 4)), longest=24)


@examples(50)
@given(SMALL)
def test_layers_reach_what_powers_of_the_matrix_hold(case: Case) -> None:
    square = squared(case)
    found, held = nodes(square)
    assert np.array_equal(nx.to_numpy_array(to_networkx(found)).astype(bool), held)
    reached = powers(held, found.size)
    answer = reach(found, 5)
    after = reached[1:6] + [reached[-1]] * (5 - len(reached[1:6]))
    assert answer.coverage == pytest.approx([layer.mean() for layer in after])
    assert answer.ended and not answer.sampled
    full = [layers for layers, layer in enumerate(reached) if layer.all()]
    assert answer.hops == (full[0] if full else None)


@examples(50)
@given(SMALL)
def test_a_sample_is_followed_as_it_is_among_all(case: Case) -> None:
    square = squared(case)
    found, held = nodes(square)
    assume(found.size > 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reaching, "MAX_FOLLOWED", 3)
        patch.setattr(reaching, "SAMPLE", 4)
        answer = reach(found, 3)
        targets = reaching._sample(found.size)
    assert answer.sampled and answer.followed == 4 and len(set(targets)) == 4
    expected = [layer[:, targets].mean() for layer in powers(held, 3)[1:]]
    assert answer.coverage == pytest.approx(expected)


@examples(50)
@given(SMALL)
def test_parts_are_those_of_the_dense_graph(case: Case) -> None:
    square = squared(case)
    found, held = nodes(square)
    dense = nx.from_numpy_array(held, create_using=nx.DiGraph)
    components = [len(part) for part in nx.strongly_connected_components(dense)]
    cut = sorted(nx.articulation_points(nx.from_numpy_array(held | held.T)))
    answer = parts(found)
    assert (answer.components, answer.largest) == (len(components), max(components))
    assert (answer.articulation, answer.named) == (len(cut), tuple(cut[:16]))
    assert answer.edges == answer.sampled == held.sum()
    most = 2 * found.size
    sample = parts(found, most)
    assert sample.sampled <= max(most, found.size) and sample.components >= answer.components
    node, other = found.sampled(most)
    assert held[node, other].all() and set(node) == set(np.flatnonzero(held.any(1)))
    assert len({*zip(node.tolist(), other.tolist(), strict=True)}) == node.size


def test_known_layouts() -> None:
    assert reach(square_of("all", 40)).hops == 1
    assert reach(square_of("window(3) | global(0)", 40)).hops == 2
    assert reach(square_of("window(3)", 40)).hops == 9
    assert reach(square_of("causal", 40)).hops is None
    assert reach(square_of("all", 4)).hops == 0  # a block has itself
    star = parts(square_of("rows(0) | cols(0)", 40))
    assert (star.components, star.named) == (1, (0,))
    assert parts(square_of("window(3)", 40)).named == tuple(range(1, 9))
    assert parts(square_of("causal", 40)).components == 10


def test_large_layouts_are_followed_from_a_sample() -> None:
    found = reach(square_of("window(3) | global(0)", 1_000_000, (64, 64)), 2)
    assert (found.blocks, found.followed, found.hops) == (15_625, 256, 2)
    far = reach(square_of("window(3)", 1_000_000, (64, 64)))
    assert (far.hops, far.ended, far.layers) == (None, False, 64)
    never = reach(square_of("causal", 1_000_000, (64, 64)))
    assert (never.hops, never.ended) == (None, True)
    many = parts(square_of("all", 64 * 1024, (64, 64)))
    assert many.edges == 2**20 > many.sampled == 2**18
    assert (many.components, many.articulation) == (1, 0)


def test_paths_need_one_sequence() -> None:
    resolved = Case("all", (4, 4), 8, 16, "end").resolved
    with pytest.raises(ValueError, match="same tokens"):
        Square.of(compiler.lower(resolved, 8, 16))


@pytest.mark.parametrize(
    ("heads", "text"),
    [
        ([0], "0"),
        ([0, 1], "0:2"),
        ([0, 1, 2, 3, 7], "0:4, 7"),
        ([1, 3, 5], "1:6:2"),
        ([0, 2], "0, 2"),
        ([0, 2, 3, 4], "0, 2:5"),
        ([], ""),
    ],
)
def test_ranges_are_written_as_in_a_spec(heads: list[int], text: str) -> None:
    assert ranges(heads) == text


def test_heads_with_one_set_are_joined() -> None:
    def groups(spec: str, count: int) -> list[list[int]]:
        resolved = Case(spec, (4, 4), 40, 40, "end").resolved
        alike = compiler.heads_alike(resolved, range(count))
        graphs = [(group, compiler.lower(resolved, 40, 40, head=group[0])) for group in alike]
        return [heads for heads, _ in merged(graphs)]

    assert groups("heads { 0:2 -> causal; 2: -> last(2) }", 4) == [[0, 1], [2, 3]]
    assert groups("every(2, offset=head)", 5) == [[0, 2, 4], [1, 3]]
    # Masks that ask for the head are never taken to be one set.
    assert groups("{q, k : k <= q - head}", 3) == [[0], [1], [2]]
    pattern = Case("heads { 0:2 -> causal; 2: -> last(2) }", (4, 4), 8, 8, "end").resolved.pattern
    assert given_heads(pattern) == 3
    assert given_heads(Case("causal", (4, 4), 8, 8, "end").resolved.pattern) == 1


def test_a_sample_of_all_edges_is_all_of_them() -> None:
    square = square_of("window(3) | cols(0)", 40)
    every = [ends.tolist() for ends in square.sampled(10**6)]
    assert [ends.tolist() for ends in square.sampled(square.edges)] == every
    assert len(every[0]) == square.edges > len(square.sampled(square.edges - 1)[0])


def test_a_sample_that_has_a_block_twice_still_counts_it() -> None:
    """Just above MAX_FOLLOWED blocks, stretches are short, and two draws may be of one block."""
    square = square_of("window(7) | global(0)", 1155 * 4)
    found = reach(square)
    assert found.sampled and found.hops == 2 and found.ended

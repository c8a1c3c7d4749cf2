"""Machine code as a list of instructions, and the loops in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import networkx as nx


@dataclass(frozen=True)
class Instruction:
    """One instruction: its text, opcode first.

    kind: what is counted of it, "matrix", "exp2", "copy", "load" or "local", or "" for none of them;
    line: of the kernel's source, 0 if unknown; inlined: lines of its file on the way there, the innermost
    first, where the disassembler says them; target: the place in the list that it may jump to;
    falls_through: whether the next one may come after it; waits: whether it tests a barrier.
    """

    text: str
    kind: str = ""
    line: int = 0
    target: int | None = None
    falls_through: bool = True
    waits: bool = False
    inlined: tuple[int, ...] = ()


def linked(code: Iterable[tuple[Instruction, str]], labels: dict[str, int]) -> list[Instruction]:
    """Instructions with their targets, each given with the label that it may jump to, or "".

    labels: the place of the instruction after each label.
    """
    found = list(code)
    places = {name: place for name, place in labels.items() if place < len(found)}
    return [replace(each, target=places.get(label)) for each, label in found]


class Loops:
    """The loops of a kernel's code.

    A loop is what can run between its head and a step back to it, where every way to that step
    passes the head (a natural loop; Aho, Lam, Sethi and Ullman, Compilers, 9.6.6). One that only waits
    for a barrier is a part of the loop around it, and none of its own; where that has a way past it, which it
    takes when there is nothing to wait for, it is no part of it either.
    """

    def __init__(self, code: Sequence[Instruction]) -> None:
        graph = nx.DiGraph()
        graph.add_node(0)
        for place, each in enumerate(code):
            if each.falls_through and place + 1 < len(code):
                graph.add_edge(place, place + 1)
            if each.target is not None:
                graph.add_edge(place, each.target)
        above = nx.immediate_dominators(graph, 0)
        loops: dict[int, set[int]] = {}
        for head in sorted({each.target for each in code if each.target is not None}):
            for place in graph.pred[head]:
                if place in above and _passes(head, place, above):
                    loops.setdefault(head, {head}).update(_between(head, place, graph))
        self._code = code
        self._graph = graph
        self._waiting = [body for body in loops.values() if _only_waits(code, body)]
        self._loops = {head: body for head, body in loops.items() if body not in self._waiting}

    def inner(self, kinds: Collection[str] = ()) -> list[list[Instruction]]:
        """The loops that have no other loop inside, in the order of the text.

        kinds: only loops with an instruction of one of these kinds are looked at; every loop if empty.
        """
        code = self._code
        loops = {
            head: body
            for head, body in self._loops.items()
            if not kinds or any(code[place].kind in kinds for place in body)
        }
        return [
            [code[place] for place in sorted(self._without_waits(head, body))]
            for head, body in sorted(loops.items())
            if not any(other in body for other in loops if other != head)
        ]

    def _without_waits(self, head: int, body: set[int]) -> set[int]:
        """An inner loop without what only waits and what it has a way past."""
        for wait in self._waiting:
            if wait < body and head not in wait:
                rest = self._graph.subgraph(body - wait)
                around = nx.descendants(rest, head) & nx.ancestors(rest, head)
                body = around | {head} if around else body
        return body


def counts(code: Iterable[Instruction]) -> Counter[str]:
    """How many instructions there are of each kind."""
    return Counter(each.kind for each in code if each.kind)


def _only_waits(code: Sequence[Instruction], body: set[int]) -> bool:
    return any(code[place].waits for place in body) and not counts(code[place] for place in body)


def _passes(head: int, place: int, above: dict[int, int | None]) -> bool:
    """Whether every way from the beginning to a place passes another."""
    at: int | None = place
    while at is not None and at != head:
        at = above.get(at) if above.get(at) != at else None
    return at == head


def _between(head: int, place: int, graph: nx.DiGraph) -> set[int]:
    """What can come before a jump from a place to the head of its loop, without passing the head."""
    body, ahead = {head}, [place]
    while ahead:
        at = ahead.pop()
        if at not in body:
            body.add(at)
            ahead += graph.pred[at]
    return body

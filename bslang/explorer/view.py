"""A view: a layout at one length, as plain values that a page draws from."""

from __future__ import annotations

from typing import Any

from bslang.analysis.properties import (
    Answer,
    Question,
    decided,
    has_star,
    is_causal,
    is_prefix_stable,
    is_symmetric,
)
from bslang.analysis.reach import reach
from bslang.analysis.square import Square
from bslang.analysis.stats import Stats
from bslang.budget import share
from bslang.explorer.drawn import Drawn
from bslang.explorer.masks import embedded
from bslang.resolve.program import Resolved

LAYERS = 16
"""Layers whose coverage a view has."""

DIM = 64
"""Head dimension that FLOPs and bytes are counted for."""

WHOLE, AHEAD = 0.1, 0.01
"""The part of a budget that a property may take: of a view asked for, and of one made ahead of time."""

View = dict[str, Any]


def view(written: Resolved, drawn: Drawn, effort: float = WHOLE) -> View:
    """What a page shows of a layout at a length.

    written: the layout as the spec has it; drawn: what is drawn of it, its documents known; effort: the
    part of a budget that each property but the first may take. `runs` is `Drawn.runs`, or None where they
    are too many: the page then has `coarse` (level, cells), and asks for tiles if it can. `masks` is
    `masks.embedded`. `coverage`: the share of pairs of blocks reached after 1, 2, ... layers, until
    nothing is added.
    """
    graph = drawn.graph
    causal = decided(is_causal, drawn.resolved.pattern, graph)
    found = Stats.of(graph, DIM, causal.holds is True)
    square = Square.of(graph)
    followed = reach(square, LAYERS)
    rows, columns = written.block
    return {
        "spec": f"block {rows}x{columns}\n{written.pattern}\n",
        "block": [rows, columns],
        "tokens": graph.grid.q.stop,
        "rows": graph.grid.n,
        "columns": graph.grid.m,
        "terms": drawn.terms,
        "runs": drawn.runs() if drawn.exact else None,
        "coarse": drawn.coarse(),
        "masks": embedded(drawn) if drawn.exact else None,
        "awaits": drawn.resolved.awaits,
        "figures": {
            "blocks": found.blocks,
            "full": found.full,
            "partial": found.partial,
            "density": round(found.density, 6),
            "pairs": found.pairs,
            "longest": found.rows.most,
            "shortest": found.rows.least,
            "flops": [found.flops_forward, found.flops_dense],
            "bytes": list(found.kv_bytes),
            "baseline": found.baseline,
            "speedup": found.speedup and [round(times, 3) for times in found.speedup],
        },
        "properties": _properties(drawn, causal, effort),
        "node": square.tokens,
        "coverage": [round(share, 6) for share in _until_ended(followed.coverage)],
        "hops": followed.hops,
        "ended": followed.ended,
        "followed": [followed.followed, followed.blocks],
    }


def _properties(drawn: Drawn, causal: Answer, effort: float) -> list[dict[str, Any]]:
    """What `bslang stats` decides of a layout, each property with its answer and the reason."""

    def answer(question: Question) -> Answer:
        part = share(effort)
        with part.opened():
            found = decided(question, drawn.resolved.pattern, drawn.graph)
        if part.exhausted:
            return Answer(None, because="it takes more work than a page gives it (MAX_WORK)")
        return found

    answers = {
        "Causal": causal,
        "Prefix-stable": answer(is_prefix_stable) if causal.holds else causal,
        "Symmetric": answer(is_symmetric),
        "Contains a star": answer(has_star),
    }
    return [
        {"name": name, "holds": found.holds, "because": found.because}
        for name, found in answers.items()
    ]


def _until_ended(coverage: tuple[float, ...]) -> list[float]:
    """Without layers that reach no more than the one before."""
    return [now for now, before in zip(coverage, (0.0, *coverage), strict=False) if now > before]

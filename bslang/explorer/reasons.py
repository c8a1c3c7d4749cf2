"""Why a pair belongs to what a page draws: the parts of the spec that have it or lack it."""

from __future__ import annotations

from typing import Any

from bslang.analysis.why import Reason, why
from bslang.errors import shortened
from bslang.explorer.drawn import Drawn
from bslang.explorer.said import marks
from bslang.syntax.diagnostics import excerpt


def reasons(drawn: Drawn, query: int, key: int) -> dict[str, Any]:
    """Whether a query position sees a key position, and the reasons, each with its place in a source.

    sees: None where the call decides. Raises ValueError for a position outside of the sequence.
    """
    grid = drawn.graph.grid
    for noun, position, length in (("query", query, grid.q.stop), ("key", key, grid.k.stop)):
        if not 0 <= position < length:
            raise ValueError(f"{noun} is a position from 0 to {length - 1:,}, not {position:,}")
    verdict = why(drawn.resolved.pattern, grid, query, key)
    return {
        "query": query,
        "key": key,
        "sees": verdict.sees,
        "reasons": [_reason(drawn, reason) for reason in verdict.reasons],
    }


def _reason(drawn: Drawn, reason: Reason) -> dict[str, Any]:
    origin = drawn.resolved.origins.of(reason.term)
    return {
        "term": shortened(drawn.documents.named(str(reason.term)), 200),
        "effect": reason.effect.name.lower(),
        "said": reason.effect.value,
        "file": origin.source.name if origin else "",
        "marks": marks(origin.source, origin.span) if origin else [],
        "text": "\n".join(excerpt(origin.source, [origin.span])) if origin else "",
    }

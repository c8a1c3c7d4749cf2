"""Whether a query sees a key, and which terms make it so: `bslang why` and `Layout.why`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bslang import compiler
from bslang.analysis.why import Effect, Verdict
from bslang.analysis.why import why as ask
from bslang.errors import BslangError
from bslang.reports.lengths import usual_length
from bslang.resolve.program import Resolved
from bslang.shown import Shown
from bslang.syntax.diagnostics import excerpt
from bslang.syntax.source import Source, Span

_PLURAL = {
    "HAS": "have it",
    "TAKES": "remove it",
    "LACKS": "lack it",
    "CALL": "depend on the call",
}


@dataclass(frozen=True, repr=False)
class WhyReport(Shown):
    """Whether a query token sees a key token, and why.

    query, key: positions from 0 on; block: the numbers of their block row and column; verdict: `sees` is
    True, False, or None where the call decides, and `reasons` are the terms that make it so.
    """

    resolved: Resolved
    query: int
    key: int
    verdict: Verdict

    @property
    def sees(self) -> bool | None:
        """Whether the query sees the key; None where the call decides."""
        return self.verdict.sees

    @property
    def block(self) -> tuple[int, int]:
        """The block row of the query and the block column of the key."""
        return self.query // self.resolved.block[0], self.key // self.resolved.block[1]

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain values, as `bslang why --json` prints it."""
        reasons = []
        for reason in self.verdict.reasons:
            origin = self.resolved.origins.of(reason.term)
            line, column = origin.source.position(origin.span.start) if origin else (None, None)
            reasons.append(
                {
                    "term": str(reason.term),
                    "effect": reason.effect.name.lower(),
                    "file": origin.source.name if origin else None,
                    "line": line,
                    "column": column,
                }
            )
        return {
            "query": self.query,
            "key": self.key,
            "block": list(self.block),
            "sees": self.sees,
            "reasons": reasons,
        }

    def __str__(self) -> str:
        answer = {True: "yes", False: "no", None: "it depends on the call"}[self.sees]
        sees = {True: "sees", False: "does not see", None: "may see"}[self.sees]
        row, column = self.block
        query, key = f"block row {row}", f"block column {column}"
        if order := self.resolved.order:
            query += f", position {order.positions[self.query]}"
            key += f", position {order.positions[self.key]}"
        first = f"{answer}: query {self.query} ({query}) {sees} key {self.key} ({key})"
        return "\n\n".join([first, *map("\n".join, self._terms())])

    def _terms(self) -> Iterator[list[str]]:
        """The reasons in the source; terms of one line that do the same are marked together."""
        marked: dict[tuple[Source, int, Effect], set[Span]] = {}
        unmarked = []
        for reason in self.verdict.reasons:
            origin = self.resolved.origins.of(reason.term)
            if origin is None:
                unmarked.append(f"`{reason.term}` {reason.effect.value}")
            else:
                line, _ = origin.source.position(origin.span.start)
                marked.setdefault((origin.source, line, reason.effect), set()).add(origin.span)
        for (source, _, effect), spans in marked.items():
            label = effect.value if len(spans) == 1 else _PLURAL[effect.name]
            yield excerpt(source, sorted(spans, key=lambda span: span.start), label)
        if unmarked:
            yield unmarked


def why(
    resolved: Resolved,
    query: int,
    key: int,
    seq_len: int | None = None,
    *,
    head: int = 0,
    layer: int = 0,
    option: str = "seq_len",
) -> WhyReport:
    """Whether a query position sees a key position; negative ones count from the end.

    seq_len: in tokens; 16384, or the size of the layout's grid, for None; option: what callers call it.
    Raises BslangError for positions outside of it, SpecError where the layout is undefined at the length.
    """
    length = seq_len or usual_length(resolved)
    for noun, position in (("query", query), ("key", key)):
        if not -length <= position < length:
            raise BslangError(
                f"{noun} {position} is out of range for {length} tokens; {option} sets another length"
            )
    query, key = query % length, key % length
    grid = compiler.lower(resolved, length, length, head=head, layer=layer).grid
    return WhyReport(resolved, query, key, ask(resolved.pattern, grid, query, key))

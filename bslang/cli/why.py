"""bslang why: does this query see that key, and which terms of the spec make it so?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bslang import compiler
from bslang.cli.common import (
    BlockOption,
    HeadOption,
    JsonOption,
    LayerOption,
    LongOption,
    ParameterOption,
    print_json,
)
from bslang.cli.lengths import usual_length
from bslang.cli.spec import SpecArgument, resolve_spec
from bslang.errors import BslangError
from bslang.resolve.program import Resolved
from bslang.syntax.diagnostics import excerpt
from bslang.syntax.source import Source, Span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bslang.analysis.why import Effect, Verdict

Query = Annotated[
    int, typer.Argument(metavar="Q", help="Position of the query; negative from the end.")
]
Key = Annotated[
    int, typer.Argument(metavar="K", help="Position of the key; negative from the end.")
]


def why(
    spec: SpecArgument,
    query: Query,
    key: Key,
    seq_len: LongOption = None,
    define: ParameterOption = None,
    block: BlockOption = None,
    head: HeadOption = 0,
    layer: LayerOption = 0,
    json: JsonOption = False,
) -> None:
    """Say whether query token Q sees key token K, and which terms make it so or take it away."""
    from bslang.analysis.why import why as ask

    resolved = resolve_spec(spec, define, block)
    seq_len = seq_len or usual_length(resolved)
    query, key = _position(query, "query", seq_len), _position(key, "key", seq_len)
    grid = compiler.lower(resolved, seq_len, seq_len, head=head, layer=layer).grid
    verdict = ask(resolved.pattern, grid, query, key)
    if json:
        print_json(_as_dict(resolved, verdict, query, key))
        return
    answer = {True: "yes", False: "no", None: "it depends on the labels"}[verdict.sees]
    sees = {True: "sees", False: "does not see", None: "may see"}[verdict.sees]
    sides = resolved.block
    at = f"block row {query // sides[0]}", f"block column {key // sides[1]}"
    print(f"{answer}: query {query} ({at[0]}) {sees} key {key} ({at[1]})")
    for lines in _shown(resolved, verdict):
        print("", *lines, sep="\n")


def _position(position: int, noun: str, length: int) -> int:
    if not -length <= position < length:
        raise BslangError(
            f"{noun} {position} lies outside of {length} tokens; --seq-len gives another length"
        )
    return position % length


def _shown(resolved: Resolved, verdict: Verdict) -> Iterator[list[str]]:
    """The reasons in the source; terms of one line that do the same are marked together."""
    marked: dict[tuple[Source, int, Effect], set[Span]] = {}
    unmarked = []
    for reason in verdict.reasons:
        origin = resolved.origins.of(reason.term)
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


_PLURAL = {
    "HAS": "have it",
    "TAKES": "take it away",
    "LACKS": "lack it",
    "LABELS": "depend on the labels",
}


def _as_dict(resolved: Resolved, verdict: Verdict, query: int, key: int) -> dict[str, object]:
    reasons = []
    for reason in verdict.reasons:
        origin = resolved.origins.of(reason.term)
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
        "query": query,
        "key": key,
        "block": [query // resolved.block[0], key // resolved.block[1]],
        "sees": verdict.sees,
        "reasons": reasons,
    }

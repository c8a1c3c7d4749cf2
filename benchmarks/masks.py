"""What a layout costs before its first call at a length: our lowering compared with FlexAttention's mask.

Ours goes from the pattern to the block graph and the tables that kernels walk. `create_block_mask` asks
a function of token positions for every pair. Both have blocks of 64 tokens; what they made is compared
before anything is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention.flex_attention import create_block_mask

from benchmarks.contest import OURS
from benchmarks.markdown import spread, table
from benchmarks.peers import NotRun, afford, block_masks
from benchmarks.timing import Call, Spread, alternate, ratio
from benchmarks.workloads import BIGBIRD, WINDOW, Workload
from bslang import compiler
from bslang.syntax.source import Source

PATTERNS = (WINDOW, BIGBIRD)
FLEX = "create_block_mask"
FLEX_COMPILED = "create_block_mask, compiled"
BACKEND = "inductor"
"""What torch compiles it with."""

BYTES_A_PAIR = {FLEX: 10, FLEX_COMPILED: 0}
"""Where positions are subtracted they are int64, beside two booleans; compiled, no pair is stored."""

MAX_PAIRS = 2**30
"""Beyond, a call takes many seconds, however it is made: four times as many at twice the length."""

Maker = Callable[..., Any]


@dataclass(frozen=True)
class Made:
    """Who makes a layout ready at a length (tokens); not_run says why it was not measured.

    seconds: of one making; to_ours: over ours in the same round.
    """

    layout: str
    length: int
    maker: str
    seconds: Spread | None = None
    to_ours: Spread | None = None
    not_run: str = ""


def run(lengths: Sequence[int], rounds: int, block: int = 64) -> Iterator[Made]:
    """Every layout at every length. Compiling is not timed; a length that it knows compiles nothing."""
    for pattern in PATTERNS:
        torch.compiler.reset()
        makers: dict[str, Maker] = {
            FLEX: create_block_mask,
            FLEX_COMPILED: torch.compile(create_block_mask, backend=BACKEND),
        }
        for length in lengths:
            yield from _at(Workload(pattern, length, block, heads=1), makers, rounds)


def _at(work: Workload, makers: dict[str, Maker], rounds: int) -> Iterator[Made]:
    resolved = compiler.resolve(Source("<benchmark>", work.pattern.spec), block=work.block)
    calls: dict[str, Call] = {
        OURS: lambda: compiler.schedule(compiler.lower(resolved, work.length, work.length))
    }
    missed = []
    for name, maker in makers.items():
        try:
            if work.length**2 > MAX_PAIRS:
                raise NotRun(f"asks {work.length**2:,} pairs")
            afford(BYTES_A_PAIR[name] * work.length**2)
            calls[name] = _flex(work, maker)
        except Exception as error:  # whatever torch's compiler raises is why it is not run
            why = str(error).strip().partition("\n")[0] or type(error).__name__
            missed.append(Made(work.pattern.name, work.length, name, not_run=why))
    times = alternate(calls, rounds)
    for name in calls:
        seconds, to_ours = Spread.of(times[name]), ratio(times, name, OURS)
        yield Made(work.pattern.name, work.length, name, seconds, to_ours)
    yield from missed


def _flex(work: Workload, maker: Maker) -> Call:
    """Raises NotRun where it makes another mask than ours."""
    asked = mask_mod(work)
    size = (work.length, work.length)

    def make() -> Any:
        return maker(asked, None, None, *size, device="cpu", BLOCK_SIZE=work.block)

    full, partial = block_masks(work)
    held = torch.from_numpy(full | partial)
    if not torch.equal(make().to_dense()[0, 0].bool(), held):
        raise NotRun("refused: it makes another mask")
    return make


def mask_mod(work: Workload) -> Callable[..., torch.Tensor]:
    """The layout as FlexAttention asks for it: by its tokens, or else by a matrix of its blocks."""
    mask: Any = work.pattern.mask
    if mask is not None:
        return lambda b, h, q, k: mask(q, k)
    blocks, block = torch.from_numpy(block_masks(work)[0]), work.block
    return lambda b, h, q, k: blocks[q // block, k // block]


def as_markdown(rows: Sequence[Made]) -> str:
    def cells(row: Made) -> tuple[str, ...]:
        if row.seconds is None:
            return f"not run: {row.not_run}", ""
        return (
            f"{1000 * row.seconds.median:,.2f}",
            "1" if row.maker == OURS else spread(row.to_ours, ".3g"),
        )

    return table(
        ("layout", "tokens", "made by", "ms", "time / bslang"),
        ((row.layout, f"{row.length:,}", row.maker, *cells(row)) for row in rows),
    )

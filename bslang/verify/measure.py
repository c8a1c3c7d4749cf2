"""How fast a layout is on this machine, beside dense attention in the same rounds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch.nn.functional import scaled_dot_product_attention

from bslang.progress import report
from bslang.runtime.layout import CallableLayout
from bslang.verify.verify import DTYPES

MAX_DENSE_LENGTH = 32_768
"""Tokens up to which dense attention is timed; its time grows with the square of the length."""

ROUNDS = 5
_LEAST_SECONDS = 0.02
"""What takes less is called several times in a round."""


@dataclass(frozen=True)
class Measured:
    """Times of one phase, "forward" or "forward and backward".

    seconds, dense_seconds: medians over the rounds of a call of the layout and of torch's
    scaled_dot_product_attention; times_as_fast: the median of their ratios, each within one round. The last
    two are None above MAX_DENSE_LENGTH tokens.
    """

    phase: str
    seconds: float
    dense_seconds: float | None
    times_as_fast: float | None


def measure(
    layout: CallableLayout,
    length: int,
    *,
    causal: bool,
    heads: int = 4,
    dim: int = 64,
    dtype: str = "fp32",
    rounds: int = ROUNDS,
) -> list[Measured]:
    """Time both phases in a dtype ("fp32", "bf16" or "fp16") on a batch of 1, on a GPU where there is one.

    length: in tokens; causal: whether dense attention is, too; rounds: in each of them every contestant runs
    once. Raises what a call of the layout raises.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    draw = torch.Generator(device).manual_seed(0)
    shape, kind = (1, heads, length, dim), DTYPES[dtype]
    q, k, v = (
        torch.randn(shape, generator=draw, dtype=kind, device=device, requires_grad=True)
        for _ in range(3)
    )

    def sparse() -> torch.Tensor:
        return layout(q, k, v)

    def dense() -> torch.Tensor:
        return scaled_dot_product_attention(q, k, v, is_causal=causal)

    def forward(attend: Callable[[], torch.Tensor]) -> Callable[[], object]:
        def call() -> object:
            with torch.no_grad():
                return attend()

        return call

    def both(attend: Callable[[], torch.Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(attend().sum(), (q, k, v))

    contestants = [sparse, dense] if length <= MAX_DENSE_LENGTH else [sparse]
    found = []
    for phase, wrap in (("forward", forward), ("forward and backward", both)):
        times = _in_turn([wrap(attend) for attend in contestants], rounds)
        ratios = [others[0] / mine for mine, *others in times if others]
        found.append(
            Measured(
                phase,
                median(mine for mine, *_ in times),
                median(others[0] for _, *others in times) if ratios else None,
                median(ratios) if ratios else None,
            )
        )
    return found


def _in_turn(calls: list[Callable[[], object]], rounds: int) -> list[tuple[float, ...]]:
    """Seconds of each call, by round: what slows the machine down in a round slows all of them."""
    repeats, found = [], []
    for call in calls:
        _seconds(call, 1)  # builds what later calls use
        repeats.append(max(1, round(_LEAST_SECONDS / max(_seconds(call, 1), 1e-6))))
    for done in range(rounds):
        report(done, rounds)
        found.append(
            tuple(_seconds(call, times) for call, times in zip(calls, repeats, strict=True))
        )
    return found


def _seconds(call: Callable[[], object], repeats: int) -> float:
    begin = time.perf_counter()
    for _ in range(repeats):
        call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - begin) / repeats

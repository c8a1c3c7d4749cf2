"""What a run measures: which workloads, against which peers, over how many rounds.

Not every combination, which would take hours: every layout at every length in one shape with all
peers, and every other shape at one length by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.peers import FLEX, GATHER, MASKED_SDPA, SDPA, Peer
from benchmarks.workloads import BACKWARD, BIGBIRD, BOTH, CAUSAL, FORWARD, WINDOW, Workload


@dataclass(frozen=True)
class Contest:
    workload: Workload
    phase: str
    peers: tuple[Peer, ...] = ()


@dataclass(frozen=True)
class Suite:
    """hugging_face: shapes of the layout that its BigBird draws; dtypes: the workload whose dtypes are
    compared; scaling, memory: lengths; starts: processes with a warm cache."""

    rounds: int
    contests: tuple[Contest, ...]
    hugging_face: tuple[Workload, ...]
    dtypes: Workload
    scaling: tuple[int, ...]
    memory: tuple[int, ...]
    starts: int


def _shapes(base: Workload) -> list[Workload]:
    """The other blocks, head dimensions and numbers of heads of a workload."""
    return [
        replace(base, block=block, dim=dim, heads=heads)
        for block in (64, 128)
        for dim in (64, 128)
        for heads in (4, 8)
        if (block, dim, heads) != (base.block, base.dim, base.heads)
    ]


def _alone(workloads: Sequence[Workload]) -> list[Contest]:
    return [Contest(work, phase) for work in workloads for phase in (FORWARD, BACKWARD)]


def full() -> Suite:
    """About 20 minutes on two cores."""
    contests = []
    for pattern in (BIGBIRD, WINDOW, CAUSAL):
        short, middle, long = (Workload(pattern, length) for length in (4096, 16_384, 65_536))
        contests += [
            Contest(short, FORWARD, (SDPA, MASKED_SDPA, FLEX, GATHER)),
            Contest(short, BACKWARD, (SDPA, MASKED_SDPA, FLEX, GATHER)),
        ]
        if pattern == CAUSAL:  # a pass backward over 65,536 tokens would take a minute a round
            contests += [
                Contest(middle, FORWARD, (SDPA, FLEX)),
                Contest(middle, BACKWARD, (SDPA,)),
                Contest(long, FORWARD, (SDPA,)),
            ]
        else:
            contests += [
                Contest(middle, FORWARD, (SDPA, FLEX, GATHER)),
                Contest(middle, BACKWARD, (GATHER,)),
                Contest(middle, BOTH, (SDPA,)),
                Contest(long, FORWARD, (FLEX, GATHER)),
                Contest(long, BACKWARD, (GATHER,)),
            ]
            contests += _alone([replace(long, block=128, dim=128, heads=8)])
        contests += _alone(_shapes(short if pattern == CAUSAL else middle))
        contests += [Contest(replace(middle, heads=1), BACKWARD)]
    return Suite(
        rounds=5,
        contests=tuple(contests),
        hugging_face=tuple(Workload(BIGBIRD, length) for length in (4096, 16_384)),
        dtypes=Workload(BIGBIRD, 16_384),
        scaling=(4096, 8192, 16_384, 32_768, 65_536, 131_072),
        memory=(65_536, 131_072),
        starts=5,
    )


def quick() -> Suite:
    """About 3 minutes on two cores: one shape, short lengths."""
    contests = []
    for pattern in (BIGBIRD, WINDOW, CAUSAL):
        short, middle = (Workload(pattern, length) for length in (4096, 16_384))
        contests += [
            Contest(short, FORWARD, (SDPA, MASKED_SDPA, FLEX, GATHER)),
            Contest(short, BACKWARD, (SDPA, MASKED_SDPA, FLEX, GATHER)),
        ]
        if pattern != CAUSAL:
            contests += _alone([middle])
    contests += [Contest(Workload(BIGBIRD, 16_384, heads=1), BACKWARD)]
    contests += [Contest(Workload(BIGBIRD, 16_384), BOTH, (SDPA,))]
    return Suite(
        rounds=3,
        contests=tuple(contests),
        hugging_face=(Workload(BIGBIRD, 4096),),
        dtypes=Workload(BIGBIRD, 4096),
        scaling=(4096, 16_384, 65_536),
        memory=(131_072,),
        starts=2,
    )

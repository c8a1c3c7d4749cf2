"""What a run measures: which workloads, against which peers, over how many rounds.

Not every combination, which would take hours: every layout at every length in one shape with all
peers, and every other shape at one length by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks import dtypes, longformer
from benchmarks.decoding import CACHES, Cache
from benchmarks.peers import (
    FLEX,
    GATHER,
    MASKED_SDPA,
    SDPA,
    TORCH_TARGET,
    TRITON_TARGET,
    Peer,
)
from benchmarks.workloads import (
    BACKWARD,
    BIGBIRD,
    BOTH,
    CAUSAL,
    DENSE,
    FORWARD,
    WINDOW,
    Pattern,
    Workload,
)

EVERY = (SDPA, MASKED_SDPA, FLEX, GATHER, TORCH_TARGET)

SMALL_BESIDE = 16_384
"""Tokens of what small calls are compared with."""


@dataclass(frozen=True)
class Contest:
    """rounds: fewer than the suite's, where a round is long."""

    workload: Workload
    phase: str
    peers: tuple[Peer, ...] = ()
    rounds: int | None = None


@dataclass(frozen=True)
class Suite:
    """What a run measures.

    hugging_face, longformer: shapes of the layouts that its BigBird draws, and workloads of its
    Longformer; library: the shape of the published layouts, of which one in `published` runs; dtypes:
    workloads whose dtypes are compared; small: those that are compared with the same at SMALL_BESIDE tokens;
    cached: shapes of a step of decoding over many keys; scaling, memory, masks, lowering, crossover: lengths;
    dims: head dimensions of the last; starts: processes with a warm cache; commands: rounds of every command.
    """

    rounds: int
    contests: tuple[Contest, ...]
    hugging_face: tuple[Workload, ...]
    longformer: tuple[Workload, ...]
    library: Workload
    published: int
    dtypes: tuple[Workload, ...]
    small: tuple[Workload, ...]
    cached: tuple[Cache, ...]
    scaling: tuple[int, ...]
    memory: tuple[int, ...]
    masks: tuple[int, ...]
    lowering: tuple[int, ...]
    crossover: tuple[int, ...]
    dims: tuple[int, ...]
    starts: int
    commands: int


def _alone(workloads: Sequence[Workload]) -> list[Contest]:
    return [Contest(work, phase) for work in workloads for phase in (FORWARD, BACKWARD)]


def _beside_all(work: Workload) -> list[Contest]:
    """Forward, and forward with backward, beside every peer; backward by itself alone."""
    return [
        Contest(work, FORWARD, EVERY),
        Contest(work, BOTH, EVERY),
        Contest(work, BACKWARD),
    ]


def _long(pattern: Pattern) -> list[Contest]:
    """From 16,384 tokens on: beside whom a round takes seconds, not minutes."""
    middle, long, longest = (Workload(pattern, length) for length in (16_384, 65_536, 131_072))
    if pattern == CAUSAL:
        return [
            Contest(middle, FORWARD, (SDPA, FLEX)),
            Contest(middle, BOTH, (SDPA,), rounds=3),
            Contest(middle, BACKWARD),
            Contest(long, FORWARD, (SDPA,), rounds=3),
        ]
    return [
        Contest(middle, FORWARD, (SDPA, FLEX, GATHER, TORCH_TARGET)),
        Contest(middle, BOTH, (SDPA, GATHER, TORCH_TARGET), rounds=3),
        Contest(middle, BACKWARD),
        # Gathering holds gigabytes, which a virtual machine gives back to its host: the call after it would
        # pay for having them again.
        Contest(long, FORWARD, (FLEX, TORCH_TARGET), rounds=3),
        Contest(long, BOTH, rounds=3),
        Contest(long, BACKWARD),
        Contest(longest, FORWARD, (FLEX,), rounds=3),
        Contest(longest, BOTH, rounds=3),
    ]


def full() -> Suite:
    """Half an hour on two cores."""
    contests = []
    for pattern in (BIGBIRD, WINDOW, CAUSAL):
        short, middle = (Workload(pattern, length) for length in (4096, 16_384))
        contests += _beside_all(Workload(pattern, 1024))
        contests += _beside_all(short)
        contests += [
            Contest(replace(short, dim=128), phase, (SDPA, FLEX, GATHER))
            for phase in (FORWARD, BOTH)
        ]
        contests += _long(pattern)
        base = short if pattern == CAUSAL else middle
        contests += _alone(
            [
                replace(base, dim=128, block=128),
                replace(base, block=128),
            ]
        )
        if pattern != CAUSAL:
            large = Workload(pattern, 65_536, block=128, dim=128, heads=8)
            contests += [Contest(large, phase, rounds=3) for phase in (FORWARD, BACKWARD)]
        contests += [Contest(replace(middle, heads=1), BACKWARD)]
    contests += [Contest(Workload(BIGBIRD, 2048), FORWARD, (SDPA, TORCH_TARGET, TRITON_TARGET))]
    shapes = tuple(Workload(BIGBIRD, length) for length in (4096, 16_384))
    return Suite(
        rounds=5,
        contests=tuple(contests),
        hugging_face=shapes,
        longformer=tuple(
            replace(shape, pattern=longformer.pattern(first=first))
            for first in longformer.GLOBAL
            for shape in shapes
        ),
        library=Workload(DENSE, 4096),
        published=1,
        dtypes=dtypes.workloads((4096, 16_384, 65_536)),
        small=tuple(Workload(pattern, 1024) for pattern in (BIGBIRD, WINDOW, CAUSAL)),
        cached=CACHES,
        scaling=(4096, 8192, 16_384, 32_768, 65_536, 131_072),
        memory=(65_536, 131_072),
        masks=(1024, 4096, 16_384, 32_768, 131_072),
        lowering=(16_384, 65_536, 1_048_576, 16_777_216),
        crossover=(64, 128, 256, 512, 1024, 2048),
        dims=(64, 128),
        starts=3,
        commands=3,
    )


def quick() -> Suite:
    """Some minutes on two cores: one shape, short lengths, some of the published layouts."""
    contests = []
    for pattern in (BIGBIRD, WINDOW, CAUSAL):
        contests += [
            Contest(Workload(pattern, 4096), phase, (SDPA, FLEX, GATHER, TORCH_TARGET))
            for phase in (FORWARD, BOTH)
        ]
    contests += [Contest(Workload(BIGBIRD, 1024), FORWARD, (*EVERY, TRITON_TARGET))]
    contests += [Contest(Workload(BIGBIRD, 16_384, heads=1), BACKWARD)]
    return Suite(
        rounds=3,
        contests=tuple(contests),
        hugging_face=(Workload(BIGBIRD, 4096),),
        longformer=(Workload(longformer.pattern(), 4096),),
        library=Workload(DENSE, 4096),
        published=8,
        dtypes=dtypes.workloads((4096,), (64,)),
        small=(Workload(BIGBIRD, 1024),),
        cached=CACHES[:1],
        scaling=(4096, 16_384, 65_536),
        memory=(131_072,),
        masks=(1024, 4096),
        lowering=(16_384, 1_048_576),
        crossover=(64, 256, 1024),
        dims=(64,),
        starts=1,
        commands=1,
    )

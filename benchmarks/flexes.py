"""FlexAttention, compiled once for each mask in processes of their own, while others run: what they compile
lies in the compiler's cache on the disk afterwards."""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures import TimeoutError as TimedOutError
from dataclasses import dataclass, field
from typing import Any

from benchmarks.contest import prepared
from benchmarks.peers import FLEX, FLEX_TUNED, Peer
from benchmarks.suites import Contest
from benchmarks.workers import TaskError

FLEXIBLE: tuple[Peer, ...] = (FLEX, FLEX_TUNED)


@dataclass
class Flexes:
    """made: the tasks that compile, by the number of a contest and the name of a peer."""

    made: dict[tuple[int, str], Future[Any]] = field(default_factory=dict)

    def why_not(self, number: int, peer: Peer, wait: float | None = 0.0) -> str:
        """Why a peer cannot take part in a contest, "" if it can; wait: seconds for its compiler."""
        made = self.made.get((number, peer.name))
        if made is None:  # nothing to compile
            return ""
        try:
            made.result(wait)
        except TimedOutError:  # Python 3.10 has one of its own
            return "it was not compiled in time"
        except TaskError as error:
            return str(error)
        return ""


def compile_for(entry: Contest, peer: str) -> None:
    """Compile a peer for a contest, and call it once."""
    (chosen,) = (each for each in FLEXIBLE if each.name == peer)
    prepared(chosen.build(entry.workload, entry.phase), entry.workload.inputs(), entry.phase)()

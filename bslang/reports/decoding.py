"""What a layout says to those who decode with a cache of keys: the methods of `Layout`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from bslang.graph.blockgraph import BlockGraph

# The analyses take a while to load, and most programs only call layouts.
if TYPE_CHECKING:
    from bslang.analysis.properties import Answer
    from bslang.ir.order import Order
    from bslang.resolve.program import Resolved
    from bslang.runtime.recent import Recent
    from bslang.schedule.schedule import Schedule

Rows: TypeAlias = tuple[BlockGraph, npt.NDArray[np.int64]]
"""The graph of a head, and the last block row that visits each of its block columns."""


class Decodes(ABC):
    """Methods of `Layout`. Their answers are kept: each step of decoding asks again."""

    spec: str
    by_head: bool
    labels: tuple[str, ...]
    _answers: Recent[Answer]
    _last_rows: Recent[Rows]

    @property
    @abstractmethod
    def _resolved(self) -> Resolved:
        """Its pattern, as the compiler has it."""

    @property
    @abstractmethod
    def _order(self) -> Order | None:
        """The order of its tokens, None where it has none."""

    @abstractmethod
    def graph(
        self, len_q: int, len_k: int | None = None, align: str = "end", head: int = 0
    ) -> BlockGraph:
        """The block graph of a head for len_q query tokens and len_k key tokens (None means len_q)."""

    def prefix_stable(self, length: int, heads: int = 1) -> Answer:
        """Whether the layout can be decoded with a cache at all lengths up to this one: no row of the first
        `heads` heads depends on the length, and no key comes after its query. If not, the answer has the
        reason and a pair of tokens.
        """

        def answer() -> Answer:
            from bslang.analysis.decoding import prefix_stable
            from bslang.analysis.properties import Answer

            if self._order is not None:
                return Answer(False, because="its tokens have an order, which is of one length")
            graphs = (self.graph(length, head=head) for head in range(heads if self.by_head else 1))
            return prefix_stable(self._resolved.pattern, graphs)

        return self._answers.get((length, heads), answer)

    def _is_prefix_stable(self, length: int, heads: int) -> bool:
        """Whether `prefix_stable` holds."""
        return self.prefix_stable(length, heads).holds is True

    def _last_step(self, schedule: Schedule) -> int:
        from bslang.analysis.decoding import last_step

        last = min(map(last_step, schedule.graphs))
        # With labels, what is not seen is kept apart.
        return schedule.graphs[0].grid.q.stop - 1 if self.labels else last

    def require_prefix_stable(self, length: int, heads: int = 1) -> None:
        """Raise ValueError if the layout cannot be decoded with a cache: some query sees a later key, or
        other keys at another length. The message has the reason and a pair of tokens.
        """
        answer = self.prefix_stable(length, heads)
        if not answer.holds:
            later = answer.pair is not None and answer.pair[1] > answer.pair[0]
            raise ValueError(
                f"`{self.spec.replace(chr(10), '; ')}` cannot be decoded with a cache: {answer.because}"
                + "; intersect it with `causal`" * later
            )

    def reachable(self, t: int, until: int | None = None, head: int = 0) -> npt.NDArray[np.int64]:
        """The blocks of a cache that later queries still read: block columns before token t that some query
        from t on sees, in sequences of up to `until` tokens. All other blocks can leave the cache.

        until: at least t + 1; None means the larger of 131,072 and 2 * t. Returns int64 (blocks,),
        ascending. Raises TypeError unless the numbers are integers, ValueError if t is out of range or the
        layout is not prefix-stable.
        """
        for name, number in (("t", t), ("until", until), ("head", head)):
            whole = isinstance(number, int) and not isinstance(number, bool)
            if not whole and not (name == "until" and number is None):
                raise TypeError(f"{name} must be an integer, not {number!r}")
        until = max(131_072, 2 * t) if until is None else until
        if not 0 <= t < until:
            raise ValueError(f"t must be from 0 to until - 1 = {until - 1}; got {t}")
        self.require_prefix_stable(until, head + 1)
        from bslang.analysis.decoding import reachable

        return reachable(*self._rows_of(until, head), t)

    def _last_visits(self, until: int, head: int) -> npt.NDArray[np.int64]:
        """int64 (block columns,), the last block row that visits each, -1 for none, in a sequence of `until`
        tokens."""
        return self._rows_of(until, head)[1]

    def _rows_of(self, until: int, head: int) -> Rows:
        from bslang.analysis.decoding import last_rows

        def rows() -> Rows:
            graph = self.graph(until, head=head)
            return graph, last_rows(graph)

        return self._last_rows.get((until, head), rows)

"""Layout: what a user calls with tensors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch

from bslang.errors import TargetError
from bslang.runtime import op
from bslang.runtime.checks import autocast, check_tensors
from bslang.runtime.plan import DevicePlan
from bslang.runtime.target import Target

_PLANS = 32  # lengths and devices whose tables a layout keeps


class Layout:
    """A compiled layout. Call it as `layout(q, k, v)`.

    name, spec (canonical bsl text), block (tokens: query, key) and digest say what it is; equal
    digests mean equal layouts.
    """

    def __init__(
        self,
        *,
        name: str,
        spec: str,
        block: tuple[int, int],
        digest: str,
        schedule: Callable[[int, int, str], Any],
        targets: Mapping[str, Target],
    ) -> None:
        """schedule(len_q, len_k, align) gives the tables of a new length (bslang.schedule.Schedule)."""
        self.name, self.spec, self.block, self.digest = name, spec, block, digest
        self._schedule, self._targets = schedule, dict(targets)
        self._plans: OrderedDict[tuple[int, int, str, torch.device], DevicePlan] = OrderedDict()

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets that it was generated for."""
        return tuple(self._targets)

    @property
    def key(self) -> str:
        """How operators name it: the spec with its block and targets."""
        rows, columns = self.block
        return f"block {rows}x{columns}; {self.spec}; {', '.join(self._targets)}"

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        scale: float | None = None,
        *,
        return_lse: bool = False,
        align: str = "end",
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Attention over exactly the pairs of the layout, with gradients.

        q: (batch, heads, len_q, dim); k, v: (batch, key heads, len_k, dim), where key heads divide
        heads (grouped-query attention); fp32, fp16 or bf16 (and fp64 on the torch target); dim a
        multiple of 8 up to 256; any strides. scale: of the scores, 1/sqrt(dim) for None.
        align: "end" puts the queries at the last positions of the keys, "start" at the first.

        Returns out, like q and contiguous; with return_lse also the natural log-sum-exp of each
        query's scores, fp32 (batch, heads, len_q). A query that sees no key has out 0, lse -inf and
        gradient 0. Raises TypeError or ValueError for tensors that do not fit, SpecError where the
        layout means nothing at this length, TargetError where no target runs on the device.
        Under torch.autocast, tensors are taken in its dtype, as torch's own attention takes them.
        """
        q, k, v = autocast(q, k, v)
        check_tensors(q, k, v)
        if scale is None:
            scale = q.shape[-1] ** -0.5
        if isinstance(scale, bool) or not isinstance(scale, int | float):
            raise TypeError(f"scale is a number or None, not {type(scale).__name__}")
        if align not in ("end", "start"):
            raise ValueError(f'align is "end" or "start", not {align!r}')
        self.target(q)
        out, lse = op.attention(q, k, v, op.register(self), float(scale), align)
        return (out, lse) if return_lse else out

    def target(self, q: torch.Tensor) -> Target:
        """The first of the layout's targets that runs a tensor. Raises TargetError where none does."""
        reasons = []
        for name, target in self._targets.items():
            reason = target.missing(q.device)
            if not reason and q.dtype not in target.dtypes:
                reason = f"takes {', '.join(map(str, target.dtypes))}"
            if not reason:
                return target
            reasons.append(f"{name} {reason}")
        raise TargetError(
            f"no target of `{self.name}` runs {q.dtype} tensors on {q.device}: {'; '.join(reasons)}. "
            "The torch target runs on every device: compile with target='torch' among them"
        )

    def graph(self, len_q: int, len_k: int | None = None, align: str = "end") -> Any:
        """The `bslang.graph.BlockGraph` at a length, in tokens (len_k: as many keys, for None)."""
        return self._schedule(len_q, len_q if len_k is None else len_k, align).graph

    def plan(self, len_q: int, len_k: int, align: str, device: torch.device) -> DevicePlan:
        """The tables of a call on a device; made once for each length and kept while in use."""
        key = (len_q, len_k, align, device)
        if key in self._plans:
            self._plans.move_to_end(key)
            return self._plans[key]
        plan = DevicePlan.of(self._schedule(len_q, len_k, align), device)
        self._plans[key] = plan
        while len(self._plans) > _PLANS:
            self._plans.popitem(last=False)
        return plan

    def __deepcopy__(self, memo: dict[int, Any]) -> Layout:
        return self  # it does not change, and copies of a model share it

    def __repr__(self) -> str:
        rows, columns = self.block
        return f"<bslang.Layout {self.name}: {self.spec}; block {rows}x{columns}>"

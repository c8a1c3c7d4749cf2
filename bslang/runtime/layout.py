"""Layout: what a user calls with tensors."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from bslang.errors import TargetError
from bslang.runtime import op
from bslang.runtime.checks import autocast, check_softcap, check_tensors
from bslang.runtime.exports import Exports
from bslang.runtime.labels import LabelsOfCall, take_labels
from bslang.runtime.plan import DevicePlan
from bslang.runtime.target import Target

_PLANS = 32  # lengths, devices and so on whose tables a layout keeps


class Layout(Exports):
    """A compiled layout. Call it as `layout(q, k, v)`.

    name, spec (canonical bsl text), block (tokens: query, key) and digest say what it is; equal
    digests mean equal layouts. layer is what `layer` stands for in the spec; labels are the names of
    the run-time labels that a call gives.
    """

    def __init__(
        self,
        *,
        name: str,
        spec: str,
        block: tuple[int, int],
        digest: str,
        schedule: Callable[[int, int, str, Sequence[int], int], Any],
        targets: Mapping[str, Target],
        by_head: bool = False,
        labels: tuple[str, ...] = (),
        layer: int = 0,
    ) -> None:
        """schedule(len_q, len_k, align, heads, layer) gives the tables of some heads at a new length
        (bslang.schedule.Schedule); by_head: whether heads may have other sets."""
        self.name, self.spec, self.block, self.digest = name, spec, block, digest
        self.labels, self.layer = labels, layer
        self._schedule, self._targets, self._by_head = schedule, dict(targets), by_head
        self._plans: OrderedDict[tuple[Any, ...], DevicePlan] = OrderedDict()
        op.register(self)

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets that it was generated for."""
        return tuple(self._targets)

    def named(self, name: str) -> Target:
        """The target of a name. Raises KeyError where the layout was not generated for it."""
        return self._targets[name]

    @property
    def key(self) -> str:
        """How operators name it: the spec with its block, targets and layer."""
        rows, columns = self.block
        layer = f"; layer {self.layer}" if self.layer else ""
        return f"block {rows}x{columns}; {self.spec}; {', '.join(self._targets)}{layer}"

    def at_layer(self, layer: int) -> Layout:
        """The same layout where `layer` stands for another number; both share their kernels."""
        if isinstance(layer, bool) or not isinstance(layer, int) or layer < 0:
            raise ValueError(f"layer is a number from 0 on, not {layer!r}")
        other = copy.copy(self)
        other.layer = layer
        op.register(other)
        return other

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        scale: float | None = None,
        *,
        softcap: float | None = None,
        return_lse: bool = False,
        align: str = "end",
        labels: LabelsOfCall | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Attention over exactly the pairs of the layout, with gradients.

        q: (batch, heads, len_q, dim); k, v: (batch, key heads, len_k, dim), where key heads divide
        heads (grouped-query attention); fp32, fp16 or bf16 (and fp64 on the torch target); dim a
        multiple of 8 up to 256; any strides. scale: of the scores, 1/sqrt(dim) for None.
        softcap: the size that scaled scores s stay below, as softcap * tanh(s / softcap), before
        the layout chooses among them (Gemma 2: arXiv 2408.00118, section 2); None leaves them as they are.
        align: "end" puts the queries at the last positions of the keys, "start" at the first.
        labels: for a layout with `same(doc)`, {"doc": integers of the key positions, (batch, len_k) or
        (len_k,)}, or that tensor alone; with align="start" a pair of them, of queries and of keys.

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
        cap = check_softcap(softcap)
        pair = take_labels(labels, self.labels, q, k, align)
        self.target(q)
        out, lse = op.attention(q, k, v, self.key, float(scale), align, *pair, cap)
        return (out, lse) if return_lse else out

    def target(self, q: torch.Tensor) -> Target:
        """The first of the layout's targets that runs a tensor. Raises TargetError where none does."""
        reasons = []
        for name, target in self._targets.items():
            if q.dtype not in target.dtypes:
                reason = f"takes {', '.join(map(str, target.dtypes))}"
            else:
                reason = target.missing(q.device)
            if not reason:
                return target
            reasons.append(f"{name} {reason}")
        raise TargetError(
            f"no target of `{self.name}` runs {q.dtype} tensors on {q.device}: {'; '.join(reasons)}. "
            "The torch target runs on every device: compile with target='torch' among them"
        )

    def graph(self, len_q: int, len_k: int | None = None, align: str = "end", head: int = 0) -> Any:
        """The `bslang.graph.BlockGraph` of a head at a length, in tokens (len_k: as many keys, for None)."""
        len_k = len_q if len_k is None else len_k
        return self._schedule(len_q, len_k, align, (head,), self.layer).graphs[0]

    def plan(
        self, len_q: int, len_k: int, align: str, device: torch.device, heads: int = 1
    ) -> DevicePlan:
        """The tables of a call on a device; made once for each length and kept while in use."""
        heads = max(heads, 1) if self._by_head else 1
        key = (len_q, len_k, align, device, heads, self.layer)
        if key in self._plans:
            self._plans.move_to_end(key)
            return self._plans[key]
        schedule = self._schedule(len_q, len_k, align, range(heads), self.layer)
        plan = DevicePlan.of(schedule, device)
        self._plans[key] = plan
        while len(self._plans) > _PLANS:
            self._plans.popitem(last=False)
        return plan

    def __deepcopy__(self, memo: dict[int, Any]) -> Layout:
        return self  # it does not change, and copies of a model share it

    def __repr__(self) -> str:
        rows, columns = self.block
        return f"<bslang.Layout {self.name}: {self.spec}; block {rows}x{columns}>"

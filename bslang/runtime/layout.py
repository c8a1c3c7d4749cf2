"""What runs of a layout: its kernels, and the tables of the lengths that it meets."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

import torch

from bslang.call import Call
from bslang.errors import BslangError, TargetError
from bslang.inputs import Inputs
from bslang.pages import check_pools
from bslang.runtime import op
from bslang.runtime.capacity import capacity
from bslang.runtime.checks import (
    autocast,
    check_padding,
    check_tensors,
    check_transforms,
    share_batch,
)
from bslang.runtime.plan import DevicePlan, is_capturing
from bslang.runtime.recent import Recent
from bslang.runtime.registry import LAYOUTS, Key
from bslang.runtime.target import Target, wrong_device

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from bslang.call import Options
    from bslang.runtime.packed import Offsets

_COUNTERS = "torch.utils.flop_counter"
"""The module of torch's counters of operations, which takes long to load: only users load it."""

PLANS = 32
"""Lengths, devices and so on whose tables a layout keeps."""


@dataclass(eq=False, repr=False)
class CallableLayout(ABC):
    """A layout as far as it is called. `bslang.layouts.Layout` adds what the compiler knows of it.

    name, spec (canonical bsl text), block (tokens: query, key) and digest say what it is; targets: its
    kernels by name, the first that runs a tensor's device is taken; by_head, by_layer: whether the heads,
    or the layers, of a model may have other sets; inputs: what a call gives, labels and selections;
    layer: what `layer` stands for in the spec; first_head: what `head` does in the first head of a call.
    """

    name: str
    spec: str
    block: tuple[int, int]
    digest: str
    targets: Mapping[str, Target]
    by_head: bool = False
    by_layer: bool = False
    inputs: Inputs = field(default_factory=Inputs)
    layer: int = 0
    first_head: int = 0
    _plans: Recent[DevicePlan] = field(default_factory=partial(Recent, PLANS))
    _steps: Recent[list[tuple[range, DevicePlan]]] = field(default_factory=partial(Recent, PLANS))
    _capacities: Recent[DevicePlan | None] = field(default_factory=partial(Recent, PLANS))
    _key: str = field(init=False)

    def __post_init__(self) -> None:
        self._key = str(
            Key(self.spec, self.block, tuple(self.targets), self.layer, self.first_head)
        )
        LAYOUTS.add(self)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the run-time labels that a call gives."""
        return self.inputs.label_names

    @property
    def selections(self) -> tuple[str, ...]:
        """The names of the selections that a call gives."""
        return self.inputs.selection_names

    # ---- what the compiler hands over ----------------------------------------------------------

    @property
    @abstractmethod
    def _with_padding(self) -> CallableLayout:
        """The layout narrowed by one more label, the last one, which queries and keys have to share."""

    @abstractmethod
    def _tables(self, len_q: int, len_k: int, align: str, heads: Sequence[int]) -> Any:
        """The `bslang.schedule.Schedule` of some heads at a length, in tokens."""

    @abstractmethod
    def _is_prefix_stable(self, length: int, heads: int) -> bool:
        """Whether no row of the first heads depends on the length, up to this one, and no key lies ahead of
        its query."""

    @abstractmethod
    def _last_step(self, schedule: Any) -> int:
        """The last query of a schedule from which on all its blocks are seen."""

    @abstractmethod
    def require_prefix_stable(self, length: int, heads: int = 1) -> None:
        """Raise ValueError, with the reason, where `_is_prefix_stable` does not hold."""

    @abstractmethod
    def at_heads(self, first_head: int) -> CallableLayout:
        """The same layout for heads from another one on."""

    @property
    def has_order(self) -> bool:
        """Whether its tokens lie in an order of their own (`permute`)."""
        return self.spec.startswith("order ")

    def _places(self, len_q: int) -> bool:
        """Whether it matters where behind the keys some queries stand. Of `all`, and of the one query of
        `causal`, it is known without a length that it does not."""
        return not (self.spec == "all" or (self.spec == "causal" and len_q == 1))

    # ---- calls ---------------------------------------------------------------------------------

    @overload
    def __call__(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None = None, *,
        return_lse: Literal[False] = False, **options: Unpack[Options],
    ) -> torch.Tensor: ...  # fmt: skip

    @overload
    def __call__(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None = None, *,
        return_lse: Literal[True], **options: Unpack[Options],
    ) -> tuple[torch.Tensor, torch.Tensor]: ...  # fmt: skip

    @overload
    def __call__(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None = None, *,
        return_lse: bool, **options: Unpack[Options],
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]: ...  # fmt: skip

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        scale: float | None = None,
        *,
        return_lse: bool = False,
        **options: Unpack[Options],
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Attention over exactly the pairs of the layout, with gradients.

        q: (batch, heads, len_q, dim). k: (batch or 1, key heads, len_k, dim); v: (batch or 1, key heads,
        len_k, value dim); key heads divide heads (grouped-query attention). dtype: fp32, fp16 or bf16, on
        the torch target also fp64. Any dim and value dim (up to 256 on the triton target), any lengths,
        including 0, and any strides. scale: factor of the scores; None means 1/sqrt(dim). options:
        `softcap`, `align`, `labels`, `select`, `key_padding`, `lengths`, `sinks`, `first_head`, `pages` (k
        and v are pools of pages then): see `bslang.call.Options`.

        Returns out, (batch, heads, len_q, value dim), contiguous, in the dtype of q. With return_lse, also
        returns the natural log-sum-exp of each query's scores, fp32 (batch, heads, len_q). A query that
        sees no key has out 0, lse -inf and gradient 0.

        Raises TypeError or ValueError for invalid tensors or options, SpecError if the layout is undefined
        at this length, TargetError if no target runs on the device, BslangError if kernels for a GPU have to
        be generated and the cache folder cannot be written. Under torch.autocast, tensors are cast as for
        torch's own attention.
        """
        first_head = options.pop("first_head", None)
        if self.has_order:
            check_padding(options.get("key_padding"))
        q, k, v = autocast(q, k, v)
        paged = options.get("pages") is not None
        check_tensors(q, k, v, paged=paged)
        check_transforms(q, k, v)
        if paged:
            check_pools(q, k, v, options.get("sinks"))
        else:
            k, v = share_batch(q, k, v)
        call = Call.of(q, k, self.inputs, scale, placed=self._places(q.shape[2]), **options)
        out, lse = self._attend(q, k, v, call, first_head)
        return (out, lse) if return_lse else out

    def _attend(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        call: Call,
        first_head: int | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(out, lse) of checked tensors: by the operator, or straight where torch need not know of it."""
        if torch.compiler.is_compiling():
            key = self._key
            if first_head is not None:
                from bslang.runtime.untraced import key_at

                key = key_at(self, first_head)
            return op.attention(q, k, v, key, *call.pack())  # type: ignore[no-any-return]
        layout = self if first_head is None else self.at_heads(first_head)
        target = layout._target(q, v)  # the operator would say so, from further away
        if not op.is_watched(q, k, v, *call.tensors):
            return op.attend_recorded(layout, target, q, k, v, call)
        if _COUNTERS in sys.modules:
            from bslang.runtime.flops import tell_counters

            tell_counters()
        return op.attention(q, k, v, layout._key, *call.pack())  # type: ignore[no-any-return]

    @overload
    def packed(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens: Offsets | None = None,
        cu_seqlens_k: Offsets | None = None, scale: float | None = None, *,
        cu_seqlens_q: Offsets | None = None, return_lse: Literal[False] = False, **options: Unpack[Options],
    ) -> torch.Tensor: ...  # fmt: skip

    @overload
    def packed(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens: Offsets | None = None,
        cu_seqlens_k: Offsets | None = None, scale: float | None = None, *,
        cu_seqlens_q: Offsets | None = None, return_lse: Literal[True], **options: Unpack[Options],
    ) -> tuple[torch.Tensor, torch.Tensor]: ...  # fmt: skip

    @overload
    def packed(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu_seqlens: Offsets | None = None,
        cu_seqlens_k: Offsets | None = None, scale: float | None = None, *,
        cu_seqlens_q: Offsets | None = None, return_lse: bool, **options: Unpack[Options],
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]: ...  # fmt: skip

    def packed(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        cu_seqlens: Offsets | None = None,
        cu_seqlens_k: Offsets | None = None,
        scale: float | None = None,
        *,
        cu_seqlens_q: Offsets | None = None,
        return_lse: bool = False,
        **options: Unpack[Options],
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Attention inside each of several sequences that lie end to end, the layout applied to each.

        q: (1, heads, tokens, dim); k: (1, key heads, tokens, dim); v: (1, key heads, tokens, value dim).
        cu_seqlens: integers (sequences + 1,), the offset at which each sequence begins and the end of the
        last. Pass a list or a CPU tensor: with a
        GPU tensor, the call waits for the GPU. cu_seqlens_k: the same for k and v if sequences have other
        numbers of keys than of queries. The queries of a sequence are then at its last positions, with
        align="start" at its first; a sequence may have no queries, or no keys. cu_seqlens_q is another name
        of cu_seqlens. The rest is as in a call, with the options that do not count tokens (`softcap`,
        `sinks`, `first_head`). Raises TypeError or ValueError for invalid arguments, and ValueError for
        layouts with labels or selections: call those with `labels` or `select`.
        """
        if self.labels:
            raise ValueError(
                f"this layout has labels ({', '.join(self.labels)}); call it with them"
            )
        if self.selections:
            raise ValueError(
                f"this layout has selections ({', '.join(self.selections)}), whose cells are of one "
                "sequence; call it for each sequence, or as a batch with key_padding"
            )
        for name in ("labels", "select", "key_padding", "lengths", "pages"):
            if name in options:
                raise TypeError(f"packed sequences take no `{name}`: cu_seqlens says where each is")
        of_q = cu_seqlens_q if cu_seqlens is None else cu_seqlens
        if of_q is None or not (cu_seqlens is None or cu_seqlens_q is None):
            raise TypeError("packed sequences take cu_seqlens, or cu_seqlens_q, which is the same")
        if isinstance(cu_seqlens_k, int | float):
            raise TypeError(
                f"the fifth argument is cu_seqlens_k; write scale={cu_seqlens_k} for a scale"
            )
        q, k, v = autocast(q, k, v)
        check_tensors(q, k, v)
        if torch.compiler.is_compiling():
            from bslang.runtime.untraced import attend_packed as attend
        else:
            from bslang.runtime.packed import attend
        out, lse = attend(self, q, k, v, (of_q, cu_seqlens_k), {"scale": scale, **options})
        return (out, lse) if return_lse else out

    def _target(self, q: torch.Tensor, v: torch.Tensor) -> Target:
        """The first of the layout's targets that runs tensors like q and v. Raises TargetError for none."""
        reasons, dtype, device = [], q.dtype, q.device
        several = len(self.targets) > 1  # alone, one says more itself: that Triton is not installed
        for name in self.targets:
            if several and (reason := wrong_device(name, device)):
                reasons.append(f"{name} {reason}")
                continue
            target = self.targets[name]
            if dtype not in target.dtypes:
                reason = f"takes {', '.join(map(str, target.dtypes))}"
            else:
                reason = target.missing(device)
            most = target.largest_dim
            if not reason and most is not None and max(q.shape[3], v.shape[3]) > most:
                reason = f"takes head dimensions up to {most}, not {_dims(q, v)}"
            if not reason:
                return target
            reasons.append(f"{name} {reason}")
        raise TargetError(
            f"no target of `{self.name}` runs {dtype} tensors on {device}: {'; '.join(reasons)}. "
            "The torch target runs on every device: compile with target='torch' among them"
        )

    def _plan(
        self, len_q: int, len_k: int, align: str, device: torch.device, heads: int = 1
    ) -> DevicePlan:
        """The tables of a call on a device; made once for each length and kept while in use."""
        layer = self.layer if self.by_layer else 0
        return self._plans.get(
            (len_q, len_k, align, device, self._numbers(heads), layer),
            lambda: DevicePlan.of(self._schedule(len_q, len_k, align, heads), device),
            hold=is_capturing(device),  # replays read its tables
        )

    def _plan_by_place(
        self, len_q: int, len_k: int, device: torch.device, heads: int, rounded: bool = True
    ) -> DevicePlan | None:
        """The plan of a call whose queries are the last of the keys, with the tables of a capacity, which
        serve every length up to it: len_k itself, or rounded up. None where the layout is not
        prefix-stable, or not defined, up to there."""
        layer = self.layer if self.by_layer else 0
        length, numbers = capacity(len_k) if rounded else len_k, self._numbers(heads)

        def make() -> DevicePlan | None:
            try:
                if not self._is_prefix_stable(length, heads):
                    return None
                return DevicePlan.of(
                    self._tables(length, length, "end", numbers).as_capacity(), device
                )
            except BslangError:
                return None

        key = (length, device, numbers, layer)
        plan = self._capacities.get(key, make, hold=is_capturing(device))
        return None if plan is None else plan.at(len_q, len_k)

    def _plan_of_step(
        self, len_q: int, len_k: int, device: torch.device, heads: int
    ) -> DevicePlan | None:
        """The same for kernels that have the rows of a table alone: the plan of a step and of the next ones,
        as long as they are in its block rows and see all its blocks."""
        layer = self.layer if self.by_layer else 0
        first, (rows, columns) = len_k - len_q, self.block
        stop = min(-(-len_k // rows) * rows, -(-len_k // columns) * columns)
        key = (first // rows, stop, device, self._numbers(heads), layer)
        kept = self._steps.get(key, list, hold=is_capturing(device))
        plan = next((plan for steps, plan in kept if first in steps), None)
        if plan is None:
            try:
                if not self._is_prefix_stable(capacity(len_k), heads):
                    return None
                schedule = self._schedule(stop - first, stop, "end", heads)
            except BslangError:
                return None
            plan = DevicePlan.of(schedule, device)
            kept.append((range(first, self._last_step(schedule) + 1), plan))
        return plan.at(len_q, len_k)

    def _schedule(self, len_q: int, len_k: int, align: str, heads: int) -> Any:
        """The `bslang.schedule.Schedule` of a call of some heads, from the layout's first on."""
        return self._tables(len_q, len_k, align, self._numbers(heads))

    def _numbers(self, heads: int) -> range:
        first = self.first_head if self.by_head else 0
        return range(first, first + (max(heads, 1) if self.by_head else 1))


def _dims(q: torch.Tensor, v: torch.Tensor) -> str:
    dim, value_dim = q.shape[3], v.shape[3]
    return f"{dim}" if dim == value_dim else f"{dim} of q and k and {value_dim} of v"

"""A layout's attention over a sequence that is cut over several ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch.distributed.tensor import DTensor

from bslang.call import Call
from bslang.distributed import op
from bslang.distributed.dtensors import taken_apart
from bslang.distributed.known import labels_of
from bslang.distributed.sharding import Sharding, check_layout
from bslang.layouts import Layout, take_layout
from bslang.runtime.checks import autocast, check_tensors, check_transforms
from bslang.runtime.sharded import needs_first_head

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from bslang.call import Options

Tensor = torch.Tensor

PARTS = (torch.float32, torch.bfloat16)
"""Dtypes in which parts of sums may travel."""

_NOT_HERE = {
    "select": "selections are of the whole sequence's blocks, and no rank has all of its queries and keys",
    "lengths": "a sequence over several ranks has one length; pass key_padding for shorter rows",
    "pages": "the blocks of a shard have pages already",
}


class ContextParallel:
    """A layout that is called with shards: the result of `context_parallel`."""

    def __init__(
        self, layout: Layout, sharding: Sharding, reduce_dtype: torch.dtype, keep: bool | None
    ) -> None:
        self.layout, self.sharding = layout, sharding
        self.reduce_dtype, self.keep = reduce_dtype, keep

    @overload
    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, scale: float | None = None, *,
        return_lse: Literal[False] = False, **options: Unpack[Options],
    ) -> Tensor: ...  # fmt: skip

    @overload
    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, scale: float | None = None, *,
        return_lse: Literal[True], **options: Unpack[Options],
    ) -> tuple[Tensor, Tensor]: ...  # fmt: skip

    @overload
    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, scale: float | None = None, *,
        return_lse: bool, **options: Unpack[Options],
    ) -> Tensor | tuple[Tensor, Tensor]: ...  # fmt: skip

    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        scale: float | None = None,
        *,
        return_lse: bool = False,
        **options: Unpack[Options],
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attention of this rank's queries over the whole sequence, with gradients. All ranks of the group
        call it together.

        q: (batch, heads, local length, dim); k: (batch, key heads, local length, dim); v: (batch, key heads,
        local length, value dim): shards, or DTensors that are Shard(2) over the group, and over one other
        dimension of their mesh Shard(1) or replicated. dtypes, scale, softcap, sinks, first_head: as in a
        call of the layout; labels and key_padding: of the whole sequence, on every rank.

        Returns out, and with return_lse the log-sum-exps, as a call of the layout does, of the shard: places
        without a token have out 0 and lse -inf. DTensors give DTensors. A query block has the bits of one
        process, but for the few that are computed in parts.

        Raises TypeError or ValueError as a call of the layout, and for `select`, `lengths`, `pages` and
        align="start"; BslangError on all ranks if they call it differently.
        """
        for name, why in _NOT_HERE.items():
            if options.get(name) is not None:
                raise ValueError(f"a sequence over several ranks takes no `{name}`: {why}")
        if options.get("align") == "start":
            raise ValueError(
                'align="start" is for keys of another sequence: call the layout itself with all keys'
            )
        layout, held = self.layout, None
        if any(isinstance(x, DTensor) for x in (q, k, v)):
            held, (q, k, v) = taken_apart(self.sharding.group, q, k, v)
            if layout.by_head and held.heads is not None and "first_head" not in options:
                options["first_head"] = held.first_head(q.shape[1])
        first_head = options.pop("first_head", None)
        of = self.sharding.heads
        if first_head is not None:
            layout = _at_heads(layout, first_head)
        elif of is not None and needs_first_head(layout, q.shape[1], of):
            raise ValueError(
                f"q has {q.shape[1]} heads, the sharding was made for {of}, and this layout differs from "
                "head to head: pass first_head, the model's number of the first of them"
            )
        q, k, v = autocast(q, k, v)
        check_tensors(q, k, v)
        check_transforms(q, k, v)
        self._check(q, k)
        if self.sharding.labels is not None:
            if options.get("labels") is not None:
                raise ValueError(
                    "the sharding was made for a batch, and has its labels: leave them out"
                )
            options["labels"] = labels_of(layout, self.sharding.labels)
        call = Call.of(self._whole(q), self._whole(k), layout.inputs, scale, **options)
        watched = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
        keep = self.keep if watched else False
        out, lse, _, _ = op.attention(
            q, k, v, layout._key, self.sharding.key, *call.pack(), self.reduce_dtype, keep
        )
        if held is not None:
            out, lse = held.put_together(out), held.put_together(lse)
        return (out, lse) if return_lse else out

    def _check(self, q: Tensor, k: Tensor) -> None:
        local = self.sharding.local_len
        for name, x in (("q", q), ("k and v", k)):
            if x.shape[2] != local:
                raise ValueError(
                    f"{name} must be shards of {local} tokens, as sharding.shard makes them; the shape is "
                    f"{tuple(x.shape)}"
                )
        if q.shape[0] != k.shape[0]:
            raise ValueError(
                f"q has batch size {q.shape[0]}, k and v have {k.shape[0]}: over several ranks both have one"
            )

    def _whole(self, x: Tensor) -> Tensor:
        """What has the shape of the whole sequence's tensor, for checks of options."""
        shape = (*x.shape[:2], self.sharding.seq_len, x.shape[3])
        return x.new_empty((1,)).expand(shape)

    def __copy__(self) -> ContextParallel:
        return self  # it does not change, and copies of a model share it

    def __deepcopy__(self, memo: dict[int, Any]) -> ContextParallel:
        return self

    def __reduce__(self) -> Any:
        raise TypeError(
            "the attention of a sharded sequence belongs to the processes of its group and cannot be "
            "pickled: save the state_dict of the model"
        )

    def __repr__(self) -> str:
        return f"context_parallel({self.layout.spec!r}, {self.sharding!r})"


def context_parallel(
    layout: Layout | str,
    sharding: Sharding,
    *,
    reduce_dtype: torch.dtype = torch.float32,
    keep: bool | None = None,
) -> ContextParallel:
    """A layout's attention over a sharded sequence, called like the layout, with shards.

    layout: compiled, or the text of a spec. sharding: of `shard_sequence`; the layout need not be among those
    that it was made for, but its block must divide the sharding's. reduce_dtype: what parts of sums travel in
    between ranks, torch.float32 or torch.bfloat16, which halves their bytes; they are added in fp32, and
    those of fp64 tensors are fp64. keep: whether keys and values of other ranks are kept for the backward
    pass; if not, they are sent again; None keeps them if no rank gets more than it has itself.

    Raises TypeError or ValueError for invalid arguments, and for layouts with selections.
    """
    layout = take_layout(layout)
    if not isinstance(sharding, Sharding):
        raise TypeError(
            f"sharding must be what shard_sequence returns, not {type(sharding).__name__}"
        )
    check_layout(layout)
    if any(sharding.placement.block % side for side in layout.block):
        rows, columns = layout.block
        raise ValueError(
            f"a layout with blocks of {rows}x{columns} tokens cannot be called on a sharding by "
            f"{sharding.placement.block} tokens: pass it to shard_sequence with the others"
        )
    if not (keep is None or isinstance(keep, bool)):
        raise TypeError(f"keep must be True, False or None, not {keep!r}")
    if reduce_dtype not in PARTS:
        raise ValueError(
            f"reduce_dtype must be torch.float32 or torch.bfloat16, not {reduce_dtype}"
        )
    return ContextParallel(layout, sharding, reduce_dtype, keep)


def _at_heads(layout: Layout, first_head: Any) -> Layout:
    """The layout of heads from another one on."""
    if torch.compiler.is_compiling():
        from bslang.runtime.untraced import layout_at

        found: Layout = layout_at(layout, first_head)
        return found
    return layout.at_heads(first_head)

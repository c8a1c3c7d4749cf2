"""Layout: what a user calls with tensors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bslang import compiler
from bslang.errors import TargetError
from bslang.graph.blockgraph import BlockGraph
from bslang.resolve.program import Resolved
from bslang.runtime import modules, op
from bslang.runtime.checks import (
    autocast,
    check_scale,
    check_softcap,
    check_tensors,
    check_transforms,
)
from bslang.runtime.decoding import reachable, require_prefix_stable
from bslang.runtime.exports import Exports
from bslang.runtime.labels import LabelsOfCall, take_labels
from bslang.runtime.packed import attend
from bslang.runtime.padding import hidden, take_padding
from bslang.runtime.plan import DevicePlan
from bslang.runtime.target import Target
from bslang.syntax.source import Source

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
        targets: Mapping[str, Target],
        by_head: bool = False,
        labels: tuple[str, ...] = (),
        folder: Path | None = None,
    ) -> None:
        """by_head: whether heads may have other sets; folder: where the tables lie that the spec reads."""
        self.name, self.spec, self.block, self.digest = name, spec, block, digest
        self.labels, self.layer = labels, 0
        self._targets, self.by_head, self._folder = dict(targets), by_head, folder
        self._plans: OrderedDict[tuple[Any, ...], DevicePlan] = OrderedDict()
        self._register()

    def _register(self) -> None:
        self.key = modules.key(self.spec, self.block, self.targets, self.layer)
        op.register(self)

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the targets that it was generated for."""
        return tuple(self._targets)

    def named(self, name: str) -> Target:
        """The target of a name. Raises KeyError where the layout was not generated for it."""
        return self._targets[name]

    def at_layer(self, layer: int) -> Layout:
        """The same layout where `layer` stands for another number; both share their kernels."""
        if isinstance(layer, bool) or not isinstance(layer, int) or layer < 0:
            raise ValueError(f"layer is a number from 0 on, not {layer!r}")
        other = object.__new__(Layout)
        vars(other).update(vars(self))
        vars(other).pop("hidden", None)  # it is one of this layer
        other.layer = layer
        other._register()
        return other

    @cached_property
    def resolved(self) -> Resolved:
        """Its pattern, as the compiler has it."""
        return compiler.resolve(Source("<spec>", self.spec, self._folder), block=self.block)

    @cached_property
    def hidden(self) -> Layout:
        """The layout with key padding, which is made when a call first has some."""
        return hidden(self)

    def table_files(self) -> tuple[bytes, ...]:
        """The .npy files of the tables that the spec reads."""
        if self._folder is None:
            return ()
        return tuple(matrix.file() for matrix in self.resolved.tables.values())

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
        key_padding: torch.Tensor | None = None,
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
        key_padding: keys that no query sees: bool (batch, len_k), True for padding as in torch's
        key_padding_mask, or integers (batch,), how many keys each sequence has, padded on the right.

        Returns out, like q and contiguous; with return_lse also the natural log-sum-exp of each
        query's scores, fp32 (batch, heads, len_q). A query that sees no key has out 0, lse -inf and
        gradient 0. Raises TypeError or ValueError for tensors that do not fit, SpecError where the
        layout means nothing at this length, TargetError where no target runs on the device.
        Under torch.autocast, tensors are taken in its dtype, as torch's own attention takes them.
        """
        q, k, v = autocast(q, k, v)
        check_tensors(q, k, v)
        check_transforms(q, k, v)
        check_scale(scale)
        if scale is None:
            scale = q.shape[-1] ** -0.5
        if align not in ("end", "start"):
            raise ValueError(f'align is "end" or "start", not {align!r}')
        cap = check_softcap(softcap)
        pair = take_labels(labels, self.labels, q, k, align)
        padding = take_padding(key_padding, k)
        if not torch.compiler.is_compiling():  # the operator would say so, from further away
            self.target(q)
        out, lse = op.attention(q, k, v, self.key, float(scale), align, *pair, cap, padding)
        return (out, lse) if return_lse else out

    def packed(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        cu_seqlens: torch.Tensor | Sequence[int],
        scale: float | None = None,
        *,
        softcap: float | None = None,
        return_lse: bool = False,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Attention inside each of several sequences that lie end to end, the layout applied to each.

        q: (1, heads, tokens, dim); k, v: (1, key heads, tokens, dim). cu_seqlens: integers
        (sequences + 1,), where each begins and the last ends; on a GPU they are waited for, so pass a
        list or a tensor of the CPU. The rest is as in a call; layouts with labels are refused, since
        `same(doc)` says what lies together by itself. Raises TypeError or ValueError for what does not fit.
        """
        if self.labels:
            raise ValueError(
                f"this layout has labels ({', '.join(self.labels)}); call it with them"
            )
        check_tensors(q, k, v)
        if q.shape[2] != k.shape[2]:
            raise ValueError(f"q has {q.shape[2]} tokens, k and v have {k.shape[2]}")
        call = attend
        if torch.compiler.is_compiling():
            from bslang.runtime.untraced import attend_packed as call
        out, lse = call(self, q, k, v, cu_seqlens, {"scale": scale, "softcap": softcap})
        return (out, lse) if return_lse else out

    def reachable(self, t: int, until: int | None = None, head: int = 0) -> npt.NDArray[np.int64]:
        """The blocks of a cache that a query may still see: those of the keys before token t that some
        query from t on sees, as long as the sequence has no more than `until` tokens.

        The others can leave the cache. until: at least t + 1; the larger of 131,072 and 2 * t for None.
        Returns int64 (blocks,), numbers of block columns, rising. Raises ValueError where t is none, or
        the layout is not prefix-stable: rows of later tokens are not known then.
        """
        for name, number in (("t", t), ("until", until), ("head", head)):
            whole = isinstance(number, int) and not isinstance(number, bool)
            if not whole and not (name == "until" and number is None):
                raise TypeError(f"{name} is a whole number, not {number!r}")
        until = max(131_072, 2 * t) if until is None else until
        if not 0 <= t < until:
            raise ValueError(f"t is a token from 0 on, before until = {until}; got {t}")
        require_prefix_stable(self, until, head + 1)
        return reachable(self, t, until, head)

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

    def graph(
        self, len_q: int, len_k: int | None = None, align: str = "end", head: int = 0
    ) -> BlockGraph:
        """The block graph of a head at a length, in tokens (len_k: as many keys, for None)."""
        len_k = len_q if len_k is None else len_k
        return compiler.lower(self.resolved, len_q, len_k, align, head=head, layer=self.layer)

    def plan(
        self, len_q: int, len_k: int, align: str, device: torch.device, heads: int = 1
    ) -> DevicePlan:
        """The tables of a call on a device; made once for each length and kept while in use."""
        heads = max(heads, 1) if self.by_head else 1
        key = (len_q, len_k, align, device, heads, self.layer)
        if key in self._plans:
            self._plans.move_to_end(key)
            return self._plans[key]
        schedule = compiler.tables(self.resolved, len_q, len_k, align, range(heads), self.layer)
        plan = DevicePlan.of(schedule, device)
        self._plans[key] = plan
        while len(self._plans) > _PLANS:
            self._plans.popitem(last=False)
        return plan

    def __copy__(self) -> Layout:
        return self  # it does not change, and copies of a model share it

    def __deepcopy__(self, memo: dict[int, Any]) -> Layout:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        about = (self.name, self.spec, self.block, self.targets, self.layer, self.table_files())
        return modules.rebuilt, about

    def __repr__(self) -> str:
        from bslang.runtime.pictures import text

        return text(self)

    def _repr_svg_(self) -> str | None:
        """The picture that notebooks show."""
        from bslang.runtime.pictures import drawing

        return drawing(self)


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, layout: Layout | str, **options: Any
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Attention over the pairs of a layout: `layout(q, k, v, **options)`.

    layout: a compiled one, or the text of a spec, which is compiled once, in blocks of 64 tokens unless it
    says otherwise. The other arguments, the result and the errors are those of `Layout`.
    """
    return take_layout(layout)(q, k, v, **options)


def take_layout(layout: Layout | str) -> Layout:
    """A layout, or that of a spec's text. Raises SpecError, and TypeError for what is neither."""
    if isinstance(layout, Layout):
        return layout
    if isinstance(layout, str):
        return _compiled(layout)
    raise TypeError(
        f"layout is a bslang.Layout or the text of a spec, not {type(layout).__name__}; "
        "bslang.load takes files"
    )


@lru_cache(maxsize=256)
def _compiled(spec: str) -> Layout:
    return modules.layout_of(compiler.resolve(Source("<spec>", spec)))

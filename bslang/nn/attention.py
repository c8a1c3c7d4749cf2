"""Attention over a layout, with its projections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bslang.call import check_scale, check_softcap
from bslang.layouts import Layout
from bslang.nn.cache import KVCache
from bslang.nn.rotary import Rotary
from bslang.nn.shared import (
    Sharded,
    about,
    check_count,
    join_heads,
    split_heads,
    take_attention,
    take_head_dim,
)
from bslang.runtime.sharded import first_head, needs_first_head

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from bslang.call import Options


_NOT_CACHED = ("key_padding", "lengths", "pages")
"""Options that say of positions what a cache knows."""


class BlockSparseAttention(nn.Module):
    """Self-attention over the pairs of a layout, with projections, heads, rotary positions and a cache.

    Its parameters are those of q_proj, k_proj, v_proj and o_proj (nn.Linear), named as in Llama, and
    `sinks` as in gpt-oss. With the layout `causal` and rotary positions it is Llama's attention. The layout
    is not in the state dict.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        layout: Layout | Sharded | str,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        value_dim: int | None = None,
        bias: bool = True,
        rotary: float | nn.Module | None = None,
        softcap: float | None = None,
        scale: float | None = None,
        sinks: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """layout: a compiled layout, the text of a spec (as for `bslang.attention`), or the attention of a
        sharded sequence (`bslang.distributed.context_parallel`). num_kv_heads: key
        heads, each read by an equal number of query heads; None means num_heads. head_dim: of queries and
        keys; None means embed_dim / num_heads. value_dim: head dimension of values; None means head_dim.
        bias: of all four projections. rotary: the base of rotary positions, or a module such as `Rotary`,
        called as rotary(x, start) with queries or keys (batch, heads, length, dim) and the position of the
        first token, int64 (batch,) where the rows of a cache differ, or as rotary(x, positions=positions) if
        a call or a shard has positions of its own; None means no positions. A layout whose tokens have an
        order takes x as `Layout.permute` gives it, and needs a module that knows the positions of its tokens
        (`Layout.order`). softcap,
        scale: as in a call of the layout. sinks: add a learned logit per head to the denominator of the
        softmax, the parameter `sinks` (num_heads,), initially 0 (gpt-oss).

        Raises ValueError or TypeError for invalid numbers, SpecError for an invalid spec.
        """
        super().__init__()
        self.layout, self._attend = take_attention(layout)
        self.head_dim = take_head_dim(embed_dim, num_heads, head_dim)
        self.value_dim = self.head_dim if value_dim is None else value_dim
        check_count("value_dim", self.value_dim)
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        check_count("num_kv_heads", self.num_kv_heads)
        if num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads {num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}"
            )
        check_softcap(softcap)
        check_scale(scale)
        self.softcap, self.scale = softcap, scale
        if self.layout.has_order and isinstance(rotary, int | float | Rotary):
            raise ValueError(
                "rotary positions count tokens in a row, and those of this layout have an order; pass a "
                "module that turns the tokens by layout.order(length)"
            )
        self.rotary = rotary if rotary is None or isinstance(rotary, nn.Module) else Rotary(rotary)
        made: dict[str, Any] = {"bias": bias, "device": device, "dtype": dtype}
        self.q_proj = nn.Linear(embed_dim, num_heads * self.head_dim, **made)
        self.k_proj = nn.Linear(embed_dim, self.num_kv_heads * self.head_dim, **made)
        self.v_proj = nn.Linear(embed_dim, self.num_kv_heads * self.value_dim, **made)
        self.o_proj = nn.Linear(num_heads * self.value_dim, embed_dim, **made)
        zeros = torch.zeros(num_heads, device=device, dtype=dtype) if sinks else None
        self.sinks = None if zeros is None else nn.Parameter(zeros)

    def forward(
        self,
        x: torch.Tensor,
        *,
        cache: KVCache | None = None,
        positions: torch.Tensor | None = None,
        **options: Unpack[Options],
    ) -> torch.Tensor:
        """x: (batch, length, embed_dim); returns the same shape. Of a sharded sequence, x is a shard.

        positions: int64 (length,) or (batch, length), of the tokens for rotary embeddings; None means
        consecutive ones, and of a shard those of the sharding. cache: x are the tokens after those that it
        holds, and it holds them afterwards. options: `key_padding`, `labels` and the others of a call
        (`bslang.call.Options`). With a cache, labels are of all key positions, those that it held as well, or
        pairs (of x, of all key positions). If rows of a cache with a layout, `KVCache(module.layout)`, hold
        other numbers of positions, it takes none.

        Raises TypeError or ValueError for invalid arguments, and if the layout cannot be decoded with
        a cache (`Layout.reachable` has the same condition).
        """
        if x.dim() != 3 or x.shape[-1] != self.embed_dim:
            raise ValueError(
                f"x must be (batch, length, {self.embed_dim}); its shape is {tuple(x.shape)}"
            )
        given = [name for name in _NOT_CACHED if options.get(name) is not None]
        start: int | torch.Tensor = 0
        if (sharding := getattr(self._attend, "sharding", None)) is not None:
            if cache is not None:
                raise ValueError("a sharded sequence has no cache: decode in one process")
            if positions is None:
                positions = sharding.positions
        if cache is not None:
            if positions is not None:
                given.append("positions")
            length = self._start(cache, x.shape[1], given)
            start = length if cache.lengths is None else cache.lengths
        q = split_heads(self.q_proj(x), self.head_dim)
        k = split_heads(self.k_proj(x), self.head_dim)
        v = split_heads(self.v_proj(x), self.value_dim)
        if self.rotary is not None:
            if positions is None:
                q, k = self.rotary(q, start), self.rotary(k, start)
            else:
                q, k = (self.rotary(x, positions=positions) for x in (q, k))
        if cache is not None:
            k, v = cache.append(k, v, q.shape[1])
            options.update(cache.options)
        options.setdefault("softcap", self.softcap)
        heads, of = q.shape[1], self.num_heads
        if "first_head" not in options and (
            needs_first_head(self.layout, heads, of) or (self.sinks is not None and heads != of)
        ):
            options["first_head"] = first_head(self, heads, of, self.head_dim)
        if self.sinks is not None:
            first = options.get("first_head", 0)
            options.setdefault("sinks", self.sinks[first : first + heads])
        out = self._attend(q, k, v, self.scale, **options)
        return self.o_proj(join_heads(out))  # type: ignore[no-any-return]  # a module's call is untyped

    def _start(self, cache: KVCache, length: int, given: list[str]) -> int:
        """The position of the first new token, in the row that holds most; given: options that a cache takes
        none of."""
        if not isinstance(cache, KVCache):
            raise TypeError(f"cache must be a bslang.nn.KVCache, not {type(cache).__name__}")
        if given:
            raise ValueError(
                f"{given[0]} cannot be used with a cache; pad prompts on the right, and say with "
                "cache.truncate(lengths) how many positions each row keeps"
            )
        if cache.layout is not None and cache.layout != self.layout:
            raise ValueError(
                f"the cache drops positions by `{cache.layout.spec}`, and the layout is `{self.layout.spec}`"
                ", or differs in block, targets or layer: make it KVCache(module.layout)"
            )
        what = self.layout.labels or self.layout.selections
        if cache.layout is not None and cache.lengths is not None and what:
            raise ValueError(
                "the rows of the cache hold other numbers of positions, and a cache with a layout then "
                f"takes no {what[0]!r}: use KVCache()"
            )
        # Asked for all that fits in, so once, and again when the buffers grow.
        asked = (self.layout._key, cache.room(cache.length + length))
        if cache.asked != asked:
            if torch.compiler.is_compiling():
                raise RuntimeError(
                    "a compiled call cannot check that the layout can be decoded: give the cache a "
                    "max_length, and run the first tokens without torch.compile"
                )
            self.layout.require_prefix_stable(asked[1], self.num_heads)
            cache.asked = asked
        return cache.length

    def extra_repr(self) -> str:
        """Sizes, options that are in use, and the layout."""
        shown = f"embed_dim={self.embed_dim}, num_heads={self.num_heads}"
        if self.num_kv_heads != self.num_heads:
            shown += f", num_kv_heads={self.num_kv_heads}"
        shown += f", head_dim={self.head_dim}"
        if self.value_dim != self.head_dim:
            shown += f", value_dim={self.value_dim}"
        for name in ("softcap", "scale"):
            if (value := getattr(self, name)) is not None:
                shown += f", {name}={value:g}"
        if self.sinks is not None:
            shown += ", sinks=True"
        return f"{shown}, {about(self.layout)}"

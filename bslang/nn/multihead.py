"""In the place of torch.nn.MultiheadAttention."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from bslang.call import Options
from bslang.labels import LabelsOfCall
from bslang.layouts import Layout
from bslang.nn.shared import (
    Sharded,
    about,
    join_heads,
    split_heads,
    take_attention,
    take_head_dim,
)
from bslang.runtime.sharded import first_head, needs_first_head
from bslang.selections import SelectionsOfCall


class MultiheadAttention(nn.Module):
    """torch.nn.MultiheadAttention over the pairs of a layout. State dicts of either load into the other.

    Queries, keys and values are one sequence. Attention weights are never stored, so they can be neither
    returned nor dropped.
    """

    # torch.nn.TransformerEncoder and its layer compute dense attention from the weights alone, past
    # `forward`, where this is true of their self_attn.
    _qkv_same_embed_dim = False

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        layout: Layout | Sharded | str,
        *,
        dropout: float = 0.0,
        bias: bool = True,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """layout: a compiled layout, the text of a spec, or the attention of a sharded sequence
        (`bslang.distributed.context_parallel`). The other arguments are those of torch's
        module; dropout must be 0. The parameters are initialized as torch's are. Raises ValueError or
        TypeError for invalid arguments, SpecError for an invalid spec.
        """
        super().__init__()
        self.layout, self._attend = take_attention(layout)
        self.head_dim = take_head_dim(embed_dim, num_heads)
        if dropout:
            raise ValueError(
                "dropout must be 0: attention weights are never stored, so none can be dropped; "
                "apply dropout to the output instead"
            )
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.dropout, self.batch_first = 0.0, batch_first
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_proj_weight = nn.Parameter(torch.empty((3 * embed_dim, embed_dim), **made))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embed_dim, **made)) if bias else None
        self.out_proj = nn.Linear(embed_dim, embed_dim, bias=bias, **made)
        nn.init.xavier_uniform_(self.in_proj_weight)
        if bias:
            nn.init.zeros_(self.out_proj.bias)

    @classmethod
    def from_torch(
        cls, attention: nn.MultiheadAttention, layout: Layout | Sharded | str
    ) -> MultiheadAttention:
        """A module over a layout that takes over the parameters of torch's; they are not copied.

        Raises ValueError where torch's has what this has not: dropout, key or value dimensions of
        their own, a bias or zeros among keys.
        """
        if not isinstance(attention, nn.MultiheadAttention):
            kind = type(attention).__name__
            raise TypeError(f"attention must be a torch.nn.MultiheadAttention, not {kind}")
        for name, there in (
            ("kdim or vdim", not attention._qkv_same_embed_dim),
            ("add_bias_kv", attention.bias_k is not None),
            ("add_zero_attn", attention.add_zero_attn),
        ):
            if there:
                raise ValueError(f"bslang.nn.MultiheadAttention has no {name}")
        made = cls(
            attention.embed_dim,
            attention.num_heads,
            layout,
            dropout=attention.dropout,
            bias=attention.in_proj_bias is not None,
            batch_first=attention.batch_first,
            device="meta",
        )
        made.in_proj_weight, made.in_proj_bias = attention.in_proj_weight, attention.in_proj_bias
        made.out_proj = attention.out_proj
        return made.train(attention.training)

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = False,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
        *,
        labels: LabelsOfCall | None = None,
        select: SelectionsOfCall | None = None,
    ) -> tuple[torch.Tensor, None]:
        """query, key, value: (length, batch, embed_dim), with batch_first (batch, length, embed_dim), or
        (length, embed_dim), each with the same shape. Returns (out, None); out has the shape of query.

        key_padding_mask: (batch, length) or (length,), bool, True for padding, or floating point, -inf for
        padding and 0 elsewhere. labels, select: of all positions, as a call of the layout takes them.
        average_attn_weights is ignored, as no weights are returned.

        The output of a query that sees no key is out_proj.bias, not NaN as in torch. Raises ValueError for
        need_weights, attn_mask and is_causal, and for invalid tensors.
        """
        if need_weights:
            raise ValueError("attention weights are never computed; pass need_weights=False")
        if attn_mask is not None or is_causal:
            raise ValueError(
                "the layout is the mask: leave attn_mask (src_mask, tgt_mask) and is_causal out, and "
                "for a causal layout, intersect it with `causal`"
            )
        self._check(query, key, value)
        batched = query.dim() == 3
        axis = 0 if self.batch_first or not batched else 1
        weights = self.in_proj_weight.chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        q, k, v = (
            split_heads(_batch_first(F.linear(x, w, b), axis), self.head_dim)
            for x, w, b in zip((query, key, value), weights, biases, strict=True)
        )
        padding = None if key_padding_mask is None else _padding(key_padding_mask, batched)
        options: Options = {"labels": labels, "select": select, "key_padding": padding}
        if needs_first_head(self.layout, q.shape[1], self.num_heads):
            options["first_head"] = first_head(self, q.shape[1], self.num_heads, self.head_dim)
        out = self._attend(q, k, v, **options)
        joined = self.out_proj(join_heads(out))
        return joined.transpose(0, axis) if batched else joined[0], None

    def _check(self, *given: torch.Tensor) -> None:
        shapes = [tuple(x.shape) for x in given]
        if any(x.is_nested for x in given):
            raise ValueError(
                "nested tensors are not supported; pad them, and pass key_padding_mask"
            )
        if shapes[0] != shapes[1] or shapes[0] != shapes[2]:
            raise ValueError(
                "query, key and value must be one sequence, of one shape; they have "
                f"{shapes[0]}, {shapes[1]} and {shapes[2]}"
            )
        if len(shapes[0]) not in (2, 3) or shapes[0][-1] != self.embed_dim:
            order = "batch, length" if self.batch_first else "length, batch"
            raise ValueError(
                f"query must be ({order}, {self.embed_dim}) or (length, {self.embed_dim}); "
                f"its shape is {shapes[0]}"
            )

    def extra_repr(self) -> str:
        """Sizes, the order of dimensions, and the layout."""
        return (
            f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, "
            f"batch_first={self.batch_first}, {about(self.layout)}"
        )


def _batch_first(x: torch.Tensor, axis: int) -> torch.Tensor:
    return x.transpose(0, axis) if x.dim() == 3 else x[None]


def _padding(mask: torch.Tensor, batched: bool) -> torch.Tensor:
    """torch's key_padding_mask as bool (batch, length), True for padding."""
    mask = mask if batched else mask[None]
    if not mask.is_floating_point():
        return mask
    hidden = mask == -torch.inf
    # torch.nn.TransformerEncoder makes such masks of bool ones. A program that is traced sees no values.
    if not torch.compiler.is_compiling() and not torch.all(hidden | (mask == 0)):
        raise ValueError(
            "a floating-point key_padding_mask may only hold 0 and -inf; other numbers would be added "
            "to the scores, which layouts do not support"
        )
    return hidden

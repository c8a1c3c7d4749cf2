"""In the place of torch's transformer layers.

They are torch's own in all but self_attn, so that state dicts and options are the same.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from bslang.layouts import Layout
from bslang.nn.multihead import MultiheadAttention
from bslang.nn.shared import Sharded, take_head_dim


class BlockSparseEncoderLayer(nn.TransformerEncoderLayer):
    """torch.nn.TransformerEncoderLayer with self-attention over the pairs of a layout.

    State dicts of either load into the other, and torch.nn.TransformerEncoder stacks it.
    """

    def __init__(
        self, d_model: int, nhead: int, layout: Layout | Sharded | str, **options: Any
    ) -> None:
        """layout: a compiled layout, the text of a spec, or the attention of a sharded sequence
        (`bslang.distributed.context_parallel`), without labels. options: dim_feedforward,
        dropout, activation, layer_norm_eps, batch_first, norm_first, bias, device and dtype, by name, as in
        torch's layer; dropout does not apply to attention weights. Raises ValueError or TypeError for
        invalid arguments, SpecError for an invalid spec.

        A call takes (src, src_mask=None, src_key_padding_mask=None, is_causal=False), with src as in torch.
        The layout is the mask, so src_mask and is_causal raise ValueError.
        """
        take_head_dim(d_model, nhead)  # its message before torch's
        super().__init__(d_model, nhead, **options)
        self.self_attn = _over(layout, self.self_attn)  # type: ignore[assignment]  # in its place


class BlockSparseDecoderLayer(nn.TransformerDecoderLayer):
    """torch.nn.TransformerDecoderLayer with self-attention over the pairs of a layout.

    The attention to the encoder's tokens is torch's own, and dense. State dicts of either load into
    the other, and torch.nn.TransformerDecoder stacks it.
    """

    def __init__(
        self, d_model: int, nhead: int, layout: Layout | Sharded | str, **options: Any
    ) -> None:
        """layout: of the decoder's own tokens, usually causal. The other arguments and the errors are those
        of `BlockSparseEncoderLayer`. tgt_mask and tgt_is_causal raise ValueError in a call.
        """
        take_head_dim(d_model, nhead)  # its message before torch's
        super().__init__(d_model, nhead, **options)
        self.self_attn = _over(layout, self.self_attn)  # type: ignore[assignment]  # in its place


def _over(layout: Layout | Sharded | str, attention: nn.MultiheadAttention) -> MultiheadAttention:
    attention.dropout = 0.0  # what a layer drops of attention weights
    made = MultiheadAttention.from_torch(attention, layout)
    for what in ("labels", "selections"):
        if not (names := getattr(made.layout, what)):
            continue
        raise ValueError(
            f"this layout has {what} ({', '.join(names)}), which the layer's call cannot "
            "give; use bslang.nn.MultiheadAttention"
        )
    return made

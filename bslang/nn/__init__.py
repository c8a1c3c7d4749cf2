"""Torch modules whose attention is a layout, for new models or in place of modules of existing ones.

from bslang.nn import BlockSparseAttention

attention = BlockSparseAttention(512, 8, "last(512t) & causal", num_kv_heads=2, rotary=10_000)
out = attention(x)        # (batch, length, 512)
"""

from __future__ import annotations

from bslang.missing import installed

with installed():
    from bslang.nn.attention import BlockSparseAttention
    from bslang.nn.cache import KVCache
    from bslang.nn.multihead import MultiheadAttention
    from bslang.nn.native import NativeSparseAttention
    from bslang.nn.pool import PagePool
    from bslang.nn.rotary import Rotary
    from bslang.nn.transformer import BlockSparseDecoderLayer, BlockSparseEncoderLayer

__all__ = [
    "BlockSparseAttention",
    "BlockSparseDecoderLayer",
    "BlockSparseEncoderLayer",
    "KVCache",
    "MultiheadAttention",
    "NativeSparseAttention",
    "PagePool",
    "Rotary",
]

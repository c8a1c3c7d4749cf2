"""One sequence over several processes: its length is cut over the ranks of a group, and each fetches the key
blocks that its queries need.

sharding = shard_sequence([layout], seq_len, mesh["cp"])
attention = context_parallel(layout, sharding)
out = attention(q, k, v)      # shards (batch, heads, local length, dim)
"""

from __future__ import annotations

from bslang.missing import installed

with installed():
    import torch

if not torch.distributed.is_available():
    raise ImportError("bslang.distributed needs a build of torch with torch.distributed")

from bslang.distributed.attention import ContextParallel, context_parallel
from bslang.distributed.sharding import Sharding, shard_sequence

__all__ = ["ContextParallel", "Sharding", "context_parallel", "shard_sequence"]

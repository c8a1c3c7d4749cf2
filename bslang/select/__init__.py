"""Rules that choose blocks at run time: values for `select(name)` of a layout.

import bslang

layout = bslang.compile("(select(pick, rows=1t, cols=64t) | cols(0:1t)) & causal", block=64)
pick = bslang.select.pooled(q, k, top=8, rows=1, cols=64, force="last(1t)")
out = layout(q, k, v, select={"pick": pick})

Each rule is a function of tensors that returns the chosen cells: a cell is a run of `rows` queries by a run
of `cols` keys. `Placed` and `Choice` have the options that all rules share.
"""

from __future__ import annotations

from bslang.missing import installed

with installed():
    from bslang.select.antidiagonals import antidiagonal
    from bslang.select.bounding import bounds
    from bslang.select.choice import Choice, Placed
    from bslang.select.compression import compressed
    from bslang.select.indexing import indexer
    from bslang.select.pooling import pooled
    from bslang.select.scored import mass, top

__all__ = [
    "Choice",
    "Placed",
    "antidiagonal",
    "bounds",
    "compressed",
    "indexer",
    "mass",
    "pooled",
    "top",
]

"""bslang: a small language and a compiler for block-sparse attention.

import bslang

layout = bslang.compile("window(3) | global(0, -1) | random(2, seed=7)", block=64)
out = layout(q, k, v)        # tensors (batch, heads, length, dim)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bslang._version import __version__
from bslang.errors import BslangError, LimitError, PatternError, TargetError

if TYPE_CHECKING:
    from bslang import nn as nn
    from bslang import select as select
    from bslang.api import compile, from_dense, from_flex, from_safetensors, load
    from bslang.layouts import Layout, attention
    from bslang.syntax.diagnostics import SpecError
    from bslang.trees import tree

_HOMES = {
    "attention": "bslang.layouts",
    "compile": "bslang.api",
    "from_dense": "bslang.api",
    "from_flex": "bslang.api",
    "from_safetensors": "bslang.api",
    "load": "bslang.api",
    "Layout": "bslang.layouts",
    "SpecError": "bslang.syntax.diagnostics",
    "tree": "bslang.trees",
}

__all__ = [
    "BslangError",
    "Layout",
    "LimitError",
    "PatternError",
    "SpecError",
    "TargetError",
    "__version__",
    "attention",
    "compile",
    "from_dense",
    "from_flex",
    "from_safetensors",
    "load",
    "tree",
]


def __getattr__(name: str) -> Any:
    # Loaded on first use, so that `import bslang` and the command line start without torch.
    if name in _HOMES:
        from importlib import import_module

        from bslang.missing import installed

        with installed():
            return getattr(import_module(_HOMES[name]), name)
    if name in ("nn", "select"):  # as `torch.nn` after `import torch`
        from importlib import import_module

        return import_module(f"bslang.{name}")
    raise AttributeError(f"module 'bslang' has no attribute {name!r}")

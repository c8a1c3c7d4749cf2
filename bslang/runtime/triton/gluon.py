"""What kernels in Gluon are written with, under one name in every Triton that has it.

Where Triton is not installed, or has no Gluon, stand-ins let a generated module import all the same;
`bslang.runtime.triton.backends` then takes other kernels.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AVAILABLE", "async_load", "fence_async_shared", "gl", "gluon", "mbarrier", "warpgroup_mma",
    "warpgroup_mma_wait",
]  # fmt: skip

try:
    from triton.experimental import gluon
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon.language.nvidia.hopper import (
        fence_async_shared,
        mbarrier,
        tma,
        warpgroup_mma,
        warpgroup_mma_wait,
    )

    # `async_load` in Triton 3.9, and in 3.6 what it was called before.
    async_load: Any = getattr(tma, "async_load", None) or tma.async_copy_global_to_shared
    AVAILABLE = True
except (ImportError, AttributeError):
    from bslang.runtime.triton import no_triton

    gluon: Any = no_triton  # type: ignore[no-redef]
    gl: Any = no_triton  # type: ignore[no-redef]
    mbarrier = async_load = fence_async_shared = warpgroup_mma = warpgroup_mma_wait = None
    AVAILABLE = False

"""Every layout of the library compiles ahead of time for every architecture, with no GPU.

A run of all kernels for all architectures takes half an hour: `make compile-all` asks for it. Else each
layout is compiled once, forward, in small blocks with a small head dimension, for one of the architectures.
"""

from __future__ import annotations

import os
from itertools import product
from zlib import crc32

import pytest
import torch

import bslang
from bslang.resolve.library import Entry, library
from bslang.runtime.triton.launch import TritonTarget

pytest.importorskip("triton")

ENTRIES = library()
ARCHITECTURES = ("cuda:80", "cuda:90", "cuda:100", "hip:gfx942")
KERNELS = ("forward", "dq", "dkdv")


def architecture(entry: Entry) -> str:
    """By name, so that a new layout leaves the others where they are."""
    return ARCHITECTURES[crc32(entry.name.encode()) % len(ARCHITECTURES)]


ALL = os.environ.get("BSLANG_COMPILE_ALL", "") == "1"
if ALL:
    BLOCK = HEAD_DIM = 64
    COMPILED = list(product(ENTRIES, ARCHITECTURES, KERNELS))
else:
    BLOCK = HEAD_DIM = 16
    COMPILED = [(entry, architecture(entry), "forward") for entry in ENTRIES]


@pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET", "0") != "0", reason="Triton interprets in this process"
)
@pytest.mark.parametrize(
    ("entry", "architecture", "kernel"),
    COMPILED,
    ids=lambda x: f"{x.file}:{x.name}" if isinstance(x, Entry) else x,
)
def test_published_layouts_compile(entry: Entry, architecture: str, kernel: str) -> None:
    from bslang.gpu.aot import compile_kernel

    layout = bslang.load(f"{entry.file}:{entry.name}", block=BLOCK, target="triton")
    target = layout.targets["triton"]
    assert isinstance(target, TritonTarget)
    made = compile_kernel(target, kernel, architecture, HEAD_DIM, torch.bfloat16)
    assert len(made.asm["hsaco" if architecture.startswith("hip") else "cubin"]) > 1000

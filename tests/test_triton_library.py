"""Every layout of the library compiles ahead of time, with no GPU.

A run of all kernels for all architectures takes half an hour: `make compile-all` asks for it. Else Triton
reads each layout's forward kernel for one of the architectures, and compiles an eighth of them to machine
code, in small blocks with a small head dimension.
"""

from __future__ import annotations

import os
from itertools import product
from typing import Any
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


def chosen(entry: Entry) -> bool:
    """Whether its kernel is compiled to machine code: an eighth of all, by name too."""
    return crc32(entry.name.encode()) // len(ARCHITECTURES) % 8 == 2


ALL = os.environ.get("BSLANG_COMPILE_ALL", "") == "1"
if ALL:
    BLOCK = HEAD_DIM = 64
    COMPILED = list(product(ENTRIES, ARCHITECTURES, KERNELS))
else:
    BLOCK = HEAD_DIM = 16
    COMPILED = [(entry, architecture(entry), "forward") for entry in ENTRIES]

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET", "0") != "0", reason="Triton interprets in this process"
)


def load(entry: Entry) -> bslang.Layout:
    return bslang.load(f"{entry.file}:{entry.name}", block=BLOCK, target="triton")


def read(source: Any, target: Any, options: dict[str, Any]) -> Any:
    """As `triton.compile`, but for its passes and LLVM's, which are nine tenths of the time."""
    from triton._C.libtriton import ir
    from triton.compiler import make_backend

    backend, context = make_backend(target), ir.context()
    ir.load_dialects(context)
    backend.load_dialects(context)
    parsed = backend.parse_options(options | source.parse_options())
    functions, modules = backend.get_codegen_implementation(parsed), backend.get_module_map()
    return source.make_ir(target, parsed, functions, modules, context)


@pytest.mark.parametrize(
    ("entry", "architecture", "kernel"),
    COMPILED,
    ids=lambda x: f"{x.file}:{x.name}" if isinstance(x, Entry) else x,
)
def test_published_layouts_compile(
    entry: Entry, architecture: str, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import triton

    from bslang.gpu.aot import compile_kernel

    target = load(entry).targets["triton"]
    assert isinstance(target, TritonTarget)
    whole = ALL or chosen(entry)
    if not whole:
        monkeypatch.setattr(triton, "compile", read)
    made = compile_kernel(target, kernel, architecture, HEAD_DIM, torch.bfloat16)
    if whole:
        assert len(made.asm["hsaco" if architecture.startswith("hip") else "cubin"]) > 1000
    else:
        assert made.verify() and "tt.dot" in str(made)


def test_machine_code_is_of_every_kind() -> None:
    """For every architecture, and of layouts whose calls give labels, selections and nothing."""
    entries = [entry for entry in ENTRIES if chosen(entry)]
    assert {architecture(entry) for entry in entries} == set(ARCHITECTURES)
    inputs = [load(entry).inputs for entry in entries]
    assert any(x.labels for x in inputs) and any(x.selections for x in inputs) and not all(inputs)

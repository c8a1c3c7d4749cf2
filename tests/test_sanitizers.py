"""Generated C++ under the compiler's sanitizers: no memory out of bounds, no undefined behaviour.

    python tests/test_sanitizers.py tokens    # what a test runs in a process of its own

The sanitizers must be loaded before Python is, hence the process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest
import torch
from calls import Call
from paged import Given, shuffled
from reference import TOLERANCE, Inputs, agrees, run

from bslang.errors import BuildError
from bslang.runtime.cpu import build

FLAGS = ("-O0", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover")

LAYOUTS = {
    "tokens": [
        ("window(3) | global(0, -1) | random(2, seed=7)", (16, 16)),
        ("all", (129, 129)),  # cut into tiles
        ("(last(70t) | cols(:4t)) & causal", (64, 48)),
        ("last(9t) ^ every(5t)", (5, 3)),
        ("rows(20t:90t)", (16, 16)),  # most rows are empty
    ],
    "labels and heads": [
        ("same(doc) & causal", (5, 3)),
        ("~same(doc) ^ cols(:layer * 3t)", (16, 16)),
        ("last(head * 5t + 9t) | cols(0:3t)", (5, 3)),
        ("(same(a) & same(b) | same(a) - last(9t)) & last(head * 5t + 9t)", (16, 16)),
    ],
}
"""Of few blocks: each has passes of its own to be built, in seconds with these flags."""

SHAPES = [(37, 61, "end"), (131, 67, "start"), (1, 93, "end"), (150, 150, "end"), (3, 2, "start")]
"""Queries, keys: multiples of nothing, one alone, fewer than a vector holds."""

SETTINGS = [  # dtype, dim, value dim, heads, key heads, threads, labels
    (torch.float32, 8, 8, 4, 2, 1, "sorted"),
    (torch.bfloat16, 31, 70, 3, 3, 2, "shuffled"),
    (torch.float16, 72, 40, 6, 1, 3, "equal"),
    (torch.float32, 136, 136, 5, 1, 2, "wide"),
    (torch.float16, 17, 17, 4, 4, 7, "sorted"),
    (torch.bfloat16, 64, 64, 4, 2, 1, "sorted"),
    (torch.float32, 5, 48, 2, 1, 3, "shuffled"),
]
"""As many as are no multiple of the number of shapes, so that they meet in every way."""


@pytest.mark.parametrize("kind", LAYOUTS)
def test_memory_and_arithmetic_are_sound(kind: str) -> None:
    try:
        compiler = build.find_compiler()
    except BuildError as error:
        pytest.skip(str(error))
    # The latter too: the sanitizer looks for what throws exceptions when it starts.
    libraries = [library_of(compiler, name) for name in ("libasan.so", "libstdc++.so.6")]
    if not all(path.is_absolute() for path in libraries):
        pytest.skip("this compiler has no libasan.so")
    preload = " ".join(map(str, libraries))
    env = {"LD_PRELOAD": preload, "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(
        [sys.executable, __file__, kind],
        env=os.environ | env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-3000:]


def library_of(compiler: build.Command, name: str) -> Path:
    """Where a compiler has a library; a path without folders where it has none."""
    find = [*compiler, f"-print-file-name={name}"]
    return Path(subprocess.run(find, capture_output=True, text=True, check=True).stdout.strip())


def calls(kind: str) -> Iterator[tuple[Call, torch.dtype, tuple[int, int], int]]:
    """Calls of the layouts of one kind, each with its dtype, head dimensions and threads."""
    settings = cycle(SETTINGS)
    for spec, block in LAYOUTS[kind]:
        for shape in SHAPES:
            dtype, dim, value_dim, heads, key_heads, threads, labels = next(settings)
            sizes = {"heads": heads, "key_heads": key_heads}
            if "global" in spec and (shape[0] != shape[1] or shape[0] < 80):
                shape = (129 + shape[0] % 19,) * 2 + ("end",)  # a square, in which its blocks lie
            yield (
                Call(spec, block, *shape, labels, layer=1, **sizes),
                dtype,
                (dim, value_dim),
                threads,
            )


def strided(x: torch.Tensor) -> torch.Tensor:
    """The same numbers in rows that are no whole vectors apart and begin nowhere in particular.

    There is no memory behind the last one, and NaN between them.
    """
    *outer, rows, dim = x.shape
    count = torch.Size(outer).numel() * rows
    memory = torch.full(((dim + 3) * count - 2,), torch.nan, dtype=x.dtype)
    strides = [rows * (dim + 3)]
    for size in reversed(outer[1:]):
        strides.insert(0, strides[0] * size)
    view = memory.as_strided(x.shape, (*strides, dim + 3, 1), 1)
    return view.copy_(x)


def main(kind: str) -> None:
    del os.environ["LD_PRELOAD"]  # the compiler is slow with it
    build.FLAGS += FLAGS
    for call, dtype, dims, threads in calls(kind):
        print(call, dtype, dims, threads, file=sys.stderr)  # the last one is at fault
        torch.set_num_threads(threads)
        given, mask = call.inputs(dtype, *dims), call.mask()
        apart = Inputs(*map(strided, vars(given).values()))
        for tensors, softcap in ((given, None), (apart, 2.0)):
            agrees(
                call.layout("cpu"), tensors, mask, TOLERANCE[dtype],
                align=call.align, labels=call.labels(), softcap=softcap,
            )  # fmt: skip
        if call.labels():  # passes that are careful of NaN
            apart.k[:, :, -1], apart.v[:, :, -1] = torch.nan, torch.nan
            run(call.layout("cpu"), apart, align=call.align, labels=call.labels())
    for spec, block in LAYOUTS[kind]:
        check_pages(Call(spec, block, 131, 131, layer=1))
    print("done")


def check_pages(call: Call) -> None:
    """Calls from pages of NaN but for their tokens, whole and in parts."""
    for dtype in (torch.float32, torch.bfloat16):
        labels = call.labels()
        given = Given.of(
            call.layout("cpu"), "cpu", (call.batch, 4, 2, 131), (8, 31), dtype, labels=labels
        )
        rows, cols = (-(-131 // side) for side in call.block)
        pages = shuffled(1, call.batch, 4, rows), shuffled(2, call.batch, 1, cols)
        found = given.found(*pages, [slice(0, None, 2), slice(1, None, 2), slice(0)])
        assert all(map(torch.equal, found, given.expected)), (call, dtype)


if __name__ == "__main__":
    main(sys.argv[1])

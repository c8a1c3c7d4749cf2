"""Tests of kernels for CPUs, for other processors (`make test-arm`, `test-x86`) or by Clang (`test-clang`).

Those of another kind than this machine's are emulated (tests/emulated.py). tests/conftest.py calls
`install` where CHOSEN says so.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import emulated
import pytest

from bslang.errors import BuildError
from bslang.runtime.cpu import build

ARM = {
    "armv8-a": "cortex-a53",  # the oldest: QEMU knows no newer instruction then
    "armv8.6-a+bf16+i8mm": "max,sve=off,sme=off",  # libc would use them, and QEMU see the memory late
}
"""What is compiled for, as -march names it, and the processor that QEMU is."""

X86 = {  # with a feature by which Linux says that a processor is one of these
    "x86-64": "sse2",
    "x86-64-v2": "sse4_2",
    "x86-64-v3": "avx2",
    "x86-64-v4": "avx512bw",
}

NATIVE = "native"
"""This processor, with all that it has: for another compiler, which CXX names."""

AMX = "amx"
"""This processor, with products of bf16 in the tiles that bslang/runtime/cpu/include/tiles.h models."""

MODEL = "-DBSLANG_AMX_MODEL={}"
"""The compiler's flag for it: 1, or 0 for a system that grants no tiles."""

CHOSEN = "BSLANG_TEST_MARCH"
"""The environment variable that has tests build for one of these."""

TESTS: dict[str, tuple[str, ...]] = {
    "test_cpu": (),
    "test_header": ("product", "few_queries", "powers", "tangents", "number", "transposes"),
    "test_few": (),
    "test_numerics": ("number", "score", "keys", "lengths"),
    "test_rows": ("results", "sinks", "options", "random"),
    "test_selections": ("results", "sinks", "several_lengths"),
    "test_sinks": ("results", "none_and_all", "half", "padding"),
    "test_grouped": ("results", "strides", "labels"),
    "test_pages": (),
    "test_value_dims": ("any_pair", "apart", "nan", "decoding"),
    "test_labels_numbers": ("results",),
    "test_calls": ("test_heads", "test_labels", "softcaps", "numbers"),
    "test_shapes": ("any_head_dimension", "odd_lengths"),
}
"""The tests that run: files, and words in the names of tests; none for all of a file."""


def lacks(march: str) -> str:
    """What this machine has not got for a processor, and what to do; "" where it can run it."""
    if march in ARM:
        return emulated.missing()
    if march == NATIVE:
        try:
            build.find_compiler()
        except BuildError as error:
            return str(error)
        return ""
    about = Path("/proc/cpuinfo")
    feature = "avx512_bf16" if march == AMX else X86[march]
    if not about.is_file() or feature not in about.read_text().split():
        return f"this processor has no {feature}"
    return ""


def install(patch: pytest.MonkeyPatch, march: str) -> None:
    """Have kernels built for a processor, and emulated where it is of another kind."""
    if march == AMX:
        patch.setattr(build, "FLAGS", (*build.FLAGS, MODEL.format(1)))
        return
    flags = (f"-march={march}" if flag == "-march=native" else flag for flag in build.FLAGS)
    patch.setattr(build, "FLAGS", tuple(flags))
    if march in ARM:
        emulated.install(patch, ARM[march])


def selects(item: pytest.Item) -> bool:
    """Whether a test is among TESTS, and of the cpu target."""
    callspec = getattr(item, "callspec", None)
    params = {} if callspec is None else callspec.params
    if params.get("on", params.get("target", "cpu")) != "cpu" or "triton" in item.name:
        return False
    words = TESTS.get(item.path.stem, ())
    return not words or any(word in item.name for word in words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, epilog="Other options are pytest's.")
    parser.add_argument("--march", action="append", default=[], choices=[*ARM, *X86, AMX, NATIVE])
    chosen, options = parser.parse_known_args()
    folder = Path(__file__).parent
    tests = [str(folder / f"{name}.py") for name in TESTS]
    reasons = {march: lacks(march) for march in chosen.march}
    for march, reason in reasons.items():
        print(f"-march={march}: {f'not run: {reason}' if reason else ''}", flush=True)
        if not reason:
            command = [sys.executable, "-m", "pytest", *tests, *options]
            done = subprocess.run(command, env=os.environ | {CHOSEN: march}, check=False)
            if done.returncode:
                sys.exit(done.returncode)
    if all(reasons.values()):
        sys.exit("nothing was tested")


if __name__ == "__main__":
    main()

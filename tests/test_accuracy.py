"""Errors against fp64 are at most twice those of dense attention in the same dtype."""

from __future__ import annotations

from concurrent.futures import Executor

import pytest
import torch
from accuracy import measure

from bslang.errors import BuildError
from bslang.runtime.cpu import build
from bslang.verify.report import FACTOR, Errors


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("target", ["cpu", "torch"])
def test_errors_are_those_of_rounding(target: str, dtype: torch.dtype) -> None:
    if target == "cpu":
        try:
            build.find_compiler()
        except BuildError as error:
            pytest.skip(str(error))
    check(measure(target, dtype, 40), 20)


def test_errors_in_fp64_are_those_of_rounding() -> None:
    check(measure("torch", torch.float64, 40), 20)


@pytest.mark.parametrize(("dtype", "programs"), [(torch.float32, 40), (torch.float16, 20)], ids=str)
def test_errors_of_triton_are_those_of_rounding(
    interpreting: Executor, dtype: torch.dtype, programs: int
) -> None:
    """In the interpreter, which is slow, so on few programs; in fp32 a few small ones outweigh 20."""
    check(interpreting.submit(measure, "triton", dtype, programs).result(), programs // 2)


def check(found: Errors, programs: int) -> None:
    assert len(found.calls) > programs
    assert all(ratio <= FACTOR for ratio in found.ratios().values()), found.ratios()

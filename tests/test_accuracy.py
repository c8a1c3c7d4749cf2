"""Errors against fp64 are at most twice those of dense attention in the same dtype."""

from __future__ import annotations

import pytest
import torch
from accuracy import measure

from bslang.errors import BuildError
from bslang.runtime import build


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("target", ["cpu", "torch"])
def test_errors_are_those_of_rounding(
    target: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    if target == "cpu":
        try:
            build.find_compiler()
        except BuildError as error:
            pytest.skip(str(error))
        flags = tuple(flag.replace("-O3", "-O1") for flag in build.FLAGS)
        monkeypatch.setattr(build, "FLAGS", flags)
    found = measure(target, dtype, 40)
    assert found.programs > 20
    assert all(ratio <= 2 for ratio in found.ratios().values()), found.ratios()

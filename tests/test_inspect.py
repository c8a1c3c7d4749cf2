"""What `bslang inspect` reports of real kernels; tests/test_machine.py has the reading of stored text."""

from __future__ import annotations

import io
import json
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from bslang import api, compiler
from bslang.cli.main import main
from bslang.dims import Dims
from bslang.errors import TargetError
from bslang.gpu import inspect
from bslang.gpu.machine.report import Inspected
from bslang.resolve.program import Resolved
from bslang.syntax.source import Source

pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET", "0") != "0":
    pytest.skip("Triton interprets in this process", allow_module_level=True)

SPEC = "near = last(3)"
PRODUCTS = {"forward": 2, "dq": 3, "dkdv": 4}


@cache
def inspected(architecture: str) -> list[Inspected]:
    """What is in the kernels of SPEC, found once: it takes seconds."""
    resolved = compiler.resolve(Source("spec.bsl", SPEC), block=64)
    return api.inspect(resolved, architecture, 64, "bf16")


@pytest.mark.parametrize("architecture", ["cuda:80", "cuda:90", "hip:gfx942"])
def test_kernels(architecture: str) -> None:
    reports = {report.kernel: report for report in inspected(architecture)}
    assert set(reports) >= {*PRODUCTS, "delta"}
    assert reports["delta"].loops == ()
    for kernel, products in PRODUCTS.items():
        found = reports[kernel]
        assert 16 <= found.registers <= 512 and 0 < found.shared <= 227 * 1024
        assert found.programs >= 1 and found.programs * found.warps <= found.most_warps
        full = (x for x in found.loops if "full blocks" in x.comment.lower())
        loop = next(x for x in full if "cut" not in x.comment)
        assert loop.exp2 > 0 and loop.instructions > loop.matrix + loop.exp2 + loop.copies
        assert loop.copies > 0 or architecture.startswith("hip")
        # A wgmma multiplies 64 rows by up to 256 columns, an mma 16 by 8.
        few, many = products * 2, 64
        assert loop.matrix >= (many if architecture == "cuda:80" else few)
        assert loop.matrix < many or architecture != "cuda:90"
    assert (reports["forward"].stack, reports["forward"].local) == (0, 0)


def command(
    *arguments: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[object, str, str]:
    """`bslang inspect` of SPEC: exit status, and what it prints."""
    monkeypatch.setattr(sys, "argv", ["bslang", "inspect", "-", "--block", "64", *arguments])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SPEC.encode())))
    try:
        main()
        status: object = 0
    except SystemExit as stop:
        status = stop.code or 0
    return status, *capsys.readouterr()


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given: dict[str, Any] = {"monkeypatch": monkeypatch, "capsys": capsys}

    found = inspected("cuda:90")
    asked = compiler.resolve(Source("-", SPEC), block=64).pattern, "cuda:90", Dims.of(64), "bf16"

    def inspect(resolved: Resolved, *of: object) -> list[Inspected]:
        assert (resolved.pattern, *of) == asked
        return found

    monkeypatch.setattr(api, "inspect", inspect)
    status, out, err = command("--head-dim", "64", **given)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[:3] == ["near: last(3)", "", "forward for cuda:90, head dimension 64, bf16"]
    tiles = [line.split()[1] for line in lines if line.startswith("tile ")]
    assert all(side.rstrip(";").isdigit() for side in tiles)
    status, text, err = command("--head-dim", "64", "--json", **given)
    assert (status, err) == (0, "")
    kernels = json.loads(text)["kernels"]
    assert [each["kernel"] for each in kernels[:2]] == ["forward", "merge"]
    assert len(tiles) == len(kernels) >= 6
    first = kernels[0]
    assert f"{'registers':<18}{first['registers']}" in lines[3:8]
    assert f"{'spills':<18}none" in lines[3:8]
    for loop in first["loops"]:
        (row,) = (line for line in lines if line.startswith(f"{loop['line']}: "))
        numbers = ("instructions", "matrix", "exp2", "copies", "loads", "local")
        assert row.split()[-len(numbers) :] == [f"{loop[name]:,}" for name in numbers]
    monkeypatch.undo()
    status, out, err = command("--target", "sm_90", **given)
    assert (status, out) == (1, "") and err.startswith("error: unknown architecture 'sm_90'")


def test_tools_that_do_not_run_are_named(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="nvdisasm, of triton's package, does not run"):
        inspect._run(str(tmp_path / "nvdisasm"))

"""Settings of the process that a call must not depend on: torch's default dtype and device, its settings of
precision, and a CUDA graph that is captured."""

from __future__ import annotations

import ast
import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from reference import Inputs, inputs, run

import bslang
from bslang.dims import Dims
from bslang.gpu.aot import choice
from bslang.runtime import layout as layouts
from bslang.runtime.triton.kernels import is_tf32

PACKAGE = Path(bslang.__file__).parent
FACTORIES = {
    *("arange", "as_tensor", "empty", "empty_strided", "eye", "full", "linspace", "ones", "rand"),
    *("randint", "randn", "randperm", "scalar_tensor", "tensor", "zeros"),
}


# ---- default dtype and device ------------------------------------------------------------------


def incomplete(text: str) -> Iterator[str]:
    """The calls of torch's factories in a source that leave dtype or device to a setting."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of_torch = isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"
            names = {keyword.arg for keyword in node.keywords}  # None for **options
            given = None in names or {"dtype", "device"} <= names
            if of_torch and node.func.attr in FACTORIES and not given:
                yield f"line {node.lineno}: {ast.unparse(node)}"


def test_every_tensor_is_made_with_its_dtype_and_device() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}, {call}"
        for path in PACKAGE.rglob("*.py")
        if path.parent.name != "configs"  # no part of a call
        for call in incomplete(path.read_text(encoding="utf-8"))
    ]
    assert not found, found


def test_what_is_looked_for() -> None:
    assert list(incomplete("torch.empty(3, dtype=x.dtype)")) == [
        "line 1: torch.empty(3, dtype=x.dtype)"
    ]
    assert not list(incomplete("torch.zeros(3, **made); x.zeros(3); torch.zeros_like(x)"))


SPECS = [
    "(last(20t) | cols(0:3t)) & causal",
    "rows(0:8t) | last(8t)",  # heavy rows, which GPUs split
    "same(doc) & {q, k : min(q, 30) >= k - max(3, k % 7)}",
]


@pytest.mark.parametrize("spec", SPECS)
def test_a_call_asks_no_default(on: Callable[..., None], spec: str) -> None:
    on(check_defaults, spec)


def check_defaults(target: str, spec: str) -> None:
    made, given = bslang.compile(spec, block=8, target=target), inputs(44, 44, key_heads=2)
    doc = torch.arange(44) // 9 * 2**40
    before = results(made, given, doc)
    made._plans._values.clear()
    torch.set_default_dtype(torch.float16)
    torch.set_default_device("meta")
    try:
        after = results(made, given, doc)
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
    for one, other in zip(before, after, strict=True):
        assert one.dtype == other.dtype and one.device == other.device and torch.equal(one, other)


def results(made: bslang.Layout, given: Inputs, doc: torch.Tensor) -> list[torch.Tensor]:
    """All that a call gives, by itself, with padding, packed, and of one query."""
    labels = {"doc": doc} if made.labels else None
    found = list(vars(run(made, given, labels=labels)).values())
    lengths = doc.new_tensor([30])
    found += vars(run(made, given, labels=labels, key_padding=lengths)).values()
    found.append(made(given.q[:, :, -1:], given.k, given.v, labels=labels))  # type: ignore[arg-type]
    if not labels:
        found.append(made.packed(given.q, given.k, given.v, [0, 20, 44]))  # type: ignore[arg-type]
    return found


# ---- precision of products ---------------------------------------------------------------------


def test_precision_by_either_setting() -> None:
    """The older of torch's settings raises where the newer one was used."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        for setting, fast in (("tf32", True), ("ieee", False)):
            matmul.fp32_precision = setting
            assert is_tf32() == fast
    finally:
        matmul.fp32_precision = before
    torch.set_float32_matmul_precision("high")
    try:
        assert is_tf32()
    finally:
        torch.set_float32_matmul_precision("highest")
    assert not is_tf32()


# ---- CUDA graphs -------------------------------------------------------------------------------


def test_tables_of_a_captured_graph_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay reads them, though the layout has met many other lengths since."""
    made, cpu = bslang.compile("causal", block=8, target="torch"), torch.device("cpu")
    lost = weakref.ref(made._plan(100, 100, "end", cpu))
    monkeypatch.setattr(layouts, "is_capturing", lambda device: True)
    kept = weakref.ref(made._plan(200, 200, "end", cpu))
    monkeypatch.undo()
    for length in range(1, 2 * layouts.PLANS):
        made._plan(length, length, "end", cpu)
    assert kept() is not None and lost() is None
    del made
    gc.collect()
    assert kept() is None


def test_many_captures_at_one_length_keep_one_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever other lengths come between them, and of a step's tables too."""
    made, cpu = bslang.compile("causal & last(9)", block=8, target="torch"), torch.device("cpu")

    def plans() -> list[object]:
        return [made._plan(200, 200, "end", cpu), vars(made._plan_by_place(1, 200, cpu, 1))["made"]]

    first = plans()
    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(layouts, "is_capturing", lambda device: True)
            captured = plans()
        assert all(x is y for x, y in zip(captured, first, strict=True))
        made._capacities._values.clear()
        for length in range(1, 2 * layouts.PLANS):
            made._plan(length, length, "end", cpu)


# ---- warps -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel, wide, narrow", [("forward", 4, 8), ("dkdv", 4, 8)])
def test_warps_of_cdna_are_twice_as_wide(kernel: str, wide: int, narrow: int) -> None:
    sides = ((128, 128), (64, 64))
    for architecture, warps in (("hip:gfx942", wide), ("cuda:90", narrow)):
        found = choice(kernel, architecture, Dims.of(128), torch.bfloat16, sides)
        assert found.options["num_warps"] == warps

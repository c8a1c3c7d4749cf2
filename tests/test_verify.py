"""`bslang verify`: good kernels pass, each kind of wrong one is named, and bad input is refused."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bslang import api, compiler
from bslang.cli.main import main
from bslang.dims import Dims
from bslang.errors import BuildError, LimitError, TargetError
from bslang.inputs import Inputs, Label, Selection
from bslang.ir.heads import told_apart
from bslang.runtime.cpu import build
from bslang.runtime.torch.attention import TorchTarget
from bslang.syntax.source import Source
from bslang.verify import verify as runtime
from bslang.verify.report import PARTS, Call, Errors

SPEC = """\
block 16
near = last(2) & causal
documents = same(doc) & causal
heads3 = heads { 0 -> causal; 1 -> last(1); 2 -> causal - cols(3t) }
far = cols(40)
rows9 = rows(9) | causal
deep = last(layer + 1)
"""


@dataclass
class Done:
    status: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """run(*arguments): `bslang verify`, in a folder that holds a.bsl, by default on the torch target."""
    monkeypatch.chdir(tmp_path)
    Path("a.bsl").write_text(SPEC, encoding="utf-8")

    def run(*arguments: str, target: str = "torch") -> Done:
        of_target = ["--target", target] if target else []
        monkeypatch.setattr(sys, "argv", ["bslang", "verify", *arguments, *of_target])
        status: object = 0
        try:
            main()
        except SystemExit as stop:
            status = stop.code
        assert isinstance(status, int) or status is None
        return Done(status or 0, *capsys.readouterr())

    return run


@pytest.fixture
def resolved() -> Callable[[str], Any]:
    return lambda name: compiler.resolve(Source("<test>", SPEC), name)


# ---- good kernels --------------------------------------------------------------------------------


def test_a_table_and_a_verdict(run: Run) -> None:
    done = run("a.bsl:near", "--head-dim", "8")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "near: last(2) & causal"
    assert lines[2].split() == list(PARTS)
    rows = [line.split("  ")[0] for line in lines[3:7]]
    assert rows == [f"torch on cpu, {dtype}" for dtype in ("fp32", "bf16", "fp16", "fp64")]
    assert lines[-1].startswith("good: ") and "at most twice" in lines[-1]


def test_values_of_another_dimension(run: Run) -> None:
    given = "--head-dim", "8/5, 3/9", "--dtype", "fp32", "--seq-len", "20"
    done = run("a.bsl:near", *given, "--json")
    assert (done.status, done.err) == (0, "")
    calls = json.loads(done.out)["calls"]
    for dims in ("8/5", "3/9"):
        assert any(f"(head dimension {dims}, " in call for call in calls)
    assert all("dimension 8/5," in call or "dimension 3/9," in call for call in calls)


@pytest.mark.parametrize("name", ["documents", "heads3", "rows9", "deep"])
def test_layouts_of_every_kind(run: Run, name: str) -> None:
    done = run(f"a.bsl:{name}", "--head-dim", "8", "--dtype", "fp32", "--layer", "1")
    assert done.status == 0, done.err


def test_the_cpu_target(run: Run) -> None:
    try:
        build.find_compiler()
    except BuildError as error:
        pytest.skip(str(error))
    done = run("a.bsl:documents", "--head-dim", "8,16", "--json", target="cpu")
    assert done.status == 0, done.err
    found = json.loads(done.out)
    assert [row["dtype"] for row in found["rows"]] == ["fp32", "bf16", "fp16"]
    for row in found["rows"]:
        assert row["failure"] is None and set(row["errors"]) == set(PARTS)
        assert all(part["error"] <= part["bound"] for part in row["errors"].values())
        assert row["errors"]["out"]["error"] > 0


def test_what_is_compared(resolved: Callable[[str], Any]) -> None:
    seen: list[tuple[int, int]] = []
    found = api.verify(
        resolved("near"), ["torch"], head_dims=(8, 16), dtypes=["fp32"],
        progress=lambda *step: seen.append(step),
    )  # fmt: skip
    lengths = (1, 15, 16, 17, 40, 80, 100, 149)
    for dim in (8, 16):
        for length in lengths:
            said = rf"{length} tokens? \(head dimension ({dim}|{dim}/{dim // 2}|{dim // 2}/{dim}),"
            assert any(re.match(said, call) for call in found.calls), length
    for what in (
        "the last 73 of 149",
        "the last 1 of 100",
        "1 of keys",
        "2 of keys",
        "soft cap 2",
        " 8/4,",
        " 8/16,",
    ):
        assert any(what in call for call in found.calls), what
    assert seen == [(done, len(found.calls)) for done in range(1, len(found.calls) + 1)]
    assert not found.failures and not found.meaningless and not found.not_run


def test_labels_are_a_few_documents() -> None:
    case = runtime._Case(5, 60, Dims.of(8), 2, 1, None, False, 3)
    inputs = Inputs((Label("a"), Label("b")), (Selection("pick", 8, 8),))
    given = case.given(inputs)
    assert set(given.labels) == {"a", "b"}
    assert given.selections["pick"].shape == (2, 1, 2, 8)  # queries from 55 on
    for label in given.labels.values():
        assert label.shape == (2, 60) and (label.diff(dim=-1) >= 0).all()
        assert 1 < len(label.unique()) <= 4 and not label[0].equal(label[1])

    def masks(len_q: int, len_k: int, *, head: int, labels: Any, selections: Any) -> Any:
        of_q, of_k = labels["a"]
        assert selections["pick"].shape == (2, 8)
        assert (of_q == of_k[-len_q:]).all() and (len_q, len_k) == (5, 60)
        return of_q[:, None] == of_k

    mask = case.mask(masks, given)
    assert mask.shape == (2, 2, 5, 60) and not np.array_equal(mask[0], mask[1])


def test_lengths() -> None:
    assert runtime.default_lengths((64, 64)) == [1, 63, 64, 65, 100, 160, 320, 597]
    assert runtime.default_lengths((128, 16)) == [1, 15, 16, 17, 100, 127, 128, 129, 320, 640, 1194]
    assert runtime.default_lengths((4096, 4096)) == [1, 100]
    assert runtime.default_lengths((1, 1)) == [1, 2, 5, 9, 100]


def test_heads_are_enough_for_every_branch() -> None:
    def heads(spec: str) -> tuple[int, int]:
        found = compiler.resolve(Source("<test>", spec))
        return told_apart(found.pattern), compiler.heads(found)

    assert heads("causal") == (0, 4)
    assert heads("last(head + 1)") == (0, 4)
    assert heads("heads { 0 -> causal; 1 -> last(1) }") == (2, 2)
    assert heads("heads { 0:6 -> causal; 6: -> last(1) } & window(3)") == (7, 7)
    assert heads("heads { 0: -> causal }") == (1, 4)
    assert heads("heads { 0:99 -> causal }") == (99, 16)


# ---- wrong kernels -------------------------------------------------------------------------------

Fault = Callable[[tuple[torch.Tensor, ...], torch.Tensor, torch.Tensor], None]


def fault(where: str, spoil: Fault) -> Callable[[pytest.MonkeyPatch], None]:
    """A torch target whose forward or backward pass is wrong by spoil(results, q, k)."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        right = getattr(TorchTarget, where)

        def wrong(self: TorchTarget, *given: Any) -> Any:
            found = right(self, *given)
            spoil(found, *(given[:2] if where == "forward" else given[2:4]))
            return found

        monkeypatch.setattr(TorchTarget, where, wrong)

    return patch


def a_block_is_off(found: Any, q: torch.Tensor, k: torch.Tensor) -> None:
    found[0][:, :, 16:32] *= 1.001


def a_gradient_is_off(found: Any, q: torch.Tensor, k: torch.Tensor) -> None:
    found[1].mul_(1.01)


def a_query_has_no_gradient(found: Any, q: torch.Tensor, k: torch.Tensor) -> None:
    found[0][:, :, -1] = 0


def nan_in_bf16(found: Any, q: torch.Tensor, k: torch.Tensor) -> None:
    if q.dtype == torch.bfloat16 and q.shape[2] == 17:
        found[0][0, 0, 0, 0] = torch.nan


def infinite(found: Any, q: torch.Tensor, k: torch.Tensor) -> None:
    found[2][..., 0] = torch.inf


def lse_of_one_head(found: Any, q: torch.Tensor, k: torch.Tensor) -> None:
    found[1][:, 1] += 0.01


def grouped_heads_swapped(found: Any, q: torch.Tensor, k: torch.Tensor) -> None:
    if k.shape[1] == 2:
        found[2].copy_(found[2].flip(1))


FAULTS = {
    "out": fault("forward", a_block_is_off),
    "dk": fault("backward", a_gradient_is_off),
    "dq": fault("backward", a_query_has_no_gradient),
    "lse": fault("forward", lse_of_one_head),
    "dv": fault("backward", grouped_heads_swapped),
}


@pytest.mark.parametrize("part", FAULTS)
def test_a_wrong_result_is_named(run: Run, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    FAULTS[part](monkeypatch)
    done = run("a.bsl:near", "--head-dim", "8", "--dtype", "fp32")
    assert done.status == 1
    first, last = done.err.splitlines()
    assert first.startswith(f"error: torch on cpu, fp32: {part} is off by ")
    assert " token" in first and "; the bound is " in first
    assert "please report it" in last
    assert "good" not in done.out and "!" in done.out


def test_nan_is_off(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fault("forward", nan_in_bf16)(monkeypatch)
    done = run("a.bsl:near", "--head-dim", "8", "--json")
    assert done.status == 1
    assert "torch on cpu, bf16: out is off by nan at 17 tokens" in done.err
    rows = {row["dtype"]: row for row in json.loads(done.out)["rows"]}
    assert [dtype for dtype, row in rows.items() if row["failure"]] == ["bf16"]
    assert rows["bf16"]["errors"]["out"]["error"] is None


def test_infinity_is_off(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fault("backward", infinite)(monkeypatch)
    done = run("a.bsl:near", "--head-dim", "8")
    assert done.status == 1 and len(done.err.splitlines()) == 5  # of four dtypes
    assert "dv is off by inf" in done.err


def test_a_key_that_is_left_out(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward agree with one another, on something else than the spec means."""
    right = TorchTarget._mask

    def without(
        self: TorchTarget, part: Any, group: Any, plan: Any, *rest: Any, **more: Any
    ) -> Any:
        mask = right(self, part, group, plan, *rest, **more)
        # The fifth key of block 2, in the one block of the diagonal that visits it.
        if more.get("columns"):
            mask[(group.row == 2).nonzero()[:, 0], :, :, 4] = False
        else:
            mask[:, :, (group.visited == 2).any(0).nonzero()[:, 0], 4] = False
        return mask

    monkeypatch.setattr(TorchTarget, "_mask", without)
    done = run("a.bsl:near", "--head-dim", "8", "--dtype", "fp32")
    assert done.status == 1 and "fp32: out is off by " in done.err


def test_a_key_that_was_not_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pattern is lowered to another than it means: the truth does not come from the graph."""
    from bslang.graph import lower

    right = lower.lower
    other = compiler.resolve(Source("<test>", "last(2)"), block=16).pattern
    monkeypatch.setattr(lower, "lower", lambda pattern, grid: right(other, grid))
    done = run("a.bsl:rows9", "--head-dim", "8", "--dtype", "fp32", "--seq-len", "163")
    assert done.status == 1 and "fp32: " in done.err


def test_a_target_that_breaks_off(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no such kernel\nand more")

    monkeypatch.setattr(TorchTarget, "backward", broken)
    done = run("a.bsl:near", "--head-dim", "8", "--dtype", "fp32")
    assert done.status == 1
    assert "torch on cpu, fp32: RuntimeError at 1 token (" in done.err
    assert "no such kernel" in done.err and "and more" not in done.err
    assert "raised an error" in done.out


def test_the_rule() -> None:
    def errors(*pairs: tuple[float, float], least: float = 0.0) -> Errors:
        return Errors(least, [
            Call(str(n), dict.fromkeys(PARTS, ours), dict.fromkeys(PARTS, plain))
            for n, (ours, plain) in enumerate(pairs)
        ])  # fmt: skip

    assert errors((2.0, 1.0)).off() is None
    assert errors((3.0, 1.0), (1.0, 2.0)).off() is None  # of all calls together
    off = errors((1.0, 1.0), (3.0, 1.0)).off()
    assert off and (off.part, off.what, off.error, off.bound) == ("out", "1", 3.0, 2.0)
    assert errors((0.5, 0.0)).off() and errors((0.5, 0.0), least=0.5).off() is None
    nan = errors((float("nan"), 1.0), (9.0, 1.0)).off()
    assert nan and nan.what == "0"
    assert errors((1e300, 1.0)).off()


# ---- what cannot be verified ---------------------------------------------------------------------


def test_lengths_without_meaning_are_listed(run: Run) -> None:
    done = run("a.bsl:rows9", "--head-dim", "8", "--dtype", "fp32", "--seq-len", "20,159,160")
    assert done.status == 0, done.err
    listed = [line for line in done.out.splitlines() if line.startswith("undefined at ")]
    assert (
        listed == ["undefined at 20 tokens: row 9 of `rows(9)` is out of range for 2 blocks"]
        or listed
    )


def test_no_length_with_meaning(run: Run) -> None:
    done = run("a.bsl:far", "--head-dim", "8", "--dtype", "fp32")
    assert done.status == 1
    assert done.err.startswith("error[E401]: ") and "a.bsl:5" in done.err and not done.out


def test_targets_that_do_not_run_here(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(TorchTarget, "missing", lambda self, device: "is out of order")
    done = run("a.bsl:near")
    assert (done.status, done.out) == (1, "")
    assert done.err == "error: no target runs here: torch on cpu: is out of order\n"


def test_others_are_verified_all_the_same(resolved: Callable[[str], Any]) -> None:
    found = api.verify(
        resolved("near"), ["torch", "triton"], devices=["cpu"], lengths=[20], head_dims=(8,),
        dtypes=["fp32", "fp64"],
    )  # fmt: skip
    assert {row.target for row in found.rows} == {"torch"}
    assert set(found.not_run) == {"triton on cpu"} and found.not_run["triton on cpu"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--dtype", "fp8"), 1, "no dtype 'fp8'; there are fp32, bf16, fp16, fp64"),
        (("--device", "tpu"), 1, "no device 'tpu' here"),
        (("--device", "cuda:77"), 1, "no device 'cuda:77' here"),
        (("--head-dim", "0"), 2, "is not a list of numbers"),
        (("--head-dim", "x"), 2, "is not a list of numbers"),
        (("--head-dim", "64/"), 2, "or of pairs of them (of keys and of values)"),
        (("--head-dim", "8/0"), 2, "is not a list of numbers"),
        (("--head-dim", "8/8/8"), 2, "is not a list of numbers"),
        (("--seq-len", "0"), 2, "is not a list of numbers"),
        (("--seq-len", "100000"), 3, "MAX_DENSE"),
        (("--heads", "0"), 2, "--heads"),
        (("-D", "w=3"), 1, "`near` has no parameter `w`"),
    ],
)
def test_bad_input(run: Run, arguments: tuple[str, ...], status: int, message: str) -> None:
    done = run("a.bsl:near", *arguments)
    assert done.status == status and message in done.err and "Traceback" not in done.err


def test_targets_and_lengths_that_are_none(
    run: Run, resolved: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = run("a.bsl:near", target="tritn")
    assert done.status == 1 and "did you mean 'triton'?" in done.err
    monkeypatch.setattr(TorchTarget, "dtypes", (torch.float32,))
    with pytest.raises(TargetError, match="no target runs here: torch in fp64: takes fp32"):
        api.verify(resolved("near"), ["torch"], dtypes=["fp64"])
    with pytest.raises(LimitError, match="MAX_DENSE"):
        api.verify(resolved("near"), ["torch"], lengths=[2**20])

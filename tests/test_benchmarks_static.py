"""The benchmark of machine code: one kernel's line, and that worse figures are not called reached."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # benchmarks/ is not installed
from benchmarks import markdown, static, static_kernels
from benchmarks.flex import FLEX, flex, per_scores
from benchmarks.static_goals import INSTRUCTIONS, Verdict, taken, verdicts
from benchmarks.static_kernels import ARCHITECTURES, LAYOUTS, Kernel, Run
from benchmarks.workers import TaskError
from benchmarks.workloads import BIGBIRD
from bslang.gpu.machine.report import Fault, Loop, Report

WANTED = flex("forward", "cuda:90", 64, (128, 64))
assert WANTED is not None

LOOP = Loop(1, "", WANTED.instructions, 8, 34, 4, 0, 0, ("HGMMA.64x64x16.F32.BF16",))
REPORT = Report(
    kernel="forward",
    backend="portable",
    architecture="cuda:90",
    head_dim=64,
    value_dim=64,
    dtype="bf16",
    faults=(),
    constants={"TILE_Q": 128, "TILE_K": 64},
    warps=WANTED.warps,
    asked=WANTED.warps,
    stages=3,
    registers=168,
    stack=0,
    local=0,
    shared=65_536,
    columns=0,
    programs=1,
    most_warps=64,
    limit="registers",
    loops=(LOOP,),
)


def kernel(loop: Loop = LOOP, block: int = 64, **changes: object) -> Kernel:
    made = replace(REPORT, loops=(loop,), **changes)  # type: ignore[arg-type]
    return Kernel("BigBird", block, made, (loop,))


def missed(*kernels: Kernel) -> set[str]:
    """What these kernels do not reach, of the goals that speak of them."""
    return {each.text for each in verdicts(Run(list(kernels))) if each.of and not each.holds}


FLEX_FORWARD = "sm_90, forward: instructions for 64x64 scores relative to FlexAttention's"
SPILLS = "sm_90: loads and stores of spilled registers in inner loops"
WHOLE = "compiled, complete and within the limits of the device"


def test_as_good_is_reached_and_worse_is_not() -> None:
    assert missed(kernel()) == set()
    assert missed(kernel(replace(LOOP, instructions=LOOP.instructions + 1))) == {FLEX_FORWARD}
    # Half the instructions in each of twice the warps are as many.
    twice = {"warps": 2 * REPORT.warps, "asked": 2 * REPORT.warps}
    short = replace(LOOP, instructions=LOOP.instructions // 2)
    assert missed(kernel(short, **twice)) == set()
    short = replace(LOOP, instructions=LOOP.instructions * 6 // 10)
    assert missed(kernel(short, **twice)) == {FLEX_FORWARD}
    assert missed(kernel(replace(LOOP, local=1))) == {SPILLS}
    assert missed(kernel(replace(LOOP, copies=0))) == {
        "NVIDIA: asynchronous copies in the loops over full blocks"
    }
    mixed = replace(LOOP, products=(*LOOP.products, "HMMA.16816.F32.BF16"))
    assert missed(kernel(mixed)) == {"sm_90: every product of a full block by wgmma"}
    assert missed(kernel(faults=(Fault("exponentials", "none"),))) == {WHOLE}
    assert missed(kernel(faults=(Fault("spills", "some"),))) == set()  # counted in loops


@pytest.mark.parametrize("goal", INSTRUCTIONS, ids=lambda x: f"{x.architecture}-{x.kernel}")
def test_instructions_for_scores(goal: Any) -> None:
    """Whatever the back end that computes the pass, in blocks of 128 tokens."""

    def found(instructions: int, kernel_: str = goal.kernel, block: int = 128) -> Verdict:
        made = kernel(
            replace(LOOP, instructions=instructions),
            block,
            kernel=kernel_,
            architecture=goal.architecture,
            head_dim=goal.head_dim,
            constants={"TILE_Q": 64, "TILE_K": 64},
            warps=1,
            asked=1,
        )
        each = zip(INSTRUCTIONS, verdicts(Run([made])), strict=False)
        (verdict,) = (verdict for one, verdict in each if one == goal)
        return verdict

    assert found(goal.most).holds
    worse = found(goal.most + 1, f"{goal.kernel}_hopper")
    assert (worse.holds, worse.of, worse.worst) == (False, 1, str(goal.most + 1))
    special = [kernel(kernel=x, block=128) for x in (goal.kernel, f"{goal.kernel}_hopper")]
    assert taken(special) == taken(special[::-1]) == special[1:]
    assert found(1, block=64).of == 0 and not found(1, block=64).holds


def test_warps_that_load_stand_for_copies() -> None:
    loads = replace(LOOP, matrix=0)
    parts = replace(REPORT, warps=12, asked=4, loops=(loads, replace(LOOP, copies=0)))
    assert Kernel("BigBird", 64, parts, parts.loops[1:]).copies()
    assert not Kernel("BigBird", 64, replace(parts, warps=4), parts.loops[1:]).copies()
    each = [replace(parts, warps=n).computing for n in (4, 9, 12)]
    assert each == [4, 8, 8]  # those that load have no part in a loop that multiplies
    text = "for i in r:\n    a = gl.where(a)\n    warpgroup_mma(a)\nfor i in r:\n    warpgroup_mma(a)\n"
    assert static_kernels.full_lines(text) == {4}
    text = "def f():\n    g()\ndef g():\n    warpgroup_mma(a)\nfor i in r:\n    f()\n"
    assert static_kernels.full_lines(text) == {5}  # products are made by functions, too


def test_one_bad_kernel_of_many_is_named() -> None:
    good, bad = kernel(), kernel(replace(LOOP, local=104))
    (found,) = (x for x in verdicts(Run([good, bad, good])) if x.text == SPILLS)
    assert (found.reached, found.of, found.worst, found.where) == (2, 3, "104", bad.where)
    assert not found.holds


def test_nothing_measured_is_not_reached() -> None:
    assert not any(each.holds for each in verdicts(Run()))


def test_a_kernel_that_does_not_compile_is_not_passed_over() -> None:
    (found,) = (
        x for x in verdicts(Run([kernel()], ["BigBird, block 64: ptxas fails"])) if x.text == WHOLE
    )
    assert (found.reached, found.of, found.holds) == (1, 2, False)
    assert found.where == "BigBird, block 64: ptxas fails"


def test_figures_are_of_the_same_tile_where_there_is_one() -> None:
    assert WANTED.per_scores == per_scores(527, (128, 64), 4) == 1054
    assert len({(x.kernel, x.architecture, x.head_dim, x.tile) for x in FLEX}) == len(FLEX)
    same = kernel(replace(LOOP, instructions=896), constants={"TILE_Q": 128, "TILE_K": 128})
    assert same.of_flex() == 1
    other = kernel(replace(LOOP, instructions=448), constants={"TILE_Q": 64, "TILE_K": 128})
    assert other.flex is not None and other.flex.tile == (128, 128) and other.of_flex() == 1
    assert kernel(architecture="hip:gfx942").of_flex() is None


def test_loops_over_full_blocks_are_found_in_a_module() -> None:
    text = static_kernels.source("causal", 64)
    rows = text.splitlines()
    lines = static_kernels.full_lines(text)
    assert lines
    for line in lines:
        assert rows[line - 1].lstrip().startswith("for ")
    assert not any(rows[line].lstrip().startswith("left = ") for line in lines)  # those count


def test_kernels_of_several_layouts_are_one_line() -> None:
    more = replace(LOOP, instructions=LOOP.instructions + 100)
    found = [Kernel(each.name, 64, REPORT, (LOOP,)) for each in LAYOUTS[:2]]
    found.append(
        Kernel("BigBird", 64, replace(REPORT, architecture="cuda:80", stack=8), (LOOP, more))
    )
    text = static.as_markdown(Run(found, ["BigBird: ptxas fails"]))
    assert [line for line in text.splitlines() if line.startswith("### ")] == [
        "### sm_90",
        "### sm_80",
    ]
    rows = [line for line in text.splitlines() if line.startswith("| 64 | 64 |")]
    assert rows == [
        "| 64 | 64 | forward | portable | 128x64, 4 | 168 | 1,054 | 1,054 |  | 1054 | 0 | 0 | 65,536 |",
        "| 64 | 64 | forward | portable | 128x64, 4 | 168 | 1,054 to 1,254 |  |  | 1368 | 8 | 0 | 65,536 |",
    ]
    assert {line.count("|") for line in text.splitlines() if "|" in line} == {len(static.HEAD) + 1}
    assert "- BigBird: ptxas fails" in text


def test_one_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    if os.environ.get("TRITON_INTERPRET", "0") != "0":
        pytest.skip("Triton interprets in this process")
    made = static_kernels.read("BigBird", BIGBIRD.spec, 64, "cuda:90", 64, "forward")
    assert isinstance(made, Kernel)
    assert made.full and len(made.full) < len(made.report.loops)
    line = dict(zip(static.HEAD, static.row([made]), strict=True))
    assert line["kernel"] == "forward" and line["/64², dense causal"] == ""
    low = min(round(made.per_scores(loop)) for loop in made.full)
    assert line["/64², BigBird"].startswith(f"{low:,}") and made.copies() and made.by_wgmma()
    of_each = [static_kernels.kernels(BIGBIRD.spec, 64, each) for each in ("cuda:80", "cuda:90")]
    assert set(of_each[0]) == set(static_kernels.PASSES) <= set(of_each[1])


def test_a_run_is_of_every_architecture_and_its_tables_have_a_place(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In threads in the place of processes, and compiled by nobody."""

    def read(*which: Any) -> Kernel:
        name, _, block, architecture, dim, pass_ = which
        if (name, architecture) == ("BigBird", "cuda:120"):
            raise TaskError("its process ended with -11")
        return replace(
            kernel(architecture=architecture, head_dim=dim, kernel=pass_), layout=name, block=block
        )

    class Threads(ThreadPoolExecutor):
        def submit(self, function: Any, *given: Any, timeout: float) -> Any:
            return super().submit(function, *given)

    monkeypatch.setattr(static_kernels, "read", read)
    monkeypatch.setattr(static_kernels, "Workers", Threads)
    monkeypatch.setattr(static_kernels, "kernels", lambda *_: ["forward"])
    found = static_kernels.run()
    assert {each.report.architecture for each in found.kernels} == set(ARCHITECTURES)
    assert len(found.failed) == 4 and "process ended with -11" in found.failed[0]
    assert len(found.kernels) + len(found.failed) == 6 * 3 * 2 * 2
    assert "72/72 sliding window, block 128, forward, dim 128, gfx942" in capsys.readouterr().err
    text, judged = static.as_markdown(found), verdicts(found)
    reached = sum(each.holds for each in judged)
    assert f"{reached} of {len(judged)} goals are reached." in static.goals_as_markdown(judged)
    page = static.PAGE.read_text(encoding="utf-8")
    assert text in markdown.include(text, page, "static") != page
    assert markdown.include("all goals", page, "goals").index("all goals") > page.index("## Times")

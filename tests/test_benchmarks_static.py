"""The benchmark of machine code: one kernel's line, and that worse figures are not called reached."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # benchmarks/ is not installed
from benchmarks import report, static
from benchmarks.flex import FLEX, flex, per_scores
from benchmarks.static import Kernel, Run
from benchmarks.workloads import BIGBIRD
from bslang import compiler
from bslang.dims import Dims
from bslang.gpu import inspect
from bslang.gpu.machine.report import Inspected, Loop, Report
from bslang.runtime.triton.launch import TritonTarget
from bslang.syntax.source import Source

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


def kernel(loop: Loop = LOOP, **changes: object) -> Kernel:
    made = replace(REPORT, loops=(loop,), **changes)  # type: ignore[arg-type]
    return Kernel("BigBird", 64, made, (loop,))


def missed(*kernels: Kernel) -> set[str]:
    """The first words of what these kernels do not reach, of the figures that speak of them."""
    found = static.verdicts(Run(list(kernels), []))
    return {each.text for each in found if each.of and not each.holds}


LOOPS = "forward: instructions of the loop over full blocks relative to FlexAttention's, same tile"
SCORES = {
    "forward: instructions for 64x64 scores relative to FlexAttention's, same tile",
    "forward: the same, any tile",
}
SHORTEST = "forward: the same, same tile, only the shortest loop, which needs no index"


def test_as_good_is_reached_and_worse_is_not() -> None:
    assert missed(kernel(replace(LOOP, instructions=LOOP.instructions - 1))) == set()
    assert missed(kernel()) == {SHORTEST}
    assert missed(kernel(replace(LOOP, instructions=LOOP.instructions + 1))) == {
        LOOPS, SHORTEST, *SCORES,
    }  # fmt: skip
    # Half the instructions in each of twice the warps are as many.
    short = replace(LOOP, instructions=LOOP.instructions * 6 // 10)
    assert missed(kernel(short, warps=2 * REPORT.warps)) == {SHORTEST, *SCORES}
    less = replace(LOOP, instructions=1)
    assert missed(kernel(less, stack=8)) == {"no spills: bytes of stack"}
    assert missed(kernel(replace(less, local=1))) == {
        "loads and stores of spilled registers in inner loops"
    }
    assert missed(kernel(replace(less, copies=0))) == {
        "asynchronous copies in the loops over full blocks"
    }
    mixed = replace(less, products=(*LOOP.products, "HMMA.16816.F32.BF16"))
    assert missed(kernel(mixed)) == {"sm_90: every product of a full block by wgmma"}


def test_one_bad_kernel_of_many_is_named() -> None:
    good, bad = kernel(replace(LOOP, instructions=1)), kernel(stack=104)
    (found,) = (x for x in static.verdicts(Run([good, bad, good], [])) if "no spills" in x.text)
    assert (found.reached, found.of, found.worst, found.where) == (2, 3, "104", bad.where)
    assert not found.holds


def test_nothing_measured_is_not_reached() -> None:
    assert not any(each.holds for each in static.verdicts(Run([], [])))


def test_a_layout_that_does_not_compile_is_not_passed_over() -> None:
    found = static.verdicts(Run([kernel()], ["BigBird, block 64, dim 64, sm_90: ptxas fails"]))
    assert (found[-1].reached, found[-1].of, found[-1].holds) == (1, 2, False)


def test_figures_are_of_the_same_tile_where_there_is_one() -> None:
    assert WANTED.per_scores == per_scores(527, (128, 64), 4) == 1054
    assert len({(x.kernel, x.architecture, x.head_dim, x.tile) for x in FLEX}) == len(FLEX)
    same = kernel(replace(LOOP, instructions=896), constants={"TILE_Q": 128, "TILE_K": 128})
    assert same.of_flex_loop() == same.of_flex_scores() == 1
    other = kernel(replace(LOOP, instructions=448), constants={"TILE_Q": 64, "TILE_K": 128})
    assert other.flex is not None and other.flex.tile == (128, 128)
    assert other.of_flex_loop() is None and other.of_flex_scores() == 1
    assert "" in static.row(other) and "yes (1.00)" in static.row(other)


def test_loops_over_full_blocks_are_found_in_a_module() -> None:
    resolved = compiler.resolve(Source("spec.bsl", "causal"), block=64)
    text = static.source(resolved)
    rows = text.splitlines()
    lines = static.full_lines(text)
    assert lines
    for line in lines:
        assert rows[line - 1].lstrip().startswith("for ")
    assert not any(rows[line].lstrip().startswith("left = ") for line in lines)  # those count


def test_one_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    if os.environ.get("TRITON_INTERPRET", "0") != "0":
        pytest.skip("Triton interprets in this process")

    def one(target: TritonTarget, architecture: str, dim: int, dtype: str) -> list[Inspected]:
        return [inspect.inspect_kernel(target, "forward", architecture, Dims.of(dim), dtype)]

    monkeypatch.setattr(inspect, "inspect", one)
    found = static.run([BIGBIRD], [64], ["cuda:90"], [64])
    assert not found.failed
    (made,) = found.kernels
    assert made.full and len(made.full) < len(made.report.loops)
    line = dict(zip(static.HEAD[:14], static.row(made)[:14], strict=True))
    assert len(static.row(made)) == len(static.HEAD)
    assert line["kernel"] == "forward" and line["sm"] == "sm_90"
    low = min(loop.instructions for loop in made.full)
    assert line["loop"].startswith(str(low)) and int(line["copies"]) > 0
    text = static.as_markdown(found)
    assert f"| {line['tile, warps']} |" in text
    judged = static.verdicts(found)
    reached = sum(each.holds for each in judged)
    assert f"{reached} of {len(judged)} goals are reached." in static.goals_as_markdown(judged)
    page = static.PAGE.read_text(encoding="utf-8")
    assert report.include("new", page, "static") != page != report.include("other", page)
    assert report.include("all goals", page, "goals").index("all goals") > page.index("## Times")

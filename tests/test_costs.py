"""Below which length dense attention is faster: by made-up times, and by those that are shipped."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bslang import compiler
from bslang.analysis import costs
from bslang.analysis.costs import Costs, Crossover, crossovers
from bslang.analysis.stats import Counts
from bslang.cli.stats import stats
from bslang.graph.blockgraph import BlockGraph
from bslang.syntax.source import Source

LENGTHS = (64, 128, 256, 512, 1024)
COSTS = Costs(
    device="a machine", target="cpu", dtype="fp32", phase="forward", heads=4, dim=64,
    call=64**2 / 2, full=1.0, partial=2.0,
    dense={length: float(length**2) for length in LENGTHS},
    dense_causal={length: length**2 / 2 for length in LENGTHS},
)  # fmt: skip
"""A pair of a full block costs 1, and so does one of dense attention; a call as much as half a block."""


def lowered(spec: str, block: int = 64) -> Callable[[int], BlockGraph]:
    resolved = compiler.resolve(Source("<test>", spec), block=block)
    return lambda length: compiler.lower(resolved, length, length)


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "known", lambda: (COSTS,))


def crossed(
    graph: BlockGraph,
    lower: Callable[[int], BlockGraph],
    dim: int,
    causal: bool,
    dtype: str = "fp32",
) -> list[Crossover]:
    counts = Counts.of(graph)
    return crossovers(graph.grid, (counts.full, counts.partial), lower, dim, causal, dtype)


def below(spec: str, length: int = 2048, block: int = 64, causal: bool = False) -> Crossover:
    lower = lowered(spec, block)
    (found,) = crossed(lower(length), lower, 64, causal)
    return found


@pytest.mark.usefixtures("made_up")
def test_the_crossing_is_the_first_length_from_which_on_the_layout_is_faster() -> None:
    # A block a row and a call: n + 1/2 blocks against n * n.
    assert below("window(1)") == Crossover(
        128, 64, 2048, False, "forward", 4, 64, "fp32", "cpu", "a machine"
    )  # fmt: skip
    # Against causal dense attention, n * n / 2: of two blocks per row, 2.5 against 2.
    assert below("window(1)", causal=True).below == 256
    # Partial blocks cost twice as much: 2n + 1/2 against n * n.
    assert below("last(1t)").below == 256
    # All blocks and a call are never less than all blocks.
    assert below("all").below is None
    assert below("all", 100).last == 1024


@pytest.mark.usefixtures("made_up")
def test_a_layout_that_is_faster_at_once_is_slower_nowhere() -> None:
    found = below("none")
    assert (found.below, found.first) == (64, 64)  # a call costs less than a block
    assert (below("none", block=256).below, below("none", block=256).first) == (256, 256)


@pytest.mark.usefixtures("made_up")
def test_what_was_not_measured_is_not_answered() -> None:
    lower = lowered("window(1)")
    assert crossed(lower(256), lower, 65, False) == []
    assert crossed(lower(256), lower, 64, False, "bf16") == []
    small = lowered("window(1)", block=32)
    assert crossed(small(256), small, 64, False) == []


@pytest.mark.usefixtures("made_up")
def test_lengths_where_a_layout_means_nothing_are_left_out() -> None:
    found = below("grid(2, 4, radius=0)", 512)
    assert (found.first, found.last, found.below) == (512, 512, 512)


def test_seconds_between_and_beyond_the_lengths_measured_go_by_the_square() -> None:
    assert COSTS.dense_seconds(128, causal=False) == 128**2
    assert COSTS.dense_seconds(96, causal=True) == 96**2 / 2
    assert COSTS.dense_seconds(4096, causal=False) == 4096**2
    odd = replace(COSTS, dense={64: 5.0, 128: 8.0})
    assert odd.dense_seconds(96, causal=False) == pytest.approx(8.0 * (96 / 128) ** 2)


def test_the_costs_that_are_shipped_are_of_both_phases_and_measured() -> None:
    shipped = costs.known()
    assert {(each.dtype, each.dim, each.phase) for each in shipped} == {
        (dtype, dim, phase)
        for dtype in ("fp32", "bf16")
        for dim in (64, 128)
        for phase in ("forward", "forward and backward")
    }
    assert len({each.device for each in shipped}) == 1
    for each in shipped:
        assert each.device and each.heads > 0 and each.call >= 0
        assert 0 < each.full < each.partial * 2
        assert list(each.dense) == list(each.dense_causal) == sorted(each.dense)
        # An attention that takes no longer for 16 times as many pairs was not measured.
        assert each.dense[max(each.dense)] > each.dense[max(each.dense) // 4]
    full = [each for each in shipped if each.dim == 64]
    assert full[0].full < full[1].full  # a pass backward is not free


@pytest.mark.parametrize(
    ("spec", "dim", "said"),
    [
        ("window(1)", 64, "below about 128 tokens forward and with backward (measured on "),
        ("all", 64, "at every length up to 2,048 tokens forward and with backward (measured on "),
        ("none", 64, "at no length forward and with backward (measured on "),
        ("all", 96, "not measured for heads of 96 in fp32 and blocks of 64 x 64 tokens"),
    ],
)  # fmt: skip
def test_stats_says_it(
    spec: str,
    dim: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    both = replace(COSTS, phase="forward and backward")
    monkeypatch.setattr(costs, "known", lambda: (COSTS, both))
    file = tmp_path / "spec.bsl"
    file.write_text(f"block 64\n{spec}\n", encoding="utf-8")
    stats(str(file), seq_len=2048, dim=dim)
    assert f"\ndense is faster   {said}" in capsys.readouterr().out
    stats(str(file), seq_len=2048, dim=dim, json=True)
    found = json.loads(capsys.readouterr().out)["dense_is_faster"]
    assert [each["phase"] for each in found] == ([COSTS.phase, both.phase] if dim == 64 else [])


def test_phases_that_differ_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    slower = replace(COSTS, phase="forward and backward", call=20.0 * 64**2)
    monkeypatch.setattr(costs, "known", lambda: (COSTS, slower))
    file = tmp_path / "spec.bsl"
    file.write_text("block 64\nwindow(1)\n", encoding="utf-8")
    stats(str(file), seq_len=2048, dim=64)
    said = "below about 128 tokens forward, below about 512 tokens with backward (measured on "
    assert said in capsys.readouterr().out


def test_each_dtype_has_times_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    brain = replace(COSTS, dtype="bf16", call=20.0 * 64**2)
    monkeypatch.setattr(costs, "known", lambda: (COSTS, brain))
    file = tmp_path / "spec.bsl"
    file.write_text("block 64\nwindow(1)\n", encoding="utf-8")
    for dtype, said in (
        ("fp32", "below about 128 tokens forward (measured on a machine, cpu target, 4 heads of 64 in fp32;"),
        ("bf16", "below about 512 tokens forward (measured on a machine, cpu target, 4 heads of 64 in bf16;"),
        ("fp16", "not measured for heads of 64 in fp16 and blocks of 64 x 64 tokens"),
    ):  # fmt: skip
        stats(str(file), seq_len=2048, dim=64, dtype=dtype)
        assert f"\ndense is faster   {said}" in capsys.readouterr().out

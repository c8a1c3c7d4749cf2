"""The benchmark's parts beside the contests: commands, masks, published layouts, and short lengths."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # benchmarks/ is not installed
from benchmarks import (
    commands,
    crossover,
    goals,
    library,
    longformer,
    lowering,
    masks,
    orders,
    selecting,
    workloads,
)
from benchmarks.commands import Line
from benchmarks.contest import OURS, WrongResult, check, contest, ours, result
from benchmarks.machine import MM, Yardstick
from benchmarks.peers import SDPA, TORCH_TARGET, TRITON_TARGET, NotRun
from benchmarks.workloads import BACKWARD, BIGBIRD, BOTH, CAUSAL, DENSE, FORWARD, WINDOW, Workload
from bslang.analysis import costs
from bslang.cli.main import app

TINY = Workload(BIGBIRD, 256, block=16, dim=16, heads=2)


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours is a target that builds nothing."""
    monkeypatch.setitem(workloads.TARGETS, "cpu", "torch")


# ---- peers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", longformer.GLOBAL)
@pytest.mark.parametrize("phase", (FORWARD, BACKWARD, BOTH))
def test_longformer_computes_the_layout_of_its_spec(phase: str, first: int) -> None:
    pytest.importorskip("transformers")
    work = replace(TINY, pattern=longformer.pattern(32, first))
    given = work.inputs()
    found = result(longformer.peer(32).build(work, phase), given, phase)
    before = [x.clone() for x in given.qkv]
    check("it", found, result(ours(work).attend, given, phase), work.dtype)
    assert all(map(torch.equal, before, given.qkv))  # it scales queries in place, but not these
    at = torch.arange(work.length)
    mask = work.pattern.mask
    assert mask is not None and work.attended == 2 * int(mask(at[:, None], at).sum())


def test_longformer_takes_no_other_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotRun, match="has a layout of its own"):
        longformer.HUGGING_FACE.build(TINY, FORWARD)
    monkeypatch.setitem(sys.modules, "transformers", None)
    work = replace(TINY, pattern=longformer.pattern(), length=1024)
    with pytest.raises(NotRun, match="transformers is not installed"):
        longformer.HUGGING_FACE.build(work, FORWARD)


def test_the_other_targets_compute_the_same_layout_or_say_why_not() -> None:
    given = TINY.inputs()
    found = result(TORCH_TARGET.build(TINY, BACKWARD), given, BACKWARD)
    check("torch", found, result(ours(TINY).attend, given, BACKWARD), TINY.dtype)
    with pytest.raises(NotRun, match="runs on GPUs only"):
        TRITON_TARGET.build(TINY, FORWARD)


# ---- commands ------------------------------------------------------------------------------------


def test_every_command_of_the_program_has_a_line() -> None:
    names = {
        command.name or command.callback.__name__.rstrip("_")
        for command in app.registered_commands
        if command.callback
    }
    assert {line.text.split()[0] for line in commands.LINES} == names


def test_a_command_is_run_with_an_empty_cache_and_a_warm_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held: list[bool] = []
    bslang = commands._bslang

    def watched(line: Line, folder: Path) -> float:
        held.append(any((folder / "cache").rglob("*")))
        return bslang(line, folder)

    monkeypatch.setattr(commands, "_bslang", watched)
    found = commands.run(1, [Line("check spec.bsl")])
    assert held == [False, True]
    assert [row.line for row in found] == [*commands.BASELINES, "bslang check spec.bsl"]
    assert found[0].cold is None and all(row.warm for row in found)


def test_a_command_that_fails_is_listed_with_what_it_said() -> None:
    (*_, wrong, differs) = commands.run(
        1, [Line("check no.bsl"), Line("diff spec.bsl:bigbird spec.bsl:streaming", differs=True)]
    )
    assert wrong.warm is None and "exit status 1: error[E001]" in wrong.not_run
    assert differs.warm is not None and not differs.not_run
    assert f"not run: {wrong.not_run}" in commands.as_markdown([wrong])


# ---- masks and lowering --------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", (BIGBIRD, CAUSAL, WINDOW), ids=lambda pattern: pattern.name)
def test_masks_are_held_against_ours(pattern: workloads.Pattern) -> None:
    work = Workload(pattern, 1024, heads=1)
    masks._flex(work, masks.create_block_mask)()

    def other(asked: Any, *arguments: Any, **options: Any) -> Any:
        everything = lambda b, h, q, k: q >= 0  # noqa: E731
        return masks.create_block_mask(everything, *arguments, **options)

    with pytest.raises(NotRun, match="another mask"):
        masks._flex(work, other)


def test_masks_beyond_what_can_be_asked_are_not_made() -> None:
    makers = {masks.FLEX: masks.create_block_mask}
    mine, missed = masks._at(Workload(CAUSAL, 2**17, heads=1), makers, 1)
    assert mine.maker == OURS and mine.seconds and mine.to_ours
    assert missed.not_run == f"asks {2**34:,} pairs"
    text = masks.as_markdown([mine, missed])
    assert "| 131,072 | bslang |" in text and "not run: asks" in text


def test_lowering_says_where_a_limit_is_passed() -> None:
    found = lowering.measure("all", "~window(3)", 4096)
    assert found.runs and found.ms and found.peak_mb is not None
    refused = lowering.measure("many", "{i, j : (i + j) % 2 == 0}", 2**24)
    assert refused.runs is None
    assert "past MAX_RUNS" in lowering.as_markdown([found, refused])


# ---- published layouts ---------------------------------------------------------------------------


@pytest.mark.usefixtures("no_compiler")
def test_every_published_layout_means_something_in_the_shape_that_is_measured() -> None:
    for entry in library.library():
        work = Workload(library.pattern(entry), library.BLOCKS * 64)
        assert work.graph().start.size > 0, entry.name


@pytest.mark.usefixtures("no_compiler")
def test_causal_layouts_are_held_against_causal_dense_attention() -> None:
    names = ("encoder", "decoder", "packed", "natten2d")
    entries = [entry for entry in library.library() if entry.name in names]
    shape = Workload(DENSE, library.BLOCKS * 4, block=4, dim=16, heads=2)
    found = library.run(shape, 1, entries)
    beside = {(row.layout.partition(":")[2], row.phase): row for row in found}
    assert beside["decoder", FORWARD].beside == CAUSAL.name
    assert beside["encoder", BOTH].beside == beside["natten2d", FORWARD].beside == DENSE.name
    whole = beside["decoder", FORWARD]  # all pairs of its dense attention: ideal is the ratio
    assert whole.of_ideal == whole.faster
    image = beside["natten2d", BOTH]
    assert image.faster and image.of_ideal
    assert image.of_ideal.median == pytest.approx(image.density * image.faster.median)
    assert "depends on the call" in beside["packed", FORWARD].not_run
    text = library.as_markdown(found)
    assert text.count("| dense causal |") == 1 and "`std/packed.bsl:packed`: not run" in text


@pytest.mark.usefixtures("no_compiler")
def test_a_layout_that_is_wrong_is_listed_and_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(work: Workload, phase: str) -> None:
        raise WrongResult("refused: dq of bslang is off")

    entries = [entry for entry in library.library() if entry.name in ("encoder", "decoder")]
    right = library.check_ours
    monkeypatch.setattr(
        library,
        "check_ours",
        lambda work, phase: (wrong if "decoder" in work.pattern.name else right)(work, phase),
    )
    shape = Workload(DENSE, library.BLOCKS * 4, block=4, dim=16, heads=1)
    *timed, missed = library.run(shape, 1, entries)
    assert {row.layout for row in timed} == {"std/transformer.bsl:encoder"}
    assert missed.not_run == "refused: dq of bslang is off" and missed.seconds is None


# ---- short lengths -------------------------------------------------------------------------------

CALL, FULL, PARTIAL = 1e-4, 2e-9, 3e-9


def seconds(length: int) -> dict[str, float]:
    """Times that are exactly as Costs says."""
    pairs = length**2
    return {
        DENSE.name: CALL + FULL * pairs,
        crossover.PARTIAL.name: CALL + PARTIAL * pairs,
        "SDPA, dense": 3e-9 * pairs,
        "SDPA, dense causal": 2e-9 * pairs,
    }


def test_costs_are_lines_through_the_shortest_and_the_longest() -> None:
    times = {length: seconds(length) for length in (64, 128, 1024)}
    found = crossover.fit(times, Workload(DENSE, 0), FORWARD, "a machine")
    assert (found.device, found.target, found.phase) == ("a machine", "cpu", FORWARD)
    assert (found.call, found.full, found.partial) == pytest.approx((CALL, FULL, PARTIAL))
    assert found.dense == {length: pytest.approx(3e-9 * length**2) for length in times}
    assert found.dense_causal[128] == pytest.approx(2e-9 * 128**2)


@pytest.mark.usefixtures("no_compiler")
def test_what_is_measured_is_what_stats_reads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "costs.json"
    file.write_text("[]", encoding="utf-8")
    for module in (crossover, costs):
        monkeypatch.setattr(module, "FILE", file)
    costs.known.cache_clear()
    found = crossover.run((64, 128), (16,), Workload(DENSE, 0, heads=2), 1)
    of = [(each.dtype, each.phase) for each in found.costs]
    assert of == [(dtype, phase) for dtype in crossover.MEASURED for phase in (FORWARD, BOTH)]
    rows = len(crossover.PATTERNS) * 2 * 2 * len(crossover.MEASURED)
    assert len(found.expected) == rows
    assert crossover.as_markdown(found).count("\n") == rows + 1
    crossover.write(found)
    costs.known.cache_clear()
    read = costs.known()
    costs.known.cache_clear()
    assert [(each.dtype, each.phase) for each in read] == of
    assert {each.heads for each in read} == {2}
    assert read[0].dense == pytest.approx(found.costs[0].dense, rel=0.01)
    text = file.read_text(encoding="utf-8")
    assert all(len(str(value)) < 10 for value in json.loads(text)[0]["dense"].values())


def test_a_part_that_is_measured_again_leaves_the_rest_of_its_device(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    times = {length: seconds(length) for length in (64, 128, 1024)}
    shapes = {"float32": Workload(DENSE, 0), "bfloat16": Workload(DENSE, 0, dtype="bfloat16")}
    old = {dtype: crossover.fit(times, shapes[dtype], FORWARD, "a machine") for dtype in shapes}
    known = [*old.values(), replace(old["float32"], device="another", dim=128)]
    monkeypatch.setattr(crossover, "known", lambda: known)
    monkeypatch.setattr(crossover, "FILE", tmp_path / "costs.json")
    new = replace(old["bfloat16"], call=2.0)
    crossover.write(crossover.Crossing([new], []))
    written = json.loads((tmp_path / "costs.json").read_text(encoding="utf-8"))
    kept = [(each["device"], each["dtype"], each["call"]) for each in written]
    assert kept == [("a machine", "fp32", pytest.approx(CALL)), ("a machine", "bf16", 2.0)]


@pytest.mark.usefixtures("no_compiler")
def test_causal_attention_is_held_against_what_dense_causal_attention_does() -> None:
    yards = {MM: Yardstick(lambda: None, 1e6)}
    for pattern, share in ((CAUSAL, 1.0), (BIGBIRD, TINY.density)):
        rows = contest(replace(TINY, pattern=pattern), BOTH, (SDPA,), yards, 1)
        ((value, _),) = goals._of_ideal(SimpleNamespace(contests=rows))  # type: ignore[arg-type]
        (dense,) = [row.measured for row in rows if row.contestant == SDPA.name]
        assert dense and value == pytest.approx(share * dense.to_ours.median)


# ---- selections ----------------------------------------------------------------------------------


class Counted:
    """A watch by which every call takes as long."""

    least, warm_rounds = 0.0, 0

    def __call__(self, call: Any, repeats: int) -> float:
        call()
        return 1.0

    def rest(self) -> None:
        return


def test_selections_are_measured_beside_the_blocks_that_they_list() -> None:
    lines = selecting.measured(640, 2, target="torch", watch=Counted())
    assert len(lines) == len(selecting.PAIRS) * 3 * 2
    assert {line[3] for line in lines} == {"1.00 (1.00 to 1.00)"}


def test_tiles_are_measured_beside_rows() -> None:
    lines = orders.measured((4, 8, 8), 1, (2, 4, 4), 2, target="torch", watch=Counted())
    assert [line[3] for line in lines] == ["", *orders.PASSES]
    assert {line[4] for line in lines[1:]} == {"1.00 (1.00 to 1.00)"}

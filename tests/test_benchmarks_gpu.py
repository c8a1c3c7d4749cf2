"""The benchmark of a GPU, with a processor in its place: what it checks, refuses, times and reports."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # benchmarks/ is not installed
from benchmarks import contest, device, gpu, gpu_run, grid, peers, timing, workloads
from benchmarks.contest import OURS
from benchmarks.device import Events, Processor
from benchmarks.machine import MM, Yardstick
from benchmarks.peers import CUDNN, FLASH, FLEX_TUNED, SDPA, NotRun, Peer, rows_are_safe
from benchmarks.workers import TaskError
from benchmarks.workloads import BACKWARD, BOTH, CAUSAL, FORWARD, WINDOW, Workload

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler

TINY = grid.Grid(
    lengths=(512,), densities=(0.5, 0.25, 0.01), blocks=(16,), dims=(16,), heads=2, device="cpu"
)  # fmt: skip


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ours is a target that builds nothing. What was found right is forgotten, since tests replace what
    computes it."""
    monkeypatch.setitem(workloads.TARGETS, "cpu", "torch")
    yield
    contest.check_ours.cache_clear()


# ---- layouts by density --------------------------------------------------------------------------


@pytest.mark.parametrize("name", grid.LAYOUTS)
@pytest.mark.parametrize("length", (4096, 65_536))
@pytest.mark.parametrize("density", grid.Grid.densities)
def test_layouts_have_the_density_wanted(name: str, length: int, density: float) -> None:
    pattern = grid.LAYOUTS[name](length, 128, density)
    if pattern is None:
        assert density * length / 128 < 10, "no layout of a few blocks per row"
    else:
        found = Workload(pattern, length, 128, heads=1)
        assert found.density == pytest.approx(density, rel=grid.NEAR + 0.03)


def test_the_mask_of_a_window_is_its_spec() -> None:
    pattern = grid.window(256, 16, 0.25)
    assert pattern is not None and pattern.mask is not None
    work = Workload(pattern, 256, 16, heads=1)
    at = torch.arange(256)
    assert int(pattern.mask(at[:, None], at).sum()) == work.attended


def test_a_grid_names_each_contest_once_and_what_it_lacks() -> None:
    contests = grid.Grid().contests()
    keys = [(entry.workload, entry.phase) for entry in contests]
    assert len(set(keys)) == len(keys)
    assert {phase for _, phase in keys} == {FORWARD, BACKWARD, BOTH}
    assert {work.length for work, _ in keys} == set(grid.Grid.lengths)
    assert all(work.dtype == "bfloat16" and work.device == "cuda" for work, _ in keys)
    assert TINY.unreached() == [
        f"{name} of density 0.01 at 512 tokens in blocks of 16" for name in grid.LAYOUTS
    ]
    causal = [work for work, _ in keys if work.pattern == CAUSAL]
    assert len(causal) == 3 * 2 * len(grid.Grid.lengths)  # phases, head dimensions


def test_rows_that_are_safe() -> None:
    tiny = Workload(CAUSAL, 256, block=16, dim=16)
    assert rows_are_safe(tiny)
    assert rows_are_safe(replace(tiny, pattern=workloads.BIGBIRD))
    # The last query of a block row sees nothing of the block at the window's far edge.
    edge = replace(WINDOW, spec="last(32t)", mask=lambda q, k: (q >= k) & (q - k < 32))
    assert not rows_are_safe(replace(tiny, pattern=edge))
    assert not rows_are_safe(replace(tiny, pattern=workloads.Pattern("one row", "rows(0)")))


def test_flex_is_tuned_as_far_as_the_layout_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, bool | int]] = []
    monkeypatch.setattr(peers, "_flex", lambda workload, phase, options: given.append(options))
    FLEX_TUNED.build(Workload(CAUSAL, 256, block=128), FORWARD)
    FLEX_TUNED.build(Workload(WINDOW, 1024, block=64), FORWARD)
    assert given == [
        {"PRESCALE_QK": True, "ROWS_GUARANTEED_SAFE": True},
        {"PRESCALE_QK": True, "ROWS_GUARANTEED_SAFE": False, "fwd_BLOCK_M": 64, "fwd_BLOCK_N": 64},
    ]


# ---- timing --------------------------------------------------------------------------------------


class FakeCuda:
    """A device with a clock of its own: it works off what is queued when it is waited for."""

    def __init__(self) -> None:
        self.now, self.queue = 0.0, []

    def synchronize(self) -> None:
        for work in self.queue:
            work()
        self.queue.clear()

    def takes(self, milliseconds: float) -> timing.Call:
        def work() -> None:
            self.now += milliseconds

        return lambda: self.queue.append(work)

    def zero_(self) -> None:
        """The buffer's: a long write."""
        self.takes(1000.0)()

    def Event(self, enable_timing: bool) -> Any:  # torch's name
        assert enable_timing
        return FakeEvent(self)


class FakeEvent:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda, self.at = cuda, None

    def record(self) -> None:
        def note() -> None:
            self.at = self.cuda.now

        self.cuda.queue.append(note)

    def elapsed_time(self, end: FakeEvent) -> float:
        assert self.at is not None and end.at is not None, "read before it was waited for"
        return end.at - self.at


def test_events_time_the_queued_work_alone() -> None:
    cuda = FakeCuda()
    watch = Events(cuda, cuda)
    assert watch(cuda.takes(3.0), 4) == pytest.approx(0.003)
    times = timing.alternate({"a": cuda.takes(3.0), "b": cuda.takes(50.0)}, 2, watch)
    assert times["a"] == pytest.approx((0.003, 0.003))  # the round that warms up is left out
    assert times["b"] == pytest.approx((0.05, 0.05))


# ---- results -------------------------------------------------------------------------------------


def test_the_ideal_is_of_the_fastest_dense_attention_of_each_round() -> None:
    pattern = grid.window(256, 16, 0.25)
    assert pattern is not None
    work = Workload(pattern, 256, block=16, dim=16, heads=2)
    dense = [
        contest.Contestant(name, SDPA.computes(work), lambda q, k, v: q, dense=True)
        for name in ("flash", "other")
    ]
    entered = [contest.ours(work), *dense]
    times = {OURS: (1.0, 2.0), "flash": (4.0, 8.0), "other": (6.0, 4.0), MM: (1.0, 1.0)}
    ideal = contest.ideal_times(times, entered)
    assert ideal == pytest.approx((4 * work.density, 4 * work.density))
    yards = {MM: Yardstick(lambda: None, 1e6)}
    mine, flash, _ = (
        contest.figures_of(times, one, OURS, FORWARD, yards, ideal) for one in entered
    )
    assert mine.of_ideal and flash.of_ideal and mine.of_peak is None
    assert mine.of_ideal.median == pytest.approx(work.density * (4 / 1 + 4 / 2) / 2)
    assert flash.of_ideal.median == pytest.approx(work.density * (4 / 4 + 4 / 8) / 2)
    assert contest.ideal_times(times, entered[:1]) is None


def test_small_values_are_held_to_their_own_size() -> None:
    truth = torch.ones(1, 1, 1024, 8)
    truth[:, :, 512:] = 0.01
    found = truth.clone()
    found[:, :, 1000:] = 0
    with pytest.raises(NotRun, match="out of it is off by 1"):
        contest.check("it", (found,), (truth,), "bfloat16")
    contest.check("it", (truth,), (truth,), "bfloat16")


def hungry(workload: Workload, phase: str) -> contest.Attend:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 64.00 GiB. GPU 0 has")


def wrong(workload: Workload, phase: str) -> contest.Attend:
    return lambda q, k, v: 1.2 * SDPA.build(workload, phase)(q, k, v)


def test_a_peer_that_does_not_fit_or_is_wrong_is_not_timed() -> None:
    entered = (SDPA, Peer("hungry", hungry), Peer("wrong", wrong, dense=True))
    small = replace(TINY, densities=(0.25,), phases=(BOTH,), peers=entered)
    found = gpu_run.run(small, Processor(), 1, lambda _: None)
    why = {row.contestant: row.not_run for row in found.contests}
    assert why["hungry"] == "out of memory"
    assert why["wrong"].startswith("refused: out of wrong is off by")
    assert why[OURS] == why[SDPA.name] == ""


def test_peers_that_fit_alone_but_not_together_leave_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = contest.alternate

    def full(calls: dict[str, timing.Call], *rest: Any) -> timing.Times:
        if SDPA.name in calls:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(calls, *rest)

    monkeypatch.setattr(contest, "alternate", full)
    (work, *_) = TINY.workloads()
    yards = {MM: Yardstick(lambda: None, 1e6)}
    mine, peer = contest.contest(work, FORWARD, (SDPA,), yards, 1)
    assert mine.measured and not peer.measured
    assert peer.not_run == "out of memory beside the other contestants"


def test_ours_that_does_not_fit_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(work: Workload, phase: str) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(contest, "check_ours", full)
    monkeypatch.setattr(contest.check_ours, "cache_clear", lambda: None, raising=False)
    found = gpu_run.run(replace(TINY, phases=(FORWARD,)), Processor(), 1, lambda _: None)
    assert found.checked == 0
    assert {(row.contestant, row.not_run) for row in found.contests} == {(OURS, "out of memory")}


def off_by_a_block(workload: Workload, name: str = OURS) -> contest.Contestant:
    """Ours, with one block of keys too few for the last queries."""

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        short = v.clone()
        short[:, :, -2 * workload.block : -workload.block] = 0
        out = workload.layout()(q, k, short)
        assert isinstance(out, torch.Tensor)
        return out

    return contest.Contestant(name, workload, attend)


def broken(workload: Workload, name: str = OURS) -> contest.Contestant:
    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        raise KeyError("out of resource: shared memory")

    return contest.Contestant(name, workload, attend)


@pytest.mark.parametrize(
    ("made", "message"), ((off_by_a_block, "refused: out"), (broken, "out of resource"))
)
def test_a_wrong_result_is_a_row_and_not_timed(
    made: Any, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And the contests after it are."""
    whole = contest.ours

    def one(workload: Workload, name: str = OURS) -> contest.Contestant:
        return (made if workload.pattern == CAUSAL else whole)(workload, name)

    monkeypatch.setattr(contest, "ours", one)
    monkeypatch.setattr(grid, "Grid", lambda: replace(TINY, peers=(), phases=(FORWARD,)))
    kept = tmp_path / "results"
    command(monkeypatch, *SMALL, "--densities", "0.5", "0.25", "--output", str(kept))
    rows = json.loads((kept / "gpu.json").read_text(encoding="utf-8"))["contests"]
    bad = [row for row in rows if row["layout"] == CAUSAL.name]
    assert len(bad) == 1 and all(row["contestant"] == OURS for row in bad)
    assert all(message in row["not_run"] and not row["measured"] for row in bad)
    assert rows.index(bad[0]) < len(rows) - 1
    assert all(row["measured"] for row in rows if row["layout"] != CAUSAL.name)
    assert message in (kept / "gpu.md").read_text(encoding="utf-8")


def test_flex_is_compiled_once_for_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """In processes; one that fails, or is late, is left out of its contests."""
    asked: list[tuple[list[int], str]] = []

    class Pool:
        def submit(self, function: Any, *given: Any, timeout: float) -> Future[None]:
            fields, numbers, peer = pickle.loads(pickle.dumps(given))
            asked.append((numbers, peer))
            contests = grid.Grid(**fields).contests()
            assert {contests[n].phase for n in numbers} == {FORWARD, BACKWARD, BOTH}
            assert len({contests[n].workload for n in numbers}) == 1
            made: Future[None] = Future()
            if numbers[0] == 0:
                made.set_exception(TaskError("its process ended with -11"))
            elif numbers[0] == 3:
                made.set_result(None)
            return made

    small = replace(TINY, device="cuda")
    contests = small.contests()
    found = gpu_run.compiling(small, contests, Pool())  # type: ignore[arg-type]
    assert len(asked) == 2 * len(small.workloads())
    said = [found.why_not(number, FLEX_TUNED) for number in (0, 2, 3, 6)]
    assert said == [*["its process ended with -11"] * 2, "", "it was not compiled in time"]
    assert found.why_not(0, FLASH) == ""  # nothing to compile
    assert gpu_run.compiling(TINY, contests, Pool()).made == {}  # type: ignore[arg-type]
    flexes = gpu_run.Flexes(found.made)
    yards = {MM: Yardstick(lambda: None, 1e6)}
    entry = replace(TINY.contests()[0], peers=(FLEX_TUNED,))
    mine, tuned = gpu_run._rows(0, entry, yards, 1, Processor(), flexes)
    assert mine.measured and tuned.not_run == "its process ended with -11"


# ---- the whole -----------------------------------------------------------------------------------

SMALL = ("--device", "cpu", "--lengths", "512", "--blocks", "16", "--dims", "16", "--heads", "2",
         "--rounds", "1")  # fmt: skip


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", *arguments])
    gpu.main()


def test_a_run_and_its_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # FlexAttention would be compiled anew for each; it has a test of its own.
    monkeypatch.setattr(grid, "Grid", lambda: replace(TINY, peers=(FLASH, CUDNN)))
    densities = ("--densities", "0.5", "0.25", "0.01")
    command(monkeypatch, *SMALL, *densities, "--output", str(tmp_path / "results"))
    page = capsys.readouterr().out
    data = json.loads((tmp_path / "results" / "gpu.json").read_text(encoding="utf-8"))
    assert page.strip() == (tmp_path / "results" / "gpu.md").read_text(encoding="utf-8").strip()
    assert {"device", "triton", "torch", "commit", "clocks at the end"} <= set(data["machine"])
    assert data["checked"] == 4 * 3  # layouts, phases
    assert data["unreached"] == TINY.unreached()

    rows = data["contests"]
    mine = [row for row in rows if row["contestant"] == OURS]
    assert len(mine) == 4 * 3 and all(row["measured"] for row in mine)
    flash = [row for row in rows if row["contestant"] == FLASH.name]
    assert all(row["measured"] or row["not_run"] for row in flash)
    dense = {
        (row["layout"], row["phase"])
        for row in rows
        if row["measured"] and row["contestant"] == FLASH.name
    }
    for row in mine:
        ideal = row["measured"]["of_ideal"]
        assert (ideal is not None) == ((row["layout"], row["phase"]) in dense)
    for row in rows:
        assert row["dtype"] == "bfloat16" and 0 < row["density"] < 0.6
        assert f"| {row['contestant']} |" in page or f"- {row['contestant']}: not run" in page
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert len({line.count(" | ") for line in lines}) == 1
    assert f"- {TINY.unreached()[0]}" in page
    for phase in (FORWARD, BACKWARD, BOTH):
        assert f"## {phase.capitalize()}\n" in page


def test_without_a_gpu_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stop:
        command(monkeypatch)
    assert stop.value.code == 2
    assert capsys.readouterr().err == (
        "error: no CUDA device here; `--device cpu` tries the program out\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    (
        (("--device", "cpu", "--docs"), "--docs takes the figures of a GPU only"),
        (("--device", "cpu", "--lengths", "100"), "--lengths must be multiples of --blocks"),
        (("--densities", "0"), "must be above 0 and at most 1, not 0"),
        (("--rounds", "0"), "must be at least 1, not 0"),
    ),
)
def test_mistakes_on_the_command_line(
    arguments: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stop:
        command(monkeypatch, *arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    class About:
        name, major, minor, multi_processor_count = "NVIDIA Example", 9, 0, 132
        total_memory, L2_cache_size, uuid = 80 * 10**9, 50 * 10**6, "1234"

    asked = []

    def smi(line: list[str]) -> str:
        asked.append(line)
        return "1755 MHz, 1980 MHz, 2619 MHz, 61" if "clocks" in line[-2] else "570.1"

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: About)
    monkeypatch.setattr(device, "first_line", smi)
    found = device.Cuda.__new__(device.Cuda).describe()  # there is no memory to take
    assert found["clocks at the start"] == "SM 1755 MHz of 1980 MHz, memory 2619 MHz, 61 C"
    assert (found["device"], found["driver"], found["l2_mb"]) == ("NVIDIA Example", "570.1", 50.0)
    assert all(line[:3] == ["nvidia-smi", "-i", "GPU-1234"] for line in asked)

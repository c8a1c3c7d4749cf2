"""The benchmark program on tiny shapes: what it reports, that it times no wrong result, and its sums."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # benchmarks/ is not installed
from benchmarks import (
    bigbird,
    commands,
    contest,
    crossover,
    decoding,
    figures,
    goals,
    longformer,
    lowering,
    machine,
    markdown,
    masks,
    probe,
    report,
    suites,
    timing,
    workloads,
)
from benchmarks.contest import OURS, Row, check_ours, measure, ours, result
from benchmarks.machine import MM, PEAK, Yardstick, yardsticks
from benchmarks.peers import FLEX, GATHER, MASKED_SDPA, SDPA, TORCH_TARGET, NotRun, Peer
from benchmarks.workloads import (
    BACKWARD,
    BIGBIRD,
    BOTH,
    CAUSAL,
    DENSE,
    FORWARD,
    WINDOW,
    Workload,
)

TINY = Workload(BIGBIRD, 256, block=16, dim=16, heads=2)
# The window of 512 tokens would be causal here.
SHORT_WINDOW = replace(WINDOW, spec="last(40t)", mask=lambda q, k: (q >= k) & (q - k < 40))
PATTERNS = (BIGBIRD, SHORT_WINDOW, CAUSAL)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler


class Clock:
    """Time that passes only when something says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def takes(self, *seconds: float) -> timing.Call:
        """A call that takes these times in turn, and then the last one for ever."""
        left = list(seconds)

        def call() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return call

    def sleep(self, seconds: float) -> None:
        self.now += seconds


# ---- timing --------------------------------------------------------------------------------------


def test_times_are_of_one_call_and_leave_out_warming_up_and_pauses() -> None:
    clock = Clock()
    calls = {"long": clock.takes(9.0, 2.0, 4.0), "short": clock.takes(7.0, 0.01)}
    times = timing.alternate(calls, 3, timing.Clock(clock, clock.sleep))
    assert times["long"] == pytest.approx((2.0, 4.0, 4.0))
    assert times["short"] == pytest.approx((0.01, 0.01, 0.01))


def test_short_calls_are_repeated_and_each_round_begins_with_another() -> None:
    clock, order = Clock(), []

    def logged(name: str, call: timing.Call) -> timing.Call:
        return lambda: (order.append(name), call())

    calls = {name: logged(name, clock.takes(s)) for name, s in (("a", 1.5), ("b", 0.02))}
    timing.alternate(calls, 2, timing.Clock(clock, clock.sleep))
    warm = 1 + 2  # a is long, and the second call of b no faster than the first
    assert order[:warm] == ["a", "b", "b"]
    assert order[warm:] == ["a", "b", "b", "b", "b", "b", "b", "a"]


def test_calls_are_warmed_up_until_they_are_as_fast_as_they_get() -> None:
    clock = Clock()
    times = timing.alternate(
        {"slow to start": clock.takes(0.9, 0.7, 0.5, 0.49, 0.2)},
        1,
        timing.Clock(clock, clock.sleep),
    )
    assert times["slow to start"] == pytest.approx((0.2,))


def test_ratios_are_of_rounds_and_not_of_medians() -> None:
    times = {"a": (1.0, 2.0, 9.0), "b": (2.0, 2.0, 2.0)}
    assert timing.ratio(times, "a", "b") == timing.Spread(1.0, 0.75, 2.75)
    # Half of the work in the same time: half of the rate.
    assert timing.rate_ratio(times, "b", 1.0, "a", 2.0) == timing.Spread(0.5, 0.375, 1.375)


def test_a_spread_of_one_value() -> None:
    assert timing.Spread.of([3.0]) == timing.Spread(3.0, 3.0, 3.0)


# ---- workloads -----------------------------------------------------------------------------------


def test_work_is_counted_over_visited_blocks_of_all_heads() -> None:
    work = Workload(CAUSAL, 256, block=64, dim=32, heads=3)
    assert work.visited == 3 * 10 * 64 * 64
    assert work.attended == 3 * 256 * 257 // 2
    assert work.density == 10 / 16
    assert work.flops(FORWARD) == 4 * 32 * work.visited
    assert work.flops(BOTH) == work.flops(FORWARD) + work.flops(BACKWARD)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
@pytest.mark.parametrize("phase", (FORWARD, BACKWARD))
def test_ours_and_every_peer_agree(pattern: workloads.Pattern, phase: str) -> None:
    work = replace(TINY, pattern=pattern)
    check_ours(work, phase)
    for peer in (SDPA, MASKED_SDPA, GATHER):
        given = work.inputs()
        found = result(peer.build(work, phase), given, phase)
        expected = result(ours(peer.computes(work)).attend, given, phase)
        contest.check(peer.name, found, expected, work.dtype)


def test_hugging_face_computes_the_pairs_of_its_tables() -> None:
    pytest.importorskip("transformers")
    work = bigbird.workload(256, block=16, dim=16, heads=2)
    for phase in (FORWARD, BACKWARD):
        given = work.inputs()
        expected = result(ours(work).attend, given, phase)
        for peer in (bigbird.HUGGING_FACE, bigbird.HUGGING_FACE_BARE):
            found = result(peer.build(work, phase), given, phase)
            contest.check(peer.name, found, expected, work.dtype)


def test_hugging_face_is_not_run_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(NotRun, match="transformers is not installed"):
        bigbird.workload(256, block=16, dim=16, heads=2)


def test_a_peer_that_would_hold_too_much_is_not_run() -> None:
    with pytest.raises(NotRun, match="would hold about"):
        MASKED_SDPA.build(replace(TINY, length=2**20), FORWARD)


# ---- contests ------------------------------------------------------------------------------------


@pytest.fixture
def yards() -> Iterator[dict[str, Yardstick]]:
    """Yardsticks that take no time worth mentioning."""
    yield {MM: Yardstick(lambda: None, 1e6), PEAK: Yardstick(lambda: None, 2e6)}


def broken(workload: Workload, phase: str) -> contest.Attend:
    raise NotRun("the package is not installed")


def crashing(workload: Workload, phase: str) -> contest.Attend:
    raise RuntimeError("first line\nsecond line")


def wrong(workload: Workload, phase: str) -> contest.Attend:
    return lambda q, k, v: 1.001 * SDPA.build(workload, phase)(q, k, v)


def nan(workload: Workload, phase: str) -> contest.Attend:
    return lambda q, k, v: torch.full_like(q, torch.nan)


def test_a_peer_that_is_missing_fails_or_computes_something_else_is_not_timed(
    yards: dict[str, Yardstick],
) -> None:
    builds = (broken, crashing, wrong, nan)
    peers = [SDPA, *(Peer(build.__name__, build, dense=True) for build in builds)]
    rows = contest.contest(TINY, FORWARD, peers, yards, rounds=1)
    assert [row.contestant for row in rows if row.measured] == [OURS, SDPA.name]
    reasons = {row.contestant: row.not_run for row in rows if not row.measured}
    assert reasons["broken"] == "the package is not installed"
    assert reasons["crashing"] == "first line"
    assert reasons["wrong"].startswith("refused: out of wrong is off by")
    assert reasons["nan"].startswith("refused: out of nan is off by nan")


def test_a_wrong_gradient_is_refused() -> None:
    given = TINY.inputs()
    out, *grads = result(ours(TINY).attend, given, BACKWARD)
    with pytest.raises(NotRun, match="refused: dv of it"):
        contest.check("it", (out, *grads[:2], 2 * grads[2]), (out, *grads), "float32")


def test_ours_is_not_timed_where_it_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def off(workload: Workload) -> contest.Contestant:
        return contest.Contestant(OURS, workload, lambda q, k, v: 2 * v)

    monkeypatch.setattr(contest, "ours", off)
    with pytest.raises(contest.WrongResult, match="BigBird at 128 tokens: refused: out"):
        check_ours(replace(TINY, length=128), FORWARD)


def test_figures_are_ratios_of_rounds(yards: dict[str, Yardstick]) -> None:
    times = {OURS: (1.0, 2.0), "peer": (3.0, 8.0), MM: (1.0, 1.0), PEAK: (1.0, 1.0)}
    peer = contest.Contestant("peer", TINY, lambda q, k, v: q)
    found = contest.figures_of(times, peer, OURS, FORWARD, yards)
    work = TINY.flops(FORWARD)
    assert found.to_ours.median == 3.5
    assert found.gflops == pytest.approx(work / 5.5 / 1e9)
    assert found.of_mm.median == pytest.approx((work / 3 + work / 8) / 2 / 1e6)
    assert found.of_peak.median == pytest.approx(found.of_mm.median / 2)


def test_yardsticks_run() -> None:
    found = yardsticks()
    assert set(found) == {MM, PEAK}
    assert found[MM].flops == 2 * 2048**3
    assert found[PEAK].flops % torch.get_num_threads() == 0
    for yard in found.values():
        yard.call()


# ---- the whole -----------------------------------------------------------------------------------

SUITE = suites.Suite(
    rounds=1,
    contests=(
        suites.Contest(TINY, FORWARD, (SDPA, MASKED_SDPA, FLEX, GATHER)),
        suites.Contest(TINY, BACKWARD, (SDPA, FLEX)),
        suites.Contest(TINY, BOTH, (SDPA,)),
    ),
    hugging_face=(TINY,),
    longformer=(replace(TINY, pattern=longformer.pattern(), length=1024),),
    library=replace(TINY, pattern=DENSE, length=1024),
    published=24,
    dtypes=(TINY, replace(TINY, pattern=CAUSAL)),
    small=(TINY,),
    cached=decoding.CACHES[-1:],
    scaling=(128, 256),
    memory=(256,),
    masks=(128,),
    lowering=(1024,),
    crossover=(64, 128),
    dims=(16,),
    starts=1,
    commands=1,
)


def bare(scaling: list[Row] | None = None) -> figures.Figures:
    """The figures of a run that measured next to nothing."""
    one = timing.Spread.of([1.0])
    yards, crossing = figures.Yardsticks(one, one, one), crossover.Crossing([], [])
    return figures.Figures(
        {}, 1, yards, [], [], [], [], scaling or [], [], [], crossing, [], [], [], [], [], 0.0
    )


def named(rows: list[Row], name: str) -> list[Row]:
    return [row for row in rows if row.contestant == name]


def test_a_run_and_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = [line for line in commands.LINES if line.text.startswith(("check", "lsp"))]
    monkeypatch.setattr(commands.run, "__defaults__", (quick,))  # the others have a test below
    for name in (FLEX.name, TORCH_TARGET.name):  # one compiles for half a minute
        monkeypatch.delitem(probe.STARTS, name)
    monkeypatch.setattr(masks, "PATTERNS", masks.PATTERNS[:1])
    monkeypatch.setattr(masks, "BACKEND", "eager")  # compiles C++ only for FlexAttention
    monkeypatch.setattr(machine, "MM_SIZE", 64)  # the yardsticks have a test above
    monkeypatch.setattr(machine._fma_peak, "__defaults__", (1000,))
    monkeypatch.setattr(lowering, "REPEATS", 1)
    monkeypatch.delitem(lowering.NARROWED, "800 rectangles")  # 379 are read in a second
    monkeypatch.setattr(figures, "SMALL_BESIDE", 512)
    monkeypatch.setattr(decoding, "KEYS", 256)
    monkeypatch.setattr(decoding, "COPIED", 2**20)
    once = timing.Clock(least=0.0, sleep=lambda seconds: None)
    monkeypatch.setattr(timing.alternate, "__defaults__", (once,))
    monkeypatch.setattr(timing, "MOST_WARM_UP", 1)
    run = figures.run(SUITE)
    rows_are_whole(run)
    report_is_whole(run, tmp_path / "results")


def test_the_start_of_a_peer() -> None:
    assert all(seconds >= 0 for seconds in probe.start(TORCH_TARGET.name))


def rows_are_whole(run: figures.Figures) -> None:
    """Every contestant has its row."""
    assert {"processor", "cores", "threads", "torch", "compiler", "date", "commit"} <= set(
        run.machine
    )
    assert all(row.measured for row in run.contests if row.contestant != FLEX.name)
    forward, backward = named(run.contests, FLEX.name)
    assert forward.measured, forward.not_run
    assert backward.not_run == "FlexAttention has no backward on the CPU"
    for peer in (bigbird.HUGGING_FACE, longformer.HUGGING_FACE):
        assert {row.phase for row in named(run.hugging_face, peer.name)} == {FORWARD, BOTH}
    for row in run.hugging_face:
        assert row.measured or "transformers is not installed" in row.not_run
    kinds = ["float32", "bfloat16", "float16"]
    assert [row.dtype for row in named(run.dtypes, OURS)] == 4 * kinds
    beside = [(row.layout, row.dtype, row.phase) for row in named(run.dtypes, SDPA.name)]
    assert beside == [(CAUSAL.name, "bfloat16", phase) for phase in (FORWARD, BACKWARD)]
    assert [row.length for row in run.small] == 2 * [512, TINY.length]
    assert [step.cache for step in run.cached] == list(SUITE.cached)
    assert [row.length for row in run.scaling] == 2 * [128, 256]
    for rows in (run.contests, run.dtypes, run.scaling, run.small):
        for row in rows:
            if row.measured:
                assert row.measured.seconds.median > 0
                assert row.measured.exact_gflops <= row.measured.gflops
    assert [m.phase for m in run.memory] == [FORWARD, BOTH]
    assert [start.contestant for start in run.starts] == [OURS]
    assert all(start.cold > 0 for start in run.starts)
    assert {made.layout for made in run.masks} == {masks.PATTERNS[0].name}
    assert {row.phase for row in run.library if row.seconds} == {FORWARD, BOTH}
    assert all(row.warm and not row.not_run for row in run.commands)
    assert [row.tokens for row in run.lowering] == [1024] * len(
        lowering.LAYOUTS | lowering.NARROWED
    )
    assert [costs.phase for costs in run.crossover.costs] == 2 * [FORWARD, BOTH]


def report_is_whole(run: figures.Figures, folder: Path) -> None:
    """JSON and Markdown say all that was measured."""
    files = {path.name: path for path in report.write(run, folder)}
    data = json.loads(files["cpu.json"].read_text(encoding="utf-8"))
    assert set(data) == {*vars(run), "goals"}
    assert [goal["text"] for goal in data["goals"]] == [goal.text for goal in goals.GOALS]
    text = files["cpu.md"].read_text(encoding="utf-8")
    for goal in goals.GOALS:
        assert f"| {goal.text} |" in text
    reached = sum(bool(goal["reached"]) for goal in data["goals"])
    assert f"{reached} of {len(goals.GOALS)} goals are reached." in text
    for row in run.contests:
        assert row.contestant in text
    widths: dict[int, int] = {}
    for number, line in enumerate(text.splitlines()):
        if line.startswith("|"):  # every line of a table has as many cells as the one above
            widths[number] = line.count(" | ")
            assert widths.get(number - 1, widths[number]) == widths[number]


def test_tables_go_between_the_comments_of_a_page() -> None:
    begin, end = "<!-- figures: begin -->", "<!-- figures: end -->"
    page = f"before\n{begin}\nold\n{end}\nafter\n"
    made = markdown.include("new\n", page)
    assert made == f"before\n{begin}\nnew\n{end}\nafter\n"
    assert markdown.include("new", made) == made
    with pytest.raises(ValueError, match="the page lacks"):
        markdown.include("new", page, "others")
    docs = Path(__file__).parent.parent / "docs"
    for name in ("performance.md", "performance-gpu.md"):
        markdown.include("new", (docs / name).read_text("utf-8"))
    page = markdown.include("all goals", (docs / "performance.md").read_text("utf-8"), "goals")
    assert page.index("all goals") > page.index(end)  # users come first


def test_goals_are_judged_by_the_worst_value() -> None:
    run = bare()
    values = [(1.2, "here"), (0.8, "there")]
    least = goals.judge(goals.Goal("rate", 1.0, lambda _: values), run)
    assert (least.worst, least.best, least.where, least.reached) == (0.8, 1.2, "there", False)
    most = goals.judge(goals.Goal("time", 1.3, lambda _: values, at_least=False), run)
    assert (most.worst, most.where, most.reached) == (1.2, "here", True)
    none = goals.judge(goals.Goal("nothing", 1.0, lambda _: []), run)
    assert none.reached is None


def test_growth_is_of_time_per_visited_block(yards: dict[str, Yardstick]) -> None:
    (row,) = measure([ours(TINY)], None, FORWARD, yards, 2)
    assert row.measured and row.measured.to_ours == timing.Spread(1.0, 1.0, 1.0)
    rows = [
        replace(row, visited=visited, measured=replace(row.measured, to_ours=timing.Spread.of([t])))
        for visited, t in ((100, 1.0), (300, 3.3))
    ]
    ((value, where),) = goals.growth(bare(rows))
    assert value == pytest.approx(1.1)
    assert where == "forward, 256 to 256 tokens"


@pytest.mark.parametrize("suite", (suites.full(), suites.quick()), ids=("full", "quick"))
def test_suites_name_each_contest_once(suite: suites.Suite) -> None:
    keys = [(entry.workload, entry.phase) for entry in suite.contests]
    assert len(set(keys)) == len(keys)
    assert suite.rounds >= 3

"""Plots of a run, as SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.bigbird import HUGGING_FACE
from benchmarks.contest import OURS, Measured, Row
from benchmarks.figures import Figures
from benchmarks.workloads import BACKWARD, BIGBIRD, BOTH, FORWARD, Workload

BASE = Workload(BIGBIRD, 0)
"""The shape that is drawn: every length is measured in it."""

SUMMARY = 16384
"""Tokens of the bars that README shows."""

PEERS = {
    OURS: "bslang",
    "FlexAttention, compiled": "FlexAttention (compiled)",
    "SDPA": "dense attention (SDPA)",
    HUGGING_FACE.name: "Hugging Face BigBird",
}
"""Contestants of the summary, and what the bars call them."""


def plots(figures: Figures, folder: Path) -> list[Path]:
    """Paths of cpu_rate.svg, cpu_time.svg, cpu_masks.svg, cpu_summary.svg; none where matplotlib is not
    installed."""
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "bslang"  # the same figures make the same file
    rows = [
        row
        for row in figures.contests
        if (row.block, row.dim, row.heads) == (BASE.block, BASE.dim, BASE.heads) and row.measured
    ]
    mine = [row for row in rows if row.contestant == OURS and row.phase in (FORWARD, BACKWARD)]
    rates = _series(mine, lambda row: f"{row.layout}, {row.phase}", lambda m: m.of_mm.median)
    forward = [row for row in rows if row.layout == BIGBIRD.name and row.phase == FORWARD]
    times = _series(forward, lambda row: row.contestant, lambda m: 1000 * m.seconds.median)
    made: Series = {}
    for one in figures.masks:
        if one.seconds and one.layout == BIGBIRD.name:
            made.setdefault(one.maker, []).append((one.length, 1000 * one.seconds.median))
    return [
        _draw(folder / "cpu_rate.svg", rates, "rate of bslang / torch.mm"),
        _draw(folder / "cpu_time.svg", times, "BigBird, forward: ms", log=True),
        _draw(folder / "cpu_masks.svg", made, "BigBird, before the first call: ms", log=True),
        summary([*rows, *figures.hugging_face], folder / "cpu_summary.svg"),
    ]


def summary(rows: Iterable[Row], path: Path) -> Path:
    """Bars of the time of BigBird at SUMMARY tokens, forward and with backward, a bar for each contestant.

    rows: of all contests of the shape that is drawn. The first row of a contestant and phase counts: ours on
    Hugging Face's own layout comes after ours on the layout of the rest.
    """
    from matplotlib import pyplot

    times: dict[tuple[str, str], float] = {}
    for row in rows:
        if row.measured and row.length == SUMMARY and row.layout.startswith(BIGBIRD.name):
            times.setdefault((row.contestant, row.phase), row.measured.seconds.median)
    chart, panels = pyplot.subplots(1, 2, figsize=(9, 2.2), layout="constrained", sharey=True)
    names = list(PEERS)[::-1]
    for axes, phase in zip(panels, (FORWARD, BOTH), strict=True):
        seconds = [times.get((name, phase), 0.0) for name in names]
        colors = ["tab:blue" if name == OURS else "silver" for name in names]
        bars = axes.barh([PEERS[name] for name in names], seconds, color=colors)
        texts = [
            f"{s:.2g} s" if 0 < s < 1 else f"{s:.1f} s" if s else "no backward on CPUs"
            for s in seconds
        ]
        axes.bar_label(bars, texts, padding=4, fontsize="small")
        axes.set_title(f"{phase}, {SUMMARY:,} tokens", fontsize="medium")
        axes.set_xlim(right=1.25 * max(seconds, default=1.0) or 1.0)
        axes.set_xticks([])
        axes.spines[["top", "right", "bottom"]].set_visible(False)
    chart.savefig(path, metadata={"Date": None})
    pyplot.close(chart)
    return path


Series = dict[str, list[tuple[int, float]]]


def _series(
    rows: Iterable[Row], label: Callable[[Row], str], value: Callable[[Measured], float]
) -> Series:
    """Points (tokens, value) by label."""
    found: Series = {}
    for row in rows:
        if row.measured:
            found.setdefault(label(row), []).append((row.length, value(row.measured)))
    return found


def _draw(path: Path, series: Series, what: str, log: bool = False) -> Path:
    from matplotlib import pyplot

    chart, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name, points in series.items():
        axes.plot(*zip(*sorted(points), strict=True), "o-", label=name)
    axes.set_xscale("log", base=2)
    axes.set(xlabel="tokens", ylabel=what)
    if log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if series:
        axes.legend(fontsize="small")
    chart.savefig(path, metadata={"Date": None})
    pyplot.close(chart)
    return path

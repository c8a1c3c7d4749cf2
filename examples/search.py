"""Search for a layout: score a dozen of them by loss against cost, and plot the frontier.

Each layout of examples/search.bsl trains the same small byte-level language model on the prose of
Python's own manual, which every Python installs (module pydoc_data.topics; PSF licence). Cost is both
the share of blocks that a layout visits and the time of a training step. A layout is on the frontier of
a cost where no other has less of it and a lower loss too.

    python examples/search.py
    python examples/search.py --quick
    python examples/search.py --layouts window_4,bigbird
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from common import (
    HERE,
    Attention,
    Contestant,
    Corpus,
    Run,
    Task,
    Transformer,
    arguments,
    compete,
    console,
    machine,
    python_manual,
    save,
)
from rich.table import Table
from torch import nn
from train_lm import loss

import bslang

SPEC = HERE / "search.bsl"
LAYOUTS = (
    "own_block,window_2,window_4,window_8,sinks_4,dilated_4,"
    "doubling,strided_4,fixed_4,bigbird,longnet,phi3"
)
QUICK = {
    "layouts": "own_block,window_2,doubling", "steps": 20, "context": 512, "batch": 1, "dim": 32,
    "layers": 1, "heads": 2,
}  # fmt: skip
COSTS: dict[str, Callable[[Run], float]] = {
    "blocks": lambda run: run.blocks,
    "time": lambda run: run.step_time,
}


def frontier(runs: list[Run], cost: Callable[[Run], float]) -> list[Run]:
    """The runs that no other beats in both loss and cost, from the cheapest to the best."""
    found: list[Run] = []
    for run in sorted(runs, key=lambda run: (cost(run), run.final)):
        if not found or run.final < found[-1].final:
            found.append(run)
    return found


def report(runs: list[Run]) -> None:
    """Print a table, the cheapest layout first."""
    table = Table(title="loss in nats a byte on held-out text, and its standard error")
    for heading in ("layout", "blocks", "time per step", "first step", "loss", "error", "frontier"):
        table.add_column(heading, justify="left" if heading in ("layout", "frontier") else "right")
    fronts = {name: frontier(runs, cost) for name, cost in COSTS.items()}
    for run in sorted(runs, key=COSTS["blocks"]):
        noise = statistics.stdev(run.held_out) / math.sqrt(len(run.held_out))
        table.add_row(
            run.name,
            f"{run.blocks:.1%}",
            f"{run.step_time * 1000:.0f} ms",
            f"{run.losses[0]:.3f}",
            f"{run.final:.3f}",
            f"{noise:.3f}",
            ", ".join(name for name, front in fronts.items() if run in front),
        )
    console.print(table, machine(), sep="\n")


def plot(runs: list[Run], path: Path) -> None:
    """Loss over each cost, with the frontier, as PNG."""
    from matplotlib import pyplot
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    pyplot.switch_backend("agg")
    chart, panels = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained", sharey=True)
    labels = {"blocks": "share of blocks visited", "time": "seconds per step"}
    for axes, (name, cost) in zip(panels, COSTS.items(), strict=True):
        for run in runs:
            colour = "tab:orange" if run.name == "dense" else "tab:blue"
            axes.plot(cost(run), run.final, "o", color=colour)
            axes.annotate(
                run.name, (cost(run), run.final), (3, 3), textcoords="offset points", fontsize=7
            )
        front = frontier(runs, cost)
        axes.step([cost(run) for run in front], [run.final for run in front], where="post")
        axes.set(xlabel=labels[name], xscale="log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 4)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    panels[0].set_ylabel("held-out nats a byte")
    chart.suptitle("layouts of a language model, and the frontier")
    save(chart, path)


def main() -> None:
    """Train with each layout, and with dense attention; score them."""
    options = arguments(
        __doc__, QUICK, layouts=LAYOUTS, steps=80, context=2048, batch=1, dim=64, layers=2,
        heads=4, lr=6e-3,
    )  # fmt: skip
    length, heads = options.context, options.heads
    text = torch.frombuffer(bytearray(python_manual()), dtype=torch.uint8).long()
    console.print(
        f"data: {len(text):,} bytes of Python's manual (pydoc_data.topics; PSF licence)\n"
    )
    corpus = Corpus.of(text, length + 1, windows=8)

    def model(attention: Attention) -> nn.Module:
        embed = nn.Embedding(256, options.dim)
        return Transformer(attention, embed, 256, options, torch.arange(length))

    task = Task(
        model, loss, lambda random: corpus.batch(options.batch, random), corpus.held_out[:, None]
    )
    contestants = [
        Contestant.sparse(name, bslang.load(f"{SPEC}:{name}"), length, heads)
        for name in options.layouts.split(",")
    ]
    runs = compete(task, [*contestants, Contestant.dense(length, 64, causal=True)], options)
    report(runs)
    plot(runs, Path(options.output, "search.png"))


if __name__ == "__main__":
    main()

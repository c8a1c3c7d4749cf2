"""What the examples share: options, data, a small transformer, training side by side, table and plot.

An example makes a `Task` and some `Contestant`s, which differ by their attention alone, and calls
`compete`: all start from the same weights and see the same batches, a step of each in turn, so that
their losses and times compare.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor, nn

import bslang

HERE = Path(__file__).resolve().parent
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
console = Console(width=120 if not sys.stdout.isatty() else None, highlight=False)


# ---- options and data ------------------------------------------------------------------------


def arguments(doc: str | None, quick: dict[str, Any], **defaults: Any) -> argparse.Namespace:
    """Read the command line: an option for each default, and `--quick`, which sets those of `quick`.

    Ends the program with a message where matplotlib, which draws the plot at its end, is missing.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a reduced size, of some seconds")
    for name, value in ({"output": "build", "seed": 0} | defaults).items():
        text = f"{value}" + (f"; quick: {quick[name]}" if name in quick else "")
        parser.add_argument(f"--{name}", type=type(value), help=text)
    options = parser.parse_args()
    sizes = {"output": "build", "seed": 0} | defaults | (quick if options.quick else {})
    for name, value in sizes.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    package_file("matplotlib", "pyplot.py")
    return options


def package_file(package: str, path: str) -> Path:
    """A file of an installed package, which is not imported. Ends the program where it is missing."""
    found = importlib.util.find_spec(package)
    folders = found.submodule_search_locations if found else None
    file = Path(folders[0], path) if folders else None
    if file is None or not file.is_file():
        missing = f"the package {package}" + (f" with {path}" if found else "")
        raise SystemExit(
            f"{Path(sys.argv[0]).name} needs {missing}, of the extra `examples`: "
            "pip install -c constraints.txt '.[examples]' beside pyproject.toml"
        )
    return file


def python_manual() -> bytes:
    """The language reference that `help()` reads, some 465,000 characters of technical English."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics)).encode()


def unigram_entropy(symbols: Tensor) -> float:
    """The loss, in nats, of a model that knows how often each symbol occurs and nothing else."""
    share = torch.bincount(symbols).double() / len(symbols)
    return float(-(share[share > 0] * share[share > 0].log()).sum())


@dataclass
class Corpus:
    """A sequence to train on, and windows held out from its middle to test on."""

    train: Tensor
    held_out: Tensor

    @classmethod
    def of(cls, data: Tensor, size: int, windows: int = 6) -> Corpus:
        """data: (length,); held_out: (windows, size), of which no place is trained on."""
        start = (len(data) - windows * size) // 2
        if start <= size:
            raise SystemExit(f"the data has {len(data)} places, too few for windows of {size}")
        held_out = data[start : start + windows * size].view(windows, size)
        return cls(torch.cat((data[:start], data[start + windows * size :])), held_out)

    def batch(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, size) from random places of the training part."""
        size = self.held_out.shape[1]
        start = torch.randint(len(self.train) - size, (count,), generator=generator)
        return torch.stack([self.train[s : s + size] for s in start])


# ---- the model -------------------------------------------------------------------------------


class Block(nn.Module):
    """A transformer block with rotary positions; attention is whatever function it is given.

    A short convolution before it brings in the nearest tokens, so that attention is left with what
    lies further away, and all kinds of it learn what is local equally fast.
    """

    def __init__(self, dim: int, heads: int, attention: Attention, near: tuple[int, int]) -> None:
        super().__init__()
        self.heads, self.attention, self.reach = heads, attention, near
        self.norm1, self.norm2 = nn.RMSNorm(dim), nn.RMSNorm(dim)
        self.near = nn.Conv1d(dim, dim, kernel_size=sum(near) + 1, groups=dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        batch, length, dim = x.shape
        near = self.near(F.pad(self.norm1(x).transpose(1, 2), self.reach)).transpose(1, 2)
        qkv = self.qkv(near).view(batch, length, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (batch, heads, length, head dim)
        out = self.attention(rotate(q, *rotary), rotate(k, *rotary), v)
        x = x + self.proj(out.transpose(1, 2).reshape(batch, length, dim))
        return x + self.mlp(self.norm2(x))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su 2021) of (batch, heads, length, head dim)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


class Transformer(nn.Module):
    """embed, blocks, and a linear layer to `outputs` numbers a token.

    positions: (length,), by which tokens are rotated. near: how many tokens to the left and to the
    right the convolution of a block reaches; none to the right where the model is causal.
    """

    def __init__(
        self,
        attention: Attention,
        embed: nn.Module,
        outputs: int,
        options: argparse.Namespace,
        positions: Tensor,
        near: tuple[int, int] = (3, 0),
    ) -> None:
        """options: dim, layers and heads."""
        super().__init__()
        dim, heads = options.dim, options.heads
        self.embed = embed
        self.blocks = nn.ModuleList(
            Block(dim, heads, attention, near) for _ in range(options.layers)
        )
        self.norm, self.head = nn.RMSNorm(dim), nn.Linear(dim, outputs, bias=False)
        half = dim // heads // 2
        angle = torch.outer(positions, 10000 ** (-torch.arange(half) / half))
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """What `embed` takes, to (batch, length, outputs)."""
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, (self.cos, self.sin))
        return self.head(self.norm(x))


# ---- contestants -----------------------------------------------------------------------------


@dataclass
class Contestant:
    """A kind of attention. blocks: the share of all blocks that it visits."""

    name: str
    attention: Attention
    blocks: float

    @classmethod
    def sparse(cls, name: str, layout: bslang.Layout, length: int, heads: int) -> Contestant:
        return cls(name, layout, visited(layout, length, heads))

    @classmethod
    def dense(cls, length: int, block: int, causal: bool) -> Contestant:
        """torch's own kernel over every token, or every earlier one."""

        def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(q, k, v, is_causal=causal)

        layout = bslang.compile("causal" if causal else "all", block=block)
        return cls("dense", attention, visited(layout, length, 1))


def visited(layout: bslang.Layout, length: int, heads: int) -> float:
    """The share of all blocks that a layout visits, the mean over heads."""
    graphs = [layout.graph(length, head=head) for head in range(heads if layout.by_head else 1)]
    return statistics.mean(float(g.blocks_by_row.sum()) / (g.grid.n * g.grid.m) for g in graphs)


# ---- training --------------------------------------------------------------------------------


@dataclass
class Task:
    """What is learned. A batch is whatever `batch` gives and `loss` takes."""

    model: Callable[[Attention], nn.Module]
    loss: Callable[[nn.Module, Any], Tensor]
    batch: Callable[[torch.Generator], Any]
    held_out: Sequence[Any]
    accuracy: Callable[[nn.Module, Any], float] | None = None


class Run:
    """One model in training: its losses, and its times in seconds."""

    def __init__(self, contestant: Contestant, task: Task, options: argparse.Namespace) -> None:
        """The same seed gives every run the same weights."""
        torch.manual_seed(options.seed)
        self.name, self.blocks, self.task = contestant.name, contestant.blocks, task
        self.model = task.model(contestant.attention)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=options.lr, betas=(0.9, 0.95), weight_decay=0.05
        )
        warmup = max(1, options.steps // 10)

        def rate(step: int) -> float:
            decay = 0.5 * (1 + math.cos(math.pi * step / options.steps))
            return min((step + 1) / warmup, 0.1 + 0.9 * decay)

        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)
        self.losses: list[float] = []
        self.seconds: list[float] = []
        self.held_out: list[float] = []
        self.accuracy = math.nan

    def build(self, batch: Any) -> None:
        """A pass that trains nothing: kernels are built in it, which is not timed."""
        self.task.loss(self.model, batch).backward()

    def step(self, batch: Any) -> float:
        """Train on a batch; returns the loss."""
        started = time.perf_counter()
        loss = self.task.loss(self.model, batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.seconds.append(time.perf_counter() - started)
        self.losses.append(loss.item())
        return self.losses[-1]

    @torch.no_grad()
    def test(self) -> None:
        """Take the loss of each held-out batch, and the accuracy over all of them."""
        held_out, accuracy = self.task.held_out, self.task.accuracy
        self.held_out = [self.task.loss(self.model, batch).item() for batch in held_out]
        if accuracy:
            self.accuracy = statistics.mean(accuracy(self.model, batch) for batch in held_out)

    @property
    def final(self) -> float:
        return statistics.mean(self.held_out)

    @property
    def step_time(self) -> float:
        return statistics.median(self.seconds)

    def apart(self, other: Run) -> tuple[float, float]:
        """The mean difference of the held-out losses, self minus other, and its standard error:
        how much it varies from one batch to another."""
        apart = [a - b for a, b in zip(self.held_out, other.held_out, strict=True)]
        return statistics.mean(apart), statistics.stdev(apart) / math.sqrt(len(apart))


def compete(task: Task, contestants: list[Contestant], options: argparse.Namespace) -> list[Run]:
    """Train a model with each attention on the same batches, and test them."""
    runs = [Run(contestant, task, options) for contestant in contestants]
    generator = torch.Generator().manual_seed(options.seed)
    first = task.batch(torch.Generator().manual_seed(options.seed))
    for run in runs:
        run.build(first)
    columns = (
        TextColumn("{task.description:>14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bars = [progress.add_task(run.name, total=options.steps, loss=math.nan) for run in runs]
        for _ in range(options.steps):
            batch = task.batch(generator)
            for run, bar in zip(runs, bars, strict=True):
                progress.update(bar, advance=1, loss=run.step(batch))
    for run in runs:
        run.test()
    return runs


# ---- results ---------------------------------------------------------------------------------


def machine() -> str:
    """What a table was measured on; a load of more than the number of threads says: by others too."""
    threads = torch.get_num_threads()
    return (
        f"measured on {platform.machine()}, {threads} thread{'s' * (threads != 1)}, "
        f"load {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, torch {torch.__version__}"
    )


def report(runs: list[Run], title: str, baselines: dict[str, float] | None = None) -> None:
    """Print the runs side by side, then each beside the last one, which is dense.

    baselines: held-out losses of what is no model.
    """
    table = Table(title=title)
    accuracy = not math.isnan(runs[0].accuracy)
    for heading in ("attention", "blocks", "first step", "last steps", "held-out", "time per step"):
        table.add_column(heading, justify="left" if heading == "attention" else "right")
    if accuracy:
        table.add_column("accuracy", justify="right")
    for run in runs:
        table.add_row(
            run.name,
            f"{run.blocks:.1%}",
            f"{run.losses[0]:.3f}",
            f"{statistics.mean(run.losses[-5:]):.3f}",
            f"{run.final:.3f}",
            f"{run.step_time * 1000:.0f} ms",
            *([f"{run.accuracy:.1%}"] if accuracy else []),
        )
    for name, loss in (baselines or {}).items():
        table.add_row(f"({name})", "", "", "", f"{loss:.3f}")
    console.print(table, machine(), sep="\n")
    dense = runs[-1]
    for run in runs[:-1]:
        difference, noise = run.apart(dense)
        console.print(
            f"{run.name} minus {dense.name}: {difference:+.3f} held-out (standard error {noise:.3f}); "
            f"a {dense.name} step takes {dense.step_time / run.step_time:.2f} times as long"
        )


def plot(runs: list[Run], title: str, loss: str, path: Path) -> None:
    """Write two panels as PNG: training loss over training time, and held-out loss over time per step.

    loss: what it is, with its unit.
    """
    from matplotlib import pyplot

    pyplot.switch_backend("agg")  # draws to files, without a display
    chart, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    for run in runs:
        width = max(1, len(run.losses) // 20)  # smooths over a twentieth of the run
        smooth = torch.tensor(run.losses).unfold(0, width, 1).mean(1)
        seconds = run.step_time * torch.arange(width, len(run.losses) + 1)
        left.plot(seconds, smooth, label=run.name)
        noise = statistics.stdev(run.held_out) / math.sqrt(len(run.held_out))
        right.errorbar(1000 * run.step_time, run.final, noise, fmt="o", capsize=3, label=run.name)
    left.set(xlabel="seconds of training", ylabel=f"training {loss}")
    right.set(xlabel="ms per step", ylabel=f"held-out {loss}")
    right.set_xlim(left=0)
    right.legend()
    chart.suptitle(title)
    save(chart, path)


def save(chart: Any, path: Path) -> None:
    """Write a figure of matplotlib's as PNG and say where."""
    path.parent.mkdir(parents=True, exist_ok=True)
    chart.savefig(path, dpi=100)
    console.print(f"plot: {path}")

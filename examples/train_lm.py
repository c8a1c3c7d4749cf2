"""Train a small byte-level language model at 4,096 tokens of context, sparse and then dense.

The whole way from a spec to a trained model: compile a layout of examples/bigbird.bsl, look at it,
import the generated module, and train on real text (the prose of Python's own manual, which every
Python installs; PSF licence). Copy this file to start a model of your own: `ByteLM` takes any
function of (q, k, v), and only `main` knows about bslang.

    python examples/train_lm.py                     # what `make demo` runs
    python examples/train_lm.py --steps 20          # a quick look
    python examples/train_lm.py --spec mine.bsl:my_layout
"""

from __future__ import annotations

import argparse
import importlib
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
console = Console(width=100 if not sys.stdout.isatty() else None, highlight=False)


# ---- the text --------------------------------------------------------------------------------


def python_manual() -> bytes:
    """The language reference that `help()` reads, some 465,000 characters of technical English."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics)).encode()


def unigram_entropy(text: bytes) -> float:
    """The loss, in nats a byte, of a model that knows how often each byte occurs and nothing else."""
    share = torch.bincount(torch.tensor(list(text)), minlength=256).double() / len(text)
    return float(-(share[share > 0] * share[share > 0].log()).sum())


@dataclass
class Corpus:
    """Bytes to train on, and windows held out from the middle of the text to test on."""

    train: Tensor
    held_out: Tensor

    @classmethod
    def of(cls, text: bytes, context: int, windows: int = 6) -> Corpus:
        """held_out: (windows, context + 1); they and the training bytes share no byte."""
        data = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()
        size = context + 1
        start = (len(data) - windows * size) // 2
        if start < size:
            raise SystemExit(f"the text has {len(data)} bytes, too few for a context of {context}")
        held_out = data[start : start + windows * size].view(windows, size)
        return cls(torch.cat((data[:start], data[start + windows * size :])), held_out)

    def batch(self, size: int, context: int, generator: torch.Generator) -> Tensor:
        """(size, context + 1) bytes from random places of the training text."""
        start = torch.randint(len(self.train) - context - 1, (size,), generator=generator)
        return torch.stack([self.train[s : s + context + 1] for s in start])


# ---- the model -------------------------------------------------------------------------------


class Block(nn.Module):
    """A transformer block with rotary positions; attention is whatever function it is given.

    A short causal convolution before it brings in the last few bytes, so that attention is left
    with what lies further back, and both kinds of it learn the spelling of words equally fast.
    """

    def __init__(self, dim: int, heads: int, attention: Attention) -> None:
        super().__init__()
        self.heads, self.attention = heads, attention
        self.norm1, self.norm2 = nn.RMSNorm(dim), nn.RMSNorm(dim)
        self.near = nn.Conv1d(dim, dim, kernel_size=4, groups=dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim, bias=False), nn.Linear(dim, dim, bias=False)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        batch, length, dim = x.shape
        near = self.near(F.pad(self.norm1(x).transpose(1, 2), (3, 0))).transpose(1, 2)
        qkv = self.qkv(near).view(batch, length, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (batch, heads, length, head dim)
        out = self.attention(rotate(q, *rotary), rotate(k, *rotary), v)
        x = x + self.proj(out.transpose(1, 2).reshape(batch, length, dim))
        return x + self.mlp(self.norm2(x))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su 2021) of (batch, heads, length, head dim)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


class ByteLM(nn.Module):
    """Predicts the next byte. attention(q, k, v) must be causal."""

    def __init__(
        self, attention: Attention, dim: int, layers: int, heads: int, context: int
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(256, dim)
        self.blocks = nn.ModuleList(Block(dim, heads, attention) for _ in range(layers))
        self.norm, self.head = nn.RMSNorm(dim), nn.Linear(dim, 256, bias=False)
        half = dim // heads // 2
        angle = torch.outer(torch.arange(context), 10000 ** (-torch.arange(half) / half))
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens (batch, length) to logits (batch, length, 256)."""
        length = tokens.shape[1]
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, (self.cos[:length], self.sin[:length]))
        return self.head(self.norm(x))

    def loss(self, window: Tensor) -> Tensor:
        """Mean loss in nats a byte of (batch, context + 1) bytes."""
        logits = self(window[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())


# ---- training --------------------------------------------------------------------------------


class Run:
    """One model in training: losses in nats a byte, times in seconds."""

    def __init__(self, name: str, attention: Attention, options: argparse.Namespace) -> None:
        """The same seed gives every run the same weights."""
        torch.manual_seed(options.seed)
        self.name = name
        self.model = ByteLM(attention, options.dim, options.layers, options.heads, options.context)
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

    def step(self, window: Tensor) -> float:
        """Train on (batch, context + 1) bytes; returns the loss."""
        started = time.perf_counter()
        loss = self.model.loss(window)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.seconds.append(time.perf_counter() - started)
        self.losses.append(loss.item())
        return self.losses[-1]

    @torch.no_grad()
    def test(self, windows: Tensor) -> None:
        """Take the loss of each held-out window."""
        self.held_out = [self.model.loss(window[None]).item() for window in windows]

    @property
    def final(self) -> float:
        return statistics.mean(self.held_out)

    @property
    def step_time(self) -> float:
        return statistics.median(self.seconds)


def train(runs: list[Run], corpus: Corpus, options: argparse.Namespace) -> None:
    """Train models on the same batches, a step of each in turn, so that their times compare."""
    batches = torch.Generator().manual_seed(options.seed)
    columns = (
        TextColumn("{task.description:>7}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        tasks = [progress.add_task(run.name, total=options.steps, loss=math.nan) for run in runs]
        for _ in range(options.steps):
            window = corpus.batch(options.batch, options.context, batches)
            for run, task in zip(runs, tasks, strict=True):
                progress.update(task, advance=1, loss=run.step(window))
    for run in runs:
        run.test(corpus.held_out)


def report(sparse: Run, dense: Run, unigram: float) -> Table:
    """The two runs side by side."""
    table = Table(title="loss in nats a byte; the lower, the better")
    for heading in ("attention", "first step", "last steps", "held-out text", "time per step"):
        table.add_column(heading, justify="left" if heading == "attention" else "right")
    for run in (sparse, dense):
        table.add_row(
            run.name,
            f"{run.losses[0]:.3f}",
            f"{statistics.mean(run.losses[-5:]):.3f}",
            f"{run.final:.3f}",
            f"{run.step_time * 1000:.0f} ms",
        )
    table.add_row("(unigram)", "", "", f"{unigram:.3f}", "")
    return table


def verdict(sparse: Run, dense: Run) -> str:
    """The difference of the two, beside its noise: how much it varies from one window to another."""
    apart = [a - b for a, b in zip(sparse.held_out, dense.held_out, strict=True)]
    noise = statistics.stdev(apart) / math.sqrt(len(apart)) if len(apart) > 1 else math.nan
    return (
        f"sparse minus dense: {statistics.mean(apart):+.3f} nats a byte on held-out text "
        f"(standard error over {len(apart)} windows {noise:.3f})\n"
        f"a step of dense attention takes {dense.step_time / sparse.step_time:.2f} times as long"
    )


# ---- the whole way ---------------------------------------------------------------------------


def bslang(*arguments: str) -> str:
    """Run a command of bslang's, shown as a user would type it; returns what it prints."""
    console.print(f"[bold]$ bslang {' '.join(arguments)}[/bold]")
    command = [sys.executable, "-m", "bslang", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    print(done.stdout)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout


def dense_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention over every earlier token, by torch's own kernel."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def main() -> None:
    """Compile, look, train twice, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--spec", default=str(HERE / "bigbird.bsl") + ":causal_bigbird")
    parser.add_argument("--out", default="build", help="folder for the generated module")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    written = bslang("compile", options.spec, "-o", options.out)
    bslang("show", options.spec, "--seq-len", str(min(options.context, 2048)))
    bslang("stats", options.spec, "--seq-len", str(options.context))

    # A generated module is an ordinary Python module.
    sys.path.insert(0, options.out)
    layout = importlib.import_module(Path(written.splitlines()[0]).stem)

    text = python_manual()
    corpus = Corpus.of(text, options.context)
    unigram = unigram_entropy(text)
    console.print(
        f"text: {len(text):,} bytes of Python's manual; unigram entropy {unigram:.3f} nats\n"
    )
    sparse = Run("sparse", layout.attention, options)
    dense = Run("dense", dense_attention, options)
    train([sparse, dense], corpus, options)
    console.print(report(sparse, dense, unigram))
    console.print(verdict(sparse, dense))


if __name__ == "__main__":
    main()

"""Forecast a heart's signal: doubling distances (LogSparse) against a window against dense attention.

The series is the recording data3.csv that the package heartpy ships (MIT licence): 68,476 values of a
pulse sensor at about 100 a second. From each sample on, the model forecasts the next ones, all at
once, from the 4,096 samples before them at most, 41 seconds. The layouts are those of
examples/series.bsl.

    python examples/series.py
    python examples/series.py --quick
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from common import (
    HERE,
    Attention,
    Contestant,
    Corpus,
    Task,
    Transformer,
    arguments,
    compete,
    console,
    package_file,
    plot,
    report,
)
from torch import Tensor, nn

import bslang

QUICK = {"steps": 20, "context": 512, "dim": 32, "layers": 1, "heads": 2}


def pulse() -> Tensor:
    """fp32 (samples,): the recording, with mean 0 and standard deviation 1."""
    file = package_file("heartpy", "data/data3.csv")
    values = torch.from_numpy(np.loadtxt(file, delimiter=",", skiprows=1, usecols=1)).float()
    return (values - values.mean()) / values.std()


class Samples(nn.Module):
    """Embeds each sample."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(1, dim)

    def forward(self, samples: Tensor) -> Tensor:
        return self.linear(samples[..., None])


def main() -> None:
    """Read, train three times, compare."""
    options = arguments(
        __doc__, QUICK, steps=150, context=4096, horizon=64, batch=1, dim=64, layers=2, heads=4,
        lr=3e-3,
    )  # fmt: skip
    length, horizon = options.context, options.horizon
    series = pulse()
    console.print(f"data: {len(series):,} samples of a pulse (package heartpy; MIT licence)\n")
    corpus = Corpus.of(series, length + horizon, windows=4)

    def ahead(window: Tensor) -> Tensor:
        """(batch, context, horizon): the samples after each."""
        return window.unfold(1, horizon, 1)[:, 1:]

    def loss(model: nn.Module, window: Tensor) -> Tensor:
        """Mean absolute error, of (batch, context + horizon) samples."""
        return (model(window[:, :length]) - ahead(window)).abs().mean()

    def model(attention: Attention) -> nn.Module:
        embed = Samples(options.dim)
        return Transformer(attention, embed, horizon, options, torch.arange(length))

    held_out = corpus.held_out[:, None]
    task = Task(model, loss, lambda random: corpus.batch(options.batch, random), held_out)
    layouts = {
        "window": bslang.load(f"{HERE / 'series.bsl'}:recent"),
        "logsparse": bslang.load(f"{HERE / 'series.bsl'}:doubling"),
    }
    contestants = [
        Contestant.sparse(name, layout, length, options.heads) for name, layout in layouts.items()
    ]
    runs = compete(task, [*contestants, Contestant.dense(length, 32, causal=True)], options)
    later = ahead(corpus.held_out)
    baselines = {
        "last value": float((later - corpus.held_out[:, :length, None]).abs().mean()),
        "median": float((later - series.median()).abs().mean()),
    }
    title = f"mean absolute error of {horizon} samples ahead, in standard deviations"
    report(runs, title, baselines)
    plot(runs, f"pulse, {length:,} samples", "error", Path(options.output, "series.png"))


if __name__ == "__main__":
    main()

"""Train a small byte-level language model at 4,096 tokens of context, sparse and then dense.

The whole way from a spec to a trained model: compile a layout of examples/bigbird.bsl, look at it,
import the generated module, and train on real text: the prose of Python's own manual, which every
Python installs (module pydoc_data.topics; PSF licence). Copy this file and common.py to start a model
of your own: `Transformer` takes any function of (q, k, v), and only `main` knows about bslang.

    python examples/train_lm.py                     # what `make demo` runs
    python examples/train_lm.py --steps 20          # a quick look
    python examples/train_lm.py --spec mine.bsl:my_layout
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
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
    plot,
    python_manual,
    report,
    unigram_entropy,
)
from torch import Tensor, nn

QUICK = {"steps": 20, "context": 512, "dim": 32, "layers": 1, "heads": 2, "batch": 2, "lr": 0.01}


def loss(model: nn.Module, window: Tensor) -> Tensor:
    """Mean loss in nats a byte of (batch, context + 1) bytes."""
    logits = model(window[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())


def bslang(*arguments: str) -> str:
    """Run a command of bslang's, shown as a user would type it; returns what it prints."""
    console.print(f"[bold]$ bslang {' '.join(arguments)}[/bold]")
    command = [sys.executable, "-m", "bslang", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    print(done.stdout)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout


def main() -> None:
    """Compile, look, train twice, compare."""
    options = arguments(
        __doc__, QUICK, spec=f"{HERE / 'bigbird.bsl'}:causal_bigbird", steps=200, context=4096,
        batch=1, dim=128, layers=2, heads=4, lr=4e-3,
    )  # fmt: skip
    length, heads = options.context, options.heads

    written = bslang("compile", options.spec, "-o", options.output)
    bslang("show", options.spec, "--seq-len", str(min(length, 2048)))
    bslang("stats", options.spec, "--seq-len", str(length))

    # A generated module is an ordinary Python module.
    sys.path.insert(0, options.output)
    layout = importlib.import_module(Path(written.splitlines()[0]).stem).LAYOUT

    text = torch.frombuffer(bytearray(python_manual()), dtype=torch.uint8).long()
    corpus = Corpus.of(text, length + 1)
    console.print(
        f"data: {len(text):,} bytes of Python's manual (pydoc_data.topics; PSF licence)\n"
    )

    def model(attention: Attention) -> nn.Module:
        embed = nn.Embedding(256, options.dim)
        return Transformer(attention, embed, 256, options, torch.arange(length))

    task = Task(
        model, loss, lambda random: corpus.batch(options.batch, random), corpus.held_out[:, None]
    )
    contestants = [
        Contestant.sparse("sparse", layout, length, heads),
        Contestant.dense(length, layout.block[0], causal=True),
    ]
    runs = compete(task, contestants, options)
    report(runs, "loss in nats a byte; the lower, the better", {"unigram": unigram_entropy(text)})
    plot(runs, f"language model, {length:,} bytes", "nats a byte", Path(options.output, "lm.png"))


if __name__ == "__main__":
    main()

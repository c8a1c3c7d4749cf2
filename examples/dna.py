"""Fill in masked bases of a real genome: neighbours, neighbours on both strands, and dense attention.

The genome is contig OFHT01000022 of the bacterial assembly SAMEA104415756 (taxon 1390, Bacillus
amyloliquefaciens), 391,023 bases, which the package pyhmmer ships (MIT licence). As in BigBird
(Zaheer 2020, 5), bases are masked and predicted from both sides. The model reads a stretch and then
its reverse complement, since a gene may lie on either strand; a base and its partner are masked
together, and paired tokens have the same rotary position. The layouts are those of examples/dna.bsl.

    python examples/dna.py
    python examples/dna.py --quick
"""

from __future__ import annotations

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
    package_file,
    plot,
    report,
    unigram_entropy,
)
from torch import Tensor, nn

import bslang

QUICK = {"steps": 20, "bases": 256, "dim": 32, "layers": 1, "heads": 2}
FILE = "tests/data/seqs/1390.SAMEA104415756.OFHT01000022.fna"
BASES = "ACGT"  # in this order, the complement of base b is 3 - b
MASK = 4
MASKED = 0.2  # of all bases


def genome() -> Tensor:
    """int64 (length,): the bases as places in BASES; the few that were not called are left out."""
    lines = package_file("pyhmmer", FILE).read_text().splitlines()
    letters = "".join(line for line in lines if not line.startswith(">")).upper()
    return torch.tensor([BASES.index(base) for base in letters if base in BASES])


def both_strands(forward: Tensor) -> Tensor:
    """(batch, bases) to (batch, 2 bases): each stretch, then its reverse complement."""
    return torch.cat((forward, 3 - forward.flip(1)), dim=1)


Batch = tuple[Tensor, Tensor]


def mask(stretch: Tensor, generator: torch.Generator) -> Batch:
    """A batch from (batch, bases): both strands, and where they are masked, (batch, 2 bases)."""
    hidden = torch.rand(stretch.shape, generator=generator) < MASKED
    return both_strands(stretch), torch.cat((hidden, hidden.flip(1)), dim=1)


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean loss in nats a masked base."""
    strands, hidden = batch
    logits = model(strands.masked_fill(hidden, MASK))
    return F.cross_entropy(logits[hidden], strands[hidden])


class Embedding(nn.Module):
    """A base, and which strand it is on."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.base, self.strand = nn.Embedding(len(BASES) + 1, dim), nn.Embedding(2, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        return self.base(tokens) + self.strand(torch.arange(length) // (length // 2))


def main() -> None:
    """Read, train three times, compare."""
    options = arguments(
        __doc__, QUICK, steps=150, bases=1024, batch=2, dim=64, layers=2, heads=4, lr=3e-3
    )
    length, heads = 2 * options.bases, options.heads
    bases = genome()
    console.print(
        f"data: {len(bases):,} bases of a Bacillus amyloliquefaciens genome (package pyhmmer; MIT licence)\n"
    )
    corpus = Corpus.of(bases, options.bases, windows=16)
    place = torch.arange(options.bases)
    positions = torch.cat((place, place.flip(0)))  # a base and its partner have one place

    def model(attention: Attention) -> nn.Module:
        embed = Embedding(options.dim)
        return Transformer(attention, embed, len(BASES), options, positions, near=(2, 2))

    random = torch.Generator().manual_seed(options.seed)
    held_out = [mask(window[None], random) for window in corpus.held_out]
    task = Task(model, loss, lambda g: mask(corpus.batch(options.batch, g), g), held_out)
    layouts = {
        "own strand": bslang.load(f"{HERE / 'dna.bsl'}:own_strand"),
        "both strands": bslang.load(f"{HERE / 'dna.bsl'}:both_strands"),
    }
    contestants = [
        Contestant.sparse(name, layout, length, heads) for name, layout in layouts.items()
    ]
    runs = compete(task, [*contestants, Contestant.dense(length, 64, causal=False)], options)
    title = "masked bases: loss in nats a base; the lower, the better"
    report(runs, title, {"unigram": unigram_entropy(bases)})
    plot(
        runs, f"DNA, both strands of {options.bases:,} bases", "nats a base",
        Path(options.output, "dna.png"),
    )  # fmt: skip


if __name__ == "__main__":
    main()

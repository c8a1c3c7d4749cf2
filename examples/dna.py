# %% [markdown]
# # DNA: the other strand
#
# A sequencer reads both strands of a molecule, and leaves out some bases of each. What one read lacks is on
# the other strand: complemented, and at the mirrored place. The layout has that mirror: its second term is
# the anti-diagonal. The model sees one strand, then the other, and fills in what is missing.
#
# The genome is real: contig OFHT01000022 of *Bacillus amyloliquefaciens*, 391,023 bases, from the package
# pyhmmer (MIT licence). Which bases are left out is drawn at random, on each strand by itself.
#
# Shorter: `python examples/dna.py --seeds 1`

# %%
import time

import torch
import torch.nn.functional as F
from common import figure, package_file, save, sizes, spread, table
from model import Transformer
from torch import Tensor, nn

import bslang

options = sizes("Fill in missing bases.", seeds=3, steps=120, bases=1024, dim=32, heads=2)
MISSING, UNREAD = 0.2, 4  # the share of bases that a read lacks, and the token in their place
LAYOUTS = {
    "window": "window(5)",
    "window + other strand": "window(3) | {i, j : i + j == n - 1}",
    "dense": "all",
}

# %%
FILE = "tests/data/seqs/1390.SAMEA104415756.OFHT01000022.fna"
letters = "".join(package_file("pyhmmer", FILE).read_text().upper().split("\n")[1:])
genome = torch.tensor(["ACGT".index(letter) for letter in letters if letter in "ACGT"])
held_out, trained = genome[:50_000], genome[50_000:]
share = torch.bincount(genome) / len(genome)  # of each base
frequencies = -float((share * share.log()).sum())  # the loss of a model that knows only these


def batch(part: Tensor, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Both strands of random stretches, and where they were not read: (count, 2 bases) each."""
    start = torch.randint(len(part) - options.bases, (count, 1), generator=random)
    strand = part[start + torch.arange(options.bases)]
    strands = torch.cat((strand, 3 - strand.flip(1)), dim=1)  # A pairs with T, and C with G
    return strands, torch.rand(strands.shape, generator=random) < MISSING


# %% [markdown]
# Paired bases have the same rotary position, so that each finds its partner on the other strand.


# %%
class Mirrored(nn.Module):
    """Rotary positions 0, 1, ..., bases - 1, bases - 1, ..., 1, 0."""

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """(batch, heads, 2 bases, head dim) to the same."""
        position = torch.cat((torch.arange(options.bases), torch.arange(options.bases).flip(0)))
        half = x.shape[-1] // 2
        angle = torch.outer(position, 10_000 ** (-torch.arange(half) / half))
        a, b = x.chunk(2, dim=-1)
        return torch.cat(
            (a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()), dim=-1
        )


def loss(model: Transformer, strands: Tensor, missing: Tensor) -> Tensor:
    """Nats per missing base."""
    second = torch.arange(strands.shape[1]) >= options.bases  # its bases are tokens of their own
    tokens = strands.masked_fill(missing, UNREAD) + 5 * second
    return F.cross_entropy(model(tokens)[missing], strands[missing])


# %%
def train(layout: bslang.Layout, seed: int) -> tuple[float, list[float], float]:
    """The held-out loss, the training losses, and CPU seconds per step."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    model = Transformer(layout, 10, 4, dim=options.dim, heads=options.heads, rotary=Mirrored())
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=options.steps)
    losses, times = [], []
    for _ in range(options.steps):
        started = time.process_time()
        error = loss(model, *batch(trained, 2, random))
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        schedule.step()
        losses.append(error.item())
        times.append(time.process_time() - started)
    random.manual_seed(1000)  # every model is tested on the same stretches
    with torch.no_grad():
        tested = [loss(model, *batch(held_out, 1, random)).item() for _ in range(16)]
    return sum(tested) / len(tested), losses, sorted(times)[len(times) // 2]


# %%
chart, axes = figure(
    "Filling in missing bases from both strands", "training step", "loss (nats per missing base)"
)
rows = []
for name, spec in LAYOUTS.items():
    layout = bslang.compile(spec, block=64)
    losses, curves, times = zip(
        *(train(layout, seed) for seed in range(options.seeds)), strict=True
    )
    graph = layout.graph(2 * options.bases)
    visited = graph.blocks_by_row.sum() / (graph.grid.n * graph.grid.m)
    rows.append(
        {"attention": name, "blocks visited": f"{visited:.1%}"}
        | {"held-out loss (nats per missing base)": spread(losses)}
        | {"CPU time per step": f"{1000 * min(times):.0f} ms"}
    )
    axes.plot(torch.tensor(curves).mean(0), label=name)
table(rows)
axes.axhline(frequencies, color="gray", linestyle=":", label="frequencies of bases")
axes.set_ylim(bottom=0)
axes.legend()
save(chart, options.output, "dna")

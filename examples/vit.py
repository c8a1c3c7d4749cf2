# %% [markdown]
# # A vision transformer with a class token
#
# An image of 64 x 64 pixels is 16 x 16 patches in row-major order, after a class token, from whose output
# the image is classified. Patches attend to the patches around them, and the layout decides whether the
# class token sees any: `global(0:1t)` lets it see all patches, and all patches see it.
#
# The images are pieces of three photographs of 512 x 512 pixels, of brick, grass and gravel, from the package
# scikit-image (CC0). The rightmost 160 columns of each are held out.
# Shorter: `python examples/vit.py --seeds 1`

# %%
import time

import torch
import torch.nn.functional as F
from common import figure, package_file, save, sizes, spread, table
from matplotlib.image import imread
from torch import Tensor, nn

import bslang
from bslang.nn import BlockSparseEncoderLayer

options = sizes("Classify images.", seeds=3, steps=250, batch=8, tests=180, dim=32, heads=2)
SIDE, PATCH = 16, 4
NEAR = "grid(16t, 16t, radius=2, offset=1t)"  # the patches around a patch
LAYOUTS = {
    "neighbours": NEAR + " | diagonals(0t)",
    "neighbours + class token": NEAR + " | global(0:1t)",
    "dense": "all",
}
TEXTURES = ("brick", "grass", "gravel")

# %%
photographs = torch.stack(
    [torch.from_numpy(imread(package_file("skimage", f"data/{name}.png"))) for name in TEXTURES]
)
trained, held_out = photographs[..., :-160], photographs[..., -160:]


def batch(part: Tensor, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pieces from random places, (count, 1, 64, 64), and which photograph each is of, (count,)."""
    size, of = SIDE * PATCH, torch.arange(count) % len(TEXTURES)
    tops = torch.randint(part.shape[1] - size + 1, (count,), generator=random)
    lefts = torch.randint(part.shape[2] - size + 1, (count,), generator=random)
    places = zip(of, tops, lefts, strict=True)
    pieces = torch.stack([part[i, y : y + size, x : x + size] for i, y, x in places])
    mean, deviation = pieces.mean((1, 2), keepdim=True), pieces.std((1, 2), keepdim=True)
    return ((pieces - mean) / deviation)[:, None], of  # how bright a piece is says nothing


class ViT(nn.Module):
    """A vision transformer of two layers."""

    def __init__(self, layout: bslang.Layout) -> None:
        super().__init__()
        dim = options.dim
        self.patches = nn.Conv2d(1, dim, PATCH, stride=PATCH)
        self.token = nn.Parameter(torch.randn(1, 1, dim))
        self.position = nn.Parameter(0.1 * torch.randn(1, SIDE * SIDE, dim))
        self.layers = nn.Sequential(
            *(
                BlockSparseEncoderLayer(
                    dim,
                    options.heads,
                    layout,
                    dim_feedforward=4 * dim,
                    dropout=0.0,
                    batch_first=True,
                    norm_first=True,
                )
                for _ in range(2)
            )
        )
        self.out = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, len(TEXTURES)))

    def forward(self, images: Tensor) -> Tensor:
        """(batch, 1, 64, 64) to (batch, textures): what the class token says."""
        patches = self.patches(images).flatten(2).transpose(1, 2) + self.position
        tokens = torch.cat((self.token.expand(len(images), -1, -1), patches), dim=1)
        return self.out(self.layers(tokens)[:, 0])


# %%
def train(layout: bslang.Layout, seed: int) -> tuple[list[float], float, float]:
    """Training losses, accuracy on held-out pieces (%), and CPU seconds per step."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    model, losses, times = ViT(layout), [], []
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=options.steps)
    for _ in range(options.steps):
        images, of = batch(trained, options.batch, random)
        started = time.process_time()
        loss = F.cross_entropy(model(images), of)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        times.append(time.process_time() - started)
        losses.append(loss.item())
    images, of = batch(held_out, options.tests, random.manual_seed(1000))
    with torch.no_grad():
        right = torch.cat([model(some).argmax(1) for some in images.split(60)]) == of
    return losses, 100 * float(right.float().mean()), sorted(times)[len(times) // 2]


# %%
chart, axes = figure("Which texture is it?", "training step", "loss (nats per image)")
rows = []
for name, spec in LAYOUTS.items():
    layout = bslang.compile(spec, block=16)
    losses, right, times = zip(*(train(layout, seed) for seed in range(options.seeds)), strict=True)
    graph = layout.graph(1 + SIDE * SIDE)
    visited = graph.blocks_by_row.sum() / (graph.grid.n * graph.grid.m)
    rows.append({"attention": name, "blocks visited": f"{visited:.0%}"})
    rows[-1]["held-out images right"] = spread(list(right), 1, " %")
    rows[-1]["CPU time per step"] = f"{1000 * min(times):.0f} ms"
    axes.plot(torch.tensor(losses).mean(0), label=name)
table(rows)
axes.legend()
save(chart, options.output, "vit")

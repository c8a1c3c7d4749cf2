# %% [markdown]
# # A tree of answers in one row
#
# Reinforcement learning samples many answers to one prompt, and conversations branch. A row for each path
# computes the prompt again and again. Instead, lay each part once in one row and let a token see what leads
# to it: `{q, k : tin[k] <= tin[q] < tout[k]} & causal`, with labels that `bslang.tree` makes. Gradients,
# losses and time of both are compared. A prompt lists words; an answer has one of them in capitals, and is
# followed by two turns: backwards, or with its letters in order. `python examples/tree.py --seeds 1`

# %%
import random
import re
import time
from pydoc_data.topics import topics

import torch
import torch.nn.functional as F
from common import figure, save, sizes, spread, table
from model import Transformer
from torch import Tensor, nn

import bslang
from bslang.nn import Rotary

options = sizes("Train on trees of answers.", seeds=3, steps=60, answers=8, dim=64, heads=4)
words = sorted(set(re.findall(r"\b[a-z]{3,8}\b", " ".join(topics.values()))))

# %% [markdown]
# A tree is a list of parts, each of which goes on from another. The last token of a part predicts the first
# of all parts that go on from it, so each token has one *before* it. Positions count from the root.

# %%
Batch = tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Tensor] | None]
# Tokens (rows, length), places of those before (-1: none), positions, paths that count a loss, labels.


def grow(some: random.Random) -> tuple[list[bytes], list[int], list[list[int]]]:
    """Parts of a tree, the part that each goes on from, and all paths: a prompt, answers, and two turns."""
    listed = some.sample(words, 24)
    parts, parents, paths = [" ".join(listed).encode() + b"\n"], [-1], []
    for number in some.sample(range(24), options.answers):
        word, answer = listed[number], len(parts)
        parts += [f"{word}={word.upper()}\n".encode()]
        parts += [f"<{word[::-1]}\n".encode(), f"~{''.join(sorted(word))}\n".encode()]
        parents += [0, answer, answer]
        paths += [[0, answer, answer + 1], [0, answer, answer + 2]]
    return parts, parents, paths


def whole(parts: list[bytes], parents: list[int], paths: list[list[int]]) -> Batch:
    """The tree as one row."""
    before, position, weight, last = [], [], [], []  # the last token of each part
    for number, (part, parent) in enumerate(zip(parts, parents, strict=True)):
        count, above = len(before), last[parent] if parent >= 0 else -1
        first = position[above] + 1 if parent >= 0 else 0
        before += [above, *range(count, count + len(part) - 1)]
        position += range(first, first + len(part))
        weight += [sum(number in path for path in paths) * (number > 0)] * len(part)
        last.append(len(before) - 1)
    segments = torch.tensor([n for n, part in enumerate(parts) for _ in part])
    of_tokens = map(torch.tensor, ([[*b"".join(parts)]], before, position, weight))
    return *of_tokens, bslang.tree(torch.tensor(parents), segments)


def apart(parts: list[bytes], _: list[int], paths: list[list[int]]) -> Batch:
    """A row for each path, padded on the right; the prompt has no loss."""
    rows = [b"".join(parts[part] for part in path) for path in paths]
    tokens = nn.utils.rnn.pad_sequence([torch.tensor([*row]) for row in rows], True)
    position = torch.arange(tokens.shape[1])
    return tokens, position - 1, position, (tokens > 0) & (position >= len(parts[0])), None


class ByPosition(nn.Module):
    """Rotary positions that are no longer 0, 1, 2, ...: those of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.rotary, self.position = Rotary(), torch.zeros(0)

    def forward(self, x: Tensor, start: int | Tensor) -> Tensor:
        tokens = x.movedim(2, 0).flatten(1, 2)[:, :, None]  # each is a row that starts somewhere
        return self.rotary(tokens, self.position)[:, :, 0].unflatten(1, x.shape[:2]).movedim(0, 2)


def loss(model: Transformer, rotary: ByPosition, batch: Batch, layout: bslang.Layout) -> Tensor:
    """The mean over the bytes of answers of all paths, in nats."""
    tokens, before, rotary.position, weight, labels = batch
    scores = model(tokens, labels=labels if layout.labels else None)[:, before[before >= 0]]
    tokens, weight = tokens[:, before >= 0], weight[..., before >= 0]
    each = F.cross_entropy(scores.mT, tokens, reduction="none")
    return (each * weight).sum() / weight.expand_as(each).sum()


# %%
answers, causal = bslang.load("std/tree.bsl:answers", block=64), bslang.compile("causal", block=64)
WAYS = {
    "a row for each path": (apart, causal),
    "one row, a tree": (whole, answers),
    "one row, without the tree": (whole, causal),
}


def train(name: str, seed: int) -> tuple[Tensor, list[float], int, float]:
    """The first gradient, training losses, tokens of the last step, and CPU seconds per step."""
    torch.manual_seed(seed)
    (make, layout), rotary, some = WAYS[name], ByPosition(), random.Random(seed)
    model = Transformer(layout, 128, 128, rotary=rotary, dim=options.dim, heads=options.heads)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    gradient, losses, times = None, [], []
    for _ in range(options.steps):
        batch = make(*grow(some))
        started = time.process_time()
        optimizer.zero_grad()
        mean = loss(model, rotary, batch, layout)
        mean.backward()
        if gradient is None:
            gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
        optimizer.step()
        times.append(time.process_time() - started)
        losses.append(mean.item())
    return gradient, losses, batch[0].numel(), sorted(times)[len(times) // 2]


# %%
chart, axes = figure("Training on trees of answers", "training step", "loss (nats per byte)")
rows, exact = [], ()
for name in WAYS:
    results = [train(name, seed) for seed in range(options.seeds)]
    gradients, losses, computed, times = zip(*results, strict=True)
    exact = exact or (gradients, losses)  # the first way is path by path
    error = max(float((g - e).norm() / e.norm()) for g, e in zip(gradients, exact[0], strict=True))
    apart_by = max(abs(x[0] - e[0]) for x, e in zip(losses, exact[1], strict=True))
    assert error > 1e-2 if "without" in name else max(error, apart_by) < 1e-5, name
    rows.append({"a tree's paths": name, "tokens": str(computed[0])})
    rows[-1]["relative error of the gradient"] = f"{error:.0e}"
    rows[-1]["last loss (nats per byte)"] = spread([run[-1] for run in losses])
    rows[-1]["CPU time per step"] = f"{1000 * min(times):.0f} ms"
    axes.plot(torch.tensor(losses).mean(0), "--" if "a tree" in name else "-", label=name)
table(rows)
axes.legend()
save(chart, options.output, "tree")

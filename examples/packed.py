# %% [markdown]
# # Packed sequences for supervised fine-tuning
#
# Instructions with their answers are short and differ in length. Instead of padding each to the longest, lay
# them end to end in one row and let the layout keep them apart: `same(doc) & causal`, where `doc` numbers the
# example of each token. The loss is on the answers only. This program compares a packed row with its examples
# one by one: gradients, losses and time. It also shows what goes wrong without `same(doc)`.
#
# The words are those of Python's manual; the instructions ask to spell one backwards or in capitals.
# Shorter: `python examples/packed.py --seeds 1`

# %%
import random
import re
import time
from collections.abc import Callable
from pydoc_data.topics import topics

import torch
import torch.nn.functional as F
from common import figure, save, sizes, spread, table
from model import Transformer
from torch import Tensor

import bslang

options = sizes("Train on packed examples.", seeds=3, steps=60, length=512, dim=64, heads=4)
IGNORED = -100  # the label of a token without a loss, as torch and transformers have it
Row = tuple[Tensor, Tensor, Tensor]  # tokens, labels, and the number of the example

# %%
words = sorted(set(re.findall(r"\b[a-z]{3,8}\b", " ".join(topics.values()))))
random.Random(0).shuffle(words)


def example(word: str, backwards: bool) -> tuple[list[int], list[int]]:
    """Tokens (bytes) and labels: the next byte where it belongs to the answer."""
    question, answer = ("backwards ", word[::-1]) if backwards else ("capitals ", word.upper())
    start, text = len(question + word), f"{question}{word}={answer}\n".encode()
    return list(text[:-1]), [IGNORED] * start + list(text[start + 1 :])


def pack(words: list[str], some: random.Random) -> Row:
    """Examples end to end, int64 (1, length) each."""
    row: list[list[int]] = [[], [], []]
    while len(row[0]) < options.length:
        tokens, labels = example(some.choice(words), some.random() < 0.5)
        doc = [row[2][-1] + 1 if row[2] else 0] * len(tokens)
        row = [whole + part for whole, part in zip(row, (tokens, labels, doc), strict=True)]
    return tuple(torch.tensor(part)[None, : options.length] for part in row)


def apart(row: Row) -> list[Row]:
    """The examples, a row each."""
    return [tuple(part[row[2] == number][None] for part in row) for number in row[2].unique()]


def padded(row: Row) -> list[Row]:
    """The examples as one batch, padded on the right."""
    rows = zip(*apart(row), strict=True)
    tokens, labels, doc = ([part[0] for part in parts] for parts in rows)
    pad = torch.nn.utils.rnn.pad_sequence
    return [(pad(tokens, True), pad(labels, True, IGNORED), pad(doc, True))]


# %% [markdown]
# The same row in four ways. All start from the same weights and see the same examples.

# %%
packed, causal = (bslang.compile(spec, block=64) for spec in ("same(doc) & causal", "causal"))
Way = tuple[Callable[[Row], list[Row]], bslang.Layout]
WAYS: dict[str, Way] = {
    "one by one": (apart, causal),
    "padded": (padded, causal),
    "packed": (lambda row: [row], packed),
    "packed, without same(doc)": (lambda row: [row], causal),
}


def loss(model: Transformer, layout: bslang.Layout, row: Row) -> Tensor:
    """The sum over the bytes of the answers, in nats."""
    tokens, labels, doc = row
    scores = model(tokens, labels=doc if layout.labels else None).flatten(0, 1)
    return F.cross_entropy(scores, labels.flatten(), ignore_index=IGNORED, reduction="sum")


def train(way: Way, seed: int) -> tuple[Tensor, list[float], float, float]:
    """The first gradient, training losses, the loss of held-out examples one by one (nats per byte of the
    answers), and CPU seconds per step."""
    torch.manual_seed(seed)
    rows, layout = way
    model, some = (
        Transformer(layout, 128, 128, dim=options.dim, heads=options.heads),
        random.Random(seed),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    gradient, losses, times = None, [], []
    for _ in range(options.steps):
        row = pack(words[200:], some)
        parts, answers = rows(row), (row[1] != IGNORED).sum()
        started = time.process_time()
        optimizer.zero_grad()
        mean = torch.stack([loss(model, layout, part) for part in parts]).sum() / answers
        mean.backward()
        if gradient is None:
            gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
        optimizer.step()
        times.append(time.process_time() - started)
        losses.append(mean.item())
    row = pack(words[:200], random.Random(1000))
    with torch.no_grad():
        held_out = sum(loss(model, layout, part) for part in apart(row)) / (row[1] != IGNORED).sum()
    return gradient, losses, float(held_out), sorted(times)[len(times) // 2]


# %%
chart, axes = figure(
    "Fine-tuning on packed examples", "training step", "loss (nats per byte of the answers)"
)
rows, exact = [], ()
for name, way in WAYS.items():
    results = [train(way, seed) for seed in range(options.seeds)]
    gradients, losses, held_out, times = zip(*results, strict=True)
    exact = exact or gradients  # the first way is one by one
    error = max(float((g - e).norm() / e.norm()) for g, e in zip(gradients, exact, strict=True))
    assert (error > 1e-2) if "without" in name else (error < 1e-5), name
    rows.append({"a row's examples": name, "relative error of the gradient": f"{error:.0e}"})
    rows[-1]["held-out loss (nats per byte)"] = spread(list(held_out))
    rows[-1]["CPU time per step"] = f"{1000 * min(times):.0f} ms"
    axes.plot(torch.tensor(losses).mean(0), "--" if name == "packed" else "-", label=name)
table(rows)
axes.legend()
save(chart, options.output, "packed")

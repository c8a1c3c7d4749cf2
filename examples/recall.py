# %% [markdown]
# # Recall: what a window cannot do
#
# A long text states 16 facts, each "key = value", at random places of its first half. Its last quarter asks
# for them. An encoder with two hops of attention must answer. A window passes a fact on by a few blocks
# per hop, which is not far enough. Global tokens see everything, and everything sees them: here an index
# of the keys, at the start of the text, collects the facts in the first hop and is read in the second.
#
# Shorter: `python examples/recall.py --seeds 1`

# %%
import time

import torch
import torch.nn.functional as F
from common import figure, save, sizes, spread, table
from torch import Tensor, nn

import bslang
from bslang.nn import BlockSparseEncoderLayer

options = sizes(
    "Answer questions about a long text.", seeds=3, lengths=[128, 512, 4096], steps=[350, 100, 40],
    tested=[128, 1024, 4096, 8192, 16384], tests=8, dim=32, heads=2,
)  # fmt: skip
BLOCK, HOPS, KEYS, VALUES, WORDS, QUESTIONS = 16, 2, 16, 8, 32, 32
LAYOUTS = {
    "window": "window(7)",
    "window + random": "window(3) | random(4, seed=7)",
    "window + global": "window(3) | global(0)",
    "window + global + random": "window(3) | global(0) | random(2, seed=7)",
    "dense": "all",
}

# %% [markdown]
# A token is a fact (a key with a value), a question (a key alone), or one of 32 words that say nothing.


# %%
def batch(count: int, length: int, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Keys, values (0: none) and answers (-1: none asked for), int64 (count, length) each."""
    tokens = KEYS + torch.randint(WORDS, (count, length), generator=random)
    tokens[:, :KEYS] = torch.arange(KEYS)  # the index
    value = torch.zeros_like(tokens)
    answer = torch.full_like(tokens, -1)
    truth = torch.randint(VALUES, (count, KEYS), generator=random)

    def places(start: int, stop: int, n: int) -> Tensor:
        return start + torch.rand(count, stop - start, generator=random).argsort(1)[:, :n]

    facts = places(BLOCK, length // 2, KEYS)
    tokens.scatter_(1, facts, torch.arange(KEYS).expand(count, -1))
    value.scatter_(1, facts, truth + 1)
    questions = places(3 * length // 4, length, QUESTIONS)
    asked = torch.randint(KEYS, questions.shape, generator=random)
    tokens.scatter_(1, questions, asked)
    answer.scatter_(1, questions, truth.gather(1, asked))
    answer[:, :KEYS] = truth  # the index is to be filled in as well, which speeds up learning
    return tokens, value, answer


class Reader(nn.Module):
    """One layer of an encoder, applied once for each hop."""

    def __init__(self, layout: bslang.Layout) -> None:
        super().__init__()
        dim = options.dim
        self.token, self.value = nn.Embedding(KEYS + WORDS, dim), nn.Embedding(VALUES + 1, dim)
        self.layer = BlockSparseEncoderLayer(
            dim,
            options.heads,
            layout,
            dim_feedforward=2 * dim,
            dropout=0.0,
            batch_first=True,
            norm_first=True,
        )
        self.answer = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, VALUES))

    def forward(self, tokens: Tensor, value: Tensor) -> Tensor:
        """(batch, length) twice, to (batch, length, VALUES)."""
        x = self.token(tokens) + self.value(value)
        for _ in range(HOPS):
            x = self.layer(x)
        return self.answer(x)


# %% [markdown]
# Training begins with short texts and goes on with longer ones.


# %%
def train(layout: bslang.Layout, seed: int) -> Reader:
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    model = Reader(layout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, betas=(0.9, 0.98))
    for length, steps in zip(options.lengths, options.steps, strict=True):
        for _ in range(steps):
            tokens, value, answer = batch(max(1, 1024 // length), length, random)
            loss = F.cross_entropy(
                model(tokens, value).flatten(0, 1), answer.flatten(), ignore_index=-1
            )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
    return model


@torch.no_grad()
def test(model: Reader, length: int) -> tuple[float, float]:
    """The share of questions that are answered, in percent, and CPU seconds per text."""
    random = torch.Generator().manual_seed(1000)
    correct, started = [], time.process_time()
    for _ in range(options.tests):
        tokens, value, answer = batch(1, length, random)
        right = model(tokens, value).argmax(-1) == answer
        correct.append(right[:, BLOCK:].sum() / QUESTIONS)
    return 100 * float(torch.stack(correct).mean()), (time.process_time() - started) / options.tests


# %%
chart, axes = figure(
    "Recall of facts from the first half of a text",
    "length of the text (tokens)",
    "questions answered (%)",
)
rows = []
for name, spec in LAYOUTS.items():
    layout = bslang.compile(spec, block=BLOCK)
    models = [train(layout, seed) for seed in range(options.seeds)]
    results = {n: [test(model, n) for model in models] for n in options.tested}
    right = {n: [percent for percent, _ in found] for n, found in results.items()}
    longest = layout.graph(max(options.tested))
    visited = longest.blocks_by_row.sum() / (longest.grid.n * longest.grid.m)
    fastest = min(seconds for _, seconds in results[max(options.tested)])
    rows.append(
        {"attention": name}
        | {f"{n:,} tokens": spread(percents, 1, " %") for n, percents in right.items()}
        | {"blocks visited": f"{visited:.1%}", "CPU time per text": f"{1000 * fastest:.0f} ms"}
    )
    means = [sum(percents) / len(percents) for percents in right.values()]
    low, high = [min(p) for p in right.values()], [max(p) for p in right.values()]
    axes.plot(options.tested, means, "o-", label=name)
    axes.fill_between(options.tested, low, high, alpha=0.2)
table(rows)
axes.axhline(100 / VALUES, color="gray", linestyle=":", label="guessing")
axes.set_xscale("log", base=2)
axes.set_xticks(options.tested, [f"{n:,}" for n in options.tested])
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=11)
save(chart, options.output, "recall")

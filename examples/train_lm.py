# %% [markdown]
# # A language model, sparse and dense
#
# The whole way from a spec to a trained model: compile a layout of bigbird.bsl, look at it, import the
# generated module, and train a small byte-level language model at 4,096 tokens of context on real text, the
# prose of Python's own manual, which every Python has (module pydoc_data.topics; PSF licence). A second
# model, which starts from the same weights and sees the same text, has torch's dense attention.
#
# Shorter: `python examples/train_lm.py --steps 20`. Your own: `--spec mine.bsl:my_layout`.

# %%
import importlib
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path
from pydoc_data.topics import topics

import common
import torch
import torch.nn.functional as F
from common import figure, save, sizes, table
from language_model import LanguageModel
from torch import Tensor, nn

SPEC = f"{Path(common.__file__).with_name('bigbird.bsl')}:causal_bigbird"
options = sizes(
    "Train a language model.",
    spec=SPEC,
    seed=0,
    steps=200,
    context=4096,
    dim=128,
    layers=2,
    heads=4,
    lr=4e-3,
)


# %%
def bslang(*arguments: str) -> str:
    """Run a command of bslang's, shown as one would type it; returns what it prints."""
    print("$ bslang", *arguments, flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "bslang", *arguments], stdout=subprocess.PIPE, text=True
    )
    print(done.stdout, flush=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout


written = bslang("compile", options.spec, "-o", options.output)
bslang("show", options.spec, "--seq-len", str(min(options.context, 2048)))
bslang("stats", options.spec, "--seq-len", str(options.context))
sys.path.insert(0, options.output)  # a generated module is an ordinary Python module
layout = importlib.import_module(Path(written.splitlines()[0]).stem).LAYOUT

# %% [markdown]
# ## The model
#
# `LanguageModel` of language_model.py. In each layer a short convolution brings in the nearest tokens, so
# that attention is left with what lies further away.


# %%
def dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


models, optimizers = {}, {}
for name, attention in {"sparse": layout, "dense": dense}.items():
    torch.manual_seed(options.seed)  # the same weights
    models[name] = LanguageModel(
        attention, dim=options.dim, heads=options.heads, layers=options.layers
    )
    optimizers[name] = torch.optim.AdamW(
        models[name].parameters(), lr=options.lr, betas=(0.9, 0.95), weight_decay=0.05
    )


# %% [markdown]
# ## Training


# %%
def loss(model: nn.Module, window: Tensor) -> Tensor:
    """Mean loss in nats per byte of (batch, context + 1) bytes."""
    return F.cross_entropy(model(window[:, :-1]).flatten(0, 1), window[:, 1:].flatten())


text = torch.tensor(list("\n\n".join(topics[name] for name in sorted(topics)).encode()))
size = options.context + 1
middle = (len(text) - 6 * size) // 2  # six windows from the middle are held out
held_out = text[middle : middle + 6 * size].view(6, 1, size)
trained = torch.cat((text[:middle], text[middle + 6 * size :]))
random = torch.Generator().manual_seed(options.seed)
losses: dict[str, list[float]] = {name: [] for name in models}
seconds: dict[str, list[float]] = {name: [] for name in models}
for step in range(options.steps):
    start = int(torch.randint(len(trained) - size, (1,), generator=random))
    window = trained[start : start + size][None]
    decay = 0.1 + 0.45 * (1 + math.cos(math.pi * step / options.steps))
    rate = options.lr * min((step + 1) / max(1, options.steps // 10), decay)
    for name, model in models.items():
        started = time.perf_counter()
        optimizers[name].param_groups[0]["lr"] = rate
        current = loss(model, window)
        optimizers[name].zero_grad()
        current.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizers[name].step()
        losses[name].append(current.item())
        seconds[name].append(time.perf_counter() - started)
    if step % 20 == 19:
        print(
            f"step {step + 1}:",
            ", ".join(f"{name} {losses[name][-1]:.3f}" for name in models),
            flush=True,
        )

# %%
with torch.no_grad():
    tested = {name: [loss(model, one).item() for one in held_out] for name, model in models.items()}
table(
    [
        {"attention": name, "first step": f"{losses[name][0]:.3f}"}
        | {"last steps": f"{statistics.mean(losses[name][-5:]):.3f}"}
        | {"held-out (nats per byte)": f"{statistics.mean(tested[name]):.3f}"}
        | {"time per step": f"{1000 * statistics.median(seconds[name]):.0f} ms"}
        for name in models
    ]
)
apart = [a - b for a, b in zip(tested["sparse"], tested["dense"], strict=True)]
error = statistics.stdev(apart) / math.sqrt(len(apart))
print(f"sparse minus dense: {statistics.mean(apart):+.3f} held-out (standard error {error:.3f})")
chart, axes = figure(
    f"A language model of {options.context:,} bytes", "training time (s)", "loss (nats per byte)"
)
for name in models:
    axes.plot(torch.tensor(seconds[name]).cumsum(0), losses[name], label=name)
axes.legend()
save(chart, options.output, "train_lm")

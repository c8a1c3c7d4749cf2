# %% [markdown]
# # Fine-tuning a model of transformers
#
# A small Llama learns the text of Python's manual with dense attention, in pieces of 256 bytes. It then
# has to read 2,048 bytes at a time. `attach` gives it a layout: the latest 256 tokens, and the first four.
# It is fine-tuned with it and saved; the layout goes into `config.json`, and comes back when the model is
# loaded.
#
# Shorter: `python examples/finetune.py --seeds 1`

# %%
import json
import math
import random
from pathlib import Path
from pydoc_data.topics import topics
from tempfile import TemporaryDirectory

import torch
from common import figure, save, sizes, spread, table
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig

from bslang.integrations.transformers import attach

options = sizes(
    "Fine-tune a small Llama.", seeds=3, short=256, long=2048, steps=250, tuning=30, dim=64
)
LAYOUT = f"(last({options.short}t) | cols(0:4t)) & causal"
text = torch.tensor(list("\n".join(topics[name] for name in sorted(topics)).encode()))
held_out, trained = text[: 8 * options.long], text[8 * options.long :]


# %%
def train(
    model: torch.nn.Module, length: int, steps: int, rate: float, some: random.Random
) -> list[float]:
    """Train on pieces of the text, about 2,048 bytes a step; the losses in bits per byte."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    losses = []
    for _ in range(steps):
        starts = [some.randrange(len(trained) - length) for _ in range(max(1, 2048 // length))]
        ids = torch.stack([trained[start : start + length] for start in starts])
        loss = model(ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item() / math.log(2))
    return losses


@torch.no_grad()
def bits(model: torch.nn.Module, length: int) -> Tensor:
    """Bits per byte of held-out text in pieces of a length, by the place in the piece: (length - 1,)."""
    ids = held_out.view(-1, length)
    scores = torch.cat([model(some[:, :-1]).logits for some in ids.split(4)])
    nats = torch.nn.functional.cross_entropy(scores.transpose(1, 2), ids[:, 1:], reduction="none")
    return nats.mean(0) / math.log(2)


# %%
config = LlamaConfig(
    vocab_size=256, hidden_size=options.dim, intermediate_size=2 * options.dim, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=options.long,
    bos_token_id=None, eos_token_id=None, initializer_range=0.1,
)  # fmt: skip
results: dict[str, list[Tensor]] = {}
for seed in range(options.seeds):
    torch.manual_seed(seed)
    some = random.Random(seed)
    model = AutoModelForCausalLM.from_config(config)
    train(model, options.short, options.steps, 1e-2, some)
    results.setdefault("dense, before", []).append(bits(model, options.long))
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        dense = AutoModelForCausalLM.from_pretrained(folder)
    attach(model, LAYOUT, block=64)
    results.setdefault("layout, before", []).append(bits(model, options.long))
    train(model, options.long, options.tuning, 3e-3, some)
    results.setdefault("layout, fine-tuned", []).append(bits(model, options.long))
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        saved = json.loads(Path(folder, "config.json").read_text())
        loaded = AutoModelForCausalLM.from_pretrained(folder)
    results.setdefault("loaded again", []).append(bits(loaded, options.long))
    train(dense, options.long, options.tuning, 3e-3, random.Random(seed))
    results.setdefault("dense, fine-tuned", []).append(bits(dense, options.long))
print("config.json:", json.dumps(saved["bslang"]["layouts"], indent=1))
for tuned, again in zip(results["layout, fine-tuned"], results["loaded again"], strict=True):
    assert tuned.equal(again), "the loaded model is another"

# %%
early = options.short - 1
table(
    [
        {
            "attention": name,
            f"bytes 1 to {options.short}": spread([float(seed[:early].mean()) for seed in found]),
            f"later bytes, to {options.long}": spread(
                [float(seed[early:].mean()) for seed in found]
            ),
        }
        for name, found in results.items()
    ]
)
chart, axes = figure(
    "A small Llama on long texts", "place in the text (bytes)", "loss (bits per byte)"
)
width = max(1, options.long // 16)
for name, found in results.items():
    if name != "loaded again":
        by_place = torch.stack(found).mean(0).split(width)
        axes.plot(
            [i * width + width // 2 for i in range(len(by_place))],
            [p.mean() for p in by_place],
            label=name,
        )
axes.legend()
save(chart, options.output, "finetune")

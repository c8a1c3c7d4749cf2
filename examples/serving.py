# %% [markdown]
# # Serving with a cache
#
# A language model answers a prompt. It reads the prompt in one call (prefill), and then writes token by
# token, each step with one new query against the keys and values in the cache. The layout here is
# *prefix-stable*: no row depends on tokens that come later, so the tokens are those that one pass over the
# whole text would give. This program checks that, and measures a step as the cache grows. The weights are
# random: time does not depend on them.
#
# Shorter: `python examples/serving.py --prompts 1024 4096`

# %%
import statistics
import time
from pydoc_data.topics import topics

import torch
from common import figure, save, sizes, table
from model import Transformer
from torch import Tensor

import bslang
from bslang.nn import KVCache

options = sizes("Decode with a cache.", prompts=[1024, 4096, 16384], tokens=32, dim=256, heads=4)
LAYOUTS = {
    "dense": "causal",
    "window + first tokens": "(last(1024t) | cols(0:64t)) & causal",
}
LAYERS = 2
manual = torch.tensor(list("\n".join(topics.values()).encode()[: max(options.prompts)]))[None]


# %%
def generate(model: Transformer, prompt: Tensor) -> tuple[Tensor, float, float]:
    """The prompt and the tokens after it, CPU seconds of the prefill, and of a step."""
    caches = [KVCache(max_length=prompt.shape[1] + options.tokens) for _ in range(LAYERS)]
    started = time.process_time()
    scores = model(prompt, caches)
    prefill, steps, text = time.process_time() - started, [], prompt
    for _ in range(options.tokens):
        new = scores[:, -1:].argmax(-1)
        text = torch.cat((text, new), dim=1)
        started = time.process_time()
        scores = model(new, caches)
        steps.append(time.process_time() - started)
    return text, prefill, statistics.median(steps)


def whole(model: Transformer, text: Tensor, count: int) -> Tensor:
    """The last `count` tokens, as one pass over the text without a cache predicts them."""
    return model(text[:, :-1])[:, -count:].argmax(-1)


# %%
chart, axes = figure(
    "Writing a token with a cache", "tokens in the cache", "CPU time per token (ms)"
)
rows = {length: {"prompt": f"{length:,} tokens"} for length in options.prompts}
with torch.no_grad():
    for name, spec in LAYOUTS.items():
        torch.manual_seed(0)
        layout = bslang.compile(spec, block=64)
        model = Transformer(layout, 256, 256, dim=options.dim, heads=options.heads, layers=LAYERS)
        generate(model, manual[:, :128])  # builds the kernels, which is not measured
        times = []
        for length in options.prompts:
            text, prefill, step = generate(model, manual[:, :length])
            assert text[:, length:].equal(whole(model, text, options.tokens)), (
                "the cache changed a token"
            )
            rows[length][f"prefill, {name}"] = f"{prefill:.2f} s"
            rows[length][f"per token, {name}"] = f"{1000 * step:.1f} ms"
            times.append(1000 * step)
        axes.plot(options.prompts, times, "o-", label=name)
table(list(rows.values()))
axes.set_xscale("log", base=2)
axes.set_xticks(options.prompts, [f"{n:,}" for n in options.prompts])
axes.set_ylim(bottom=0)
axes.legend()
save(chart, options.output, "serving")

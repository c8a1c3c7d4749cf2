# %% [markdown]
# # One long sequence over several processes
#
# The demo's language model on one long sequence, cut along its length over the processes of a group (context
# parallelism): each computes the attention of its own queries, and fetches the keys that they see. The same
# training runs in one process and in several, with the program train_ranks.py, so that losses can be compared
# step by step.
#
# Shorter: `python examples/context_parallel.py --steps 4`. On GPUs, run train_ranks.py with torchrun.

# %%
import json
import statistics
import subprocess
import sys
from pathlib import Path

import common
from common import figure, save, sizes, table

HERE = Path(common.__file__).parent
options = sizes(
    "Train a language model in one process and in several.",
    spec=f"{HERE / 'bigbird.bsl'}:causal_bigbird",
    ranks=4,
    seed=0,
    steps=20,
    context=16384,
    dim=128,
    layers=2,
    heads=4,
    lr=4e-3,
)

# %% [markdown]
# ## What will move
#
# Which blocks a rank holds, what it fetches, and how much that is beside gathering all keys and values, is
# known before anything runs. (The command counts bf16; the model is fp32.)

# %%
head_dim = options.dim // options.heads
command = ["stats", options.spec, "--seq-len", str(options.context), "--ranks", str(options.ranks)]
command += ["--heads", str(options.heads), "--head-dim", str(head_dim)]
print("$ bslang", *command, flush=True)
subprocess.run([sys.executable, "-m", "bslang", *command], check=True)

# %% [markdown]
# ## Training


# %%
def train(ranks: int) -> dict[str, list[float]]:
    """Losses and seconds of each step, and the bytes that each rank sends in one."""
    given = {name: value for name, value in vars(options).items() if name != "ranks"}
    arguments = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    subprocess.run(
        [sys.executable, *launcher, str(HERE / "train_ranks.py"), *arguments], check=True
    )
    written = Path(options.output, f"train_ranks_{ranks}.json")
    return json.loads(written.read_text(encoding="utf-8"))


found = {ranks: train(ranks) for ranks in (1, options.ranks)}
one, several = found[1], found[options.ranks]
local = -(-options.context // options.ranks)
# Keys and values of the other ranks, and back their gradients, all fp32, in each layer.
gathered = 2 * (options.ranks - 1) * local * 2 * options.dim * 4 * options.layers

# %%
apart = max(abs(a - b) / a for a, b in zip(one["losses"], several["losses"], strict=True))
table(
    [
        {"processes": str(ranks)}
        | {"first loss": f"{each['losses'][0]:.5f}", "last loss": f"{each['losses'][-1]:.5f}"}
        | {"time per step": f"{statistics.median(each['seconds']):.2f} s"}
        | {"sent by a rank per step": f"{max(each['sent']) / 1e6:.2f} MB"}
        | {"of an all-gather": f"{100 * max(each['sent']) / gathered:.1f}%"}
        for ranks, each in found.items()
    ]
)
print(f"losses differ by {apart:.1e} of their size, at most")
if apart > 1e-3:
    raise SystemExit("the losses of one process and of several are not the same")
chart, axes = figure(
    f"One sequence of {options.context:,} bytes", "step (count)", "loss (nats per byte)"
)
for ranks, each in found.items():
    axes.plot(range(1, options.steps + 1), each["losses"], label=f"{ranks} processes")
axes.legend()
save(chart, options.output, "context_parallel")

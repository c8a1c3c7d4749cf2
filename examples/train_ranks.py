"""Train the demo's language model on one long sequence that is cut over the processes of a group.

    torchrun --nproc-per-node 4 examples/train_ranks.py     # gloo on CPUs, NCCL on GPUs

With one process it is ordinary training, of the layout and the whole sequence. context_parallel.py runs both.
"""

from __future__ import annotations

import json
import os
import time
from datetime import timedelta
from pathlib import Path
from pydoc_data.topics import topics

import common
import torch
import torch.distributed as dist
import torch.nn.functional as F
from language_model import LanguageModel
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

import bslang
from bslang.distributed import context_parallel, shard_sequence
from bslang.distributed.transport import HEARS

SPEC = Path(common.__file__).with_name("bigbird.bsl")
options = common.sizes(
    "Train a language model over several processes.",
    spec=f"{SPEC}:causal_bigbird",
    seed=0,
    steps=20,
    context=16384,
    dim=128,
    layers=2,
    heads=4,
    lr=4e-3,
)

# ---- the group ---------------------------------------------------------------------------------------
rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
device = torch.device("cpu")
if torch.cuda.is_available():
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
dist.init_process_group(timeout=timedelta(minutes=2))
mesh = init_device_mesh(device.type, (ranks,), mesh_dim_names=("cp",))

# ---- the model ---------------------------------------------------------------------------------------
layout = bslang.load(options.spec)
sizes = {"dim": options.dim, "heads": options.heads, "layers": options.layers}
torch.manual_seed(options.seed)  # the same weights on every rank
if ranks == 1:
    model = LanguageModel(layout, **sizes)
else:
    sharding = shard_sequence(layout, options.context, mesh["cp"], heads=options.heads)
    attention = context_parallel(layout, sharding)
    model = LanguageModel(attention, before=lambda x, n: sharding.with_before(x, 1, n), **sizes)
model.to(device)
optimizer = torch.optim.AdamW(
    model.parameters(), lr=options.lr, betas=(0.9, 0.95), weight_decay=0.05
)
sent: list[int] = []  # bytes that this rank's attention and convolutions send to others
HEARS.append(lambda request: sent.append(request.sent(rank)))


def loss_of(window: torch.Tensor) -> torch.Tensor:
    """This rank's share of the mean loss, in nats per byte, of (1, context + 1) bytes."""
    tokens, following, positions = window[:, :-1], window[:, 1:], None
    if ranks > 1:
        # Each token's label is chosen before the sequence is cut.
        tokens = sharding.shard(tokens, dim=1)
        following = sharding.shard(following, dim=1, fill=-100)
        positions = sharding.positions.to(device)
    scores = model(tokens, positions)
    total = F.cross_entropy(
        scores.flatten(0, 1), following.flatten(), ignore_index=-100, reduction="sum"
    )
    return total / options.context


# ---- training ----------------------------------------------------------------------------------------
text = torch.tensor(list("\n\n".join(topics[name] for name in sorted(topics)).encode()))
random = torch.Generator().manual_seed(options.seed)
losses: list[float] = []
seconds: list[float] = []
for step in range(options.steps):
    start = int(torch.randint(len(text) - options.context - 1, (1,), generator=random))
    window = text[start : start + options.context + 1][None].to(device)
    sent.clear()
    started = time.perf_counter()
    loss = loss_of(window)
    optimizer.zero_grad()
    loss.backward()
    # Every rank has the weights, and gradients of the part of the loss of its own tokens: they are added.
    gradients = nn.utils.parameters_to_vector([p.grad for p in model.parameters()])
    dist.all_reduce(gradients)
    nn.utils.vector_to_parameters(gradients, [p.grad for p in model.parameters()])
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    whole = loss.detach()
    dist.all_reduce(whole)
    losses.append(whole.item())
    seconds.append(time.perf_counter() - started)
    if rank == 0 and step % 5 == 4:
        print(f"{ranks} ranks, step {step + 1}: loss {losses[-1]:.4f}", flush=True)

every = [None] * ranks
dist.all_gather_object(every, sum(sent))
if rank == 0:
    figures = {"losses": losses, "seconds": seconds, "sent": every}
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"train_ranks_{ranks}.json").write_text(json.dumps(figures), encoding="utf-8")
dist.barrier()  # no rank leaves while another still hears from it
del mesh  # it holds the group, whose threads would outlive Python: gloo's end the process with an error then
dist.destroy_process_group()

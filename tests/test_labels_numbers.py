"""Labels as numbers: comparisons of what a call says of its tokens, on every target.

Each layout stands beside its meaning, written with the labels as tensors.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from reference import TOLERANCE, agrees, inputs
from torch import nn

import bslang
from bslang.labels import Given
from bslang.nn import BlockSparseAttention, KVCache

TOLERATED = TOLERANCE[torch.float32]
Tensor = torch.Tensor


class Told:
    """The labels of a call. of_q, of_k: those of queries (batch, heads, len_q, 1) and keys (batch, heads, 1,
    len_k); of_row: (batch, 1, 1, 1)."""

    def __init__(self, labels: dict[str, Given], heads: int, len_q: int, align: str) -> None:
        self.labels, self.heads, self.len_q, self.align = labels, heads, len_q, align

    def of_q(self, name: str) -> Tensor:
        label = self.labels[name]
        own = label[0] if isinstance(label, tuple) else label[..., -self.len_q :]
        return self._whole(own)[..., None]

    def of_k(self, name: str) -> Tensor:
        label = self.labels[name]
        return self._whole(label[1] if isinstance(label, tuple) else label)[..., None, :]

    def of_row(self, name: str) -> Tensor:
        label = self.labels[name]
        assert isinstance(label, Tensor)
        return label[:, None, None, None]

    def _whole(self, label: Tensor) -> Tensor:
        shape = (1,) * (2 - min(label.dim(), 2)) + tuple(label.shape)
        label = label.reshape(shape) if label.dim() == 3 else label.reshape(shape)[:, None]
        return label.repeat_interleave(self.heads // label.shape[1], 1).long()


def some(low: int, high: int, *shape: int) -> Tensor:
    """Integers, which differ with their range and shape."""
    generator = torch.Generator().manual_seed(sum(shape) + high)
    return torch.randint(low, high, shape, generator=generator)


def rising(high: int, *shape: int) -> Tensor:
    return some(0, high, *shape).sort(-1).values


def same(told: Told, name: str) -> Tensor:
    return told.of_q(name) == told.of_k(name)


@dataclass(frozen=True)
class Case:
    """A layout with labels, and what they mean."""

    spec: str
    labels: dict[str, Given]
    meaning: Callable[[Told, Tensor, Tensor], Tensor]
    len_q: int = 60
    len_k: int = 60
    align: str = "end"

    def mask(self, heads: int = 4) -> Any:
        """Bool (2, heads, len_q, len_k)."""
        start = self.len_k - self.len_q if self.align == "end" else 0
        q, k = torch.arange(self.len_q)[:, None] + start, torch.arange(self.len_k)
        mask = self.meaning(Told(self.labels, heads, self.len_q, self.align), q, k)
        return mask.expand(2, heads, self.len_q, self.len_k).numpy()

    def check(self, target: str) -> None:
        layout = bslang.compile(self.spec, block=16, target=target)
        given = inputs(self.len_q, self.len_k, heads=4, key_heads=2, batch=2)
        agrees(layout, given, self.mask(), TOLERATED, align=self.align, labels=self.labels)


TREE = bslang.tree(torch.tensor([-1, 0, 0, 1, -1]), some(0, 5, 60).sort().values)
FAR = torch.tensor([-(2**31), -(2**31) + 3, 2**31 - 4, 2**31 - 1]).repeat_interleave(15)

CASES = {
    "tree": Case(
        "{q, k : tin[k] <= tin[q] < tout[k]} & causal",
        {**TREE},
        lambda t, q, k: (t.of_k("tin") <= t.of_q("tin")) & (t.of_q("tin") < t.of_k("tout")) & (k <= q),
    ),
    "time": Case(
        "{q, k : 0 <= time[q] - time[k] < 30}",
        {"time": rising(100, 2, 60)},
        lambda t, q, k: (t.of_q("time") >= t.of_k("time")) & (t.of_q("time") - t.of_k("time") < 30),
    ),
    "far": Case(  # differences beyond 32 bits
        "{q, k : -5 < far[q] - far[k] < 5}",
        {"far": FAR},
        lambda t, q, k: (t.of_q("far") - t.of_k("far")).abs() < 5,
    ),
    "stage": Case(
        "{q, k : stage[k] <= stage[q]}",
        {"stage": (rising(5, 2, 50), rising(5, 2, 30))},
        lambda t, q, k: t.of_k("stage") <= t.of_q("stage"),
        50, 30, "start",
    ),
    "anchor": Case(
        "{q, k : k < anchor[q]}",
        {"anchor": some(0, 60, 2, 20)},
        lambda t, q, k: k < t.of_q("anchor"),
        20,
    ),
    "cut": Case(
        "{q, k : k <= q | q >= cut[b]}",
        {"cut": torch.tensor([40, 7])},
        lambda t, q, k: (k <= q) | (q >= t.of_row("cut")),
    ),
    "flashmask": Case(
        "~{q, k : lo[k] <= q < hi[k]}",
        {"lo": rising(60, 2, 60), "hi": rising(60, 2, 60) + 9},
        lambda t, q, k: ~((t.of_k("lo") <= q) & (q < t.of_k("hi"))),
    ),
    "property": Case(
        "(same(seg) | {q, k : gist[k] == 1}) & causal",
        {"seg": rising(4, 60), "gist": some(0, 2, 2, 60)},
        lambda t, q, k: (same(t, "seg") | (t.of_k("gist") == 1)) & (k <= q),
        7,
    ),
    "sinks_of_documents": Case(
        "same(doc) & (last(9t) | {q, k : place[k] < 4}) & causal",
        {"doc": torch.arange(60) // 25, "place": torch.arange(60) % 25},
        lambda t, q, k: same(t, "doc") & ((q - k < 9) | (t.of_k("place") < 4)) & (k <= q),
    ),
    "heads": Case(
        "same(cluster) & causal",
        {"cluster": some(0, 6, 2, 4, 60)},
        lambda t, q, k: same(t, "cluster") & (k <= q),
    ),
    "key_heads": Case(
        "{q, k : cluster[k] <= cluster[q]} | last(5t)",
        {"cluster": some(-3, 3, 2, 2, 60)},
        lambda t, q, k: (t.of_k("cluster") <= t.of_q("cluster")) | ((q - k >= 0) & (q - k < 5)),
        1,
    ),
    "arithmetic": Case(
        "{q, k : time[q] // 10 == time[k] // 10 & (time[q] + k) % 3 < 2 & k < len_k // 2}",
        {"time": rising(100, 2, 60)},
        lambda t, q, k: (
            (t.of_q("time") // 10 == t.of_k("time") // 10) & ((t.of_q("time") + k) % 3 < 2) & (k < 30)
        ),
    ),
    "turned": Case(
        "{q, k : far[k] < q}.T ^ causal",
        {"far": some(0, 60, 60)},
        lambda t, q, k: (t.of_q("far") < k) ^ (k <= q),
    ),
    "by_head": Case(
        "heads { 0 -> {q, k : a[q] != a[k]}; 1: -> {q, k : a[k] <= head & k <= q} }",
        {"a": some(0, 4, 2, 60)},
        lambda t, q, k: torch.cat(
            [
                (t.of_q("a") != t.of_k("a"))[:, :1],
                ((t.of_k("a") <= torch.arange(4)[:, None, None]) & (k <= q))[:, 1:],
            ],
            1,
        ),
    ),
}  # fmt: skip
BUILT = ("tree", "cut", "property")
"""Layouts whose kernels are built for the cpu target: labels of all kinds."""


@pytest.mark.parametrize("name", CASES)
def test_results(name: str) -> None:
    for target in ("torch", "cpu") if name in BUILT else ("torch",):
        CASES[name].check(target)


def check(name: str, target: str) -> None:
    """By name, as functions do not go to another process."""
    CASES[name].check(target)


@pytest.mark.parametrize("name", ["tree", "key_heads"])
def test_results_on_triton(name: str, interpreting: Executor) -> None:
    interpreting.submit(check, name, "triton").result()


@pytest.mark.parametrize("target", ["torch", "cpu"])
def test_what_labels_exclude_is_not_visited(target: str) -> None:
    """Later stages hold NaN, which whole blocks of earlier ones neither see nor feel."""
    layout = bslang.compile(CASES["tree"].spec, block=16, target=target)
    labels = bslang.tree(torch.tensor([-1, -1]), (torch.arange(64) >= 32).long())
    given = inputs(64, 64, heads=4, key_heads=2, batch=2)
    for x in (given.q, given.k, given.v, given.grad_out):
        x[:, :, 32:] = torch.nan
    q, k, v = (x.requires_grad_() for x in (given.q, given.k, given.v))
    out = layout(q, k, v, labels=labels)
    for x in (out, *torch.autograd.grad(out, (q, k, v), given.grad_out)):
        assert x[:, :, :32].isfinite().all() and x[:, :, 32:].isnan().all()


# ---- entries -------------------------------------------------------------------------------------


class Attends(nn.Module):
    def __init__(self, target: str) -> None:
        super().__init__()
        self.layout = bslang.compile(CASES["property"].spec, block=16, target=target)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, seg: Tensor, gist: Tensor) -> Tensor:
        return self.layout(q, k, v, labels={"seg": seg, "gist": gist})


def test_compiled_exported_and_pickled() -> None:
    """Also beside a cache: `gist` is asked of keys alone."""
    module = Attends("torch")
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend="aot_eager")
    for length in (60, 45):
        given = inputs(9, length, heads=4, key_heads=2, batch=2)
        labels = rising(4, length), some(0, 2, 2, length)
        leaves = [x.requires_grad_() for x in (given.q, given.k, given.v)]
        found = []
        for function in (module, compiled):
            out = function(*leaves, *labels)
            found.append((out, *torch.autograd.grad(out, leaves, given.grad_out)))
        for got, wanted in zip(*found, strict=True):
            torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)
    tensors = (*(x.detach() for x in leaves), *labels)
    truth = module(*tensors)
    program = torch.export.export(module, tensors).module()
    for one in (program, pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
        torch.testing.assert_close(one(*tensors), truth, rtol=0, atol=0)


def test_a_layer_with_a_cache_is_the_whole_sequence() -> None:
    torch.manual_seed(0)
    case = CASES["property"]
    made = BlockSparseAttention(64, 4, bslang.compile(case.spec, block=16, target="torch"))
    x, past = torch.randn(2, 60, 64), KVCache()
    with torch.no_grad():
        whole, steps, seen = made(x, labels=case.labels), [], 0
        for part in x.split(13, 1):
            seen += part.shape[1]
            labels = {name: label[..., :seen] for name, label in case.labels.items()}
            steps.append(made(part, cache=past, labels=labels))
    torch.testing.assert_close(torch.cat(steps, 1), whole, rtol=0, atol=1e-5)

"""Calls that are special in one respect each: dtypes, dimensions, strides, streams, captured graphs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.first import carried
from benchmarks.first.carried import SPECIAL, Carried
from benchmarks.first.right import SMALL_DIM, Shape, attend, compare, drawn
from benchmarks.first.steps import Record, Task
from benchmarks.first.where import CUDA, INTERPRETER, Where, task
from bslang.layouts import Layout

CAUSAL, OTHER_DTYPES, SPLIT, DOCUMENTS, _ = (each.name for each in SPECIAL)

PLANS = 40
"""More lengths than a layout keeps plans for."""


def tasks(where: Where, folder: str) -> Iterator[Task]:
    layouts = {each.name: each for each in carried.read(Path(folder))}
    for name in (*CASES, *(ON_A_GPU if where.on == CUDA else ())):
        yield Task(name, run, (where, folder, name, layouts), seconds=30)
    if where.on == CUDA and shutil.which("compute-sanitizer"):
        yield Task("compute-sanitizer", sanitized, (where, folder), seconds=60)


@task
def run(where: Where, folder: str, name: str, layouts: dict[str, Carried]) -> Record:
    def layout(which: str) -> Layout:
        return carried.layout(folder, layouts[which])

    return (CASES | ON_A_GPU)[name](where, layout)


Layouts = Callable[[str], Layout]
Case = Callable[[Where, Layouts], Record]


def shape(where: Where, dim: int = 64, dtype: torch.dtype | None = None, **options: Any) -> Shape:
    """A call of some tiles, ragged; in an interpreter as few as do."""
    length = 1000 if where.on == CUDA else 200
    dim = min(dim, 24) if where.on == INTERPRETER else dim
    return Shape(length, dim, 4, 2, dtype or where.dtype, options)


def of_dim(dim: int) -> Case:
    return lambda where, layouts: compare(where, layouts(CAUSAL), shape(where, dim))


def of_dtype(dtype: torch.dtype) -> Case:
    return lambda where, layouts: compare(where, layouts(OTHER_DTYPES), shape(where, dtype=dtype))


def tf32(where: Where, layouts: Layouts) -> Record:
    """Products may be rounded to tf32, which has as many bits as fp16. A call must not raise, whichever of
    torch's two settings says it."""
    matmul = torch.backends.cuda.matmul
    given = shape(where, dtype=torch.float32)
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "tf32"
        found = compare(where, layouts(OTHER_DTYPES), given)
    finally:
        matmul.fp32_precision = before
    errors = {name: x for name, x in found.get("errors", {}).items() if name != "lse"}
    large = [f"{name} is off by {x:.1e}" for name, x in errors.items() if not x <= 2.5e-2]
    return found | {"wrong": "; ".join(large)}


def softcap(where: Where, layouts: Layouts) -> Record:
    return compare(where, layouts(CAUSAL), shape(where, softcap=2.0))


def sinks(where: Where, layouts: Layouts) -> Record:
    logits = torch.linspace(-1, 3, 4, device=where.device)
    return compare(where, layouts(SPLIT), shape(where, sinks=logits))


def unaligned(where: Where, layouts: Layouts) -> Record:
    """Rows that begin at an odd element of their memory."""
    of = shape(where)
    tensors = {}
    for name, x in drawn(where, of).items():
        flat = torch.empty(x.numel() + 1, dtype=x.dtype, device=x.device)
        tensors[name] = flat[1:].view(x.shape).copy_(x.detach()).requires_grad_(name != "do")
    return compare(where, layouts(CAUSAL), of, **tensors)


def expanded(where: Where, layouts: Layouts) -> Record:
    """One row of heads for all batches, with a stride of 0, and an output's gradient that is one number."""
    of = shape(where)
    tensors = {}
    for name, x in drawn(where, of).items():
        one = x.detach()[:1] if name != "do" else torch.ones((), dtype=x.dtype, device=x.device)
        tensors[name] = one.expand(x.shape).requires_grad_(name != "do")
    return compare(where, layouts(CAUSAL), of, **tensors)


def transposed(where: Where, layouts: Layouts) -> Record:
    """(batch, length, heads, dim) in memory, as projections give them."""
    of = shape(where)
    tensors = {
        name: x.detach().transpose(1, 2).contiguous().transpose(1, 2).requires_grad_(name != "do")
        for name, x in drawn(where, of).items()
    }
    return compare(where, layouts(SPLIT), of, **tensors)


def default_dtype(where: Where, layouts: Layouts) -> Record:
    """Split rows join parts in fp32, whatever the default dtype is."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float16)
    try:
        return compare(
            where, layouts(SPLIT), replace(shape(where), length=4096 if where.on == CUDA else 200)
        )
    finally:
        torch.set_default_dtype(before)


def twice(where: Where, layouts: Layouts) -> Record:
    """Two runs are equal to the bit, gradients too."""
    given = drawn(where, shape(where))
    first, second = (attend(layouts(SPLIT), given, {}) for _ in range(2))
    other = [name for name in first if not torch.equal(first[name], second[name])]
    return {"wrong": f"{', '.join(other)} differ from run to run" if other else ""}


def labels(where: Where, layouts: Layouts) -> Record:
    return compare(where, layouts(DOCUMENTS), shape(where))


@contextmanager
def _side_stream() -> Iterator[None]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream().wait_stream(stream)


def side_stream(where: Where, layouts: Layouts) -> Record:
    """The first call at a length, in a stream of its own, behind work that fills its inputs late."""
    given = drawn(where, replace(shape(where), length=1016))
    with _side_stream():
        late = {name: x.detach().clone().requires_grad_(name != "do") for name, x in given.items()}
        torch.cuda._sleep(20_000_000)  # clock cycles: 10 ms
        found = attend(layouts(SPLIT), late, {})
    torch.cuda.synchronize()
    return _same(found, attend(layouts(SPLIT), given, {}))


def _same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> Record:
    other = [name for name in expected if not torch.equal(found[name], expected[name])]
    return {"wrong": f"{', '.join(other)} differ" if other else ""}


def graph(where: Where, layouts: Layouts) -> Record:
    """A captured graph of forward and backward, replayed with other inputs after so many other lengths that
    its plan was dropped."""
    layout, of = layouts(SPLIT), shape(where)
    static, fresh = drawn(where, of), drawn(where, of)
    with _side_stream():
        for _ in range(3):
            attend(layout, static, {})
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        found = attend(layout, static, {})
    for length in range(64, 64 + PLANS):
        attend(layout, drawn(where, replace(of, length=length)), {})
    torch.cuda.empty_cache()
    with torch.no_grad():
        for name, x in static.items():
            fresh[name].copy_(torch.randn_like(x))
            x.copy_(fresh[name])
    captured.replay()
    torch.cuda.synchronize()
    return _same(found, attend(layout, fresh, {}))


CASES: dict[str, Case] = {
    **{f"head dimension {dim}": of_dim(dim) for dim in (24, 40, 72, 88)},
    "fp16": of_dtype(torch.float16),
    "fp32": of_dtype(torch.float32),
    "tf32": tf32,
    "softcap": softcap,
    "sinks": sinks,
    "unaligned": unaligned,
    "expanded": expanded,
    "transposed": transposed,
    "labels": labels,
    "default dtype": default_dtype,
    "two runs": twice,
}
ON_A_GPU: dict[str, Case] = {"side stream": side_stream, "captured graph": graph}


@task
def sanitized(where: Where, folder: str) -> Record:
    """One tiny call under compute-sanitizer."""
    line = ["compute-sanitizer", "--error-exitcode", "9", sys.executable, "-m", __name__, folder]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).strip().splitlines()[-5:]
    return {"said": said, "wrong": "" if done.returncode == 0 else f"exit {done.returncode}"}


if __name__ == "__main__":
    _layouts = {each.name: each for each in carried.read(Path(sys.argv[1]))}
    _shape = Shape(100, SMALL_DIM * 4, 2, 1, torch.bfloat16)
    _found = attend(carried.layout(sys.argv[1], _layouts[SPLIT]), drawn(Where(CUDA), _shape), {})
    torch.cuda.synchronize()
    print({name: float(x.float().nansum()) for name, x in _found.items()})

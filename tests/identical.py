"""Whether this checkout gives the same results as another commit, bit for bit.

    python tests/identical.py BASE      # `make identical BASE=<commit>`

Calls the same layouts on the same tensors in both checkouts, on every target: forward, log-sum-exp
and all gradients. Prints what differs, layout by layout, beside the largest difference in units of
the dtype's rounding, and exits with status 1 if anything does. Where the masks of a layout change, the
torch and triton targets may sum in another order: that figure says whether it is a difference of rounding.

Only the public interface is called, so that BASE can be an old commit. The triton target runs in
Triton's interpreter, on the small layouts.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

import bslang
from bslang.errors import BslangError

DTYPES = {
    "cpu": (torch.float32, torch.bfloat16, torch.float16),
    "torch": (torch.float32, torch.float64),
    "triton": (torch.float32, torch.float16),
}
PARTS = ("out", "lse", "dq", "dk", "dv")
HERE = Path(__file__).resolve().parents[1]
SMALL = 100
"""Tokens of the longest layout that the interpreter is given half of."""

Results = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Call:
    """How a layout is called.

    queries: their share of the keys; 0 for one query. group: heads that read one key head.
    """

    name: str
    queries: float = 1
    group: int = 2
    strided: bool = False
    packed: bool = False
    padding: str = ""
    options: dict[str, Any] = field(default_factory=dict)


CALLS = (
    Call("square"),
    Call("one query", queries=0, group=4),
    Call("last third", queries=1 / 3, group=1, strided=True),
    Call("start", queries=1 / 2, options={"align": "start"}),
    Call("softcap", group=4, options={"softcap": 2.0}),
    Call("negative scale", strided=True, options={"scale": -0.3}),
    Call("packed", packed=True),
)
PADDED = (
    Call("bool padding", padding="bool", group=4),
    Call("padded lengths", queries=1 / 3, padding="lengths", options={"softcap": 3.0}),
)
"""They compile a second layout each, so only some layouts are called like this."""


@dataclass(frozen=True)
class Case:
    """A layout, in blocks of a size, on sequences of a length."""

    spec: str
    block: tuple[int, int]
    length: int
    dim: int = 32
    labels: tuple[str, ...] = ()
    calls: tuple[Call, ...] = CALLS
    batch: int = 2
    heads: int = 4

    def smaller(self, turn: int) -> Case:
        """For the interpreter, which is slow: every other call, of a batch of one, on fewer tokens."""
        calls = self.calls[turn % 2 :: 2]
        return replace(self, length=self.length // 2, calls=calls, batch=1, heads=2)

    def __str__(self) -> str:
        return f"{self.spec}, blocks {self.block[0]}x{self.block[1]}"


BIGBIRD = "window(3) | global(0, -1) | random(2, seed=7)"
FAR = "(last(500t) | cols(0:4t)) & causal"
BY_HEAD = "heads { 0:2 -> window(3); 2 -> causal - cols(3t); 3: -> cols(0:3t) | last(9t) }"
CASES = (
    Case(BIGBIRD, (64, 64), 700, 64, calls=CALLS + PADDED),
    Case(BIGBIRD, (16, 16), 93, 16, calls=CALLS + PADDED),
    Case("causal", (128, 64), 333),
    Case("causal", (16, 32), 75, 24),
    Case(FAR, (64, 64), 1000, 64, calls=CALLS + PADDED),
    Case(FAR.replace("500t", "40t"), (16, 16), 99, 16),
    Case("chunks(2, back=1) & causal", (24, 24), 95, 40),
    Case("chunks(50t, 70t) | strided(20t)", (64, 64), 300, 8),
    Case("strided(3) & causal | every(7t)", (13, 13), 90, 16),
    Case("{q, k : (q * 3 + k) % 5 < 2 & k <= q}", (16, 16), 70, 16),
    Case("{q, k : q // 100 == k // 100 | abs(q - k) < 20 & k % 3 != 0}", (64, 32), 450),
    Case(BY_HEAD, (16, 16), 90, 16, calls=CALLS + PADDED),
    Case("random(2, seed=head)", (16, 16), 88, 16),
    Case("random(2, seed=head) | last(head * 30t + 1t)", (64, 64), 600),
    Case("same(doc) & causal", (16, 16), 85, 16, ("doc",)),
    Case("same(doc) & causal", (64, 64), 500, 80, ("doc",), CALLS + PADDED),
    Case("(same(a) - same(b)) & last(40t) | cols(0)", (16, 16), 80, 16, ("a", "b")),
    Case("strided(2) @ last(inf) | window(3) ** 2", (16, 16), 96, 16),
    Case("window(3).T ^ global(0:2) & ~(random(2, seed=1) @ window(3))", (32, 32), 420, 128),
    Case("rows(20t:50t) - cols(7t:30t)", (5, 3), 60, 8),
)


# ---- one checkout --------------------------------------------------------------------------------


def record(cases: tuple[Case, ...], target: str, dtype: torch.dtype) -> dict[str, Results]:
    """The results of some layouts, each by `call, part`; `call, refused` for one that raises."""
    found = {}
    for case in cases:
        layout = bslang.compile(case.spec, block=case.block, target=target)
        found[str(case)] = {
            f"{call.name}, {part}": x
            for call in case.calls
            if not (call.packed and case.labels)
            for part, x in results(layout, case, call, dtype).items()
        }
    return found


def results(layout: Any, case: Case, call: Call, dtype: torch.dtype) -> Results:
    """What a call returns and its gradients, by part."""
    generator = torch.Generator().manual_seed(case.length)
    len_k = case.length
    len_q = max(1, round(len_k * call.queries))
    batch = 1 if call.packed else case.batch
    key_heads = case.heads // min(call.group, case.heads)

    def tensor(heads: int, length: int) -> torch.Tensor:
        shape = (batch, heads, length, case.dim + 3 * call.strided)
        x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        return x[..., : case.dim].requires_grad_()

    q, k, v = tensor(case.heads, len_q), tensor(key_heads, len_k), tensor(key_heads, len_k)
    options = dict(call.options, return_lse=True)
    if call.packed:
        options["cu_seqlens"] = [0, len_k // 3, len_k // 3, len_k]
    if call.padding:
        options["key_padding"] = padding(call.padding, len_k)[:batch]
    if case.labels:
        by_key = {
            name: torch.randint(0, 3, (batch, len_k), generator=generator).sort(-1).values
            for name in case.labels
        }
        start = options.get("align") == "start"
        options["labels"] = {n: (x[:, :len_q], x) if start else x for n, x in by_key.items()}
    try:
        out, lse = (layout.packed if call.packed else layout)(q, k, v, **options)
    except BslangError:
        return {"refused": torch.zeros(0)}
    grads = tensor(case.heads, len_q).detach(), torch.randn(lse.shape, generator=generator).to(lse)
    grads[1][lse.isinf()] = 0
    found = (out, lse, *torch.autograd.grad((out, lse), (q, k, v), grads))
    return dict(zip(PARTS, (x.detach() for x in found), strict=True))


def padding(kind: str, len_k: int) -> torch.Tensor:
    """The keys that no query sees, of two sequences."""
    if kind == "lengths":
        return torch.tensor([len_k - 5, len_k // 2])
    return torch.stack([torch.arange(len_k) % 7 == 3, torch.arange(len_k) > len_k // 2])


def write(target: str, file: Path) -> None:
    """Record a target in this process, whose `bslang` is that of one of the checkouts."""
    if target == "triton":
        from interpreter import prepare

        prepare()
    torch.set_num_threads(2 if target == "cpu" else 1)  # kernels whose threads share heads, too
    found = {}
    for number, dtype in enumerate(DTYPES[target]):
        cases = CASES
        if target == "triton":
            short = [case for case in CASES if case.length <= SMALL]
            cases = tuple(case.smaller(number + turn) for turn, case in enumerate(short))
        for case, tensors in record(cases, target, dtype).items():
            found[f"{target} {str(dtype)[6:]}", case] = tensors
    torch.save(found, file)


# ---- both ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """A result that is not the same. size: in units of the dtype's rounding of the largest number."""

    what: str
    size: float


def differences(before: Results, after: Results) -> Iterator[Difference]:
    """What is not the same of two recordings of a layout."""
    for what in before | after:
        if what not in before or what not in after:
            yield Difference(what, float("inf"))
            continue
        a, b = before[what], after[what]
        if a.shape != b.shape or a.dtype != b.dtype:
            yield Difference(what, float("inf"))
        elif bits(a) != bits(b):
            yield Difference(what, distance(a, b))


def bits(x: torch.Tensor) -> bytes:
    """The bytes of the numbers: zeros of either sign differ, and a NaN is itself."""
    return x.contiguous().view(torch.uint8).numpy().tobytes()


def distance(before: torch.Tensor, after: torch.Tensor) -> float:
    """The largest difference over the rounding of the largest number; inf where only one is finite."""
    a, b = before.double(), after.double()
    finite = a.isfinite()
    if not torch.equal(finite, b.isfinite()):
        return float("inf")
    largest = a[finite].abs().max() if finite.any() else torch.tensor(0.0)
    off = (a - b)[finite].abs().max() if finite.any() else torch.tensor(0.0)
    return float(off / (largest * torch.finfo(before.dtype).eps)) if off else 0.0


def checkout(commit: str, folder: Path) -> None:
    """The files of a commit, in a folder that is no work tree of git and leaves nothing behind."""
    archive = subprocess.run(
        ["git", "-C", str(HERE), "archive", commit], stdout=subprocess.PIPE, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(folder, filter="data")


def recorded(target: str, checkouts: list[Path], folder: Path) -> Iterator[dict[Any, Results]]:
    """The results of a target in some checkouts, each in a process of its own, at the same time."""
    running = []
    for number, path in enumerate(checkouts):
        file = folder / f"{target}-{number}.pt"
        env = os.environ | {"PYTHONPATH": str(path), "OMP_WAIT_POLICY": "passive"}
        env["TRITON_INTERPRET"] = "1" if target == "triton" else "0"
        command = [sys.executable, __file__, "--record", target, str(path), str(file)]
        running.append((file, subprocess.Popen(command, env=env)))
    for file, process in running:
        if process.wait() != 0:
            raise SystemExit(f"recording {target} failed")
        yield torch.load(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", nargs="?", metavar="BASE", help="the commit to compare with")
    parser.add_argument("--record", nargs=3, metavar=("TARGET", "CHECKOUT", "FILE"))
    options = parser.parse_args()
    if options.record:
        target, path, file = options.record
        assert Path(bslang.__file__).is_relative_to(path), f"{bslang.__file__} is not in {path}"
        write(target, Path(file))
        return
    if options.base is None:
        parser.error("name the commit to compare with, as in `make identical BASE=main`")
    same = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkout(options.base, folder / "base")
        for target in DTYPES:
            before, after = recorded(target, [folder / "base", HERE], folder)
            same &= report(before, after)
    sys.exit(0 if same else 1)


def report(before: dict[Any, Results], after: dict[Any, Results]) -> bool:
    """Print what differs of a target, and how much was compared. Returns whether all is the same."""
    same = True
    for kind, keys in groupby(before, key=lambda key: key[0]):
        layouts = list(keys)
        count = sum(len(before[key]) for key in layouts)
        differing = {key: list(differences(before[key], after[key])) for key in layouts}
        total = sum(map(len, differing.values()))
        print(f"{kind}: {count} results of {len(layouts)} layouts, {total or 'none'} differ")
        for (_, case), found in differing.items():
            if found:
                same = False
                print(f"    {case}: {len(found)} of {len(before[kind, case])}")
                for one in found:
                    print(f"        {one.what:24} {one.size:10.3g} roundings")
        sys.stdout.flush()
    return same


if __name__ == "__main__":
    main()

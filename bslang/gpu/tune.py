"""Timing a layout's kernels with other tiles than the default ones, on the GPU that they are for.

Not by triton.autotune: it would time in some call of the user's, and keep its choice in Triton's cache. Here
that is done when it is asked for, and the choice lies beside the module, for every machine with such a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import torch

from bslang.call import Call
from bslang.dims import Dims, GivenDims
from bslang.errors import TargetError
from bslang.gpu.aot import check_call, dtype_of
from bslang.inputs import ROW, Inputs
from bslang.layouts import Layout
from bslang.progress import report
from bslang.runtime.plan import DevicePlan
from bslang.runtime.target import all_of
from bslang.runtime.triton.binaries import TYPES
from bslang.runtime.triton.device import Device
from bslang.runtime.triton.launch import TritonTarget
from bslang.runtime.triton.tiles import Launch, launch, padded, warps
from bslang.runtime.triton.tuned import Sides, Tuned, device_name, largest, tile_names
from bslang.selections import cells

Bench = Callable[[Callable[[], object]], float]
"""The time of a call, in milliseconds."""

GAIN = 0.02
"""Share of a pass's time that another tile must save, for times differ by less from run to run."""

KERNELS = ("forward", "dq", "dkdv")
"""Those that are tuned, the forward pass's and then the backward's. The others read memory once."""

_SMALLEST = 16
_MOST_STAGES = 5


def candidates(
    kernel: str, dims: Dims, itemsize: int, sides: Sides, device: Device
) -> list[Launch]:
    """The default launch of a kernel of `KERNELS`, then others that differ from it in one respect: half
    or twice a side of the tile (with fewer stages where it would not fit shared memory else), the other
    number of warps, one stage more or less. At most 8.

    The arguments are those of `bslang.runtime.triton.tiles.launch`. What would not fit shared memory, as far
    as can be told before it is compiled, is left out.
    """
    default = launch(kernel, dims, itemsize, sides, device=device)
    pads = padded(dims)
    names, most = tile_names(kernel), largest(kernel, sides)
    kept, streamed = (default.constants[name] for name in names)
    number, stages = default.options["num_warps"], default.options["num_stages"]

    tiles = [
        (2 * kept, streamed),
        (kept, 2 * streamed),
        (kept // 2, streamed),
        (kept, streamed // 2),
    ]
    other = []
    for tile in tiles:
        depth = stages
        while depth > 1 and _shared(kernel, pads, itemsize, *tile, depth) > device.shared:
            depth -= 1
        other.append((*tile, warps(kernel, pads, itemsize, *tile, device.lanes), depth))
    other.append((kept, streamed, 2 * number if number < 8 else 4, stages))
    other += [(kept, streamed, number, stages + 1), (kept, streamed, number, stages - 1)]

    found = [default]
    for tile_kept, tile_streamed, count, depth in other:
        tile = tile_kept, tile_streamed
        if (
            all(_SMALLEST <= side <= top for side, top in zip(tile, most, strict=True))
            and 1 <= depth <= _MOST_STAGES
            and _shared(kernel, pads, itemsize, *tile, depth) <= device.shared
        ):
            constants = default.constants | dict(zip(names, tile, strict=True))
            options = default.options | {"num_warps": count, "num_stages": depth}
            found.append(Launch(constants, options))
    return found


def _shared(kernel: str, pads: Dims, itemsize: int, kept: int, streamed: int, stages: int) -> int:
    """Bytes of shared memory that a program takes at most, but for what the compiler moves through it.

    It keeps a tile of a tensor of each dimension for as long as it runs, the forward pass of q alone, and
    streams tiles of two more.
    """
    whole = pads.key if kernel == "forward" else sum(pads)
    known = 8 * streamed if kernel == "dkdv" else 0  # log-sum-exp and delta of the queries
    return itemsize * whole * kept + stages * (itemsize * sum(pads) * streamed + known)


def tune(
    layout: Layout,
    length: int,
    head_dims: Sequence[GivenDims],
    dtypes: Sequence[str],
    heads: int,
    *,
    device: torch.device | None = None,
    bench: Bench | None = None,
) -> list[Tuned]:
    """Time the tiles of a layout's kernels at a length; its calls use the fastest from then on.

    length: number of queries, and of keys, in tokens. heads: query heads and key heads; batch 1. A layout
    with labels is timed with one document. Each kernel's candidates are timed as parts of their pass, with
    the tiles chosen before. A candidate is rejected if it saves less than `GAIN` of the time, or if its
    results differ from the default's.

    device: None means the current GPU. bench: None means the median of triton.testing.do_bench. Raises
    TargetError without a GPU, for a head dimension or dtype that kernels do not take, and if the tensors do
    not fit the GPU's memory.
    """
    target = layout.targets["triton"]
    assert isinstance(target, TritonTarget)
    if device is None:
        if not torch.cuda.is_available():
            raise TargetError("tuning needs a GPU, and this machine has none")
        device = torch.device("cuda", torch.cuda.current_device())
    if reason := target.missing(device):
        raise TargetError(f"tuning the triton target {reason}")
    wanted = [*product(map(Dims.of, head_dims), dtypes)]
    for dims, dtype in wanted:
        check_call(dims, dtype_of(dtype))
    target.tuned = {}  # what was found before is no default
    found: list[Tuned] = []
    total = len(wanted) * len(KERNELS)
    for dims, dtype in wanted:
        try:
            passes = _Passes(layout, target, (1, heads, length), dims, dtype_of(dtype), device)
            for kernel in KERNELS:
                report(len(found), total)
                found.append(passes.winner(kernel, bench or _do_bench()))
        except torch.OutOfMemoryError:
            raise TargetError(
                f"{length} tokens, {heads} heads of {dims} in {dtype} do not fit the GPU's memory"
            ) from None
    return found


def _everything(inputs: Inputs, q: torch.Tensor, k: torch.Tensor) -> Call:
    """A call that leaves nothing out: all labels are equal, and every cell is listed."""
    length, device = q.shape[2], q.device
    of_row = torch.zeros(q.shape[0], dtype=torch.int64, device=device)
    of_token = torch.zeros(length, dtype=torch.int64, device=device)
    labels = {x.name: of_row if x.sides == ROW else of_token for x in inputs.labels}
    select = {
        x.name: torch.ones((1, 1, *cells(x, 0, length, length)), dtype=torch.bool, device=device)
        for x in inputs.selections
    }
    return Call.of(q, k, inputs, labels=labels or None, select=select or None)


def _do_bench() -> Bench:
    from triton.testing import do_bench

    return partial(do_bench, return_mode="median")


class _Passes:
    """The forward and the backward pass of a layout on random tensors (batch, heads, length, dim); shape:
    without the dim."""

    def __init__(
        self,
        layout: Layout,
        target: TritonTarget,
        shape: tuple[int, int, int],
        dims: Dims,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        _, heads, length = self.shape = shape
        self.dims = dims
        self.target = target
        generator = torch.Generator(device).manual_seed(0)
        self.q, self.k, self.v, self.grad = (
            torch.randn((*shape, dim), generator=generator, dtype=torch.float32, device=device).to(
                dtype
            )
            for dim in (dims.key, *dims, dims.value)
        )
        self.grad_lse = torch.zeros(shape, dtype=torch.float32, device=device)
        self.plan: DevicePlan = layout._plan(length, length, "end", device, heads)
        self.call = self.plan.selected(_everything(layout.inputs, self.q, self.k), layout.inputs)

    def forward(self) -> tuple[torch.Tensor, ...]:
        return self.target.forward(self.q, self.k, self.v, self.plan, self.call)

    def backward(self, out: torch.Tensor, lse: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = (self.grad, self.grad_lse, self.q, self.k, self.v, out, lse)
        return all_of(self.target.backward(*given, self.plan, self.call))

    def winner(self, kernel: str, bench: Bench) -> Tuned:
        """The best tile of a kernel, which the target's calls have from now on."""
        run: Callable[[], tuple[torch.Tensor, ...]] = self.forward
        if kernel != "forward":
            run = partial(self.backward, *self.forward())
        first, *others = self._tiles(kernel)
        self._have(first)
        expected, default = run(), bench(run)
        faster: list[tuple[float, Tuned]] = []
        for tuned in others:
            self._have(tuned)
            try:
                run()
                time = bench(run)
            except Exception:  # it takes too much of the GPU, or Triton refuses it
                continue
            if time <= default * (1 - GAIN):
                faster.append((time, tuned))
        chosen, best = first, default
        for time, tuned in sorted(faster, key=lambda each: each[0]):
            self._have(tuned)
            if all(map(_agree, run(), expected)):
                chosen, best = tuned, time
                break
        times = {"default": default, "best": best}
        return self._have(replace(chosen, times=times))

    def _tiles(self, kernel: str) -> list[Tuned]:
        """The candidates of a kernel, not timed yet."""
        dims, device = self.dims, self.q.device
        precision = self.target.default(kernel, self.q, self.v).constants["PRECISION"]
        return [
            Tuned(
                device=device_name(device),
                kernel=kernel,
                head_dim=dims.key,
                value_dim=dims.value,
                dtype=TYPES[self.q.dtype],
                precision=precision,
                tile={name: each.constants[name] for name in ("TILE_Q", "TILE_K")},
                options={name: each.options[name] for name in ("num_warps", "num_stages")},
                length=self.shape[2],
                times={},
            )
            for each in candidates(
                kernel, dims, self.q.itemsize, self.target.sides, Device.of(device)
            )
        ]

    def _have(self, tuned: Tuned) -> Tuned:
        self.target.tuned = self.target.tuned | {tuned.key: tuned}  # another dict: launches notice
        return tuned


def _agree(result: Any, expected: Any) -> bool:
    """Whether two tensors are equal up to the order in which sums are taken."""
    size = float(expected.float().nan_to_num(neginf=0.0).abs().max())
    near = max(4 * torch.finfo(expected.dtype).eps, 1e-3) * size
    return torch.allclose(result.float(), expected.float(), rtol=0, atol=near)

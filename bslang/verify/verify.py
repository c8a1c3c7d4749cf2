"""Every target of a layout against dense attention in fp64, on the devices of this machine."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice, product
from typing import Protocol

import numpy as np
import torch

from bslang.dims import Dims, GivenDims
from bslang.errors import BslangError, LimitError, TargetError
from bslang.inputs import Inputs
from bslang.limits import MAX_DENSE
from bslang.runtime.layout import CallableLayout
from bslang.runtime.op import lse_dtype
from bslang.verify.given import Bools, Given, Ints
from bslang.verify.reference import Inputs as Tensors
from bslang.verify.reference import dense, inputs, rounding, run
from bslang.verify.report import Call, Errors, Row, Verification

DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp64": torch.float64,
}
"""By the names that commands take."""

_BATCH = 2  # rows of a batch have other labels
_LONGEST = 2048  # of the lengths that are tried unasked; one of a few blocks is enough
_CALLS = 8  # at least, for each dtype: errors of a single call scatter
_SOFT_CAP = 2.0  # near the scores of normal inputs, so that it bends them


class Masks(Protocol):
    """Which pairs belong, by the dense meaning of a layout."""

    def __call__(
        self,
        len_q: int,
        len_k: int,
        *,
        head: int,
        labels: Mapping[str, tuple[Ints, Ints]],
        selections: Mapping[str, Bools],
    ) -> Bools:
        """bool (len_q, len_k) of one head; labels of its queries (len_q,) and keys (len_k,) by name, and
        which cells each selection lists. Raises SpecError where the layout is undefined at these lengths.
        """
        ...


Progress = Callable[[int, int], None]
"""progress(done, all): called after each comparison."""


@dataclass(frozen=True)
class _Case:
    """Sizes of a call, and what it is given beside tensors."""

    len_q: int
    len_k: int
    dims: Dims
    heads: int
    key_heads: int
    softcap: float | None
    has_sinks: bool
    seed: int

    @property
    def lengths(self) -> str:
        queries = "" if self.len_q == self.len_k else f"the last {self.len_q:,} of "
        return f"{queries}{self.len_k:,} token{'s' * (self.len_k != 1)}"

    def __str__(self) -> str:
        cap = "" if self.softcap is None else f", soft cap {self.softcap:g}"
        heads = f"{self.heads} heads, {self.key_heads} of keys"
        sinks = ", sinks" * self.has_sinks
        return f"{self.lengths} (head dimension {self.dims}, {heads}{cap}{sinks})"

    def inputs(self, dtype: torch.dtype) -> Tensors:
        return inputs(
            self.len_q, self.len_k, dim=self.dims.key, value_dim=self.dims.value, heads=self.heads,
            key_heads=self.key_heads, batch=_BATCH, dtype=dtype, seed=self.seed,
        )  # fmt: skip

    def sinks(self) -> torch.Tensor | None:
        """Logits (heads,) about as large as log-sum-exps, or none."""
        if not self.has_sinks:
            return None
        drawn = torch.Generator("cpu").manual_seed(self.seed)
        return torch.randn(self.heads, dtype=torch.float32, generator=drawn, device="cpu") * 4

    def given(self, inputs: Inputs) -> Given:
        """Labels and selections, other ones in each row."""
        return Given.draw(inputs, _BATCH, self.len_q, self.len_k, self.seed)

    def mask(self, masks: Masks, given: Given) -> Bools:
        """bool (batch, heads, len_q, len_k)."""
        found = []
        for row in range(_BATCH if given.inputs else 1):
            labels, selections = given.of_row(row)
            found.append(
                [
                    masks(self.len_q, self.len_k, head=head, labels=labels, selections=selections)
                    for head in range(self.heads)
                ]
            )
        return np.array(found)


def default_lengths(block: tuple[int, int]) -> list[int]:
    """One token, about one block, a few blocks, and ragged ends, in tokens."""
    about = chain.from_iterable((side - 1, side, side + 1) for side in block)
    side = max(block)
    spread = {1, 100, *about, 2 * side + side // 2, 5 * side, 9 * side + side // 3}
    return sorted(length for length in spread if 1 <= length <= _LONGEST)


def _cases(lengths: Iterable[int], head_dims: Sequence[Dims], heads: int) -> list[_Case]:
    """Calls over lengths and head dimensions, with every number of key heads in turn."""
    lengths = list(dict.fromkeys(lengths))
    longest = sorted(lengths)[-2:]
    # Fewer queries than keys, as in decoding: about half of them, and one.
    few = [(max(1, longest[-1] // 2 - 1), longest[-1]), (1, longest[0])]
    sizes = list(dict.fromkeys([*((length, length) for length in lengths), *few]))
    shapes = [(*size, dims) for dims, size in product(head_dims, sizes)]
    most = max(len_q * len_k for len_q, len_k in sizes)
    if _BATCH * heads * most > MAX_DENSE:
        what = f"dense attention to compare with, {_BATCH} x {heads} heads of {max(lengths)} tokens"
        raise LimitError("MAX_DENSE", MAX_DENSE, what)
    groups = cycle([n for n in range(heads, 0, -1) if heads % n == 0])
    return [
        _Case(
            len_q,
            len_k,
            _apart(dims, place),
            heads,
            next(groups),
            _SOFT_CAP if place % 4 == 2 else None,
            place % 4 == 1,
            place,
        )
        for place, (len_q, len_k, dims) in enumerate(
            islice(cycle(shapes), max(len(shapes), _CALLS))
        )
    ]


def _apart(dims: Dims, place: int) -> Dims:
    """The head dimensions of a call: of some calls in which both are equal, half of the one or the other."""
    if place % 4 != 3 or dims.key != dims.value:
        return dims
    half = max(1, dims.key // 2)
    return Dims(dims.key, half) if place % 8 == 3 else Dims(half, dims.value)


def verify(
    layouts: Mapping[str, CallableLayout],
    masks: Masks,
    *,
    devices: Sequence[str] | None = None,
    lengths: Sequence[int] | None = None,
    head_dims: Sequence[GivenDims] = (64,),
    dtypes: Sequence[str] | None = None,
    heads: int = 4,
    progress: Progress | None = None,
) -> Verification:
    """Compare layouts, one for each target by its name, with dense attention over a mask.

    devices: as torch names them; the CPU and the first GPU where there is one, for None. lengths: of
    queries and keys, in tokens. head_dims: of all tensors, or pairs (of q and k, of v); in some calls v, or
    q and k, have half of a dimension that is not one of a pair. dtypes: of `DTYPES`; all for None. heads: of
    queries; there are as many of keys, or fewer. progress: told of every comparison.

    Raises TargetError for a device, head dimension or dtype that cannot be, and where no target runs;
    LimitError for lengths whose dense masks pass MAX_DENSE; SpecError where the layout is undefined at
    any of the lengths.
    """
    places = [_device(name) for name in devices] if devices is not None else _devices()
    kinds = dict(_dtype(name) for name in (DTYPES if dtypes is None else dtypes))
    all_dims = [*map(Dims.of, head_dims)]
    for dims in all_dims:
        if min(dims) < 1:
            raise TargetError(f"head dimensions are at least 1, not {dims}")
    layout = next(iter(layouts.values()))
    wanted = default_lengths(layout.block) if lengths is None else lengths
    cases = _cases(wanted, all_dims, heads)
    rows, not_run = _rows(
        layouts, places, kinds, max(map(max, all_dims)), chosen=dtypes is not None
    )
    if not rows:
        reasons = "; ".join(f"{what}: {why}" for what, why in not_run.items())
        raise TargetError(f"no target runs here: {reasons}")
    calls: list[str] = []
    meaningless: dict[str, BslangError] = {}
    for done, case in enumerate(cases, 1):
        given = case.given(layout.inputs)
        try:
            mask = case.mask(masks, given)
        except LimitError:
            raise
        except BslangError as error:
            meaningless[case.lengths] = error
        else:
            calls.append(str(case))
            _compare(layouts, case, mask, given, rows)
        if progress is not None:
            progress(done, len(cases))
    if not calls:
        raise next(iter(meaningless.values()))
    return Verification(
        tuple(rows.values()),
        tuple(dict.fromkeys(calls)),
        {lengths: _reason(error) for lengths, error in meaningless.items()},
        not_run,
    )


_Rows = dict[tuple[str, torch.device, torch.dtype], Row]


def _rows(
    layouts: Mapping[str, CallableLayout],
    places: Sequence[torch.device],
    kinds: Mapping[str, torch.dtype],
    dim: int,
    *,
    chosen: bool,
) -> tuple[_Rows, dict[str, str]]:
    """An empty row for each target, device and dtype that goes together, and why the others do not.

    dim: the largest head dimension.
    chosen: whether somebody asked for these dtypes; else those that a target does not take are no news.
    """
    rows: _Rows = {}
    not_run: dict[str, str] = {}
    for (name, layout), place in product(layouts.items(), places):
        target = layout.targets[name]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # the reason is reported, once
            reason = target.missing(place)
        if not reason and target.largest_dim is not None and dim > target.largest_dim:
            reason = f"takes head dimensions up to {target.largest_dim}"
        if reason:
            not_run[f"{name} on {place}"] = reason
            continue
        for short, dtype in kinds.items():
            if dtype in target.dtypes:
                rows[name, place, dtype] = Row(name, str(place), short, Errors(_least(dtype, dim)))
            elif chosen:
                taken = ", ".join(n for n, other in DTYPES.items() if other in target.dtypes)
                not_run[f"{name} in {short}"] = f"takes {taken}"
    return rows, not_run


def _least(dtype: torch.dtype, dim: int) -> float:
    """What no bound is below: one rounding of the dtype, or what sums over a head dimension may lose.

    A backward pass that keeps the log-sum-exp alone subtracts rowsum(O dO) from dO V^T (FlashAttention-2,
    arXiv 2307.08691, section 3.1): for a query of one key, two dot products that are equal but for
    rounding. Autograd through a dense softmax gives exactly 0 there. Errors of dq and dk up to 0.16 dim
    roundings of fp32 were measured, of layouts with many such queries.
    """
    return max(torch.finfo(dtype).eps, dim / 2 * torch.finfo(lse_dtype(dtype)).eps)


def _compare(
    layouts: Mapping[str, CallableLayout],
    case: _Case,
    mask: Bools,
    of_call: Given,
    rows: _Rows,
) -> None:
    """Add the errors of one call to every row."""
    for dtype in dict.fromkeys(dtype for _, _, dtype in rows):
        given = case.inputs(dtype)
        softcap, sinks = case.softcap, case.sinks()
        truth = dense(given, mask, softcap=softcap, sinks=sinks)
        for place in dict.fromkeys(place for _, place, of_row in rows if of_row == dtype):
            here = given.to(place)
            of_place = None if sinks is None else sinks.to(place)
            plain = rounding(here, mask, truth, softcap, of_place)
            options = of_call.options(place)
            for name, layout in layouts.items():
                row = rows.get((name, place, dtype))
                if row is None or row.raised:
                    continue
                try:
                    found = run(layout, here, softcap=softcap, sinks=of_place, **options)
                except Exception as error:  # whatever it is, it is what was to be found
                    row.raised = f"{type(error).__name__} at {case}: {_reason(error)}"
                else:
                    row.errors.calls.append(Call(str(case), found.relative(truth), plain))


def _reason(error: Exception) -> str:
    """The first line of a message, without the code of a diagnostic."""
    line = next(iter(str(error).splitlines()), "no reason given")
    return line.partition("]: ")[2] if line.startswith("error[") else line


def _devices() -> list[torch.device]:
    """The CPU, and the first GPU where there is one."""
    return [torch.device(name) for name in ("cpu", "cuda")[: 1 + torch.cuda.is_available()]]


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, dtype=torch.float32, device=device)
    except Exception as error:  # torch raises what its devices raise
        raise TargetError(f"no device {name!r} here ({_reason(error)})") from None
    return device


def _dtype(name: str) -> tuple[str, torch.dtype]:
    if name not in DTYPES:
        raise TargetError(f"no dtype {name!r}; there are {', '.join(DTYPES)}")
    return name, DTYPES[name]

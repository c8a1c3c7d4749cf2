"""The triton target: launches of a generated module's kernels.

Only the generated module imports Triton; here it is met through its kernels.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch

from bslang import abi
from bslang.call import NUMBERS, Call
from bslang.dims import Dims
from bslang.missing import needs
from bslang.runtime.building import building
from bslang.runtime.grouped import side_by_side
from bslang.runtime.plan import DevicePlan
from bslang.runtime.target import Outputs, SomeGradients
from bslang.runtime.triton.arguments import (
    AS_A_WHOLE,
    IN_ONE_PIECE,
    Pages,
    Places,
    in_order,
    of_absent,
    of_pages,
    of_sinks,
    readable,
    sinks_of,
    strides,
    vector_like,
)
from bslang.runtime.triton.binaries import TYPES, Binaries
from bslang.runtime.triton.device import Device
from bslang.runtime.triton.selected import listed
from bslang.runtime.triton.tables import Visit
from bslang.runtime.triton.tiles import JOINED, MAX_DIM, Launch, launch
from bslang.runtime.triton.tuned import Key, Tuned, beside, device_name


class TritonTarget:
    """The kernels of a generated module; `bslang.runtime.target.Target` for tensors on a GPU.

    Under TRITON_INTERPRET=1 they run on the CPU, for tests, and without bf16: Triton's interpreter
    multiplies its bits as integers.
    """

    name = "triton"
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float16, torch.bfloat16)
    largest_dim: int | None = MAX_DIM
    by_place = True

    def __init__(
        self,
        kernels: Sequence[Any],
        *,
        held: tuple[int, int],
        streamed: tuple[int, int],
        rows: Sequence[str],
        columns: Sequence[str],
    ) -> None:
        """The module's jit functions, in the order of `bslang.abi`; held, streamed: the largest (query, key)
        sides of a tile that its blocks allow, of what a program holds and of what it meets; rows,
        columns: what the kernels compute of the block rows, or columns, that they hold (lines of
        `bslang.schedule.strips.Rules`)."""
        names = [name for name in abi.KERNELS if not name.endswith(abi.HOPPER)]
        if len(kernels) > len(names):
            names = list(abi.KERNELS)
        self.kernels = dict(zip(names, kernels, strict=True))
        self.sides, self.rows, self.columns = (held, streamed), rows, columns
        module = type(kernels[0]).__module__
        self._installed = module != "bslang.runtime.triton.no_triton"
        self._interpreted = module == "triton.runtime.interpreter"
        if self._interpreted:
            self.dtypes = (torch.float32, torch.float16)
        self._launched: set[str] = set()  # kernels that Triton has been asked for
        weakref.finalize(self, _forget, str(getattr(kernels[0], "module", "")))

    @property
    def uncompiled(self) -> str:
        """Why its kernels cannot be compiled, or "" if they can."""
        if not self._installed:
            return f"this {needs('triton')}"
        return "TRITON_INTERPRET is set" if self._interpreted else ""

    @cached_property
    def _binaries(self) -> Binaries:
        """Kernels compiled ahead of time that lie beside the generated module."""
        if self.uncompiled:
            return Binaries()
        return Binaries.beside(self.kernels["forward"])

    @cached_property
    def tuned(self) -> dict[Key, Tuned]:
        """Winners of `bslang.gpu.tune` that lie beside the generated module, for any device."""
        return beside(self.kernels["forward"], self.sides) if self._installed else {}

    def missing(self, device: torch.device) -> str:
        """As `Target.missing`."""
        if not self._installed:
            return needs("triton")
        if device.type != ("cpu" if self._interpreted else "cuda"):
            return (
                "runs on the CPU under TRITON_INTERPRET=1" if self._interpreted else "needs a GPU"
            )
        return ""

    def forward(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        plan: DevicePlan,
        call: Call,
        into: Outputs | None = None,
    ) -> Outputs:
        """As `Target.forward`."""
        q, call = _positive(q, call)
        if into is None:
            out = torch.empty((*q.shape[:3], v.shape[3]), dtype=q.dtype, device=q.device)
            lse = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
            if call.lengths is not None:  # a row may have fewer keys than queries
                out, lse = out.zero_(), lse.fill_(-torch.inf)
            q, plan, call = side_by_side(q, k, plan, call)
            written = {"out": out.view(*q.shape[:3], v.shape[3]), "lse": lse.view(q.shape[:3])}
        else:
            out, lse = into
            written = {"out": out, "lse": lse}
        known = {"sinks": sinks_of(call, q.shape[1], plan)}
        if call.k_pages is not None:
            known |= of_absent(k, v, plan.made)
        self._walk("forward", {"q": q, "k": k, "v": v}, known, written, plan, call)
        return out, lse

    def backward(
        self,
        grad_out: torch.Tensor,
        grad_lse: torch.Tensor,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        out: torch.Tensor,
        lse: torch.Tensor,
        plan: DevicePlan,
        call: Call,
        into: SomeGradients | None = None,
    ) -> SomeGradients:
        """As `Target.backward`."""
        # Rows of the batch with lengths of their own have no gradients beyond them.
        new = torch.empty if call.lengths is None else torch.zeros
        dq, dk, dv = into or (new(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
        of_q, positive = _positive(q, call)
        q, k, v, do = (readable(x) for x in (q, k, v, grad_out))
        known = self._delta(out, lse, do, grad_lse, plan, call)
        if dq is not None:
            # A scale below 0 changes the sign of what a gradient is not of.
            of_k, _ = _positive(k, call)
            strided = {"q": q, "k": of_k, "v": v, "do": do}
            self._walk("dq", strided, known, {"dq": dq}, plan, positive)
        if dk is not None and dv is not None:
            strided = {"q": of_q, "k": k, "v": v, "do": do}
            self._walk("dkdv", strided, known, {"dk": dk, "dv": dv}, plan, positive)
        return dq, dk, dv

    def _delta(
        self,
        out: torch.Tensor,
        lse: torch.Tensor,
        do: torch.Tensor,
        grad_lse: torch.Tensor,
        plan: DevicePlan,
        call: Call,
    ) -> dict[str, torch.Tensor]:
        """What both passes over blocks read for each query."""
        known = {"delta": vector_like(lse), "lse2": vector_like(lse)}
        in_one = call.q_pages is None
        if in_one:
            out, grad_lse = out.contiguous(), grad_lse.contiguous()
        else:  # one set of strides for all vectors
            out, lse, grad_lse = (
                readable(out),
                *(vector_like(lse).copy_(x) for x in (lse, grad_lse)),
            )
        given = {"out": out, "do": do, "lse": lse, "grad_lse": grad_lse, **known}
        heads, length = lse.shape[1], plan.len_q if in_one else plan.block_q
        chosen = self._launch("delta", do, out, Pages(0 if in_one else length))
        values = {
            **given,
            **strides(given),
            **of_pages("q_pages", call.q_pages),
            "heads": heads,
            "len_q": plan.len_q,
        }
        tiles = -(-plan.len_q // length) * -(-length // chosen.constants["TILE_Q"])
        arguments = in_order("delta", values, chosen.constants)
        self._start("delta", chosen, call.batch(do) * heads * tiles, arguments)
        return known

    def _walk(
        self,
        kernel: str,
        strided: dict[str, torch.Tensor],
        read: dict[str, torch.Tensor],
        written: dict[str, torch.Tensor],
        plan: DevicePlan,
        call: Call,
    ) -> None:
        """Launch a kernel over the block rows of every head, or for dK and dV the block columns.

        strided: q, k, v and what else has strides of its own; read, written: tensors that are contiguous
        where their side has no pages.
        """
        strided = {name: readable(x) for name, x in strided.items()}
        q, k = strided["q"], strided["k"]
        batch, heads, key_heads = call.batch(q), q.shape[1], k.shape[1]
        pages = Pages.of(call, q, k)
        assert pages.q in (0, plan.block_q) and (kernel != "dkdv" or pages.k in (0, plan.block_k))
        chosen = self._launch(kernel, q, strided["v"], pages, Places.of(plan, call))
        chosen = replace(chosen, constants=chosen.constants | call.constants)
        if kernel == "dkdv":
            visit, lanes = Visit.of_columns(plan, call, self.columns), batch * key_heads
            tiles = -(-plan.block_k // chosen.constants["TILE_K"])
        else:
            visit = Visit.of_rows(plan, call, self.rows, split=kernel == "forward")
            lanes, tiles = batch * heads, -(-plan.block_q // chosen.constants["TILE_Q"])
        # Parts of blocks that several programs share, in fp32.
        parts = {
            f"part_{name}": torch.empty(
                (visit.slots * lanes * visit.rows, *x.shape[3:]),
                dtype=torch.float32,
                device=x.device,
            )
            for name, x in written.items()
        }
        q_labels, k_labels, q_ranges, k_ranges = plan.labels(call) or (None,) * 4
        side = "columns" if kernel == "dkdv" else "rows"
        q_first, q_step = plan.steps
        values = {
            **strided,
            **read,
            **parts,
            **written,
            **strides(strided | read | written),
            **of_sinks(read),
            **of_pages("q_pages", call.q_pages),
            **of_pages("k_pages", call.k_pages),
            "programs": visit.table.programs,
            "pointer": visit.table.pointer,
            "runs": visit.table.runs,
            **visit.places,
            "parameters": plan.parameters,
            "head_graph": plan.head_graph,
            "q_order": plan.order,
            "k_order": plan.order,
            "q_labels": q_labels,
            "k_labels": k_labels,
            "q_ranges": q_ranges,
            "k_ranges": k_ranges,
            "label_heads": None if call.labels is None else call.labels.q.shape[2],
            **listed(call.selected, side, plan),
            "batch": batch,
            "heads": heads,
            "key_heads": key_heads,
            "len_q": plan.len_q,
            "len_k": plan.len_k,
            "q_start": plan.q_start,
            "q_first": q_first,
            "q_step": q_step,
            **{name: getattr(call, name) for name in NUMBERS},
        }
        programs = visit.programs * tiles * lanes
        self._start(kernel, chosen, programs, in_order(kernel, values, chosen.constants))
        if visit.slots:
            self._join(kernel, visit, read | parts, written, plan, call, lanes)

    def _join(
        self,
        kernel: str,
        visit: Visit,
        read: dict[str, torch.Tensor],
        written: dict[str, torch.Tensor],
        plan: DevicePlan,
        call: Call,
        lanes: int,
    ) -> None:
        """Join the parts of split blocks, which are among what is read, to results."""
        if kernel == "dkdv":
            block, start, length = plan.block_k, 0, plan.len_k
        else:
            block, start, length = plan.block_q, plan.q_start, plan.len_q
        programs = visit.joined * lanes * -(-block // JOINED)
        values = {
            "merges": visit.table.merges,
            "lanes": lanes,
            "start": start,
            "length": length,
            "block": block,
        }
        pages = call.k_pages if kernel == "dkdv" else call.q_pages
        page = Pages(0 if pages is None else block)
        if kernel == "forward":
            out, lse = written["out"], written["lse"]
            chosen = self._launch("merge", out, out, page, Places.of(plan, call))
            if plan.in_order:
                first, step = plan.steps
                values |= {**visit.places, "start": first, "step": step, "keys": plan.len_k}
            values |= {**read, **written, **strides(written), **of_sinks(read)}
            values |= {"heads": lse.shape[1], **of_pages("q_pages", pages)}
            self._start("merge", chosen, programs, in_order("merge", values, chosen.constants))
            return
        for name, total in written.items():
            chosen = self._launch("sum", total, total, page)
            values |= {"parts": read[f"part_{name}"], "total": total, **strides({"total": total})}
            values |= {"heads": total.shape[1], **of_pages("pages", pages)}
            self._start("sum", chosen, programs, in_order("sum", values, chosen.constants))

    def _launch(
        self,
        kernel: str,
        q: torch.Tensor,
        v: torch.Tensor,
        pages: Pages = IN_ONE_PIECE,
        places: Places = AS_A_WHOLE,
    ) -> Launch:
        chosen = self.default(kernel, q, v)
        of_call = pages.constants(kernel) | places.constants(kernel)
        chosen = replace(chosen, constants=chosen.constants | of_call)
        if not self.tuned:
            return chosen
        precision = chosen.constants.get("PRECISION", "")
        device, dtype = device_name(q.device), TYPES[q.dtype]
        key = Key(device, kernel, q.shape[3], v.shape[3], dtype, precision)
        found = self.tuned.get(key)
        if found is None:
            return chosen
        return Launch(chosen.constants | found.tile, chosen.options | found.options)

    def default(self, kernel: str, q: torch.Tensor, v: torch.Tensor) -> Launch:
        """How a kernel is compiled for tensors like q and v, where nothing was tuned."""
        fast = q.dtype == torch.float32 and _tf32()
        return launch(
            kernel,
            Dims(q.shape[3], v.shape[3]),
            q.itemsize,
            self.sides,
            device=Device.of(q.device),
            precision="tf32" if fast and torch.version.hip is None else "ieee",
        )

    def _start(
        self, kernel: str, chosen: Launch, programs: int, arguments: tuple[Any, ...]
    ) -> None:
        if programs:
            function, made = self.kernels[kernel], (chosen.constants, chosen.options)
            with torch.cuda.device_of(arguments[0]):  # type: ignore[no-untyped-call]  # torch's
                if not self._binaries.launch(kernel, function, made, programs, arguments):
                    first = kernel not in self._launched and not self.uncompiled
                    self._launched.add(kernel)
                    with building("kernels for the GPU") if first else nullcontext():
                        function[(programs,)](*arguments, **chosen.constants, **chosen.options)


def _tf32() -> bool:
    """Whether products of fp32 may be rounded to tf32, by whichever of torch's settings says so: the older
    of them may not be asked where the newer one was used."""
    newer = getattr(torch.backends.cuda.matmul, "fp32_precision", None)
    if newer is None:
        return torch.get_float32_matmul_precision() != "highest"
    return bool(newer == "tf32")


def _forget(module: str) -> None:
    """Take a module's functions out of Triton's registry, which keeps every jit function by its name."""
    jit = sys.modules.get("triton.runtime.jit")
    registry: dict[str, Any] = getattr(jit, "_triton_jit_function_registry", {})
    for name in list(registry):
        if name.startswith(f"{module}:"):
            registry.pop(name, None)


def _positive(x: torch.Tensor, call: Call) -> tuple[torch.Tensor, Call]:
    """One of q and k, and a call with a scale above 0, that have the same products; x is multiplied by 1, -1
    or 0.

    Kernels find the maximum of a row before they scale it.
    """
    sign = (call.scale > 0) - (call.scale < 0)
    if sign == 1:
        return x, call
    return x * sign, replace(call, scale=abs(call.scale) or 1.0)

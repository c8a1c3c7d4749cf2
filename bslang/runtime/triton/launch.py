"""The triton target: launches of a generated module's kernels.

Only the generated module imports Triton; here it is met through its kernels.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache, cached_property
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
from bslang.runtime.triton.binaries import TYPES, Binaries
from bslang.runtime.triton.selected import listed
from bslang.runtime.triton.tiles import JOINED, MAX_DIM, Launch, launch
from bslang.runtime.triton.tuned import Key, Tuned, beside, device_name
from bslang.sinks import by_query


@dataclass(frozen=True, eq=False)
class DeviceTables:
    """A `bslang.schedule.Table` of split rows as int32 tensors on a device.

    programs: (programs, 4), block row, first and last block that strips may cover (0 and 0 where the row
    does not follow the rules), slot. merges, pointer: as in the table; runs: with one more at the end.
    """

    programs: torch.Tensor
    merges: torch.Tensor
    pointer: torch.Tensor
    runs: torch.Tensor
    slots: int

    @classmethod
    def of(cls, table: Any, device: torch.device) -> DeviceTables:
        programs = torch.from_numpy(table.programs.program.copy())
        programs[torch.from_numpy(~table.ruled), 1:3] = 0
        runs = torch.from_numpy(table.runs)
        return cls(
            programs.to(device),
            torch.from_numpy(table.programs.merges).to(device),
            torch.from_numpy(table.pointer).to(device),
            torch.cat((runs, runs.new_zeros(1, 2))).to(device),
            table.programs.slots,
        )


class TritonTarget:
    """The kernels of a generated module; `bslang.runtime.target.Target` for tensors on a GPU.

    Under TRITON_INTERPRET=1 they run on the CPU, for tests, and without bf16: Triton's interpreter
    multiplies its bits as integers.
    """

    name = "triton"
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float16, torch.bfloat16)
    largest_dim: int | None = MAX_DIM
    by_place = False

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
        self.kernels = dict(zip(abi.KERNELS, kernels, strict=True))
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
        assert into is None and call.k_pages is None, "these kernels have no pages"
        q, call, _ = _positive(q, call)
        out = torch.empty((*q.shape[:3], v.shape[3]), dtype=q.dtype, device=q.device)
        lse = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
        q, plan, call = side_by_side(q, k, plan, call)
        written = {"out": out.view(*q.shape[:3], v.shape[3]), "lse": lse.view(q.shape[:3])}
        known = {"sinks": self._sinks(q, plan, call)}
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
        assert into is None and call.k_pages is None, "these kernels have no pages"
        q, call, sign = _positive(q, call)
        q, k, v, do = (_readable(x) for x in (q, k, v, grad_out))
        dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
        delta, lse2 = torch.empty_like(lse), torch.empty_like(lse)
        chosen = self._launch("delta", q, v)
        (batch, heads, len_q), tile = lse.shape, chosen.constants["TILE_Q"]
        known = {"delta": delta, "lse2": lse2}
        values = {
            "out": out.contiguous(),
            "do": do,
            "lse": lse,
            "grad_lse": grad_lse.contiguous(),
            **known,
            **_strides({"do": do}),
            "heads": heads,
            "len_q": len_q,
        }
        self._start("delta", chosen, batch * heads * -(-len_q // tile), _in_order("delta", values))
        strided = {"q": q, "k": k, "v": v, "do": do}
        self._walk("dq", strided, known, {"dq": dq}, plan, call)
        self._walk("dkdv", strided, known, {"dk": dk, "dv": dv}, plan, call)
        return (dq if sign == 1 else dq * sign), dk, dv

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

        strided: q, k, v and what else has strides of its own; read, written: contiguous tensors.
        """
        strided = {name: _readable(x) for name, x in strided.items()}
        (batch, heads), key_heads = strided["q"].shape[:2], strided["k"].shape[1]
        chosen = self._launch(kernel, strided["q"], strided["v"])
        chosen = replace(chosen, constants=chosen.constants | call.constants)
        if kernel == "dkdv":
            table, lanes, block = self._tables(plan, "columns"), batch * key_heads, plan.block_k
            tiles = -(-block // chosen.constants["TILE_K"])
        else:
            table, lanes, block = self._tables(plan, "rows"), batch * heads, plan.block_q
            tiles = -(-block // chosen.constants["TILE_Q"])
        # Parts of blocks that several programs share, in fp32.
        parts = {
            f"part_{name}": torch.empty(
                (table.slots * lanes * block, *x.shape[3:]), dtype=torch.float32, device=x.device
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
            **_strides(strided),
            **_of_sinks(read),
            "programs": table.programs,
            "pointer": table.pointer,
            "runs": table.runs,
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
        programs = table.programs.shape[0] * tiles * lanes
        self._start(kernel, chosen, programs, _in_order(kernel, values))
        if table.slots:
            self._join(kernel, table, read | parts, written, plan, lanes)

    def _join(
        self,
        kernel: str,
        table: DeviceTables,
        read: dict[str, torch.Tensor],
        written: dict[str, torch.Tensor],
        plan: DevicePlan,
        lanes: int,
    ) -> None:
        """Join the parts of split blocks, which are among what is read, to results."""
        if kernel == "dkdv":
            block, start, length = plan.block_k, 0, plan.len_k
        else:
            block, start, length = plan.block_q, plan.q_start, plan.len_q
        programs = table.merges.shape[0] * lanes * -(-block // JOINED)
        values = {
            "merges": table.merges,
            "lanes": lanes,
            "start": start,
            "length": length,
            "block": block,
        }
        if kernel == "forward":
            chosen = self._launch("merge", written["out"], written["out"])
            values |= read | written | _of_sinks(read) | {"heads": written["lse"].shape[1]}
            self._start("merge", chosen, programs, _in_order("merge", values))
            return
        for name, total in written.items():
            chosen = self._launch("sum", total, total)
            values |= {"parts": read[f"part_{name}"], "total": total}
            self._start("sum", chosen, programs, _in_order("sum", values))

    def _sinks(self, q: torch.Tensor, plan: DevicePlan, call: Call) -> torch.Tensor:
        """The sinks of a call's queries, (heads, len_q); -inf, which weighs nothing, where it gives none."""
        if call.sinks is not None:
            return by_query(call.sinks, q.shape[2])
        if "no sinks" not in plan.made:
            plan.made["no sinks"] = torch.full(
                (1, 1), -torch.inf, dtype=torch.float32, device=q.device
            )
        none: torch.Tensor = plan.made["no sinks"]
        return none.expand(q.shape[1], q.shape[2])

    def _tables(self, plan: DevicePlan, side: str) -> DeviceTables:
        """What a kernel visits, of block rows or of block columns; made once for a plan."""
        key = f"triton {side}"
        if key not in plan.made:
            plan.made[key] = DeviceTables.of(
                plan.schedule.split_cols(self.columns)
                if side == "columns"
                else plan.schedule.split_rows(self.rows),
                plan.parameters.device,
            )
        found: DeviceTables = plan.made[key]
        return found

    def _launch(self, kernel: str, q: torch.Tensor, v: torch.Tensor) -> Launch:
        chosen = self.default(kernel, q, v)
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
            shared=shared_memory(q.device),
            lanes=warp_lanes(q.device),
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


def _in_order(kernel: str, values: Mapping[str, Any]) -> tuple[Any, ...]:
    """The arguments of a kernel that are not constants, of values by name; None for what its layout lacks."""
    given = ((each, values[each.name]) for each in abi.KERNELS[kernel].all if not each.is_constant)
    return tuple(value for each, value in given if not (each.only and value is None))


def _of_sinks(read: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """The strides of the sinks among what a kernel reads, by the names that kernels have for them."""
    if "sinks" not in read:
        return {}
    head, row = read["sinks"].stride()
    return {"sinks_head": head, "sinks_row": row}


def _strides(tensors: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """The strides of some tensors by the names that kernels have for them."""
    return {
        f"{name}_{kind}": stride
        for name, x in tensors.items()
        for kind, stride in zip(abi.STRIDES, x.stride()[: len(abi.STRIDES)], strict=True)
    }


@cache
def shared_memory(device: torch.device) -> int:
    """Bytes of shared memory that a program may use on a device."""
    if device.type != "cuda":
        return 0
    properties = torch.cuda.get_device_properties(device)
    return int(getattr(properties, "shared_memory_per_block_optin", 64 * 1024))


@cache
def warp_lanes(device: torch.device) -> int:
    """Threads of a warp of a device."""
    if device.type != "cuda":
        return 32
    return int(getattr(torch.cuda.get_device_properties(device), "warp_size", 32))


def _positive(q: torch.Tensor, call: Call) -> tuple[torch.Tensor, Call, int]:
    """q and a call with a scale above 0 that have the same products, and the factor that q took: 1, -1 or 0.

    Kernels find the maximum of a row before they scale it.
    """
    sign = (call.scale > 0) - (call.scale < 0)
    if sign == 1:
        return q, call, sign
    return q * sign, replace(call, scale=abs(call.scale) or 1.0), sign


def _readable(x: torch.Tensor) -> torch.Tensor:
    """The tensor, copied if its last dimension is not dense or its rows lie too far apart.

    Kernels find a row inside a tile with 32 bits.
    """
    return x if x.stride(-1) == 1 and x.stride(-2) < 2**23 else x.contiguous()

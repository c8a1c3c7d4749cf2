"""The `cpu` target: generated C++, built on first use and called through a plain C interface."""

from __future__ import annotations

import ctypes
import os
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from bslang import abi
from bslang.call import NUMBERS, Call
from bslang.errors import BuildError, TargetError
from bslang.files import HEADER, inlined, source_digest, text_of
from bslang.runtime.cpu.build import build
from bslang.runtime.cpu.library import load
from bslang.runtime.grouped import side_by_side
from bslang.runtime.plan import DevicePlan, DeviceTable
from bslang.sinks import by_query

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""In the order of the C++ enumeration `Dtype`."""

_OUT_OF_MEMORY, _OTHER_VERSION = 1, 2
"""What the functions return beside 0, as the C++ enumeration `Status` has it."""


_WARNED: set[str] = set()
"""Why the target could not run, as this process has been warned: of each reason once, not once a layout."""


_threads = {"several": False, "one": False}
"""Whether kernels of this process have run in several threads; whether they must run in one."""


def _after_fork() -> None:
    """A forked process has none of its parent's OpenMP threads, and would wait for them forever."""
    _threads["one"] = _threads["several"]


os.register_at_fork(after_in_child=_after_fork)


def _thread_count() -> int:
    """How many threads a kernel is to run in."""
    count = 1 if _threads["one"] else torch.get_num_threads()
    _threads["several"] |= count > 1
    return count


def _struct(name: str, **nested: type[ctypes.Structure]) -> type[ctypes.Structure]:
    """A struct of `bslang.abi` for ctypes; nested: those of which it has fields."""
    types = {"int64_t": ctypes.c_int64, "double": ctypes.c_double, **nested}
    fields = [
        (field.name, ctypes.c_void_p if field.type.endswith("*") else types[field.type])
        for field in abi.STRUCTS[name]
    ]
    return type(name, (ctypes.Structure,), {"_fields_": fields})


_Tensor, _Table = _struct("Tensor"), _struct("Table")
_Arguments = _struct("Arguments", Tensor=_Tensor, Table=_Table)

_ABI = int(abi.digest(), 16)


def _pointer(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _tensor(tensor: torch.Tensor) -> ctypes.Structure:
    dim = tensor.shape[3] if tensor.dim() == 4 else 1
    return _Tensor(tensor.data_ptr(), *tensor.stride()[:3], dim)


def _table(table: DeviceTable) -> ctypes.Structure:
    parts = {name: getattr(table, name).data_ptr() for name in ("order", "pointer", "runs")}
    return _Table(**parts, programs=table.order.numel())


def _read(file: Path) -> str:
    """The text of a generated file. Raises BuildError."""
    try:
        return text_of(file)
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError(f"{file} cannot be read ({error}); compile the layout again") from None


class CpuTarget:
    """Kernels in a generated C++ file; `bslang.runtime.target.Target` for tensors on the CPU.

    source: its text with the header in it, or the path of the file, beside which the header lies, with
    the `digest` of both as they were generated with the module: another layout's kernels would be
    silently wrong. It is built when it is first asked for, or with `march`, the processor of a library
    beside the file, only loaded. Where that fails, it stays so for this process: `missing` says why,
    and calls raise BuildError.
    """

    name = "cpu"
    dtypes = _DTYPES
    largest_dim: int | None = None

    def __init__(self, source: Path | str, digest: str = "", march: str = "") -> None:
        self._source, self._digest, self._march = source, digest, march

    @cached_property
    def _loaded(self) -> ctypes.CDLL | BuildError:
        """The kernels, or why there are none. Not tried twice: a compiler may take minutes to fail."""
        try:
            if self._march and isinstance(self._source, Path):
                return load(self._source.with_suffix(f".{self._march}.so"), self._digest)
            text = self._text()
            return load(build(text), source_digest(text))
        except BuildError as error:
            return error

    @property
    def _library(self) -> ctypes.CDLL:
        if isinstance(self._loaded, BuildError):
            raise self._loaded
        return self._loaded

    def _text(self) -> str:
        if isinstance(self._source, str):
            return self._source
        header = self._source.with_name(HEADER)
        text = inlined(_read(self._source), {HEADER: _read(header)})
        if source_digest(text) != self._digest:
            raise BuildError(
                f"{self._source}, or its {HEADER}, was not generated with the module beside it; "
                "compile the layout again"
            )
        return text

    def missing(self, device: torch.device) -> str:
        """As `Target.missing`. Warns where its kernels are missing: a slower target may take over."""
        if device.type != "cpu":
            return "runs tensors on the CPU only"
        if torch.compiler.is_compiling():  # the operators ask again when they run
            return ""
        if not isinstance(self._loaded, BuildError):
            return ""
        reason = f"cannot run: {self._loaded}"
        if reason not in _WARNED:
            _WARNED.add(reason)
            # 4: Layout._target, Layout.__call__, and whoever called the layout
            warnings.warn(f"the cpu target {reason}", RuntimeWarning, stacklevel=4)
        return reason

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, plan: DevicePlan, call: Call
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `Target.forward`."""
        out = torch.empty((*q.shape[:3], v.shape[3]), dtype=q.dtype, device=q.device)
        lse = torch.empty(q.shape[:3], dtype=torch.float32, device=q.device)
        if q.shape[0] * k.shape[1] >= torch.get_num_threads():  # else threads would have no work
            q, plan, call = side_by_side(q, k, plan, call)
        written = {"out": out.view(*q.shape[:3], v.shape[3]), "lse": lse.view(q.shape[:3])}
        tensors = {"q": q, "k": k, "v": v, **written}
        if call.sinks is not None:
            tensors["sinks"] = by_query(call.sinks, q.shape[2])[None]
        self._start(self._library.bslang_forward, plan, call, **tensors)
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
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As `Target.backward`."""
        dq, dk, dv = (torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in (q, k, v))
        read = {
            "q": q,
            "k": k,
            "v": v,
            "out": out,
            "lse": lse,
            "grad_out": grad_out,
            "grad_lse": grad_lse,
        }
        written = {"dq": dq, "dk": dk, "dv": dv}
        self._start(self._library.bslang_backward, plan, call, **read, **written)
        return dq, dk, dv

    def _start(self, function: Any, plan: DevicePlan, call: Call, **tensors: torch.Tensor) -> None:
        # Rows are read as they lie; only a last dimension that is not dense is copied first.
        tensors = {
            name: t if t.dim() == 3 or t.shape[-1] <= 1 or t.stride(-1) == 1 else t.contiguous()
            for name, t in tensors.items()
        }
        q, k = tensors["q"], tensors["k"]
        labels = (
            plan.labels(call) or (None,) * 4
        )  # a name, so that they live while kernels read them
        q_labels, k_labels, q_ranges, k_ranges = map(_pointer, labels)
        q_first, q_step = plan.places
        arguments = _Arguments(
            abi=_ABI,
            threads=_thread_count(),
            dtype=_DTYPES.index(q.dtype),
            batch=q.shape[0],
            heads=q.shape[1],
            key_heads=k.shape[1],
            len_q=plan.len_q,
            len_k=plan.len_k,
            q_start=plan.q_start,
            q_first=q_first,
            q_step=q_step,
            by_row=_table(plan.rows),
            # Forward asks it for a number alone, and decoding makes a plan for every token.
            by_col=_table(plan.cols)
            if "dk" in tensors
            else _Table(programs=-(-plan.len_k // plan.block_k)),
            parameters=_pointer(plan.parameters),
            head_graph=_pointer(plan.head_graph),
            q_labels=q_labels,
            k_labels=k_labels,
            q_ranges=q_ranges,
            k_ranges=k_ranges,
            **{name: getattr(call, name) for name in NUMBERS},
            **{name: _tensor(tensor) for name, tensor in tensors.items()},
        )
        status = function(ctypes.byref(arguments))
        if status == _OUT_OF_MEMORY:
            raise MemoryError(
                f"the cpu target lacks memory for {tuple(q.shape)} queries, {tuple(k.shape)} keys"
            )
        if status == _OTHER_VERSION:
            raise TargetError(
                "this kernel was generated by another version of bslang; compile the layout again"
            )

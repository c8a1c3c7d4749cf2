"""The `cpu` target: generated C++, built on first use and called through a plain C interface."""

from __future__ import annotations

import ctypes
import os
import re
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from bslang.call import Call
from bslang.errors import BuildError, TargetError
from bslang.files import HEADER, inlined, source_digest, text_of
from bslang.runtime.cpu.arguments import DTYPES, arguments_of
from bslang.runtime.cpu.build import build
from bslang.runtime.cpu.library import load
from bslang.runtime.grouped import side_by_side
from bslang.runtime.plan import DevicePlan
from bslang.runtime.target import Outputs, SomeGradients, wrong_device
from bslang.sinks import by_query

_OUT_OF_MEMORY, _OTHER_VERSION, _FIRST_MISSING = 1, 2, 3
"""What the functions return beside 0, as the C++ enumeration `Status` has it."""

_PASSES = tuple(
    f"{name}_pass<{number}>"
    for number in ("Single", "Brain")
    for name in ("forward", "few", "backward")
)
"""The passes, in the order of `bslang_passes`."""

_FEW_QUERIES = 8
"""The most queries for which threads share the keys of one head: `few_queries` in bslang.h."""

_WARNED: set[str] = set()
"""Why the target could not run, as this process has been warned: of each reason once, not once a layout."""


_threads = {"several": False, "one": False}
"""Whether kernels of this process have run in several threads; whether they must run in one."""


def _after_fork() -> None:
    """A forked process has none of its parent's OpenMP threads, and would wait for them forever."""
    _threads["one"] = _threads["several"]


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_after_fork)


def _thread_count() -> int:
    """How many threads a kernel is to run in."""
    count = 1 if _threads["one"] else torch.get_num_threads()
    _threads["several"] |= count > 1
    return count


_BLOCK = re.compile(r"^#define BSLANG_BLOCK_.*\n", re.MULTILINE)
_BEGIN, _END = "#ifndef BSLANG_H\n", "#endif  // BSLANG_H\n"


def _together(group: int) -> int:
    """How many heads of a key head are the queries of one tile: few enough that threads share its keys,
    unless that would split the heads into many small tiles, each of which reads the keys again. It does
    not depend on the number of threads, so that results do not either."""
    size = max(n for n in range(1, _FEW_QUERIES + 1) if group % n == 0)
    return size if 2 * size >= _FEW_QUERIES else group


def _read(file: Path) -> str:
    """The text of a generated file. Raises BuildError."""
    try:
        return text_of(file)
    except (OSError, UnicodeDecodeError) as error:
        raise BuildError(f"{file} cannot be read ({error}); compile the layout again") from None


def _built(text: str) -> ctypes.CDLL:
    """The library of a C++ text. Raises BuildError."""
    return load(build(text), source_digest(text))


def _common(text: str) -> str:
    """What generated C++ has in common with that of all layouts of its block: the block, and the header."""
    begin = text.index(_BEGIN)
    return "".join(_BLOCK.findall(text[:begin])) + text[begin : text.index(_END) + len(_END)]


class CpuTarget:
    """Kernels in a generated C++ file; `bslang.runtime.target.Target` for tensors on the CPU.

    source: its text with the header in it, or the path of the file, beside which the header lies, with
    the `digest` of both as they were generated with the module: another layout's kernels would be
    silently wrong. It is built when it is first asked for, or with `march`, the processor of a library
    beside the file, only loaded. Where that fails, it stays so for this process: `missing` says why,
    and calls raise BuildError.
    """

    name = "cpu"
    dtypes = tuple(DTYPES)
    largest_dim: int | None = None
    by_place = True
    apart = True  # whether passes are libraries of their own, which all layouts of a block share

    def __init__(self, source: Path | str, digest: str = "", march: str = "") -> None:
        self._source, self._digest, self._march = source, digest, march

    @cached_property
    def _loaded(self) -> ctypes.CDLL | BuildError:
        """The kernels, or why there are none. Not tried twice: a compiler may take minutes to fail."""
        try:
            if self._march and isinstance(self._source, Path):
                return load(self._source.with_suffix(f".{self._march}.so"), self._digest)
            return _built(
                f"#define BSLANG_PASSES_APART\n{self._text}" if self.apart else self._text
            )
        except BuildError as error:
            return error

    @property
    def _library(self) -> ctypes.CDLL:
        if isinstance(self._loaded, BuildError):
            raise self._loaded
        return self._loaded

    @cached_property
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

    def _add_pass(self, number: int) -> None:
        """Give a pass to the kernels. It is the same for all layouts of a block, and so built once."""
        try:
            made = _built(f"#define BSLANG_PASS {_PASSES[number]}\n{_common(self._text)}")
        except BuildError as error:
            self.__dict__["_loaded"] = error  # of the property
            raise
        passes = (ctypes.c_void_p * len(_PASSES)).in_dll(self._library, "bslang_passes")
        passes[number] = ctypes.cast(made.bslang_pass, ctypes.c_void_p).value

    def missing(self, device: torch.device) -> str:
        """As `Target.missing`. Warns where its kernels are missing: a slower target may take over."""
        if reason := wrong_device(self.name, device):
            return reason
        if torch.compiler.is_compiling():  # the operators ask again when they run
            return ""
        if not isinstance(self._loaded, BuildError):
            return ""
        reason = f"cannot run: {self._loaded}"
        if reason not in _WARNED:
            _WARNED.add(reason)
            # 5: Layout._target, _attend and __call__, and whoever called the layout
            warnings.warn(f"the cpu target {reason}", RuntimeWarning, stacklevel=5)
        return reason

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
        if into is not None:
            tensors = {"q": q, "k": k, "v": v, "out": into[0], "lse": into[1]}
            if call.sinks is not None:
                tensors["sinks"] = by_query(call.sinks, plan.len_q)[None]
            self._start(self._library.bslang_forward, plan, call, **tensors)
            return into
        batch, heads, len_q, _ = q.shape
        out = q.new_empty((batch, heads, len_q, v.shape[3]))
        lse = q.new_empty((batch, heads, len_q), dtype=torch.float32)
        if call.lengths is not None:  # a row may have fewer keys than queries
            out, lse = out.zero_(), lse.fill_(-torch.inf)
        tensors = {"q": q, "k": k, "v": v, "out": out, "lse": lse}
        if len_q == 1:
            q, plan, call = side_by_side(q, k, plan, call, _together(heads // k.shape[1]))
            if q is not tensors["q"]:
                tensors |= {"q": q, "out": out.view(*q.shape[:3], v.shape[3])}
                tensors["lse"] = lse.view(q.shape[:3])
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
        into: SomeGradients | None = None,
    ) -> SomeGradients:
        """As `Target.backward`."""
        if into is None:
            # Rows of the batch with lengths of their own have no gradients beyond them.
            new = torch.empty if call.lengths is None else torch.zeros
            dq, dk, dv = (new(t.shape, dtype=t.dtype, device=t.device) for t in (q, k, v))
            into = dq, dk, dv
        read = {
            "q": q,
            "k": k,
            "v": v,
            "out": out,
            "lse": lse,
            "grad_out": grad_out,
            "grad_lse": grad_lse,
        }
        written = {
            name: x for name, x in zip(("dq", "dk", "dv"), into, strict=True) if x is not None
        }
        self._start(self._library.bslang_backward, plan, call, **read, **written)
        return into

    def _start(self, function: Any, plan: DevicePlan, call: Call, **tensors: torch.Tensor) -> None:
        q, k = tensors["q"], tensors["k"]
        arguments, held = arguments_of(plan, call, _thread_count(), tensors)
        status = function(ctypes.byref(arguments))
        if status >= _FIRST_MISSING:
            self._add_pass(status - _FIRST_MISSING)
            status = function(ctypes.byref(arguments))
        del held  # not before: kernels have read and written it
        if status == _OUT_OF_MEMORY:
            raise MemoryError(
                f"the cpu target lacks memory for {tuple(q.shape)} queries, {tuple(k.shape)} keys"
            )
        if status == _OTHER_VERSION:
            raise TargetError(
                "this kernel was generated by another version of bslang; compile the layout again"
            )

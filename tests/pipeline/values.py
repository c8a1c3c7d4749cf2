"""What a simulated kernel computes with: numbers and tiles that behave as Triton's do, and pointers."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
import triton.language as tl

TORCH = {
    tl.int1: torch.bool,
    tl.int8: torch.int8,
    tl.int16: torch.int16,
    tl.int32: torch.int32,
    tl.int64: torch.int64,
    tl.uint8: torch.uint8,
    tl.float16: torch.float16,
    tl.bfloat16: torch.bfloat16,
    tl.float32: torch.float32,
    tl.float64: torch.float64,
}
TRITON = {theirs: own for own, theirs in TORCH.items()}


class Fault(Exception):
    """What a kernel does wrong, and where."""


class Value:
    """A number or a tile of a kernel. Nothing changes it."""

    def __init__(self, data: torch.Tensor) -> None:
        self.data = data

    @property
    def dtype(self) -> tl.dtype:
        return TRITON[self.data.dtype]

    @property
    def shape(self) -> list[int]:
        return list(self.data.shape)

    def to(self, dtype: Any, bitcast: bool = False, **_: Any) -> Value:
        return Value(self.data.view(TORCH[dtype]) if bitcast else self.data.to(TORCH[dtype]))

    def __getitem__(self, key: Any) -> Value:
        return Value(self.data[key])

    def reshape(self, *shape: Any) -> Value:
        return Value(self.data.reshape(sizes(shape)))

    def __bool__(self) -> bool:
        return bool(self.data.item())

    def __index__(self) -> int:
        if self.data.is_floating_point():
            raise TypeError(f"{self!r} is not a whole number")
        return int(self.data.item())

    def __repr__(self) -> str:
        return f"Value({self.data})"

    __hash__ = None  # type: ignore[assignment]


class Memory:
    """A tensor in global memory: its elements in a row, and which partition of which program wrote each."""

    def __init__(self, tensor: torch.Tensor) -> None:
        length = tensor.untyped_storage().nbytes() // tensor.element_size()
        self.flat = tensor.detach().as_strided((length,), (1,), 0)
        self.writers = torch.zeros(length, dtype=torch.int32)

    def written(self, at: torch.Tensor, by: int) -> None:
        """Elements are written once, by the partition of this number."""
        before = self.writers[at]
        if bool(((before != 0) & (before != by)).any()) or at.unique().numel() != at.numel():
            raise Fault("an element of global memory is written twice")
        self.writers[at] = by


class Pointer:
    """Pointers to elements of one tensor."""

    def __init__(self, memory: Memory, at: torch.Tensor) -> None:
        self.memory, self.at = memory, at

    @property
    def dtype(self) -> tl.pointer_type:
        return tl.pointer_type(TRITON[self.memory.flat.dtype])

    @property
    def shape(self) -> list[int]:
        return list(self.at.shape)

    def __add__(self, other: Any) -> Pointer:
        return Pointer(self.memory, self.at + value(other).data.long())

    __radd__ = __add__

    def __sub__(self, other: Any) -> Pointer:
        return Pointer(self.memory, self.at - value(other).data.long())

    def __getitem__(self, key: Any) -> Pointer:
        return Pointer(self.memory, self.at[key])

    def active(self, mask: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Where the pointers point, and which of them are used; those must lie in the tensor."""
        mask = torch.tensor(True) if mask is None else value(mask).data
        at, mask = torch.broadcast_tensors(self.at, mask)
        outside = mask & ((at < 0) | (at >= self.memory.flat.numel()))
        if bool(outside.any()):
            found = int(at[outside].flatten()[0])
            raise Fault(f"element {found} of a tensor of {self.memory.flat.numel()} is accessed")
        return at, mask


def value(x: Any) -> Value:
    """A value of a number of Python, as Triton types it; values are themselves."""
    if isinstance(x, Value):
        return x
    if isinstance(x, bool | int | float):
        return _number(type(x), x)
    refused = getattr(x, "refuse", None)  # of a product that is in flight
    if refused is not None:
        refused()
    raise TypeError(f"{type(x).__name__} is not a number or a tile")


@cache
def _number(kind: type, x: float) -> Value:
    if kind is bool:
        return Value(torch.tensor(x))
    if kind is float:
        return Value(torch.tensor(x, dtype=torch.float32))
    return Value(torch.tensor(x, dtype=torch.int32 if -(2**31) <= x < 2**31 else torch.int64))


def sizes(shape: Sequence[Any]) -> list[int]:
    """A shape given as one sequence, or number by number."""
    inner = shape[0] if len(shape) == 1 and isinstance(shape[0], list | tuple) else shape
    return [int(x) for x in inner]


def common(a: Any, b: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Two operands in one type: a number of Python takes that of the other operand if it fits."""
    x, y = value(a).data, value(b).data
    kind = torch.promote_types(x.dtype, y.dtype)
    for number, other in ((a, y), (b, x)):
        fits = isinstance(number, int) or other.is_floating_point()
        if isinstance(number, int | float) and fits and other.dtype != torch.bool:
            small = isinstance(number, float) or -(2**31) <= number < 2**31
            kind = other.dtype if small or other.is_floating_point() else torch.int64
    return x.to(kind), y.to(kind)


def divide(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """x // y of whole numbers, rounded toward 0 as in C."""
    return torch.div(x, y, rounding_mode="trunc")


def ratio(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    kind = x.dtype if x.is_floating_point() else torch.float32
    return x.to(kind) / y.to(kind)


def _binary(of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> tuple[Any, Any]:
    def forward(self: Value, other: Any) -> Any:
        if isinstance(other, Pointer):
            return NotImplemented
        return Value(of(*common(self, other)))

    def backward(self: Value, other: Any) -> Any:
        return Value(of(*common(other, self)))

    return forward, backward


BINARY: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "truediv": ratio,
    "floordiv": divide,
    "mod": torch.fmod,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "lshift": operator.lshift,
    "rshift": operator.rshift,
}
COMPARED = {name: getattr(operator, name) for name in ("lt", "le", "gt", "ge", "eq", "ne")}
for _name, _of in BINARY.items():
    _forward, _backward = _binary(_of)
    setattr(Value, f"__{_name}__", _forward)
    setattr(Value, f"__r{_name}__", _backward)
for _name, _of in COMPARED.items():
    setattr(Value, f"__{_name}__", _binary(_of)[0])
setattr(Value, "__neg__", lambda self: Value(-self.data))  # noqa: B010
setattr(Value, "__invert__", lambda self: Value(~self.data))  # noqa: B010

"""Kernels that were compiled ahead of time: found beside their module, judged, and loaded.

`NAME.triton.json` is their manifest; bslang.gpu.aot writes it and says what is in it. What is
wrong with a file is warned of, and kernels are then compiled as if it were not there.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bslang import abi
from bslang.abi_structs import CONSTANT
from bslang.errors import BuildError
from bslang.runtime.triton.beside import module_of, plain, read
from bslang.runtime.triton.device import Device

SUFFIX = ".triton.json"

TYPES = {
    torch.float32: "fp32",
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.int64: "i64",
    torch.int32: "i32",
    torch.int16: "i16",
    torch.int8: "i8",
    torch.uint8: "u8",
}
"""Triton's names of dtypes."""

ALIGNMENT = 16
"""What addresses in bytes, and strides in elements, are taken to be multiples of."""


@dataclass(frozen=True)
class Binary:
    """One entry of a manifest: a kernel for one architecture, dtype, and head dimension of q and k and of v.

    constants and options: those that its source was compiled with; arguments: types by name, in
    order, "constexpr" for a constant, and for what the calls that it is for lack; aligned: arguments that are
    multiples of ALIGNMENT; metadata: what Triton says of the binary, with `name` (its entry), `shared`
    (bytes), `num_warps`.
    """

    file: str
    sha256: str
    kernel: str
    architecture: str
    head_dim: int
    value_dim: int
    dtype: str
    constants: dict[str, Any]
    options: dict[str, Any]
    arguments: dict[str, str]
    aligned: tuple[str, ...]
    metadata: dict[str, Any]

    def values(self, given: Sequence[Any]) -> list[Any] | None:
        """All arguments, given those that are no constants; None where they are not what it takes."""
        rest = iter(given)
        values = []
        for name, kind in self.arguments.items():
            if name in self.constants:
                values.append(self.constants[name])
                continue
            value = next(rest, None)
            if not _fits(value, kind, name in self.aligned):
                return None
            values.append(value)
        return values if next(rest, None) is None else None

    @property
    def absent(self) -> list[str]:
        """The arguments that it lacks, as the calls that it is for do."""
        lacks = (name for name, kind in self.arguments.items() if kind == CONSTANT)
        return [name for name in lacks if name not in self.constants]


_POINTERS = {dtype: f"*{name}" for dtype, name in TYPES.items()}
_LIMITS = {name: 1 << int(name[1:]) - 1 for name in ("i64", "i32", "i16", "i8")}


def descriptor_type(dtype: str, tile: Iterable[int], layout: Any) -> str:
    """The type of a descriptor as Triton writes it: those of 3.6 do not say theirs."""
    return f"tensordesc<{dtype}[{','.join(map(str, tile))}],{layout!r}>"


def _fits(value: Any, kind: str, aligned: bool) -> bool:
    if kind == CONSTANT:
        return value is None
    if kind.startswith("tensordesc"):
        if not hasattr(value, "block_shape"):
            return False
        return kind == descriptor_type(TYPES[value.base.dtype], value.block_shape, value.layout)
    if isinstance(value, torch.Tensor):
        return kind == _POINTERS.get(value.dtype) and not (aligned and value.data_ptr() % ALIGNMENT)
    if kind in _LIMITS:
        inside = isinstance(value, int) and -_LIMITS[kind] <= value < _LIMITS[kind]
        return inside and not (aligned and value % ALIGNMENT)
    return kind == "fp32" and isinstance(value, int | float)


@dataclass
class Binaries:
    """The binaries of a manifest in a folder."""

    folder: Path = Path()
    entries: tuple[Binary, ...] = ()
    _loaded: dict[tuple[str, torch.device], Any] = field(default_factory=dict)

    @classmethod
    def beside(cls, function: Any) -> Binaries:
        """Those beside the module of a jit function; none, with a warning, where they are not for it."""
        module = module_of(function)
        path = module.with_suffix(SUFFIX)
        if not path.is_file():
            return cls()
        try:
            return cls(module.parent, read(path, module, "compile the layout again", _entries))
        except BuildError as error:
            _warn(error)
            return cls()

    def find(
        self,
        kernel: str,
        function: Any,
        chosen: tuple[Mapping[str, Any], Mapping[str, Any]],
        arguments: Sequence[Any],
    ) -> tuple[Any, Sequence[Any]] | None:
        """A kernel that is here, Triton's CompiledKernel on the current device, and all that it takes.

        function: the kernel's jit function; chosen: constants and options of the call; arguments:
        those that are no constants.
        """
        if not self.entries:
            return None
        device = next(x.device for x in arguments if isinstance(x, torch.Tensor))
        architecture = Device.of(device).architecture
        for entry in self.entries:
            if (
                (entry.kernel, entry.architecture) == (kernel, architecture)
                and (entry.constants, entry.options) == chosen
                and (values := entry.values(arguments))
            ):
                here = entry.file, device
                if here not in self._loaded:
                    self._loaded[here] = self._load(entry, function)
                if (ready := self._loaded[here]) is not None:
                    return ready, values
        return None

    def _load(self, entry: Binary, function: Any) -> Any:
        """Triton's CompiledKernel of a binary, loaded onto the current device; None, with a warning, if
        that cannot be."""
        path = self.folder / entry.file
        try:
            return _kernel(plain(function), entry, path)
        except OSError as error:
            _warn(f"{path} cannot be read ({error.strerror}); compile the layout again")
        except BuildError as error:
            _warn(error)
        except Exception as error:  # whatever a driver and its Triton may raise
            _warn(f"{path} cannot be loaded: {error}")
        return None


def _entries(manifest: Any) -> tuple[Binary, ...]:
    """The entries of a manifest; raises as `bslang.runtime.triton.beside.read` asks."""
    entries = tuple(
        Binary(**{"value_dim": each["head_dim"]} | each | {"aligned": tuple(each["aligned"])})
        for each in manifest["binaries"]
    )
    for entry in entries:
        inside = Path(entry.file).name == entry.file
        kernel = abi.KERNELS[entry.kernel]
        constants = {each.name for each in kernel.all if each.is_constant}
        absent = {each.name for each in kernel.absent(entry.constants)}
        if not inside or set(entry.constants) != constants or set(entry.absent) != absent:
            raise ValueError(entry.file)
    return entries


def _kernel(function: Any, entry: Binary, path: Path) -> Any:
    """Triton's CompiledKernel of a file, made as from Triton's own cache, and loaded.

    Raises BuildError where the file is not the one that the manifest lists.
    """
    from triton.compiler import ASTSource, CompiledKernel
    from triton.experimental.gluon._runtime import GluonASTSource

    code = path.read_bytes()
    damaged = hashlib.sha256(code).hexdigest() != entry.sha256
    if damaged or list(function.arg_names) != list(entry.arguments):
        raise BuildError(f"{path} is damaged, or of another layout; compile the layout again")
    constants = dict.fromkeys(entry.absent) | entry.constants
    made_of = GluonASTSource if entry.kernel.endswith(abi.HOPPER) else ASTSource
    source = made_of(function, entry.arguments, constants)
    with tempfile.TemporaryDirectory() as folder:
        files = {
            f"kernel{path.suffix}": code,
            "kernel.json": json.dumps(entry.metadata).encode(),
        }
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        made = CompiledKernel(source, {name: f"{folder}/{name}" for name in files}, entry.sha256)
    made[(1, 1, 1)]  # loads it
    return made


def _warn(reason: object) -> None:
    message = f"{reason}. Until then kernels are compiled when they are first called"
    warnings.warn(message, RuntimeWarning, stacklevel=2)

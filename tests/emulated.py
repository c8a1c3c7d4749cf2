"""Libraries of 64-bit Arm on machines of another kind: cross-compiled, and run under QEMU.

`install` puts `Library` in the place of ctypes.CDLL for bslang.runtime.cpu.library. The rest of the cpu
target is as users have it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
import weakref
from contextlib import suppress
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bslang.runtime.cpu import library
from bslang.runtime.cpu.launch import CpuTarget

COMPILER, QEMU, LAYOUT = "aarch64-linux-gnu-g++", "qemu-aarch64-static", "setarch"
SYSTEM = "/usr/aarch64-linux-gnu"
"""Where the libraries of the emulated system lie, as Debian and Ubuntu have them."""

_PAGE, _INTEGERS = 4096, 12


def missing() -> str:
    """What this machine lacks for it, and how to install that; "" where it has all."""
    lacks = [name for name in (COMPILER, QEMU, LAYOUT) if shutil.which(name) is None]
    if lacks:
        return (
            f"{', '.join(lacks)} not found; on Debian and Ubuntu: "
            "apt-get install g++-aarch64-linux-gnu qemu-user-static"
        )
    return ""


def install(patch: pytest.MonkeyPatch, processor: str) -> None:
    """Have kernels compiled for Arm, and run on a processor as QEMU names it."""
    patch.setenv("CXX", COMPILER)
    patch.setattr(library, "_own_architecture", lambda: "aarch64, 64 bits")
    loader = SimpleNamespace(CDLL=lambda file: Library(file, processor))
    patch.setattr(CpuTarget, "apart", False)  # a process under QEMU has one library
    patch.setattr(library, "ctypes", loader)


@cache
def _runner() -> str:
    folder = Path(mkdtemp())
    weakref.finalize(_runner, shutil.rmtree, folder)
    source = Path(__file__).with_suffix(".cpp")
    program = str(folder / "emulated")
    flags = ("-std=c++17", "-O1", "-rdynamic")
    subprocess.run([COMPILER, *flags, str(source), "-o", program], check=True)
    return program


class Library:
    """What a test or the cpu target uses of a ctypes.CDLL, for a library of another processor.

    The program that loads it asks for the memory of this process page by page, as it meets it, and
    what it changed there is written here.
    """

    def __init__(self, file: str, processor: str) -> None:
        # Without a layout of its own QEMU's memory may lie where this process has tensors.
        command = [LAYOUT, "--addr-compat-layout", QEMU, "-L", SYSTEM, "-cpu", processor]
        self._process = subprocess.Popen(
            [*command, _runner(), file],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        weakref.finalize(self, _end, self._process)

    def __getattr__(self, name: str) -> _Function:
        if name.startswith("__"):
            raise AttributeError(name)
        function = _Function(self, name)
        setattr(self, name, function)
        return function

    def call(self, name: str, arguments: tuple[Any, ...]) -> int:
        """Call a function of integers, pointers and at most one float."""
        integers: list[int] = []
        number = 0.0
        for argument in arguments:
            value = getattr(argument, "value", argument)
            if isinstance(value, float):
                number = value
            elif isinstance(value, int):
                integers.append(value)
            else:  # of ctypes.byref
                integers.append(ctypes.cast(argument, ctypes.c_void_p).value or 0)
        integers += [0] * (_INTEGERS - len(integers))
        encoded = (value & (1 << 64) - 1 for value in integers)
        self._send(b"c" + name.encode() + b"\0" + struct.pack(f"<{_INTEGERS}Qf", *encoded, number))
        sent: dict[int, bytes] = {}
        with Path("/proc/self/mem").open("rb", buffering=0) as memory:
            while (answer := self._receive(1)) == b"p":
                (address,) = struct.unpack("<Q", self._receive(8))
                try:
                    sent[address] = os.pread(memory.fileno(), _PAGE, address)
                except OSError:  # this process has no memory there
                    self._send(b"\0")
                else:
                    self._send(b"\1" + sent[address])
        if answer == b"u":
            raise AttributeError(f"the library has no function {name}")
        status, count = struct.unpack("<qq", self._receive(16))
        for _ in range(count):
            (address,) = struct.unpack("<Q", self._receive(8))
            _write(address, sent[address], self._receive(_PAGE))
        return int(status)

    def _send(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def _receive(self, count: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(count)
        if len(data) < count:
            _, message = self._process.communicate()
            status = self._process.returncode
            raise AssertionError(f"the emulated library ended ({status}): {message.decode()}")
        return data


class _Function:
    def __init__(self, of: Library, name: str) -> None:
        self._library, self._name = weakref.ref(of), name
        self.restype: Any = ctypes.c_int

    def __call__(self, *arguments: Any) -> int:
        found = self._library()
        assert found is not None, "the library lives as long as its functions are called"
        status = found.call(self._name, arguments)
        return int(self.restype(status & (1 << 64) - 1).value)


def _end(process: subprocess.Popen[bytes]) -> None:
    """A program ends when its input does."""
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()
    process.wait()


def _write(address: int, before: bytes, after: bytes) -> None:
    """Write what changed of a page, and that alone: other threads write beside it."""
    if before == after:
        return
    changed = np.frombuffer(before, np.uint8) != np.frombuffer(after, np.uint8)
    memory = np.ctypeslib.as_array((ctypes.c_uint8 * _PAGE).from_address(address))
    memory[changed] = np.frombuffer(after, np.uint8)[changed]

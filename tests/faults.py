"""What the tests of faults share: an empty cache, processes that are forked, and attention that is right."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import bslang
from bslang import layouts
from bslang.cli.main import main
from bslang.codegen import environment
from bslang.errors import BuildError
from bslang.runtime.cpu import build
from bslang.runtime.cpu import launch as cpu
from bslang.syntax import parser

SPEC = "last(2)"
TINY = 'extern "C" int answer() { return 42; }\n'

try:
    COMPILER = build.find_compiler()[0]
except BuildError:
    COMPILER = ""
needs_compiler = pytest.mark.skipif(not COMPILER, reason="there is no C++ compiler")


def forget() -> None:
    """As in a new process: nothing of the cache has been read."""
    layouts._KNOWN.clear()
    parser._lark.cache_clear()
    environment._environment.cache_clear()


@contextmanager
def empty_cache(folder: Path) -> Iterator[Path]:
    """A cache folder that is not there yet, a process that has read nothing of it, and quick builds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BSLANG_CACHE_DIR", str(folder))
        quick = tuple(flag.replace("-O2", "-O0") for flag in build.FLAGS)
        patch.setattr(build, "FLAGS", quick)
        patch.setattr(cpu, "_WARNED", set())
        forget()
        yield folder
        forget()


def script(path: Path, text: str) -> str:
    """A compiler that is a shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def started(function: Callable[[], object]) -> int:
    """A forked process that calls a function and ends with 0, or with 1 where it raises."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return process


def ended(process: int) -> int:
    """The exit status of a process; minus a signal; one that hangs is an error."""
    for _ in range(3000):
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    raise AssertionError("the process hangs")


def attended(target: str | tuple[str, ...] = "torch") -> list[torch.Tensor]:
    """out, dq, dk, dv of the layout on some tensors."""
    generator = torch.Generator().manual_seed(1)
    given = (torch.randn(1, 2, 40, 8, generator=generator) for _ in range(3))
    q, k, v = (x.requires_grad_() for x in given)
    out = bslang.compile(SPEC, block=16, target=target)(q, k, v)
    assert isinstance(out, torch.Tensor)
    return [out, *torch.autograd.grad(out.square().sum(), (q, k, v))]


def right(target: str | tuple[str, ...] = "torch") -> None:
    """Assert that the results are those of dense attention."""
    generator = torch.Generator().manual_seed(1)
    given = (torch.randn(1, 2, 40, 8, generator=generator) for _ in range(3))
    q, k, v = (x.requires_grad_() for x in given)
    block = torch.arange(40) // 16
    behind = block[:, None] - block
    seen = (behind == 0) | (behind == 1)
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
    expected = [out, *torch.autograd.grad(out.square().sum(), (q, k, v))]
    for x, y in zip(attended(target), expected, strict=True):
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)


def command(*arguments: str) -> int:
    """The exit status of the program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["bslang", *arguments])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0

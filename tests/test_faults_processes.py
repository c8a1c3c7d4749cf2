"""Faults of processes: killed ones, many at once, forks, and compilers that fail.

The table of docs/reliability.md names these tests.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from faults import (
    COMPILER,
    TINY,
    attended,
    empty_cache,
    ended,
    forget,
    needs_compiler,
    right,
    script,
    started,
)
from filelock import FileLock
from torch.utils.data import DataLoader

from bslang.runtime.cpu import build


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where the cache is."""
    with empty_cache(tmp_path / "cache") as made:
        yield made


# ---- killed -----------------------------------------------------------------------------------------


def killed_at(moment: int, folder: Path, function: Callable[[], object]) -> bool:
    """Whether a process was killed when it touched a folder for the nth time, before it ended."""

    def fatal() -> None:
        left = moment

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            if event in ("open", "os.rename", "os.remove", "os.mkdir", "os.chmod", "os.rmdir"):
                left -= str(arguments[0]).startswith(str(folder))
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        function()

    status = ended(started(fatal))
    assert status in (0, -signal.SIGKILL)
    return status != 0


def test_killed_while_it_generates(folder: Path) -> None:
    moment, kills = 1, 0
    while killed_at(moment, folder, attended):
        kills += 1
        forget()
        right()
        forget()
        shutil.rmtree(folder)
        moment += 1 + moment // 2
    assert kills >= 6


@needs_compiler
def test_killed_while_it_builds(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made.so"
    quick = [COMPILER, "-x", "c++", "-shared", "-fPIC", "-", "-o", str(made)]
    subprocess.run(quick, input=TINY, text=True, check=True)
    monkeypatch.setenv("CXX", script(tmp_path / "c++", f'for to; do :; done; cp {made} "$to"'))
    moment = 1
    while killed_at(moment, folder, lambda: build.build(TINY)):
        assert ctypes.CDLL(str(build.build(TINY))).answer() == 42
        build.build(f"{TINY}// other\n")  # and what the killed one left behind is removed
        assert not list(folder.rglob("*.tmp"))
        shutil.rmtree(folder)
        moment += 1
    assert moment > 6


@needs_compiler
def test_a_build_is_dead_when_nobody_holds_its_lock(folder: Path) -> None:
    build.build(TINY)
    left = folder / "cpu" / "entry.x.tmp"
    left.mkdir()
    os.utime(left, (1, 1))
    with FileLock(folder / "cpu" / "entry.lock"):
        build.build(f"{TINY}// other\n")
        assert left.exists()
    build.build(f"{TINY}// another\n")
    assert not left.exists()


# ---- many at once -----------------------------------------------------------------------------------


@needs_compiler
def test_processes_race_on_one_layout(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    slow = f'echo built >> "{log}"; exec {COMPILER} "$@"'
    monkeypatch.setenv("CXX", script(tmp_path / "c++", slow))
    read, write = os.pipe()

    def run() -> None:
        os.close(write)
        os.read(read, 1)  # until all have been started
        right("cpu")

    processes = [started(run) for _ in range(16)]
    os.close(write)
    assert [ended(process) for process in processes] == [0] * 16
    os.close(read)
    parts = len(list(folder.glob("cpu/*.so")))  # masks, forward, backward
    assert parts == 3 and log.read_text() == parts * "built\n"
    assert not [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


@needs_compiler
def test_threads_race_on_one_layout(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("CXX", script(tmp_path / "c++", f'echo x >> "{log}"; exec {COMPILER} "$@"'))
    barrier, found = threading.Barrier(8), []

    def run() -> None:
        barrier.wait()
        right("cpu")
        found.append(True)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8
    assert log.read_text() == 3 * "x\n"  # masks, forward, backward


@needs_compiler
def test_fork_after_the_first_use() -> None:
    """OpenMP's threads are not in the child, and are waited for forever if they are asked for."""
    torch.set_num_threads(2)
    try:
        right("cpu")
        expected = attended("cpu")

        def again() -> None:  # without torch's own attention, which hangs
            torch.set_num_threads(2)
            assert all(map(torch.equal, attended("cpu"), expected))

        def run() -> None:
            again()
            assert ended(started(again)) == 0

        assert ended(started(run)) == 0
        again()
    finally:
        torch.set_num_threads(1)


class Attending:
    """A data set that attends."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        return attended("cpu")[0].detach()


@needs_compiler
@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than there are cores
def test_workers_of_a_data_loader() -> None:
    expected = attended("cpu")[0]
    loader = DataLoader(Attending(), batch_size=1, num_workers=2, multiprocessing_context="fork")
    found = list(loader)
    assert len(found) == 4 and all(torch.equal(x[0], expected) for x in found)


# ---- compilers --------------------------------------------------------------------------------------

COMPILERS = {
    "prints garbage": (r"head -c 100000 /dev/urandom; printf '\033[2J'; exit 1", "refused"),
    "hangs": ("sleep 60", "took more than 0.5 s"),
    "makes nothing": ("exit 0", "wrote no library; is it a C++ compiler"),
    "makes garbage": ('for to; do :; done; echo x > "$to"', "this system cannot load it"),
    "makes a folder": ('for to; do :; done; mkdir "$to"', "wrote no library"),
}


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_compiler_that_is_none(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, message = COMPILERS[compiler]
    monkeypatch.setenv("CXX", script(tmp_path / "c++", text))
    if compiler == "hangs":
        monkeypatch.setattr(build, "BUILD_SECONDS", 0.5)
    with pytest.warns(RuntimeWarning, match=re.escape(message)) as caught:
        right(("cpu", "torch"))
    said = str(caught[0].message)
    assert len(said) < 10_000 and all(c.isprintable() or c == "\n" for c in said)

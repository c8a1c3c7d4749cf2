"""What may go wrong around the compiler: nothing is lost, nothing is wrong, and it is said clearly.

The table of docs/reliability.md names these tests.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import py_compile
import re
import resource
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader

import bslang
from bslang import compiler
from bslang.cli.main import main
from bslang.codegen import environment
from bslang.errors import BslangError, BuildError
from bslang.files import cache_dir, write_whole
from bslang.runtime import build, cpu, modules
from bslang.syntax import parser
from bslang.syntax.source import Source

SPEC = "last(2)"
TINY = 'extern "C" int answer() { return 42; }\n'

try:
    COMPILER = build.find_compiler()[0]
except BuildError:
    COMPILER = ""
needs_compiler = pytest.mark.skipif(not COMPILER, reason="there is no C++ compiler")


def forget() -> None:
    """As in a new process: nothing of the cache has been read."""
    modules.module.cache_clear()
    parser._lark.cache_clear()
    environment._environment.cache_clear()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and quick builds."""
    monkeypatch.setenv("BSLANG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "FLAGS", tuple(f.replace("-O3", "-O0") for f in build.FLAGS))
    monkeypatch.setattr(cpu, "_WARNED", set())
    forget()
    yield tmp_path / "cache"
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


# ---- killed ---------------------------------------------------------------------------------


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


def test_killed_while_it_builds(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not COMPILER:
        pytest.skip("there is no C++ compiler")
    made = tmp_path / "made.so"
    os.system(f"echo '{TINY}' | {COMPILER} -x c++ -shared -fPIC - -o {made}")
    monkeypatch.setenv("CXX", script(tmp_path / "c++", f'for to; do :; done; cp {made} "$to"'))
    moment = 1
    while killed_at(moment, folder, lambda: build.build(TINY)):
        assert ctypes.CDLL(str(build.build(TINY))).answer() == 42
        build.build(f"{TINY}// other\n")  # and what the killed one left behind is removed
        assert not list(folder.rglob("*.tmp"))
        shutil.rmtree(folder)
        moment += 1
    assert moment > 6


# ---- full disks -----------------------------------------------------------------------------


def limited(function: Callable[[], object]) -> Callable[[], object]:
    """A function in a process whose files end after 200 bytes, as on a disk that is full."""

    def run() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))
        function()

    return run


def test_no_room_for_a_module(folder: Path) -> None:
    def refused() -> None:
        with pytest.raises(BslangError, match=r"BSLANG_CACHE_DIR names another.*File too large"):
            attended()

    assert ended(started(limited(refused))) == 0
    left = [p for p in folder.rglob("*") if p.is_file() and p.parent.name != "grammar"]
    assert not left
    right()


@needs_compiler
def test_no_room_for_a_library(folder: Path) -> None:
    def refused() -> None:
        with pytest.raises(BuildError, match=r"File too large|file size|signal 25|File size"):
            build.build(TINY)

    assert ended(started(limited(refused))) == 0
    assert not list(folder.rglob("*.so")) and not list(folder.rglob("*.tmp"))
    assert ctypes.CDLL(str(build.build(TINY))).answer() == 42


def test_no_room_for_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    attended()  # so that there is a cache
    output = tmp_path / "out"
    output.mkdir()
    (output / "a.py").write_text("generated by bslang: old")
    spec = tmp_path / "a.bsl"
    spec.write_text(f"a = {SPEC}")

    def refused() -> None:
        assert command("compile", str(spec), "-o", str(output)) == 1

    assert ended(started(limited(refused))) == 0
    assert capfd.readouterr().err.startswith(f"error: cannot write to {output}: File too large")
    assert [path.name for path in output.iterdir()] == ["a.py"]
    assert (output / "a.py").read_text() == "generated by bslang: old"


def command(*arguments: str) -> int:
    """The exit status of the program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["bslang", *arguments])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0


# ---- folders of others ----------------------------------------------------------------------


def test_a_cache_that_may_only_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with TemporaryDirectory() as name:
        monkeypatch.setenv("BSLANG_CACHE_DIR", name)
        right()
        folders = [Path(name), *(path for path in Path(name).rglob("*") if path.is_dir())]
        for path in folders:
            path.chmod(0o555)
        user = os.geteuid()
        try:
            if user == 0:  # root may write everywhere
                os.seteuid(65534)
            forget()
            right()  # what is there is read
            with pytest.raises(BslangError, match=r"BSLANG_CACHE_DIR names another.*Permission"):
                bslang.compile("last(3)", target="torch")
            if COMPILER:
                with pytest.raises(BuildError, match="set BSLANG_CACHE_DIR to one of yours"):
                    build.build(TINY)
        finally:
            os.seteuid(user)
            for path in folders:
                path.chmod(0o755)


def test_a_cache_of_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    right()
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    forget()
    with pytest.raises(BslangError, match=r"others may write to .*which holds code to be run"):
        attended()


def test_a_cache_that_others_may_write(folder: Path) -> None:
    right()
    (folder / "modules").chmod(0o777)
    forget()
    with pytest.raises(BslangError, match=r"others may write to .*modules.*chmod 700"):
        attended()


# ---- damaged entries ------------------------------------------------------------------------

DAMAGES = ("gone", "emptied", "cut", "first byte", "middle byte", "last byte", "link")


def damage(path: Path, kind: str) -> None:
    """Damage a file; a link leads to a damaged file elsewhere."""
    whole = path.read_bytes()
    path.unlink()
    if kind == "gone":
        return
    place = {"first byte": 0, "last byte": len(whole) - 1}.get(kind, len(whole) // 2)
    flipped = whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
    data = {"emptied": b"", "cut": whole[:place]}.get(kind, flipped)
    if kind == "link":
        elsewhere = path.parent.parent / "elsewhere"
        elsewhere.write_bytes(data)
        path.symlink_to(elsewhere)
    else:
        path.write_bytes(data)


ENTRIES = {
    "module": "modules/*/layout.py",
    "C++ of a module": "modules/*/layout.cpp",
    "digests of a module": "modules/*/sums",
    "templates": "templates/*",
    "parser": "grammar/*.json",
}


def compiled() -> None:
    """Compile for two targets, of which one has files beside the module."""
    bslang.compile(SPEC, block=16, target=("cpu", "torch"))


def cached(folder: Path, entry: str) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.glob(ENTRIES[entry])}


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_damaged_entry_is_made_again(entry: str, folder: Path) -> None:
    compiled()
    text = cached(folder, "module")
    for kind in DAMAGES:
        before = cached(folder, entry)
        assert before
        for path in before:
            damage(path, kind)
        if entry == "templates":  # which are asked only for what is to be generated
            shutil.rmtree(folder / "modules")
        forget()
        compiled()
        assert cached(folder, "module") == text, kind
        if entry != "parser":  # Lark's tables come in any order
            assert cached(folder, entry) == before, kind
        assert not any(path.is_symlink() for path in before), kind
        for elsewhere in folder.rglob("elsewhere"):
            assert elsewhere.read_bytes() not in before.values()
            elsewhere.unlink()
        forget()
        with pytest.MonkeyPatch.context() as patch:  # it is kept again
            patch.setattr(parser.Lark, "_build_parser", lambda _: pytest.fail("made once more"))
            patch.setattr(compiler, "emit", lambda *_: pytest.fail("generated once more"))
            compiled()


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_folder_in_the_place_of_an_entry(entry: str, folder: Path) -> None:
    compiled()
    for path in cached(folder, entry):
        path.unlink()
        path.mkdir()
    shutil.rmtree(folder / "modules") if entry == "templates" else None
    forget()
    if entry in ("templates", "parser"):
        right()  # they only save time
    else:
        with pytest.raises(BslangError, match=r"BSLANG_CACHE_DIR names another .*Is a directory"):
            compiled()


@needs_compiler
def test_a_folder_or_a_link_in_the_place_of_a_library(tmp_path: Path) -> None:
    library = build.build(TINY)
    whole = library.read_bytes()
    damage(library, "link")
    elsewhere = library.resolve()
    damaged = elsewhere.read_bytes()
    assert build.build(TINY).read_bytes() == whole and not library.is_symlink()
    assert elsewhere.read_bytes() == damaged
    library.unlink()
    library.mkdir()
    with pytest.raises(BuildError, match=r"cannot build in the cache .*Is a directory.*\.so"):
        build.build(TINY)


def test_what_python_compiled_is_not_believed(folder: Path) -> None:
    right()
    (module,) = cached(folder, "module")
    code = Path(py_compile.compile(str(module), doraise=True))
    whole = code.read_bytes()
    code.write_bytes(whole[:16] + whole[16:][::-1])
    forget()
    right()


# ---- many at once ---------------------------------------------------------------------------


@needs_compiler
def test_processes_race_on_one_layout(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    slow = f'echo built >> "{log}"; exec {COMPILER} "$@"'
    monkeypatch.setenv("CXX", script(tmp_path / "c++", slow))
    gate = threading.Event()  # forked with the others; the pipe is what opens it
    read, write = os.pipe()

    def run() -> None:
        os.close(write)
        os.read(read, 1)  # until all have been started
        gate.set()
        right("cpu")

    processes = [started(run) for _ in range(16)]
    os.close(write)
    assert [ended(process) for process in processes] == [0] * 16
    os.close(read)
    assert log.read_text() == "built\n" and len(list(folder.glob("cpu/*.so"))) == 1
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
    assert log.read_text() == "x\n"


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


# ---- compilers ------------------------------------------------------------------------------

COMPILERS = {
    "prints garbage": (r"head -c 100000 /dev/urandom; printf '\033[2J'; exit 1", "refused"),
    "makes nothing": ("exit 0", "made no library; is it a C++ compiler"),
    "makes garbage": ('for to; do :; done; echo x > "$to"', "this system cannot load it"),
    "makes a folder": ('for to; do :; done; mkdir "$to"', "made no library"),
}


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_compiler_that_is_none(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, message = COMPILERS[compiler]
    monkeypatch.setenv("CXX", script(tmp_path / "c++", text))
    with pytest.warns(RuntimeWarning, match=re.escape(message)) as caught:
        right(("cpu", "torch"))
    said = str(caught[0].message)
    assert len(said) < 10_000 and all(c.isprintable() or c == "\n" for c in said)


# ---- clocks ---------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("when", [1, 2**31 + 10**9], ids=["1970", "2069"])
def test_files_of_another_time(when: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right("cpu")
    for path in folder.rglob("*"):
        os.utime(path, (when, when))
    forget()
    monkeypatch.setattr(build, "_compile", lambda *_: pytest.fail("built once more"))
    monkeypatch.setattr(compiler, "emit", lambda *_: pytest.fail("generated once more"))
    right("cpu")


@needs_compiler
def test_a_build_is_dead_when_nobody_holds_its_lock(folder: Path) -> None:
    from filelock import FileLock

    build.build(TINY)
    left = folder / "cpu" / "entry.x.tmp"
    left.mkdir()
    os.utime(left, (1, 1))
    with FileLock(folder / "cpu" / "entry.lock"):
        build.build(f"{TINY}// other\n")
        assert left.exists()
    build.build(f"{TINY}// another\n")
    assert not left.exists()


def test_a_clock_that_goes_back(tmp_path: Path) -> None:
    """A module of the same size and time as the one before it is imported, not what was compiled of that."""
    for number in (2, 3):
        files = compiler.emit(
            compiler.resolve(Source("a.bsl", f"a = last({number})"), "a"), ["torch"]
        )
        module = write_whole(tmp_path, files)[0]
        os.utime(module, (10**9, 10**9))
        done = os.popen(f'cd "{tmp_path}" && "{sys.executable}" -B -c "{READ}"').read()
        assert done == f"last({number})\n"
        py_compile.compile(str(module), doraise=True)


READ = (
    "import importlib.util as u; s = u.spec_from_file_location('a', 'a.py');"
    "c = s.loader.get_code('a'); print(next(x for x in c.co_consts if str(x).startswith('last(')))"
)


# ---- paths ----------------------------------------------------------------------------------

NAME = "ä 层 'quoted' \"$HOME\" ;&"


@needs_compiler
@pytest.mark.parametrize("name", [NAME, os.fsdecode(b"no \xff utf-8")], ids=["odd", "no UTF-8"])
def test_names_of_folders(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / name
    odd.mkdir()
    monkeypatch.setenv("BSLANG_CACHE_DIR", str(odd / "cache"))
    spec, output = odd / "a b.bsl", odd / "out"
    spec.write_text(f"block 16\na = {SPEC}", encoding="utf-8")
    right("cpu")
    assert command("compile", str(spec), "-o", str(output), "--target", "cpu") == 0
    assert capfd.readouterr().err == ""
    made = modules.import_file(output / "a.py", "a").LAYOUT
    q = torch.randn(1, 1, 40, 8)
    loaded = bslang.load(str(spec), target="torch")
    torch.testing.assert_close(made(q, q, q), loaded(q, q, q))
    spec.write_text("a = lst(2)", encoding="utf-8")
    assert command("check", str(spec)) == 1
    assert "a b.bsl" in capfd.readouterr().err


def test_a_relative_cache_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("BSLANG_CACHE_DIR", "kept")
    made = bslang.compile(SPEC, block=16, target=("cpu", "torch") if COMPILER else "torch")
    monkeypatch.chdir(tmp_path / "there")
    q = torch.randn(1, 1, 40, 8)
    made(q, q, q)  # it reads its C++ now; a warning would be an error
    assert (tmp_path / "here" / "kept" / "modules").is_dir()


def test_no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BSLANG_CACHE_DIR", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(pwd, "getpwuid", lambda _: SimpleNamespace(pw_dir=str(tmp_path / "home")))
    assert tmp_path / "home" in cache_dir().parents
    right()

    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    forget()
    with pytest.raises(BslangError, match=r"BSLANG_CACHE_DIR names another \(.*home directory"):
        attended()
    assert [path.name for path in tmp_path.iterdir()] == ["home"]  # and none that is named ~


def test_the_working_folder_is_gone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "a.bsl"
    spec.write_text(f"a = {SPEC}")
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    right("cpu" if COMPILER else "torch")
    assert command("check", str(spec)) == 0
    assert command("compile", str(spec), "-o", str(tmp_path / "out"), "--target", "torch") == 0
    assert (tmp_path / "out" / "a.py").is_file()
    capfd.readouterr()
    assert command("check", "a.bsl") == 1
    assert "no such file" in capfd.readouterr().err
    assert command("compile", str(spec), "-o", "out", "--target", "torch") == 1
    assert re.match("error: cannot write to out", capfd.readouterr().err)
    monkeypatch.setenv("BSLANG_CACHE_DIR", "relative")
    forget()
    with pytest.raises(BslangError, match=r"BSLANG_CACHE_DIR names another"):
        attended()

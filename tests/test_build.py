"""The cache of built kernels: found by content, whole or not there, private; and a compiler that fails."""

from __future__ import annotations

import ctypes
import errno
import multiprocessing
import os
import platform
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import bslang
from bslang.codegen.cpu import header
from bslang.errors import BuildError
from bslang.files import source_digest
from bslang.runtime.cpu import build
from bslang.runtime.cpu.arguments import _Arguments
from bslang.runtime.cpu.library import sealed

try:
    COMPILER = shlex.join(build.find_compiler())  # before tests/conftest.py makes it a quick one
except BuildError as error:
    pytest.skip(str(error), allow_module_level=True)

ARM = platform.machine() in ("aarch64", "arm64")
BASELINE = "armv8-a" if ARM else "x86-64"
"""What the compiler calls the oldest processor of this kind."""

TINY = 'extern "C" int answer() { return 42; }\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where entries go: an empty cache for each test."""
    monkeypatch.setenv("BSLANG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", COMPILER)
    return tmp_path / "cache" / "cpu"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sources that were compiled, in order."""
    sources: list[str] = []
    compile_ = build._compile

    def counted(entry: build._Entry) -> None:
        sources.append(entry.text)
        compile_(entry)

    monkeypatch.setattr(build, "_compile", counted)
    return sources


def script(path: Path, text: str) -> str:
    """A compiler that is a shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_an_entry_is_built_once(folder: Path, compiled: list[str]) -> None:
    library = build.build(TINY)
    assert ctypes.CDLL(str(library)).answer() == 42
    assert build.build(TINY) == library and len(compiled) == 1
    assert build.build(f"{TINY}// other\n") != library and len(compiled) == 2
    assert folder.stat().st_mode & 0o777 == 0o700 and not list(folder.glob("*.tmp"))


def test_the_compiler_and_its_flags_are_part_of_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = {build.build(TINY)}
    monkeypatch.setenv("CXX", f"{build.find_compiler()[0]} -DEXTRA=1")
    libraries.add(build.build(TINY))
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-g"))
    libraries.add(build.build(TINY))
    assert len(libraries) == 3


def test_another_compiler_in_the_place_of_one_builds_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = script(tmp_path / "c++", f'exec {build.find_compiler()[0]} "$@"')
    for command in (wrapper, f"env {wrapper}"):  # as with ccache, its name is an argument
        monkeypatch.setenv("CXX", command)
        library = build.build(TINY)
        os.utime(wrapper, (1, 1))
        assert build.build(TINY) != library
        os.utime(wrapper)


def test_the_processor_is_part_of_the_name_where_it_is_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    native, named = build.build(TINY), build.build(TINY, BASELINE)
    assert native != named
    assert "flags" in build._processor() or not Path("/proc/cpuinfo").is_file() or ARM
    monkeypatch.setattr(build, "_processor", lambda: "another")
    assert build.build(TINY) != native
    assert build.build(TINY, BASELINE) == named


def test_the_same_bytes_in_every_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = build.build(TINY).read_bytes()
    monkeypatch.setenv("BSLANG_CACHE_DIR", str(tmp_path / "another"))
    assert build.build(TINY).read_bytes() == library


@pytest.mark.parametrize("damage", ["cut", "emptied", "changed", "unsealed", "other", "gone"])
def test_a_damaged_entry_is_built_again(damage: str, compiled: list[str]) -> None:
    library = build.build(TINY)
    whole = library.read_bytes()
    middle = len(whole) // 2
    if damage == "gone":
        library.unlink()
    else:
        changed = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        damaged = {"cut": whole[:middle], "emptied": b"", "changed": changed}
        damaged |= {"unsealed": whole[:-1], "other": sealed(whole, source_digest("other"))}
        library.write_bytes(damaged[damage])
    assert build.build(TINY) == library and len(compiled) == 2
    assert library.read_bytes() == whole and ctypes.CDLL(str(library)).answer() == 42


def test_a_build_that_is_killed_is_no_hindrance(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang = script(tmp_path / "c++", f'echo half > "{tmp_path}/begun"; exec sleep 20')
    program = f"from bslang.runtime.cpu import build; build.build({TINY!r})"
    process = subprocess.Popen([sys.executable, "-c", program], env=os.environ | {"CXX": hang})
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    (left,) = folder.glob("*.tmp")
    Path(hang).write_text(f'#!/bin/sh\nexec {build.find_compiler()[0]} "$@"\n')
    monkeypatch.setenv("CXX", hang)
    assert ctypes.CDLL(str(build.build(TINY))).answer() == 42
    assert not left.exists()


def test_many_processes_build_one_entry(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    slow = f'echo built >> {log}; sleep 0.3; exec {build.find_compiler()[0]} "$@"'
    monkeypatch.setenv("CXX", script(tmp_path / "c++", slow))
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        libraries = set(pool.map(build.build, [TINY] * 8, chunksize=1))
    assert list(libraries) == list(folder.glob("*.so"))
    assert log.read_text() == "built\n" and not list(folder.glob("*.tmp"))


def test_refused_source(folder: Path) -> None:
    with pytest.raises(BuildError) as caught:
        build.build("int wrong = here;\n" * 30)
    message = str(caught.value)
    (kept,) = folder.glob("*.cpp")
    assert kept.read_text().split("\n", 1)[1].startswith("int wrong")
    assert f"refused {kept} (exit status 1)" in message
    assert "here" in message and "more lines" in message
    assert len(message.splitlines()) == build.MESSAGE_LINES + 2
    assert not list(folder.glob("*.so")) and not list(folder.glob("*.tmp"))


def test_a_processor_that_the_compiler_does_not_know(folder: Path) -> None:
    with pytest.raises(BuildError, match=r"exit status 1\):\n(.*\n)*.*no-such-processor"):
        build.build(TINY, "no-such-processor")
    assert not list(folder.glob("*.so"))


def test_missing_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(BuildError, match=r"looked for c\+\+, g\+\+, clang\+\+.*CXX"):
        build.build(TINY)
    monkeypatch.setenv("CXX", "g++ -DX='")
    with pytest.raises(BuildError, match="is not a command: No closing quotation"):
        build.find_compiler()
    monkeypatch.setenv("CXX", "no-such-compiler -O1")
    with pytest.raises(BuildError, match="'no-such-compiler', which CXX names, was not found"):
        build.build(TINY)


def test_broken_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", script(tmp_path / "broken", "echo it is broken; exit 3"))
    with pytest.raises(BuildError, match=r"exit status 3\):\nit is broken"):
        build.build(TINY)
    monkeypatch.setenv("CXX", script(tmp_path / "killed", "kill -9 $$"))
    with pytest.raises(BuildError, match="killed by signal 9"):
        build.build(TINY)
    (tmp_path / "text").write_text("no program")
    (tmp_path / "text").chmod(0o755)
    monkeypatch.setenv("CXX", str(tmp_path / "text"))
    with pytest.raises(BuildError, match="text cannot be started: Exec format error"):
        build.build(TINY)


def test_full_disk(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = "echo 'cannot write: No space left on device'; exit 1"
    with monkeypatch.context() as patch:
        patch.setenv("CXX", script(tmp_path / "full", full))
        with pytest.raises(BuildError, match="No space left on device"):
            build.build(TINY)

    def write_bytes(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(
        BuildError, match=r"cannot build in the cache .*No space left.*BSLANG_CACHE"
    ):
        build.build(TINY)
    assert not list(folder.glob("*.so")) and not list(folder.glob("*.tmp"))


def test_slow_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", script(tmp_path / "slow", "sleep 60"))
    monkeypatch.setattr(build, "BUILD_SECONDS", 0.2)
    with pytest.raises(BuildError, match=r"took more than 0\.2 s"):
        build.build(TINY)


def test_a_folder_that_others_may_write_is_refused(folder: Path) -> None:
    build.build(TINY)
    folder.chmod(0o777)
    with pytest.raises(BuildError, match=r"others may write to .*chmod 700"):
        build.build(TINY)


def test_a_folder_of_somebody_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    build.build(TINY)
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(BuildError, match="others may write to"):
        build.build(TINY)


def test_a_folder_that_cannot_be_written(folder: Path) -> None:
    library = build.build(TINY)
    folder.chmod(0o500)
    assert build.build(TINY) == library  # what is there is read
    if os.getuid() != 0:  # root may write everywhere
        with pytest.raises(BuildError, match=r"cannot build in the cache .*Permission denied"):
            build.build(f"{TINY}// other\n")
    folder.chmod(0o700)


def test_a_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BSLANG_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(BuildError, match="set BSLANG_CACHE_DIR"):
        build.build(TINY)


def test_both_sides_of_the_interface_lay_arguments_out_alike() -> None:
    names = [name for name, _ in _Arguments._fields_]
    offsets = ", ".join(f"__builtin_offsetof(bslang::Arguments, {name})" for name in names)
    body = f"const int64_t x[] = {{{offsets}}}; return x[i];"
    text = f'extern "C" int64_t offset(int64_t i) {{ {body} }}\n'
    library = ctypes.CDLL(str(build.build(header() + text)))
    for i, name in enumerate(names):
        assert library.offset(ctypes.c_int64(i)) == getattr(_Arguments, name).offset, name


def test_layouts_of_one_block_share_their_passes(
    compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass is built when a call first asks for it; another layout builds what is its own alone."""
    monkeypatch.setenv("CXX", f"{COMPILER} -O0")

    def built(spec: str, block: int) -> list[str]:
        compiled.clear()
        q = torch.randn(1, 1, 2 * block, 8, requires_grad=True)
        target = bslang.compile(spec, block=block, target="cpu")
        out = target(q, q, q)
        same = bslang.compile(spec, block=block, target="torch")(q, q, q)
        torch.testing.assert_close(out, same, atol=1e-5, rtol=1e-5)
        assert len(compiled) < 3  # no pass but the one that was asked for
        out.sum().backward()
        return [text.partition("\n")[0].removeprefix("#define BSLANG_") for text in compiled]

    passes = ["PASS forward_pass<Single>", "PASS backward_pass<Single>"]
    assert built("causal", 32) == ["PASSES_APART", *passes]
    assert built("last(5t)", 32) == ["PASSES_APART"]
    assert built("last(5t)", 16) == ["PASSES_APART", *passes]

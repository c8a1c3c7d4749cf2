"""The cache of built kernels: found by content, whole or not there, private; and a compiler that fails."""

from __future__ import annotations

import ctypes
import multiprocessing
from pathlib import Path

import pytest

from bslang import compiler
from bslang.errors import BuildError
from bslang.runtime import build, cpu
from bslang.syntax.source import Source

try:
    build.find_compiler()
except BuildError as error:
    pytest.skip(str(error), allow_module_level=True)

TINY = 'extern "C" int answer() { return 42; }\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where entries go: an empty cache for each test."""
    monkeypatch.setenv("BSLANG_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cpu"


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sources that were compiled, in order."""
    sources: list[str] = []
    compile_ = build._compile

    def counted(compiler: build.Command, source: str, library: Path) -> None:
        sources.append(source)
        compile_(compiler, source, library)

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
    assert build.build(TINY) == library and compiled == [TINY]
    assert build.build(f"{TINY}// other\n") != library and len(compiled) == 2
    assert folder.stat().st_mode & 0o777 == 0o700 and not list(folder.glob("*.part"))


def test_the_compiler_and_its_flags_are_part_of_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = {build.build(TINY)}
    monkeypatch.setenv("CXX", f"{build.find_compiler()[0]} -DEXTRA=1")
    libraries.add(build.build(TINY))
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-g"))
    libraries.add(build.build(TINY))
    assert len(libraries) == 3


@pytest.mark.parametrize("damage", ["cut", "emptied", "changed", "without its sum", "gone"])
def test_a_damaged_entry_is_built_again(damage: str, compiled: list[str]) -> None:
    library = build.build(TINY)
    whole = library.read_bytes()
    middle = len(whole) // 2
    if damage == "without its sum":
        library.with_suffix(".sha256").unlink()
    elif damage == "gone":
        library.unlink()
    else:
        changed = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        library.write_bytes({"cut": whole[:middle], "emptied": b"", "changed": changed}[damage])
    assert build.build(TINY) == library and len(compiled) == 2
    assert ctypes.CDLL(str(library)).answer() == 42


def test_what_a_killed_build_leaves_is_no_hindrance(folder: Path) -> None:
    library = build.build(TINY)
    library.rename(library.with_suffix(".part"))
    assert build.build(TINY) == library and not list(folder.glob("*.part"))


def test_many_processes_build_one_entry(folder: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        libraries = set(pool.map(build.build, [TINY] * 6))
    assert list(libraries) == list(folder.glob("*.so"))


def test_refused_source(folder: Path) -> None:
    with pytest.raises(BuildError) as caught:
        build.build("int wrong = here;\n" * 30)
    message = str(caught.value)
    (kept,) = folder.glob("*.cpp")
    assert f"refused {kept} (exit status 1)" in message
    assert "here" in message and "more lines" in message
    assert len(message.splitlines()) == build.MESSAGE_LINES + 2
    assert not list(folder.glob("*.so")) and not list(folder.glob("*.part"))


def test_missing_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(BuildError, match=r"looked for c\+\+, g\+\+, clang\+\+.*CXX"):
        build.build(TINY)
    monkeypatch.setenv("CXX", "g++ -DX='")
    with pytest.raises(BuildError, match="is no command: No closing quotation"):
        build.find_compiler()
    monkeypatch.setenv("CXX", "no-such-compiler -O1")
    with pytest.raises(BuildError, match="'no-such-compiler', which CXX names, was not found"):
        build.build(TINY)


def test_broken_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", script(tmp_path / "broken", "echo it is broken; exit 3"))
    with pytest.raises(BuildError, match=r"exit status 3\):\nit is broken"):
        build.build(TINY)


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


def test_a_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BSLANG_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(BuildError, match="set BSLANG_CACHE_DIR"):
        build.build(TINY)


def test_both_sides_of_the_interface_lay_arguments_out_alike() -> None:
    resolved = compiler.resolve(Source("<test>", "causal"))
    (text,) = (t for name, t in compiler.emit(resolved, ["cpu"]).items() if name.endswith(".cpp"))
    names = [name for name, _ in cpu._Arguments._fields_]
    offsets = ", ".join(f"__builtin_offsetof(Arguments, {name})" for name in names)
    text += f'extern "C" int64_t offset(int64_t i) {{ const int64_t x[] = {{{offsets}}}; return x[i]; }}\n'
    library = ctypes.CDLL(str(build.build(text)))
    for i, name in enumerate(names):
        assert library.offset(ctypes.c_int64(i)) == getattr(cpu._Arguments, name).offset, name

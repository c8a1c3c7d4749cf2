"""Where the cpu target cannot run: it says why, once, and the next target takes over."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

import bslang
from bslang import api, compiler, layouts
from bslang.errors import BuildError, TargetError
from bslang.files import HEADER, inlined, source_digest, write_whole
from bslang.runtime.cpu import build
from bslang.runtime.cpu import launch as cpu
from bslang.runtime.cpu.library import load, sealed
from bslang.syntax.source import Source

try:
    build.find_compiler()
except BuildError as error:
    pytest.skip(str(error), allow_module_level=True)

ORIGINAL_PATH = os.environ["PATH"]

FAILURES = {
    "missing": (None, r"no C\+\+ compiler was found"),
    "refuses": ("echo it is broken; exit 3", r"\(exit status 3\):\nit is broken"),
    "hangs": ("sleep 20", r"took more than 0\.2 s"),
    "is killed": ("kill -9 $$", "killed by signal 9"),
}


@pytest.fixture(autouse=True)
def _afresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, and a process that has not been warned of anything."""
    monkeypatch.setenv("BSLANG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(cpu, "_WARNED", set())
    layouts._KNOWN.clear()


def use_compiler(monkeypatch: pytest.MonkeyPatch, folder: Path, text: str | None) -> Path:
    """Let the compiler be a shell script, or none; what it is called for goes to the file returned."""
    log = folder / "log"
    log.touch()
    if text is None:
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setenv("PATH", str(folder / "nothing"))
        return log
    path = folder / "compiler"
    path.write_text(f"#!/bin/sh\necho called >> {log}\n{text}\n")
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))
    return log


def results(layout: bslang.Layout) -> list[torch.Tensor]:
    """out, dq, dk, dv of some tensors."""
    generator = torch.Generator().manual_seed(1)
    given = (torch.randn(1, 2, 40, 8, generator=generator) for _ in range(3))
    q, k, v = (x.requires_grad_() for x in given)
    out = layout(q, k, v)
    assert isinstance(out, torch.Tensor)
    return [out, *torch.autograd.grad(out.square().sum(), (q, k, v))]


# ---- no compiler, or one that fails ---------------------------------------------------------


@pytest.mark.parametrize("failure", FAILURES)
def test_another_target_takes_over(
    failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, reason = FAILURES[failure]
    log = use_compiler(monkeypatch, tmp_path, text)
    monkeypatch.setattr(build, "BUILD_SECONDS", 0.2)
    layout = bslang.compile("last(9t)", block=8, target=("cpu", "torch"))
    with pytest.warns(RuntimeWarning, match=f"the cpu target cannot run: .*{reason}") as caught:
        found = results(layout)
    assert [w.filename for w in caught] == [__file__], [str(w.message) for w in caught]
    expected = results(bslang.compile("last(9t)", block=8, target="torch"))
    assert all(map(torch.equal, found, expected))
    called = log.read_text()
    assert bool(called) == (text is not None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results(layout)
    assert log.read_text() == called  # not once more at every call


@pytest.mark.parametrize("failure", FAILURES)
def test_without_another_target_it_is_an_error(
    failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, reason = FAILURES[failure]
    use_compiler(monkeypatch, tmp_path, text)
    monkeypatch.setattr(build, "BUILD_SECONDS", 0.2)
    layout = bslang.compile("last(9t)", block=8, target="cpu")
    with pytest.warns(RuntimeWarning), pytest.raises(TargetError, match=reason):
        results(layout)
    with pytest.raises(TargetError, match=reason):
        results(layout)


def test_a_process_is_warned_once_and_not_for_each_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_compiler(monkeypatch, tmp_path, None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for width in (3, 4, 5):
            results(bslang.compile(f"last({width}t)", block=8))
    assert len(caught) == 1


def test_under_torch_compile_it_is_asked_when_it_runs() -> None:
    q = torch.randn(1, 2, 40, 8)
    expected = bslang.compile("last(9t)", block=8, target="torch")(q, q, q)
    layout = bslang.compile("last(9t)", block=8, target=("cpu", "torch"))
    compiled = torch.compile(lambda q: layout(q, q, q), fullgraph=True, backend="aot_eager")
    assert "_loaded" not in vars(layout.targets["cpu"])
    torch.testing.assert_close(compiled(q), expected)
    assert "_loaded" in vars(layout.targets["cpu"])


# ---- libraries that travel ------------------------------------------------------------------


@pytest.fixture(scope="module")
def files() -> dict[str, str | bytes]:
    """A module and its library, built once."""
    resolved = compiler.resolve(Source("near.bsl", "block 8\nnear = last(9t)"), "near")
    return api.files(resolved, ("cpu", "torch"), "native")


@pytest.fixture
def travelled(
    files: dict[str, str | bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder of a module with its library, on a machine without a compiler."""
    folder = tmp_path / "out"
    write_whole(folder, files)
    use_compiler(monkeypatch, tmp_path, None)
    return folder


def layout_of(folder: Path) -> bslang.Layout:
    layout: bslang.Layout = layouts.import_file(folder / "near.py", f"near_{folder.name}").LAYOUT
    return layout


def test_a_library_runs_without_a_compiler_and_without_its_source(travelled: Path) -> None:
    expected = results(bslang.compile("last(9t)", block=8, target="torch"))
    (travelled / "near.cpp").unlink()
    (travelled / HEADER).unlink()
    layout = layout_of(travelled.rename(travelled.with_name("moved")))
    q = torch.zeros(1, 1, 9, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert layout._target(q, q).name == "cpu"
        found = results(layout)
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y)


def test_a_library_beside_a_module_is_not_imported_in_its_place(travelled: Path) -> None:
    code = "import near, torch; print(near.LAYOUT._target(*[torch.zeros(1, 1, 9, 8)] * 2).name)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=travelled, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("cpu\n", "")


def test_files_are_the_same_bytes_on_every_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = compiler.resolve(Source("near.bsl", "near = last(9t)"), "near")
    made = []
    for name in ("one", "two"):
        monkeypatch.setenv("BSLANG_CACHE_DIR", str(tmp_path / name))
        made.append(api.files(resolved, None, "native"))
    assert list(made[0]) == ["near.py", "near.cpp", HEADER, "near.native.so"]
    assert made[0] == made[1]
    assert made[0]["near.cpp"] == compiler.emit(resolved)["near.cpp"]  # only the module differs


def refused(folder: Path, reason: str) -> None:
    """Assert that the library is refused for a reason, and torch takes over."""
    layout = layout_of(folder)
    with pytest.warns(RuntimeWarning, match=reason) as caught:
        results(layout)
    assert len(caught) == 1
    assert layout._target(*[torch.zeros(1, 1, 9, 8)] * 2).name == "torch"


def digest_of(folder: Path) -> str:
    """The digest of what the library of a module is built from."""
    text, header = ((folder / name).read_text(encoding="utf-8") for name in ("near.cpp", HEADER))
    return source_digest(inlined(text, {HEADER: header}))


def seal(path: Path, folder: Path) -> None:
    """Seal what lies in a file as the library of a module."""
    path.write_bytes(sealed(path.read_bytes(), digest_of(folder)))


def stub(path: Path, source: str) -> None:
    """A library of another source in the place of a module's, sealed as if it were its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", ORIGINAL_PATH)
        patch.setattr(build, "_PROCESSOR_CPP", Path(os.devnull))
        path.write_bytes(build.build(source).read_bytes())
    seal(path, path.parent)


def test_a_library_that_is_missing(travelled: Path) -> None:
    (travelled / "near.native.so").unlink()
    refused(travelled, r"near\.native\.so cannot be read \(No such file")


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied", "unsealed", "text"])
def test_a_library_that_is_damaged(damage: str, travelled: Path) -> None:
    library = travelled / "near.native.so"
    whole = library.read_bytes()
    changed = whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:]
    damaged = {"cut": whole[:999], "changed": changed, "emptied": b"", "text": b"x" * 500}
    library.write_bytes((damaged | {"unsealed": whole[:-1]})[damage])
    refused(travelled, "is damaged, or was not built from the C")


def test_a_library_of_another_source(travelled: Path, tmp_path: Path) -> None:
    library = travelled / "near.native.so"
    assert load(library, digest_of(travelled)).bslang_runs_here() == 1
    with pytest.raises(BuildError, match="not built from the C"):
        load(library, source_digest("other"))


def test_a_library_of_another_platform(travelled: Path) -> None:
    library = travelled / "near.native.so"
    elf = bytearray(library.read_bytes())
    if elf[:4] != b"\x7fELF":
        pytest.skip("this platform's libraries are no ELF files")
    elf[18:20] = (22).to_bytes(2, sys.byteorder)  # its machine: an IBM S/390
    library.write_bytes(elf)
    seal(library, travelled)
    refused(travelled, "near.native.so was built for another kind of processor")


def test_a_library_of_another_processor(travelled: Path) -> None:
    stub(travelled / "near.native.so", 'extern "C" int bslang_runs_here() { return 0; }')
    refused(travelled, "built for a processor with instructions that this one lacks")


@pytest.mark.parametrize(
    ("march", "needs"),
    [
        ("x86-64-v4", "avx512f"),
        ("sapphirerapids", "avx512_fp16"),
        ("bdver2", "fma4"),
        ("x86-64", ""),
    ],
)
def test_a_library_asks_for_what_it_was_built_with(march: str, needs: str) -> None:
    about = Path("/proc/cpuinfo")
    if build.platform.machine() != "x86_64" or not about.is_file():
        pytest.skip("the names are those of x86-64 under Linux")
    resolved = compiler.resolve(Source("near.bsl", "near = last(9t)"), "near")
    files = compiler.emit(resolved, ["cpu"])
    source = inlined(str(files["near.cpp"]), {HEADER: str(files[HEADER])})
    try:
        library = ctypes.CDLL(str(build.build(source, march)))
    except BuildError as error:
        pytest.skip(f"this compiler does not know {march}: {error}")
    assert library.bslang_runs_here() == (not needs or needs in about.read_text().split())

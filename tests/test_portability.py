"""The cpu target with other compilers, for other processors, and on systems that are not Linux."""

from __future__ import annotations

import platform
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import emulated
import processors
import pytest
import torch
from reference import TOLERANCE, agrees, inputs, run
from strategies import Case

import bslang
from bslang import compiler, layouts
from bslang.errors import BuildError
from bslang.files import HEADER, inlined, source_digest
from bslang.runtime.cpu import build, library
from bslang.syntax.source import Source

try:
    COMPILER = shlex.join(build.find_compiler())  # before tests/conftest.py makes it a quick one
except BuildError as error:
    pytest.skip(str(error), allow_module_level=True)

TINY = 'extern "C" int answer() { return 42; }\n'
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
CASE = Case("(last(70t) | cols(:4t)) & causal", (48, 48), 200, 230, "end")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where libraries go: an empty cache, and layouts and warnings that nobody has had yet."""
    monkeypatch.setenv("BSLANG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "_WARNED", set())
    build._lacking.cache_clear()
    layouts._KNOWN.clear()
    return tmp_path / "cache" / "cpu"


def check(dtype: torch.dtype) -> None:
    """Forward and backward of the cpu target, in two threads, against dense attention."""
    given = inputs(CASE.len_q, CASE.len_k, dim=72, heads=3, key_heads=3, dtype=dtype)
    layout = bslang.compile(CASE.spec, block=CASE.block, target="cpu")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        agrees(layout, given, CASE.masks(3), TOLERANCE[dtype], align=CASE.align)
    finally:
        torch.set_num_threads(before)


# ---- compilers -------------------------------------------------------------------------------


@pytest.fixture
def refusing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """refusing(flag, ...) has a compiler that refuses flags, as Apple's does, while the file returned is
    there; what it is called with goes to `calls` beside the file."""

    def use(*flags: str) -> Path:
        lacks = tmp_path / "lacks"
        lacks.touch()
        script = tmp_path / "c++"
        script.write_text(
            f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
            f'test -e {lacks} && for x; do case "$x" in {"|".join(flags)}) '
            f"echo \"clang: error: unsupported option '$x'\"; exit 1;; esac; done\n"
            f'exec {COMPILER} "$@"\n'
        )
        script.chmod(0o755)
        monkeypatch.setenv("CXX", str(script))
        return lacks

    return use


def test_without_openmp_kernels_run_in_one_thread(refusing: Callable[..., Path]) -> None:
    refusing("-fopenmp")
    with pytest.warns(RuntimeWarning, match="refuses -fopenmp, so .* one thread; install") as told:
        for dtype in DTYPES:
            check(dtype)
        build.build(TINY)
    assert len(told) == 1, "of each lack once"


def test_what_a_compiler_lacks_is_asked_again(refusing: Callable[..., Path], folder: Path) -> None:
    lacks = refusing("-fopenmp")
    calls = lacks.with_name("calls")
    with pytest.warns(RuntimeWarning, match="one thread"):
        alone = build.build(TINY)
    # The next process is warned as well, and builds nothing but the program that asks.
    build._lacking.cache_clear()
    build._WARNED.clear()
    calls.unlink()
    with pytest.warns(RuntimeWarning, match="one thread"):
        assert build.build(TINY) == alone
    assert "kernel.cpp" not in calls.read_text() and "probe.cpp" in calls.read_text()
    # OpenMP is installed.
    lacks.unlink()
    build._lacking.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        threaded = build.build(TINY)
        assert threaded != alone and build.build(TINY) == threaded
    assert {alone, threaded} == {*folder.glob("*.so")} and not list(folder.glob("*.cpp"))


def test_a_compiler_that_does_not_know_this_processor(refusing: Callable[..., Path]) -> None:
    refusing("-march=native", "-fopenmp")
    with pytest.warns(RuntimeWarning) as told:
        check(torch.float32)
    messages = sorted(str(warning.message) for warning in told)
    assert ["-fopenmp" in messages[0], "-march=native" in messages[1]] == [True, True]
    assert "what all processors of this kind have" in messages[1]


def test_a_processor_that_was_asked_for_is_not_left_out(refusing: Callable[..., Path]) -> None:
    refusing("-march=x86-64-v9")
    with warnings.catch_warnings(), pytest.raises(BuildError, match="x86-64-v9"):
        warnings.simplefilter("error")
        build.build(TINY, "x86-64-v9")


def test_the_advice_is_for_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    for system, advice in (("darwin", "brew install gcc"), ("linux", "libomp-dev")):
        monkeypatch.setattr(sys, "platform", system)
        build._WARNED.clear()
        with pytest.warns(RuntimeWarning, match=advice):
            build._warn(("c++",), ("-fopenmp",))


@pytest.mark.parametrize("name", ["g++", "clang++"])
def test_kernels_of_either_compiler_build_with_no_warning(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As users build them, and in several threads."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    monkeypatch.setenv("CXX", name)
    if build._lacking(build.find_compiler(), build.FLAGS):
        pytest.skip(f"{name} has no OpenMP runtime: {build._openmp()}")
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-Wall", "-Wextra", "-Werror"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for dtype in DTYPES:
            check(dtype)


# ---- processors ------------------------------------------------------------------------------


@pytest.mark.parametrize("march", processors.X86)
def test_levels_of_x86(march: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make test-x86` has many more."""
    if processors.lacks(march):
        pytest.skip(processors.lacks(march))
    processors.install(monkeypatch, march)
    assert f"-march={march}" in build.FLAGS
    for dtype in DTYPES:
        check(dtype)


def bits(*flags: str) -> list[torch.Tensor]:
    """Results and gradients in bf16 of kernels built with flags, in two threads."""
    given = inputs(CASE.len_q, CASE.len_k, dim=80, heads=3, key_heads=3, dtype=torch.bfloat16)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    layouts._KNOWN.clear()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(build, "FLAGS", (*build.FLAGS, *flags))
            found = run(bslang.compile(CASE.spec, block=CASE.block, target="cpu"), given)
    finally:
        torch.set_num_threads(before)
    return [getattr(found, name) for name in ("out", "dq", "dk", "dv")]


@pytest.fixture
def amx() -> None:
    if processors.lacks(processors.AMX):
        pytest.skip(processors.lacks(processors.AMX))


@pytest.mark.usefixtures("amx")
def test_tiles_of_amx(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make test-x86` has many more."""
    processors.install(monkeypatch, processors.AMX)
    check(torch.bfloat16)


@pytest.mark.usefixtures("amx")
def test_without_tiles_a_kernel_for_amx_uses_other_instructions() -> None:
    """Whether the model grants none, or this system does not; where it does, they are those of the model."""

    def same(x: list[torch.Tensor], y: list[torch.Tensor]) -> bool:
        return all(map(torch.equal, x, y))

    plain, model = bits(), bits(processors.MODEL.format(1))
    assert not same(plain, model), "tiles add in an order of their own"
    assert same(plain, bits(processors.MODEL.format(0)))
    granted = "amx_bf16" in Path("/proc/cpuinfo").read_text().split()
    assert same(bits("-mamx-tile", "-mamx-bf16"), model if granted else plain)


@pytest.mark.parametrize("name", ["g++", "clang++"])
def test_machine_code_for_amx(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool in (name, "objdump"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    if platform.machine() != "x86_64":
        pytest.skip(f"{name} compiles for {platform.machine()}")
    monkeypatch.setenv("CXX", name)
    monkeypatch.setattr(build, "FLAGS", [flag for flag in build.FLAGS if flag != "-fopenmp"])
    resolved = compiler.resolve(Source("near.bsl", "near = last(9t)"), "near")
    files = compiler.emit(resolved, ["cpu"])
    text = inlined(str(files["near.cpp"]), {HEADER: str(files[HEADER])})
    made = build.build(text, "sapphirerapids")
    listed = subprocess.run(
        ["objdump", "-d", str(made)], capture_output=True, text=True, check=True
    ).stdout
    for instruction in ("ldtilecfg", "tileloadd", "tdpbf16ps", "tilestored", "tilerelease"):
        assert instruction in listed
    assert "vdpbf16ps" in listed, "for a system that does not grant tiles"
    bodies = re.findall(
        r"<\w*(?:scores_of|few_scores)\w*(?:\.[\w.]+)?>:\n(.*?)(?:\n\n|\Z)", listed, re.DOTALL
    )
    assert any("prefetcht1" in body for body in bodies), "compilers may leave it out"


@pytest.fixture
def arm() -> None:
    if emulated.missing():
        pytest.skip(emulated.missing())


@pytest.mark.usefixtures("arm")
@pytest.mark.parametrize("march", processors.ARM)
def test_arm(march: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`make test-arm` has many more."""
    processors.install(monkeypatch, march)
    for dtype in DTYPES:
        check(dtype)


@pytest.mark.usefixtures("arm")
def test_an_older_arm_refuses_what_was_built_for_a_newer_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    emulated.install(monkeypatch, "cortex-a53")
    for march, refused in (("armv8-a", False), ("armv8.6-a+bf16+i8mm", True)):
        made = build.build(TINY, march)
        if refused:
            with pytest.raises(BuildError, match="instructions that this one lacks"):
                library.load(made, source_digest(TINY))
        else:
            assert library.load(made, source_digest(TINY)).answer() == 42


STRAY = """
extern "C" void set(int* at, long place) { at[place] = 7; }
"""


@pytest.mark.usefixtures("arm")
def test_emulated_libraries_write_where_they_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a kernel that writes nothing, or elsewhere, does not pass."""
    emulated.install(monkeypatch, "max")
    loaded = library.load(build.build(STRAY, "armv8-a"), source_digest(STRAY))
    numbers = torch.zeros(4000, dtype=torch.int32)
    loaded.set(numbers.data_ptr(), 3000)
    assert numbers[3000] == 7 and numbers.sum() == 7
    with pytest.raises(AssertionError, match="read or wrote where there is no memory"):
        loaded.set(8, 0)


# ---- systems ---------------------------------------------------------------------------------

WINDOWS = """
import builtins, os, sys, warnings
import numpy, torch
for name in ("getuid", "register_at_fork", "killpg", "O_DIRECTORY", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"):
    delattr(os, name)
for name in ("grp", "pwd", "fcntl", "resource"):
    sys.modules[name] = None
sys.platform = "win32"
import bslang
from bslang.errors import TargetError
q = torch.randn(1, 2, 40, 8)
for target in ("torch", ("cpu", "torch")):
    layout = bslang.compile("last(9t)", block=8, target=target)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert layout(q, q, q).shape == q.shape
    print(*(warning.message for warning in told))
try:
    bslang.compile("last(9t)", block=8, target="cpu")(q, q, q)
except TargetError as error:
    print(error)
"""
"""A process without what Windows lacks. torch is loaded before: it would look for its DLLs."""


def test_on_windows_the_error_says_what_to_use_instead() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WINDOWS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    on_torch, taken_over, refused = done.stdout.splitlines()
    assert on_torch == ""
    for told in (taken_over, refused):
        assert (
            "does not build kernels for the CPU on Windows; compile the layout with target='torch'"
            in told
        )


def test_libraries_of_other_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kind of a processor is read in ELF files alone; of others the loader says what is wrong."""
    mach = tmp_path / "kernel.so"
    mach.write_bytes(library.sealed(bytes.fromhex("cffaedfe") + bytes(100), "0" * 16))
    with pytest.raises(BuildError, match="this system cannot load it"):
        library.load(mach, "0" * 16)
    built = build.build(TINY)
    monkeypatch.setattr(sys, "executable", str(mach))
    library._own_architecture.cache_clear()
    try:
        with pytest.raises(
            BuildError, match=r"another kind of processor \(.*; this is .*, Linux\)"
        ):
            library.load(built, source_digest(TINY))
    finally:
        library._own_architecture.cache_clear()

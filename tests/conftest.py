"""Settings of the whole suite."""

from __future__ import annotations

import gc
import os
import re
import shlex
import shutil
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor
from contextlib import suppress
from pathlib import Path
from typing import Any

# Threads of OpenMP that wait for others sleep, also in programs that tests start: as many processes run
# as there are cores, and threads that spin take the time of those that they wait for. Read when torch is
# imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import browsed
import driver
import interpreter
import processors
import pytest
import torch
from hypothesis import HealthCheck, Phase, settings

from bslang.errors import BuildError
from bslang.runtime import capacity
from bslang.runtime.cpu import build

# Nothing is timed: a slow machine is no failure, and neither are some programs that mean nothing on
# their grid. Examples are the same on every run, except when fuzzing.
settings.register_profile(
    "bslang",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.register_profile(
    "fuzz", settings.get_profile("bslang"), derandomize=False, database=None, print_blob=True
)
# A mutant that fails is noticed; what fails of it, nobody reads.
settings.register_profile(
    "mutation",
    settings.get_profile("bslang"),
    database=None,
    phases=[Phase.explicit, Phase.generate],
)
settings.load_profile("bslang")

# Every stage is verified, in the processes that tests start as well.
os.environ["BSLANG_VERIFY"] = "1"

# tests/processors.py: before anything asks for the compiler.
if processors.CHOSEN in os.environ:
    processors.install(pytest.MonkeyPatch(), os.environ[processors.CHOSEN])

# Tables that serve short calls are of 64 tokens at least, rather than of 512: whether no row depends on
# the length is asked of every length up to there.
capacity.LEAST = 64

# Tests run one process a core; threads of their own would only wait for one another.
torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _folder_of_the_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all processes of a run, with the cache of generated modules and built kernels."""
    run = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each worker has a folder of its own in there
        run = run.parent
    pytest.MonkeyPatch().setenv("BSLANG_CACHE_DIR", str(run / "cache"))
    return run


STANDARD = "algorithm array atomic cmath cstdint cstdlib cstring limits new tuple type_traits utility vector"
"""The standard headers that generated C++ includes; reading them takes a third of a quick build."""

COMPILER = """#!/usr/bin/env bash
if [[ "$*" == "{flags} "* && $# == {words} ]]; then
    test -e {header}.gch ||
        {{ {compiler} {quick} {header} -o {header}.$$ && mv {header}.$$ {header}.gch; }}
    set -- -include {header} "$@"
fi
exec {compiler} "${{@/#-O2/-Og}}"
"""
"""A compiler that reads those once in a run, for our builds; torch's have such a header of their own.

With more flags it reads them again: Clang refuses a header that was compiled without them.
"""


@pytest.fixture(autouse=True, scope="session")
def _quick_builds(_folder_of_the_run: Path) -> None:
    """C++ is built with fewer optimisations, in half of the time, also by programs that tests start.

    tests/test_cpu.py has kernels built as users build them.
    """
    try:
        compiler = shlex.join(build.find_compiler())
    except BuildError:  # tests that need one are skipped
        return
    script, header = _folder_of_the_run / "c++", _folder_of_the_run / "standard.h"
    made = _folder_of_the_run / f"c++{os.getpid()}"
    header.write_text("".join(f"#include <{name}>\n" for name in STANDARD.split()), "utf-8")
    flags = shlex.join(build.FLAGS)
    quick = flags.replace("-O2", "-Og")
    words = len(build.FLAGS) + 3  # the source, -o and the library
    text = COMPILER.format(compiler=compiler, flags=flags, words=words, quick=quick, header=header)
    made.write_text(text, "utf-8")
    made.chmod(0o755)
    with suppress(FileExistsError):
        os.link(made, script)  # whole, and once: its time is part of the names of what it builds
    pytest.MonkeyPatch().setenv("CXX", str(script))


LONGEST = ("test_benchmarks.py", "test_sanitizers.py", "test_inspect.py", "test_add_primitive.py")
"""Files with a test of over ten seconds. They come first: one of them at the end leaves a core idle."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest first; tests/processors.py runs tests of kernels."""
    items.sort(key=lambda item: item.path.name not in LONGEST)
    if processors.CHOSEN in os.environ:
        left_out = [item for item in items if not processors.selects(item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = filter(processors.selects, items)


def pytest_collection_finish() -> None:
    """The garbage collector, a sixth of the time, leaves alone what is there before the first test."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # libraries complain of what is left at the end


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call" and item.get_closest_marker("programs"):
        # Those that mean nothing, as with an index outside of the sequence, are "invalid" there.
        passed = re.findall(r"(\d+) passing", getattr(item, "hypothesis_statistics", ""))
        report.user_properties.append(("programs", sum(map(int, passed))))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many random programs properties were held on, in all processes."""
    counts = [
        count
        for report in terminalreporter.getreports("passed")
        for name, count in report.user_properties
        if name == "programs"
    ]
    if counts:
        terminalreporter.write_line(f"{sum(counts):,} random programs in {len(counts)} properties")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """golden(name, text) compares with tests/golden/TEST/NAME, or rewrites it with --update-golden."""
    test = re.sub(r"\W+", "_", request.node.name).strip("_")
    folder = Path(__file__).parent / "golden" / test

    def compare(name: str, text: str) -> None:
        path = folder / name
        if request.config.getoption("--update-golden"):
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.is_file(), f"{path} is missing; run pytest --update-golden"
        assert text == path.read_text(encoding="utf-8")

    return compare


@pytest.fixture(scope="session")
def interpreting() -> Iterator[Executor]:
    """One process for all tests of a worker: it takes seconds to start."""
    pytest.importorskip("triton")
    with interpreter.interpreting() as pool:
        yield pool


@pytest.fixture(scope="session")
def on_gpu() -> Iterator[Callable[..., Any]]:
    """on_gpu(check, ...) calls check(driver, ...) in a process with an H100 that is not there."""
    pytest.importorskip("triton")
    with driver.pretending("cuda:90") as on:
        yield on


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium; without it, or what drives it, tests are skipped."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is missing: pip install 'bslang[browser]'"
    )
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium, args=browsed.FLAGS)
        yield started
        started.close()


@pytest.fixture(params=["torch", "cpu", "triton"])
def on(request: pytest.FixtureRequest) -> Callable[..., None]:
    """on(check, ...) calls check(target, ...), for the triton target in a process that interprets it."""
    target = request.param
    if target == "triton":
        pool: Executor = request.getfixturevalue("interpreting")
        return lambda check, *given: pool.submit(check, target, *given).result()
    if target == "cpu":
        try:
            build.find_compiler()
        except BuildError as error:
            pytest.skip(str(error))
    return lambda check, *given: check(target, *given)

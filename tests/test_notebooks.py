"""What a person at a prompt or in a notebook sees: of a spec with errors, and while kernels are built."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import pytest

import bslang
from bslang.runtime import building
from bslang.runtime.cpu import build

# ---- errors ---------------------------------------------------------------------------------------


@pytest.fixture
def cell(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """cell(text): what IPython prints, in plain text, for a cell."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    monkeypatch.setattr(sys, "displayhook", sys.displayhook)  # which the shell replaces
    quiet = Config({"HistoryManager": {"enabled": False}})
    shell = InteractiveShell(config=quiet, colors="nocolor")

    def run(text: str) -> str:
        capsys.readouterr()
        shell.run_cell(text)
        return "".join(capsys.readouterr())

    yield run
    shell.reset(new_session=False)


def test_a_spec_s_errors_are_its_diagnostics_alone(cell) -> None:  # type: ignore[no-untyped-def]
    spec = "windw(3) | global(q)"
    with pytest.raises(bslang.SpecError) as raised:
        bslang.compile(spec)
    shown = cell(f"import bslang\nbslang.compile({spec!r})")
    assert shown.strip() == str(raised.value) and "did you mean" in shown
    # Errors that have their place in the program keep their traceback.
    assert "Traceback" in cell("bslang.compile('causal', target='cuda')")


# ---- building -------------------------------------------------------------------------------------


class Stream(io.StringIO):
    """Standard error that may be a terminal, and tells when something was written."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal, self.written = terminal, Event()

    def isatty(self) -> bool:
        return self._terminal

    def write(self, text: str) -> int:
        count = super().write(text)
        self.written.set()
        return count


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Stream:
    """A terminal as standard error of a process that has said nothing, and waits for no second."""
    monkeypatch.delenv("BSLANG_QUIET", raising=False)
    monkeypatch.setattr(building, "SAID", Event())
    monkeypatch.setattr(building, "PATIENCE", 0.0)
    stream = Stream(terminal=True)
    monkeypatch.setattr(building, "sys", SimpleNamespace(stderr=stream))  # pytest sets sys.stderr
    return stream


def test_a_long_build_is_announced_once(terminal: Stream) -> None:
    for _ in range(2):
        with building.building("kernels for the CPU"):
            assert terminal.written.wait(60)
    assert terminal.getvalue() == (
        "bslang: building kernels for the CPU; later runs find them in the cache "
        "(BSLANG_QUIET=1 hides this note)\n"
    )


def test_a_short_build_is_not(terminal: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    timers = []

    class Never:
        """A timer whose time does not come."""

        def __init__(self, seconds: float, *_: object) -> None:
            timers.append(self)
            self.daemon, self.state = False, [seconds]

        def start(self) -> None:
            self.state.append("started")

        def cancel(self) -> None:
            self.state.append("cancelled")

    monkeypatch.setattr(building, "Timer", Never)
    monkeypatch.setattr(building, "PATIENCE", 1.0)
    with pytest.raises(ZeroDivisionError), building.building("kernels"):
        raise ZeroDivisionError
    assert [(t.daemon, t.state) for t in timers] == [(True, [1.0, "started", "cancelled"])]


@pytest.mark.parametrize("case", ["quiet", "file", "closed"])
def test_nobody_is_told_where_nobody_reads(
    terminal: Stream, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case == "quiet":
        monkeypatch.setenv("BSLANG_QUIET", "1")
    else:
        stream = Stream(terminal=False) if case == "file" else None
        monkeypatch.setattr(building.sys, "stderr", stream)
    monkeypatch.setattr(building, "Timer", None)  # is not so much as set
    with building.building("kernels"):
        pass


def test_a_notebook_is_told(terminal: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    output = type("OutStream", (Stream,), {"__module__": "ipykernel.iostream"})(terminal=False)
    monkeypatch.setattr(building.sys, "stderr", output)
    with building.building("kernels"):
        assert output.written.wait(60)


def test_kernels_of_the_cpu_are_announced(
    terminal: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    """By the build that runs the compiler, and not by the one that finds its library; never on stdout."""
    monkeypatch.setenv("BSLANG_CACHE_DIR", str(tmp_path))
    compile_, built = build._compile, []

    def slow(*arguments: object) -> None:
        assert terminal.written.wait(60)
        built.append(compile_(*arguments))  # type: ignore[arg-type,func-returns-value]

    monkeypatch.setattr(build, "_compile", slow)
    for _ in range(2):
        build.build('extern "C" int answer() { return 42; }')
    assert len(built) == 1 and terminal.getvalue().count("kernels for the CPU") == 1
    assert capfd.readouterr().out == ""

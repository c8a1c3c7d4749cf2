"""Building generated C++ with the system's compiler, once: libraries in a cache, found by content.

An entry is named by a digest of the source, the compiler, the flags and the processor. Many processes
may ask for one entry at once, and one may be killed midway: an entry appears whole, and is used only
while its bytes are those that were built.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bslang.cache import private_dir, read
from bslang.errors import BuildError
from bslang.files import source_digest
from bslang.runtime.building import building
from bslang.runtime.cpu.library import is_whole, sealed

FLAGS = (
    "-std=c++17",
    "-O2",  # kernels are as fast with it as with -O3, and built in 75% to 90% of the time
    "-ftree-vectorize",  # GCC 12's -O2 leaves out most loops
    "-march=native",
    "-ffp-contract=fast",
    "-fopenmp",
    "-fPIC",
    "-shared",
)
OPTIONAL = {
    "-fopenmp": "kernels for the CPU run in one thread; {advice}",
    "-march=native": "kernels for the CPU use only what all processors of this kind have; "
    "set CXX to another compiler",
}
"""The flags that a compiler may refuse, and what it means that it does. Apple's has no OpenMP."""

COMPILERS = ("c++", "g++", "clang++")
BUILD_SECONDS = 300
"""How long one compilation may take, and how long to wait for another process that builds the same."""

MESSAGE_LINES = 12
"""Lines of the compiler's message that an error repeats."""

_LINE = 500
"""Letters that it repeats of a line."""

Command = tuple[str, ...]

_PROCESSOR_CPP = Path(__file__).with_name("processor.cpp")
"""What every library is built with, beside its source: whether a processor can run it."""

_PROBE = """\
#ifdef _OPENMP
#include <omp.h>
extern "C" int probe() { return omp_get_max_threads(); }
#endif
"""

_WARNED: set[tuple[Command, str]] = set()
"""The compilers, and the flags that they refuse, of which this process has been warned."""


def build(source: str, march: str = "") -> Path:
    """The library of a C++ source, built now or found in the cache.

    march: the processor that it is built for, as the compiler's -march names it; by default, this one.
    What a compiler lacks of OPTIONAL is left out, with a warning. Raises BuildError where there is no
    compiler, where it refuses the source or the processor or takes too long, and where the cache cannot
    be used.
    """
    compiler = find_compiler()
    flags: Command = FLAGS
    if march:
        flags = tuple(f"-march={march}" if x.startswith("-march=") else x for x in flags)
    lacking: Command = ()
    library = _entry(source, compiler, flags)
    if library.is_there():
        return library.file
    if library.refused.exists():  # by a compiler that may have got what it lacked since then
        with suppress(OSError):
            lacking = _lacking(compiler, flags)
    if not lacking:
        try:
            return library.built()
        except _RefusedError as error:
            with suppress(OSError):
                lacking = _lacking(compiler, flags)
            if not lacking:
                raise error from None
    _warn(compiler, lacking)
    library = _entry(source, compiler, tuple(flag for flag in flags if flag not in lacking))
    return library.file if library.is_there() else library.built()


@dataclass(frozen=True)
class _Entry:
    """A library of the cache, which may not be built yet; digest: of its source, for the seal."""

    file: Path
    command: Command
    text: str
    digest: str

    @property
    def refused(self) -> Path:
        """The text, where the compiler has refused it."""
        return self.file.with_suffix(".cpp")

    def is_there(self) -> bool:
        """Whether it is there with the bytes that were built."""
        data = read(self.file)
        return data is not None and is_whole(data, self.digest)

    def built(self) -> Path:
        """Build it, or wait for another process that does. Raises BuildError."""
        from filelock import FileLock, Timeout  # not loaded where nothing is built

        file = self.file
        try:
            with FileLock(file.with_suffix(".lock"), timeout=BUILD_SECONDS):
                if not self.is_there():  # nobody built it while this process waited
                    with building("kernels for the CPU"):
                        _compile(self)
        except Timeout:
            raise BuildError(
                f"another process has been building {file} for {BUILD_SECONDS} s; "
                "end it and try again"
            ) from None
        except (OSError, NotImplementedError) as error:  # the latter from a disk without locks
            raise BuildError(
                f"cannot build in the cache {file.parent}: {error}; set BSLANG_CACHE_DIR to another"
            ) from error
        return file


def _entry(source: str, compiler: Command, flags: Command) -> _Entry:
    """The entry of a source, named by all that decides its bytes."""
    text = source + _PROCESSOR_CPP.read_text(encoding="utf-8")
    key = "\0".join((text, *compiler, *flags, *_versions(compiler)))
    if "-march=native" in flags:
        key += f"\0{_processor()}"
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    file = cache_folder() / f"{name}.so"
    return _Entry(file, (*compiler, *flags), text, source_digest(source))


def find_compiler() -> Command:
    """The C++ compiler's command: the environment variable CXX if it is set, else the first of COMPILERS.

    Raises BuildError where there is none.
    """
    if sys.platform == "win32":
        raise BuildError(
            "bslang does not build kernels for the CPU on Windows; compile the layout with "
            "target='torch', or use bslang in WSL"
        )
    try:
        chosen = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise BuildError(f"CXX={os.environ['CXX']!r} is not a command: {error}") from None
    for name in chosen[:1] or COMPILERS:
        path = shutil.which(name)
        if path is not None:
            return (path, *chosen[1:])
    if chosen:
        raise BuildError(f"the C++ compiler {chosen[0]!r}, which CXX names, was not found")
    raise BuildError(
        f"no C++ compiler was found (looked for {', '.join(COMPILERS)}); install one, "
        "or set the environment variable CXX to its path"
    )


def cache_folder() -> Path:
    """The folder of built kernels in bslang's cache, private to the user.

    Raises BuildError where it cannot be made, or where others could put code into it.
    """
    try:
        return private_dir("cpu")
    except OSError as error:
        raise BuildError(
            f"no folder for built kernels: {error}; set BSLANG_CACHE_DIR to a folder of yours"
        ) from None


def _versions(compiler: Command) -> list[str]:
    """What tells a compiler from the next one in its place: the files that its command names.

    Asking it for its version would cost every process that only loads a kernel as much as all the rest.
    """
    files = [Path(path).resolve() for word in compiler if (path := shutil.which(word))]
    return [f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]


_PROCESSOR = {"vendor_id", "model name", "cpu family", "model", "stepping", "flags"}  # x86
_PROCESSOR |= {"CPU implementer", "CPU variant", "CPU part", "CPU revision", "Features", "isa"}
"""What Linux says of a processor that does not change from moment to moment."""


@cache
def _processor() -> str:
    """This processor and its features, for -march=native."""
    about = [platform.machine()]
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if not line.strip():  # the next core begins
                    break
                if line.partition(":")[0].strip() in _PROCESSOR:
                    about.append(line.strip())
    except OSError:  # another system than Linux, where asking takes another process
        about.append(platform.processor())
    return "\n".join(about)


class _RefusedError(BuildError):
    """A compiler that says no, rather than being absent, killed or slow."""


def _compile(entry: _Entry) -> None:
    """Build an entry, in a folder of this build's own. The caller holds the entry's lock."""
    library, kept, compiler = entry.file, entry.refused, entry.command[0]
    _remove_dead(library)
    with tempfile.TemporaryDirectory(".tmp", f"{library.stem}.", library.parent) as folder:
        file, made = Path(folder, "kernel.cpp"), Path(folder, "kernel.so")
        # GCC names the file in assembly as it is: a quotation mark in the name of a folder would break it.
        file.write_text(f'#line 1 "{file.name}"\n{entry.text}', encoding="utf-8")
        status, output = _run([*entry.command, str(file), "-o", str(made)], folder)
        if status != 0:
            file.replace(kept)
            ended = f"exit status {status}" if status > 0 else f"killed by signal {-status}"
            raise (_RefusedError if status > 0 else BuildError)(
                f"the C++ compiler {compiler} refused {kept} ({ended}):\n{_first_lines(output)}"
            )
        if not made.is_file():
            raise BuildError(
                f"{compiler} exited with status 0 but wrote no library; is it a C++ compiler? "
                "Set the environment variable CXX to another"
            )
        made.write_bytes(sealed(made.read_bytes(), entry.digest))
        made.chmod(made.stat().st_mode & 0o755)  # as cache.read asks, whatever the umask
        made.replace(library)
        kept.unlink(missing_ok=True)  # of an attempt that failed


@cache
def _lacking(compiler: Command, flags: Command) -> Command:
    """Those of OPTIONAL that a compiler refuses: it builds a small program without each, not with it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "probe.cpp")
        file.write_text(_PROBE, encoding="utf-8")

        def takes(flags: Command) -> bool:
            command = [*compiler, *flags, str(file), "-o", f"{folder}/probe.so"]
            return _run(command, folder)[0] == 0

        least = tuple(flag for flag in flags if flag not in OPTIONAL)
        if not takes(least):  # something else is wrong with it
            return ()
        return tuple(x for x in flags if x in OPTIONAL and not takes((*least, x)))


def _warn(compiler: Command, lacking: Command) -> None:
    """Say what a compiler lacks: of each lack once in a process."""
    for flag in lacking:
        if (compiler, flag) not in _WARNED:
            _WARNED.add((compiler, flag))
            message = OPTIONAL[flag].format(advice=_openmp())
            warnings.warn(
                f"the C++ compiler {shlex.join(compiler)} refuses {flag}, so {message}",
                RuntimeWarning,
                stacklevel=3,
            )


def _openmp() -> str:
    """How to get a compiler with OpenMP on this system."""
    if sys.platform == "darwin":  # its LLVM's runtime would be a second one beside torch's
        return "install one that has it (`brew install gcc`) and set CXX to it (`g++-15`, say)"
    return "install its OpenMP runtime (`apt-get install libomp-dev`, say) or set CXX to `g++`"


def _remove_dead(library: Path) -> None:
    """Remove what killed builds have left behind: folders of entries whose lock nobody holds.

    The caller holds that of `library`. Clocks are not asked: they may be wrong, or set.
    """
    from filelock import FileLock, Timeout

    for left in library.parent.glob("*.tmp"):
        name = left.name.partition(".")[0]
        if name == library.stem:
            shutil.rmtree(left, ignore_errors=True)
            continue
        with suppress(Timeout, OSError), FileLock(library.with_name(f"{name}.lock"), timeout=0):
            shutil.rmtree(left, ignore_errors=True)


def _run(command: list[str], folder: str) -> tuple[int, str]:
    """Run a compiler and all that it starts: (exit status, output). folder: for its temporary files."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=os.environ | {"TMPDIR": folder},
            start_new_session=True,
        )
    except OSError as error:
        raise BuildError(
            f"the C++ compiler {command[0]} cannot be started: {error.strerror}"
        ) from None
    with process:
        try:
            output, _ = process.communicate(timeout=BUILD_SECONDS)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise BuildError(
                    f"the C++ compiler {command[0]} took more than {BUILD_SECONDS} s"
                ) from None
            raise
    return process.returncode, output


def _first_lines(output: str) -> str:
    """The beginning of a compiler's message, without what a terminal would obey."""
    lines = [
        "".join(char if char.isprintable() else "?" for char in line.expandtabs()[:_LINE])
        for line in output.splitlines()
    ]
    more = [f"... {len(lines) - MESSAGE_LINES} more lines"] if len(lines) > MESSAGE_LINES else []
    return "\n".join(lines[:MESSAGE_LINES] + more)

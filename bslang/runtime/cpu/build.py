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
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

from bslang.cache import private_dir, read
from bslang.errors import BuildError
from bslang.files import source_digest
from bslang.runtime.building import building
from bslang.runtime.cpu.library import is_whole, sealed

FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fopenmp", "-fPIC", "-shared")
COMPILERS = ("c++", "g++", "clang++")
BUILD_SECONDS = 300
"""How long one compilation may take, and how long to wait for another process that builds the same."""

MESSAGE_LINES = 12
"""Lines of the compiler's message that an error repeats."""

_LINE = 500
"""Letters that it repeats of a line."""

_PROCESSOR_CPP = Path(__file__).with_name("processor.cpp")
"""What every library is built with, beside its source: whether a processor can run it."""

Command = tuple[str, ...]


def build(source: str, march: str = "native") -> Path:
    """The library of a C++ source, built now or found in the cache.

    march: the processor that it is built for, as the compiler's -march names it. Raises BuildError
    where there is no compiler, where it refuses the source or the processor or takes too long, and
    where the cache cannot be used.
    """
    compiler = find_compiler()
    folder = cache_folder()
    flags = tuple(f"-march={march}" if flag.startswith("-march=") else flag for flag in FLAGS)
    text = source + _PROCESSOR_CPP.read_text(encoding="utf-8")
    key = "\0".join((text, *compiler, *flags, *_versions(compiler)))
    if "-march=native" in flags:
        key += f"\0{_processor()}"
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    library, digest = folder / f"{name}.so", source_digest(source)
    if _is_there(library, digest):
        return library
    from filelock import FileLock, Timeout  # not loaded where nothing is built

    try:
        with FileLock(folder / f"{name}.lock", timeout=BUILD_SECONDS):
            if not _is_there(library, digest):  # nobody built it while this process waited
                with building("kernels for the CPU"):
                    _compile((*compiler, *flags), text, digest, library)
    except Timeout:
        raise BuildError(
            f"another process has been building {library} for {BUILD_SECONDS} s; end it and try again"
        ) from None
    except (OSError, NotImplementedError) as error:  # the latter from a disk without locks
        raise BuildError(
            f"cannot build in the cache {folder}: {error}; set BSLANG_CACHE_DIR to another"
        ) from error
    return library


def find_compiler() -> Command:
    """The C++ compiler's command: the environment variable CXX if it is set, else the first of COMPILERS.

    Raises BuildError where there is none.
    """
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
    about = [platform.machine(), platform.processor()]
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if not line.strip():  # the next core begins
                    break
                if line.partition(":")[0].strip() in _PROCESSOR:
                    about.append(line.strip())
    except OSError:  # another system than Linux
        pass
    return "\n".join(about)


def _compile(command: Command, text: str, digest: str, library: Path) -> None:
    """Build an entry, in a folder of this build's own. The caller holds the entry's lock.

    digest: of the source, for the seal.
    """
    _remove_dead(library)
    kept = library.with_suffix(".cpp")
    with tempfile.TemporaryDirectory(".tmp", f"{library.stem}.", library.parent) as folder:
        file, made = Path(folder, "kernel.cpp"), Path(folder, "kernel.so")
        file.write_text(text, encoding="utf-8")
        status, output = _run([*command, str(file), "-o", str(made)], folder)
        if status != 0:
            file.replace(kept)
            ended = f"exit status {status}" if status > 0 else f"killed by signal {-status}"
            raise BuildError(
                f"the C++ compiler {command[0]} refused {kept} ({ended}):\n{_first_lines(output)}"
            )
        if not made.is_file():
            raise BuildError(
                f"{command[0]} exited with status 0 but wrote no library; is it a C++ compiler? "
                "Set the environment variable CXX to another"
            )
        made.write_bytes(sealed(made.read_bytes(), digest))
        made.chmod(made.stat().st_mode & 0o755)  # as cache.read asks, whatever the umask
        made.replace(library)
        kept.unlink(missing_ok=True)  # of an attempt that failed


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


def _is_there(library: Path, digest: str) -> bool:
    """Whether an entry is there with the bytes that were built."""
    data = read(library)
    return data is not None and is_whole(data, digest)


def _first_lines(output: str) -> str:
    """The beginning of a compiler's message, without what a terminal would obey."""
    lines = [
        "".join(char if char.isprintable() else "?" for char in line.expandtabs()[:_LINE])
        for line in output.splitlines()
    ]
    more = [f"... {len(lines) - MESSAGE_LINES} more lines"] if len(lines) > MESSAGE_LINES else []
    return "\n".join(lines[:MESSAGE_LINES] + more)

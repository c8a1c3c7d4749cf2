"""Building generated C++ with the system's compiler, once: shared objects in a cache, found by content.

An entry is named by a digest of the source, the flags, and everything that the compiler says of itself
and of this processor. Many processes may ask for one entry at once, and one may be killed midway: an
entry appears whole, and is used only while its bytes are those that were built.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import signal
import subprocess
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from bslang.errors import BuildError
from bslang.files import cache_dir

FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fopenmp", "-fPIC", "-shared")
COMPILERS = ("c++", "g++", "clang++")
BUILD_SECONDS = 300
"""How long one compilation may take, and how long to wait for another process that builds the same."""

MESSAGE_LINES = 12
"""Lines of the compiler's message that an error repeats."""

Command = tuple[str, ...]


def build(source: str) -> Path:
    """The shared object of a C++ source, built now or found in the cache.

    Raises BuildError where there is no compiler, where it refuses the source or takes too long, and
    where the cache cannot be used.
    """
    compiler = find_compiler()
    folder = cache_folder()
    key = "\0".join((source, *compiler, *FLAGS, _identity(compiler)))
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    library = folder / f"{name}.so"
    if _is_whole(library):
        return library
    try:
        with FileLock(folder / f"{name}.lock", timeout=BUILD_SECONDS):
            if not _is_whole(library):  # nobody built it while this process waited
                _compile(compiler, source, library)
    except Timeout:
        raise BuildError(
            f"another process has been building {library} for {BUILD_SECONDS} s; end it and try again"
        ) from None
    except OSError as error:
        raise BuildError(f"cannot build in the cache {folder}: {error}") from error
    return library


def find_compiler() -> Command:
    """The C++ compiler's command: the environment variable CXX if it is set, else the first of COMPILERS.

    Raises BuildError where there is none.
    """
    try:
        chosen = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise BuildError(f"CXX={os.environ['CXX']!r} is no command: {error}") from None
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
        folder = cache_dir() / "cpu"
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise BuildError(
            f"no folder for built kernels: {error}; set BSLANG_CACHE_DIR to one of yours"
        ) from None
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise BuildError(
            f"others may write to {folder}, which holds code to be run; "
            "set BSLANG_CACHE_DIR to a folder of yours, or `chmod 700` this one"
        )
    return folder


@cache
def _identity(compiler: Command) -> str:
    """What a compiler predefines: its version and every feature of the processor that it builds for."""
    command = [*compiler, "-march=native", "-dM", "-E", "-x", "c++", os.devnull]
    status, output = _run(command)
    if status != 0:
        raise BuildError(
            f"`{shlex.join(command)}` failed (exit status {status}):\n{_first_lines(output)}"
        )
    return output


def _compile(compiler: Command, source: str, library: Path) -> None:
    """Build an entry. The caller holds its lock, so that the names beside it are its own too."""
    text, part = library.with_suffix(".cpp"), library.with_suffix(".part")
    text.write_text(source, encoding="utf-8")
    try:
        status, output = _run([*compiler, *FLAGS, str(text), "-o", str(part)])
        if status != 0:
            raise BuildError(
                f"the C++ compiler {compiler[0]} refused {text} (exit status {status}):\n"
                f"{_first_lines(output)}"
            )
        digest = _digest(part)
        part.replace(library)
        part.write_text(digest, encoding="ascii")
        part.replace(_sum_of(library))
    finally:
        part.unlink(missing_ok=True)


def _run(command: list[str]) -> tuple[int, str]:
    """Run a compiler and all that it starts: (exit status, output)."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=BUILD_SECONDS)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise BuildError(f"`{shlex.join(command)}` took more than {BUILD_SECONDS} s") from None
        raise
    return process.returncode, output


def _sum_of(library: Path) -> Path:
    return library.with_suffix(".sha256")


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _is_whole(library: Path) -> bool:
    """Whether an entry is there with the bytes that were built: loading a damaged one can end the process."""
    try:
        return _sum_of(library).read_text(encoding="ascii") == _digest(library)
    except (OSError, ValueError):
        return False


def _first_lines(output: str) -> str:
    lines = output.splitlines()
    more = [f"... {len(lines) - MESSAGE_LINES} more lines"] if len(lines) > MESSAGE_LINES else []
    return "\n".join(lines[:MESSAGE_LINES] + more)

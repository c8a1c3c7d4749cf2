"""A program: runs commands of bslang in one process where some packages cannot be found.

    python tests/without.py torch,triton < commands.json

commands.json: [["check", "patterns.bsl"], ...]; ["-c", "print(1)"] runs Python instead. Writes JSON,
[[status, stdout, stderr], ...].
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


class Without:
    """Finds modules as Python does, but for those of some packages."""

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = packages

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        hidden = name.split(".")[0] in self.packages
        return None if hidden else PathFinder.find_spec(name, path, target)


def hide(packages: Sequence[str]) -> None:
    """Let nothing find the packages from now on."""
    sys.meta_path[:] = [Without(packages) if each is PathFinder else each for each in sys.meta_path]


def ran(command: Sequence[str]) -> tuple[int, str, str]:
    """The exit status of a command, and what it wrote."""
    from bslang.cli.main import main

    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    sys.argv = ["bslang", *command]
    status = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            exec(command[1], {}) if command[0] == "-c" else main()  # a test's own text
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except Exception:
            status = 1
            traceback.print_exc()
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]  # type: ignore[attr-defined]  # a BytesIO
    return status, texts[0], texts[1]


if __name__ == "__main__":
    hide(sys.argv[1].split(","))
    json.dump([ran(command) for command in json.load(sys.stdin)], sys.__stdout__)  # type: ignore[arg-type]  # there is one

"""What each command of `bslang` takes, as a whole process: with an empty cache, and with a warm one."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.markdown import spread, table
from benchmarks.timing import Spread

ROOT = Path(__file__).resolve().parent.parent

SPEC = """\
streaming(w = 4) = (last(w) | cols(0)) & causal
bigbird = window(3) | global(0, -1) | random(2, seed=7)
"""
CONFIG = {"sparse_attention": {"mode": "fixed", "block": 16, "num_local_blocks": 4}}


def _message(method: str, number: int | None = None, **given: object) -> str:
    """A message to a language server; one without a number expects no answer."""
    about = {} if number is None else {"id": number}
    body = json.dumps({"jsonrpc": "2.0", **about, "method": method, "params": given})
    return f"Content-Length: {len(body)}\r\n\r\n{body}"


@dataclass(frozen=True)
class Line:
    """What follows `bslang`, run in a folder with SPEC and CONFIG. differs: it exits with 1, as `diff`
    does; says: what tables have beside it."""

    text: str
    stdin: str = ""
    differs: bool = False
    says: str = ""


LINES = (
    Line("check spec.bsl"),
    Line("compile spec.bsl:bigbird -o build", says="modules for all targets, C++ not yet built"),
    Line("compile spec.bsl:bigbird -o built --target cpu --march native", says="C++ built"),
    Line("diff spec.bsl:bigbird spec.bsl:streaming", differs=True),
    Line("explain E201"),
    Line(
        "explorer spec.bsl:bigbird", says="the page is written; `--serve` runs until it is stopped"
    ),
    Line("fmt spec.bsl"),
    Line("graph spec.bsl:bigbird -o graph.dot"),
    Line("import config.json"),
    Line("inspect spec.bsl:bigbird --head-dim 64"),
    Line("list"),
    Line(
        "lsp",
        _message("initialize", 1, processId=None, rootUri=None, capabilities={})
        + _message("initialized")
        + _message("shutdown", 2)
        + _message("exit"),
        says="an editor that initializes it, and leaves",
    ),
    Line("show spec.bsl:bigbird"),
    Line("show spec.bsl:bigbird --svg bigbird.svg"),
    Line("stats spec.bsl:bigbird"),
    Line("verify spec.bsl:bigbird --dtype fp32 --seq-len 256", says="C++ built where it is not"),
    Line("why spec.bsl:bigbird 3000 2"),
)

BASELINES = {
    "python -c pass": "pass",
    "python -c 'import torch'": "import torch",
}
"""What a process costs without bslang: no command is faster than the first, and those that compute
tensors load torch."""


@dataclass(frozen=True)
class Started:
    """A command line as a whole process, in seconds; not_run says why it was not measured.

    cold: with an empty cache; warm: with what a run before it left there. A baseline has no cache, and
    so no cold.
    """

    line: str
    cold: Spread | None = None
    warm: Spread | None = None
    says: str = ""
    not_run: str = ""


def run(rounds: int, lines: Sequence[Line] = LINES) -> list[Started]:
    """Every line with an empty cache and again with what that left, in every round.

    Python's own compiled files are there in both.
    """
    cold: dict[str, list[float]] = {}
    warm: dict[str, list[float]] = {}
    failed: dict[str, str] = {}
    for _ in range(rounds):
        for name, program in BASELINES.items():
            warm.setdefault(name, []).append(_seconds(["-c", program]))
        for line in lines:
            if line.text in failed:
                continue
            with tempfile.TemporaryDirectory(prefix="bslang-bench-") as name:
                try:
                    for times in (cold, warm):
                        times.setdefault(line.text, []).append(_bslang(line, Path(name)))
                except Failed as error:
                    failed[line.text] = str(error)
    found = [Started(name, warm=Spread.of(warm[name])) for name in BASELINES]
    for line in lines:
        if line.text in failed:
            found.append(Started(f"bslang {line.text}", not_run=failed[line.text]))
        else:
            spreads = (Spread.of(times[line.text]) for times in (cold, warm))
            found.append(Started(f"bslang {line.text}", *spreads, line.says))
    return found


class Failed(Exception):
    """A command that ended otherwise than it should."""


def _bslang(line: Line, folder: Path) -> float:
    """Seconds of a line with the cache in a folder, and its files written anew."""
    (folder / "cache").mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=folder))
    (work / "spec.bsl").write_text(SPEC, encoding="utf-8")
    (work / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    caches = ("BSLANG_CACHE_DIR", "TRITON_CACHE_DIR")
    env = {name: str(folder / "cache" / name) for name in caches}
    return _seconds(["-m", "bslang", *shlex.split(line.text)], line, work, env)


def _seconds(
    arguments: Sequence[str],
    line: Line = Line(""),
    folder: Path = ROOT,
    env: Mapping[str, str] = {},
) -> float:
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], input=line.stdin, cwd=folder, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": path} | env, check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - begin
    if done.returncode != int(line.differs):
        said = done.stderr.strip().partition("\n")[0]
        raise Failed(f"exit status {done.returncode}: {said}")
    return seconds


def as_markdown(rows: Sequence[Started]) -> str:
    return table(
        ("process", "empty cache, s", "warm cache, s", ""),
        (
            (
                f"`{row.line}`",
                spread(row.cold),
                spread(row.warm),
                f"not run: {row.not_run}" if row.not_run else row.says,
            )
            for row in rows
        ),
    )

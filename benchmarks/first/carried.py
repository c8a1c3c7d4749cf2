"""Layouts with their kernels, compiled where there is no GPU and carried to where there is one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.workers import TaskError, Workers
from bslang.generated import import_file
from bslang.layouts import Layout

PACKAGES = ("lark", "platformdirs")
"""What a machine with torch and Triton may lack of what the compiler imports; all Python."""

ARCHITECTURE = "cuda:90"
INDEX = "index.json"
LENGTHS = (200, 1000, 4096)
"""Tokens of a correctness check: the first and the second at which a layout has a meaning."""

BLOCK = 64
DIMS = (64, 128)
PROCESSES = 2
TIMEOUT = 600.0


@dataclass(frozen=True)
class Carried:
    """A layout. short, length: tokens of a small check and of a large one; heads: that a check should have;
    dims, dtypes: what its kernels were compiled for; file: of its module, in a folder of its own."""

    name: str
    spec: str
    block: int
    dims: tuple[int, ...] = DIMS
    dtypes: tuple[str, ...] = ("bf16",)
    heads: int = 4
    short: int = 0
    length: int = 0
    file: str = ""

    @property
    def folder(self) -> str:
        kept = "".join(x if x.isalnum() or x in "._-" else "-" for x in self.name)
        return kept.strip("-")


SPECIAL = (
    Carried("causal", "causal", 128, dims=(24, 40, 64, 72, 88, 128)),
    Carried("causal in other dtypes", "causal", 64, dims=(64,), dtypes=("fp16", "fp32")),
    Carried("split rows", "window(3) | global(0, -1) | random(2, seed=7)", 64, dims=(64,)),
    Carried("documents", "causal & same(doc)", 64, dims=(64,)),
    Carried("decoding", "(last(1024t) | cols(0:4t)) & causal", 64),
)
"""For what has a case of its own in benchmarks.first.special or .decoding."""


def wanted() -> list[Carried]:
    """What is to be carried: the special ones, those that are timed, then the library. A layout is carried
    once, since a call finds it by its text."""
    from benchmarks.first.timed import TIMED
    from benchmarks.library import pattern
    from bslang.resolve.library import library

    timed = (
        Carried(f"timed {work.pattern.name} {work.block}", work.pattern.spec, work.block)
        for work in TIMED
    )
    published = (Carried(each.name, each.spec, BLOCK) for each in map(pattern, library()))
    found: dict[tuple[str, int], Carried] = {}
    for each in (*SPECIAL, *timed, *published):
        found.setdefault((each.spec, each.block), each)
    return list(found.values())


def prepare(
    folder: Path,
    layouts: Sequence[Carried],
    architecture: str = ARCHITECTURE,
    processes: int = PROCESSES,
) -> list[str]:
    """Write layouts, their kernels and the packages into a folder; returns what went wrong, in words.

    Layouts that are there already, of the same release and versions, are left as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        found = find_spec(package)
        assert found is not None and found.origin is not None, "the compiler imports it"
        where = folder / "site" / package
        if not where.exists():
            shutil.copytree(
                Path(found.origin).parent, where, ignore=shutil.ignore_patterns("__pycache__")
            )
    made, failed = [], []
    with Workers(processes) as workers:
        tasks = [
            (each, workers.submit(_prepare, str(folder), each, architecture, timeout=TIMEOUT))
            for each in layouts
        ]
        for each, task in tasks:
            try:
                made.append(task.result())
            except TaskError as error:
                failed.append(f"{each.name}: {error}")
            _write(folder, made)
    return failed


def _write(folder: Path, made: Iterable[Carried]) -> None:
    text = json.dumps([asdict(each) for each in made], indent=1) + "\n"
    (folder / INDEX).write_text(text, encoding="utf-8")


def _prepare(folder: str, layout: Carried, architecture: str) -> Carried:
    from bslang import api, compiler
    from bslang.syntax.source import Source

    resolved = compiler.resolve(Source("<first>", layout.spec), block=layout.block)
    lengths = [resolved.order.length] * 2 if resolved.order else _lengths(resolved)
    heads = compiler.heads(resolved)
    layout = replace(layout, heads=heads, short=lengths[0], length=lengths[1])
    layout = replace(layout, file=f"{resolved.name}.py")
    where = Path(folder, layout.folder)
    stamp = json.dumps([asdict(layout), _emitted(resolved), architecture, _versions()])
    if _same(where / "stamp", stamp):
        return layout
    files = api.files(
        resolved,
        ("triton",),
        architectures=(architecture,),
        head_dims=layout.dims,
        dtypes=layout.dtypes,
    )
    shutil.rmtree(where, ignore_errors=True)
    where.mkdir()
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (where / name).write_bytes(data)
    (where / "stamp").write_text(stamp, encoding="utf-8")
    return layout


def _emitted(resolved: Any) -> str:
    """What the module follows from: the layout, and the code of the compiler."""
    from bslang import compiler

    return compiler.emission(resolved, ("triton",))


def _same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


def _versions() -> list[str]:
    import torch
    import triton

    import bslang

    return [bslang.__version__, torch.__version__, triton.__version__]


def _lengths(resolved: Any) -> list[int]:
    """The first two of LENGTHS at which a layout has a meaning, or the one twice."""
    from bslang import compiler
    from bslang.errors import BslangError

    found = []
    for length in LENGTHS:
        try:
            for head in range(compiler.heads(resolved)):
                compiler.lower(resolved, length, length, head=head)
        except BslangError:
            continue
        found.append(length)
    return (found + found)[:2] if found else [LENGTHS[-1]] * 2


def read(folder: Path) -> list[Carried]:
    """The layouts in a folder. Raises OSError or ValueError where it has none."""
    found = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    return [
        Carried(**each | {name: tuple(each[name]) for name in ("dims", "dtypes")}) for each in found
    ]


@cache
def layout(folder: str, carried: Carried) -> Layout:
    """A carried layout, for the triton target."""
    path = Path(folder, carried.folder, carried.file)
    made: Layout = import_file(path, f"first_{carried.folder}").LAYOUT
    return made

"""Layouts in safetensors files: block lists, and in the metadata the spec that they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bslang import compiler
from bslang._version import LANGUAGE
from bslang.errors import BslangError, shortened
from bslang.graph.blockgraph import FULL, BlockGraph
from bslang.limits import MAX_HEADS
from bslang.missing import installed
from bslang.patterns.table import Matrix
from bslang.resolve.program import Program, Resolved
from bslang.resolve.verify import verify as verify_text
from bslang.syntax.reader import read
from bslang.syntax.source import Source

FORMAT = "bslang"
_ALIGNS = ("end", "start")
_TABLE = "table."
_NUMBERS = ("language", "block_q", "block_k", "len_q", "len_k", "heads", "layer")


def save(
    path: str | Path,
    resolved: Resolved,
    len_q: int,
    len_k: int,
    align: str,
    heads: int,
    layer: int,
) -> None:
    """Write the file that `load` reads. Raises ImportError without safetensors, OSError."""
    with installed():
        from safetensors.numpy import save_file
    verify_text(resolved)
    numbers = (LANGUAGE, *resolved.block, len_q, len_k, heads, layer)
    metadata = {
        "format": FORMAT,
        "name": resolved.name,
        "spec": resolved.spec,
        "digest": compiler.digest(resolved),
        "align": align,
        **{name: str(number) for name, number in zip(_NUMBERS, numbers, strict=True)},
    }
    arrays = _arrays(resolved, len_q, len_k, align, heads, layer)
    save_file(arrays, str(path), metadata)


def load(path: str | Path) -> tuple[Resolved, int]:
    """The layout of a file, and its layer: compiled from the spec, and held against the lists.

    Raises BslangError where the file is none that bslang wrote, or where its parts disagree, SpecError,
    ImportError without safetensors, OSError. The file is read as data: nothing in it is run.
    """
    with installed():
        from safetensors import SafetensorError, safe_open
        from safetensors.numpy import load_file
    try:
        with safe_open(str(path), framework="numpy") as opened:
            metadata = opened.metadata() or {}
        arrays = load_file(str(path))
    except SafetensorError as error:
        raise BslangError(f"{path} is not a safetensors file: {error}") from None
    if metadata.get("format") != FORMAT:
        raise BslangError(f"{path} holds no layout; `layout.to_safetensors` writes files that do")
    try:
        numbers = {name: int(metadata[name]) for name in _NUMBERS}
        name, spec, digest, align = (metadata[k] for k in ("name", "spec", "digest", "align"))
    except (KeyError, ValueError):
        raise BslangError(f"{path} lacks a part of its metadata; write it again") from None
    if numbers["language"] != LANGUAGE:
        raise BslangError(
            f"{path} is of version {numbers['language']} of the language, and this bslang knows "
            f"version {LANGUAGE}"
        )
    if not name.isidentifier():
        raise BslangError(f"{path} names its layout {name!r}, which is not a valid name")
    if not 1 <= numbers["heads"] <= MAX_HEADS or min(numbers["len_q"], numbers["len_k"]) < 1:
        raise BslangError(f"{path} is not usable: it has no heads, too many, or no tokens")
    if align not in _ALIGNS:
        raise BslangError(
            f"{path} has an `align` of {shortened(repr(align), 90)}, and not one of {', '.join(_ALIGNS)}; "
            "write it again"
        )
    try:
        block = compiler.block_sides((numbers["block_q"], numbers["block_k"]))
    except ValueError as error:
        raise BslangError(f"{path} has invalid blocks: {error}") from None
    resolved = Program(read(Source(str(path), spec)), block, _tables(path, arrays)).pick(
        None, name, {}
    )
    call = (numbers["len_q"], numbers["len_k"], align, numbers["heads"], numbers["layer"])
    same = compiler.digest(resolved) == digest and _equal(_arrays(resolved, *call), arrays)
    if not same:
        raise BslangError(
            f"{path} is inconsistent: its lists or its digest do not match its spec; "
            "write it again from the layout"
        )
    return resolved, numbers["layer"]


def _tables(path: str | Path, arrays: dict[str, Any]) -> dict[str, Matrix]:
    found = {}
    for name, array in arrays.items():
        if name.startswith(_TABLE):
            matrix = Matrix.of(np.asarray(array, dtype=bool)) if array.ndim == 2 else None
            if matrix is None or matrix.name != name.removeprefix(_TABLE):
                raise BslangError(f"{path} has a table whose content does not match its name")
            found[matrix.name] = matrix
    return found


def _arrays(
    resolved: Resolved, len_q: int, len_k: int, align: str, heads: int, layer: int
) -> dict[str, Any]:
    """The block lists, one a distinct graph, and the tables.

    indptr.G: int64 (n + 1,), the blocks of each block row in graph G; indices.G: int32 (blocks,), their
    columns; full.G: bool (blocks,), whether all of their pairs belong; head_graph: int32 (heads,).
    """
    schedule = compiler.tables(resolved, len_q, len_k, align, range(heads), layer)
    arrays: dict[str, Any] = {}
    for number, graph in enumerate(schedule.graphs):
        indptr, indices, full = _lists(graph)
        arrays |= {f"indptr.{number}": indptr, f"indices.{number}": indices, f"full.{number}": full}
    if schedule.head_graph is not None:
        arrays["head_graph"] = schedule.head_graph
    return arrays | {
        f"{_TABLE}{name}": np.ascontiguousarray(matrix.blocks)
        for name, matrix in resolved.tables.items()
    }


def _lists(graph: BlockGraph) -> tuple[Any, Any, Any]:
    cells = graph.visited.cells()
    length = graph.stop - graph.start
    indptr = np.concatenate(([0], np.cumsum(graph.blocks_by_row)))
    return indptr, (cells % graph.grid.m).astype(np.int32), np.repeat(graph.kind == FULL, length)


def _equal(mine: dict[str, Any], given: dict[str, Any]) -> bool:
    return mine.keys() == given.keys() and all(
        array.dtype == given[name].dtype and np.array_equal(array, given[name])
        for name, array in mine.items()
    )

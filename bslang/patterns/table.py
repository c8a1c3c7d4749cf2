"""Tables: a block matrix from a file, as `table` reads it beside the spec."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO

import numpy as np

from bslang.errors import PatternError
from bslang.ir.grid import At, Grid
from bslang.ir.pattern import Decided, Lower, Pattern, Primitive
from bslang.ir.runs import Bools, Runs
from bslang.ir.signature import Kind, argument
from bslang.limits import MAX_TABLE_BYTES

_NO_HEADER = (ValueError, EOFError, SyntaxError, TypeError, RecursionError, MemoryError, TokenError)
_NO_ARCHIVE = (
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
    zlib.error,
)
"""What NumPy and zipfile raise for bytes that are not what they read."""


class BadTable(Exception):
    """A file that is no table, and why. limit: whether it is only too large."""

    def __init__(self, message: str, hint: str = "", limit: bool = False) -> None:
        super().__init__(message)
        self.message, self.hint, self.limit = message, hint, limit


@dataclass(frozen=True)
class Matrix:
    """A boolean block matrix, named by its content: equal names mean equal matrices."""

    name: str
    blocks: Bools = field(compare=False, repr=False)

    @classmethod
    def of(cls, blocks: Bools) -> Matrix:
        """The matrix of bool (n, m)."""
        digest = hashlib.sha256(f"{blocks.shape}".encode() + np.packbits(blocks).tobytes())
        return cls(f"sha256-{digest.hexdigest()[:16]}.npy", blocks)

    @classmethod
    def read(cls, path: Path) -> Matrix:
        """The matrix in a .npy file, or the one in a .npz file. Raises BadTable, OSError.

        Nothing is unpickled, and no more memory is taken than MAX_TABLE_BYTES.
        """
        with path.open("rb") as file:
            if path.suffix == ".npz":
                found = cls.of(_from_archive(file))
            elif path.suffix == ".npy":
                found = cls.of(_from_array(file, path.stat().st_size))
            else:
                raise BadTable("a table is a .npy or .npz file", "write it with `numpy.save`")
        if path.name.startswith("sha256-") and path.name != found.name:
            raise BadTable(
                "the content of this file does not match its name", "generate the module again"
            )
        return found

    @classmethod
    def of_file(cls, content: bytes) -> Matrix:
        """The matrix in the content of a .npy file. Raises BadTable."""
        return cls.of(_from_array(io.BytesIO(content), len(content)))

    @cached_property
    def runs(self) -> Runs:
        """Its blocks as runs."""
        return Runs.of_marks(self.blocks.shape[1], self.blocks.ravel())

    def file(self) -> bytes:
        """The content of a .npy file that holds it."""
        out = io.BytesIO()
        np.save(out, np.ascontiguousarray(self.blocks), allow_pickle=False)
        return out.getvalue()


def _from_archive(file: BinaryIO) -> Bools:
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) != 1:
                message = f"this archive holds {len(members)} arrays, and a table is one"
                raise BadTable(message, "save the one alone, with `numpy.save`")
            if members[0].file_size > MAX_TABLE_BYTES:
                raise _too_large(members[0].file_size)
            with archive.open(members[0]) as inner:
                return _from_array(io.BytesIO(inner.read(MAX_TABLE_BYTES)), members[0].file_size)
    except _NO_ARCHIVE as error:
        raise BadTable(
            f"this is not a .npz archive: {error}", "write it with `numpy.savez`"
        ) from None


def _from_array(file: BinaryIO | io.BytesIO, size: int) -> Bools:
    if size > MAX_TABLE_BYTES:
        raise _too_large(size)
    try:
        version = np.lib.format.read_magic(file)
        header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = header(file)
    except _NO_HEADER as error:
        raise BadTable("this is not a .npy file", "write it with `numpy.save`") from error
    if dtype != np.bool_:
        kind = "pickled objects" if dtype.hasobject else str(dtype)
        message = f"a table must be bool, and this one holds {kind}"
        raise BadTable(message, "save `matrix.astype(bool)`")
    if len(shape) != 2 or min(shape) < 1:
        raise BadTable(f"a table is a matrix of blocks, and this array has the shape {shape}")
    data = file.read(MAX_TABLE_BYTES)
    rows, columns = shape
    if rows * columns != len(data):
        message = f"its header says {rows} x {columns} blocks, and {len(data)} follow"
        raise BadTable(message, "write it again with `numpy.save`")
    cells = np.frombuffer(data, dtype=np.uint8) != 0
    made: Bools = cells.reshape(columns, rows).T if fortran else cells.reshape(rows, columns)
    return made


def _too_large(size: int) -> BadTable:
    message = f"this table has {size} bytes, and the limit is {MAX_TABLE_BYTES} (MAX_TABLE_BYTES)"
    return BadTable(message, limit=True)


def tables(pattern: Pattern) -> dict[str, Matrix]:
    """The matrices that a pattern reads, by the names that its canonical text gives them."""
    return {
        primitive.file: primitive.matrix
        for primitive in pattern.primitives()
        if isinstance(primitive, Table) and primitive.matrix is not None
    }


@dataclass(frozen=True)
class Table(Primitive):
    """The blocks that a file marks: a boolean matrix of block rows by block columns.

    The file (.npy, or .npz with one array) lies beside the spec or below, and its shape is that of
    the layout. Canonical text names it by its content, and generated modules carry it along.

    Example: `table("mask.npy")`
    """

    name = "table"
    drawn = True

    file: str = argument("path of a .npy or .npz file, from the spec's folder", Kind.TEXT)
    matrix: Matrix | None = None  # no argument: it is read when the spec is resolved

    def load(self, read: Callable[[str], Matrix]) -> Table:
        matrix = read(self.file)
        return Table(matrix.name, matrix)

    def fits(self, grid: Grid) -> None:
        assert self.matrix is not None
        rows, columns = self.matrix.blocks.shape
        if (rows, columns) != (grid.n, grid.m):
            raise PatternError(
                f"the table has {rows} x {columns} blocks, but at this length there are {grid.n} x {grid.m}",
                hint="use the length that it was made for, or another table",
                subject=self,
            )

    def predicate(self, at: At) -> Any:
        assert self.matrix is not None
        return self.matrix.blocks[at.blocks.row, at.blocks.col]

    def blocks(self, grid: Grid, lower: Lower) -> Decided:
        assert self.matrix is not None
        held = self.matrix.runs & Runs.domain(grid)
        return Decided(held, held)

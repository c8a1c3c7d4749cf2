"""The primitives of the language, one family a file. To add one, write its class and list it here."""

from __future__ import annotations

from bslang.ir.pattern import Primitive
from bslang.patterns.chunks import Chunks
from bslang.patterns.constant import All, Nothing
from bslang.patterns.diagonals import Diagonals, Strided
from bslang.patterns.indices import Cols, Every, Global, Rows
from bslang.patterns.labels import Same, Select
from bslang.patterns.lattice import Lattice
from bslang.patterns.powers import Butterfly, LogSparse
from bslang.patterns.random import Random
from bslang.patterns.segments import Segments
from bslang.patterns.table import Table
from bslang.patterns.window import Causal, Last, Window

PRIMITIVES: tuple[type[Primitive], ...] = (
    All,
    Nothing,
    Causal,
    Window,
    Last,
    Diagonals,
    Rows,
    Cols,
    Global,
    Random,
    Chunks,
    Strided,
    Every,
    LogSparse,
    Butterfly,
    Segments,
    Lattice,
    Same,
    Select,
    Table,
)

BY_NAME: dict[str, type[Primitive]] = {primitive.name: primitive for primitive in PRIMITIVES}

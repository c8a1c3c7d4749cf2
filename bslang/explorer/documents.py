"""Documents: what a layout with run-time labels is, once a reader says how long each document is.

`same(doc)` with documents of 100, 200 and 300 tokens is the set of `chunks(100t, 200t, 300t)`. That pattern
takes its place, so that blocks, masks, figures and reasons are those of any other layout.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bslang import compiler
from bslang.errors import shortened
from bslang.inputs import Label
from bslang.ir.fold import Fold
from bslang.ir.heads import Heads
from bslang.ir.pattern import (
    Complement,
    Difference,
    Intersection,
    Pattern,
    Primitive,
    Transpose,
    Union,
    Xor,
)
from bslang.limits import MAX_LENGTH
from bslang.resolve.origins import Origins
from bslang.resolve.program import Resolved
from bslang.syntax.source import Source

MOST = 1024
"""Documents of a label."""


def written(label: str) -> str:
    """How a spec writes the pattern of a label: the name of its axis, which no parameter can have."""
    return f"same({label})"


def lengths(text: str) -> tuple[int, ...]:
    """`100, 200, 300` as numbers of tokens; ValueError for the rest."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > MOST:
        raise ValueError(f"{len(parts):,} documents; a picture has up to {MOST:,}")
    for part in parts:
        if not re.fullmatch("0*[1-9][0-9]{0,9}", part) or int(part) > MAX_LENGTH:
            raise ValueError(
                f"lengths of documents are numbers of tokens as in 100,200,300, not {shortened(part, 100)!r}"
            )
    return tuple(map(int, parts))


@dataclass(frozen=True)
class Documents:
    """The lengths of the documents of each label, in tokens, by the name of the label.

    The tokens after them, if any, are one more document; those beyond the sequence are cut off.
    """

    given: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    _said: dict[str, str] = field(default_factory=dict)

    def packed(self, resolved: Resolved, length: int) -> Resolved:
        """The layout at a length, in tokens, with its documents known; other labels stay undecided."""
        known = {
            name: self._pattern(name, widths, resolved.block, length)
            for name, widths in self.given.items()
        }
        if not known:
            return resolved
        origins = Origins()
        pattern = _Packed(known, resolved.origins, origins)(resolved.pattern)
        return replace(resolved, pattern=pattern, origins=origins)

    def named(self, text: str) -> str:
        """The text of a packed pattern as its spec writes it."""
        for packed, name in self._said.items():
            text = text.replace(packed, name)
        return text

    def _pattern(
        self, name: str, widths: tuple[int, ...], block: tuple[int, int], length: int
    ) -> Pattern:
        kept, left = [], length
        for width in (*widths, length):  # what is left is a document, too
            if left > 0:
                kept.append(min(width, left))
                left -= kept[-1]
        text = f"chunks({', '.join(f'{width}t' for width in kept)})"
        pattern = compiler.resolve(Source("documents", text), block=block).pattern
        self._said[str(pattern)] = written(name)
        return pattern


class _Packed(Fold[Pattern]):
    """A pattern with others in place of its labels, each part with the origin of what it replaces."""

    def __init__(self, known: Mapping[str, Pattern], before: Origins, after: Origins) -> None:
        self.known, self.before, self.after = known, before, after

    def __call__(self, pattern: Pattern) -> Pattern:
        made = super().__call__(pattern)
        origin = self.before.of(pattern)
        if origin is not None:
            self.after.add(made, origin)
        return made

    def primitive(self, pattern: Primitive) -> Pattern:
        meant = pattern.expand() if pattern.awaits_call else pattern
        if meant is not pattern:
            return self(meant)
        equal = [x for x in pattern.awaited() if isinstance(x, Label) and not x.ordered]
        return self.known.get(equal[0].name, pattern) if equal else pattern

    def union(self, pattern: Union) -> Pattern:
        return Union.of(*self.parts(pattern))

    def intersection(self, pattern: Intersection) -> Pattern:
        return Intersection.of(*self.parts(pattern))

    def xor(self, pattern: Xor) -> Pattern:
        return Xor.of(*self.parts(pattern))

    def difference(self, pattern: Difference) -> Pattern:
        return Difference(self(pattern.left), self(pattern.right))

    def complement(self, pattern: Complement) -> Pattern:
        return Complement(self(pattern.part))

    def transpose(self, pattern: Transpose) -> Pattern:
        return Transpose(self(pattern.part))

    def heads(self, pattern: Heads) -> Pattern:
        branches = zip(pattern.branches, self.parts(pattern), strict=True)
        return Heads(tuple(replace(branch, pattern=part) for branch, part in branches))

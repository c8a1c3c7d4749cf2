"""The verifier of patterns: their canonical text reads back as what it is the text of.

A generated module asks for its tables by that text: were it another pattern's, so would its masks be.
"""

from __future__ import annotations

from bslang.errors import VerifierError
from bslang.resolve.program import Program, Resolved
from bslang.syntax.reader import read
from bslang.syntax.source import Source


def verify(resolved: Resolved) -> None:
    """Raises VerifierError for a pattern whose text means another."""
    text = resolved.spec
    program = Program(read(Source("<canonical>", text)), resolved.block, resolved.tables)
    again = program.pick(None, resolved.name, {})
    if again.pattern != resolved.pattern:
        raise VerifierError("pattern", "the canonical text reads back as the pattern", text)
    if again.spec != text:
        raise VerifierError("pattern", "the canonical text is the text of what it reads as", text)

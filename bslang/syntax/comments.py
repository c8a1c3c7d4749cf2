"""Comments as documentation: the lines directly above a definition say what it is."""

from __future__ import annotations


def comment_above(text: str, offset: int) -> str:
    """The comment lines directly above the line of an offset, without their `#`; empty for none."""
    lines: list[str] = []
    end = text.rfind("\n", 0, offset)  # that of the line above
    while end >= 0:
        start = text.rfind("\n", 0, end) + 1
        line = text[start:end].strip()
        if not line.startswith("#"):
            break
        lines.append(line.lstrip("#").strip())
        end = start - 1
    return "\n".join(reversed(lines))

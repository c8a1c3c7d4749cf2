"""Write the TextMate grammar of the VS Code extension from the compiler's tables.

    python editors/generate_textmate.py

A test fails where the file is not what this writes.
"""

from __future__ import annotations

import json
from pathlib import Path

from bslang.editors.textmate import grammar

FILE = Path(__file__).resolve().parent / "vscode" / "syntaxes" / "bslang.tmLanguage.json"


def text() -> str:
    """What the file holds."""
    return json.dumps(grammar(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    print(FILE)

"""Write each example as a notebook beside it: examples/recall.py becomes examples/recall.ipynb.

    python docs/notebooks.py

An example is written in cells (`# %%`, and `# %% [markdown]` for text), which editors run as they are. A test
fails where a notebook is not what this makes of its example.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
HELPERS = ("common", "language_model", "model", "train_ranks")
"""What the examples import or start, which has no cells."""


def programs() -> list[Path]:
    """The examples, by name."""
    return sorted(path for path in EXAMPLES.glob("*.py") if path.stem not in HELPERS)


def cells(program: str) -> list[tuple[str, str]]:
    """What kind each cell of a program is of, "code" or "markdown", and its text."""
    _, *parts = re.split(r"^# %%(.*)\n", program, flags=re.MULTILINE)
    found = []
    for heading, text in zip(parts[::2], parts[1::2], strict=True):
        if heading.strip() == "[markdown]":
            found.append(("markdown", re.sub(r"^# ?", "", text, flags=re.MULTILINE).strip()))
        else:
            found.append(("code", text.strip()))
    return found


def notebook(program: str) -> str:
    """The notebook of a program, as JSON: without outputs, and the same for the same program."""
    written: list[dict[str, Any]] = []
    for number, (kind, text) in enumerate(cells(program)):
        cell = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}}
        code = {"execution_count": None, "outputs": []} if kind == "code" else {}
        written.append(cell | code | {"source": text.splitlines(keepends=True)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    whole = {"cells": written, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write them all."""
    for path in programs():
        text = notebook(path.read_text(encoding="utf-8"))
        path.with_suffix(".ipynb").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

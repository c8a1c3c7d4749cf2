"""What a run of the tests under coverage reached, by folder of bslang/. `make coverage` runs this.

    python tests/covered.py [DATA]      # DATA: the file that coverage wrote; prints a Markdown table

Coverage is lines and branches together: those that ran, of all. Exits with 1 if that of the compiler
(the folders of COMPILER) is below GOAL.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from coverage import Coverage

COMPILER = ("syntax", "ir", "patterns", "resolve", "graph", "schedule", "codegen")
GOAL = 0.95
PARTS = ("covered_lines", "num_statements", "covered_branches", "num_branches")


def layers(data: str) -> dict[str, Counter[str]]:
    """The counts of PARTS by folder; "" are the files of bslang/ itself."""
    coverage = Coverage(data_file=data)
    coverage.load()
    with tempfile.TemporaryDirectory() as folder:
        coverage.json_report(outfile=str(Path(folder) / "all.json"))
        files = json.loads((Path(folder) / "all.json").read_text())["files"]
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for name, file in files.items():
        inside = Path(name).parts[Path(name).parts.index("bslang") + 1 : -1]
        found[inside[0] if inside else ""].update({p: file["summary"][p] for p in PARTS})
    return found


def share(counts: Counter[str]) -> float:
    lines, statements, branches, every = (counts[part] for part in PARTS)
    return (lines + branches) / max(statements + every, 1)


def main() -> None:
    found = layers(sys.argv[1] if len(sys.argv) > 1 else ".coverage")
    names = (*COMPILER, *sorted(set(found) - set(COMPILER)))
    rows = {f"`{name or 'bslang/*.py'}`": found[name] for name in names}
    compiler: Counter[str] = sum((found[name] for name in COMPILER), Counter())
    rows["the compiler (the first seven)"] = compiler
    rows["all"] = sum(found.values(), Counter())
    print("| folder | lines | branches | both |\n|---|---|---|---|")
    for name, counts in rows.items():
        lines, statements, branches, every = (counts[part] for part in PARTS)
        cells = f"{lines:,} of {statements:,} | {branches:,} of {every:,}"
        print(f"| {name} | {cells} | {share(counts):.1%} |")
    sys.exit(share(compiler) < GOAL)


if __name__ == "__main__":
    main()

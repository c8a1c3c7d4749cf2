"""Mutation testing by mutmut of the layers between the language and code. `make mutation` runs this.

    python tests/mutation.py [--sample N] [--seed S]

mutmut changes one place of graph/, ir/ or schedule/ at a time and runs the tests that reach it, as
pyproject.toml says. All mutants take hours: N of them are drawn, always the same for a seed; 0 takes
them all. Prints the share that tests notice, and each mutant that none does; `mutmut show NAME` shows it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random
from typing import Annotated

import typer

MUTANTS = Path("mutants")
SURVIVED = {0: "survived", 33: "reached by no test"}
"""By the exit status of its tests; all others have noticed: a failure, a crash, no end."""

AT_IMPORT = (
    "bslang.ir.bounds.x__corners__",
    "bslang.ir.bounds.x__monotone__",
    "bslang.ir.signature.x_argument__",
)
"""Begin names that are left out: these run while modules are imported, before mutmut puts a mutant in."""


def main(
    sample: Annotated[int, typer.Option(help="Mutants to run; 0 for all.")] = 800,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 1,
    children: Annotated[int, typer.Option(help="Processes.")] = 2,
) -> None:
    """Run mutants, and exit with 1 if tests notice less than 85% of them."""
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(children)]
    environment = {"BSLANG_EXAMPLES": "0.1"} | os.environ
    # Asked for a name that none has, mutmut makes all mutants, sees which tests reach each, and stops.
    subprocess.run([*command, "none"], env=environment, capture_output=True)
    names = sorted(name for name in results() if not name.startswith(AT_IMPORT))
    chosen = Random(seed).sample(names, sample) if sample else names
    subprocess.run([*command, *chosen], env=environment, check=True)
    report(chosen)


def results() -> dict[str, int | None]:
    """The exit status of the tests by mutant, None before they have run."""
    found = {}
    for path in MUTANTS.rglob("*.meta"):
        found |= json.loads(path.read_text())["exit_code_by_key"]
    return found


def report(chosen: list[str]) -> None:
    found = results()
    survivors = [name for name in chosen if found[name] in SURVIVED]
    for name in survivors:
        print(f"{SURVIVED[found[name] or 0]:20} {name}")
    every, alive = (Counter(name.split(".")[1] for name in some) for some in (chosen, survivors))
    for layer, count in sorted(every.items()):
        print(f"{layer:10} {count - alive[layer]:5} of {count:5}  {1 - alive[layer] / count:.1%}")
    score = 1 - len(survivors) / len(chosen)
    print(f"{'all':10} {len(chosen) - len(survivors):5} of {len(chosen):5}  {score:.1%}")
    raise typer.Exit(score < 0.85)


if __name__ == "__main__":
    typer.run(main)

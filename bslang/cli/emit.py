"""`bslang compile --emit`: a stage of the pipeline on standard output."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping

import typer

from bslang import compiler
from bslang.cli.spec import read_spec, resolve_spec
from bslang.resolve.program import Resolved
from bslang.syntax.diagnostics import Findings
from bslang.syntax.reader import read
from bslang.syntax.tree import Definition

STAGES = ("tree", "pattern", "graph", "tables")
WITH_A_LENGTH = ("graph", "tables")


def emit(
    stage: str,
    spec: str,
    seq_len: int | None,
    define: list[str] | None,
    block: str | None,
    order: str | None,
    head: int | None,
    layer: int | None,
) -> None:
    """Print a stage. Raises typer.BadParameter for an unknown one, and for options that it does not have."""
    if stage not in STAGES:
        close = difflib.get_close_matches(stage, STAGES, 1)
        hint = f"did you mean {close[0]}?" if close else f"stages are {', '.join(STAGES)}"
        raise typer.BadParameter(f"unknown stage {stage!r}; {hint}", param_hint="--emit")
    given: dict[str, object] = {"--seq-len": seq_len, "--head": head, "--layer": layer}
    if stage not in WITH_A_LENGTH:
        refuse(given, f"needs --emit {' or --emit '.join(WITH_A_LENGTH)}")
    elif seq_len is None:
        message = f"--emit {stage} needs a length in tokens, as in --seq-len 1024"
        raise typer.BadParameter(message, param_hint="--seq-len")
    if stage == "tree":
        refuse(
            {"-D": define, "--block": block},
            "the tree shows the text alone, and does not depend on it",
        )
        text = _tree(spec)
    else:
        resolved = resolve_spec(spec, define, block, order)
        text = _text(stage, resolved, seq_len or 0, head or 0, layer or 0)
    sys.stdout.write(text)


def refuse(options: Mapping[str, object], why: str) -> None:
    """Raises typer.BadParameter for the first option that was given."""
    for name, value in options.items():
        if value is not None and value is not False and value != "":
            raise typer.BadParameter(why, param_hint=name)


def _tree(spec: str) -> str:
    from bslang.stages import tree_text

    source, name = read_spec(spec)
    file = read(source)
    Findings(file.errors).raise_any()
    if name is None:
        return tree_text(source, file.statements)
    definitions = (node for node in file.statements if isinstance(node, Definition))
    found = [node for node in definitions if node.name.text == name]
    if not found:
        compiler.resolve(source, name)  # says what the file defines instead
    return tree_text(source, found)


def _text(stage: str, resolved: Resolved, length: int, head: int, layer: int) -> str:
    from bslang import stages

    if stage == "pattern":
        return stages.pattern_text(resolved)
    graph = compiler.lower(resolved, length, length, head=head, layer=layer)
    if stage == "graph":
        return stages.graph_text(resolved, graph)
    return stages.tables_text(resolved, compiler.schedule(graph))

"""The `bslang` program: its commands, and how errors become messages and exit statuses.

0 good, 1 an error of the user's, 2 wrong usage, 3 a limit passed, 70 a bug of ours.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bslang._version import __version__
from bslang.budget import OverBudget, limited
from bslang.cli.check import check
from bslang.cli.common import as_dict, print_diagnostic, print_json
from bslang.cli.compile import compile
from bslang.cli.diff import diff
from bslang.cli.explain import explain
from bslang.cli.explorer import explorer
from bslang.cli.fmt import fmt
from bslang.cli.graph import graph
from bslang.cli.import_ import import_
from bslang.cli.inspect import inspect
from bslang.cli.list import list
from bslang.cli.lsp import lsp
from bslang.cli.show import show
from bslang.cli.spec import STDIN
from bslang.cli.stats import stats
from bslang.cli.terminal import printable_streams, quiet_end
from bslang.cli.verify import verify
from bslang.cli.why import why
from bslang.errors import BslangError, LimitError
from bslang.missing import installed
from bslang.syntax.diagnostics import Diagnostic, SpecError
from bslang.syntax.source import Source

BUG = 70

app = typer.Typer(
    name="bslang",
    help="Compile block-sparse attention layouts to Triton and C++ kernels.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    check,
    compile,
    diff,
    explain,
    explorer,
    fmt,
    graph,
    import_,
    inspect,
    list,
    lsp,
    show,
    stats,
    verify,
):
    app.command(command.__name__.rstrip("_"))(command)  # `import` is a word of Python's
# Positions may be negative, and are no options then.
app.command(context_settings={"ignore_unknown_options": True})(why)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"bslang {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; exits with a status."""
    try:
        with printable_streams():
            _main()
    finally:
        quiet_end()


def _main() -> None:
    try:
        try:
            with limited(), installed():
                _run([_spelled(argument) for argument in sys.argv[1:]])
        finally:
            sys.stdout.flush()
    except SpecError as error:
        if _json():
            print_json({"diagnostics": [as_dict(each) for each in error.diagnostics]})
            sys.exit(error.exit_status)
        for place, diagnostic in enumerate(error.diagnostics):
            print("\n" * (place > 0), end="", file=sys.stderr)
            print_diagnostic(diagnostic)
        count = len(error.diagnostics)
        if count > 1 and error.complete:
            print(f"\n{count} errors", file=sys.stderr)
        sys.exit(error.exit_status)
    except OverBudget as error:
        diagnostic = Diagnostic(
            error.code, error.said, Source("", ""), hint=error.remedy, limit=True
        )
        if _json():
            print_json({"diagnostics": [as_dict(diagnostic)]})
        else:
            print_diagnostic(diagnostic)
        sys.exit(error.exit_status)
    except BslangError as error:
        if _json():
            print_json({"error": str(error)})
            sys.exit(error.exit_status)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except MemoryError:
        print("error: not enough memory for this layout at this length", file=sys.stderr)
        sys.exit(LimitError.exit_status)
    except OSError as error:
        _drop_output()
        if not isinstance(error, BrokenPipeError):  # the reader went away, as `head` does
            print(f"error: cannot write the output: {error.strerror}", file=sys.stderr)
        sys.exit(1)
    except Exception:
        import traceback

        traceback.print_exc()
        print(
            "\nThis is a bug in bslang. Please report it, with the lines above and the spec.",
            file=sys.stderr,
        )
        sys.exit(BUG)


_UsageError: Any = typer.BadParameter.__mro__[1]  # the kind that it is of; typer has no name for it


def _run(arguments: Sequence[str]) -> None:
    """Run a command. Wrong usage is a text on standard error, or with --json an object, as all errors."""
    if not _json():
        app(arguments)
        return
    try:
        status = app(arguments, standalone_mode=False)
    except _UsageError as error:
        print_json({"error": error.format_message()})
        sys.exit(error.exit_code)
    sys.exit(status if isinstance(status, int) else 0)


def _json() -> bool:
    """Whether the command was asked for JSON; its errors are JSON on standard output, too."""
    return "--json" in sys.argv[1:]


def _spelled(argument: str) -> str:
    """An argument as click takes it: `-:NAME` would be an option."""
    return f"{STDIN}{argument[1:]}" if argument.startswith("-:") else argument


def _drop_output() -> None:
    """Let what is left of stdout go nowhere; Python would try to write it again while it exits."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())

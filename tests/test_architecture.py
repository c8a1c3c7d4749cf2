"""Imports point one way, heavy libraries have one home each, and the light parts start without them."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "bslang"
FILES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix(): path for path in PACKAGE.rglob("*.py")
}

COMMON = {"budget", "errors", "limits", "missing", "progress"}
"""What everything may use."""

MAY_USE = {
    part: set(others.split())
    for part, others in {
        "syntax": "cache files resources _version",
        "ir": "inputs",
        "patterns": "inputs ir",
        "resolve": "inputs ir patterns resources syntax",
        "graph": "ir",
        "analysis": "graph ir",
        "lint": "analysis graph ir resolve syntax",
        "picture": "analysis graph ir",
        "schedule": "graph ir",
        "placement": "graph ir",
        "abi": "abi_structs call",
        "abi_structs": "call",
        "codegen": "abi cache files graph inputs ir resources schedule _version",
        "compiler": "codegen graph ir resolve resources schedule syntax _version",
        "stages": "compiler graph inputs ir resolve schedule syntax",
        "call": "inputs labels lengths pages selections sinks",
        "inputs": "",
        "labels": "inputs",
        "lengths": "labels",
        "pages": "labels",
        "selections": "inputs",
        "sinks": "",
        "trees": "labels",
        "permute": "ir",
        "dims": "",
        "runtime": "abi abi_structs cache call dims files inputs labels pages selections sinks _version",
        "exchange": "analysis compiler graph inputs ir labels patterns resolve selections syntax _version",
        "generated": "cache",
        "layouts": "analysis cache call compiler exchange generated graph ir patterns picture "
        "permute reports resolve runtime schedule syntax",
        "verify": "call dims inputs runtime selections shown",
        "reports": "analysis compiler dims explorer files graph ir lint picture placement resolve runtime "
        "schedule shown syntax verify",
        "gpu": "abi abi_structs call dims inputs layouts runtime selections",
        "api": "compiler dims exchange files generated gpu layouts resolve runtime syntax verify",
        "configs": "resolve syntax",
        "importer": "compiler layouts resolve",
        "distributed": "call graph inputs ir labels layouts placement runtime sinks _version",
        "nn": "call labels layouts runtime select selections",
        "select": "compiler graph ir layouts resolve runtime syntax",
        "integrations": "analysis api compiler distributed graph labels layouts nn runtime",
        "editors": "compiler graph ir lint patterns picture resolve resources syntax _version",
        "explorer": "analysis compiler graph inputs ir lint picture resolve resources syntax",
        "cli": "analysis api compiler configs dims editors explorer files gpu graph lint patterns picture "
        "reports resolve stages syntax verify _version",
        "budget": "",
        "errors": "",
        "limits": "",
        "missing": "",
        "progress": "",
        "resources": "",
        "shown": "",
        "files": "",
        "cache": "files",
        "_version": "",
        "__init__": "api layouts syntax trees _version",
        "__main__": "cli",
    }.items()
}
"""The parts of the package, and the parts that each may import."""

HOMES = {
    library: set(homes.split())
    for library, homes in {
        "lark": "syntax/parser",
        "numpy": "analysis distributed exchange explorer/drawn explorer/masks graph ir layouts lint nn "
        "patterns picture placement reports/decoding reports/division reports/ranks runtime schedule "
        "select verify",
        "jinja2": "codegen/environment explorer/page",
        "networkx": "analysis gpu/machine/code",
        "scipy": "exchange/sparse",
        "safetensors": "exchange/archive",
        "torch": "call configs/asked configs/masks distributed exchange/cudnn exchange/exports exchange/fa4 "
        "exchange/flashmask exchange/flex exchange/mask exchange/ranges exchange/tiling gpu "
        "integrations labels layouts lengths nn pages permute runtime select selections sinks trees verify",
        "typing_extensions": "call distributed layouts nn runtime select verify",
        "triton": "gpu integrations runtime",
        "typer": "cli",
        "rich": "cli",
        "platformdirs": "cache",
        "filelock": "runtime/cpu/build",
        "graphviz": "analysis/export",
        "matplotlib": "picture/png",
        "pygments": "editors/pygments",
        "transformers": "configs/asked integrations",
        "pygls": "editors/server",
        "lsprotocol": "editors/server",
    }.items()
}
"""Where each library may be imported: parts of the package, or single files."""

TARGETS = {"triton", "cpu", "torch"}
SHARED = {"linear", "predicates", "shapes", "philox"}
"""Files of bslang/patterns that are no primitives."""


@cache
def imports(file: str) -> tuple[str, ...]:
    """Every module that a file imports, wherever in it, with dots; files of the package with slashes."""
    return tuple(imported(file))


def imported(file: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(FILES[file].read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            inside = f"{node.module}.".replace("bslang.", "", 1).replace(".", "/")
            names = [
                f"bslang.{inside}{alias.name}"
                if f"{inside}{alias.name}" in FILES
                else str(node.module)
                for alias in node.names
            ]
        for name in names:
            parts = name.split(".")
            yield "/".join(parts[1:]) or "__init__" if parts[0] == "bslang" else name


def part(file: str) -> str:
    return file.split("/")[0]


def own(file: str) -> Iterator[str]:
    """The files of the package that a file imports."""
    for name in imports(file):
        if part(name) in MAY_USE and "." not in name:
            yield name


def test_every_part_is_in_the_picture() -> None:
    assert {part(file) for file in FILES} <= set(MAY_USE)


@pytest.mark.parametrize("name", MAY_USE)
def test_imports_point_one_way(name: str) -> None:
    allowed = MAY_USE[name] | COMMON | {name}
    found = {
        f"{file} -> {other}"
        for file in FILES
        if part(file) == name
        for other in own(file)
        if part(other) not in allowed
    }
    assert not found


def test_no_part_uses_itself_by_way_of_others() -> None:
    """The table above has no circle, so neither have the imports."""
    left = {name: set(uses) for name, uses in MAY_USE.items()}
    while left:
        free = {name for name, uses in left.items() if not uses & set(left) - {name}}
        assert free, f"a circle among {sorted(left)}"
        left = {name: uses for name, uses in left.items() if name not in free}


def test_no_two_files_import_one_another() -> None:
    """Not by way of others, in a function, or for types alone: a circle of files is one file in parts."""
    uses = {
        file: {other if other in FILES else f"{other}/__init__" for other in own(file)} - {file}
        for file in FILES
    }
    try:
        TopologicalSorter(uses).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(reversed(error.args[1]))}")


@pytest.mark.parametrize("library", HOMES)
def test_libraries_stay_at_home(library: str) -> None:
    found = {
        file
        for file in FILES
        if any(name.split(".")[0] == library for name in imports(file))
        and not {file, part(file)} & HOMES[library]
    }
    assert not found


def test_no_other_library_is_used() -> None:
    known = {"bslang", *HOMES, *sys.stdlib_module_names}
    for file in FILES:
        others = {name.split(".")[0].split("/")[0] for name in imports(file)} - known - set(MAY_USE)
        assert not others, f"{file} imports {others}"


def test_primitives_do_not_import_one_another() -> None:
    files = [file for file in FILES if part(file) == "patterns" and not file.endswith("__init__")]
    assert len(files) > len(SHARED)
    for file in files:
        others = {name.split("/")[1] for name in own(file) if part(name) == "patterns"}
        assert others <= SHARED - {file.split("/")[1]}, file


GENERAL = {
    *("ir", "resolve", "graph", "analysis", "lint", "schedule", "codegen"),
    *("picture", "editors", "explorer", "stages"),
}
"""Parts that know no primitive. `exchange` and `configs` write specs, and so have their names."""


def test_general_code_asks_a_primitive_s_flags_and_not_its_name() -> None:
    """What singles a primitive out is a flag or a method of its own (docs/add-primitive.md)."""
    from bslang.patterns import BY_NAME, PRIMITIVES

    classes = {primitive.__name__ for primitive in PRIMITIVES}
    found = set()
    for file, path in FILES.items():
        if part(file) not in GENERAL:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare) and ".name" in ast.unparse(node):
                constants = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant)}
                found |= {f"{file} compares with {name!r}" for name in constants & {*BY_NAME}}
            elif isinstance(node, ast.ImportFrom) and str(node.module).startswith(
                "bslang.patterns"
            ):
                names = {alias.name for alias in node.names} & classes
                found |= {f"{file} imports {name}" for name in names}
    assert not found


def test_no_walk_over_operators_stands_outside_of_the_fold() -> None:
    """A function that tells three operators apart has to know all of them, and only a Fold has."""
    from bslang.ir.fold import OPERATORS

    operators = {operator.__name__ for operator in OPERATORS}
    for file, path in FILES.items():
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(function, ast.FunctionDef):
                continue
            tested = {
                name.id
                for node in ast.walk(function)
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance"
                for name in ast.walk(node)
                if isinstance(name, ast.Name)
            }
            assert len(tested & operators) < 3, f"{file}: {function.name}"


@pytest.mark.parametrize("folder", ["codegen", "runtime"])
def test_targets_do_not_import_one_another(folder: str) -> None:
    for target in TARGETS:
        place = f"{folder}/{target}"
        files = [file for file in FILES if file == place or file.startswith(f"{place}/")]
        assert files
        for file in files:
            others = {name.split("/")[1] for name in own(file) if part(name) == folder}
            assert not others & (TARGETS - {target}), file


def test_the_compiler_imports_torch_and_triton_nowhere() -> None:
    """Not in a function either: they belong to what runs, and the compiler works without them."""
    for file in FILES:
        if not {file, part(file)} & HOMES["torch"]:
            assert not {"torch", "triton"} & set(imports(file)), file


# ---- cold starts ---------------------------------------------------------------------------------

HEAVY = (
    "torch",
    "scipy",
    "safetensors",
    "triton",
    "networkx",
    "graphviz",
    "matplotlib",
    "jinja2",
    "rich",
    "pygls",
    "transformers",
    "hypothesis",
    "bslang.codegen.environment",
)


def loaded(program: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after a program."""
    report = "import json, sys; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\n{report}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


COMMANDS = {
    "check": "['check', 'examples/bigbird.bsl']",
    "show": "['show', 'examples/bigbird.bsl:bigbird']",
    "stats": "['stats', 'examples/bigbird.bsl:bigbird']",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_that_need_no_tensors_start_light(command: str) -> None:
    program = f"""
import os, sys
os.chdir({str(PACKAGE.parent)!r})
sys.argv = ["bslang", *{COMMANDS[command]}]
from bslang.cli.main import main
try:
    main()
except SystemExit as stop:
    assert not stop.code
"""
    found = loaded(program)
    assert "bslang.compiler" in found
    # Only the analyses of `stats` follow paths.
    assert not found & set(HEAVY) - ({"networkx"} if command == "stats" else set())


def test_importing_bslang_loads_nothing_heavy() -> None:
    found = loaded("import bslang; bslang.__version__, bslang.TargetError")
    assert "bslang.errors" in found
    assert not found & {*HEAVY, "numpy", "lark", "typer"}


def test_a_call_on_the_cpu_loads_no_kernels_for_gpus() -> None:
    """Triton takes longer to import than all else of a first call."""
    program = "q = torch.zeros(1, 1, 8, 8); bslang.compile('causal')(q, q, q)"
    found = loaded(f"import bslang, torch; {program}")
    assert "bslang.runtime.cpu.launch" in found
    assert not found & {"triton", "bslang.runtime.triton", "bslang.runtime.triton.launch"}


def test_a_first_call_loads_no_tracer() -> None:
    """torch's compiler takes a second to import; decorators such as `torch.compiler.disable` do it."""
    found = loaded("""
import bslang, torch
q = torch.randn(1, 1, 64, 16, requires_grad=True)
bslang.compile("causal", block=32)(q, q, q).sum().backward()
""")
    assert "bslang.layouts" in found
    assert not found & {"torch._dynamo", "torch._inductor", "sympy"}


FIRST = """
import inspect, sys, torch

inspect.getmodule = None  # it looks at the files of all that is loaded, as torch's register_fake has it do
import bslang

def refuse(event, arguments):
    assert event != "subprocess.Popen" or not warm, arguments

warm = len(sys.argv) > 1
sys.addaudithook(refuse)
q = torch.randn(1, 2, 96, 16)
for spec in ("window(3) | global(0, -1) | random(2, seed=7)", "causal", "last(20t) & causal"):
    bslang.compile(spec, block=32, target="cpu")(q, q, q)
"""
NOT_FIRST = {
    "numpy.ma",  # which np.unique loads where nothing else is asked of it
    "bslang.analysis.properties",
    "bslang.codegen.emit",
    "bslang.codegen.environment",
    "bslang.picture.svg",
    "bslang.runtime.packed",
    "filelock",
    "jinja2",
    "xml.sax",
}


def test_a_first_call_with_a_warm_cache_does_only_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long it takes is mostly what it imports; see docs/performance.md."""
    monkeypatch.setenv("BSLANG_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("BSLANG_VERIFY", "0")
    assert "bslang.codegen.emit" in loaded(FIRST)
    found = loaded(f"import sys; sys.argv.append('warm')\n{FIRST}")
    assert "bslang.runtime.cpu.launch" in found
    assert not found & NOT_FIRST


def test_asking_for_a_name_that_is_not_there() -> None:
    import bslang

    with pytest.raises(AttributeError, match="no attribute 'compille'"):
        bslang.compille  # noqa: B018  # the question is the point
    for name in bslang.__all__:
        assert getattr(bslang, name) is not None

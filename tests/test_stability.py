"""What a release promises the next: canonical text and digests, and who may run which generated module."""

from __future__ import annotations

import ast
import base64
import importlib
import inspect
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, is_typeddict

import pytest

from bslang import abi, compiler, layouts
from bslang._version import INTERFACE, LANGUAGE, __version__
from bslang.errors import BslangError
from bslang.layouts import Layout
from bslang.patterns import BY_NAME
from bslang.resolve.program import Resolved
from bslang.resolve.sources import source_of
from bslang.resolve.values import FUNCTIONS
from bslang.resources import resource
from bslang.runtime.registry import Key
from bslang.syntax.diagnostics import SpecError
from bslang.syntax.source import Source

GOLDEN = Path(__file__).parent / "golden"


def held(name: str, found: Any, advice: str, request: pytest.FixtureRequest) -> None:
    """Compare with tests/golden/NAME, or rewrite it with --update-golden.

    advice: what a change means.
    """
    path = GOLDEN / name
    if request.config.getoption("--update-golden"):
        text = json.dumps(found, indent=1, ensure_ascii=False)
        path.write_text(f"{text}\n", encoding="utf-8")
    kept = json.loads(path.read_text(encoding="utf-8"))
    changed = [key for key in {**kept, **found} if kept.get(key) != found.get(key)]
    assert not changed, f"{advice} Changed: {changed}"


# ---- canonical text and digests ------------------------------------------------------------------

FORMS = [
    "all", "none", "causal",
    "window(3)", "window(5, step=2)", "window(7, clamp=true)", "window(left=2, right=0)",
    "window(left=100t, right=inf)", "last(3)", "last(512t)", "last(inf)", "diagonals(0, -1, 2:9:3)",
    "rows(0, -1, 3:)", "cols(0:4t)", "global(0, -1)", "random(2, seed=7)", "random(3)",
    "random(2, seed=head, within=causal)", "chunks(4)", "chunks(3, 5, 7)", "strided(n // 16)",
    "every(4)", "logsparse(2)", "butterfly(2)", "segments(4, rate=2)", "grid(4, 4, radius=1)",
    "grid(4, 4, radius=(1, 2))", "same(doc)", "same(doc) & causal",
    "select(pick)", "(select(pick, rows=1t, cols=64t) | cols(0)) & causal",
    "{q, k : 0 <= time[q] - time[k] < 30}", "{q, k : k <= q | q >= cut[b]}",
    "causal | window(3)", "window(3) | causal", "(window(3) | cols(0)) | rows(0)",
    "window(9) & last(5) - diagonals(1)", "window(9) ^ last(5)", "~window(3)", "~~causal", "causal.T",
    "window(3) @ last(2)", "window(3) ** 3",
    "{i, j : (i - j) % 4 == 0}", "{q, k : 0 <= q - k < 100}", "{i, j : abs(i - j) < 3}",
    "{i, j : min(i, j) < 2 | max(i, j) == n - 1}", "{i, j : ~(i < j) ^ (i == 3)}",
    "last(isqrt(n))", "last(log2(n) + 2 * m - 1)", "last(n // 3 % 5 ** 2)", "window(2 * head + 1)",
    "heads { 0:4 -> window(3); 4: -> causal }", "last(layer + 1)",
    "bsl 1\nblock 32\nf(w = 3, s = 1) = window(w, step=s)\nf(5) | f(s=2)",
    "block 128x64\nlast(100t)",
    'import "std/bigbird.bsl" as bb\nbb.bigbird(r=1)',
    "grid(4t, 5t, radius=(1, inf), offset=1t)", "grid(4, 4, radius=1, offset=0, causal=true)",
    "grid(2t, 4t, 6t, radius=1, clamp=(false, true, false), wrap=(false, false, true), "
    "causal=(true, false, false))",
]  # fmt: skip
"""Every primitive, operator and form once at least; add to them, and leave those that are here."""


def library() -> Iterator[tuple[str, Resolved]]:
    for text in FORMS:
        yield text, compiler.resolve(Source("form.bsl", text))
    for path in sorted(resource("std").glob("*.bsl")):
        program = compiler.program(source_of(path))
        for name in program.names:
            yield f"std/{path.name}:{name}", program.pick(name, name, {})


def test_canonical_text_and_digests_stay(request: pytest.FixtureRequest) -> None:
    found = {key: [str(r.pattern), compiler.digest(r)] for key, r in library()}
    assert len(found) > len(FORMS) + 40
    advice = (
        "Digests name layouts in users' files, and pickles hold canonical text, so neither changes while the "
        "version of the language stays. Undo the change, or raise LANGUAGE in bslang/_version.py, read what "
        "docs/safety.md says of it, and run this test with --update-golden."
    )
    held("digests.json", found, advice, request)


def test_canonical_text_is_its_own() -> None:
    for key, resolved in library():
        again = compiler.resolve(Source("again", str(resolved.pattern)), block=resolved.block)
        assert compiler.digest(again) == compiler.digest(resolved), key


def test_the_forms_have_everything() -> None:
    words = {word for text in FORMS for word in re.findall(r"\w+", text)}
    assert words >= {*BY_NAME, *FUNCTIONS} - {"table"}  # which names a file, by the content
    for sign in (
        "|",
        "^",
        "&",
        "-",
        "~",
        "@",
        "**",
        ".T",
        "//",
        "%",
        "{",
        "heads",
        "import",
        "bsl",
    ):
        assert any(sign in text for text in FORMS), sign


def test_the_version_of_a_file_is_not_part_of_what_it_means() -> None:
    plain, with_version = "window(3)", f"bsl {LANGUAGE}\nwindow(3)"
    digests = {compiler.digest(compiler.resolve(Source("x", t))) for t in (plain, with_version)}
    assert len(digests) == 1


def test_an_imported_file_says_its_own_version(tmp_path: Path) -> None:
    (tmp_path / "old.bsl").write_text("bsl 1\na = causal", encoding="utf-8")
    (tmp_path / "new.bsl").write_text(f"bsl {LANGUAGE + 1}\nb = <later>", encoding="utf-8")
    spec = tmp_path / "spec.bsl"
    spec.write_text('import "old.bsl"\nc = a', encoding="utf-8")
    assert str(compiler.resolve(source_of(spec), "c").pattern) == "causal"
    spec.write_text('import "new.bsl"\nc = b', encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        compiler.resolve(source_of(spec), "c")
    (found,) = caught.value.diagnostics
    assert found.code == "E214" and found.source.name.endswith("new.bsl")


# ---- generated modules ---------------------------------------------------------------------------


def written(folder: Path, spec: str = "window(3)") -> Path:
    resolved = compiler.resolve(Source("layout.bsl", spec), block=16)
    for name, text in compiler.emit(resolved, ["torch"]).items():
        (folder / name).write_text(str(text), encoding="utf-8")
    return folder / "layout.py"


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_module_of_another_interface_says_so(tmp_path: Path) -> None:
    """Also where it imports what this version does not have: that is what it is asked first for."""
    path = written(tmp_path)
    replaced(path, f"(INTERFACE, ABI) != ({INTERFACE},", f"(INTERFACE, ABI) != ({INTERFACE + 1},")
    replaced(path, f'refusal("{__version__}"', 'refusal("9.8.7"')
    replaced(path, "import Layout\n", "import Layout, later\n")
    with pytest.raises(BslangError) as caught:
        layouts.import_file(path, "of_another_interface")
    assert str(caught.value) == (
        f"module of_another_interface was generated by bslang 9.8.7, and bslang {__version__} cannot run it: "
        "compile its spec again, or install bslang 9.8.7"
    )


def test_a_module_of_another_release_runs(tmp_path: Path) -> None:
    path = written(tmp_path)
    replaced(path, f'refusal("{__version__}"', 'refusal("9.8.7"')
    assert layouts.import_file(path, "of_another_release").LAYOUT.spec == "window(3)"


MODULES = [
    "window(3)",
    "(last(50t) | cols(-n * 1t:)) & causal",
    "same(doc) & causal",
    "last(2 * head + 1)",
]
MODULES += ["{q, k : min(abs(q - k), log2(q * k + 1)) < isqrt(max(q, k))}", "random(2, seed=7)"]


def asked_for(text: str) -> Iterator[tuple[str, str]]:
    """The names that a generated module imports from bslang, each with the signature that it has."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ImportFrom) or not str(node.module).startswith("bslang"):
            continue
        for name in (alias.name for alias in node.names):
            value = getattr(importlib.import_module(str(node.module)), name, None)
            called = inspect.isroutine(value) or inspect.isclass(value)
            said = str(inspect.signature(value)) if called and not is_typeddict(value) else ""
            yield f"{node.module}.{name}", said


def test_what_modules_ask_of_the_runtime_stays(request: pytest.FixtureRequest) -> None:
    found: dict[str, Any] = {"INTERFACE": INTERFACE, "ABI": abi.digest()}
    for spec in MODULES:
        files = compiler.emit(compiler.resolve(Source("layout.bsl", spec), block=16))
        found |= dict(asked_for(str(files["layout.py"])))
    assert len(found) > 8
    advice = (
        "Generated modules of before ask for this. If they would fail, or mean something else, raise "
        "INTERFACE in bslang/_version.py, and in either case run this test with --update-golden."
    )
    held("interface.json", dict(sorted(found.items())), advice, request)


# ---- what other processes keep -------------------------------------------------------------------

SPEC = "(last(2) | cols(0)) & causal | heads { 0 -> all; 1: -> none }"
DIGEST = "6bd148d570202541"
PICKLED = (  # by 0.1.0; a later release reads it
    "gAJjYnNsYW5nLmxheW91dHMKcmVidWlsdApxAChYBgAAAGxheW91dHEBWD0AAAAobGFzdCgyKSB8IGNvbHMoMCkpICYgY2F1c2FsIHwg"
    "aGVhZHMgeyAwIC0+IGFsbDsgMTogLT4gbm9uZSB9cQJLIEsghnEDWAUAAAB0b3JjaHEEhXEFSwApdHEGUnEHLg=="
)


def test_pickles_of_before_are_read() -> None:
    """They hold what a layout says of itself, and no code: this version compiles it."""
    layout: Layout = pickle.loads(base64.b64decode(PICKLED))
    assert (layout.spec, layout.block, layout.digest) == (SPEC, (32, 32), DIGEST)


def test_exported_programs_of_before_are_read() -> None:
    """They name layouts by these keys."""
    key = f"block 32x32; {SPEC}; torch"
    assert layouts.of_key(Key.parse(key)).digest == DIGEST
    assert layouts.of_key(Key.parse(f"{key}; layer 3")).layer == 3


def test_what_a_later_version_pickled_is_refused_by_name() -> None:
    later = base64.b64decode(PICKLED).replace(b"causal", b"caudal")
    with pytest.raises(SpecError, match="unknown name `caudal`"):
        pickle.loads(later)

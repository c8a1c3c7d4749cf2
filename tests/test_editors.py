"""Colours: the Pygments lexer and the TextMate grammar hold every word of the language, and no other list."""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import skimage.io
from hypothesis import given
from hypothesis import strategies as st
from pygments import token
from strategies import Case, cases

from bslang.editors.pygments import BslangLexer
from bslang.editors.textmate import KEYWORD_SCOPES, grammar
from bslang.editors.tokens import MISTAKE, keywords, tokens
from bslang.patterns import BY_NAME
from bslang.resolve.module import BOUND_WHEN_LOWERED
from bslang.resolve.values import FUNCTIONS
from bslang.syntax.codes import CODES
from bslang.syntax.parser import TERMINALS, terminals

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "editors"))
EXTENSION = ROOT / "editors" / "vscode"

SPECS = sorted(
    path for folder in ("bslang/std", "examples") for path in (ROOT / folder).rglob("*.bsl")
)
WRITTEN = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in SPECS}
WRITTEN |= {code: entry.fixed for code, entry in CODES.items() if entry.fixed}


def coloured(text: str) -> list[tuple[Any, str]]:
    return [*BslangLexer(stripnl=False, ensurenl=False).get_tokens(text)]


# ---- Pygments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WRITTEN)
def test_specs_lex_without_errors(name: str) -> None:
    found = coloured(WRITTEN[name])
    assert len(found) > 2
    assert "".join(text for _, text in found) == WRITTEN[name]
    assert not [text for kind, text in found if kind in token.Error]


@given(cases())
def test_every_program_lexes_without_errors(case: Case) -> None:
    found = coloured(case.spec)
    assert "".join(text for _, text in found) == case.spec
    assert not [text for kind, text in found if kind in token.Error]


@given(st.text())
def test_any_text_lexes(text: str) -> None:
    assert "".join(found.text for found in tokens(text)) == text


def test_colours() -> None:
    text = 'import "a.bsl" as c\nblock 128x64\nf(r = 2t) = c.w(r, step=n).T # x\n'
    found = {part: kind for kind, part in coloured(text) if part.strip()}
    assert found["import"] in token.Keyword
    assert found["128x64"] in token.Number and found["2t"] in token.Number
    assert found["f"] is token.Name.Function
    assert found["step"] is token.Name.Attribute
    assert found["n"] is token.Name.Builtin.Pseudo
    assert found[".T"] is token.Operator and found["# x"] in token.Comment
    found = {part: kind for kind, part in coloured("{q, k : last[q] < 3}")}
    assert found["last[q]"] is token.Name.Variable


def test_words_of_the_language_are_coloured() -> None:
    for name in (*BY_NAME, *FUNCTIONS, *BOUND_WHEN_LOWERED):
        assert coloured(f"x = {name}")[-1][0] in token.Name.Builtin, name
    for word in keywords():
        assert coloured(word)[0][0] in token.Keyword, word


@pytest.mark.parametrize("text", ["64x", '"open', "3abc", "a ! b", "p[3]"])  # fmt: skip
def test_what_is_no_token_is_an_error(text: str) -> None:
    assert any(kind in token.Error for kind, _ in coloured(text))


def test_terminals_are_those_of_the_grammar() -> None:
    named = {name for name in terminals() if not name.startswith("__")}
    assert named == set(TERMINALS) - {"$END"}
    assert MISTAKE not in named


def test_the_entry_point_names_the_lexer() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'"pygments.lexers"\]\n\w+ = "(.+)"', project)
    assert found
    assert EntryPoint("bslang", found[1], "pygments.lexers").load() is BslangLexer
    assert {"bslang", "bsl"} <= set(BslangLexer.aliases)
    assert BslangLexer.filenames == ["*.bsl", "*.bslang"]


# ---- TextMate ------------------------------------------------------------------------------------


def scopes(line: str) -> list[tuple[str, str]]:
    """(text, scope) of the parts of a line, as editors find them: the leftmost match, of equals the first."""
    rules = [(re.compile(rule["match"]), rule["name"]) for rule in grammar()["patterns"]]
    found: list[tuple[str, str]] = []
    place = 0
    while True:
        matches = [(m, name) for regex, name in rules if (m := regex.search(line, place))]
        if not matches:
            return found
        first, name = min(matches, key=lambda match: match[0].start())
        found.append((first[0], name.removesuffix(".bslang")))
        place = first.end()


def test_the_grammar_file_is_what_the_compiler_says() -> None:
    from generate_textmate import FILE, text  # a script beside the extension, not a package

    assert FILE.read_text(encoding="utf-8") == text(), "run `python editors/generate_textmate.py`"


def test_each_word_and_sign_has_its_scope() -> None:
    for words, scope in (
        (BY_NAME, "support.function.primitive"),
        (FUNCTIONS, "support.function.number"),
        (BOUND_WHEN_LOWERED, "variable.language"),
    ):
        for word in words:
            assert scopes(f"x = ~{word}(1)")[3] == (word, scope)
    for word, name in keywords().items():
        assert scopes(f"{word} 1")[0] == (word, KEYWORD_SCOPES[name])
    for sign in ("|", "^", "&", "<=", "!=", "+", "-", "*", "@", "//", "%", "~", "**", "->", ".T"):
        assert scopes(f"a{sign} b") == [(sign, "keyword.operator")], sign
    assert scopes("a < last[q]") == [("<", "keyword.operator"), ("last[q]", "variable.other.label")]
    for number in ("3", "64t", "1_000", "128x64"):
        assert [text for text, _ in scopes(f"{number} x2")] == [number]


def test_scopes_of_a_line() -> None:
    assert scopes('f(w = 3t) = c.g(step=w) # "no" text') == [
        ("f", "entity.name.function"),
        ("(", "punctuation"),
        ("w", "variable.parameter"),
        ("=", "keyword.operator"),
        ("3t", "constant.numeric.tokens"),
        (")", "punctuation"),
        ("=", "keyword.operator"),
        (".g", "variable.other.member"),
        ("(", "punctuation"),
        ("step", "variable.parameter"),
        ("=", "keyword.operator"),
        (")", "punctuation"),
        ('# "no" text', "comment.line.number-sign"),
    ]


def test_the_extension_is_complete() -> None:
    """It can be published: an entry point that its build writes, a licence, an icon, and no file amiss."""
    package = json.loads((EXTENSION / "package.json").read_text(encoding="utf-8"))
    (language,), (colours,) = (
        package["contributes"]["languages"],
        package["contributes"]["grammars"],
    )
    assert language["id"] == colours["language"] == "bslang"
    assert language["extensions"] == [".bslang", ".bsl"]
    assert colours["scopeName"] == grammar()["scopeName"] == "source.bslang"
    files = (
        language["configuration"],
        colours["path"],
        package["icon"],
        *language["icon"].values(),
    )
    for path in files:
        assert (EXTENSION / path).is_file()
    json.loads((EXTENSION / language["configuration"]).read_text(encoding="utf-8"))
    assert (EXTENSION / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert {"name", "publisher", "version", "license", "description"} <= set(package)


def test_the_extension_is_packed_whole() -> None:
    """`npm run package` bundles what extension.js requires, and leaves the rest out."""
    package = json.loads((EXTENSION / "package.json").read_text(encoding="utf-8"))
    build = (EXTENSION / "build.mjs").read_text(encoding="utf-8")
    assert package["scripts"]["vscode:prepublish"] == "node build.mjs"
    assert f'outfile: "{package["main"].removeprefix("./")}"' in build
    needed = re.findall(r'require\("([^"]+)"\)', (EXTENSION / "extension.js").read_text("utf-8"))
    needed += re.findall(r'from "([^":]+)"', build)
    assert {name.split("/")[0] for name in needed} - {"vscode"} <= set(package["devDependencies"])
    assert "dependencies" not in package  # all that runs is in the bundle
    ignored = (EXTENSION / ".vscodeignore").read_text(encoding="utf-8").split("\n")
    assert {"node_modules/**", "extension.js"} <= set(ignored)


def test_the_icon_is_what_the_compiler_draws(tmp_path: Path) -> None:
    from generate_icon import FILE, pixels, png  # a script beside the extension, not a package

    drawn = pixels()
    (tmp_path / "again.png").write_bytes(png(drawn))
    for file in (FILE, tmp_path / "again.png"):
        assert (skimage.io.imread(file) == drawn).all(), "run `python editors/generate_icon.py`"
    assert drawn.shape == (128, 128, 3) and len(set(map(tuple, drawn.reshape(-1, 3)))) == 5

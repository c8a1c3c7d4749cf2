"""What editors ask of a document: pure functions of its text, held against what the compiler says."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bslang.editors import hover as hovering
from bslang.editors.complete import completions, form
from bslang.editors.diagnose import problems
from bslang.editors.document import Document
from bslang.editors.hover import hover
from bslang.editors.names import Kind
from bslang.editors.outline import outline
from bslang.editors.positions import Positions
from bslang.editors.rename import Refused, renamed
from bslang.errors import LimitError
from bslang.patterns import PRIMITIVES
from bslang.resolve.library import library
from bslang.resolve.module import BOUND_WHEN_LOWERED
from bslang.resolve.values import FUNCTIONS
from bslang.syntax.source import Source, Span

SPEC = """\
import "std/bigbird.bsl" as bb
# Keeps the first block.
streaming(w = 4, keep = 1) = (last(w) | cols(0:keep)) & causal
mine = streaming(w=3) | bb.bigbird(r=2) | {i, j : i == j + w_of}
"""
GOOD = SPEC.replace(" | {i, j : i == j + w_of}", " | {i, j : i == j + 3}")


def written(document: Document, spans: list[Span]) -> list[str]:
    return [document.source.text[span.start : span.stop] for span in spans]


def at(text: str, marked: str) -> tuple[Document, int]:
    """A document, and the offset of the `^` in a piece of it that is marked so."""
    return Document.of(text), text.index(marked.replace("^", "")) + marked.index("^")


# ---- positions -----------------------------------------------------------------------------------


def test_positions_count_units_of_the_encoding() -> None:
    source = Source("x", "# é😀 a\n\u2028b")
    for encoding, a, b in (("utf-8", 9, 3), ("utf-16", 6, 1), ("utf-32", 5, 1)):
        positions = Positions(source, encoding)
        assert positions.position(source.text.index("a")) == (0, a)
        assert positions.position(source.text.index("b")) == (1, b)
        assert source.text[positions.offset(0, a)] == "a"


@given(st.text("aé😀\u2028\n", max_size=20), st.sampled_from(("utf-8", "utf-16", "utf-32")))
def test_offsets_come_back_from_positions(text: str, encoding: str) -> None:
    positions = Positions(Source("x", text), encoding)
    for offset in range(len(text) + 1):
        assert positions.offset(*positions.position(offset)) == offset
    assert positions.offset(10**6, 0) == len(text)
    assert positions.offset(0, 10**6) == len(text.split("\n")[0])


def test_lone_surrogates_have_positions() -> None:
    positions = Positions(Source("x", "\ud83da"))
    assert positions.position(1) == (0, 1) and positions.offset(0, 1) == 1


# ---- problems ------------------------------------------------------------------------------------


def test_all_errors_are_shown_where_they_are() -> None:
    text = SPEC + "x = (windw(3)\ny = last(1, 2)\n"
    document = Document.of(text)
    found = {p.diagnostic.code: written(document, [p.span])[0] for p in problems(document)}
    assert found == {"E201": "w_of", "E103": "(", "E203": "2"}
    (unknown,) = (p for p in problems(document) if p.diagnostic.code == "E201")
    assert unknown.text.startswith(
        "unknown name `w_of` (not a pattern, definition or parameter)\nhelp: "
    )


def test_a_right_document_has_warnings() -> None:
    document = Document.of("a = window(3) | window(5)\n")
    (warning,) = problems(document)
    assert warning.diagnostic.severity == "warning"
    assert written(document, [warning.span]) == ["window(3)"]
    assert "help:" in warning.text


def test_errors_of_an_imported_file_stand_at_its_import(tmp_path: Path) -> None:
    (tmp_path / "a.bsl").write_text("ok = all\n")
    (tmp_path / "b.bsl").write_text("wrong = windw(3)\n")
    document = Document.of(
        'import "a.bsl"\nimport "b.bsl"\nx = ok | wrong\n', tmp_path / "spec.bsl"
    )
    (found,) = problems(document)
    assert found.elsewhere and written(document, [found.span]) == ['"b.bsl"']
    assert found.text.startswith("b.bsl: unknown name")


def test_line_ends_of_every_system_are_read() -> None:
    assert problems(Document.of("a = all\r\nb = a\rc = b\r\n")) == ()


# ---- hover ---------------------------------------------------------------------------------------


def said(text: str, marked: str) -> str:
    found = hover(*at(text, marked))
    return found.text if found else ""


@pytest.mark.parametrize("primitive", PRIMITIVES, ids=lambda p: p.name)
def test_hover_documents_every_primitive(primitive: type) -> None:
    text = f"x = {primitive.name}"  # type: ignore[attr-defined]
    found = said(text, f"= ^{primitive.name}")  # type: ignore[attr-defined]
    assert (primitive.__doc__ or "").splitlines()[0] in found
    assert "Example: `" in found


def test_hover_says_what_names_are() -> None:
    assert "`w = 4`: a parameter of `streaming`." in said(SPEC, "last(^w)")
    assert "`w = 4`: a parameter of `streaming`." in said(SPEC, "streaming(^w=3)")
    assert "Keeps the first block." in said(SPEC, "mine = ^streaming")
    assert "std/bigbird.bsl" in said(SPEC, "^bb.bigbird")
    assert "BigBird (Zaheer 2020" in said(SPEC, "bb.^bigbird")
    assert said(SPEC, "^# Keeps") == ""
    assert "`step` of `window`: spacing" in said("x = window(3, step=2)", "^step")
    assert said("x = random(2, seed=7)", "se^ed").count("0 if left out") == 1


def test_hover_knows_every_number_and_function_of_the_language() -> None:
    for name in (*BOUND_WHEN_LOWERED, *FUNCTIONS):
        assert f"`{name}`: " in said(f"x = last({name})", f"last(^{name}")


def test_hover_draws_the_smallest_pattern() -> None:
    union, causal = said(GOOD, "last(w) ^|"), said(GOOD, "& caus^al")
    assert causal.count("\n██") == 15 and "53.1%" in causal  # the triangle of 16 blocks
    assert "25.0%" in said("x = all & cols(0:4)", "all ^&")
    assert union != said(GOOD, "streaming(w=3) ^|")


def test_hover_draws_with_the_block_of_the_file() -> None:
    assert "16 x 32 blocks at 2,048 tokens" in said("block 128x64\nx = all", "= a^ll")


def test_hover_says_what_an_order_is() -> None:
    text = "order tiles(6, 8; 4, 4)\nnear = grid(6t, 8t, radius=1)\n"
    found = hover(Document.of(text), text.index("tiles") + 2)
    assert found and "48 tokens in 4 tiles; `layout.permute`" in found.text
    drawn = hover(Document.of(text), text.index("grid"))
    assert drawn and "at 48 tokens" in drawn.text
    wrong = hover(Document.of("order tiles(6, 8)\nall"), 8)
    assert wrong and "**E303**" in wrong.text and "tile after tile" in wrong.text


def test_hover_explains_what_is_wrong() -> None:
    assert "**E201**: Unknown name." in said("x = windw(3)", "w^indw")


def test_hover_survives_what_cannot_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "At this length: " in said("x = cols(99)", "co^ls")

    def refuse(*_: object) -> str:
        raise LimitError("MAX_RUNS", 1, "this")

    monkeypatch.setattr(hovering, "_picture", refuse)
    assert "Too large to draw." in said("x = cols(99)", "co^ls")


def test_hover_works_in_a_statement_that_is_broken() -> None:
    assert "Keys near the query" in said("x = window(3", "win^dow")


def test_hover_draws_nothing_of_what_is_unknown() -> None:
    assert "blocks" not in said("f(w) = last(w)\n", "la^st").split("Example")[1]


# ---- completion ----------------------------------------------------------------------------------


def offered(text: str) -> list[str]:
    """What is offered at the end of a text."""
    return [item.label for item in completions(Document.of(text), len(text))]


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("x = win", ["window"]),
        ("b", ["butterfly", "bb", "block"]),
        ("i", ["isqrt", "import", "inf"]),
        ("or", ["order"]),
        ("order ", ["tiles", "morton"]),
        ("order m", ["morton"]),
        ("x = window(3, st", ["step=", "streaming", "strided"]),
        ("x = window(3, step=2, s", ["streaming", "strided", "segments", "same"]),
        ("x = streaming(", ["w=", "keep="]),
        ("x = streaming(w=", ["streaming", "mine"]),
        ("x = bb.", ["bigbird", "bigbird_etc"]),
        ("x = bb.bigbird(r=2, ", ["w=", "seed="]),
        ("f(radius = 2) = last(ra", ["radius", "random"]),
        ("x = {i, j : ", ["i", "j", "q", "k"]),
        ('import "std/big', ["std/bigbird.bsl"]),
        ("# win", []),
        ("x = 6", []),
        ("x = heads { 0:4 -> wi", ["window"]),
    ],
)
def test_completion(typed: str, first: list[str]) -> None:
    assert offered(GOOD + typed)[: len(first) or None] == first


def test_completion_of_paths(tmp_path: Path) -> None:
    (tmp_path / "near.bsl").write_text("a = all\n")
    text = 'import "'
    document = Document.of(text, tmp_path / "spec.bsl")
    labels = [item.label for item in completions(document, len(text))]
    assert labels[-1] == "near.bsl"
    assert set(labels[:-1]) == {entry.file for entry in library()}


def test_completion_documents_what_it_offers() -> None:
    item = next(i for i in completions(Document.of("x = win"), 7) if i.label == "window")
    assert item.kind is Kind.PRIMITIVE and item.start == 4
    assert "Keys near the query" in item.documentation


def test_the_form_of_a_call() -> None:
    text = GOOD + "x = streaming(3, "
    found = form(Document.of(text), len(text))
    assert found and found.label == "streaming(w = 4, keep = 1)" and found.active == 1
    text = "x = rows(1, 2, "
    found = form(Document.of(text), len(text))
    assert found and found.label == "rows(x, ...)" and found.active == 0
    text = "x = random(2, within=caus"
    found = form(Document.of(text), len(text))
    assert found and found.parts[found.active][0].startswith("within=")
    assert form(Document.of("x = nothing("), 12) is None


# ---- definitions, references, rename -------------------------------------------------------------


def test_names_lead_to_their_definitions(tmp_path: Path) -> None:
    (tmp_path / "a.bsl").write_text("# one\nfar(w = 3) = window(w)\n")
    document, place = at('import "a.bsl"\nx = far(w=5)\n', "far(^w")
    document = Document.of(document.source.text, tmp_path / "spec.bsl")
    parameter = document.at(place)
    assert parameter and parameter.symbol.place == str(tmp_path.resolve() / "a.bsl")
    assert parameter.symbol.source and parameter.symbol.span
    assert parameter.symbol.source.text[parameter.symbol.span.start :].startswith("w = 3")
    path = document.at(10)
    assert path and path.symbol.kind is Kind.PATH and path.symbol.span == Span(0, 0)


@pytest.mark.parametrize(
    ("marked", "name", "count"),
    [
        ("^streaming(w = 4", "stream", 2),
        ("^w = 4", "width", 3),
        ("mine = streaming(^w=3", "width", 3),
        ("as ^bb", "birds", 2),
        ("^bb.bigbird", "birds", 2),
        ("mi^ne =", "ours", 1),
        (
            "^w = 4",
            "streaming",
            3,
        ),  # a parameter may be called like a definition that it does not use
    ],
)
def test_rename(marked: str, name: str, count: int) -> None:
    document, offset = at(GOOD, marked)
    spans = renamed(document, offset, name)
    assert len(spans) == count and len(set(written(document, spans))) == 1
    text = GOOD
    for span in sorted(spans, key=lambda s: -s.start):
        text = text[: span.start] + name + text[span.stop :]
    assert not Document.of(text).errors


@pytest.mark.parametrize(
    ("marked", "name", "why"),
    [
        ("caus^al", "x", "`causal` is a primitive of the language, and cannot be renamed"),
        ("{^i, j", "x", "a variable of the language"),
        ("bb.big^bird", "x", "rename it there"),
        ("bigbird(^r=2", "x", "rename it there"),
        ("^streaming(w = 4", "mine", "`mine` is defined twice"),
        ("^streaming(w = 4", "all", "a name of the language"),
        ("^streaming(w = 4", "1x", "is not a valid name"),
        ("^w = 4", "keep", "declared twice"),
        ("^w = 4", "causal", "a name of the language"),
        ("import ^\"", "x", "the path of a file"),
        ("# Kee^ps", "x", "there is no name here"),
    ],
)  # fmt: skip
def test_what_cannot_be_renamed(marked: str, name: str, why: str) -> None:
    with pytest.raises(Refused, match=why.replace("(", r"\(")):
        renamed(*at(GOOD, marked), name)


def test_a_rename_takes_no_name_from_another() -> None:
    text = "near = last(3)\nf(w = 3) = near | last(w)\n"
    with pytest.raises(Refused, match=r"means something else|cannot be called"):
        renamed(*at(text, "^near ="), "w")
    with pytest.raises(Refused, match=r"means something else|cannot be called"):
        renamed(*at(text, "^w = 3"), "near")


def test_labels_are_their_callers() -> None:
    text = "doc(x = 3) = same(doc) & last(x)\n"
    with pytest.raises(Refused, match="a label"):
        renamed(*at(text, "same(^doc"), "y")
    assert len(renamed(*at(text, "^doc(x"), "y")) == 1
    # A definition of the same name is another thing: labels and selections keep their names.
    text = "doc = window(3)\nx = (doc | {q, k : doc[q] == doc[ k ]} | select(rows=1t, value=doc)) & causal\n"
    document, offset = at(text, "^doc = window")
    assert [span.start for span in renamed(document, offset, "near")] == [0, text.index("doc |")]
    for marked in ("^doc[q]", "value=^doc"):
        found = document.at(at(text, marked)[1])
        assert found and found.symbol.kind is Kind.LABEL and found.symbol.name == "doc"
        with pytest.raises(Refused, match="which callers know by this name"):
            renamed(document, found.span.start, "y")
    inside = completions(*at(text.replace("doc[q]", "do"), "{q, k : do^"))
    assert [item.label for item in inside] == ["doc[q]", "doc[k]", "doc"]
    sides = [o for o in document.occurrences if o.symbol.kind is Kind.VARIABLE]
    assert written(document, [o.span for o in sides]) == ["q", "k", "q", "k"]


def test_a_broken_file_is_not_renamed_in() -> None:
    with pytest.raises(Refused, match="fix the syntax errors"):
        renamed(*at(GOOD + "x = mine |\n", "mi^ne ="), "ours")


def test_what_others_use_is_not_renamed(tmp_path: Path) -> None:
    own = Document.of("far(w = 3) = window(w)\n_near = last(2)\nx = _near\n", tmp_path / "a.bsl")
    (tmp_path / "a.bsl").write_text(own.source.text)
    other = Document.of('import "a.bsl" as a\ny = a.far(w=5)\n', tmp_path / "spec.bsl")
    for offset in (0, 4):
        with pytest.raises(Refused, match=r"spec\.bsl uses `(far|w)` too"):
            renamed(own, offset, "wide", [own, other])
    assert len(renamed(own, own.source.text.index("_near"), "_close", [own, other])) == 2


# ---- outline, and texts that are none ------------------------------------------------------------


def test_outline() -> None:
    found = outline(Document.of(f"bsl 1\nblock 64\norder morton(4, 4)\n{GOOD}last(3t)\n"))
    assert [(entry.name, entry.kind) for entry in found] == [
        ("bsl 1", "version"),
        ("block 64", "block"),
        ("order morton(4, 4)", "order"),
        ("std/bigbird.bsl", "import"),
        ("streaming", "definition"),
        ("mine", "definition"),
        ("layout", "layout"),
    ]
    assert found[4].detail == "Keeps the first block."


PIECES = (
    "import ",
    '"std/bigbird.bsl"',
    " as b\n",
    "f(w = 3)",
    " = ",
    "window(",
    "w",
    ")",
    "{i, j : ",
)
PIECES += (
    "heads {",
    "}",
    " | ",
    "b.",
    "bigbird",
    "\n",
    "# 😀\n",
    "0:4 -> ",
    ", ",
    "step=",
    "'",
    "same(doc)",
)


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), st.data())
def test_any_text_is_answered(text: str, data: st.DataObject) -> None:
    document = Document.of(text)
    offset = data.draw(st.integers(0, len(text)))
    problems(document)
    hover(document, offset)
    form(document, offset)
    outline(document)
    for item in completions(document, offset):
        assert text[item.start : offset] == item.label[: offset - item.start]
    for occurrence in document.occurrences:
        assert occurrence in document.uses(occurrence.symbol)
        assert 0 <= occurrence.span.start < occurrence.span.stop <= len(text)

"""Specs of several files: imports, the library, tables, and what they may not read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bslang
from bslang import compiler
from bslang.files import write_whole
from bslang.generated import import_file
from bslang.limits import MAX_FILES
from bslang.resolve.program import Resolved
from bslang.resolve.sources import source_of
from bslang.syntax.diagnostics import SpecError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "common.bsl").write_text(
        "sinks(g = 1) = cols(0:g)\nnear = window(3) | _far\n_far = cols(9)\n"
    )
    (tmp_path / "bigbird.bsl").write_text("window(3) | global(0, -1)\n")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "deep.bsl").write_text('import "more.bsl" as o\ndeep = o.more & causal\n')
    (tmp_path / "parts" / "more.bsl").write_text("more = last(4)\n")
    return tmp_path


def picked(folder: Path, text: str, name: str | None = None) -> Resolved:
    (folder / "spec.bsl").write_text(text)
    return compiler.resolve(source_of(folder / "spec.bsl"), name)


def errors(folder: Path, text: str) -> list[tuple[str, str]]:
    with pytest.raises(SpecError) as caught:
        picked(folder, text)
    return [(d.code, d.message) for d in caught.value.diagnostics]


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ('import "common.bsl"\nsinks(2) | causal', "cols(0:2) | causal"),
        ('import "common.bsl" as c\nc.sinks | c.near', "cols(0:1) | window(3) | cols(9)"),
        ('import "common.bsl" as c\nsinks = c.sinks(4)\n', "cols(0:4)"),
        ('import "bigbird.bsl"\nbigbird & causal', "(window(3) | global(0, -1)) & causal"),
        ('import "bigbird.bsl" as b\nb.bigbird.T', "(window(3) | global(0, -1)).T"),
        ('import "parts/deep.bsl"\ndeep', "last(4) & causal"),
        ('import "common.bsl" as c\nimport "common.bsl" as d\nc.near & d.near',
         "(window(3) | cols(9)) & (window(3) | cols(9))"),
    ],
)  # fmt: skip
def test_what_imports_bring_in(folder: Path, text: str, meaning: str) -> None:
    assert str(picked(folder, text).pattern) == meaning


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ('import "commn.bsl"\nall', "E211", "no such file"),
        ('import "../common.bsl"\nall', "E211", "a spec reads only files below its own folder"),
        ('import "parts/../../x.bsl"\nall', "E211", "a spec reads only files below its own folder"),
        ('import "/etc/passwd"\nall', "E211", "a spec reads only files below its own folder"),
        ('import "parts"\nall', "E211", "not a regular file"),
        ('import "notes.txt"\nall', "E211", "only spec files can be imported"),
        ('import ""\nall', "E211", "not a valid path"),
        ('import "loop.bsl"\nall', "E212", "this file imports itself: spec.bsl -> loop.bsl -> spec.bsl"),
        ('import "spec.bsl"\nall', "E212", "this file imports itself: spec.bsl -> spec.bsl"),
        ('import "wide.bsl"\nall', "E213",
         "the imported file sets blocks of 128x128 tokens, and this file 64x64"),
        ('import "common.bsl"\nnear = all', "E206", "`near` is defined twice"),
        ('import "common.bsl" as c\nc = all', "E206", "`c` is defined twice"),
        ('import "common.bsl" as c\nimport "bigbird.bsl" as c\nall', "E206", "`c` is imported twice"),
        ('import "common.bsl" as c\nc._far', "E201", "`{}/common.bsl` defines no `_far`"),
        ('import "common.bsl" as c\nc.sink', "E201", "`{}/common.bsl` defines no `sink`"),
        ('import "common.bsl"\n_far', "E201", "unknown name `_far`"),
        ('import "common.bsl" as c\nc', "E201", "`c` is a file, not a pattern"),
        ('import "parts/deep.bsl" as d\nd.more', "E201", "`{}/parts/deep.bsl` defines no `more`"),
        ('import "out.bsl"\nall', "E211", "this leads out of the spec's folder"),
    ],
)  # fmt: skip
def test_imports_that_are_refused(folder: Path, text: str, code: str, message: str) -> None:
    (folder / "loop.bsl").write_text('import "spec.bsl"\nx = all')
    (folder / "wide.bsl").write_text("block 128\nx = all")
    (folder / "notes.txt").write_text("all")
    (folder / "out.bsl").symlink_to("/etc/hostname")
    found = errors(folder, text)
    assert found == [(code, message.format(folder))]


def test_block_of_the_caller_goes_for_all_files(folder: Path) -> None:
    (folder / "wide.bsl").write_text("block 128\nx = window(3)")
    (folder / "spec.bsl").write_text('import "wide.bsl"\ny = x')
    assert compiler.resolve(source_of(folder / "spec.bsl"), block=32).block == (32, 32)
    assert picked(folder, 'block 128\nimport "wide.bsl"\ny = x').block == (128, 128)


def test_mistakes_of_imported_files_are_reported_with_their_own_lines(folder: Path) -> None:
    (folder / "common.bsl").write_text("near = windw(3)\nfar = \n")
    with pytest.raises(SpecError) as caught:
        picked(folder, 'import "common.bsl"\nx = near | oops')
    text = str(caught.value)
    assert "common.bsl:2:6" in text and "far = " in text
    assert "common.bsl:1:8" in text and "windw(3)" in text
    assert "spec.bsl:2:12" in text and "unknown name `oops`" in text


def test_names_of_a_file_that_is_missing_are_not_reported_too(folder: Path) -> None:
    text = 'import "nothing.bsl"\nimport "none.bsl" as c\nx = near | c.far | window(4)'
    assert [code for code, _ in errors(folder, text)] == ["E211", "E211", "E303"]


def test_definitions_of_two_files_cannot_be_circular(folder: Path) -> None:
    """A circle of definitions needs one of imports, which is refused first."""
    (folder / "a.bsl").write_text('import "b.bsl" as b\nx = b.y')
    (folder / "b.bsl").write_text('import "a.bsl" as a\ny = a.x')
    assert [code for code, _ in errors(folder, 'import "a.bsl"\nx')] == ["E212"]


def test_a_long_chain_of_imports_ends(folder: Path) -> None:
    for i in range(MAX_FILES + 10):
        (folder / f"f{i}.bsl").write_text(f'import "f{i + 1}.bsl"\nx{i} = x{i + 1}')
    assert {code for code, _ in errors(folder, 'import "f0.bsl"\nx0')} == {"E211"}


def test_the_library_is_there_without_a_folder() -> None:
    layout = compiler.resolve(source_of(Path("std/bigbird.bsl")), "bigbird")
    assert layout.name == "bigbird"


@pytest.mark.parametrize(
    ("name", "content", "code", "message"),
    [
        ("mask.npy", b"not an array", "E310", "this is not a .npy file"),
        ("mask.npy", b"", "E310", "this is not a .npy file"),
        ("mask.npz", b"PK not", "E310", "this is not a .npz archive"),
        ("mask.txt", b"1 0", "E310", "a table is a .npy or .npz file"),
        ("mask.npy", np.zeros((4, 4)), "E310", "a table must be bool, and this one holds float64"),
        ("mask.npy", np.zeros(4, bool), "E310", "a table is a matrix of blocks"),
        ("mask.npy", np.zeros((0, 4), bool), "E310", "a table is a matrix of blocks"),
        ("mask.npy", np.array([[{}]]), "E310", "a table must be bool, and this one holds pickled objects"),
    ],
)  # fmt: skip
def test_files_that_are_no_tables(
    folder: Path, name: str, content: object, code: str, message: str
) -> None:
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)
    found = errors(folder, f'table("{name}")')
    assert [c for c, _ in found] == [code] and found[0][1].startswith(message)


def test_a_table_that_lies_about_its_shape(folder: Path) -> None:
    np.save(folder / "mask.npy", np.ones((4, 4), bool))
    data = (folder / "mask.npy").read_bytes()
    (folder / "mask.npy").write_bytes(data.replace(b"(4, 4)", b"(9, 9)"))
    assert errors(folder, 'table("mask.npy")') == [
        ("E310", "its header says 9 x 9 blocks, and 16 follow")
    ]


def test_a_module_carries_its_tables(folder: Path) -> None:
    matrix = np.random.default_rng(0).random((6, 6)) < 0.5
    np.save(folder / "mask.npy", matrix)
    files = compiler.emit(
        picked(folder, 'block 16\ntable("mask.npy") & ~table("mask.npy").T'), ["torch"]
    )
    (table,) = [name for name in files if name.endswith(".npy")]
    assert table in str(files["spec.py"]) and "mask" not in str(files["spec.py"])
    out = folder / "out"
    write_whole(out, files)
    made = import_file(out / "spec.py", "bslang_test_table")
    held = made.LAYOUT.graph(96).visited.dense(6)
    np.testing.assert_array_equal(held, matrix & ~matrix.T)
    data = (out / table).read_bytes()
    (out / table).write_bytes(data[:-1] + bytes([1 - data[-1]]))
    with pytest.raises(SpecError, match="does not match its name"):
        import_file(out / "spec.py", "bslang_test_table_changed").LAYOUT.graph(96)


def test_texts_read_from_the_folder_that_python_names(folder: Path) -> None:
    layout = bslang.compile('import "common.bsl"\nnear', target="torch", folder=folder)
    assert layout.spec == "window(3) | cols(9)"
    with pytest.raises(SpecError, match="has no folder to read from"):
        bslang.compile('import "common.bsl"\nnear')

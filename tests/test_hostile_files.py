"""A spec names files: only those below its own folder are read, and whatever is in them is data."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bslang import compiler
from bslang.ir.oracle import dense
from bslang.limits import MAX_FILE_BYTES, MAX_FILES
from bslang.resolve.sources import source_from, source_of
from bslang.syntax.diagnostics import Diagnostic, SpecError


@pytest.mark.parametrize(
    "data", [b"\xff\xfe", b"causal # \xc3\x28", b"\x80" * 100, "causal".encode("utf-16")]
)
def test_files_that_are_no_utf8(data: bytes) -> None:
    with pytest.raises(SpecError, match="not UTF-8 text") as caught:
        source_from("spec.bsl", io.BytesIO(data))
    assert caught.value.diagnostics[0].code == "E002"


def test_a_file_without_an_end() -> None:
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size: int | None = -1) -> bytes:
            assert size is not None and 0 < size <= MAX_FILE_BYTES + 10, "read without a bound"
            self.given += size
            return "é".encode() * (size // 2) + b"(" * (size % 2)

    source = source_from("spec.bsl", Endless())
    with pytest.raises(SpecError, match="MAX_FILE_BYTES") as caught:
        compiler.program(source)
    assert caught.value.exit_status == 3


# ---- paths ---------------------------------------------------------------------------------------


def refused(folder: Path, text: str) -> list[Diagnostic]:
    """What is said of a file that lies in a folder; the command line is a way to read one."""
    spec = folder / "spec.bsl"
    spec.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        compiler.program(source_of(spec))
    assert all(char.isprintable() or char in "\n\t" for char in str(caught.value))
    assert len(str(caught.value)) < 50_000
    return list(caught.value.diagnostics)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for a spec, with a spec and a table above it that it must not reach."""
    inner = tmp_path / "specs"
    inner.mkdir()
    (tmp_path / "above.bsl").write_text("secret = all", encoding="utf-8")
    np.save(tmp_path / "above.npy", np.ones((2, 2), dtype=bool))
    return inner


OUTSIDE = {
    "above": "../above",
    "above, the long way": "./x/../../above",
    "in another folder and up": "specs/../../above",
    "absolute": "{folder}/above",
    "a link": "link",
    "a link to the folder above": "up/above",
    "circular links": "circle",
    "home": "~/above",
    "a variable": "$HOME/above",
    "Windows": "..\\above",
    "a drive": "C:/above",
    "a NUL byte": "above\0",
    "a NUL byte that ends a path": "../above\0x",
    "an address": "file:///etc/above",
    "nothing": "",
    "a folder": "sub",
    "a pipe": "pipe",
    "template syntax": "{{ 7*7 }}",
    "a template's comment": "{% raw %}",
    "format syntax": "%s{0}",
    "a name of 10,000 letters": "a" * 10_000,
    "right to left": "\u202eabove",
    "a newline's escape": "a\\nb",
}


@pytest.mark.parametrize("path", OUTSIDE.values(), ids=OUTSIDE)
def test_only_files_below_the_folder_are_read(path: str, folder: Path) -> None:
    path = path.replace("{folder}", str(folder.parent))
    for suffix in (".bsl", ".npy"):
        (folder / f"link{suffix}").symlink_to(folder.parent / f"above{suffix}")
        (folder / f"circle{suffix}").symlink_to(folder / f"circle{suffix}")
        (folder / f"sub{suffix}").mkdir()
        os.mkfifo(folder / f"pipe{suffix}")
    (folder / "up").symlink_to(folder.parent)
    (found,) = refused(folder, f'import "{path}.bsl"\na = all')
    assert found.code == "E211"
    (found,) = refused(folder, f'a = table("{path}.npy")')
    assert found.code == "E211"


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/stdin", "/etc/passwd", "/proc/self/mem"])
def test_devices_are_not_read(path: str, folder: Path) -> None:
    for name in ("zero.bsl", "zero.npy"):
        (folder / name).symlink_to(path)
    for text in (f'import "{path}"', 'import "zero.bsl"', f'table("{path}")', 'table("zero.npy")'):
        (found,) = refused(folder, f"{text}\n")
        assert found.code == "E211"


def test_imports_in_a_circle(folder: Path) -> None:
    (folder / "a.bsl").write_text('import "b.bsl"\na = b', encoding="utf-8")
    (folder / "b.bsl").write_text('import "spec.bsl"\nb = c', encoding="utf-8")
    found = refused(folder, 'import "a.bsl"\nc = a')
    assert {d.code for d in found} == {"E212"}
    assert {d.code for d in refused(folder, 'import "spec.bsl"')} == {"E212"}


def test_imports_without_an_end(folder: Path) -> None:
    """A chain of files, a file of many, and files that import one another twofold."""
    for i in range(MAX_FILES + 10):
        text = f'import "f{i + 1}.bsl" as a\nimport "f{i + 2}.bsl" as b\nx = a.x | b.x'
        (folder / f"f{i}.bsl").write_text(text, encoding="utf-8")
    found = refused(folder, 'import "f0.bsl"')
    assert any("MAX_FILES" in d.message and d.limit for d in found)
    many = "\n".join(f'import "f{i}.bsl" as c{i}' for i in range(MAX_FILES + 10))
    assert any("MAX_FILES" in d.message for d in refused(folder, many))


def test_imports_that_double(folder: Path) -> None:
    """40 files, each of which uses the next twice, are read once each; what they mean is too large."""
    for i in range(40):
        text = f'import "f{i + 1}.bsl" as a\nimport "f{i + 1}.bsl" as b\nx = a.x ^ b.x.T'
        (folder / f"f{i}.bsl").write_text(text, encoding="utf-8")
    (folder / "f40.bsl").write_text("x = causal", encoding="utf-8")
    assert {d.code for d in refused(folder, 'import "f0.bsl"\ny = x')} == {"E191"}


def test_imported_files_are_bounded_too(folder: Path) -> None:
    (folder / "large.bsl").write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    (folder / "bytes.bsl").write_bytes(b"a = all # \xff")
    (folder / "deep.bsl").write_text("a = " + "(" * 1000 + "all" + ")" * 1000, encoding="utf-8")
    assert [d.code for d in refused(folder, 'import "large.bsl"')] == ["E190"]
    found = refused(folder, 'import "bytes.bsl" as b\nimport "deep.bsl"\na = windw(3)')
    assert {"E002", "E191", "E201"} <= {d.code for d in found}


# ---- tables --------------------------------------------------------------------------------------


def npy(matrix: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, matrix, **options)
    return out.getvalue()


def header(text: str, data: bytes = b"") -> bytes:
    """A .npy file of version 1 with a header of one's own."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + data


def archive(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return out.getvalue()


class Harmful:
    """Unpickling it makes a folder: the test would see it."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("harm",)


GOOD = npy(np.eye(4, dtype=bool))
SHAPED = "{{'descr': '|b1', 'fortran_order': False, 'shape': {}, }}"
BAD_TABLES = {
    "a pickle": pickle.dumps(Harmful()),
    "objects": npy(np.array([[Harmful()]], dtype=object), allow_pickle=True),
    "nothing": b"",
    "text": b"1 0\n0 1\n",
    "a half": GOOD[: len(GOOD) // 2],
    "a byte too few": GOOD[:-1],
    "a byte too many": GOOD + b"\1",
    "the magic alone": GOOD[:6],
    "an unknown version": GOOD[:6] + b"\x09\x00" + GOOD[8:],
    "a header without an end": GOOD[:8] + b"\xff\xff" + GOOD[10:],
    "a header that is code": header("__import__('os').mkdir('harm')"),
    "a header that nests": header("(" * 9000),
    "a header of another kind": header("[1, 2]"),
    "no header": header(""),
    "a larger shape than the data": header(SHAPED.format("(4, 5)"), bytes(16)),
    "a shape beyond all": header(SHAPED.format("(9999999999999, 9999999999999)"), bytes(16)),
    "a negative shape": header(SHAPED.format("(-4, -4)"), bytes(16)),
    "a shape that is no number": header(SHAPED.format("('4', 4)"), bytes(16)),
    "a shape of truths": header(SHAPED.format("(True, True)"), bytes(16)),
    "numbers": npy(np.eye(4)),
    "fields": npy(np.zeros((4, 4), dtype=[("a", "?"), ("b", "?")])),
    "texts": npy(np.full((4, 4), "x")),
    "a vector": npy(np.ones(16, dtype=bool)),
    "a cube": npy(np.ones((2, 2, 4), dtype=bool)),
    "no rows": npy(np.ones((0, 4), dtype=bool)),
    "a dtype that is code": header("{'descr': __import__('os').mkdir('harm'), 'shape': (4, 4)}"),
}
BAD_ARCHIVES = {
    "no archive": GOOD,
    "nothing": b"",
    "an empty archive": archive(),
    "two arrays": archive(a=GOOD, b=GOOD),
    "an archive within": archive(a=archive(a=GOOD)),
    "a half": archive(a=GOOD)[:100],
    "a bomb": archive(a=header(SHAPED.format("(20000, 20000)"), bytes(400_000_000))),
    "objects": archive(a=npy(np.array([[Harmful()]], dtype=object), allow_pickle=True)),
    "broken data": archive(a=GOOD).replace(archive(a=GOOD)[40:60], bytes(20)),
}  # fmt: skip


@pytest.mark.parametrize("data", BAD_TABLES.values(), ids=BAD_TABLES)
def test_bad_tables(data: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "mask.npy").write_bytes(data)
    (found,) = refused(folder, 'table("mask.npy")')
    assert found.code == "E310"
    assert not Path("harm").exists()


@pytest.mark.parametrize("data", BAD_ARCHIVES.values(), ids=BAD_ARCHIVES)
def test_bad_archives(data: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "mask.npz").write_bytes(data)
    (found,) = refused(folder, 'table("mask.npz")')
    assert found.code == "E310"
    assert not Path("harm").exists()


def test_tables_in_every_order(folder: Path) -> None:
    """Fortran's order of bytes, and an archive, hold the matrix that they say."""
    matrix = np.arange(12).reshape(3, 4) % 5 == 1
    (folder / "f.npy").write_bytes(npy(np.asfortranarray(matrix)))
    (folder / "z.npz").write_bytes(archive(a=npy(matrix)))
    for name in ("f.npy", "z.npz"):
        (folder / "spec.bsl").write_text(f'block 8\ntable("{name}")', encoding="utf-8")
        found = compiler.resolve(source_of(folder / "spec.bsl"))
        mask = dense(found.pattern, compiler.grid(found, 24, 32, "start"))
        np.testing.assert_array_equal(mask, np.kron(matrix, np.ones((8, 8), dtype=bool)))

"""The two functions of Python users: what they take, what they refuse, and what they say then."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import bslang
from bslang import BslangError, SpecError, TargetError, compiler, layouts


def test_compile_gives_a_layout() -> None:
    layout = bslang.compile("window(3) | global(0, -1)", block=16, target="torch")
    assert (layout.name, layout.spec) == ("layout", "window(3) | global(0, -1)")
    assert (layout.block, tuple(layout.targets)) == ((16, 16), ("torch",))
    q = torch.ones(1, 1, 100, 16)
    assert torch.allclose(layout(q, q, q), q)


def test_the_same_layout_is_made_once() -> None:
    one = bslang.compile("last(3)", target="torch")
    assert bslang.compile("last( 2 + 1 )  # three", target=["torch"]) is one
    assert bslang.compile("last(3)", block=32, target="torch") is not one


def test_compile_takes_a_whole_file() -> None:
    text = "\ufeffblock 32\nnear(w = 3) = last(w)\nwide = near(9)\n"
    assert bslang.compile(text, "near", target="torch", w="96t").spec == "last(96t)"
    assert bslang.compile(text, "wide", target="torch").block == (32, 32)
    with pytest.raises(SpecError, match="several layouts"):
        bslang.compile(text, target="torch")


def test_load_takes_a_file_and_a_name(tmp_path: Path) -> None:
    path = tmp_path / "layouts.bsl"
    path.write_text("near(w = 3) = last(w)\nwide = near(9)\n", encoding="utf-8")
    assert bslang.load(f"{path}:near", target="torch", w=4).spec == "last(4)"
    path.write_text("near(w = 3) = last(w)", encoding="utf-8")
    layout = bslang.load(path, block=(16, 16), target="torch")
    assert (layout.name, layout.block) == ("near", (16, 16))


def test_a_colon_may_be_part_of_a_file_name(tmp_path: Path) -> None:
    path = tmp_path / "odd:name"
    path.write_text("causal", encoding="utf-8")
    assert bslang.load(str(path), target="torch").spec == "causal"


@pytest.mark.parametrize("spec", [None, 3, b"causal", Path("causal.bsl")])
def test_a_spec_is_text(spec: object) -> None:
    with pytest.raises(
        TypeError, match=rf"spec must be the text of a pattern, not {type(spec).__name__}"
    ):
        bslang.compile(spec)


@pytest.mark.parametrize("file", [None, 3, b"layouts.bsl"])
def test_a_file_is_a_path(file: object) -> None:
    with pytest.raises(
        TypeError, match=rf"file must be a path, or PATH:NAME, not {type(file).__name__}"
    ):
        bslang.load(file)


@pytest.mark.parametrize("file", ["missing.bsl", "missing.bsl:near", "a\0b", "", ".", "a" * 5000])
def test_a_file_that_is_none(file: str) -> None:
    with pytest.raises(SpecError) as caught:
        bslang.load(file)
    assert caught.value.diagnostics[0].code == "E001"


def test_a_published_layout_is_a_file_of_the_library() -> None:
    with pytest.raises(SpecError, match=r"the library has one: `std/bigbird\.bsl`"):
        bslang.load("bigbird")
    assert bslang.load("std/bigbird.bsl").name == "bigbird"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("cuda", "unknown target 'cuda'; targets are triton, cpu, torch"),
        ("Triton", "did you mean 'triton'"),
        (["torch", "tritn"], "did you mean 'triton'"),
        ([], "no target"),
    ],
)
def test_targets_that_are_unknown(target: object, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        bslang.compile("causal", target=target)


@pytest.mark.parametrize("target", [3, [3], ["torch", None], b"torch", True])
def test_targets_that_are_no_names(target: object) -> None:
    with pytest.raises(TypeError, match="target must be the name of a target, or several; got"):
        bslang.compile("causal", target=target)


def test_blocks_that_are_none() -> None:
    with pytest.raises(ValueError, match=r"block must be a number of tokens from 1 to 4096"):
        bslang.compile("causal", block=0)


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("BSLANG_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(BslangError, match="set BSLANG_CACHE_DIR to another"):
        bslang.compile("last(3) | cols(7)", target="torch")
    monkeypatch.setenv("BSLANG_CACHE_DIR", str(tmp_path / "new" / "cache"))
    assert bslang.compile("last(3) | cols(7)", target="torch").spec == "last(3) | cols(7)"
    assert list((tmp_path / "new" / "cache").rglob("layout.py"))


def test_what_is_generated_is_kept_for_later_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BSLANG_CACHE_DIR", str(tmp_path))
    made = []
    emit = compiler.emit
    monkeypatch.setattr(compiler, "emit", lambda *given: made.append(1) or emit(*given))

    def again(**options: object) -> int:
        """How many modules a new process generates."""
        layouts._KNOWN.clear()
        made.clear()
        q = torch.randn(1, 1, 20, 8)
        layout = bslang.compile("window(3)", **({"block": 8, "target": "torch"} | options))
        assert layout(q, q, q).shape == q.shape
        return len(made)

    assert again() == 1
    assert again() == 0
    assert again(block=16) == again(target=["cpu", "torch"]) == 1
    assert again(target=None) == 0, "kernels for GPUs are not made for tensors on the CPU"
    for module in tmp_path.glob("modules/*/*.py"):
        module.unlink()
    assert again() == 1
    monkeypatch.setattr(compiler, "code_stamp", lambda: "another version of bslang")
    assert again() == 1


def test_a_length_at_which_a_layout_means_nothing() -> None:
    layout = bslang.compile("cols(9)", block=16, target="torch")
    short, long = torch.ones(1, 1, 100, 16), torch.ones(1, 1, 200, 16)
    with pytest.raises(SpecError, match=r"column 9 of `cols\(9\)` is out of range for 7 blocks"):
        layout(short, short, short)
    assert layout(long, long, long).shape == long.shape


def test_a_layout_shows_its_users_what_is_theirs() -> None:
    """No name of the package's own; the API reference has every method."""
    described = {"name", "spec", "source", "block", "digest", "targets", "labels", "folder"}
    described |= {"inputs", "selections", "has_order"}
    described |= {"by_head", "by_layer", "layer", "first_head"}
    layout = bslang.compile("causal")
    methods = {name for name in dir(layout) if not name.startswith("_")} - described
    page = Path(__file__).resolve().parent.parent / "docs" / "api.md"
    listed = set(re.findall(r"^        - (\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert methods == listed - {"__call__", "source"} and all(
        callable(getattr(layout, m)) for m in methods
    )

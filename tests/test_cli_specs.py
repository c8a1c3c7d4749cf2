"""What a command's SPEC argument may be, and how lengths are written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_cli import Run, run  # noqa: F401  # the fixture
from torch.nn.functional import scaled_dot_product_attention

from bslang.resolve.library import library
from bslang.verify import measure


def test_an_expression_stands_where_a_file_does(run: Run) -> None:  # noqa: F811
    from_text = run("show", "last(3) | cols(0:4t)", "--seq-len", "640")
    from_stdin = run("show", "-", "--seq-len", "640", stdin=b"last(3) | cols(0:4t)")
    assert from_text == from_stdin
    assert run("why", "causal", "3", "2").out.startswith("yes")
    assert run("stats", "~causal", "--json", "--seq-len", "64").json["spec"] == "~causal"


def test_a_mistake_in_an_expression_is_shown_in_it(run: Run) -> None:  # noqa: F811
    done = run("show", "windw(3)")
    assert done.status == 1
    assert " --> <expression>:1:1\n" in done.err
    assert "did you mean `window`?" in done.err


def test_a_file_comes_before_an_expression_and_the_library(run: Run) -> None:  # noqa: F811
    for name in ("a|b.bsl", "causal", "bigbird"):
        Path(name).write_text("last(2)", encoding="utf-8")
        done = run("show", name)
        assert done.out.partition("\n")[0].endswith(": last(2)")
        assert done.err == ""


def test_published_layouts_are_found_by_name(run: Run) -> None:  # noqa: F811
    done = run("show", "bigbird", "-D", "r=2")
    assert done.out == run("show", "std/bigbird.bsl:bigbird", "-D", "r=2").out
    assert done.err == "bigbird: std/bigbird.bsl:bigbird\n"
    assert run("show", "a_shape").err == "a_shape: std/minference.bsl:a_shape\n"
    assert "did you mean `bigbird`?" in run("show", "bigbrd").err


def test_a_name_of_several_published_layouts_is_refused(run: Run) -> None:  # noqa: F811
    """Unless one of them is in the file of that name."""
    names = [entry.name for entry in library()]
    for name in sorted({name for name in names if names.count(name) > 1}):
        files = {entry.file for entry in library() if entry.name == name}
        done = run("show", name)
        if f"std/{name}.bsl" in files:
            assert done.err == f"{name}: std/{name}.bsl:{name}\n"
        else:
            assert done.status == 1
            assert all(f"{file}:{name}" in done.err for file in files)


def test_a_definition_of_standard_input(run: Run) -> None:  # noqa: F811
    spec = b"a = last(2)\nb = last(3)\n"
    assert run("show", "-:b", stdin=spec).out.startswith("b: last(3)\n")
    assert run("show", "-:c", stdin=spec).status == 1
    assert "pick one: -:a, -:b\n" in run("show", "-", stdin=spec).err


@pytest.mark.parametrize(("text", "tokens"), [("2k", 2048), ("1M", 2**20), ("0100", 100)])
def test_lengths_have_suffixes(run: Run, text: str, tokens: int) -> None:  # noqa: F811
    assert run("stats", "last(2)", "--seq-len", text, "--json").json["tokens"] == [tokens, tokens]


@pytest.mark.parametrize("text", ["0", "-1", "2kk", "k", "1.5k", "16K", "\u0661", ""])
def test_lengths_that_are_none(run: Run, text: str) -> None:  # noqa: F811
    done = run("stats", "last(2)", "--seq-len", text)
    assert done.status == 2
    assert "is not a length of at least one token" in done.err


def test_folders_stand_for_the_specs_below_them(run: Run) -> None:  # noqa: F811
    for name in ("deep/x.bsl", "deep/er/y.bslang", "deep/z.txt", "deep/.hidden/no.bsl"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("a=last( 2 )\n", encoding="utf-8")
    assert [line.partition(":")[0] for line in run("check", "deep").out.splitlines()] == [
        "deep/er/y.bslang",
        "deep/x.bsl",
    ]
    assert run("fmt", "deep").out.count("formatted") == 2
    assert Path("deep/er/y.bslang").read_text(encoding="utf-8") == "a = last(2)\n"
    Path("empty").mkdir()
    done = run("check", "empty")
    assert (done.status, done.out) == (1, "")
    assert "no spec file" in done.err


def test_diff_sets_parameters_of_both_or_of_one(run: Run) -> None:  # noqa: F811
    both = run("diff", "spec.bsl:near", "spec.bsl:near", "-D", "w=4", "--seq-len", "640")
    assert both.status == 0
    one = run("diff", "spec.bsl:near", "spec.bsl:near", "-D", "b:w=4", "--seq-len", "640")
    assert one.status == 1
    assert one.out.startswith("+ spec.bsl:near: last(3)\n- spec.bsl:near: last(4)\n")


def test_errors_are_json_where_json_was_asked_for(run: Run) -> None:  # noqa: F811
    done = run("stats", "spec.bsl:wide", "--json")
    assert (done.status, done.err) == (1, "")
    (found,) = done.json["diagnostics"]  # type: ignore[misc]
    assert (found["file"], found["severity"]) == ("spec.bsl", "error")
    done = run("diff", "spec.bsl:near", "last(3)", "--json")
    assert (done.status, done.err) == (1, "")
    assert "cannot compare blocks of 32x32 and 64x64 tokens" in str(done.json["error"])


def test_stats_measures_where_it_is_asked_to(
    run: Run,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both phases, beside dense attention up to a length; without the option there are no times."""
    done = run("stats", "causal", "--seq-len", "64", "--measure", "--json").json
    phases = done["measured"]
    assert isinstance(phases, list)
    assert [each["phase"] for each in phases] == ["forward", "forward and backward"]
    assert all(each["seconds"] > 0 and each["dense_seconds"] > 0 for each in phases)
    monkeypatch.setattr(measure, "MAX_DENSE_LENGTH", 63)
    text = run("stats", "last(1)", "--seq-len", "64", "--measure").out
    assert "dense attention is not timed at this length" in text
    assert "measured" not in run("stats", "causal", "--seq-len", "64", "--json").json
    seen = set()

    def spy(q: torch.Tensor, *others: torch.Tensor, is_causal: bool) -> torch.Tensor:
        seen.add(q.dtype)
        return scaled_dot_product_attention(q, *others, is_causal=is_causal)

    monkeypatch.setattr(measure, "MAX_DENSE_LENGTH", 64)
    monkeypatch.setattr(measure, "scaled_dot_product_attention", spy)
    assert run("stats", "causal", "--seq-len", "64", "--measure", "--dtype", "bf16").status == 0
    assert seen == {torch.bfloat16}
    unknown = run("stats", "causal", "--seq-len", "64", "--dtype", "fp8")
    assert unknown.status == 2
    assert "'fp8' is not one of fp32, bf16, fp16" in unknown.err
    refused = run("stats", "same(doc)", "--seq-len", "64", "--measure")
    assert refused.status == 1
    assert "depends on the labels of a call" in refused.err


def test_short_help(run: Run) -> None:  # noqa: F811
    assert run("show", "-h").out == run("show", "--help").out

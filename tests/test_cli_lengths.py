"""The length at which commands look at a layout without --seq-len, and pictures in other sizes."""

from __future__ import annotations

import re

import pytest
from test_cli import Run, run  # noqa: F401  # the fixture

from bslang import compiler
from bslang.picture.svg import svg
from bslang.reports.lengths import drawn_length, usual_length
from bslang.syntax.source import Source


def test_the_size_of_a_grid_is_the_length(run: Run) -> None:  # noqa: F811
    assert "4,096 tokens, block 64x64: 64 x 64" in run("show", "axial").out
    assert "6,400 tokens, block 64x64: 100 x 100" in run("show", "grid(10, 10, radius=1)").out
    assert re.search(r"tokens +3,136 queries, 3,136 keys", run("stats", "natten2d").out)
    assert re.search(r"tokens +16,384 queries", run("stats", "mistral").out)
    assert run("why", "natten2d", "0", "57").status == 0
    differ = run("diff", "natten2d", "axial", "-D", "h=8t", "-D", "w=8t")
    assert (differ.status, differ.out.startswith("+ natten2d")) == (1, True)


@pytest.mark.parametrize(
    ("text", "usual", "drawn"),
    [
        ("causal", 16384, 24 * 64),
        ("last(16)", 16384, 24 * 64),
        ("last(20)", 16384, 80 * 64),
        ("last(4096t)", 16384, 16384),
        ("last(100000t)", 16384, 16384),
        ("grid(8t, 9t, radius=1) & causal", 72, 72),
        ("grid(4, 4, radius=1)", 1024, 1024),
    ],
)
def test_lengths(text: str, usual: int, drawn: int) -> None:
    resolved = compiler.resolve(Source("<example>", text))
    assert (usual_length(resolved), drawn_length(resolved)) == (usual, drawn)


def test_pictures_smaller_and_without_a_legend() -> None:
    resolved = compiler.resolve(Source("<example>", "last(2) | cols(0)"))
    graph = compiler.lower(resolved, 768, 768)
    whole, half = (svg(resolved.pattern, [graph], scale=scale) for scale in (1, 0.5))
    size = re.compile(r'width="(\d+)" height="(\d+)" viewBox="([^"]*)"')
    big, small = size.search(whole), size.search(half)
    assert big and small and big[3] == small[3]
    assert [int(x) for x in small.groups()[:2]] == [round(int(x) / 2) for x in big.groups()[:2]]
    bare = svg(resolved.pattern, [graph], legend=False)
    assert "<text" in whole and "<text" not in bare
    assert len(re.findall(r"<path|<rect", bare)) < len(re.findall(r"<path|<rect", whole))

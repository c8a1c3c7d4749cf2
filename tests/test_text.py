"""Canonical text: what a pattern prints means the pattern, and names it in caches for good."""

from __future__ import annotations

import pytest

from bslang import compiler
from bslang.ir.pattern import Pattern
from bslang.limits import MAX_NESTING
from bslang.syntax.diagnostics import SpecError
from bslang.syntax.source import Source

PATTERNS = [
    "all",
    "none | causal",
    "window(3)",
    "window(7, step=2)",
    "window(3, wrap=true)",
    "window(6, clamp=true)",
    "window(left=2, right=0)",
    "window(left=inf, right=1)",
    "window(left=512t, right=0)",
    "window(right=n // 2)",
    "last(1) & last(inf)",
    "last(512t)",
    "rows(0, -1) | cols(2:5, ::3)",
    "cols(0:4t) - rows(-8t:)",
    "cols(0t:64t:4t)",
    "cols(:) ^ rows(n - 4:, 2:n:n)",
    "global(0, -1)",
    "diagonals(0, 1, 7)",
    "diagonals(-3:4, 5::2)",
    "diagonals(64t, 0t:32t:8t)",
    "random(2)",
    "random(isqrt(n), seed=7)",
    "random(3, seed=-1, within=causal - window(3))",
    "random(2, within=random(4, seed=1) | last(2))",
    "chunks(4)",
    "chunks(1, 3, back=inf, ahead=2)",
    "chunks(100t, 28t)",
    "strided(4) | strided(8, 3)",
    "every(4, offset=3)",
    "every(64t)",
    "~causal",
    "~~causal.T.T",
    "~(causal | all).T",
    "(~causal).T",
    "all - (causal - (last(2) - last(1)))",
    "all - causal - last(2)",
    "(all | causal) & (last(2) ^ last(1)) - none",
    "all & causal ^ none | last(1) & last(2)",
    "last(n - 1 - (m - 1))",
    "last(-n + 100)",
    "last(2 ** (n % 3) * (m + 1))",
    "last((n - 100) ** 2 ** 2)",
    "last(min(n, m, 7) + max(abs(n - 9), log2(n)))",
    "last(1 + (n > 8) + (m <= 4) * (n == m) - (n != m))",
    "last(n * 64t) | last((n + 1) * 2t)",
    "last((n < 3) < 2)",
    "window(3) @ last(2) @ rows(0)",
    "window(3) @ (last(2) @ rows(0))",
    "(window(3) | last(2)) @ ~last(1).T - all",
    "window(3) ** 2 @ last(2) ** (n // 4)",
    "(window(3) ** 2) ** 2",
    "(~window(3)) ** 2 | window(3).T ** 2",
    "heads { 0:4 -> window(3); 4: -> causal | cols(0) } & last(4)",
    "heads { 0 -> all; 1:9:2 -> none; 10: -> heads { : -> causal } }.T",
    "random(2, seed=head + 8 * layer) | every(4, offset=head % 4)",
    "logsparse | logsparse(3) | butterfly | butterfly(2)",
    "segments(16, rate=4) | segments(64t, rate=2, offset=1)",
    "grid(4, 4, radius=1) | grid(2, 8, radius=(1, inf), clamp=true)",
    "same(doc) & causal - same(part)",
    "{i, j : j % 4 == 3 & i - j < 7}",
    "{q, k : 0 <= q - k < 512t} & causal",
    "{i, j : ~(i < j | i == 0) ^ j > n - 2}",
    "{i, j : i == j & (j > 1 & i > 2)}",
    "{q, k : (q * q - k) % 7 < abs(k - 5) ** 2}",
    "{q, k : max(q, k) // 64 == min(q, 100 * head) // 64}",
    "{i, j : i < j == j < i}",
    "{i, j : true}",
    "~{i, j : i == j}.T @ {i, j : i < j}",
]


@pytest.mark.parametrize("text", PATTERNS)
def test_the_text_of_a_pattern_means_the_pattern(text: str) -> None:
    pattern = _pattern(text)
    again = _pattern(str(pattern))
    assert again == pattern
    assert str(again) == str(pattern)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("  window( 3 ,step = 1_0 )# c", "window(3, step=10)"),
        ("((all)) | (none | causal)", "all | none | causal"),
        ("all - causal - last(2)", "all - (causal | last(2))"),
        ("every(4, offset=3)", "every(4, 3)"),
        ("last(2 + 3 * 4)", "last(14)"),
        ("window(w=3, clamp=false)", "window(3)"),
        ("cols(0:4t)", "cols(0t:4t)"),
        ("last(n + 0) | last(1 * m)", "last(n) | last(m)"),
    ],
)
def test_canonical_text(text: str, canonical: str) -> None:
    assert str(_pattern(text)) == canonical


@pytest.mark.parametrize(
    "level",
    [
        "~({})",
        "({} - causal).T",
        "all - causal - ({})",
        "random(2, within={})",
        "last(n * 1t) & ({})",
    ],
)
def test_what_is_accepted_can_be_written_out_and_read_again(level: str) -> None:
    """A generated module holds its pattern as text: what passes the limits must still pass as text."""
    text, deepest = "causal", "causal"
    for _ in range(MAX_NESTING):
        text = level.format(text)
        try:
            deepest = str(_pattern(text))
        except SpecError as error:
            assert {d.code for d in error.diagnostics} == {"E191"}
            break
    else:
        pytest.fail("no limit was passed")
    assert str(_pattern(deepest)) == deepest


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        ("window(3) | global(0, -1) | random(2, seed=7)", "b3f46e2965540397"),
        ("(last(16) | cols(0:4t)) & causal", "1f8a0e89f759f3bb"),
        ("block 128x64\ncausal", "cd110a9b96da98fb"),
    ],
)
def test_digests_never_change(text: str, digest: str) -> None:
    """They name layouts in caches and checkpoints: equal text and block, equal digest, in any release."""
    resolved = compiler.resolve(Source("<test>", text))
    assert compiler.digest(resolved) == digest
    canonical = compiler.resolve(Source("<test>", str(resolved.pattern)), block=resolved.block)
    assert compiler.digest(canonical) == digest
    other = compiler.resolve(Source("<test>", text), block=32)
    assert compiler.digest(other) != digest


def _pattern(text: str) -> Pattern:
    return compiler.resolve(Source("<test>", text)).pattern

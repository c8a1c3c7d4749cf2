"""Lengths by name, `len_q` and `len_k`, wherever a layout is used: calls, packed calls, exports, pictures."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from plain import belongs

import bslang
from bslang import api
from bslang.ir.grid import Grid
from bslang.ir.runs import Bools
from bslang.syntax.diagnostics import SpecError

HALF = "{q, k : k < len_k // 2 | q >= len_q - 3} & last(len_k // 3 + 2t) | cols(0:len_k // 9)"
DIFFUSION = """\
bd(d = 4) = (
    {q, k : q < len_q // 2 & k < len_k // 2 & q // d == k // d}
    | {q, k : q < len_q // 2 <= k & (k - len_k // 2) // d < q // d}
    | {q, k : len_q // 2 <= q & len_k // 2 <= k & (k - len_k // 2) // d <= (q - len_q // 2) // d}
)
"""


def mask(spec: str, len_q: int, len_k: int, align: str = "end") -> Bools:
    """The pairs of a layout by the plain evaluator, bool (len_q, len_k)."""
    return np.array(belongs(spec, Grid.of(len_q, len_k, (8, 8), align)), dtype=bool)


def tensors(len_q: int, len_k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(len_q * 100 + len_k)
    return torch.randn(1, 2, len_q, 16), *(torch.randn(1, 2, len_k, 16) for _ in range(2))


def dense(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, held: Bools) -> torch.Tensor:
    scores = (q.double() @ k.double().mT) * q.shape[-1] ** -0.5
    weights = scores.masked_fill(~torch.from_numpy(held), -torch.inf).softmax(-1).nan_to_num(0)
    return weights @ v.double()


@pytest.mark.parametrize("target", ["cpu", "torch"])
@pytest.mark.parametrize("shape", [(41, 41, "end"), (7, 41, "end"), (30, 19, "start")])
def test_calls(target: str, shape: tuple[int, int, str]) -> None:
    len_q, len_k, align = shape
    layout = bslang.compile(HALF, block=8, target=target)
    held = mask(HALF, len_q, len_k, align)
    assert np.array_equal(layout.to_dense(len_q, len_k, align=align).numpy(), held)
    q, k, v = tensors(len_q, len_k)
    torch.testing.assert_close(
        layout(q, k, v, align=align).double(), dense(q, k, v, held), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("target", ["cpu", "torch"])
def test_each_packed_sequence_has_its_own_length(target: str) -> None:
    layout = bslang.compile(HALF, block=8, target=target)
    ends = [0, 13, 54, 55]
    q, k, v = tensors(55, 55)
    out = layout.packed(q, k, v, ends)
    for start, stop in pairwise(ends):
        part = slice(start, stop)
        meant = dense(
            q[:, :, part], k[:, :, part], v[:, :, part], mask(HALF, stop - start, stop - start)
        )
        torch.testing.assert_close(out[:, :, part].double(), meant, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [16, 40, 61])
def test_halves_of_block_diffusion(length: int) -> None:
    layout = bslang.compile(DIFFUSION, block=8, target="torch")
    q, k = np.arange(length)[:, None], np.arange(length)[None]
    half = length // 2
    noised_q, noised_k, of_q, of_k = (
        q < half,
        k < half,
        (q - (q >= half) * half) // 4,
        (k - (k >= half) * half) // 4,
    )
    meant = (
        (noised_q & noised_k & (of_q == of_k))
        | (noised_q & ~noised_k & (of_k < of_q))
        | (~noised_q & ~noised_k & (of_k <= of_q))
    )
    assert np.array_equal(layout.to_dense(length).numpy(), meant)


def test_exports_have_the_length(tmp_path: Path) -> None:
    layout = bslang.compile(HALF, block=8, target="torch")
    held = mask(HALF, 41, 41)
    flex = layout.to_flex(41, device="cpu")
    index = torch.arange(41)
    zero = torch.tensor(0)
    found = torch.vmap(torch.vmap(flex.mask_mod, (None, None, None, 0)), (None, None, 0, None))(
        zero, zero, index, index
    )
    assert np.array_equal(found.numpy(), held)
    layout.to_safetensors(tmp_path / "half.safetensors", 41)
    again = bslang.from_safetensors(tmp_path / "half.safetensors")
    assert str(again._resolved.pattern) == str(layout._resolved.pattern)
    assert np.array_equal(again.to_dense(30).numpy(), mask(HALF, 30, 30))


def test_verify_finds_no_difference() -> None:
    resolved = bslang.compile(HALF, block=8)._resolved
    found = api.verify(resolved, ["cpu", "torch"], dtypes=["fp32"], lengths=[41])
    assert found.calls and not found.failures and not found.meaningless


def test_what_changes_with_the_length_is_not_prefix_stable() -> None:
    for spec, stable in [
        ("{q, k : k < len_k // 2} & causal", False),
        ("last(len_k // 4 + 1t)", False),
        ("{q, k : k <= q & q < len_q}", True),
        ("cols(0:len_k) & causal", True),
    ]:
        assert bslang.compile(spec, block=8).prefix_stable(64).holds is stable, spec


@pytest.mark.parametrize(
    "predicate",
    [
        "k < 3 * n // 4",
        "k < 7 * m",
        "2 * k < 2 * n",
        "k < n // 2",
        "2 * k < n",
        "(n + 1) // 2 > k",
        "q == k + m",
        "min(k, n) < 3",
        "-k > -n",
    ],
)
def test_a_position_beside_a_number_of_blocks_is_refused(predicate: str) -> None:
    with pytest.raises(SpecError, match="E302"):
        bslang.compile(f"{{q, k : {predicate}}}", target="torch")


@pytest.mark.parametrize(
    ("predicate", "keys"), [("k < n * 64t", 512), ("k < 8t * m", 64), ("k // 64 < n // 2", 256)]
)
def test_products_with_the_side_of_a_block_convert(predicate: str, keys: int) -> None:
    layout = bslang.compile(f"{{q, k : {predicate}}}", block=64, target="torch")
    assert int(layout.to_dense(512)[0].sum()) == keys

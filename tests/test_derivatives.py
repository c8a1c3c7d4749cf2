"""Derivatives that torch could ask a layout for and that it has not: refused, never left out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.autograd import forward_ad

import bslang

MADE = bslang.compile("last(20t) & causal", block=8, target="torch")
REFUSED = "are not supported; use backward"


def squares(q: torch.Tensor) -> torch.Tensor:
    out = MADE(q, q, q)
    assert isinstance(out, torch.Tensor)
    return out.square().sum()


def tangent(q: torch.Tensor) -> torch.Tensor:
    with forward_ad.dual_level():
        made = squares(forward_ad.make_dual(q, torch.ones_like(q)))
        return forward_ad.unpack_dual(made).tangent  # type: ignore[no-any-return]


def product(q: torch.Tensor) -> torch.Tensor:
    return torch.func.jvp(squares, (q,), (torch.ones_like(q),))[1]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "derivative",
    [
        tangent,
        product,
        torch.func.grad(squares),
        torch.func.jacrev(squares),
        torch.func.jacfwd(squares),
        torch.func.hessian(squares),
    ],
    ids=["forward_ad", "jvp", "grad", "jacrev", "jacfwd", "hessian"],
)
def test_what_the_operator_has_not_is_refused(
    derivative: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    q = torch.randn(1, 2, 30, 8)
    with pytest.raises(RuntimeError, match=f"{REFUSED}|put the mapped dimension into the batch"):
        derivative(q)


def test_compiled_tangents_are_refused() -> None:
    with pytest.raises(RuntimeError, match=REFUSED):
        torch.compile(product, backend="eager")(torch.randn(1, 2, 30, 8))
    torch._dynamo.reset()


def test_a_dual_level_without_tangents_is_no_derivative() -> None:
    q = torch.randn(1, 2, 30, 8)
    with forward_ad.dual_level():
        assert torch.equal(squares(q), squares(q))

"""nn.NativeSparseAttention against NSA written down: loops for the choice, dense attention for branches."""

from __future__ import annotations

import copy
import io
import re
from typing import Any

import chosen
import pytest
import torch
from chosen import Shape

from bslang.nn import NativeSparseAttention, Rotary

SIZES: dict[str, Any] = {"kernel": 8, "stride": 4, "block": 8, "top": 3, "window": 6}


def module(**options: Any) -> NativeSparseAttention:
    torch.manual_seed(0)
    made = NativeSparseAttention(
        24, 4, num_kv_heads=2, head_dim=8, dtype=torch.float64, **SIZES | options
    )
    for parameter in made.parameters():
        if parameter.dim() == 2 and parameter.shape[0] == SIZES["kernel"]:
            torch.nn.init.normal_(parameter)  # places, which are 0 at first
    return made


def heads(x: torch.Tensor, dim: int = 8) -> torch.Tensor:
    return x.unflatten(-1, (-1, dim)).transpose(1, 2)


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, seen: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(out, lse) of dense attention over the pairs of a mask; 0 and -inf for a query that sees none."""
    k, v = (x.repeat_interleave(2, 1) for x in (k, v))
    scores = (q @ k.transpose(2, 3) / 8**0.5).masked_fill(~seen, -torch.inf)
    some = seen.any(-1, keepdim=True)
    weights = scores.masked_fill(~some, 0).softmax(-1).masked_fill(~some, 0)
    lse = scores.masked_fill(~some, 0).logsumexp(-1).masked_fill(~some[..., 0], -torch.inf)
    return weights @ v, lse


def chosen_blocks(q: torch.Tensor, keys: torch.Tensor, length: int) -> torch.Tensor:
    """NSA's equations 8 to 11: bool (batch, heads, length, length)."""
    seen = torch.zeros(*q.shape[:2], length, length, dtype=torch.bool)
    starts = range(0, length - 8 + 1, 4)
    for batch in range(q.shape[0]):
        for group in range(2):
            for t in range(length):
                scores = torch.zeros(-(-length // 8), dtype=torch.float64)
                complete = [i for i, start in enumerate(starts) if start + 7 <= t]
                for head in (2 * group, 2 * group + 1):
                    if not complete:
                        break
                    products = keys[batch, group, complete] @ q[batch, head, t] / 8**0.5
                    for i, weight in zip(complete, products.softmax(0), strict=True):
                        for token in range(starts[i], starts[i] + 8):
                            scores[token // 8] += weight.detach() / 4
                own = t // 8
                forced = {0, own, max(own - 1, 0)}
                rest = [j for j in range(own + 1) if j not in forced]
                rest.sort(key=lambda j: (-float(scores[j]), j))
                for j in [*forced, *rest[: max(0, 3 - len(forced))]]:
                    seen[batch, 2 * group : 2 * group + 2, t, 8 * j : min(8 * j + 8, t + 1)] = True
    return seen


def plain(m: NativeSparseAttention, x: torch.Tensor) -> torch.Tensor:
    length = x.shape[1]
    q, k, v = heads(m.q_proj(x)), heads(m.k_proj(x)), heads(m.v_proj(x))
    if m.rotary is not None:
        q, k = m.rotary(q), m.rotary(k)
    starts = range(0, length - 8 + 1, 4)

    def compress(x: torch.Tensor, by: Any) -> torch.Tensor:
        made = []
        for start in starts:
            run = (x[:, :, start : start + 8] + by.place).flatten(2)
            made.append(by.out(torch.nn.functional.gelu(by.hidden(run))))
        return torch.stack(made, 2) if made else x[:, :, :0]

    keys, values = compress(k[:, :2], m.compress_k), compress(v[:, :2], m.compress_v)
    t = torch.arange(length)
    complete = torch.tensor([start + 7 for start in starts]) <= t[:, None]
    latest = (t <= t[:, None]) & (t > t[:, None] - 6)
    found = [
        attention(q, keys, values, complete.expand(*q.shape[:2], -1, -1)),
        attention(q, k[:, 2:4], v[:, 2:4], chosen_blocks(q, keys, length)),
        attention(q, k[:, 4:], v[:, 4:], latest.expand(*q.shape[:2], -1, -1)),
    ]
    if m.gate is None:
        weights = torch.stack([lse for _, lse in found]).softmax(0)
    else:
        weights = torch.sigmoid(m.gate(x)).unflatten(-1, (3, 4)).permute(2, 0, 3, 1)
    out = sum(weight[..., None] * out for weight, (out, _) in zip(weights, found, strict=True))
    return m.o_proj(out.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("merge", ["gates", "lse"])
@pytest.mark.parametrize("length", [5, 8, 45])
def test_it_is_nsa_forward_and_backward(merge: str, length: int) -> None:
    m = module(merge=merge, rotary=10_000 if length == 45 else None)
    x = torch.randn(2, length, 24, dtype=torch.float64, requires_grad=True)
    given = [x, *m.parameters()]
    of = torch.randn(2, length, 24, dtype=torch.float64)
    found, expected = m(x), plain(m, x)
    torch.testing.assert_close(found, expected)
    grads = torch.autograd.grad(found, given, of, allow_unused=True)
    wanted = torch.autograd.grad(expected, given, of, allow_unused=True)
    names = ["x", *dict(m.named_parameters())]
    for name, of_what, *pair in zip(names, given, grads, wanted, strict=True):
        grad, want = (torch.zeros_like(of_what) if one is None else one for one in pair)
        torch.testing.assert_close(grad, want, msg=name)


def test_merged_by_lse_it_is_one_softmax_over_three_lists_of_keys() -> None:
    """With identical keys in all branches, every key counts as often as branches see it."""
    m = module(merge="lse")
    with torch.no_grad():
        for proj in (m.k_proj, m.v_proj):
            proj.weight.copy_(proj.weight[:16].repeat(3, 1))
    x = torch.randn(1, 7, 24, dtype=torch.float64)  # shorter than a compressed key
    q, k, v = heads(m.q_proj(x)), heads(m.k_proj(x))[:, 2:4], heads(m.v_proj(x))[:, 2:4]
    t = torch.arange(7)
    causal, latest = t <= t[:, None], (t <= t[:, None]) & (t > t[:, None] - 6)
    k, v = (y.repeat_interleave(2, 1) for y in (k, v))
    weights = (q @ k.transpose(2, 3) / 8**0.5).exp() * (causal.double() + latest.double())
    out = weights @ v / weights.sum(-1, keepdim=True)
    torch.testing.assert_close(m(x), m.o_proj(out.transpose(1, 2).flatten(2)))


def test_later_tokens_change_nothing_before_them() -> None:
    m, x = module(), torch.randn(2, 45, 24, dtype=torch.float64)
    out = m(x)
    for length in (7, 8, 33):
        torch.testing.assert_close(m(x[:, :length]), out[:, :length])


def test_blocks_that_are_forced() -> None:
    with pytest.raises(ValueError, match=r"top .* allows 2 cells per row"):
        module(top=2)(torch.randn(1, 45, 24, dtype=torch.float64))
    few = module(top=1, force="last(1t)")
    assert few(torch.randn(1, 45, 24, dtype=torch.float64)).shape == (1, 45, 24)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"merge": "sum"}, "merge must be 'gates' or 'lse', not 'sum'"),
        ({"top": 0}, "top must be an integer of at least 1"),
        ({"window": True}, "window must be an integer of at least 1"),
        ({"num_kv_heads": 3}, "num_heads 4 is not a multiple of num_kv_heads 3"),
    ],
)
def test_numbers_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        NativeSparseAttention(24, 4, head_dim=8, **(SIZES | options))
    with pytest.raises(ValueError, match=re.escape("x must be (batch, length, 24)")):
        module()(torch.zeros(3, 24))


def test_it_is_copied_saved_and_shown() -> None:
    m, x = module(rotary=Rotary(500.0)), torch.randn(1, 20, 24, dtype=torch.float64)
    out = m(x)
    assert torch.equal(copy.deepcopy(m)(x), out)
    buffer = io.BytesIO()
    torch.save(m, buffer)
    buffer.seek(0)
    assert torch.equal(torch.load(buffer, weights_only=False)(x), out)
    other = module(rotary=500.0)
    other.load_state_dict(m.state_dict())
    assert torch.equal(other(x), out)
    assert "kernel=8, stride=4, block=8, top=3, window=6, merge='gates'" in repr(m)


def test_a_traced_module_computes_the_same() -> None:
    m, x = module(), torch.randn(1, 20, 24, dtype=torch.float64)
    traced = torch.compile(m, fullgraph=True, backend="eager")
    torch.testing.assert_close(traced(x), m(x))


def test_the_reference_scores_are_those_of_the_rule() -> None:
    """Of tests/chosen.py, which knows compressed keys that are means."""
    shape = Shape(30, 30, 1, 8, heads=4, key_heads=2, dim=8)
    q, k = (x.double() for x in shape.tensors())
    keys = k.unfold(2, 8, 4).mean(-1)
    scores = chosen.compressed(shape, 2, 8, 4, "overlap").masked_fill(shape.ahead(), -torch.inf)
    seen = chosen_blocks(q, keys, 30)
    for group in range(2):
        for t in range(30):
            own = t // 8
            blocks = {j for j in range(4) if seen[0, 2 * group, t, 8 * j : 8 * j + 8].any()}
            forced = {0, own, max(own - 1, 0)}
            best = sorted(
                set(range(own + 1)) - forced, key=lambda j: -float(scores[0, group, t, j])
            )
            assert blocks == forced | set(best[: max(0, 3 - len(forced))])

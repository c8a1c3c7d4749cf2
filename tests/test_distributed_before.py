"""The tokens before those of a shard: every block of every rank gets the end of the one before it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import examples

from bslang.distributed import before
from bslang.distributed.before import Behind, with_before
from bslang.placement.placement import Placement


@examples(50)
@given(st.data())
def test_every_block_has_the_end_before_it(data: st.DataObject) -> None:
    ranks, blocks = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 20))
    per = -(-blocks // ranks)
    order = data.draw(st.permutations(range(ranks * per)))
    placement = Placement(np.array(order[:blocks]) // per, ranks, 4, 4 * blocks)
    behind = [Behind.of(placement, rank) for rank in range(ranks)]
    sent = [
        np.split(placement.places[rank][each.sends], np.cumsum(each.send)[:-1])
        for rank, each in enumerate(behind)
    ]
    for rank, each in enumerate(behind):
        received = [sent[other][rank] for other in range(ranks)]
        assert [part.size for part in received] == list(each.receive)
        ends = np.concatenate(([-1], placement.places[rank], *received))
        here = placement.places[rank] >= 0
        assert (ends[each.found][here] == placement.places[rank][here] - 1).all()
        assert (each.found[~here] == 0).all()


def test_one_rank_sees_its_own_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients of a causal convolution, by blocks and whole."""
    monkeypatch.setattr(before, "trade", lambda x, send, receive, group: x)
    x = torch.randn(2, 24, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 1, 4, dtype=torch.float64)

    def convolved(windows: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv1d(windows.transpose(-1, -2), weight, groups=3)

    placement = Placement.contiguous(22, 8, 1)  # the last block is short
    windows = with_before(x, 1, 3, 8, Behind.of(placement, 0), "")
    assert windows.shape == (2, 3, 11, 3)
    found = convolved(windows.flatten(0, 1)).unflatten(0, (2, 3)).movedim(1, 2).flatten(2)
    truth = convolved(torch.nn.functional.pad(x, (0, 0, 3, 0)))
    torch.testing.assert_close(found, truth)
    grad = torch.randn_like(truth)
    torch.testing.assert_close(
        *(torch.autograd.grad(y, x, grad, retain_graph=True)[0] for y in (found, truth))
    )

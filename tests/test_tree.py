"""`bslang.tree`: its labels are compared with a walk from every token up its parents."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import bslang


def sees(labels: dict[str, torch.Tensor]) -> torch.Tensor:
    """`{q, k : tin[k] <= tin[q] < tout[k]}`, bool (..., length, length)."""
    tin, tout = labels["tin"], labels["tout"]
    of_q = tin[..., :, None]
    return (tin[..., None, :] <= of_q) & (of_q < tout[..., None, :])


def walked(parents: list[int]) -> torch.Tensor:
    """Which tokens each finds on its way to a root, itself included."""
    mask = torch.zeros(len(parents), len(parents), dtype=torch.bool)
    for token in range(len(parents)):
        above = token
        while above != -1:
            mask[token, above] = True
            above = parents[above]
    return mask


@st.composite
def forests(draw: st.DrawFn, most: int = 24) -> list[int]:
    """Parents of a forest whose nodes are numbered in any order."""
    size = draw(st.integers(1, most))
    # Deep and flat trees alike: parents are near, or anywhere before.
    reach = draw(st.integers(1, size))
    above = [draw(st.integers(max(-1, node - reach), node - 1)) for node in range(size)]
    name = draw(st.permutations(range(size))) if draw(st.booleans()) else list(range(size))
    parents = [0] * size
    for node, parent in enumerate(above):
        parents[name[node]] = -1 if parent == -1 else name[parent]
    return parents


@settings(max_examples=60)
@given(parents=forests())
def test_a_query_sees_its_ancestors_and_itself(parents: list[int]) -> None:
    found = bslang.tree(torch.tensor(parents))
    assert found["tin"].dtype == found["tout"].dtype == torch.int32
    assert torch.equal(sees(found), walked(parents))
    assert sorted(found["tin"].tolist()) == list(range(len(parents)))


@settings(max_examples=40)
@given(parents=forests(6), data=st.data())
def test_tokens_of_segments(parents: list[int], data: st.DataObject) -> None:
    segments = data.draw(st.lists(st.integers(0, len(parents) - 1), max_size=20))
    found = sees(bslang.tree(torch.tensor(parents), torch.tensor(segments, dtype=torch.int64)))
    of = torch.tensor(segments, dtype=torch.int64)
    assert torch.equal(found, walked(parents)[of][:, of])


@pytest.mark.parametrize("target", ["torch", "cpu"])
def test_a_prompt_with_answers_is_attention_on_each_path(target: str) -> None:
    """Each answer after its prompt, in one row: outputs and gradients of the rows of the paths."""
    layout = bslang.compile("{q, k : tin[k] <= tin[q] < tout[k]} & causal", block=16, target=target)
    segments = torch.tensor([0] * 30 + [1] * 17 + [2] * 9 + [3] * 5)  # 3 goes on from 2
    labels = bslang.tree(torch.tensor([-1, 0, 0, 2]), segments)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(1, 2, len(segments), 16, generator=generator).requires_grad_() for _ in range(3)
    )
    out = layout(q, k, v, labels=labels)
    last = layout(q[:, :, -7:], k, v, labels=labels)
    assert torch.allclose(last, out[:, :, -7:], atol=1e-6)
    gradients = torch.autograd.grad(out.square().sum(), (q, k, v))
    causal = bslang.compile("causal", block=16, target=target)
    seen = torch.zeros(len(segments), dtype=torch.bool)
    total = torch.zeros(())
    for path in ([0, 1], [0, 2, 3]):
        of_path = torch.isin(segments, torch.tensor(path))
        apart = causal(*(x[:, :, of_path] for x in (q, k, v)))
        assert torch.allclose(apart, out[:, :, of_path], atol=1e-5)
        new = ~seen[of_path]
        total = total + apart[:, :, new].square().sum()
        seen |= of_path
    assert seen.all()
    for found, expected in zip(gradients, torch.autograd.grad(total, (q, k, v)), strict=True):
        assert torch.allclose(found, expected, atol=1e-4)


def test_depth_first_order_is_kept() -> None:
    """Tokens that lie depth first keep their numbers, so that blocks of labels are as narrow as can be."""
    found = bslang.tree(torch.tensor([-1, 0, 1, 1, 0, 4, -1]))
    assert found["tin"].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert found["tout"].tolist() == [6, 4, 3, 4, 6, 6, 7]


def test_a_batch_has_a_tree_in_each_row() -> None:
    rows = [[-1, 0, 1, 2, 3], [4, 4, 0, 0, -1], [-1, -1, -1, -1, -1]]
    for dtype in (torch.int8, torch.int32, torch.int64):
        found = bslang.tree(torch.tensor(rows, dtype=dtype))
        assert torch.equal(sees(found), torch.stack([walked(row) for row in rows]))
    segments = torch.tensor([[0, 0, 1], [1, 4, 4], [2, 2, 2]])
    of_rows = bslang.tree(torch.tensor(rows), segments)
    for row, segment, tin in zip(rows, segments, of_rows["tin"], strict=True):
        assert torch.equal(tin, bslang.tree(torch.tensor(row), segment)["tin"])
    shared = bslang.tree(torch.tensor(rows), segments[0])
    assert shared["tout"].shape == (3, 3)
    assert torch.equal(shared["tout"][1], bslang.tree(torch.tensor(rows[1]), segments[0])["tout"])
    one = bslang.tree(torch.tensor(rows[1]), segments)
    assert torch.equal(one["tin"][0], bslang.tree(torch.tensor(rows[1]), segments[0])["tin"])


def test_long_and_deep_trees() -> None:
    """A chain is as deep as it is long: no step of the walk is a step of Python."""
    length = 100_000
    chain = bslang.tree(torch.arange(length) - 1)
    assert torch.equal(chain["tin"], torch.arange(length, dtype=torch.int32))
    assert (chain["tout"] == length).all()
    star = bslang.tree((torch.arange(length) > 0).int() - 1)
    assert torch.equal(star["tout"][1:], star["tin"][1:] + 1)


def test_no_tokens() -> None:
    nothing = torch.zeros(0, dtype=torch.int64)
    assert bslang.tree(nothing)["tin"].shape == (0,)
    assert bslang.tree(torch.zeros(2, 0, dtype=torch.int64))["tout"].shape == (2, 0)
    assert bslang.tree(torch.tensor([-1]), nothing)["tin"].shape == (0,)


@pytest.mark.parametrize(
    ("parents", "segments", "error", "message"),
    [
        ([-1, 0], None, TypeError, "parents must be a torch.Tensor, not list"),
        (torch.zeros(2), None, TypeError, "parents must be integers .* not torch.float32"),
        (torch.zeros(2, dtype=torch.bool), None, TypeError, "parents must be integers"),
        (torch.tensor(-1), None, ValueError, "parents must have shape"),
        (torch.tensor([-1, 2]), None, ValueError, "parents must be from 0 to 1, or -1 for a root"),
        (torch.tensor([-2, 0]), None, ValueError, "parents must be from 0 to 1, or -1 for a root"),
        (torch.tensor([0]), None, ValueError, "parents have a cycle"),
        (torch.tensor([-1, 2, 3, 1, 0]), None, ValueError, "parents have a cycle"),
        (torch.tensor([[-1, 0], [1, 0]]), None, ValueError, "parents have a cycle"),
        (torch.tensor([-1]), [0], TypeError, "segments must be a torch.Tensor"),
        (torch.tensor([-1]), torch.tensor([0, 1]), ValueError, "segments must be from 0 to 0"),
        (torch.tensor([-1]), torch.tensor([-1]), ValueError, "segments must be from 0 to 0"),
        (
            torch.full((2, 1), -1),
            torch.zeros(3, 4, dtype=torch.int64),
            ValueError,
            "must have one batch; they have 2 and 3 rows",
        ),
        (
            torch.tensor([-1]),
            torch.zeros(1, dtype=torch.int64, device="meta"),
            ValueError,
            "segments must be on the device of parents, cpu, not meta",
        ),
    ],
)
def test_invalid_arguments(
    parents: torch.Tensor,
    segments: torch.Tensor | None,
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        bslang.tree(parents, segments)

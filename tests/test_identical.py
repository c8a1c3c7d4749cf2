"""`make identical` records the same bits twice, and notices one that is not."""

from __future__ import annotations

import torch
from identical import BY_HEAD, CALLS, FAR, Case, differences, record

CASES = (
    Case(BY_HEAD, (16, 16), 40, 16),
    Case(FAR, (16, 16), 50, 16),
    Case("same(doc) & causal", (8, 8), 45, 8, ("doc",)),
)


def test_two_recordings_are_the_same() -> None:
    before, after = (record(CASES, "torch", torch.float32) for _ in range(2))
    for case in CASES:
        results = before[str(case)]
        assert len(results) >= 5 * (len(CALLS) - 1), "a layout with labels has no packed call"
        assert not list(differences(results, after[str(case)]))


def test_a_flipped_bit_is_noticed() -> None:
    before = record(CASES[:1], "torch", torch.float32)[str(CASES[0])]
    after = {what: x.clone() for what, x in before.items()}
    changed = after["square, dk"].view(torch.int32)
    place = int(after["square, dk"].abs().argmax())
    changed.view(-1)[place] ^= 1
    after["one query, out"][0, 0, 0, 0] = torch.nan
    del after["packed, lse"]
    found = {one.what: one.size for one in differences(before, after)}
    assert list(found) == ["square, dk", "one query, out", "packed, lse"]
    assert 0 < found["square, dk"] <= 1
    assert found["one query, out"] == found["packed, lse"] == float("inf")


def test_zeros_of_either_sign_differ() -> None:
    zero, minus = torch.zeros(3), -torch.zeros(3)
    assert [one.size for one in differences({"out": zero}, {"out": minus})] == [0.0]
    assert not list(differences({"out": zero}, {"out": zero.clone()}))

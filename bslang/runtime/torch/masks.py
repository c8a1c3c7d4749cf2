"""What the masks of generated modules call on tensors of positions."""

from __future__ import annotations

import torch


def minimum(a: torch.Tensor | int, b: torch.Tensor | int) -> torch.Tensor:
    """The smaller of two integer tensors or numbers, element by element."""
    return torch.minimum(*_tensors(a, b))


def maximum(a: torch.Tensor | int, b: torch.Tensor | int) -> torch.Tensor:
    """The larger of two integer tensors or numbers, element by element."""
    return torch.maximum(*_tensors(a, b))


def _tensors(a: torch.Tensor | int, b: torch.Tensor | int) -> tuple[torch.Tensor, torch.Tensor]:
    """Both as tensors, on the device of the one that is a tensor."""
    devices = [x.device for x in (a, b) if isinstance(x, torch.Tensor)]
    device = devices[0] if devices else "cpu"
    one, other = (
        x if isinstance(x, torch.Tensor) else torch.tensor(x, dtype=torch.int64, device=device)
        for x in (a, b)
    )
    return one, other


def rank(x: torch.Tensor, edges: list[int]) -> torch.Tensor:
    """How many of some numbers, which ascend, are at most x, element by element."""
    return torch.bucketize(x, torch.tensor(edges, dtype=torch.int64, device=x.device), right=True)


def isqrt(x: torch.Tensor) -> torch.Tensor:
    """The square root of integers that are at least 0, rounded down."""
    root = x.double().sqrt().long()
    root = root - (root * root > x).long()  # a float cannot tell neighbours among large squares
    return root + ((root + 1) * (root + 1) <= x).long()


def log2(x: torch.Tensor) -> torch.Tensor:
    """The logarithm of integers that are at least 1, rounded down."""
    power = torch.frexp(x.double())[1].long() - 1
    return (
        power - (torch.ones_like(power) << power > x).long()
    )  # x may have been rounded up to a power

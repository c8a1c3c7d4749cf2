"""What the masks of generated modules call on tensors of positions."""

from __future__ import annotations

import torch


def minimum(a: torch.Tensor | int, b: torch.Tensor | int) -> torch.Tensor:
    """The smaller of two integer tensors or numbers, element by element."""
    return torch.minimum(torch.as_tensor(a), torch.as_tensor(b))


def maximum(a: torch.Tensor | int, b: torch.Tensor | int) -> torch.Tensor:
    """The larger of two integer tensors or numbers, element by element."""
    return torch.maximum(torch.as_tensor(a), torch.as_tensor(b))

"""Tokens in the order of a layout and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache

import torch

from bslang.ir.order import Order


class Permutes(ABC):
    """What a layout does with the order of its tokens (`order tiles(...)` in its spec).

    The tokens of q, k and v, and whatever else a call gives for each token, are in this order. A model
    permutes its tokens once, where they enter it, and back where they leave it; the positions of its tokens
    are `order(length)`. Of a layout without an order, each method leaves tokens as they are.
    """

    @property
    @abstractmethod
    def _order(self) -> Order | None:
        """The order of its tokens, None where it has none."""

    def order(self, length: int, device: torch.device | str | None = None) -> torch.Tensor:
        """int64 (length,): for each place, the position of its token, its number in the grid row by row.

        Raises ValueError if the layout's order has another number of tokens.
        """
        return self._indices(length, torch.device(device or "cpu"), back=False)

    def permute(self, x: torch.Tensor, dim: int = -2) -> torch.Tensor:
        """x with its tokens, row by row along a dimension, in the order of the layout; differentiable.

        Raises ValueError if the dimension has another length than the order, IndexError for a dimension
        that x lacks.
        """
        return self._moved(x, dim, back=False)

    def unpermute(self, x: torch.Tensor, dim: int = -2) -> torch.Tensor:
        """The inverse of `permute`."""
        return self._moved(x, dim, back=True)

    def _moved(self, x: torch.Tensor, dim: int, *, back: bool) -> torch.Tensor:
        length = x.shape[dim]
        if self._order is None:
            return x
        return x.index_select(dim, self._indices(length, x.device, back=back))

    def _indices(self, length: int, device: torch.device, *, back: bool) -> torch.Tensor:
        order = self._order
        if order is None:
            return torch.arange(length, dtype=torch.int64, device=device)
        if length != order.length:
            raise ValueError(
                f"`order {order}` is of {order.length} tokens, and there are {length} here: pass the "
                "dimension of the tokens as dim"
            )
        if torch.compiler.is_compiling():  # a traced program computes them where it runs
            return _computed(order, device, back)
        return _indices(order, device, back)


def _computed(order: Order, device: torch.device, back: bool) -> torch.Tensor:
    """int64 (length,): what `permute`, or its inverse, takes for each token."""
    found: torch.Tensor = order.rank(
        torch.arange(order.length, dtype=torch.int64, device=device)
    ).argsort()
    return found.argsort() if back else found


_indices = lru_cache(maxsize=16)(_computed)
"""The same, of the orders and devices that were asked for last."""

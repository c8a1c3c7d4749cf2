"""Arguments of rules, checked. Every message names the argument, what came, and what fits."""

from __future__ import annotations

import torch


def positive(name: str, value: object) -> None:
    """Raise TypeError or ValueError where a size is not an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer of at least 1, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be an integer of at least 1, not {value}")


def fraction(name: str, value: object) -> None:
    """Raise TypeError or ValueError where a share is not a number above 0, up to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number above 0, up to 1, not {value!r}")
    if not 0 < value <= 1:
        raise ValueError(f"{name} must be a number above 0, up to 1, not {value}")


def one_of(name: str, value: object, *known: str) -> None:
    """Raise ValueError where a choice is not a known one."""
    if value not in known:
        words = ", ".join(repr(word) for word in known[:-1])
        raise ValueError(f"{name} must be {words} or {known[-1]!r}, not {value!r}")


def tensor(name: str, value: object, shape: str) -> None:
    """Raise TypeError or ValueError where an argument is not a real tensor; shape: "(batch, length)"."""
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, not {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must hold real numbers, not {value.dtype}")
    if value.dim() != shape.count(",") + 1:
        raise ValueError(f"{name} must be {shape}; its shape is {tuple(value.shape)}")


def pair(q: torch.Tensor, k: torch.Tensor, of_k: str = "k") -> None:
    """Raise TypeError or ValueError where queries and keys do not fit.

    q: (batch, heads, length, dim); k: (batch or 1, key heads, length, dim), key heads divide heads.
    """
    for name, given in (("q", q), (of_k, k)):
        tensor(name, given, "(batch, heads, length, dim)")
    if q.device != k.device:
        raise ValueError(f"{of_k} must be on the device of q, {q.device}, not {k.device}")
    if k.shape[0] != q.shape[0] and k.shape[0] != 1:
        raise ValueError(
            f"{of_k} must have the batch size of q, {q.shape[0]}, or 1; it has {k.shape[0]}"
        )
    if q.shape[3] != k.shape[3] or q.shape[3] == 0:
        raise ValueError(
            f"{of_k} must have the dimension of q, at least 1; they have {k.shape[3]} and {q.shape[3]}"
        )
    if k.shape[1] == 0 or q.shape[1] % k.shape[1]:
        raise ValueError(f"the heads of {of_k}, {k.shape[1]}, must divide those of q, {q.shape[1]}")

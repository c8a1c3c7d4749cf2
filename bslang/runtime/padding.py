"""Key padding: keys of a call that no query sees, in batches of sequences of several lengths.

Padding is a label that all queries have as 0 and padded keys as 1, in a layout that is narrowed by
`same` of it: kernels then skip and unmask blocks as for packed documents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from bslang.runtime.layout import Layout

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def take_padding(given: Any, k: torch.Tensor) -> torch.Tensor | None:
    """The key padding of a call as bool (batch, len_k), True where a key is padding; None for none.

    given: that, or integers (batch,), how many keys each sequence has, where padding stands on the
    right. Raises TypeError or ValueError where it does not fit k (batch, key heads, len_k, dim).
    """
    if given is None:
        return None
    batch, length = k.shape[0], k.shape[2]
    if not isinstance(given, torch.Tensor):
        raise TypeError(f"key_padding must be a torch.Tensor, not {type(given).__name__}")
    if given.device != k.device:
        raise ValueError(
            f"key_padding must be on the device of the tensors, {k.device}, not {given.device}"
        )
    if given.dtype == torch.bool and given.shape == (batch, length):
        return given.detach()
    if given.dtype in _INTEGERS and given.shape == (batch,):
        return torch.arange(length, device=k.device) >= given.detach()[:, None]
    raise ValueError(
        f"key_padding must be bool ({batch}, {length}), True for padding, or integers ({batch},), the "
        f"lengths; it is {given.dtype} {tuple(given.shape)}"
    )


def hidden(layout: Layout) -> Layout:
    """The layout that asks for the label of padding as well."""
    from bslang.runtime.modules import rebuilt

    spec = f"({layout.spec}) & same({_name(layout)})"
    return rebuilt(
        layout.name, spec, layout.block, layout.targets, layout.layer, layout.table_files()
    )


def _name(layout: Layout) -> str:
    name = "padding"
    while name in layout.labels:
        name += "_"
    return name


def with_padding(
    padding: torch.Tensor,
    len_q: int,
    q_labels: torch.Tensor | None,
    k_labels: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The labels (labels, batch, length) that `hidden(layout)` takes.

    padding: as `take_padding` gives it; q_labels, k_labels: those of the layout itself, None for none.
    """
    of_k = padding.to(torch.int32)[None]
    of_q = of_k.new_zeros((1, padding.shape[0], len_q))
    if q_labels is None or k_labels is None:
        return of_q, of_k
    # The label of padding stands last in the spec, and labels are in the order of the spec.
    return torch.cat((q_labels, of_q)), torch.cat((k_labels, of_k))

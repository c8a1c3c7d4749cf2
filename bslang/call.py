"""What a call says beside its tensors: the options of a layout's call, checked, and as operators and
kernels take them.

A new option is a key of `Options`, a field of `Call` and its check here, and the kernels that read it:
`Layout`, its packed calls, modules and generated code pass options on, and the operators take whatever
`Call.pack` makes of them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeAlias, TypedDict

# torch is imported where there are tensors: the compiler reads NUMBERS, and starts without it.
if TYPE_CHECKING:
    import torch
    from typing_extensions import Unpack

Label: TypeAlias = "torch.Tensor | tuple[torch.Tensor, torch.Tensor]"
"""Integers (batch, length) or (length,): of the key positions, or of (queries, keys)."""

LabelsOfCall: TypeAlias = "Label | Mapping[str, Label]"
"""One label by itself, or labels by name."""

SOFTCAPS = (1e-30, 1e30)
"""Least and greatest soft cap: what kernels compute with it in fp32 stays finite."""

_LARGEST = sys.float_info.max

_NARROW = ("int32", "int16", "int8", "uint8")
"""Dtypes that int32 holds as they are."""

_INTEGERS = ("int64", *_NARROW)

_LEAST, _GREATEST = -(2**31), 2**31 - 1
"""Of int32."""


class Options(TypedDict, total=False):
    """The options of a call, all of which may be left out.

    softcap: the size that scaled scores s stay below, as softcap * tanh(s / softcap), before the layout
    chooses among them (Gemma 2: arXiv 2408.00118, section 2); None leaves them as they are. align: "end"
    puts the queries at the last positions of the keys, "start" at the first. labels: for a layout with
    `same(doc)`, {"doc": integers of the key positions, (batch, len_k) or (len_k,)}, or that tensor alone;
    with align="start" a pair of them, of queries and of keys. key_padding: keys that no query sees: bool
    (batch, len_k), True for padding as in torch's key_padding_mask, or integers (batch,), how many keys
    each sequence has, padded on the right.
    """

    softcap: float | None
    align: str
    labels: LabelsOfCall | None
    key_padding: torch.Tensor | None


_NAMES = ("scale", *Options.__annotations__)


@dataclass(frozen=True, eq=False)
class Labels:
    """Run-time labels in the order of the layout's names: q, k: int32 (labels, batch, len_q or len_k)."""

    q: torch.Tensor
    k: torch.Tensor

    def ranges(self, q_start: int, block: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """int32 (labels, batch, blocks, 2): the least and the greatest label of each block of queries, from
        the first on, and of each block of keys. q_start: position of the first query; block: tokens (query,
        key)."""
        return _ranges(self.q, q_start % block[0], block[0]), _ranges(self.k, 0, block[1])


FLOAT, CONSTANT = "float", "constant"
"""How kernels take a number of a call: as an argument, or as a constant of what is compiled."""


@dataclass(frozen=True, eq=False)
class Call:
    """What a call says beside q, k and v, checked.

    scale: what scores are multiplied by; softcap: 0 for none; align: "end" or "start"; labels: those of the
    call, for a layout that has some; padding: bool (batch, len_k), True where a key is padding.
    """

    scale: float = field(metadata={"kernel": FLOAT})
    softcap: float = field(default=0.0, metadata={"kernel": CONSTANT})
    align: str = "end"
    labels: Labels | None = None
    padding: torch.Tensor | None = None

    @classmethod
    def of(
        cls,
        q: torch.Tensor,
        k: torch.Tensor,
        names: tuple[str, ...],
        scale: float | None = None,
        **options: Unpack[Options],
    ) -> Call:
        """The call that a user means. q: (batch, heads, len_q, dim); k: (batch, key heads, len_k, dim);
        names: of the layout's labels; scale: 1/sqrt(dim) for None.

        Raises TypeError or ValueError for an option that is unknown or does not fit the tensors.
        """
        if unknown := [name for name in options if name not in _NAMES]:
            close = get_close_matches(unknown[0], _NAMES, 1)
            guess = f"; did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"a layout's call got an unexpected option {unknown[0]!r}{guess}")
        check_scale(scale)
        align = options.get("align", "end")
        if align not in ("end", "start"):
            raise ValueError(f'align is "end" or "start", not {align!r}')
        return cls(
            float(q.shape[-1] ** -0.5 if scale is None else scale),
            check_softcap(options.get("softcap")),
            align,
            take_labels(options.get("labels"), names, q, k, align),
            take_padding(options.get("key_padding"), k),
        )

    @property
    def constants(self) -> dict[str, float]:
        """The numbers that are compiled into kernels, by the names that they have there."""
        return {n.upper(): getattr(self, n) for n, kind in NUMBERS.items() if kind == CONSTANT}

    def pack(self) -> tuple[list[torch.Tensor], list[float], str]:
        """The call as operators take it: tensors, numbers, and what they are: the alignment and the
        tensors' names.

        A number that is new comes last, so that programs exported before still run.
        """
        tensors = {"padding": self.padding}
        if self.labels is not None:
            tensors |= {"q_labels": self.labels.q, "k_labels": self.labels.k}
        given = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        numbers = [getattr(self, name) for name in NUMBERS]
        return list(given.values()), numbers, " ".join((self.align, *given))

    @classmethod
    def unpack(cls, tensors: Sequence[torch.Tensor], numbers: Sequence[float], about: str) -> Call:
        """The inverse of `pack`."""
        align, *names = about.split()
        given = dict(zip(names, tensors, strict=True))
        labels = Labels(given["q_labels"], given["k_labels"]) if "q_labels" in given else None
        # Numbers of a program exported before one was new lack the last: they have its default.
        known: dict[str, Any] = dict(zip(NUMBERS, numbers, strict=False))
        return cls(**known, align=align, labels=labels, padding=given.get("padding"))

    def padding_as_label(self, len_q: int) -> Call:
        """The call of a layout that is narrowed by `same` of one more label, in place of the padding.

        All queries have that label as 0, and padded keys as 1: kernels then skip and unmask blocks as for
        packed documents. It comes last, as it does in the narrowed layout.
        """
        import torch

        assert self.padding is not None
        of_k = self.padding.to(torch.int32)[None]
        of_q = of_k.new_zeros((1, of_k.shape[1], len_q))
        if self.labels is not None:
            of_q, of_k = torch.cat((self.labels.q, of_q)), torch.cat((self.labels.k, of_k))
        return replace(self, labels=Labels(of_q, of_k), padding=None)


NUMBERS = {f.name: f.metadata["kernel"] for f in fields(Call) if "kernel" in f.metadata}
"""The numbers of a call that kernels take, by name: FLOAT or CONSTANT."""


# ---- numbers -----------------------------------------------------------------------------------


def check_scale(scale: float | None) -> None:
    """Raise TypeError or ValueError for what is not a scale of scores."""
    if scale is None:
        return
    if not _is_number(scale):
        raise TypeError(f"scale is a number or None, not {type(scale).__name__}")
    if not -_LARGEST <= scale <= _LARGEST:  # of a traced program too, which math.isfinite is not
        raise ValueError(f"scale is a finite number or None, not {scale!r}")


def check_softcap(softcap: float | None) -> float:
    """The soft cap as kernels take it, 0.0 for None. Raises ValueError for what is not a cap."""
    if softcap is None:
        return 0.0
    least, most = SOFTCAPS
    number = _is_number(softcap)
    if number and least <= softcap <= most:
        return float(softcap)
    found = repr(softcap) if number else type(softcap).__name__
    raise ValueError(f"softcap is None or a number from {least:g} to {most:g}, not {found}")


def _is_number(x: object) -> bool:
    """Whether x is an int or a float, or one that stands for those of a traced program."""
    import torch

    kinds = (int, float, torch.SymInt, torch.SymFloat)
    return isinstance(x, kinds) and not isinstance(x, bool)


# ---- key padding -------------------------------------------------------------------------------


def take_padding(given: Any, k: torch.Tensor) -> torch.Tensor | None:
    """The key padding of a call as bool (batch, len_k), True where a key is padding; None for none.

    given: that, or integers (batch,), how many keys each sequence has, where padding stands on the
    right. Raises TypeError or ValueError where it does not fit k (batch, key heads, len_k, dim).
    """
    import torch

    if given is None:
        return None
    batch, length = k.shape[0], k.shape[2]
    if not isinstance(given, torch.Tensor):
        raise TypeError(f"key_padding must be a torch.Tensor, not {type(given).__name__}")
    if given.device != k.device:
        raise ValueError(
            f"key_padding must be on the device of the tensors, {k.device}, not {given.device}"
        )
    if given.dtype == torch.bool and _has_shape(given, batch, length):
        return given.detach()
    if _dtype(given) in _INTEGERS and _has_shape(given, batch):
        return torch.arange(length, dtype=torch.int64, device=k.device) >= given.detach()[:, None]
    raise ValueError(
        f"key_padding must be bool ({batch}, {length}), True for padding, or integers ({batch},), the "
        f"lengths; it is {given.dtype} {tuple(given.shape)}"
    )


# ---- labels ------------------------------------------------------------------------------------


def take_labels(
    given: Any, names: tuple[str, ...], q: torch.Tensor, k: torch.Tensor, align: str
) -> Labels | None:
    """The labels of a call; None for a layout without labels.

    given: what a call got as `labels`. Raises TypeError or ValueError where they do not fit
    q (batch, heads, len_q, dim) and k (batch, key heads, len_k, dim).
    """
    import torch

    if not names:
        if given is not None:
            raise TypeError("this layout has no labels; leave `labels` out")
        return None
    known = ", ".join(names)
    if given is None:
        example = ", ".join(f"{name!r}: tensor" for name in names)
        raise TypeError(f"this layout needs labels: pass labels={{{example}}}")
    if not isinstance(given, Mapping):
        if len(names) > 1:
            raise TypeError(f"this layout has several labels; pass a mapping with {known}")
        given = {names[0]: given}
    if unknown := [name for name in given if name not in names]:
        raise ValueError(f"this layout has no label {unknown[0]!r}; its labels: {known}")
    if missing := [name for name in names if name not in given]:
        raise ValueError(f"label {missing[0]!r} is missing; the layout's labels: {known}")
    pairs = [_pair(given[name], name, q, k, align) for name in names]
    return Labels(*(torch.stack(side) for side in zip(*pairs, strict=True)))


def _pair(
    given: Any, name: str, q: torch.Tensor, k: torch.Tensor, align: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """One label of the queries and of the keys, int32 (batch, length)."""
    import torch

    batch, len_q, len_k = q.shape[0], q.shape[2], k.shape[2]
    if align == "end":
        if isinstance(given, tuple | list):
            raise TypeError(
                f"label {name!r} must be one tensor, of the keys: the queries are the last of them. "
                'A pair is for align="start"'
            )
        of_k = _narrow(_checked(given, f"label {name!r}", batch, len_k, k.device))
        return of_k[:, len_k - len_q :], of_k
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise TypeError(
            f'with align="start", label {name!r} must be a pair (labels of queries, labels of keys)'
        )
    of_q = _checked(given[0], f"label {name!r} of the queries", batch, len_q, q.device)
    of_k = _checked(given[1], f"label {name!r} of the keys", batch, len_k, k.device)
    both = _narrow(torch.cat((of_q, of_k), -1))
    return both[:, :len_q], both[:, len_q:]


def _checked(given: Any, what: str, batch: int, length: int, device: torch.device) -> torch.Tensor:
    """A tensor of labels as (batch, length)."""
    import torch

    if not isinstance(given, torch.Tensor):
        raise TypeError(f"{what} must be a torch.Tensor, not {type(given).__name__}")
    if _dtype(given) not in _INTEGERS:
        raise TypeError(
            f"{what} must be integers (int64, int32, int16, int8 or uint8), not {given.dtype}"
        )
    if given.device != device:
        raise ValueError(
            f"{what} must be on the device of the tensors, {device}, not {given.device}"
        )
    if not (_has_shape(given, length) or _has_shape(given, batch, length)):
        raise ValueError(
            f"{what} must have shape ({length},) or ({batch}, {length}); it has {tuple(given.shape)}"
        )
    return given.detach().expand(batch, length)


def _narrow(x: torch.Tensor) -> torch.Tensor:
    """Labels (batch, length) as int32 that are equal where they are.

    Wider ones may not fit, and become the position at which each first stands: that needs no look at
    the values, so no wait for the device.
    """
    import torch

    if _dtype(x) in _NARROW:
        return x.to(torch.int32)
    value, order = x.sort(dim=-1, stable=True)
    new = value.diff(dim=-1, prepend=value[:, :1] - 1) != 0
    place = torch.arange(x.shape[1], dtype=torch.int64, device=x.device)
    start = torch.where(new, place, 0).cummax(-1).values
    return torch.empty_like(order).scatter(-1, order, order.gather(-1, start)).to(torch.int32)


def _ranges(x: torch.Tensor, before: int, block: int) -> torch.Tensor:
    import torch

    least = _blocks(x, before, block, _GREATEST).amin(-1)
    return torch.stack((least, _blocks(x, before, block, _LEAST).amax(-1)), -1)


def _blocks(x: torch.Tensor, before: int, block: int, fill: int) -> torch.Tensor:
    """(..., length) cut into blocks (..., blocks, block), with `before` places and a short end filled."""
    from torch.nn.functional import pad

    after = -(before + x.shape[-1]) % block
    padded = pad(x, (before, after), value=fill)
    return padded.reshape(*x.shape[:-1], padded.shape[-1] // block, block)


def _has_shape(x: torch.Tensor, *shape: int) -> bool:
    """Whether x has a shape. Where x.dim() is another no lengths are compared, so that a traced program
    holds for batches that happen to be as large as its sequences are long."""
    return x.dim() == len(shape) and x.shape == shape


def _dtype(x: torch.Tensor) -> str:
    """The name of a tensor's dtype: "int32"."""
    return str(x.dtype).removeprefix("torch.")

"""What a call says beside its tensors: the options of a layout's call, checked, and as operators and
kernels take them.

A new option is a key of `Options`, a field of `Call` and its check here, and the kernels that read it:
`Layout`, its packed calls, modules and generated code pass options on, and the operators take whatever
`Call.pack` makes of them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypedDict

from bslang.inputs import Inputs
from bslang.labels import Labels, take_labels, take_padding
from bslang.lengths import check_align, last_positions, take_lengths
from bslang.pages import keys_of, take_pages
from bslang.selections import take_selections
from bslang.sinks import take_sinks

# torch is imported where there are tensors: the compiler reads NUMBERS, and starts without it.
if TYPE_CHECKING:
    import torch
    from typing_extensions import Unpack

    from bslang.labels import LabelsOfCall
    from bslang.selections import Selected, SelectionsOfCall

SOFTCAPS = (1e-30, 1e30)
"""Least and greatest soft cap: what kernels compute with it in fp32 stays finite."""

_LARGEST = sys.float_info.max


class Options(TypedDict, total=False):
    """The options of a call. All are optional.

    softcap: the bound of scaled scores s, as softcap * tanh(s / softcap), applied before the mask (Gemma
    2: arXiv 2408.00118, section 2); None does not cap. align: "end" makes the queries the last positions
    of the keys, "start" the first. labels: for a layout with `same(doc)`, {"doc": integers of the key
    positions, (batch, len_k) or (len_k,)}, or that tensor alone; if queries have their own labels, and
    always with align="start", a pair (of queries, of keys); labels that differ from head to head have
    shape (batch, heads or key heads, length), one that only queries or only keys are asked for is theirs
    alone, and `x[b]` is (batch,). select: for a layout with `select(pick)`, {"pick": value}, or that
    value alone: which cells are listed, bool (batch or 1, G, R, C), or column cells, int32 or int64
    (batch or 1, G, R, K), of which those outside of 0 .. C - 1 are no cell; G is 1, key heads or heads,
    and head h reads h * G // heads; R counts the cells of the queries, by position, and C those of the
    keys. key_padding: keys that no query sees: bool (batch, len_k), True for padding as in torch's
    key_padding_mask, or integers (batch,), the number of keys of each sequence, padded on the right. With
    fewer queries than keys, the queries are the last keys, and padding must not cover them. lengths: int32
    or int64 (batch,), from 0 to len_k, for rows of a batch that end at different places, as in a cache: row
    b has the keys 0 to lengths[b] - 1, and its queries are the last of these, query x at position
    lengths[b] - len_q + x. What k and v hold beyond is not read. A query before position 0 sees nothing. It
    needs a layout that is prefix-stable (`Layout.prefix_stable`); labels of keys are (batch, len_k), from
    which queries have those of their positions; of a selection, line 0 holds the first query of each row
    that is not before position 0, and R is the most cells that len_q queries touch, (len_q + rows - 2) //
    rows + 1. sinks: real numbers (heads,), a logit per query head that joins the denominator of the softmax
    and has no value (gpt-oss; arXiv 2309.17453, section 3.3): weights are exp(s) / (sum of exp(s) +
    exp(sink)). It is neither scaled nor capped, lse is that of the keys alone, and it has a gradient.
    first_head: the model's number of the first head of q, if q has only some of the model's heads, as on a
    rank of tensor parallelism; see `Layout.at_heads`. Default: 0. pages: int32 (batch, columns), or
    (batch, key heads, columns) where key heads have their own: the block tables of a serving engine. k and v
    are pools (pages, key heads, page size, dim), and key t of row b is at place t % page size of page
    pages[b, t // page size]. The page size is a multiple of 16 and need not be the layout's block; -1 is
    where there is no page, as of what has left a cache (`Layout.reachable`) and after the end of a row. A
    query that reads a key there has NaN as output. It needs `lengths`, up to columns * page size, which is
    len_k for the other options. If all rows have as many keys, `lengths` may be an int: that is len_k
    then, and nothing waits for a GPU. There are no gradients.
    """

    softcap: float | None
    align: str
    labels: LabelsOfCall | None
    select: SelectionsOfCall | None
    key_padding: torch.Tensor | None
    lengths: torch.Tensor | int | None
    sinks: torch.Tensor | None
    first_head: int
    pages: torch.Tensor | None


_NAMES = ("scale", *Options.__annotations__)


_MASK = (
    "the layout is the mask; bslang.from_dense and bslang.from_flex make a layout from a mask. Pass padding "
    "as key_padding, and packed documents as labels"
)
_CAUSAL = "for a causal layout, intersect it with `causal`: bslang.compile('... & causal')"
_NO_DROPOUT = "dropout of attention weights is not supported; apply dropout to the output instead"
_PACKED = "for packed sequences, call layout.packed(q, k, v, cu_seqlens)"
_PAGES = "write pages, int32 (batch, columns), beside lengths; k and v are (pages, key heads, page size, dim)"
_ELSEWHERE = {
    "attn_mask": _MASK,
    "attention_mask": _MASK,
    "mask": _MASK,
    "block_mask": _MASK,
    "is_causal": _CAUSAL,
    "causal": _CAUSAL,
    "dropout_p": _NO_DROPOUT,
    "dropout": _NO_DROPOUT,
    "window_size": "a window is part of the layout: bslang.compile('last(256t) & causal')",
    "sliding_window": "a window is part of the layout: bslang.compile('last(256t) & causal')",
    "score_mod": "scores can only be capped (softcap); which pairs count is up to the layout",
    "enable_gqa": "leave it out: k and v may have fewer heads than q",
    "softmax_scale": "write scale",
    "sm_scale": "write scale",
    "scaling": "write scale",
    "logits_soft_cap": "write softcap",
    "key_padding_mask": "write key_padding",
    "return_softmax_lse": "write return_lse",
    **dict.fromkeys(("seqlens", "seq_lens", "cache_seqlens", "seqused_k"), "write lengths"),
    **dict.fromkeys(
        ("s_aux", "sink", "attn_sink", "attention_sink", "learnable_sink"), "write sinks"
    ),
    **dict.fromkeys(
        (
            "block_tables",
            "block_table",
            "page_table",
            "page_tables",
            "paged_kv_indices",
            "kv_indices",
        ),
        _PAGES,
    ),
    "cu_seqlens": _PACKED,
    "cu_seqlens_q": _PACKED,
    "cu_seqlens_k": _PACKED,
}
"""What other libraries call the options of attention, and what to write here."""


def _advice(name: str) -> str:
    """What to write in the place of an option that calls do not have, as the end of a sentence."""
    if name in _ELSEWHERE:
        return f": {_ELSEWHERE[name]}"
    close = get_close_matches(name, _NAMES, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


FLOAT, CONSTANT = "float", "constant"
"""How kernels take a number of a call: as an argument, or as a constant of what is compiled."""


@dataclass(frozen=True, eq=False)
class Call:
    """What a call says beside q, k and v, checked.

    scale: what scores are multiplied by; softcap: 0 for none; align: "end" or "start"; labels: those of the
    call, for a layout that has some; selections: their values, each of a name, and
    `selected` what kernels take of them; padding: bool (batch, len_k), True where a key is padding; sinks:
    (heads,) in the dtype of log-sum-exps, or (heads, len_q) where queries are heads
    (`bslang.runtime.grouped`); lengths: int64 (batch,), the keys of each row of the batch.

    q_pages, k_pages: int32 (batch, heads or 1, blocks), where the blocks of queries and of keys lie: the
    tensors of a side with pages are (pages, heads, page size, dim), and so is what is written for it; -1 for
    a block that is not there, which is not read. (heads: query heads for q, key heads for k.) keys: how many
    keys there are, of which the last page need not be full; None where pages are.
    """

    scale: float = field(metadata={"kernel": FLOAT})
    softcap: float = field(default=0.0, metadata={"kernel": CONSTANT})
    align: str = "end"
    labels: Labels | None = None
    padding: torch.Tensor | None = None
    sinks: torch.Tensor | None = None
    lengths: torch.Tensor | None = None
    selections: tuple[torch.Tensor, ...] = ()
    selected: tuple[Selected, ...] = ()
    q_pages: torch.Tensor | None = None
    k_pages: torch.Tensor | None = None
    keys: int | None = None

    @classmethod
    def of(
        cls,
        q: torch.Tensor,
        k: torch.Tensor,
        inputs: Inputs,
        scale: float | None = None,
        *,
        placed: bool = True,
        **options: Unpack[Options],
    ) -> Call:
        """The call that a user means. q: (batch, heads, len_q, dim); k: (batch, key heads, len_k, dim), or
        with `pages` a pool; inputs: what the layout's calls give; scale: 1/sqrt(dim) for None; placed:
        `CallableLayout._places`.

        Raises TypeError or ValueError for an option that is unknown or does not fit the tensors.
        """
        if unknown := [name for name in options if name not in _NAMES]:
            raise TypeError(
                f"a layout's call got an unexpected option {unknown[0]!r}{_advice(unknown[0])}"
            )
        check_scale(scale)
        scale = float(q.shape[-1] ** -0.5 if scale is None else scale)
        if not options and not inputs:  # as most calls
            return cls(scale)
        align = options.get("align", "end")
        if align not in ("end", "start"):
            raise ValueError(f'align must be "end" or "start", not {align!r}')
        padding = options.get("key_padding")
        pages, keys = take_pages(options.get("pages"), q, k, options.get("lengths"), padding)
        if pages is not None:
            k = keys_of(k, pages, keys)
        lengths = None
        if keys is None:
            lengths = take_lengths(options.get("lengths"), q, k, align, padding)
        else:
            check_align(align)
        positions = None
        if inputs.labels and lengths is not None:
            positions = last_positions(lengths, q.shape[2])
        return cls(
            scale,
            check_softcap(options.get("softcap")),
            align,
            take_labels(options.get("labels"), inputs.labels, q, k, align, positions),
            take_padding(padding, q, k, placed and align == "end"),
            take_sinks(options.get("sinks"), q),
            lengths,
            take_selections(
                options.get("select"), inputs.selections, q, k, align, ended=lengths is not None
            ),
            k_pages=pages,
            keys=keys,
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
        import torch

        given = self._given()
        if self.keys is not None and self.k_pages is not None:  # which traced programs have open
            rows = self.k_pages.shape[:1]
            given["lengths"] = self.k_pages.new_full(rows, self.keys, dtype=torch.int64)
        numbers = [getattr(self, name) for name in NUMBERS]
        return list(given.values()), numbers, " ".join((self.align, *given))

    @classmethod
    def unpack(cls, tensors: Sequence[torch.Tensor], numbers: Sequence[float], about: str) -> Call:
        """The inverse of `pack`."""
        align, *names = about.split()
        given = dict(zip(names, tensors, strict=True))
        labels = None
        if "q_labels" in given:
            # Those of a program exported before labels had heads are (labels, batch, length).
            q, k = (
                x[:, :, None] if x.dim() == 3 else x for x in (given["q_labels"], given["k_labels"])
            )
            labels = Labels(q, k)
        # Numbers of a program exported before one was new lack the last: they have its default.
        known: dict[str, Any] = dict(zip(NUMBERS, numbers, strict=False))
        known |= {name: given.get(name) for name in _TENSORS}
        selections = [tensor for name, tensor in given.items() if name.startswith("select")]
        return cls(**known, align=align, labels=labels, selections=tuple(selections))

    def batch(self, q: torch.Tensor) -> int:
        """The sequences of a call with these queries."""
        return q.shape[0] if self.q_pages is None else self.q_pages.shape[0]

    def len_k(self, k: torch.Tensor) -> int:
        """How many keys there are, or may be."""
        if self.keys is not None:
            return self.keys
        return k.shape[2] if self.k_pages is None else self.k_pages.shape[2] * k.shape[2]

    @cached_property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """Those of the call."""
        return tuple(self._given().values())

    def _given(self) -> dict[str, torch.Tensor]:
        tensors = {
            name: getattr(self, name) for name in _TENSORS if getattr(self, name) is not None
        }
        if self.labels is not None:
            tensors |= {"q_labels": self.labels.q, "k_labels": self.labels.k}
        if self.selections:
            tensors |= {f"select{i}": value for i, value in enumerate(self.selections)}
        return tensors

    def row(self, number: int, len_q: int, len_k: int) -> Call:
        """The call of one row of a batch with lengths, of its last len_q queries and its len_k keys."""
        labels = self.labels
        if labels is not None:
            one = slice(number, number + 1)
            cut = labels.q.shape[-1] - len_q
            labels = Labels(labels.q[:, one, :, cut:], labels.k[:, one, :, :len_k])
        # Lines and columns that the row lacks are cut where its length is known, from its inputs.
        selections = tuple(x[number : number + 1] if x.shape[0] > 1 else x for x in self.selections)
        made = replace(self, labels=labels, selections=selections, lengths=None)
        if self.k_pages is None:
            return made
        return replace(made, k_pages=self.k_pages[number : number + 1], keys=len_k)

    def padding_as_label(self, len_q: int) -> Call:
        """The call of a layout that is narrowed by `same` of one more label, in place of the padding.

        All queries have that label as 0, and padded keys as 1: kernels then skip and unmask blocks as for
        packed documents. It comes last, as it does in the narrowed layout.
        """
        import torch

        assert self.padding is not None
        of_k = self.padding.to(torch.int32)[None, :, None]
        of_q = of_k.new_zeros((1, of_k.shape[1], 1, len_q))
        if self.labels is not None:
            q, k = self.labels.q, self.labels.k
            of_q, of_k = (x.expand(-1, -1, q.shape[2], -1) for x in (of_q, of_k))
            of_q, of_k = torch.cat((q, of_q)), torch.cat((k, of_k))
        return replace(self, labels=Labels(of_q, of_k), padding=None)


_TENSORS = ("padding", "sinks", "lengths", "q_pages", "k_pages")
"""The tensors of a call, but for labels, which come in two."""

NUMBERS = {f.name: f.metadata["kernel"] for f in fields(Call) if "kernel" in f.metadata}
"""The numbers of a call that kernels take, by name: FLOAT or CONSTANT."""


# ---- numbers -----------------------------------------------------------------------------------


def check_scale(scale: float | None) -> None:
    """Raise TypeError or ValueError for what is not a scale of scores."""
    if scale is None:
        return
    if not _is_number(scale):
        hint = (
            f" (no mask is passed: {_MASK})"
            if type(scale).__name__ in ("Tensor", "BlockMask")
            else ""
        )
        raise TypeError(f"scale must be a number or None, not {type(scale).__name__}{hint}")
    if not -_LARGEST <= scale <= _LARGEST:  # of a traced program too, which math.isfinite is not
        raise ValueError(f"scale must be a finite number or None, not {scale!r}")


def check_softcap(softcap: float | None) -> float:
    """The soft cap as kernels take it, 0.0 for None. Raises ValueError for what is not a cap."""
    if softcap is None:
        return 0.0
    least, most = SOFTCAPS
    number = _is_number(softcap)
    if number and least <= softcap <= most:
        return float(softcap)
    found = repr(softcap) if number else type(softcap).__name__
    raise ValueError(f"softcap must be None or a number from {least:g} to {most:g}, not {found}")


def _is_number(x: object) -> bool:
    """Whether x is an int or a float, or one that stands for those of a traced program."""
    import torch

    kinds = (int, float, torch.SymInt, torch.SymFloat)
    return isinstance(x, kinds) and not isinstance(x, bool)

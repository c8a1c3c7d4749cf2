"""A cache of transformers that keeps what the layouts of a model still read.

A model hands new keys and values to its cache, and what it gets back to its attention function. This cache
gives back an object that stands for them, `Added`. They are put into pages when a layout's attention takes
that object, since only there it is known which tokens are padding: padding is not kept.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from bslang.layouts import Layout
from bslang.nn import KVCache

Tensor = torch.Tensor


class LayoutCache(Cache):  # type: ignore[misc]  # transformers is not typed for strict subclasses
    """The `past_key_values` of a model with layouts: keys and values that a later query may read, in pages.

    A layer with a window and sinks needs memory for these, whatever the length; one with `causal` keeps all.
    Results are those of a `DynamicCache`. A cache serves one batch. Beam search may reorder it, and assisted
    generation crop it: what was added last can always be removed.
    """

    def __init__(self, max_length: int | None = None) -> None:
        """max_length: the most tokens of a sequence, those of the prompt included. Without it, what may leave
        a layer is decided for sequences up to 131,072 tokens (see `bslang.nn.KVCache`). Raises ValueError
        unless it is None or at least 1."""
        KVCache(max_length)
        self.max_length = max_length
        super().__init__(layer_class_to_replicate=lambda: _Layer(max_length))

    @property
    def nbytes(self) -> int:
        """Bytes that its layers take."""
        return sum(layer.nbytes for layer in self.layers)


class _Layer(CacheLayerMixin):  # type: ignore[misc]  # as above
    """The cache of one layer."""

    is_sliding = False
    is_croppable = True
    supports_early_init = False

    def __init__(self, max_length: int | None) -> None:
        super().__init__()
        self._most = max_length
        self.reset()

    @property
    def nbytes(self) -> int:
        return 0 if self.cache is None else self.cache.nbytes

    # ---- what transformers asks ----------------------------------------------------------------

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        pass

    def reset(self) -> None:
        self.cache: KVCache | None = None  # made when the layout is known
        self.tokens = 0
        self._there: Tensor | None = None
        """bool (batch, tokens), which are no padding; None if all are."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Added, Added]:
        added = Added(self, key_states, value_states)
        self.tokens += key_states.shape[2]
        return added, added

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.tokens + query_length, 0

    def get_seq_length(self) -> int:
        return self.tokens

    def get_max_length(self) -> int:
        return -1 if self._most is None else self._most

    def crop(self, tokens_to_remove: int) -> None:
        if tokens_to_remove > 0:
            raise ValueError("crop takes minus the number of tokens to remove")
        tokens = max(self.tokens + tokens_to_remove, 0)
        if self.cache is not None:
            if self._there is not None and tokens:
                self._there = self._there[:, :tokens]
                self.cache.truncate(self._there.sum(1))
            else:
                self.cache.truncate(tokens)
                self._there = None
        self.tokens = tokens

    def reorder_cache(self, beam_idx: Tensor) -> None:
        if self.cache is not None:
            self.cache.select(beam_idx)
        if self._there is not None:
            self._there = self._there[beam_idx.to(self._there.device)]

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self.cache is not None:
            self.reorder_cache(self._numbers("cpu").repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        if self.cache is not None:
            self.reorder_cache(self._numbers(indices.device)[indices])

    def _numbers(self, device: torch.device | str) -> Tensor:
        """The numbers of the rows of the batch."""
        assert self.cache is not None
        pages = self.cache.options["pages"]
        assert pages is not None, "it has a layout"
        return torch.arange(pages.shape[0], dtype=torch.int64, device=device)

    # ---- what a layout's attention asks --------------------------------------------------------

    def keep(self, added: Added, mask: Tensor | None, layout: Layout, heads: int) -> KVCache:
        """Put what was added into pages, once, and no padding. mask: bool (batch, tokens), True for tokens
        that are no padding, or None if none is; heads: query heads."""
        if self.cache is None:
            self.cache = KVCache(layout, self._most)
        elif self.cache.layout != layout:
            kept = "" if self.cache.layout is None else self.cache.layout.spec
            raise ValueError(
                f"a LayoutCache keeps what `{kept}` reads in this layer, and `{layout.spec}` reads it: use "
                "DynamicCache() for layers that share their keys"
            )
        k, v, count = added.keys, added.values, added.keys.shape[2]
        if added.pools is None:
            before = self.tokens - count
            if not _agree(self._there, mask, before):
                raise ValueError(
                    "attention_mask must say of earlier tokens what it said before: a LayoutCache does not "
                    "keep padding"
                )
            there = None if mask is None else mask[:, before:]
            lengths = self.cache.lengths
            if lengths is None:
                lengths = k.new_full(k.shape[:1], self.cache.length, dtype=torch.int64)
            if there is None or there.all():
                added.pools = self.cache.append(k, v, heads)
            else:
                row, order = _rows(k), _tokens_first(there)
                k, v = (x.transpose(1, 2)[row, order].transpose(1, 2) for x in (k, v))
                added.pools = self.cache.append(k, v, heads)
                self.cache.truncate(lengths + there.sum(1))
            self._there = mask
        return self.cache


class Added:
    """Keys and values that a model has just given to a `LayoutCache`, in the place of all those so far."""

    def __init__(self, layer: _Layer, keys: Tensor, values: Tensor) -> None:
        self.layer, self.keys, self.values = layer, keys, values
        self.pools: tuple[Tensor, Tensor] | None = None
        """Those of the cache, once they are in it."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(_ELSEWHERE.format(f"asks for the `{name}` of keys"))

    @classmethod
    def __torch_function__(cls, function: Any, *args: Any, **kwargs: Any) -> Any:
        name = getattr(function, "__name__", function)
        raise TypeError(_ELSEWHERE.format(f"calls torch's `{name}` on keys"))


_ELSEWHERE = (
    "the model {} in a LayoutCache, which only the attention of a layout reads: attach a layout to the whole "
    "model, or, if the model computes with what it has cached (latent attention), pass "
    "past_key_values=DynamicCache()"
)


def attend(layout: Layout, q: Tensor, added: Added, mask: Any, options: dict[str, Any]) -> Tensor:
    """(batch, heads, length, value dim), of the queries (batch, heads, length, dim) of the tokens that were
    added; 0 at padding. mask: as `bslang.integrations.transformers.mask` gives it.

    Raises ValueError for other masks, and where the layout cannot be decoded with a cache.
    """
    tokens, count = added.layer.tokens, q.shape[2]
    if mask is not None:
        if not isinstance(mask, Tensor) or mask.shape != (q.shape[0], tokens):
            raise ValueError(
                f"with a LayoutCache, attention_mask must be (batch, {tokens}), 0 for padding, and sequences "
                "cannot be packed"
            )
        mask = mask.bool()
        mask = None if mask.all() else mask
    cache = added.layer.keep(added, mask, layout, q.shape[1])
    assert added.pools is not None
    keys, values = added.pools
    there = None if mask is None else mask[:, tokens - count :]
    if there is None or there.all():
        return _tensor(layout(q, keys, values, **cache.options, **options))
    # Rows with other numbers of tokens are other calls: a query at padding would read what has been dropped.
    out = q.new_zeros((*q.shape[:3], values.shape[3]))
    order, counts = _tokens_first(there), there.sum(1)
    where = cache.options
    pages, lengths = where["pages"], where["lengths"]
    assert isinstance(pages, Tensor) and isinstance(lengths, Tensor), "rows were truncated"
    for some in sorted(set(counts.tolist()) - {0}):
        rows = (counts == some).nonzero()[:, 0]
        at = rows[:, None], order[rows, :some]
        its = q.transpose(1, 2)[at].transpose(1, 2)
        found = layout(its, keys, values, pages=pages[rows], lengths=lengths[rows], **options)
        out.transpose(1, 2)[at] = _tensor(found).transpose(1, 2)
    return out


def _agree(before: Tensor | None, mask: Tensor | None, tokens: int) -> bool:
    """Whether two masks say the same of the first tokens; None is a mask without padding."""
    cut = [x[:, :tokens] for x in (before, mask) if x is not None]
    return torch.equal(*cut) if len(cut) == 2 else all(x.all() for x in cut)


def _tokens_first(there: Tensor) -> Tensor:
    """int64 (batch, length), the tokens of each row that are no padding, in order, and then the others."""
    return there.logical_not().to(torch.int8).argsort(dim=1, stable=True)


def _rows(x: Tensor) -> Tensor:
    return torch.arange(x.shape[0], dtype=torch.int64, device=x.device)[:, None]


def _tensor(out: Any) -> Tensor:
    assert isinstance(out, Tensor)
    return out

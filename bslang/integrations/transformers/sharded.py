"""A sequence over several ranks in a model of transformers: what a rank calls it with, and attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from bslang.integrations.transformers import positions
from bslang.integrations.transformers.needs import Decoder, require_causal
from bslang.labels import require
from bslang.layouts import Layout

if TYPE_CHECKING:
    from bslang.distributed import Sharding

Tensor = torch.Tensor

_IGNORED = -100
"""The label of a token that losses of transformers leave out."""


def shards(sharding: Sharding, input_ids: Tensor, labels: Tensor | None = None) -> dict[str, Any]:
    """What a rank calls a model with: `model(**shards(sharding, input_ids, labels))`.

    input_ids, labels: int64 (batch, length), of the whole sequence, on every rank; labels as transformers
    takes them, -100 for tokens without one, before they are shifted. Returns `input_ids` and `position_ids`
    of this rank's shard; with labels also `shift_labels` (as `labels` too, without which models compute no
    loss) and `num_items_in_batch`. The loss is then the sum over the shard divided by the mean number of
    labels of a rank, so that its mean over the ranks, and with FSDP2 the gradient, is that of one process.
    """
    batch = input_ids.shape[0]
    made: dict[str, Any] = {
        "input_ids": sharding.shard(input_ids, 1),
        "position_ids": sharding.positions.to(input_ids.device).expand(batch, -1),
    }
    if labels is not None:
        shifted = torch.nn.functional.pad(labels[:, 1:], (0, 1), value=_IGNORED)
        own = sharding.shard(shifted, 1, fill=_IGNORED)
        count = (shifted != _IGNORED).sum() / sharding.ranks
        made |= {"labels": own, "shift_labels": own, "num_items_in_batch": count}
    return made


def attend(
    layout: Layout,
    sharding: Sharding,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    model: Decoder,
    options: dict[str, Any],
) -> Tensor:
    """Attention of this rank's queries; mask: as the mask function gives it."""
    from bslang.distributed import context_parallel

    if mask is not None and mask.dim() != 1:  # which says no more than that positions have gaps
        raise ValueError(
            "a model over a sharded sequence takes no attention_mask and no cache: pad at the end, and leave "
            "padding out of the loss by labels of -100"
        )
    _require_positions(sharding)
    if model.causal and not model.allow_noncausal and not torch.compiler.is_compiling():
        require_causal(layout, sharding.seq_len, q.shape[1])
    out = context_parallel(layout, sharding)(q, k, v, **options)
    assert isinstance(out, Tensor)
    return out


def _require_positions(sharding: Sharding) -> None:
    """Raise ValueError unless the model that is running has the positions of the shard."""
    if torch.compiler.is_compiling():
        return
    given = positions.given()
    if given is None or given.shape[-1] != sharding.local_len:
        raise ValueError(_POSITIONS)
    require((given == sharding.positions.to(given.device)).all(-1), _POSITIONS)


_POSITIONS = (
    "the tokens of a shard are not 0, 1, ... of the sequence: call the model with the position_ids of its "
    "sharding, as bslang.integrations.transformers.shards(sharding, input_ids, labels) gives them"
)

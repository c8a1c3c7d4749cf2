"""Trees of tokens or of segments as two labels, which a set-builder compares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bslang.labels import require
from bslang.missing import installed

if TYPE_CHECKING:
    import torch

_INTEGERS = ("int64", "int32", "int16", "int8")


@installed()
def tree(parents: torch.Tensor, segments: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """The labels `tin` and `tout` of a tree: `{q, k : tin[k] <= tin[q] < tout[k]}` has the pairs in which k
    is an ancestor of q, or q itself.

    parents: integers (length,) or (batch, length), each token's parent, -1 for a root. Parents may be in any
    order, and there may be several roots; a root without children sees itself only, as padding should.
    segments: integers (length,) or (batch, length). With it, parents are those of segments, (segments,) or
    (batch, segments), and segments has each token's segment. Tokens of one segment then see each other; to
    limit them to earlier ones, write `{...} & causal`.

    Returns int32 tensors by name, as `labels=` of a call takes them: (length,), or (batch, length) if an
    argument has a batch. tin numbers the tokens or segments depth first, children in the order of their
    numbers; the descendants of x, and x, have the numbers from tin[x] to tout[x] - 1. Blocks are skipped best
    where tokens lie in this order.

    Work and memory are proportional to the length, times its logarithm for the work, at any depth. Raises
    TypeError or ValueError for invalid arguments, and ValueError for a cycle. Nothing waits for a GPU: there
    numbers out of range and cycles are RuntimeErrors of a later call.
    """
    import torch

    _check(parents, "parents")
    of_batch = parents.detach().long()
    tin, tout = _numbered(of_batch if parents.dim() == 2 else of_batch[None])
    if parents.dim() == 1:
        tin, tout = tin[0], tout[0]
    if segments is not None:
        _check(segments, "segments")
        if segments.device != parents.device:
            raise ValueError(
                f"segments must be on the device of parents, {parents.device}, not {segments.device}"
            )
        if segments.dim() == parents.dim() == 2 and segments.shape[0] != parents.shape[0]:
            raise ValueError(
                f"parents and segments must have one batch; they have {parents.shape[0]} and "
                f"{segments.shape[0]} rows"
            )
        count = parents.shape[-1]
        chosen = segments.detach().long()
        require((chosen >= 0) & (chosen < count), f"segments must be from 0 to {count - 1}")
        if parents.dim() == 1:
            tin, tout = tin[chosen], tout[chosen]
        else:
            chosen = chosen.expand(parents.shape[0], -1)
            tin, tout = tin.gather(-1, chosen), tout.gather(-1, chosen)
    return {"tin": tin.to(torch.int32), "tout": tout.to(torch.int32)}


def _check(given: object, what: str) -> None:
    import torch

    if not isinstance(given, torch.Tensor):
        raise TypeError(f"{what} must be a torch.Tensor, not {type(given).__name__}")
    if str(given.dtype).removeprefix("torch.") not in _INTEGERS:
        raise TypeError(f"{what} must be integers ({', '.join(_INTEGERS)}), not {given.dtype}")
    if given.dim() not in (1, 2):
        raise ValueError(
            f"{what} must have shape (length,) or (batch, length); it has {tuple(given.shape)}"
        )


def _numbered(parents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """tin and tout, int64 (batch, count), of parents (batch, count).

    A walk around the trees enters and leaves every node: place v is entering v, place count + v leaving it,
    and the last place the end. How many nodes a place has before it on the walk follows by doubling: each
    round adds what the place ahead has counted, and jumps twice as far.
    """
    import torch

    batch, count = parents.shape
    require(
        (parents >= -1) & (parents < count),
        f"parents must be from 0 to {count - 1}, or -1 for a root",
    )
    end = 2 * count
    nodes = torch.arange(count, dtype=torch.int64, device=parents.device).expand(batch, count)
    parent, node = parents.sort(dim=-1, stable=True)  # the children of a node, one after another
    again = parent[:, 1:] == parent[:, :-1]
    # A node is left for its next sibling, its parent, or the next root: roots are siblings.
    up = torch.where(parent >= 0, parent + count, end)
    up[:, :-1] = torch.where(again, node[:, 1:], up[:, :-1])
    leave = torch.empty_like(node).scatter(-1, node, up)
    # It is entered for its first child, or left at once.
    first = parent >= 0
    first[:, 1:] &= ~again
    enter = torch.cat(
        (nodes + count, nodes.new_zeros(batch, 1)), -1
    )  # one more, for all that are no first child
    enter = enter.scatter(-1, torch.where(first, parent, count), node)[:, :count]

    ahead = torch.cat((enter, leave, nodes.new_full((batch, 1), end)), -1)
    entered = torch.zeros_like(ahead)
    entered[:, :count] = 1
    for _ in range(end.bit_length()):
        entered = entered + entered.gather(-1, ahead)
        ahead = ahead.gather(-1, ahead)
    require(ahead == end, "parents have a cycle: a node is its own ancestor")
    return count - entered[:, :count], count - entered[:, count:end]

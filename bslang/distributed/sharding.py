"""One sequence over the ranks of a group: which tokens each holds; tensors cut, and put together."""

from __future__ import annotations

import hashlib
import itertools
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from bslang.distributed.before import Behind, with_before
from bslang.distributed.joined import joined, part
from bslang.distributed.known import left
from bslang.distributed.plan import RankPlan
from bslang.labels import LabelsOfCall
from bslang.layouts import Layout, take_layout
from bslang.placement.exchange import Exchange
from bslang.placement.part import Part
from bslang.placement.placed import Demand, placed
from bslang.placement.placement import Placement
from bslang.placement.planned import planned
from bslang.placement.traffic import Sizes
from bslang.runtime.recent import Recent
from bslang.runtime.runnable import Runnable

Group: TypeAlias = "DeviceMesh | dist.ProcessGroup"

_BATCHES = itertools.count()

PLANS = 32
"""Layouts, numbers of heads and so on whose plans a sharding keeps."""


@dataclass(frozen=True, eq=False, repr=False)
class Sharding:
    """Which tokens of a sequence each rank of a group holds.

    All shards have one length, ceil(blocks / ranks) blocks; places without a token come last in a shard.

    placement: of blocks, over the ranks. group: the name of the process group; rank: this process's in it.
    labels: those of the batch that it was made for, which its calls have; None if it serves any. device: of
    the group, on which positions are. heads: query heads of the model, None where it was not told.
    digest: a name for which rank holds what, the same on all ranks (16 hex digits); key: what operators know
    it by, in this process.
    """

    placement: Placement
    rank: int
    group: str
    labels: Any = None
    device: torch.device = field(default_factory=partial(torch.device, "cpu"))
    heads: int | None = None
    digest: str = field(init=False)
    key: str = field(init=False)
    _plans: Recent[RankPlan] = field(default_factory=partial(Recent, PLANS))
    _agreed: set[str] = field(default_factory=set)
    _indices: dict[torch.device, tuple[torch.Tensor, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        placement = self.placement
        about = f"{placement.length} {placement.block} {placement.ranks} ".encode()
        digest = hashlib.sha256(about + placement.owner.tobytes()).hexdigest()[:16]
        object.__setattr__(self, "digest", digest)
        # Two batches may have one placement, and need other keys.
        batch = "" if self.labels is None else f"; batch {next(_BATCHES)}"
        object.__setattr__(self, "key", f"{digest}; {self.group}; {self.rank}{batch}")
        SHARDINGS[self.key] = self

    @property
    def seq_len(self) -> int:
        """Tokens of the sequence."""
        return self.placement.length

    @property
    def ranks(self) -> int:
        """Processes of the group."""
        return self.placement.ranks

    @property
    def local_len(self) -> int:
        """Tokens of a shard, places without a token included."""
        return self.placement.per * self.placement.block

    # ---- tensors -----------------------------------------------------------------------------------

    @property
    def positions(self) -> torch.Tensor:
        """int64 (local length,): the position in the sequence of each token of this rank's shard; 0 in places
        without one."""
        return self._index(self.device)[0]

    @property
    def valid(self) -> torch.Tensor:
        """bool (local length,): whether there is a token."""
        return self._index(self.device)[1]

    def shard(self, x: torch.Tensor, dim: int, fill: float = 0) -> torch.Tensor:
        """This rank's part of a tensor that it has whole: x with `dim` of the sequence's length becomes one
        of the local length; fill: what is put in places without a token. Differentiable: each rank's
        gradient is that of its own tokens. Raises ValueError for a tensor of another length.
        """
        if x.shape[dim] != self.seq_len:
            raise ValueError(
                f"dimension {dim} must have the {self.seq_len} tokens of the sequence; the shape is "
                f"{tuple(x.shape)}"
            )
        positions, valid, _ = self._index(x.device)
        return part(x, dim, positions, valid, fill)

    def unshard(self, x: torch.Tensor, dim: int) -> torch.Tensor:
        """The whole tensor on every rank, in the order of the sequence; all ranks call it together.

        x: this rank's shard, with `dim` of the local length, or a DTensor that is sharded over the group.
        Differentiable, as DTensor's full_tensor: every rank is taken to compute the same of it, so the
        gradient of a shard is its part of this rank's. Raises ValueError for a tensor of another length.
        """
        if isinstance(x, DTensor):
            x = x.full_tensor()
            if x.shape[dim] == self.ranks * self.local_len:
                return x.index_select(dim, self._index(x.device)[2])
        elif x.shape[dim] == self.local_len:
            positions, valid, places = self._index(x.device)
            given = (dim % x.dim(), self.ranks, places, positions, valid, self.group)
            return joined(x, *given)  # type: ignore[no-any-return]  # operators are untyped
        raise ValueError(
            f"dimension {dim} must have the {self.local_len} places of a shard; the shape is "
            f"{tuple(x.shape)}"
        )

    def with_before(self, x: torch.Tensor, dim: int, tokens: int) -> torch.Tensor:
        """The blocks of this rank's shard, each with the tokens before it, for what a model does along the
        sequence beside attention: a causal convolution of `tokens` + 1 taps, a shift. All ranks call it
        together.

        x: a shard, with `dim` of the local length, which becomes two: places of a block, and `tokens` +
        placement.block tokens, the first of which are the last of the block before; zeros before position 0,
        and in places without a token. Differentiable. Raises ValueError for another length, and for more
        tokens than a block has.
        """
        dim, block = dim % x.dim(), self.placement.block
        if x.shape[dim] != self.local_len:
            raise ValueError(
                f"dimension {dim} must have the {self.local_len} places of a shard; the shape is "
                f"{tuple(x.shape)}"
            )
        if not 0 <= tokens <= block:
            raise ValueError(
                f"tokens must be from 0 to {block}, the block of the sharding, not {tokens}"
            )
        return with_before(x, dim, tokens, block, self._behind, self.group)

    @cached_property
    def _behind(self) -> Behind:
        return Behind.of(self.placement, self.rank)

    def in_order(self, shards: torch.Tensor) -> torch.Tensor:
        """(seq_len, ...) of the shards of all ranks (ranks * local length, ...), one after another."""
        return shards.index_select(0, self._index(shards.device)[2])

    def _index(self, device: torch.device) -> tuple[torch.Tensor, ...]:
        """On a device: positions, which places have a token, and the place of each position among all."""
        if device not in self._indices:
            position = torch.from_numpy(self.placement.positions(self.rank))
            owner, place = self.placement.owners(1), self.placement.pages(1)
            whole = torch.from_numpy(owner * self.local_len + place)
            made = position.clamp_min(0), position >= 0, whole
            self._indices[device] = tuple(x.to(device) for x in made)
        return self._indices[device]

    # ---- plans -------------------------------------------------------------------------------------

    def plan(
        self,
        layout: Runnable,
        heads: int,
        key_heads: int,
        sizes: Sizes,
        device: torch.device,
        padded: bool = False,
    ) -> RankPlan:
        """What this rank does of a layout's call; sizes: of a row of the batch; padded: whether the kernels
        are those of the layout with key padding, which visits the same blocks."""

        def make() -> RankPlan:
            exchange = self._exchange(layout, heads, key_heads, sizes, device)
            kernels = layout._with_padding if padded else layout
            schedule = kernels._plan(self.seq_len, self.seq_len, "end", device, heads).schedule
            return RankPlan(Part(exchange, self.rank), schedule, device)

        return self._plans.get((layout._key, heads, key_heads, sizes, device, padded), make)

    def _exchange(
        self, layout: Runnable, heads: int, key_heads: int, sizes: Sizes, device: torch.device
    ) -> Exchange:
        """What moves between the ranks for a layout's call."""
        schedule = layout._plan(self.seq_len, self.seq_len, "end", device, heads).schedule
        graphs = left(layout, schedule.graphs, self.labels, heads, key_heads, self.seq_len)
        return planned(graphs, schedule.head_graph, heads, key_heads, self.placement, sizes)

    def __repr__(self) -> str:
        return (
            f"Sharding({self.seq_len} tokens over {self.ranks} ranks, shards of {self.local_len}; "
            f"this is rank {self.rank})"
        )


SHARDINGS: weakref.WeakValueDictionary[str, Sharding] = weakref.WeakValueDictionary()
"""Those of this process that are in use, by key."""


def found(key: str) -> Sharding:
    """The sharding of a key. Raises RuntimeError if this process has no such sharding."""
    sharding = SHARDINGS.get(key)
    if sharding is None:
        raise RuntimeError(f"no sharding {key!r} in this process: make it with shard_sequence")
    return sharding


def shard_sequence(
    layouts: Layout | str | Sequence[Layout | str],
    seq_len: int,
    group: Group,
    *,
    heads: int | None = None,
    key_heads: int | None = None,
    labels: LabelsOfCall | None = None,
) -> Sharding:
    """Decide which tokens of a sequence each rank of a group holds. All ranks call it with the same
    arguments, and each finds the same alone: nothing is sent.

    layouts: those of the model's layers, compiled or as text; their work is balanced together. A layout that
    several layers have is given as often. seq_len: tokens, at least 1. group: a DeviceMesh of one dimension,
    such as mesh["cp"], or a process group. heads, key_heads: of the whole model, on all ranks of tensor
    parallelism; None means 1, which serves layouts whose heads are alike, and as many as heads. labels: of a
    batch, as a call takes them, by name for all layouts. The sharding is then for this batch: what its
    documents leave is balanced and fetched, and its calls have these labels.

    Raises ValueError or TypeError for invalid arguments, SpecError if a layout is undefined at this length.
    """
    given = [layouts] if isinstance(layouts, Layout | str) else list(layouts)
    if not given:
        raise ValueError("a sharding needs a layout: the sequence of layouts is empty")
    taken = [take_layout(each) for each in given]
    for layout in taken:
        check_layout(layout)
    if isinstance(seq_len, bool) or not isinstance(seq_len, int) or seq_len < 1:
        raise ValueError(f"seq_len must be an integer of at least 1, not {seq_len!r}")
    _check_labels(labels, taken)
    for name, count in (("heads", heads), ("key_heads", key_heads)):
        if count is not None and (
            isinstance(count, bool) or not isinstance(count, int) or count < 1
        ):
            raise ValueError(f"{name} must be an integer of at least 1, not {count!r}")
    if key_heads is not None and heads is None:
        raise ValueError("key_heads are shared by the model's query heads: pass heads as well")
    process_group = as_group(group)
    by_head = next((layout for layout in taken if layout.by_head), None)
    if by_head is not None and heads is None:
        raise ValueError(
            f"`{by_head.spec}` differs from head to head: pass heads, the number of the model's query heads"
        )
    demands = _demands(taken, seq_len, heads or 1, key_heads or heads or 1, labels)
    placement = placed(demands, dist.get_world_size(process_group), quick=labels is not None)
    rank, name = dist.get_rank(process_group), process_group.group_name
    return Sharding(placement, rank, name, labels, _device(group), heads)


def check_layout(layout: Layout) -> None:
    """Raise ValueError for a layout that cannot be called over several ranks."""
    if layout.selections:
        names = ", ".join(layout.selections)
        raise ValueError(
            f"this layout has selections ({names}), which are not supported over several ranks: they are "
            "known at the call, and may need the keys of any rank. Call the layout with whole tensors"
        )


def _check_labels(labels: Any, layouts: Sequence[Layout]) -> None:
    """Raise ValueError for labels that no layout reads."""
    names = {name for layout in layouts for name in layout.labels}
    if labels is None:
        return
    if not names:
        raise ValueError("labels are for layouts that read some, as `same(doc)`; these read none")
    unknown = sorted(set(labels) - names) if isinstance(labels, Mapping) else []
    if unknown:
        read = ", ".join(sorted(names))
        raise ValueError(f"no layout reads the label {unknown[0]!r}; they read {read}")


def _device(group: Group) -> torch.device:
    """What a group's tensors are on: for a GPU this process's."""
    if isinstance(group, DeviceMesh):
        kind = group.device_type
    else:
        kind = "cuda" if dist.get_backend(group) == "nccl" else "cpu"
    if kind == "cpu":
        return torch.device("cpu")
    return torch.device(kind, torch.get_device_module(kind).current_device())


def _demands(
    layouts: Sequence[Layout], seq_len: int, heads: int, key_heads: int, labels: Any
) -> list[Demand]:
    """What a model asks of a placement, layers with equal layouts together."""
    demands = []
    for key, layers in Counter(layout._key for layout in layouts).items():
        layout = next(each for each in layouts if each._key == key)
        schedule = layout._plan(seq_len, seq_len, "end", torch.device("cpu"), heads).schedule
        graphs = left(layout, schedule.graphs, labels, heads, key_heads, seq_len)
        demands.append(Demand(graphs, schedule.head_graph, heads, key_heads, layers))
    return demands


def as_group(group: Group) -> dist.ProcessGroup:
    """The process group that is meant. Raises TypeError or ValueError for anything else."""
    if isinstance(group, DeviceMesh):
        if group.ndim != 1:
            raise ValueError(
                f"a sequence is cut over one dimension of a mesh, and this one has {group.ndim}: pass "
                "mesh['cp'], by the name of that dimension"
            )
        return group.get_group()
    if isinstance(group, dist.ProcessGroup):
        return group
    raise TypeError(
        f"pass a DeviceMesh of one dimension or a process group, not {type(group).__name__}"
    )

"""Ranks compare what they are about to do, before they exchange anything for it."""

from __future__ import annotations

import hashlib

import torch
import torch.distributed as dist

from bslang._version import __version__
from bslang.distributed.transport import all_gather
from bslang.errors import BslangError
from bslang.runtime.interface import ABI

SIZE = 1024
"""Bytes that each rank says; of one size in all versions, so that other versions are understood."""


def statement(facts: dict[str, object]) -> str:
    """What a rank says: a line for each fact, those of bslang itself first."""
    known = {"bslang": f"{__version__} ({ABI})"} | facts
    return "\n".join(f"{name}: {_short(str(value))}" for name, value in known.items())


def agree(agreed: set[str], text: str, group: dist.ProcessGroup, device: torch.device) -> None:
    """Compare a statement with those of the other ranks. On GPUs, where a comparison would have the processor
    wait for all work before it, only one that is not known to be theirs (agreed).

    Raises BslangError on all ranks if one says something else, naming both.
    """
    # If one rank compares while another exchanges, gloo gives garbage and no error.
    known = text in agreed and device.type != "cpu"
    if known or dist.get_world_size(group) == 1:
        return
    mine = torch.zeros(SIZE, dtype=torch.uint8, device="cpu")
    said = text.encode()[:SIZE]
    mine[: len(said)] = torch.frombuffer(bytearray(said), dtype=torch.uint8)
    each = torch.empty((dist.get_world_size(group), SIZE), dtype=torch.uint8, device=device)
    all_gather(each.view(-1), mine.to(device), group=group)
    texts = [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in each.cpu().numpy()]
    for rank, other in enumerate(texts):
        if other != texts[0]:
            raise BslangError(
                f"ranks 0 and {rank} of a sharded sequence call attention differently: "
                f"{_difference(texts[0], other)}. "
                "All ranks must make the same calls in the same order"
            )
    agreed.add(text)


def _difference(first: str, second: str) -> str:
    """The first lines in which two statements differ."""
    a, b = first.split("\n"), second.split("\n")
    for mine, other in zip(a, b, strict=False):
        if mine != other:
            name, _, value = mine.partition(": ")
            its, _, theirs = other.partition(": ")
            return (
                f"{name} is {value} there, and {theirs} here"
                if name == its
                else f"{mine!r} and {other!r}"
            )
    return f"{len(a)} and {len(b)} facts"


def _short(value: str) -> str:
    """A value on one line; of a long one its beginning and a digest."""
    line = " ".join(value.split())
    if len(line) <= 100:
        return line
    return f"{line[:72]}... {hashlib.sha256(line.encode()).hexdigest()[:16]}"

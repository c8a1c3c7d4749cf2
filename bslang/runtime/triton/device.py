"""The device of a launch, as far as the choice of a kernel and of its tiles depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch


@dataclass(frozen=True)
class Device:
    """architecture: "cuda:90" (compute capability 9.0), "hip:gfx942", as `bslang compile --target` names
    them; "cpu" under Triton's interpreter.

    shared: bytes of shared memory that a program may use; lanes: threads of a warp; l2: bytes of the L2
    cache, and multiprocessors: how many there are, both None where only the architecture is known.
    """

    architecture: str = "cpu"
    shared: int = 0
    lanes: int = 32
    l2: int | None = None
    multiprocessors: int | None = None

    def at_once(self, heads: int, size: int) -> int:
        """How many of some heads run before the others, each of which reads so many bytes: those for which
        half of the L2 cache has room, as results pass through it too; a divisor of `heads`."""
        if self.l2 is None or 2 * heads * size <= self.l2:
            return heads
        most = max(1, self.l2 // (2 * size))
        return max(number for number in range(1, min(heads, most) + 1) if heads % number == 0)

    @staticmethod
    @cache
    def of(device: torch.device) -> Device:
        """That of tensors; asks the driver once for each."""
        if device.type != "cuda":
            return Device()
        about = torch.cuda.get_device_properties(device)
        if torch.version.hip is None:
            architecture = f"cuda:{about.major}{about.minor}"
        else:
            architecture = f"hip:{about.gcnArchName.partition(':')[0]}"  # without its features
        return Device(
            architecture,
            int(getattr(about, "shared_memory_per_block_optin", 64 * 1024)),
            int(getattr(about, "warp_size", 32)),
            int(about.L2_cache_size),
            int(about.multi_processor_count),
        )

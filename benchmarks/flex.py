"""What FlexAttention's Triton kernels have in their loops over full blocks, read from machine code once.

torch 2.13, triton 3.9, bf16, compiled ahead of time with the options that Inductor itself picks for an H100
and an A100. Static counts, not time.
"""

from __future__ import annotations

from dataclasses import dataclass


def per_scores(instructions: int, tile: tuple[int, int], warps: int) -> float:
    """Instructions of all warps for 64 x 64 scores: comparable across tiles and numbers of warps."""
    return instructions * warps * 64 * 64 / (tile[0] * tile[1])


@dataclass(frozen=True)
class Flex:
    """A loop over full blocks: kernel as ours are named, tile (queries, keys), instructions of one warp."""

    kernel: str
    architecture: str
    head_dim: int
    tile: tuple[int, int]
    warps: int
    instructions: int

    @property
    def per_scores(self) -> float:
        return per_scores(self.instructions, self.tile, self.warps)


# Forward on sm_90: with PRESCALE_QK and ROWS_GUARANTEED_SAFE where it was compiled with them (not at 64x64);
# with its defaults it has 1169 instructions at 128x128, and 447 with head dimension 128. On sm_80 the
# figures are those of a plain kernel of one loop without an index, since they are lower than
# FlexAttention's own with its defaults: 791 and 590.
# Backward: tiles are not in what was read; they are those of torch 2.13's
# torch/_inductor/template_heuristics/triton.py for these GPUs (FlexBwDConfig).
FLEX = (
    Flex("forward", "cuda:90", 64, (128, 128), 4, 896),
    Flex("forward", "cuda:90", 64, (128, 64), 4, 527),
    Flex("forward", "cuda:90", 64, (64, 64), 4, 387),
    Flex("forward", "cuda:90", 128, (128, 64), 8, 369),
    Flex("forward", "cuda:80", 64, (128, 64), 4, 684),
    Flex("forward", "cuda:80", 128, (128, 64), 8, 517),
    Flex("dq", "cuda:90", 64, (128, 64), 8, 321),
    Flex("dq", "cuda:90", 128, (128, 64), 8, 377),
    Flex("dq", "cuda:80", 64, (64, 64), 4, 410),
    Flex("dq", "cuda:80", 128, (64, 64), 4, 741),
    Flex("dkdv", "cuda:90", 64, (64, 128), 8, 435),
    Flex("dkdv", "cuda:90", 128, (64, 128), 8, 502),
    Flex("dkdv", "cuda:80", 64, (64, 64), 4, 550),
    Flex("dkdv", "cuda:80", 128, (64, 64), 4, 1006),
)


def flex(kernel: str, architecture: str, head_dim: int, tile: tuple[int, int]) -> Flex | None:
    """The figure for a kernel: of the same tile, else of the tile that takes the fewest for its scores."""
    alike = [
        each
        for each in FLEX
        if (each.kernel, each.architecture, each.head_dim) == (kernel, architecture, head_dim)
    ]
    same = [each for each in alike if each.tile == tile]
    return min(same or alike, key=lambda each: each.per_scores, default=None)

"""Native sparse attention: compressed, selected and recent keys, each with a layout of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bslang.call import check_scale
from bslang.layouts import Layout, take_layout
from bslang.nn.rotary import Rotary
from bslang.nn.shared import check_count, join_heads, split_heads, take_head_dim
from bslang.select import compressed


class Compression(nn.Module):
    """One key (or value) for each run of tokens: a learned function of them and of their places in the run.

    Its parameters are place (kernel, dim) and those of the two layers of an MLP, hidden (kernel * dim to dim)
    and out (dim to dim), with GELU between them (NSA, section 3.3.1).
    """

    def __init__(self, dim: int, kernel: int, **made: Any) -> None:
        """dim: of a head; kernel: tokens of a run; made: device and dtype."""
        super().__init__()
        self.place = nn.Parameter(torch.zeros(kernel, dim, **made))
        self.hidden = nn.Linear(kernel * dim, dim, **made)
        self.out = nn.Linear(dim, dim, **made)

    def forward(self, runs: torch.Tensor) -> torch.Tensor:
        """runs: (batch, heads, count, kernel, dim); returns (batch, heads, count, dim)."""
        hidden = self.hidden((runs + self.place).flatten(3))
        return self.out(nn.functional.gelu(hidden))  # type: ignore[no-any-return]  # a module's call is untyped


class NativeSparseAttention(nn.Module):
    """Self-attention over three branches: compressed keys, selected blocks, and the latest keys.

    NSA (Yuan 2025, arXiv 2502.11089, section 3). The weights of the compressed keys choose the blocks
    (`bslang.select.compressed`); no gradient flows to the choice, and the compressed branch trains it. Each
    branch has its own keys and values, as in the paper.

    Its parameters are those of q_proj, o_proj, k_proj and v_proj (nn.Linear; the last two have the key heads
    of the compressed, of the selected and of the latest keys, in this order), of compress_k and compress_v
    (`Compression`), and of gate (nn.Linear) with merge="gates". Layouts are not in the state dict.
    It has no decoding with a cache.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        bias: bool = False,
        rotary: float | nn.Module | None = None,
        kernel: int = 32,
        stride: int = 16,
        block: int = 64,
        top: int = 16,
        window: int = 512,
        force: Layout | str | None = None,
        merge: str = "gates",
        scale: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """num_kv_heads, head_dim, bias, rotary and scale are those of `BlockSparseAttention`; queries and
        keys have rotary positions before keys are compressed. kernel, stride: tokens of a compressed key,
        and from one to the next. block: tokens of a block. top: blocks per query, forced ones included.
        window: how many latest keys. force: the blocks that are always among the top, a pattern over cells
        of 1 x block (`bslang.select.Placed`); None takes the first, the query's own and the one before.
        merge: "gates" adds the branches, each times a sigmoid of a linear function of x; "lse" merges them
        by their log-sum-exp, as one softmax over the keys of all three.

        Raises ValueError or TypeError for invalid numbers, SpecError for an invalid pattern.
        """
        super().__init__()
        self.head_dim = take_head_dim(embed_dim, num_heads, head_dim)
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        sizes = {"kernel": kernel, "stride": stride, "block": block, "top": top, "window": window}
        for name, size in {"num_kv_heads": self.num_kv_heads, **sizes}.items():
            check_count(name, size)
        if num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads {num_heads} is not a multiple of num_kv_heads {self.num_kv_heads}"
            )
        if merge not in ("gates", "lse"):
            raise ValueError(f"merge must be 'gates' or 'lse', not {merge!r}")
        check_scale(scale)
        self.kernel, self.stride, self.block, self.top, self.window = sizes.values()
        self.force = f"cols(0) | last({block + 1}t)" if force is None else force
        self.merge, self.scale = merge, scale
        self.rotary = rotary if rotary is None or isinstance(rotary, nn.Module) else Rotary(rotary)
        self.layouts = tuple(
            take_layout(f'import "std/deepseek.bsl" as std\nstd.{definition}')
            for definition in (
                f"nsa_compression(l={kernel}t, d={stride}t)",
                f"nsa_selection(b={block}t)",
                f"nsa_window(w={window}t)",
            )
        )
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        inner, inner_kv = num_heads * self.head_dim, 3 * self.num_kv_heads * self.head_dim
        self.q_proj = nn.Linear(embed_dim, inner, bias=bias, **made)
        self.k_proj = nn.Linear(embed_dim, inner_kv, bias=bias, **made)
        self.v_proj = nn.Linear(embed_dim, inner_kv, bias=bias, **made)
        self.o_proj = nn.Linear(inner, embed_dim, bias=bias, **made)
        self.compress_k = Compression(self.head_dim, kernel, **made)
        self.compress_v = Compression(self.head_dim, kernel, **made)
        self.gate = nn.Linear(embed_dim, 3 * num_heads, **made) if merge == "gates" else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: (batch, length, embed_dim); returns the same shape.

        Sequences that are padded on the right need no padding mask: no valid query sees what comes after
        it. Raises ValueError for another shape.
        """
        if x.dim() != 3 or x.shape[-1] != self.embed_dim:
            raise ValueError(
                f"x must be (batch, length, {self.embed_dim}); its shape is {tuple(x.shape)}"
            )
        q = split_heads(self.q_proj(x), self.head_dim)
        k = split_heads(self.k_proj(x), self.head_dim)
        v = split_heads(self.v_proj(x), self.head_dim)
        if self.rotary is not None:
            q, k = self.rotary(q, 0), self.rotary(k, 0)
        keys, values = k.chunk(3, dim=1), v.chunk(3, dim=1)
        of_runs = self._compressed(keys[0], self.compress_k)
        pick = compressed(
            q,
            keys[0],
            keys=of_runs,
            kernel=self.kernel,
            stride=self.stride,
            cols=self.block,
            top=self.top,
            force=self.force,
            scale=self.scale,
        )
        given: tuple[tuple[torch.Tensor, torch.Tensor, dict[str, Any]], ...] = (
            (of_runs, self._compressed(values[0], self.compress_v), {"align": "start"}),
            (keys[1], values[1], {"select": pick}),
            (keys[2], values[2], {}),
        )
        found = [
            layout(q, k, v, self.scale, return_lse=True, **options)
            for layout, (k, v, options) in zip(self.layouts, given, strict=True)
        ]
        outs = torch.stack([out for out, _ in found])
        if self.gate is None:
            weights = torch.stack([lse for _, lse in found]).softmax(0)
        else:
            gates = torch.sigmoid(self.gate(x)).chunk(3, dim=-1)
            weights = torch.stack([gate.transpose(1, 2) for gate in gates])
        out = (outs * weights[..., None].to(outs.dtype)).sum(0)
        return self.o_proj(join_heads(out))  # type: ignore[no-any-return]  # a module's call is untyped

    def _compressed(self, x: torch.Tensor, by: nn.Module) -> torch.Tensor:
        """(batch, key heads, count, dim), compressed of x (batch, key heads, length, dim)."""
        if x.shape[2] < self.kernel:
            return x[:, :, :0]
        runs = x.unfold(2, self.kernel, self.stride).transpose(3, 4).contiguous()
        return by(runs)  # type: ignore[no-any-return]  # a module's call is untyped

    def extra_repr(self) -> str:
        """Sizes, and how the branches are merged."""
        shown = f"embed_dim={self.embed_dim}, num_heads={self.num_heads}"
        if self.num_kv_heads != self.num_heads:
            shown += f", num_kv_heads={self.num_kv_heads}"
        shown += f", head_dim={self.head_dim}, kernel={self.kernel}, stride={self.stride}"
        shown += f", block={self.block}, top={self.top}, window={self.window}, merge={self.merge!r}"
        return shown

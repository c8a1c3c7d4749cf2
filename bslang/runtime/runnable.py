"""What operators and packed calls ask of a layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch

from bslang.inputs import Inputs
from bslang.runtime.plan import DevicePlan
from bslang.runtime.target import Target

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from bslang.call import Options


class Runnable(Protocol):
    """A layout that runs; `bslang.runtime.layout.CallableLayout` says what each of these is."""

    _key: str
    block: tuple[int, int]
    by_head: bool
    first_head: int
    inputs: Inputs

    @property
    def _with_padding(self) -> Runnable: ...

    def at_heads(self, first_head: int) -> Runnable: ...

    def _target(self, q: torch.Tensor, v: torch.Tensor) -> Target: ...

    def _plan(
        self, len_q: int, len_k: int, align: str, device: torch.device, heads: int = 1
    ) -> DevicePlan: ...

    def _plan_by_place(
        self, len_q: int, len_k: int, device: torch.device, heads: int, rounded: bool = True
    ) -> DevicePlan | None: ...

    def _plan_of_step(
        self, len_q: int, len_k: int, device: torch.device, heads: int
    ) -> DevicePlan | None: ...

    def require_prefix_stable(self, length: int, heads: int = 1) -> None: ...

    def _schedule(self, len_q: int, len_k: int, align: str, heads: int) -> Any: ...

    def _is_prefix_stable(self, length: int, heads: int) -> bool: ...

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        scale: float | None = None,
        *,
        return_lse: Literal[True],
        **options: Unpack[Options],
    ) -> tuple[torch.Tensor, torch.Tensor]: ...

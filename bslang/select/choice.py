"""From scores of cells to the chosen ones: what all rules share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import torch

from bslang.select import checks
from bslang.select.cells import Cells, split
from bslang.select.patterns import Spec, most_forced, touched

if TYPE_CHECKING:
    from typing import Literal

    from typing_extensions import Unpack

    from bslang.layouts import Layout

CHUNK = 2**22
"""Scores that a rule has in memory at a time, unless those of a single row are more."""

_LOW = 31  # bits of a key that hold the column
_UNIT = 2**40  # the weight 1 of a row, in integers, whose sums do not depend on their order


_Scored = tuple[torch.Tensor, torch.Tensor, "torch.Tensor | None"]


class Placed(TypedDict, total=False):
    """Which cells may be chosen, and which always are.

    causal: if true (the default), keys after the query do not count, and no cell is chosen that lies wholly
    after the last query of its row. The cell that holds the query itself can be chosen; where a paper always
    keeps it, put it into force. within: a pattern; scores choose among the cells that it touches. None means
    all. force: a pattern; every cell that it touches comes first, and counts in top, share and mass. None
    means none. align: "end" (the default) makes the queries the last positions of the keys, "start" the
    first.

    A pattern is bsl text such as "cols(0) | last(2)", whose blocks are the cells, or a `bslang.Layout` with
    blocks of the cells' size. With rows and cols that differ, `last` and other primitives that compare
    queries with keys take tokens: "last(1t)" is the query's own cell, and "last(65t)" with cols=64 that and
    the one before. A pattern that differs between heads, or has labels, is refused.
    """

    causal: bool
    within: Layout | str | None
    force: Layout | str | None
    align: str


class Choice(Placed, total=False):
    """How many cells of each row are chosen: exactly one of top, share and mass.

    top: the number of cells. share: the part of all columns, above 0, up to 1, rounded up. mass: chosen is
    the smallest set of cells with at least this part, above 0, up to 1, of the row's softmax weights; with
    over="head", of those of all rows of a list together. Equal scores go to the smaller column (and row). A
    cell whose score is NaN or -inf is chosen only if it is forced.
    """

    top: int
    share: float
    mass: float
    over: Literal["row", "head"]


@dataclass(frozen=True)
class Rule:
    """The cells of a call, which of them may or must be chosen, and how many."""

    cells: Cells
    causal: bool
    within: Spec | None
    force: Spec | None
    top: int | None
    mass: float | None
    over: str

    @classmethod
    def of(cls, sizes: tuple[int, int, int, int], **options: Unpack[Choice]) -> Rule:
        """sizes: len_q, len_k, rows, cols. Raises TypeError or ValueError that names the argument."""
        len_q, len_k, rows, cols = sizes
        if unknown := [name for name in options if name not in _OPTIONS]:
            raise TypeError(f"unexpected option {unknown[0]!r}; rules take {', '.join(_OPTIONS)}")
        checks.positive("rows", rows)
        checks.positive("cols", cols)
        align = options.get("align", "end")
        checks.one_of("align", align, "end", "start")
        if align == "end" and len_q > len_k:
            raise ValueError(
                f"{len_q} queries cannot be the last positions of {len_k} keys; pass align='start'"
            )
        causal = options.get("causal", True)
        if not isinstance(causal, bool):
            raise TypeError(f"causal must be True or False, not {causal!r}")
        cells = Cells(len_q, len_k, rows, cols, align)
        within = Spec.of("within", options.get("within"), rows, cols)
        force = Spec.of("force", options.get("force"), rows, cols)
        top, mass = _amount(cells, **options)
        over = options.get("over", "row")
        checks.one_of("over", over, "row", "head")
        if over == "head" and mass is None:
            raise TypeError('over="head" goes with mass: top and share count cells of a row')
        rule = cls(cells, causal, within, force, top, mass, over)
        rule._check_forced()
        return rule

    def _check_forced(self) -> None:
        if self.top is None or self.force is None:
            return
        if not self.cells.count or not self.cells.columns:
            return
        most = most_forced(self.cells, self.force, self.causal)
        if min(self.top, self.cells.columns) < most:
            raise ValueError(
                f"top (or share) allows {self.top} cells per row, and force, `{self.force.text}`, has up "
                f"to {most}: forced cells count"
            )

    def choose(
        self,
        score: Callable[[int, int], torch.Tensor],
        like: torch.Tensor,
        shape: tuple[int, int, int],
        width: int,
        logits: bool,
    ) -> torch.Tensor:
        """The chosen cells.

        score: fp32 scores (batch, heads, count, columns) of `count` rows from `first` on, called as
        score(first, count). like: a tensor on the device. shape: batch, heads of the scores, lists. width:
        numbers that a row of a head takes meanwhile. logits: whether scores are logits, not weights.

        Returns int32 (batch, lists, rows, min(top, columns)), ascending, then -1; for mass, bool (batch,
        lists, rows, columns).
        """
        cells, (batch, heads, lists) = self.cells, shape
        step = max(1, CHUNK // max(1, batch * heads * width))
        parts: list[_Scored] = []
        found: list[torch.Tensor] = []
        first = 0
        with torch.autocast(like.device.type, enabled=False):
            while first < cells.count:
                count = min(step, cells.count - first)
                scored = self._scored(score(first, count), first, count, lists, logits)
                if self.over == "row":
                    found.append(self._chosen(*scored))
                else:
                    parts.append(scored)
                first += count
            if parts:
                return self._of_heads(parts)
        if found:
            return torch.cat(found, 2)
        if self.top is None:
            return like.new_zeros((batch, lists, 0, cells.columns), dtype=torch.bool)
        most = min(self.top, cells.columns)
        return like.new_zeros((batch, lists, 0, most), dtype=torch.int32)

    def _scored(
        self, scores: torch.Tensor, first: int, count: int, lists: int, logits: bool
    ) -> _Scored:
        """Scores of lists (batch, lists, count, columns), where they may be chosen, and what has to be."""
        allowed, forced = self._allowed(scores, first, count)
        several = scores.shape[1] != lists
        fit = usable(scores, allowed)
        if logits and (several or self.top is None):
            scores = softmax(scores.masked_fill(~fit, -torch.inf))
        if several:
            group = scores.shape[1] // lists
            scores, fit = split(scores, 1, lists, group).sum(2), split(fit, 1, lists, group).any(2)
        return scores, fit, forced

    def _chosen(
        self, scores: torch.Tensor, fit: torch.Tensor, forced: torch.Tensor | None
    ) -> torch.Tensor:
        if self.top is not None:
            return _top(scores, fit, forced, min(self.top, self.cells.columns))
        assert self.mass is not None
        return _mass(scores, fit, forced, self.mass)

    def _of_heads(self, parts: list[_Scored]) -> torch.Tensor:
        """The choice among all rows of each list, as if they were one row."""
        scores = torch.cat([scored for scored, _, _ in parts], 2)
        fit = torch.cat([of_part for _, of_part, _ in parts], 2)
        forced = [must for _, _, must in parts if must is not None]
        flat = torch.cat(forced).flatten() if forced else None
        found = self._chosen(scores.flatten(2), fit.flatten(2), flat)
        return split(found, 2, *scores.shape[2:])

    def _allowed(
        self, like: torch.Tensor, first: int, count: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The cells that may be chosen, and those that have to be, bool (count, columns)."""
        cells = self.cells
        if self.causal:
            known = cells.up_to_query(first, count, like.device)
        else:
            known = torch.ones((count, cells.columns), dtype=torch.bool, device=like.device)
        allowed, forced = known, None
        if self.within is not None:
            allowed = known & touched(like, self.within, cells, first, count)
        if self.force is not None:
            forced = known & touched(like, self.force, cells, first, count)
            allowed = allowed | forced
        return allowed, forced


_OPTIONS = (*Placed.__annotations__, *Choice.__annotations__)
_OPTIONS = tuple(dict.fromkeys(_OPTIONS))


def _amount(cells: Cells, **options: Any) -> tuple[int | None, float | None]:
    """The number of cells of a row, or the mass of their weights."""
    given = {n: options[n] for n in ("top", "share", "mass") if options.get(n) is not None}
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        raise TypeError(f"a rule takes exactly one of top, share and mass, not {found}")
    ((name, value),) = given.items()
    if name == "top":
        checks.positive("top", value)
        return value, None
    checks.fraction(name, value)
    if name == "mass":
        return None, float(value)
    return part_of(cells.columns, value), None


def part_of(columns: int, share: float) -> int:
    """A share of the columns, rounded up, and 1 at least."""
    return max(1, math.ceil(share * columns - 1e-9))  # 0.1 * 30 may be a little more than 3


def lists_of(scope: object, heads: int, key_heads: int) -> int:
    """The number of lists. Raises ValueError for an unknown scope."""
    checks.one_of("scope", scope, "query", "key", "all")
    return {"query": heads, "key": key_heads, "all": 1}[str(scope)]


def usable(scores: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """The cells that may be chosen for their score: neither NaN nor -inf."""
    return allowed & (scores > -torch.inf)


def softmax(logits: torch.Tensor) -> torch.Tensor:
    """Weights along the last dimension; 0 for logits of -inf or NaN."""
    some = logits > -torch.inf
    return torch.where(some, logits.masked_fill(~some, -torch.inf).softmax(-1), 0)


def _order(scores: torch.Tensor) -> torch.Tensor:
    """int64 that are ordered as fp32 scores are, from -2**31 to 2**31 - 1; 0 and -0 are equal."""
    bits = (scores + 0.0).view(torch.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(torch.int64)


def _top(
    scores: torch.Tensor, fit: torch.Tensor, forced: torch.Tensor | None, count: int
) -> torch.Tensor:
    """The columns of the best scores, int32 (..., count), ascending, then -1.

    Scores and columns make one integer, so no two are equal, and torch.topk has one answer.
    """
    columns = scores.shape[-1]
    column = torch.arange(columns, dtype=torch.int64, device=scores.device)
    none = -(2**31) - 1
    rank = torch.where(fit, _order(scores), none)
    if forced is not None:
        rank = torch.where(forced, 2**31, rank)
    keys = (rank << _LOW) + (columns - 1 - column)
    best = keys.topk(count, dim=-1, sorted=False).values
    found = columns - 1 - (best & (2**_LOW - 1))
    found = torch.where(best >> _LOW > none, found, columns).sort(dim=-1).values
    return torch.where(found < columns, found, -1).to(torch.int32)


def _mass(
    weights: torch.Tensor, fit: torch.Tensor, forced: torch.Tensor | None, mass: float
) -> torch.Tensor:
    """The fewest columns with a part of the weights of each row, bool like the weights.

    Weights are counted in units of 2**-40 of the row's sum.
    """
    weights = torch.where(fit, weights, 0)
    total = weights.sum(-1, keepdim=True, dtype=torch.float64)
    units = (weights / total.clamp_min(torch.finfo(torch.float64).tiny) * _UNIT).round()
    units = units.to(torch.int64)
    rank = torch.where(fit, _order(weights), -(2**31) - 1)
    if forced is not None:
        rank = torch.where(forced, 2**31, rank)
    order = rank.sort(dim=-1, descending=True, stable=True).indices
    ordered = units.gather(-1, order)
    before = ordered.cumsum(-1) - ordered
    needed = (units.sum(-1, keepdim=True, dtype=torch.int64).to(torch.float64) * mass).ceil()
    taken = torch.zeros_like(fit.expand_as(weights)).scatter(-1, order, before < needed)
    taken = taken & fit
    return taken if forced is None else taken | forced

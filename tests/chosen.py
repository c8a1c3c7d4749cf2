"""The published rules that choose cells, as plain and as slow as they read: loops in fp64.

A reference gives the scores of the cells of a head, and `check` holds what a rule chose against them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from bslang import compiler
from bslang.syntax.source import Source


@dataclass(frozen=True)
class Shape:
    """The shapes of one call, and tensors of it."""

    len_q: int
    len_k: int
    rows: int
    cols: int
    batch: int = 1
    heads: int = 2
    key_heads: int = 1
    dim: int = 4
    align: str = "end"
    causal: bool = True
    whole: bool = False  # small whole numbers, whose sums are exact, with many ties
    seed: int = 0

    @property
    def start(self) -> int:
        return self.len_k - self.len_q if self.align == "end" else 0

    @property
    def first_row(self) -> int:
        return self.start // self.rows

    @property
    def row_count(self) -> int:
        return (self.start + self.len_q - 1) // self.rows - self.first_row + 1

    @property
    def columns(self) -> int:
        return -(-self.len_k // self.cols)

    def queries(self, row: int) -> list[int]:
        """The queries (as indices of q) in a row."""
        return [
            x for x in range(self.len_q) if (self.start + x) // self.rows == row + self.first_row
        ]

    def keys(self, column: int) -> list[int]:
        return [y for y in range(self.len_k) if y // self.cols == column]

    def position(self, query: int) -> int:
        return self.start + query

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(self.seed)

        def made(heads: int, length: int) -> torch.Tensor:
            shape = (self.batch, heads, length, self.dim)
            if self.whole:
                return torch.randint(-2, 3, shape, generator=generator).float()
            return torch.randn(shape, generator=generator)

        return made(self.heads, self.len_q), made(self.key_heads, self.len_k)

    def sees(self, query: int, key: int) -> bool:
        return not self.causal or key <= self.position(query)

    def touched(self, pattern: str | None) -> torch.Tensor:
        """The cells with a pair of a pattern, bool (rows, columns), asked pair by pair."""
        if pattern is None:
            return torch.zeros(self.row_count, self.columns, dtype=torch.bool)
        resolved = compiler.resolve(Source("<test>", pattern), block=(self.rows, self.cols))
        pairs = torch.from_numpy(compiler.mask(resolved, self.len_q, self.len_k, self.align))
        found = torch.zeros(self.row_count, self.columns, dtype=torch.bool)
        for row in range(self.row_count):
            for column in range(self.columns):
                found[row, column] = pairs[self.queries(row)][:, self.keys(column)].any()
        return found

    def ahead(self) -> torch.Tensor:
        """The cells that lie wholly after their queries."""
        found = torch.zeros(self.row_count, self.columns, dtype=torch.bool)
        for row in range(self.row_count):
            for column in range(self.columns):
                found[row, column] = not any(
                    self.sees(q, k) for q in self.queries(row) for k in self.keys(column)
                )
        return found


Scores = Callable[[torch.Tensor, torch.Tensor, Shape], torch.Tensor]
"""Scores (rows, columns) of the queries (len_q, dim) and keys (len_k, dim) of one head."""


def pooled(q: torch.Tensor, k: torch.Tensor, shape: Shape, pool: str = "mean") -> torch.Tensor:
    def one(x: torch.Tensor, tokens: list[int]) -> torch.Tensor:
        return x[tokens].mean(0) if pool == "mean" else x[tokens].max(0).values

    found = torch.zeros(shape.row_count, shape.columns, dtype=torch.float64)
    for row in range(shape.row_count):
        for column in range(shape.columns):
            product = one(q, shape.queries(row)) @ one(k, shape.keys(column))
            found[row, column] = product / shape.dim**0.5
    return found


def bounds(q: torch.Tensor, k: torch.Tensor, shape: Shape) -> torch.Tensor:
    found = torch.zeros(shape.row_count, shape.columns, dtype=torch.float64)
    for row in range(shape.row_count):
        for column in range(shape.columns):
            page = k[shape.keys(column)]
            for i in range(shape.dim):
                by_least, by_greatest = q[row, i] * page[:, i].min(), q[row, i] * page[:, i].max()
                found[row, column] += max(by_least, by_greatest)
    return found / shape.dim**0.5


def antidiagonal(q: torch.Tensor, k: torch.Tensor, shape: Shape, stride: int) -> torch.Tensor:
    """Tiles of positions; the tokens of a tile that are not there add nothing."""
    found = torch.zeros(shape.row_count, shape.columns, dtype=torch.float64)
    first, last = shape.start // stride, (shape.start + shape.len_q - 1) // stride
    for tile_q in range(first, last + 1):
        sums = []
        for tile_k in range((shape.len_k - 1) // stride + 1):
            total = torch.tensor(0.0, dtype=torch.float64)
            for step in range(stride):
                x = tile_q * stride + stride - 1 - step - shape.start
                y = tile_k * stride + step
                if 0 <= x < shape.len_q and y < shape.len_k:
                    total = total + q[x] @ k[y]
            ahead = shape.causal and tile_k > tile_q
            sums.append(-torch.inf if ahead else float(total) / shape.dim**0.5 / stride)
        weights = torch.tensor(sums, dtype=torch.float64).softmax(0)
        for tile_k, weight in enumerate(weights):
            row = tile_q * stride // shape.rows - shape.first_row
            found[row, tile_k * stride // shape.cols] += weight
    return found


def compressed(shape: Shape, lists: int, kernel: int, stride: int, pool: str) -> torch.Tensor:
    """Scores (batch, lists, rows, columns): the weights of a group's heads are added, then pooled."""
    q, k = (x.double() for x in shape.tensors())
    starts = list(range(0, shape.len_k - kernel + 1, stride))
    found = torch.zeros(shape.batch, lists, shape.row_count, shape.columns, dtype=torch.float64)
    for batch in range(shape.batch):
        weights = torch.zeros(lists, shape.len_q, len(starts), dtype=torch.float64)
        for head in range(shape.heads):
            own = k[batch, head * shape.key_heads // shape.heads]
            for x in range(shape.len_q):
                seen = [i for i, start in enumerate(starts) if shape.sees(x, start + kernel - 1)]
                if seen:
                    keys = torch.stack([own[starts[i] : starts[i] + kernel].mean(0) for i in seen])
                    scores = keys @ q[batch, head, x] / shape.dim**0.5
                    weights[head * lists // shape.heads, x, seen] += scores.softmax(0)
        for column in range(shape.columns):
            for i, start in enumerate(starts):
                shared = len(set(range(start, start + kernel)) & set(shape.keys(column)))
                one, cell = weights[:, :, i], found[batch, :, :, column]
                if pool == "overlap":
                    cell += one * shared / stride
                elif shared:
                    cell.copy_(cell.maximum(one))
    return found


def indexer(
    shape: Shape, lists: int, weights: torch.Tensor | None, relu: bool, pool: str
) -> torch.Tensor:
    """Scores (batch, lists, rows, columns): heads are added token by token, then cells are pooled."""
    q, k = (x.double() for x in shape.tensors())
    found = torch.full(
        (shape.batch, lists, shape.row_count, shape.columns), -torch.inf, dtype=torch.float64
    )
    for batch in range(shape.batch):
        for one in range(lists):
            group = shape.heads // lists
            for x in range(shape.len_q):
                scores = {}
                for y in range(shape.len_k):
                    if not shape.sees(x, y):
                        continue
                    scores[y] = 0.0
                    for head in range(one * group, (one + 1) * group):
                        product = (
                            q[batch, head, x] @ k[batch, head * shape.key_heads // shape.heads, y]
                        )
                        product = product.clamp_min(0) if relu else product
                        factor = 1.0 if weights is None else float(weights[batch, head, x])
                        scores[y] += float(product) * factor
                for column in range(shape.columns):
                    some = [scores[y] for y in shape.keys(column) if y in scores]
                    if some:
                        value = max(some) if pool == "max" else sum(some) / len(some)
                        found[batch, one, x, column] = value
    return found


def allowed(shape: Shape, force: str | None, within: str | None) -> torch.Tensor:
    """The cells that may be chosen, bool (rows, columns)."""
    some = shape.touched("all" if within is None else within) | shape.touched(force)
    return some & ~shape.ahead()


def as_weights(scores: torch.Tensor) -> torch.Tensor:
    """Softmax over the candidates; -inf stays for the others."""
    return scores.softmax(-1).nan_to_num().masked_fill(scores == -torch.inf, -torch.inf)


def by_list(
    scores: Scores, shape: Shape, lists: int, logits: bool, force: str | None, within: str | None
) -> torch.Tensor:
    """The scores (batch, lists, rows, columns), -inf for what may not be chosen."""
    q, k = (x.double() for x in shape.tensors())
    some = allowed(shape, force, within)
    found = torch.zeros(shape.batch, lists, shape.row_count, shape.columns, dtype=torch.float64)
    for batch in range(shape.batch):
        for head in range(shape.heads):
            key_head = head * shape.key_heads // shape.heads
            one = scores(q[batch, head], k[batch, key_head], shape)
            if logits and lists != shape.heads:
                one = one.masked_fill(~some, -torch.inf).softmax(1).nan_to_num()
            found[batch, head * lists // shape.heads] += one
    return found.masked_fill(~some, -torch.inf)


def dense(found: torch.Tensor, columns: int) -> torch.Tensor:
    """What a rule returned as bool (..., rows, columns)."""
    if found.dtype == torch.bool:
        return found
    sets = torch.zeros((*found.shape[:-1], columns), dtype=torch.bool)
    for index in (found >= 0).nonzero().tolist():
        sets[(*index[:-1], int(found[tuple(index)]))] = True
    return sets


def check(
    found: torch.Tensor, scores: torch.Tensor, shape: Shape, force: str | None, **amount: Any
) -> None:
    """A choice by top or mass, against scores (batch, lists, rows, columns), -inf for no candidates.

    Scores that differ by less than rounding may take each other's place; those that are equal in whole
    numbers may not.
    """
    slack = 0.0 if shape.whole else 1e-5
    sets = dense(found, shape.columns)
    assert sets.shape == scores.shape
    forced = (shape.touched(force) & ~shape.ahead()).expand_as(sets)
    if found.dtype != torch.bool:
        assert found.dtype == torch.int32
        for row in found.flatten(0, 2).tolist():
            real = [column for column in row if column >= 0]
            assert real == sorted(set(real)) and row == real + [-1] * (len(row) - len(real))
    for place in torch.cartesian_prod(*(torch.arange(n) for n in sets.shape[:3])).tolist():
        row, score, must = sets[tuple(place)], scores[tuple(place)], forced[tuple(place)]
        fit = (score > -torch.inf).nonzero().flatten().tolist()
        chosen = row.nonzero().flatten().tolist()
        assert set(must.nonzero().flatten().tolist()) <= set(chosen) <= set(fit)
        # The order in which cells are taken: forced ones, then the best, then the smaller column.
        order = sorted(fit, key=lambda j: (not must[j], -float(score[j]), j))
        free = [j for j in chosen if not must[j]]
        left = [j for j in fit if j not in chosen]
        if free and left:
            assert min(float(score[j]) for j in free) >= max(float(score[j]) for j in left) - slack
        if amount.get("top") is not None:
            assert len(chosen) == min(amount["top"], len(fit))
            if not slack:
                assert chosen == sorted(order[: amount["top"]])
        else:
            _check_mass(score[fit], score[chosen], [float(score[j]) for j in free], amount["mass"])


def _check_mass(fit: torch.Tensor, chosen: torch.Tensor, free: list[float], mass: float) -> None:
    """Enough, and not without the last that was taken."""
    total, taken = float(fit.sum()), float(chosen.sum())
    assert taken >= mass * total - 1e-5 * total
    if free:
        assert taken - min(free) < mass * total + 1e-5 * total

"""Selections: which cells are listed comes with the call; on every target, and through every entry."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from calls import Call
from reference import TOLERANCE, agrees
from torch import nn

import bslang
from bslang import call as options
from bslang import compiler
from bslang.generated import import_file
from bslang.inputs import Selection
from bslang.ir.awaited import inputs
from bslang.ir.oracle import dense
from bslang.ir.runs import Bools
from bslang.nn import BlockSparseAttention
from bslang.runtime import op

TOLERATED = TOLERANCE[torch.float32]


@dataclass(frozen=True)
class Chosen(Call):
    """A call whose selections are drawn: a few cells of each row of cells.

    groups: heads of a selection; given: how it is written; rows_given: its batch, 0 for that of the call.
    """

    block: tuple[int, int] = (16, 16)
    groups: int = 1
    given: str = "bool"
    rows_given: int = 0

    def cells(self, selection: Selection) -> tuple[int, int]:
        """How many rows and columns of cells there are: one after another, as positions are counted."""
        start = self.len_k - self.len_q if self.align == "end" else 0
        queries, keys = range(start, start + self.len_q), range(self.len_k)
        of_rows, of_cols = (keys, queries) if selection.turned else (queries, keys)
        return len({x // selection.rows for x in of_rows}), len(
            {x // selection.cols for x in of_cols}
        )

    def listed(self) -> dict[str, torch.Tensor]:
        """Which cells are, bool (batch or 1, groups, rows, columns), by name."""
        generator = torch.Generator().manual_seed(len(self.spec))
        made = {}
        for selection in inputs(self.block, self.pattern).selections:
            shape = (self.rows_given or self.batch, self.groups, *self.cells(selection))
            made[selection.name] = torch.rand(shape, generator=generator) < 0.3
        return made

    def select(self) -> dict[str, torch.Tensor]:
        """The same as a call takes them."""
        return {name: written(x, self.given) for name, x in self.listed().items()}

    def mask(self) -> Bools:
        """The truth, bool (batch, heads, len_q, len_k), from the dense oracle."""
        chosen, told = self.listed(), {}
        for name, label in (self.labels() or {}).items():
            of_q, of_k = label if isinstance(label, tuple) else (label, label)
            both = (x.expand(self.batch, -1) for x in (of_q[..., -self.len_q :], of_k))
            told[name] = tuple(x.numpy() for x in both)
        return np.array(
            [
                [
                    dense(
                        self.pattern,
                        self.grid(head),
                        {name: (q[row], k[row]) for name, (q, k) in told.items()},
                        {
                            name: x[row % len(x), head * self.groups // self.heads].numpy()
                            for name, x in chosen.items()
                        },
                    )
                    for head in range(self.heads)
                ]
                for row in range(self.batch)
            ]
        )

    def check(self, target: str, **call: object) -> None:  # type: ignore[override]
        """Assert that a target's results are those of dense attention."""
        agrees(
            self.layout(target), self.inputs(), self.mask(), TOLERATED, align=self.align,
            labels=self.labels(), select=self.select(), **call,
        )  # fmt: skip


def written(listed: torch.Tensor, kind: str) -> torch.Tensor:
    """Listed cells as a call takes them: as numbers in no order, some twice, among others that are none."""
    if kind == "bool":
        return listed
    dtype = torch.int64 if kind == "int64" else torch.int32
    least, most = torch.iinfo(dtype).min, torch.iinfo(dtype).max
    rows, columns = listed.flatten(0, -2), listed.shape[-1]
    wrong = [-1, columns, most, least, columns + 7, -columns]
    if kind == "int64":
        wrong += [2**32, 2**32 + 1, -(2**32), 2**31]  # a cell, in the lower half of their bits
    generator = torch.Generator().manual_seed(0)
    made = torch.empty((len(rows), 2 * columns + len(wrong)), dtype=dtype)
    for row, out in zip(rows, made, strict=True):
        cells = row.nonzero()[:, 0].tolist()
        cells += [*cells[:columns], *wrong]
        cells += [-1] * (len(out) - len(cells))
        out[:] = torch.tensor(cells)[torch.randperm(len(cells), generator=generator)]
    return made.reshape(*listed.shape[:-1], -1)


MIXED = "(select(pick, rows=1t) | last(20t) | cols(0)) & causal"
"""What is chosen and what is fixed, in one layout: a row of cells each query."""

CALLS = [
    Chosen(MIXED, len_q=60, len_k=60, groups=2),
    Chosen(MIXED, len_q=60, len_k=60, groups=4, given="int64", rows_given=1),
    Chosen(MIXED, len_q=20, len_k=61, groups=1, given="int32"),
    Chosen(MIXED, len_q=1, len_k=61, groups=2, given="int64"),  # decoding: heads of a key head in one tile
    Chosen(MIXED, len_q=1, len_k=61, groups=4, given="bool"),  # and each with its own cells
    Chosen("select(pick)", len_q=50, len_k=30, align="start", groups=4, given="int32"),
    Chosen("select(pick, rows=1t, cols=1t)", len_q=37, len_k=53, groups=4),  # any matrix
    Chosen("select(pick, rows=1t, cols=4t) & causal", len_q=37, len_k=53, given="int32"),
    Chosen("select(pick, rows=5t, cols=7t) ^ last(9t)", len_q=37, len_k=53, groups=2),
    Chosen("all - select(pick, rows=24t, cols=20t)", len_q=37, len_k=53, groups=4, given="int64"),
    Chosen("select(pick, rows=2, cols=4) & causal", len_q=60, len_k=60, groups=2, given="int32"),
    Chosen("select(pick, rows=4t, cols=16t).T & window(3)", len_q=37, len_k=53, groups=2),
    Chosen("select(pick) | select(pick).T", len_q=60, len_k=60, groups=4, given="int64"),
    Chosen("select(near, cols=4t) - select(far, rows=1t) | diagonals(0t)", len_q=37, len_k=37, groups=2),
    Chosen("(select(pick, cols=8t) | same(doc)) & causal", len_q=60, len_k=60, groups=2),
    Chosen("select(pick, rows=1t) & same(doc) & {q, k : doc[q] + k > q}", len_q=37, len_k=53),
    Chosen("heads { 0 -> causal; 1:3 -> select(pick); 3: -> last(9t) }", len_q=37, len_k=37, groups=4),
    Chosen("select(pick) & last(head * 9t + 5t)", len_q=37, len_k=53, groups=2, given="int64"),
    Chosen("select(pick, rows=1t, cols=8t)", (5, 3), len_q=20, len_k=20, groups=2),  # cells across blocks
    Chosen("(select(pick) | causal) & causal", len_q=20, len_k=37),  # no pair depends on the cells
    Chosen("select(pick) ^ {q, k : (q + k) % 3 == 0}", len_q=20, len_k=37),  # states settle no block
    Chosen("select(no) & {q, k : (q + k) % 3 == 0} | select(yes, cols=4t)", len_q=20, len_k=37),  # never full
]  # fmt: skip
BUILT = (MIXED, "select(pick) | select(pick).T", "heads")
"""Layouts whose kernels are built for the cpu target: the others have the same parts in other places."""


def name_of(call: Call) -> str:
    return f"{call.spec}-{call.len_q}x{call.len_k}"


def check(target: str, call: Chosen) -> None:
    call.check(target)


@pytest.mark.parametrize("call", CALLS, ids=name_of)
def test_results(call: Chosen) -> None:
    for target in ("torch", "cpu") if call.spec.startswith(BUILT) else ("torch",):
        check(target, call)


@pytest.mark.parametrize("call", [CALLS[n] for n in (2, 3, 12, 15, -3, -1)], ids=name_of)
def test_results_on_triton(call: Chosen, interpreting: Executor) -> None:
    """By its interpreter, which is slow: fewer, smaller, with two heads and one row of the batch."""
    heads = 4 if "heads" in call.spec else 2
    groups = min(call.groups, heads)
    len_q = 37 if ".T" in call.spec else min(call.len_q, 20)
    small = replace(call, len_q=len_q, len_k=37, batch=1, heads=heads, groups=groups)
    interpreting.submit(check, "triton", replace(small, key_heads=heads // 2)).result()


def test_the_oracle_by_hand() -> None:
    """Cells are counted from position 0, whatever the positions of the queries are."""
    call = Chosen("select(pick, rows=5t, cols=7t)", len_q=11, len_k=24, heads=2, batch=1, groups=2)
    listed = call.listed()["pick"]
    assert listed.shape == (1, 2, 3, 4)  # queries 13 to 23 are of cells 2, 3 and 4
    mask = call.mask()
    for head, q, k in np.ndindex(2, 11, 24):
        assert mask[0, head, q, k] == listed[0, head, (13 + q) // 5 - 2, k // 7]


# ---- other options of a call ---------------------------------------------------------------------


def check_options(target: str) -> None:
    call = Chosen(MIXED, len_q=24, len_k=24, groups=2, given="int64")
    layout, given = call.layout(target), call.inputs(value_dim=32)
    logits = torch.tensor([1.0, -1.0, 3.0, 0.0])
    agrees(layout, given, call.mask(), TOLERATED, softcap=2.0, sinks=logits, select=call.select())
    padded = torch.arange(24) >= torch.tensor([[24], [13]])
    mask = call.mask() & ~padded.numpy()[:, None, None, :]
    agrees(layout, given, mask, TOLERATED, key_padding=padded, select=call.select())


def test_sinks_softcap_padding_and_wide_values(on: Callable[..., None]) -> None:
    on(check_options)


def check_lengths(target: str) -> None:
    """Rows that end at different places are as each by itself, also with queries before the first key."""
    rows = 4 if target == "torch" else 1  # no other kernel is built than that of MIXED
    call = Chosen(MIXED.replace("rows=1t", f"rows={rows}t"), groups=2)
    layout, lengths, generator = (
        call.layout(target),
        torch.tensor([37, 2, 0, 18]),
        torch.Generator(),
    )
    q, k, v = (torch.randn(4, h, n, 16, generator=generator) for h, n in ((4, 3), (2, 37), (2, 37)))
    select = torch.rand(4, 2, (3 + rows - 2) // rows + 1, 3, generator=generator) < 0.5
    leaves = [x.requires_grad_() for x in (q, k, v)]
    out = layout(q, k, v, lengths=lengths, select=select)
    assert out.isfinite().all()
    expected = torch.zeros_like(out)
    for row, length in enumerate(lengths.tolist()):
        at = slice(row, row + 1)
        held = min(3, length)
        assert not out[at, :, : 3 - held].any()
        if not held:
            continue
        start = length - held
        lines = (length - 1) // rows - start // rows + 1
        chosen = select[at, :, :lines, : -(-length // 16)]
        alone = layout(q[at, :, 3 - held :], k[at, :, :length], v[at, :, :length], select=chosen)
        expected[at, :, 3 - held :] = alone
    torch.testing.assert_close(out, expected, rtol=0, atol=2e-6)
    if (
        target == "triton"
    ):  # whose interpreter is slow: gradients of rows are put together for all alike
        return
    grad = torch.randn(out.shape, generator=generator)
    for got, wanted in zip(
        torch.autograd.grad(out, leaves, grad),
        torch.autograd.grad(expected, leaves, grad),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)


def test_rows_of_several_lengths(on: Callable[..., None]) -> None:
    on(check_lengths)


# ---- what is not selected --------------------------------------------------------------------------


def check_not_visited(target: str) -> None:
    """Blocks that are not listed hold NaN: what is visited and masked out would leave 0 * NaN."""
    call = Chosen("select(pick) | select(pick).T", len_q=64, len_k=64)
    given, layout = call.inputs(), call.layout(target)
    for x in (given.q, given.k, given.v, given.grad_out):
        x[:, :, 32:] = torch.nan
    apart = torch.tensor([[0, 0, 1, -1], [1, 9, -3, 1], [2, -1, 3, 2], [3, 3, 3, 4]])[None, None]
    q, k, v = (x.requires_grad_() for x in (given.q, given.k, given.v))
    out = layout(q, k, v, select=apart)
    for x in (out, *torch.autograd.grad(out, (q, k, v), given.grad_out)):
        assert x[:, :, :32].isfinite().all() and x[:, :, 32:].isnan().all()


def test_what_is_not_selected_is_not_visited(on: Callable[..., None]) -> None:
    on(check_not_visited)


def check_ends(target: str) -> None:
    """No cell leaves what is fixed, an index that is none reads nothing, two calls are equal to the bit."""
    call = Chosen(MIXED, len_q=24, len_k=24, batch=1)
    given, layout = call.inputs(), call.layout(target)
    q, k, v = (x.requires_grad_() for x in (given.q, given.k, given.v))
    fixed = bslang.compile("(last(20t) | cols(0)) & causal", block=16, target="torch")(q, k, v)
    wrong = torch.tensor([-(2**63), 2**63 - 1, 2**32, 2, -1], dtype=torch.int64)
    empty = torch.zeros((1, 1, 24, 0), dtype=torch.int32)
    for nothing in (wrong.expand(1, 1, 24, 5), empty, torch.zeros(1, 1, 24, 2, dtype=torch.bool)):
        torch.testing.assert_close(layout(q, k, v, select=nothing), fixed)
    runs = []
    for _ in range(2):
        out = layout(q, k, v, select=call.select())
        runs.append((out, *torch.autograd.grad(out, (q, k, v), given.grad_out)))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_no_cells_wrong_cells_and_two_calls(on: Callable[..., None]) -> None:
    on(check_ends)


# ---- entries -------------------------------------------------------------------------------------


def test_operators_pass_opcheck() -> None:
    call = Chosen(MIXED, len_q=24, len_k=24, groups=2, given="int32")
    made, given = call.layout("torch"), call.inputs()
    q, k, v = (x.requires_grad_() for x in (given.q, given.k, given.v))
    told = options.Call(0.25, selections=(call.select()["pick"],)).pack()
    torch.library.opcheck(op.attention, (q, k, v, made._key, *told))


class Attends(nn.Module):
    def __init__(self, target: str) -> None:
        super().__init__()
        self.layout = bslang.compile(MIXED, block=16, target=target)

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, pick: torch.Tensor
    ) -> torch.Tensor:
        return self.layout(q, k, v, select={"pick": pick})


@pytest.mark.parametrize("target", ["torch", "cpu"])
def test_compiled_exported_and_pickled(target: str) -> None:
    module = Attends(target)
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend="aot_eager")
    for length in (40, 61):
        call = Chosen(MIXED, len_q=length, len_k=length, groups=2, given="int64")
        given, pick = call.inputs(), call.select()["pick"]
        leaves = [x.requires_grad_() for x in (given.q, given.k, given.v)]
        found = []
        for function in (module, compiled):
            out = function(*leaves, pick)
            found.append((out, *torch.autograd.grad(out, leaves, given.grad_out)))
        for got, wanted in zip(*found, strict=True):
            torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)
    given_now = tuple(x.detach() for x in leaves)
    program = torch.export.export(module, (*given_now, pick)).module()
    again = pickle.loads(pickle.dumps(module)), copy.deepcopy(module), program
    truth = module(*given_now, pick)
    for one in again:
        torch.testing.assert_close(one(*given_now, pick), truth, rtol=0, atol=0)


def test_every_size_of_a_traced_selection_may_be_open() -> None:
    """Also the batch and the heads, where labels come with it."""
    spec = "(select(pick, rows=5t) | {q, k : doc[q] - doc[k] < 3}) & causal"
    call = Chosen(spec, (16, 16), len_q=50, len_k=50, groups=4)
    layout = call.layout("torch")

    def run(*tensors: torch.Tensor) -> torch.Tensor:
        q, k, v, pick, doc = tensors
        return layout(q, k, v, select={"pick": pick}, labels={"doc": doc})

    given = call.inputs()
    doc = torch.arange(50).expand(2, 50) // torch.tensor([[3], [7]])
    tensors = given.q, given.k, given.v, call.select()["pick"], doc
    torch._dynamo.reset()
    compiled = torch.compile(run, fullgraph=True, dynamic=True, backend="eager")
    assert torch.equal(compiled(*tensors), run(*tensors))


def test_a_generated_module_takes_them(tmp_path: Path) -> None:
    call = Chosen(MIXED, groups=2, given="int32")
    layout = call.layout("torch")
    assert layout.selections == ("pick",)
    ((name, text),) = compiler.emit(layout._resolved, ("torch",)).items()
    (tmp_path / name).write_text(text, encoding="utf-8")
    module = import_file(tmp_path / name, "a_module_with_a_selection")
    given = call.inputs()
    tensors = given.q, given.k, given.v
    out = module.attention(*tensors, select=call.select())
    assert torch.equal(out, layout(*tensors, select=call.select()))
    with pytest.raises(TypeError, match="this layout needs selections"):
        module.attention(*tensors)


def test_a_layer_passes_them_on() -> None:
    torch.manual_seed(0)
    layer = BlockSparseAttention(64, 4, bslang.compile(MIXED, block=16, target="torch"))
    x = torch.randn(2, 40, 64)
    pick = torch.rand(2, 4, 40, 3) < 0.3
    out = layer(x, select={"pick": pick})
    assert not torch.allclose(out, layer(x, select=torch.zeros_like(pick)), atol=1e-3)
    torch.testing.assert_close(layer(x, select=pick), out)
    with pytest.raises(TypeError, match="needs selections"):
        layer(x)

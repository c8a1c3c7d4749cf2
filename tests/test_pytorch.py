"""Layouts in PyTorch: its compiler, exports, checkpoints, copies, padding, packing and decoding."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from concurrent.futures import Executor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import TOLERANCE, Attended, dense, inputs, run
from torch.utils.checkpoint import checkpoint

import bslang
from bslang import compiler
from bslang.call import Call
from bslang.ir import oracle
from bslang.labels import Labels
from bslang.layouts import Layout
from bslang.runtime import op

BIGBIRD = "window(3) | global(0, -1) | random(2, seed=7)"
STREAMING = "(last(20t) | cols(0:4t)) & causal"
TARGETS = ("torch", "cpu")
DTYPES = {
    "torch": (torch.float32, torch.float16, torch.bfloat16, torch.float64),
    "cpu": (torch.float32, torch.float16, torch.bfloat16),
    "triton": (torch.float32, torch.float16, torch.bfloat16),
}


def layout(spec: str, target: str = "torch", block: int = 8) -> Layout:
    return bslang.compile(spec, block=block, target=target)


def mask(made: Layout, length: int, head: int = 0) -> np.ndarray:  # type: ignore[type-arg]
    return oracle.dense(
        made._resolved.pattern, compiler.grid(made._resolved, length, length, head=head)
    )


# ---- the operators ----------------------------------------------------------------------------


def check_operators(target: str, dtype: torch.dtype, block: int = 8) -> None:
    made = layout(BIGBIRD, target, block)
    packed = layout("same(doc) & causal", target, block)
    for one in (made, made._with_padding, packed):
        vars(one.targets[target])["dtypes"] = DTYPES[target]  # bf16 too, see tests/interpreter.py
    given = inputs(24, 24, dtype=dtype)
    doc = (torch.arange(24, dtype=torch.int32) // 9).view(1, 1, 1, 24)
    padding = torch.arange(24)[None] >= 19
    for grad in (True,) if target == "triton" else (False, True):  # its interpreter is slow
        q, k, v = (x.clone().requires_grad_(grad) for x in (given.q, given.k, given.v))
        padded = Call(0.25, softcap=5.0, padding=padding)
        torch.library.opcheck(op.attention, (q, k, v, made._key, *Call(0.25).pack()))
        torch.library.opcheck(op.attention, (q, k, v, made._key, *padded.pack()))
        of_documents = Call(0.25, labels=Labels(doc, doc))
        torch.library.opcheck(op.attention, (q, k, v, packed._key, *of_documents.pack()))
    with torch.no_grad():
        out, lse = made(given.q, given.k, given.v, return_lse=True)  # type: ignore[misc]
    results = (given.grad_out, given.grad_lse, given.q, given.k, given.v, out, lse)
    torch.library.opcheck(op.attention_backward, (*results, made._key, *Call(0.25).pack()))


@pytest.mark.parametrize(("target", "dtype"), [(t, d) for t in TARGETS for d in DTYPES[t]], ids=str)
def test_operators_pass_opcheck(target: str, dtype: torch.dtype) -> None:
    check_operators(target, dtype)


@pytest.mark.parametrize("dtype", DTYPES["triton"], ids=str)
def test_operators_of_the_triton_target_pass_opcheck(
    interpreting: Executor, dtype: torch.dtype
) -> None:
    interpreting.submit(check_operators, "triton", dtype, 16).result()


def test_vmap_is_refused() -> None:
    made = layout(BIGBIRD)
    q = torch.randn(3, 1, 2, 16, 8)
    with pytest.raises(RuntimeError, match="put the mapped dimension into the batch"):
        torch.func.vmap(made)(q, q, q)


# ---- torch.compile and torch.export ----------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_lengths_do_not_recompile_after_the_second(target: str) -> None:
    made = layout(STREAMING, target)
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")

    @torch.compile(fullgraph=True, backend=counter)
    def loss(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out, lse = made(q, k, v, return_lse=True, softcap=9.0)
        return out.square().sum() + lse.sum()  # type: ignore[no-any-return]

    for length in (40, 56, 17, 90, 64):
        given = inputs(length, length)
        q = given.q.detach().requires_grad_()
        loss(q, given.k, given.v).backward()
        plain = given.q.detach().requires_grad_()
        out, lse = made(plain, given.k, given.v, return_lse=True, softcap=9.0)
        (out.square().sum() + lse.sum()).backward()
        torch.testing.assert_close(q.grad, plain.grad)
    assert counter.frame_count <= 2
    torch._dynamo.reset()


def test_compiled_calls_with_labels_and_padding() -> None:
    made = layout("same(doc) & causal")
    call = torch.compile(made, fullgraph=True, dynamic=True, backend="aot_eager")
    for length in (40, 29):
        given = inputs(length, length, batch=2)
        doc = torch.arange(length) // 11
        options = {"labels": doc, "key_padding": torch.tensor([length, 7])}
        torch.testing.assert_close(
            call(given.q, given.k, given.v, **options), made(given.q, given.k, given.v, **options)
        )
    torch._dynamo.reset()


class _Block(torch.nn.Module):
    def __init__(self, made: Layout) -> None:
        super().__init__()
        self.project = torch.nn.Linear(32, 96)
        self.attention = made

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.project(x).unflatten(-1, (3, 2, 16)).permute(2, 0, 3, 1, 4)
        out = self.attention(*parts.unbind())
        assert isinstance(out, torch.Tensor)
        return out.transpose(1, 2).flatten(2)


@pytest.mark.parametrize("target", TARGETS)
def test_an_exported_program_runs_in_another_process(target: str, tmp_path: Path) -> None:
    block = _Block(layout(STREAMING, target))
    x = torch.randn(1, 40, 32)
    program = torch.export.export(
        block, (x,), dynamic_shapes={"x": {1: torch.export.Dim("length", min=8, max=512)}}
    )
    calls = [str(node.args) for node in program.graph.nodes if "bslang" in str(node.target)]
    assert len(calls) == 1 and block.attention.spec in calls[0]
    torch.export.save(program, tmp_path / "block.pt2")
    longer = torch.randn(1, 72, 32)
    torch.save((longer, block(longer)), tmp_path / "expected.pt")
    code = (
        "import sys, torch, bslang\n"
        "from bslang import Layout\n"
        "program = torch.export.load(sys.argv[1] + '/block.pt2')\n"
        "x, expected = torch.load(sys.argv[1] + '/expected.pt')\n"
        "torch.testing.assert_close(program.module()(x), expected)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=300)


def test_a_program_whose_layout_cannot_be_made_says_so() -> None:
    q = torch.zeros(1, 1, 8, 8)
    for key in ("nonsense", 'block 8x8; table("sha256-0.npy"); torch', "block 8x8; all; brass"):
        with pytest.raises(RuntimeError, match="compile or import it first"):
            op.attention(q, q, q, key, *Call(1.0).pack())


@pytest.mark.parametrize("target", TARGETS)
def test_operations_are_counted_by_visited_blocks(target: str) -> None:
    """In a process where the counter was made first, as after other tests."""
    from torch.utils.flop_counter import FlopCounterMode

    for spec, len_q, len_k, pairs in (
        ("last(3)", 40, 40, [64 * (1 + 2 + 3 * 3)] * 4),
        ("causal", 20, 36, [8 * 24 + 8 * 32 + 4 * 36] * 4),
        ("heads { 0 -> last(1); 1: -> all }", 16, 16, [128, 256, 256, 256]),
    ):
        made, given = layout(spec, target), inputs(len_q, len_k, heads=4, key_heads=2, batch=2)
        q, k, v = (x.requires_grad_() for x in (given.q, given.k, given.v))
        with FlopCounterMode(display=False) as counter:
            out = made(q, k, v)
            forward = counter.get_total_flops()
            out.sum().backward()  # type: ignore[union-attr]
        assert forward == 4 * 2 * 16 * sum(pairs), spec
        assert counter.get_total_flops() - forward == 10 * 2 * 16 * sum(pairs)


def test_counters_are_told_however_late() -> None:
    code = (
        "import torch, bslang\n"
        "made = bslang.compile('causal', block=8, target='torch')\n"
        "q = torch.randn(1, 2, 16, 8)\n"
        "made(q, q, q)\n"
        "from torch.utils.flop_counter import FlopCounterMode\n"
        "with FlopCounterMode(display=False) as counter:\n"
        "    made(q, q, q)\n"
        "assert counter.get_total_flops() == 4 * 2 * 8 * 192, counter.get_total_flops()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_activation_checkpoints() -> None:
    block = _Block(layout(BIGBIRD))
    x = torch.randn(2, 40, 32, requires_grad=True)
    block(x).square().sum().backward()
    expected, x.grad = x.grad, None
    checkpoint(block, x, use_reentrant=False).square().sum().backward()
    torch.testing.assert_close(x.grad, expected)


# ---- copies -----------------------------------------------------------------------------------


def test_layouts_are_pickled_and_copied(tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", np.eye(5, dtype=bool))
    table = bslang.compile('table("mask.npy") & causal', block=8, target="torch", folder=tmp_path)
    deep = layout("last((layer + 1) * 8t) & causal").at_layer(3)
    for made in (layout(BIGBIRD), deep, table):
        assert copy.copy(made) is made and copy.deepcopy(made) is made
        again = pickle.loads(pickle.dumps(made))
        assert (again._key, again.digest, again.layer) == (made._key, made.digest, made.layer)
        given = inputs(40, 40)
        assert torch.equal(again(given.q, given.k, given.v), made(given.q, given.k, given.v))


def test_modules_with_layouts_are_saved_whole() -> None:
    block = _Block(layout(BIGBIRD))
    assert set(block.state_dict()) == {"project.weight", "project.bias"}
    file = io.BytesIO()
    torch.save(block, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    x = torch.randn(1, 40, 32)
    assert torch.equal(again(x), block(x))


def test_attention_takes_a_layout_or_a_spec() -> None:
    given = inputs(40, 40)
    spec = f"block 8\n{STREAMING}"
    out = bslang.attention(given.q, given.k, given.v, spec)
    made = bslang.compile(spec)
    assert torch.equal(out, bslang.attention(given.q, given.k, given.v, made))
    with pytest.raises(bslang.SpecError, match="unknown name"):
        bslang.attention(given.q, given.k, given.v, "windw(3)")
    with pytest.raises(TypeError, match=r"the text of a spec, not int; bslang\.load takes files"):
        bslang.attention(given.q, given.k, given.v, 3)  # type: ignore[arg-type]


# ---- padding ----------------------------------------------------------------------------------

PADDED = [BIGBIRD, STREAMING, "heads { 0 -> last(2) & causal; 1: -> window(3) }", "none | rows(9t)"]


def check_padding(target: str, spec: str, block: int = 8) -> None:
    made, dtype = layout(spec, target, block), torch.float32
    given = inputs(45, 45, batch=3, dtype=dtype)
    lengths = torch.tensor([45, 18, 1])
    padding = (torch.arange(45)[:, None] >= lengths).T  # not contiguous, as masks of a model may be
    padding[0, 3:20] = True  # anywhere, not on the right alone
    masks = np.stack([mask(made, 45, head) for head in range(2)])[None]
    seen = masks & ~padding.numpy()[:, None, None]
    found = run(made, given, key_padding=padding)
    truth = dense(given, seen)
    for name, error in found.error(truth).items():
        size = 1 + float(getattr(truth, name).abs().max())
        assert error <= TOLERANCE[dtype] * size, name
    right = run(made, given, key_padding=lengths)
    also = run(made, given, key_padding=torch.arange(45) >= lengths[:, None])
    assert all(torch.equal(a, b) for a, b in zip(_all(right), _all(also), strict=True))


def _all(found: Attended) -> list[torch.Tensor]:
    return list(vars(found).values())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("spec", PADDED)
def test_padded_keys_are_seen_by_no_query(spec: str, target: str) -> None:
    check_padding(target, spec)


def test_padded_keys_on_the_triton_target(interpreting: Executor) -> None:
    interpreting.submit(check_padding, "triton", BIGBIRD, 16).result()


def test_padding_beside_labels() -> None:
    made = layout("same(padding) & causal")  # its own label has the name that padding would take
    given = inputs(40, 40, batch=2)
    doc = torch.arange(40) // 13
    lengths = torch.tensor([40, 9])
    out = made(given.q, given.k, given.v, labels=doc, key_padding=lengths)
    same = doc[:, None] == doc
    for row, length in enumerate(lengths.tolist()):
        seen = (same & torch.ones(40, 40, dtype=torch.bool).tril()).clone()
        seen[:, length:] = False
        one = inputs(40, 40, batch=2)
        q, k, v = (x[row : row + 1].double() for x in (one.q, one.k, one.v))
        scores = (q @ k.expand(q.shape).transpose(-1, -2) / 4).masked_fill(~seen, -torch.inf)
        expected = scores.softmax(-1).nan_to_num() @ v.expand(q.shape)
        torch.testing.assert_close(out[row : row + 1].double(), expected, atol=1e-5, rtol=1e-5)


def test_padding_that_does_not_fit() -> None:
    made = layout(BIGBIRD)
    q = torch.zeros(2, 1, 24, 8)
    with pytest.raises(ValueError, match=r"key_padding must be bool \(2, 24\), True for padding"):
        made(q, q, q, key_padding=torch.ones(2, 24, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"it is torch\.bool \(2, 23\)"):
        made(q, q, q, key_padding=torch.ones(2, 23, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"must be a torch\.Tensor, not list"):
        made(q, q, q, key_padding=[1, 2])  # type: ignore[arg-type]


@pytest.mark.parametrize("target", TARGETS)
def test_padding_never_stands_where_queries_are(target: str) -> None:
    """The queries are the last of all keys; of a row that is shorter, nobody says where they stand."""
    made = layout("last(6t) & causal", target)
    given = inputs(24, 24, batch=3)
    q, k, v = given.q, given.k, given.v
    lengths = torch.tensor([24, 13, 24])
    right = torch.arange(24) >= lengths[:, None]
    for queries in (1, 4):
        for padding in (lengths, right):
            with pytest.raises(ValueError, match="Pad on the left, or call each row separately"):
                made(q[:, :, -queries:], k, v, key_padding=padding)
    made(q, k, v, key_padding=lengths)
    made(q[:, :, -4:], k, v, key_padding=lengths, align="start")
    made(q[:, :, -4:], k, v, key_padding=torch.tensor([24, 0, 24]))
    left = right.flip(1)
    out = made(q[:, :, -4:], k, v, key_padding=left)
    torch.testing.assert_close(out, made(q, k, v, key_padding=left)[:, :, -4:])  # type: ignore[index]
    # A chunk of a batch that is padded on the right: the second row ends among its queries.
    chunk = made(q[:, :, 10:14], k[:, :, :14], v[:, :, :14], key_padding=right[:, :14])
    whole = made(q, k, v, key_padding=lengths)
    torch.testing.assert_close(chunk[:, :, :3], whole[:, :, 10:13])  # type: ignore[index]
    with pytest.raises(ValueError, match="Where queries are padding too, pass key_padding as bool"):
        made(q[:, :, 10:14], k[:, :, :14], v[:, :, :14], key_padding=lengths.clamp_max(14))


@pytest.mark.parametrize("spec", ["causal", "all"])
def test_padding_stands_anywhere_where_queries_see_all(spec: str) -> None:
    made, given = layout(spec), inputs(24, 24, batch=2)
    q, k, v = given.q[:, :, -1:], given.k, given.v
    out = made(q, k, v, key_padding=torch.tensor([24, 13]))
    alone = made(q[1:], k[1:, :, :13], v[1:, :, :13])
    torch.testing.assert_close(out[1:], alone)  # type: ignore[index]
    if spec == "causal":  # of two queries, the first does not see the second's key
        with pytest.raises(ValueError, match="Pad on the left"):
            made(given.q[:, :, -2:], k, v, key_padding=torch.tensor([24, 13]))


def test_lengths_of_padding_tally() -> None:
    made, q = layout("causal"), torch.zeros(2, 1, 24, 8)
    for lengths in ([24, 25], [-1, 3]):
        with pytest.raises(ValueError, match="lengths from 0 to the number of keys"):
            made(q, q, q, key_padding=torch.tensor(lengths))


def test_traced_programs_stop_at_padding_that_covers_queries() -> None:
    made = layout("last(6t) & causal")
    call = torch.compile(made, fullgraph=True, dynamic=True, backend="aot_eager")
    given = inputs(24, 24, batch=2)
    q, k, v = given.q[:, :, -1:], given.k, given.v
    for expected, lengths in (
        (None, [24, 24]),
        ("Pad on the left", [24, 13]),
        ("lengths", [24, 25]),
    ):
        options = {"key_padding": torch.tensor(lengths)}
        if expected is None:
            torch.testing.assert_close(call(q, k, v, **options), made(q, k, v, **options))
        else:
            with pytest.raises(RuntimeError, match=expected):
                call(q, k, v, **options)
    torch._dynamo.reset()


# ---- packed sequences ------------------------------------------------------------------------

ENDS = [0, 30, 30, 47, 77, 78, 110]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("spec", [BIGBIRD, STREAMING, PADDED[2]])
def test_packed_sequences_equal_each_by_itself(spec: str, target: str) -> None:
    made = layout(spec, target)
    given = inputs(110, 110, heads=4, key_heads=2)
    q, k, v = (x.detach().requires_grad_() for x in (given.q, given.k, given.v))
    out, lse = made.packed(q, k, v, torch.tensor(ENDS), return_lse=True)
    grads = torch.autograd.grad((out, lse), (q, k, v), (given.grad_out, given.grad_lse))
    parts = [
        made(q[:, :, a:b], k[:, :, a:b], v[:, :, a:b], return_lse=True)
        for a, b in pairwise(ENDS)
        if a < b
    ]
    outs, lses = (torch.cat(x, 2) for x in zip(*parts, strict=True))
    expected = torch.autograd.grad((outs, lses), (q, k, v), (given.grad_out, given.grad_lse))
    for mine, other in zip((out, lse, *grads), (outs, lses, *expected), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)
    assert torch.equal(out, made.packed(q, k, v, ENDS))  # type: ignore[arg-type]


OF_Q, OF_K = [0, 10, 10, 25, 29, 60], [0, 40, 47, 80, 80, 126]
"""The second sequence has no queries, the fourth no keys; in the last, fewer queries than keys."""


@pytest.mark.parametrize("align", ["end", "start"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("spec", [STREAMING, "window(3) | cols(0)"])
def test_packed_keys_have_lengths_of_their_own(spec: str, target: str, align: str) -> None:
    made, given = layout(spec, target), inputs(60, 126, heads=4, key_heads=2)
    q, k, v = (x.detach().requires_grad_() for x in (given.q, given.k, given.v))
    out, lse = made.packed(q, k, v, OF_Q, torch.tensor(OF_K), return_lse=True, align=align)
    grads = torch.autograd.grad((out, lse), (q, k, v), (given.grad_out, given.grad_lse))
    parts = []
    for (a, b), (c, d) in zip(pairwise(OF_Q), pairwise(OF_K), strict=True):
        sliced = q[:, :, a:b], k[:, :, c:d], v[:, :, c:d]
        if c < d:
            parts.append(made(*sliced, return_lse=True, align=align))
        else:
            none = sliced[0].detach()
            parts.append((torch.zeros_like(none), none.new_full(none.shape[:3], -torch.inf)))
    outs, lses = (torch.cat(x, 2) for x in zip(*parts, strict=True))
    expected = torch.autograd.grad((outs, lses), (q, k, v), (given.grad_out, given.grad_lse))
    for mine, other in zip((out, lse, *grads), (outs, lses, *expected), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)
    again = made.packed(q, k, v, cu_seqlens_q=OF_Q, cu_seqlens_k=OF_K, align=align)
    assert torch.equal(out, again)  # type: ignore[arg-type]


@pytest.mark.parametrize("lengths", [([0], [0]), ([0, 0], [0, 7]), ([0, 5, 9], [0, 0, 0])])
def test_packed_sequences_may_be_empty(lengths: tuple[list[int], list[int]]) -> None:
    of_q, of_k = lengths
    shapes = [(1, 2, of_q[-1], 16), *[(1, 2, of_k[-1], 16)] * 2]
    q, k, v = (torch.randn(shape, requires_grad=True) for shape in shapes)
    out, lse = layout(STREAMING).packed(q, k, v, of_q, of_k, return_lse=True)
    assert torch.equal(out, torch.zeros_like(q)) and (lse == -torch.inf).all()
    out.sum().backward()
    assert all(x.grad is not None and not x.grad.any() for x in (q, k, v))


def test_packed_keys_that_do_not_fit() -> None:
    made, q, k = layout(STREAMING), torch.zeros(1, 1, 24, 8), torch.zeros(1, 1, 40, 8)
    with pytest.raises(ValueError, match="q has 24 tokens, k and v have 40: pass cu_seqlens_k"):
        made.packed(q, k, k, [0, 24])
    with pytest.raises(ValueError, match="cu_seqlens_k must rise from 0 to the length of k, 40"):
        made.packed(q, k, k, [0, 24], [0, 24])
    with pytest.raises(ValueError, match="cu_seqlens has 1 sequences, and cu_seqlens_k 2"):
        made.packed(q, k, k, [0, 24], [0, 20, 40])
    with pytest.raises(ValueError, match="sequence 1 has 14 queries, which cannot be the last"):
        made.packed(q, k, k, [0, 10, 24], [0, 30, 40])
    with pytest.raises(TypeError, match=r"write scale=0\.5 for a scale"):
        made.packed(q, q, q, [0, 24], 0.5)  # type: ignore[arg-type]
    for offsets in ({}, {"cu_seqlens": [0, 24], "cu_seqlens_q": [0, 24]}):
        with pytest.raises(TypeError, match="take cu_seqlens, or cu_seqlens_q, which is the same"):
            made.packed(q, q, q, **offsets)


@pytest.mark.parametrize("target", TARGETS)
def test_labels_equal_packing_where_the_pattern_moves_along(target: str) -> None:
    given = inputs(110, 110)
    counts = [b - a for a, b in pairwise(ENDS)]
    doc = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    for spec in ("causal", "last(20t) & causal", "window(25t)"):
        packed = layout(spec, target).packed(given.q, given.k, given.v, ENDS)
        labelled = layout(f"same(doc) & {spec}", target)(given.q, given.k, given.v, labels=doc)
        torch.testing.assert_close(packed, labelled, atol=1e-5, rtol=1e-5)


def test_packed_sequences_that_do_not_fit() -> None:
    made = layout(BIGBIRD)
    q = torch.zeros(1, 1, 24, 8)
    for ends in ([0, 9], [1, 24], [0, 20, 9, 24], [24]):
        with pytest.raises(ValueError, match="must rise from 0 to the length of q, 24"):
            made.packed(q, q, q, ends)
    with pytest.raises(ValueError, match=r"must be integers \(sequences \+ 1,\)"):
        made.packed(q, q, q, torch.tensor([0.0, 24.0]))
    with pytest.raises(TypeError, match="tensor of integers, or a list"):
        made.packed(q, q, q, [0, 24.0])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="one batch row; q has batch size 2"):
        made.packed(q.expand(2, 1, 24, 8), q.expand(2, 1, 24, 8), q.expand(2, 1, 24, 8), [0, 24])
    with pytest.raises(ValueError, match="this layout has labels"):
        layout("same(doc)").packed(q, q, q, [0, 24])


def test_packed_sequences_break_a_compiled_graph() -> None:
    made = layout(BIGBIRD)
    q, ends = torch.randn(1, 2, 24, 8), torch.tensor([0, 9, 24])

    def packed(q: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        return made.packed(2 * q, q, q, ends) + 1  # type: ignore[operator]

    out = torch.compile(packed, backend="aot_eager")(q, ends)
    torch.testing.assert_close(out, packed(q, ends))
    torch._dynamo.reset()
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"Layout\.packed reads cu_seqlens"):
        torch.compile(packed, backend="aot_eager", fullgraph=True)(q, ends)
    torch._dynamo.reset()


# ---- decoding ---------------------------------------------------------------------------------

STABLE = [
    STREAMING,
    "causal",
    "last(3) & causal",
    "logsparse & causal",
    "(window(3) | cols(0)) & causal",
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("spec", STABLE)
def test_decoding_in_chunks_equals_one_pass(spec: str, target: str) -> None:
    made = layout(spec, target)
    given = inputs(70, 70, heads=4, key_heads=2)
    whole = made(given.q, given.k, given.v)
    for step in (1, 7, 32):
        outs = []
        for start in range(0, 70, step):
            stop = min(start + step, 70)
            outs.append(made(given.q[:, :, start:stop], given.k[:, :, :stop], given.v[:, :, :stop]))
        torch.testing.assert_close(torch.cat(outs, 2), whole, atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("spec", STABLE)
def test_reachable_blocks_are_those_that_later_queries_see(spec: str) -> None:
    made = layout(spec)
    held = mask(made, 200)
    for t in (0, 1, 8, 63, 100, 199):
        expected = np.unique(np.flatnonzero(held[t:, :t].any(0)) // 8)
        np.testing.assert_array_equal(made.reachable(t, 200), expected)


@pytest.mark.parametrize("most", ["causal", "last(20t) & causal"])
@pytest.mark.parametrize("less", ["select(pick)", "{q, k : gone[k] == 1}", "same(doc)"])
def test_what_some_call_lets_be_is_reachable(most: str, less: str) -> None:
    known, awaiting = layout(most), layout(f"({most}) - {less}")
    for t in (1, 63, 100, 199):
        np.testing.assert_array_equal(awaiting.reachable(t, 200), known.reachable(t, 200))


def test_what_cannot_be_reached_can_leave_the_cache() -> None:
    made = layout(STREAMING)
    given = inputs(200, 200, heads=2)
    whole = made(given.q, given.k, given.v)
    k, v = given.k.clone(), given.v.clone()
    for t in range(100, 200):
        kept = made.reachable(t)
        assert len(kept) <= 5  # 20 tokens lie in at most 4 blocks of 8, and one of sinks
        gone = torch.ones(25, dtype=torch.bool)
        gone[torch.from_numpy(kept)] = False
        gone = gone.repeat_interleave(8) & (torch.arange(200) < t)
        k[:, :, gone], v[:, :, gone] = torch.nan, torch.nan
        out = made(given.q[:, :, t : t + 1], k[:, :, : t + 1], v[:, :, : t + 1])
        torch.testing.assert_close(out, whole[:, :, t : t + 1], atol=2e-6, rtol=2e-6)


def test_layouts_that_no_cache_serves() -> None:
    with pytest.raises(ValueError, match=r"query 0 sees key 7, which comes later.*with `causal`"):
        layout("window(3)").reachable(5)
    with pytest.raises(ValueError, match=r"query \d+ sees key \d+ with \d+ tokens, but not with"):
        layout("cols(-1) & causal").reachable(5, 100)
    with pytest.raises(ValueError, match="t must be from 0 to until - 1 = 99; got 100"):
        layout("causal").reachable(100, 100)
    with pytest.raises(TypeError, match=r"t must be an integer, not 1\.5"):
        layout("causal").reachable(1.5)  # type: ignore[arg-type]


# ---- what Python shows ------------------------------------------------------------------------


def test_repr_shows_the_spec_the_density_and_a_picture() -> None:
    lines = str(layout("window(3) | cols(0)")).split("\n")
    assert lines[0] == ("<bslang.Layout layout: window(3) | cols(0); block 8x8; 30.6% at 96 tokens")
    assert lines[1] == "####" + ".." * 10 and lines[-1] == "##" + ".." * 9 + "####>"
    assert len(lines) == 13
    by_head = str(layout("heads { 0 -> causal; 1: -> none }").at_layer(2))
    assert "; block 8x8, layer 2; 54.2% of head 0 at 96 tokens\n" in by_head
    assert str(layout("cols(40)")) == "<bslang.Layout layout: cols(40); block 8x8>"


def test_notebooks_show_a_drawing() -> None:
    drawing = layout("heads { 0 -> causal; 1: -> window(3) }")._repr_svg_()
    assert drawing is not None and drawing.startswith("<svg ") and "window(3)" in drawing
    assert layout("cols(40)")._repr_svg_() is None

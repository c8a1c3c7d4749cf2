"""Layouts as masks of other libraries: each is held against the dense oracle, and against our outputs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from safetensors.numpy import load_file, save_file
from strategies import Case, cases, examples
from torch.nn.attention.flex_attention import create_mask, flex_attention

import bslang
from bslang import BslangError, SpecError
from bslang.exchange.flex import block_mask
from bslang.exchange.mask import Given
from bslang.exchange.sparse import to_bsr
from bslang.exchange.tiles import Tiles, kinds, tokens
from bslang.selections import cells

BLOCK = 16
CPU = torch.device("cpu")


def layout(spec: str, block: int | tuple[int, int] = BLOCK, **parameters: object) -> bslang.Layout:
    return bslang.compile(spec, block=block, target="torch", **parameters)


def tensors(len_q: int, len_k: int, heads: int = 4) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(
        torch.randn(2, heads, length, 16, generator=generator) for length in (len_q, len_k, len_k)
    )


# ---- FlexAttention -------------------------------------------------------------------------------

SPECS = [
    "all",
    "none",
    "(last(20t) | cols(0:4t)) & causal",
    "window(3) | global(0, -1) | random(2, seed=1)",
    "(random(1) | window(3)) & causal",
    "every(3, offset=head) & causal",
    "heads { 0:2 -> random(1) & causal; 2: -> window(21t) }",
    "{q, k : isqrt(k) + log2(q + 1) % 2 < 7}",
    "{q, k : min(q, k) * 3 % 5 < max(2, q - k)}",
    "last(min(n, 3) * 7t)",
]
CALLS = [(100, 100, "end"), (37, 100, "end"), (45, 100, "start"), (1, 64, "end")]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize(("len_q", "len_k", "align"), CALLS)
def test_flex_attention_gives_our_outputs(spec: str, len_q: int, len_k: int, align: str) -> None:
    ours = layout(spec)
    mask = ours.to_flex(len_q, len_k, heads=4, align=align)
    q, k, v = tensors(len_q, len_k)
    assert torch.allclose(
        flex_attention(q, k, v, block_mask=mask), ours(q, k, v, align=align), atol=2e-6
    )


def test_compiled_flex_attention_gives_our_outputs() -> None:
    """One layout: compiling takes half a minute. It has a table, a formula, and few queries."""
    ours = layout("heads { 0:2 -> (random(1) | window(3)) & causal; 2: -> last(70t) }", 32)
    q, k, v = tensors(150, 200)
    # torch takes CXX for the name of one program, and in tests it is a command (conftest.py).
    with torch.no_grad(), torch._inductor.config.patch({"cpp.cxx": (None, "g++")}):
        out = torch.compile(flex_attention)(q, k, v, block_mask=ours.to_flex(150, 200, heads=4))
    assert torch.allclose(out, ours(q, k, v), atol=2e-6)


@examples(40)
@given(case=cases())
def test_a_mask_mod_and_its_lists_say_what_the_oracle_says(case: Case) -> None:
    assume(case.has_meaning())
    call = (case.len_q, case.len_k, case.align)
    mask = block_mask(case.resolved, *call, 2, 0, Given(None, (), 0), CPU)
    truth = case.masks(2)[0]
    assert np.array_equal(
        create_mask(mask.mask_mod, 1, 2, case.len_q, case.len_k, CPU)[0].numpy(), truth
    )
    rows, columns = case.block
    assert mask.full_kv_num_blocks is not None and mask.full_kv_indices is not None
    for head in range(2):
        listed = np.zeros((-(-case.len_q // rows), -(-case.len_k // columns)), dtype=int)
        for number, (counts, indices) in enumerate(
            (
                (mask.kv_num_blocks, mask.kv_indices),
                (mask.full_kv_num_blocks, mask.full_kv_indices),
            ),
            start=1,
        ):
            assert counts.dtype == indices.dtype == torch.int32
            at = min(head, counts.shape[1] - 1)
            for row, count in enumerate(counts[0, at].tolist()):
                listed[row, indices[0, at, row, :count].numpy()] += number
        assert listed.max(initial=0) <= 2, "the lists are disjoint"
        for (i, j), kind in np.ndenumerate(listed):
            part = truth[head][i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
            assert kind != 0 or not part.any()
            assert kind != 2 or (part.all() and part.shape == (rows, columns))


@pytest.mark.parametrize("batched", [False, True])
def test_labels_go_into_the_mask(batched: bool) -> None:
    ours = layout("same(doc) & causal")
    doc = torch.stack((torch.arange(100) // 30, torch.arange(100) // 45)).to(torch.int64)
    doc = doc if batched else doc[0]
    q, k, v = tensors(100, 100)
    out = flex_attention(q, k, v, block_mask=ours.to_flex(100, labels=doc))
    assert torch.allclose(out, ours(q, k, v, labels=doc), atol=2e-6)
    of_batch = doc if batched else doc[None]
    truth = (of_batch[:, :, None] == of_batch[:, None]) & torch.ones(100, 100).tril().bool()
    assert torch.equal(ours.to_dense(100, labels=doc), truth if batched else truth[0])
    pair = {"doc": (doc[..., :20], doc)}
    assert torch.equal(
        ours.to_dense(20, 100, labels=pair, align="start"),
        ours.to_dense(100, labels=doc)[..., :20, :],
    )


SELECTING = [
    "(select(pick) | last(20t)) & causal",
    "select(pick, rows=5t, cols=7t).T ^ last(9t)",
    "select(pick, rows=1t, cols=1t) & same(doc)",
    "select(pick, rows=3t) | {q, k : k < cut[b]} | random(1, seed=3)",  # drawn blocks are in a table
]


@pytest.mark.parametrize("listed", ["bool", "int64"])
@pytest.mark.parametrize("align", ["end", "start"])
@pytest.mark.parametrize("spec", SELECTING)
def test_selections_go_into_the_mask(spec: str, align: str, listed: str) -> None:
    ours, (len_q, len_k) = layout(spec), (41, 60)
    (selection,) = ours.inputs.selections
    lines, columns = cells(selection, len_k - len_q if align == "end" else 0, len_q, len_k)
    value = torch.rand(2, 1, lines, columns, generator=torch.Generator().manual_seed(1)) < 0.4
    if listed == "int64":
        value = torch.where(value, torch.arange(columns), 2**32)
    options: dict[str, Any] = {"select": {"pick": value}, "align": align}
    if "doc" in ours.labels:
        doc = torch.arange(len_k) // 17
        options["labels"] = (doc[:len_q], doc) if align == "start" else doc
    if "cut" in ours.labels:
        options["labels"] = {"cut": torch.tensor([9, 30])}
    mask = ours.to_dense(len_q, len_k, **options)
    assert mask.shape == (2, len_q, len_k)
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 2, n, 16, generator=generator) for n in (len_q, len_k, len_k))
    out = ours(q, k, v, **options)
    scores = (q @ k.mT / 4).masked_fill(~mask[:, None], -torch.inf)
    assert torch.allclose(out, scores.softmax(-1).nan_to_num() @ v, atol=2e-6)
    found = flex_attention(q, k, v, block_mask=ours.to_flex(len_q, len_k, **options))
    assert torch.allclose(out, found, atol=2e-6)
    one = options | {"select": value[1:]}
    if "cut" in ours.labels:
        one["labels"] = {"cut": torch.tensor([30])}
    assert torch.equal(ours.to_dense(len_q, len_k, **one).view(len_q, len_k), mask[1])


def test_selections_that_cannot_be_exported() -> None:
    of_heads = torch.ones(1, 2, 4, 4, dtype=torch.bool)
    for convert in (layout(SELECTING[0]).to_dense, layout(SELECTING[0]).to_flex):
        with pytest.raises(TypeError, match="this layout needs selections"):
            convert(60)
        with pytest.raises(ValueError, match=r"must have shape \(1, 1, 4, 4\)"):
            convert(60, select=of_heads)


def test_what_flex_needs_and_was_not_given() -> None:
    with pytest.raises(ValueError, match="pass the number of heads, `heads=`"):
        layout("every(3, offset=head)").to_flex(100)
    with pytest.raises(TypeError, match="this layout needs labels"):
        layout("same(doc)").to_flex(100)
    with pytest.raises(TypeError, match="has no labels"):
        layout("causal").to_flex(100, labels=torch.zeros(100, dtype=torch.int32))
    with pytest.raises(ValueError, match="cannot be the last positions"):
        layout("causal").to_flex(100, 50)


# ---- dense and sparse matrices -------------------------------------------------------------------


@examples(40)
@given(case=cases())
def test_dense_and_bsr_are_the_oracle(case: Case) -> None:
    assume(case.has_meaning())
    graph = case.lowered()
    truth = case.mask()
    assert np.array_equal(tokens(graph), truth)
    bsr = to_bsr(graph)
    mask = np.ones((bsr.indices.size, bsr.R, bsr.C), bool) if bsr.mask is None else bsr.mask
    found = np.zeros((bsr.M, bsr.N), dtype=bool)
    for row in range(bsr.M // bsr.R):
        for at in range(bsr.indptr[row], bsr.indptr[row + 1]):
            i, j = row * bsr.R, bsr.indices[at] * bsr.C
            found[i : i + bsr.R, j : j + bsr.C] = mask[at]
    assert np.array_equal(found[: case.len_q, : case.len_k], truth)
    assert found.sum() == truth.sum(), "what is filled up sees nothing, and is not seen"


def test_no_queries() -> None:
    assert layout("causal").to_dense(0, 40).shape == (0, 40)
    assert layout("causal").to_bsr(0, 40).indices.size == 0


def test_bsr_is_what_flashinfer_plans() -> None:
    """plan(indptr, indices, M, N, R, C, ..., mask=) of BlockSparseAttentionWrapper: int32, a mask a block."""
    plain = layout("window(3)").to_bsr(64)
    assert plain.indptr.tolist() == [0, 2, 5, 8, 10]
    assert plain.indices.tolist() == [0, 1, 0, 1, 2, 1, 2, 3, 2, 3]
    assert (plain.indptr.dtype, plain.indices.dtype) == (np.int32, np.int32)
    assert (plain.M, plain.N, plain.R, plain.C, plain.mask) == (64, 64, 16, 16, None)
    ragged = layout("causal").to_bsr(20)
    assert (ragged.M, ragged.N) == (32, 32)
    assert ragged.mask is not None and ragged.mask.shape == (3, 16, 16)
    assert ragged.mask[2].sum() == 4 * 5 // 2
    with pytest.raises(ValueError, match="need the labels of a call"):
        layout("same(doc)").to_bsr(64)


def test_scipy_and_networkx_tell_the_kinds() -> None:
    ours = layout("heads { 0 -> causal; 1: -> last(2) }")
    matrix = ours.to_scipy(48, head=0)
    assert (matrix.format, matrix.dtype) == ("csr", np.int8)
    assert matrix.toarray().tolist() == [[1, 0, 0], [2, 1, 0], [2, 2, 1]]
    assert ours.to_scipy(16, 48, head=1).toarray().tolist() == [[0, 0, 0], [0, 0, 0], [0, 2, 2]]
    edges = {(i, j): data for i, j, data in ours.to_networkx(32).edges(data=True)}
    partial = {"kind": "partial", "term": "causal"}
    assert edges == {(0, 0): partial, (1, 0): partial | {"kind": "full"}, (1, 1): partial}
    assert ("q0", "k1") in layout("causal", (32, 16)).to_networkx(64).edges


def test_tiles_begin_at_the_first_query() -> None:
    graph = layout("last(1)").graph(24, 40)
    assert kinds(graph).shape == (3, 3)
    # Positions 16..31 are a block row; 32..39 a short one.
    assert Tiles.of(graph).visited.tolist() == [[False, True, False], [False, False, True]]
    assert Tiles.of(graph).full.tolist() == [[False, True, False], [False, False, False]]


@pytest.mark.parametrize("library", ["scipy", "safetensors"])
def test_a_library_that_is_missing(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    ours = layout("causal")
    with pytest.raises(
        ImportError, match=rf"this needs {library} .* not installed; run: pip install"
    ):
        ours.to_scipy(64) if library == "scipy" else ours.to_safetensors(tmp_path / "x", 64)


# ---- safetensors ---------------------------------------------------------------------------------


def test_safetensors_give_the_layout_back(tmp_path: Path) -> None:
    path = tmp_path / "layout.safetensors"
    np.save(tmp_path / "mask.npy", np.eye(7, dtype=bool))
    for spec, heads in (
        ("causal & last(layer + 1)", None),
        ("heads { 0:2 -> random(1); 2: -> causal }", 4),
        ('table("mask.npy") | cols(0)', None),
    ):
        ours = bslang.compile(spec, block=BLOCK, target="torch", folder=tmp_path).at_layer(2)
        ours.to_safetensors(path, 100, heads=heads)
        again = bslang.from_safetensors(path, target="torch")
        assert (again._key, again.digest, again.layer) == (ours._key, ours.digest, 2)
        assert torch.equal(again.to_dense(100, head=3), ours.to_dense(100, head=3))
    with pytest.raises(ValueError, match="pass the number of heads"):
        layout("every(2, offset=head)").to_safetensors(path, 100)


def test_safetensors_that_are_no_layout(tmp_path: Path) -> None:
    path = tmp_path / "layout.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(BslangError, match="is not a safetensors file"):
        bslang.from_safetensors(path)
    save_file({"weight": np.zeros(2)}, path)
    with pytest.raises(BslangError, match="holds no layout"):
        bslang.from_safetensors(path)
    with pytest.raises(FileNotFoundError):
        bslang.from_safetensors(tmp_path / "missing.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spec": "last(2)"}, "is inconsistent"),
        ({"digest": "0" * 16}, "is inconsistent"),
        ({"len_q": "20"}, "is inconsistent"),
        ({"language": "99"}, "of version 99 of the language"),
        ({"block_q": "many"}, "lacks a part of its metadata"),
        ({"block_q": "0"}, "has invalid blocks"),
        ({"align": "middle"}, "an `align` of 'middle', and not one of end, start"),
        ({"align": "\x1b[31m" * 99}, r"an `align` of '.x1b"),
        ({"name": "../../outside"}, "which is not a valid name"),
        ({"heads": "1000000000"}, "is not usable"),
        ({"len_k": "0"}, "is not usable"),
        ({"spec": 'table("mask.npy")'}, "no folder to read from"),
        ({"spec": "windw(3)"}, "unknown name"),
    ],
)
def test_safetensors_that_were_changed(
    tmp_path: Path, change: dict[str, str], message: str
) -> None:
    from safetensors import safe_open

    path = tmp_path / "layout.safetensors"
    layout("last(3)").to_safetensors(path, 100)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    save_file(load_file(path), path, metadata | change)
    with pytest.raises((BslangError, SpecError), match=message):
        bslang.from_safetensors(path)


def test_safetensors_whose_lists_were_changed(tmp_path: Path) -> None:
    from safetensors import safe_open

    path = tmp_path / "layout.safetensors"
    layout("last(3)").to_safetensors(path, 100)
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    arrays = load_file(path)
    arrays["indices.0"][0] = 1
    save_file(arrays, path, metadata)
    with pytest.raises(BslangError, match="is inconsistent"):
        bslang.from_safetensors(path)

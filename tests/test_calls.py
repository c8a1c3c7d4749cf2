"""Layouts that depend on the head, the layer or run-time labels: results, and what a call takes."""

from __future__ import annotations

import pytest
import torch
from calls import BY_HEAD, FAR, KINDS, LABELLED, PREDICATES, SHAPES, Call
from reference import TOLERANCE, agrees

import bslang
from bslang import call as options
from bslang import compiler
from bslang.errors import BuildError
from bslang.inputs import Label
from bslang.labels import Labels, take_labels
from bslang.runtime import op
from bslang.runtime.cpu import build

try:
    build.find_compiler()
    TARGETS = ["torch", "cpu"]
except BuildError:
    TARGETS = ["torch"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("spec", [*BY_HEAD, *PREDICATES])
def test_heads(spec: str, target: str) -> None:
    for len_q, len_k, align in SHAPES:
        for key_heads in (4, 2, 1):
            Call(spec, (8, 8), len_q, len_k, align, key_heads=key_heads, layer=2).check(target)


@pytest.mark.parametrize("target", TARGETS)
def test_numbers_beyond_32_bits(target: str) -> None:
    Call(FAR, (64, 64), 3, 47_000, heads=1, key_heads=1, batch=1).check(target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spec", LABELLED)
def test_labels(spec: str, kind: str, target: str) -> None:
    for len_q, len_k, align in SHAPES:
        Call(spec, (8, 8), len_q, len_k, align, kind).check(target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("spec", [BY_HEAD[4], BY_HEAD[5], *LABELLED[:2], LABELLED[9]])
def test_softcaps(spec: str, target: str) -> None:
    for len_q, len_k, align in SHAPES:
        Call(spec, (8, 8), len_q, len_k, align, layer=2).check(target, softcap=2.0)


# ---- heads and layers ------------------------------------------------------------------------


def test_heads_with_one_set_share_a_graph() -> None:
    made = bslang.compile("last((head % 2 + layer) * 7t + 1t) & causal", block=8, target="torch")
    found = compiler.tables(made._resolved, 40, 40, "end", range(6), 3)
    assert found.head_graph is not None and found.head_graph.tolist() == [0, 1] * 3
    assert len(found.graphs) == len(found.parameters) == 2
    assert [graph.grid.head for graph in found.graphs] == [0, 1]
    plain = bslang.compile("last(layer * 7t + 1t)", block=8, target="torch")
    assert compiler.tables(plain._resolved, 40, 40, "end", range(6), 3).head_graph is None


def test_plans_are_kept_by_heads_only_where_heads_differ() -> None:
    device = torch.device("cpu")
    by_head = bslang.compile("last(head + 1) & causal", block=8, target="torch")
    assert by_head._plan(9, 9, "end", device, 2) is by_head._plan(9, 9, "end", device, 2)
    assert by_head._plan(9, 9, "end", device, 2) is not by_head._plan(9, 9, "end", device, 4)
    plain = bslang.compile("last(2) & causal", block=8, target="torch")
    assert plain._plan(9, 9, "end", device, 2) is plain._plan(9, 9, "end", device, 4)


def test_layers_share_kernels_and_have_tables_of_their_own() -> None:
    made = bslang.compile("last(layer + 1)", block=8, target="torch")
    other = made.at_layer(2)
    assert (made.layer, other.layer) == (0, 2) and other.targets is made.targets
    assert made._key in other._key and made._key != other._key
    assert made.graph(40).visited.size < other.graph(40).visited.size
    for layout, layer in ((other, 2), (made, 0), (other, 2)):
        Call("last(layer + 1)", layer=layer).check("torch")
        assert layout.graph(40).grid.layer == layer
    for wrong in (-1, True, "1"):
        with pytest.raises(ValueError, match="layer must be an integer of at least 0"):
            made.at_layer(wrong)  # type: ignore[arg-type]


def test_graphs_of_heads() -> None:
    made = bslang.compile("last(head + 1)", block=8, target="torch")
    assert [made.graph(80, head=head).blocks_by_row.max() for head in (0, 1, 4)] == [1, 2, 5]


@pytest.mark.parametrize("target", TARGETS)
def test_errors_of_one_head_come_out_of_the_call(target: str) -> None:
    """Head 3 names a column that is not there."""
    call = Call("cols(head * 2)", heads=4)
    given = call.inputs()
    with pytest.raises(bslang.SpecError, match=r"column 6 .* is out of range for 5 blocks"):
        call.layout(target)(given.q, given.k, given.v)
    call = Call("heads { 0:3 -> causal }", heads=4)
    with pytest.raises(bslang.SpecError, match="gives no pattern for head 3"):
        call.layout(target)(given.q, given.k, given.v)
    call = Call("cols(4 // (2 - head))", heads=4)
    with pytest.raises(bslang.SpecError, match=r"divides by zero"):
        call.layout(target)(given.q, given.k, given.v)


# ---- labels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("spec", ["same(doc) & causal", "same(doc) & last(head * 9t + 9t)"])
def test_blocks_of_other_documents_are_not_visited(spec: str, target: str) -> None:
    """A visited block that a mask hides leaves 0 * NaN; one that is not visited leaves nothing."""
    Call(spec, (8, 8), 48, 48).others_are_not_visited(target)


@pytest.mark.skipif("cpu" not in TARGETS, reason="no compiler")
def test_blocks_of_one_document_run_without_a_mask() -> None:
    """A mask that says no everywhere is not asked where documents end with blocks."""
    from bslang import compiler
    from bslang.files import HEADER, inlined
    from bslang.runtime.cpu.launch import CpuTarget

    call = Call("same(doc)", (8, 8), 48, 48)
    files = compiler.emit(
        compiler.resolve(compiler.Source("<call>", call.spec), block=call.block), ["cpu"]
    )
    text = inlined(str(files["layout.cpp"]), {HEADER: str(files[HEADER])})
    compared = "return q_label0 == k_label0;"
    assert compared in text
    given, plan = call.inputs(), call.layout("cpu")._plan(48, 48, "end", torch.device("cpu"))
    for end, alike in ((16, True), (17, False)):
        doc = (torch.arange(48) >= end).int().expand(1, 2, 1, 48)
        told = options.Call(0.3, labels=Labels(doc, doc))
        found = [
            CpuTarget(t).forward(given.q, given.k, given.v, plan, told)[0]
            for t in (text, text.replace(compared, "return q_label0 != q_label0 + k_label0 * 0;"))
        ]
        assert torch.equal(*found) == alike


def test_label_ranges() -> None:
    made = bslang.compile("same(doc)", block=(4, 3), target="torch")
    plan = made._plan(5, 11, "end", torch.device("cpu"))  # queries at 6 .. 10, keys at 0 .. 10
    k = torch.tensor([5, 5, 4, 4, 9, -1, 0, 0, 7, 2, 3], dtype=torch.int32)[None, None, None]
    found = plan.labels(options.Call(1.0, labels=Labels(k[..., 6:], k)))
    assert found is not None and {label.dtype for label in found} == {torch.int32}
    assert found[2].tolist() == [[[[[0, 0], [2, 7]]]]]
    assert found[3].tolist() == [[[[[4, 5], [-1, 9], [0, 7], [2, 3]]]]]
    assert plan.labels(options.Call(1.0)) is None


def test_wide_labels_are_equal_where_they_were() -> None:
    q = torch.zeros(2, 1, 6, 8)
    doc = torch.tensor([[2**40, -(2**63), 2**40, 0, 2**63 - 1, 0], [3, 3, 2**32 + 3, 3, 4, 4]])
    found = take_labels(doc, (Label("doc"),), q, q, "end")
    assert found is not None and found.k.dtype == torch.int32
    equal = doc[:, :, None] == doc[:, None, :]
    assert torch.equal(found.k[0, :, 0, :, None] == found.k[0, :, 0, None, :], equal)


def test_labels_by_themselves_and_by_name() -> None:
    call = Call("same(doc) & causal")
    given, labels = call.inputs(), call.labels()
    assert labels is not None
    named = call.layout("torch")(given.q, given.k, given.v, labels=labels)
    alone = call.layout("torch")(given.q, given.k, given.v, labels=labels["doc"])
    assert torch.equal(named, alone)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_queries_may_be_their_own(kind: str, target: str) -> None:
    """As of keys that are summaries, which every query sees, beside a cache: the queries are the last."""
    call = Call("causal & (same(seg) | same(gist))", (8, 8), 7, 61, kind=kind)
    seg = call.labels()["seg"]  # type: ignore[index]
    assert isinstance(seg, torch.Tensor)
    gist = (torch.arange(61) % 10 == 9).long()
    labels: dict[str, object] = {"seg": seg, "gist": (torch.ones(7, dtype=torch.int8), gist)}
    of_seg = seg.expand(2, 61)
    at = torch.arange(61)
    seen = (of_seg[:, -7:, None] == of_seg[:, None]) | (gist == 1)
    seen &= at[-7:, None] >= at
    mask = seen[:, None].expand(-1, 4, -1, -1).numpy()
    agrees(call.layout(target), call.inputs(), mask, TOLERANCE[torch.float32], labels=labels)


ONE = torch.zeros(20, dtype=torch.int32)
WRONG = [
    ("same(doc)", None, "end", TypeError, r"needs labels: pass labels=\{'doc': tensor\}"),
    ("causal", ONE, "end", TypeError, "this layout has no labels"),
    ("same(doc)", {"dog": ONE}, "end", ValueError, "no label 'dog'; its labels: doc"),
    ("same(a) & same(b)", {"a": ONE}, "end", ValueError, "label 'b' is missing; the layout's labels: a, b"),
    ("same(a) & same(b)", ONE, "end", TypeError, "several labels; pass a mapping with a, b"),
    ("same(doc)", ONE.float(), "end", TypeError, "must be integers .* torch.float32"),
    ("same(doc)", ONE.bool(), "end", TypeError, "must be integers .* torch.bool"),
    ("same(doc)", [1, 2], "end", TypeError, r"'doc' of the queries must be a torch\.Tensor, not int"),
    ("same(doc)", (ONE,), "end", TypeError, r"a pair \(labels of queries, labels of keys\)"),
    ("same(doc)", (ONE[1:], ONE), "end", ValueError, "'doc' of the queries must have shape"),
    ("same(doc)", "abc", "end", TypeError, r"label 'doc' must be a torch\.Tensor, not str"),
    ("same(doc)", ONE[:19], "end", ValueError, r"shape \(20,\), \(1, 20\) or, .*; it has \(19,\)"),
    ("same(doc)", ONE.expand(2, 20), "end", ValueError, r"shape \(20,\), \(1, 20\) or, .*; it has \(2, 20\)"),
    ("same(doc)", ONE.to("meta"), "end", ValueError, "on the device of the tensors, cpu, not meta"),
    ("same(doc)", ONE, "start", TypeError, r"a pair \(labels of queries, labels of keys\)"),
    ("same(doc)", (ONE, ONE[1:]), "start", ValueError, "'doc' of the keys must have shape"),
    ("same(doc)", ONE.expand(1, 3, 20), "end", ValueError, r"\(1, 2 or 4, 20\); it has \(1, 3, 20\)"),
    ("{q, k : a[k] < k}", (ONE, ONE), "end", TypeError, "keys must be one tensor: the layout reads no"),
    ("{q, k : a[q] < k}", ONE[:3], "end", ValueError, "'a' of the queries must have shape"),
    ("{q, k : a[b] < k}", ONE, "end", ValueError, r"'a' must have shape \(1,\), a number of each batch row"),
    ("{q, k : a[q] < a[k]}", ONE.long() + 2**40, "end", ValueError, "'a' must fit in 32 bits"),
]  # fmt: skip


CELLS = torch.zeros(1, 2, 20, 3, dtype=torch.int32)
WRONG_SELECTIONS = [
    (None, TypeError, r"needs selections: pass select=\{'pick': tensor\}"),
    ({"pik": CELLS}, ValueError, "no selection 'pik'; its selections: pick"),
    ({}, ValueError, "selection 'pick' is missing"),
    (CELLS.float(), TypeError, "must be bool, int32 or int64, not torch.float32"),
    ([1], TypeError, r"'pick' must be a torch\.Tensor, not list"),
    (CELLS.to("meta"), ValueError, "on the device of the tensors, cpu, not meta"),
    (CELLS[0], ValueError, r"shape \(1, 1 or 2 or 4, 20, K\).* it has \(2, 20, 3\)"),
    (CELLS.expand(2, -1, -1, -1), ValueError, r"it has \(2, 2, 20, 3\)"),
    (CELLS[:, :1].expand(-1, 3, -1, -1), ValueError, r"it has \(1, 3, 20, 3\)"),
    (CELLS[:, :, 1:], ValueError, r"cells of 1x8 tokens, of which there are 20x3; it has"),
    (CELLS[..., :2].bool(), ValueError, r"shape \(1, 1 or 2 or 4, 20, 3\).* it has \(1, 2, 20, 2\)"),
]  # fmt: skip


@pytest.mark.parametrize(("select", "error", "message"), WRONG_SELECTIONS)
def test_selections_that_do_not_fit(select: object, error: type[Exception], message: str) -> None:
    q, k = torch.zeros(1, 4, 20, 16), torch.zeros(1, 2, 20, 16)
    layout = bslang.compile("select(pick, rows=1t, cols=8t)", target="torch")
    with pytest.raises(error, match=message):
        layout(q, k, k, select=select)  # type: ignore[call-overload]
    assert not layout(q, k, k, select=CELLS[..., :0]).any()  # lists may be empty


@pytest.mark.parametrize(("spec", "labels", "align", "error", "message"), WRONG)
def test_labels_that_do_not_fit(
    spec: str, labels: object, align: str, error: type[Exception], message: str
) -> None:
    q, k = torch.zeros(1, 4, 20, 16), torch.zeros(1, 2, 20, 16)
    with pytest.raises(error, match=message):
        bslang.compile(spec, target="torch")(q, k, k, align=align, labels=labels)  # type: ignore[call-overload]


# ---- operators -------------------------------------------------------------------------------


def test_operators_with_labels_pass_opcheck() -> None:
    call = Call("same(doc) & last(head + 1)")
    made, given = call.layout("torch"), call.inputs()
    labels = take_labels(call.labels(), made.inputs.labels, given.q, given.k, "end")
    told = options.Call(0.25, labels=labels).pack()
    for grad in (False, True):
        q, k, v = (x.clone().requires_grad_(grad) for x in (given.q, given.k, given.v))
        torch.library.opcheck(op.attention, (q, k, v, made._key, *told))


def test_programs_exported_before_labels_had_heads_still_run() -> None:
    call = Call("same(doc) & causal")
    made, given = call.layout("torch"), call.inputs()
    labels = take_labels(call.labels(), made.inputs.labels, given.q, given.k, "end")
    assert labels is not None
    results = [
        op.attention(given.q, given.k, given.v, made._key, *options.Call(0.25, labels=told).pack())
        for told in (labels, Labels(labels.q[:, :, 0], labels.k[:, :, 0]))
    ]
    assert torch.equal(results[0][0], results[1][0])


@pytest.mark.parametrize("kind", KINDS)
def test_labels_under_torch_compile(kind: str) -> None:
    call = Call("same(doc) & last(head + 1)", kind=kind)
    made, given, labels = call.layout("torch"), call.inputs(), call.labels()

    def loss(q: torch.Tensor, doc: object) -> torch.Tensor:
        return (made(q, given.k, given.v, labels={"doc": doc}) ** 2).sum()  # type: ignore[dict-item, operator]

    assert labels is not None
    grads = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        q = given.q.detach().requires_grad_()
        function(q, labels["doc"]).backward()
        grads.append(q.grad)
    torch.testing.assert_close(*grads)

"""The cpu target: results against dense attention in fp64, the same bits always, and the text of its C++."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from calls import Call
from hypothesis import assume, given
from reference import TOLERANCE, Attended, Inputs, agrees, dense, given_of, inputs, run
from strategies import Case, cases, examples, value_dims

import bslang
from bslang import abi, compiler
from bslang import call as options
from bslang.call import SOFTCAPS
from bslang.codegen.cpu import header
from bslang.errors import BuildError, TargetError
from bslang.files import HEADER, inlined
from bslang.runtime.cpu import build
from bslang.runtime.cpu.launch import CpuTarget
from bslang.runtime.plan import DevicePlan

try:
    COMPILER = shlex.join(build.find_compiler())  # before tests/conftest.py makes it a quick one
except BuildError as error:
    pytest.skip(str(error), allow_module_level=True)

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
BIGBIRD = "window(3) | global(0, -1) | random(2, seed=7)"
SINKS = "(last(70t) | cols(:4t)) & causal"
MANY = "chunks(3t, 40t, 9t, 1t, 30t, 2t, 17t, 60t, 5t, 8t, 23t, back=1)"
"""Widths that masks look up in a table."""

SPECS = [
    "all",
    "none",
    "causal",
    "causal.T",
    "last(100t)",
    "last(300t) - cols(1t)",
    "window(left=60t, right=30t, step=3t)",
    "window(41t, wrap=true)",
    "window(50t, clamp=true)",
    SINKS,
    "global(0t, -1t) | every(37t)",
    "rows(20t:90t)",  # most rows are empty
    "chunks(40t, back=1) & ~strided(3t)",
    f"{MANY} & causal",
    f"({MANY} - strided(3t)) | {MANY.replace('9t', '6t')}.T",
    "diagonals(0t, 17t, 60t:70t)",
    "causal ^ cols(5t:60t)",
    "random(2, seed=3, within=causal) | rows(-1t)",
]

PER_CALL = [
    "same(doc) & causal",
    "(same(a) & same(b) | same(a) - last(9t)) & last(head * 5t + 9t)",
    "~same(doc) ^ cols(layer * 3t)",
    f"{MANY} & same(doc) | last(head * 5t + 9t)",
    "last(head * 5t + 9t) | cols(0:3t)",
]


@pytest.fixture(autouse=True, scope="module")
def _two_threads() -> Iterator[None]:
    """Of three heads, two threads then have one each, and share the third."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def layout(case: Case) -> bslang.Layout:
    return bslang.compile(case.spec, block=case.block, target="cpu", folder=case.folder)


def text_of(case: Case) -> str:
    """The generated C++."""
    return compiler.emit(case.resolved, ["cpu"])[f"{case.resolved.name}.cpp"]


def source(case: Case) -> str:
    """The same with the header in it, as it is built."""
    return inlined(text_of(case), {HEADER: header()})


def plan(case: Case) -> DevicePlan:
    return layout(case)._plan(case.len_q, case.len_k, case.align, torch.device("cpu"))


def check(
    case: Case, given: Inputs, scale: float | None = None, softcap: float | None = None
) -> None:
    tolerance = TOLERANCE[given.q.dtype]
    masks = case.masks(given.q.shape[1])
    call = {"scale": scale, "softcap": softcap, "align": case.align, **given_of(case)}
    agrees(layout(case), given, masks, tolerance, **call)


def results(
    target: CpuTarget, case: Case, given: Inputs, softcap: float = 0.0
) -> list[torch.Tensor]:
    """out, lse, dq, dk, dv of a target itself, on tensors as they are."""
    q, k, v = given.q, given.k, given.v
    call = (plan(case), options.Call(0.3, softcap))
    out, lse = target.forward(q, k, v, *call)
    return [out, lse, *target.backward(given.grad_out, given.grad_lse, q, k, v, out, lse, *call)]


def same_bits(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(map(torch.equal, a, b))


# ---- layouts, shapes, dtypes ----------------------------------------------------------------


# Of one side and of two, each smaller and larger than a tile of a kernel: every spec has one of both.
BLOCKS = [[(16, 16), (128, 64)], [(64, 64), (5, 3)]]


@pytest.mark.parametrize(
    ("spec", "block"),
    [(spec, block) for place, spec in enumerate(SPECS) for block in BLOCKS[place % 2]],
    ids=str,
)
def test_layouts(spec: str, block: tuple[int, int]) -> None:
    for len_q, len_k, align in [(192, 192, "end"), (97, 201, "end"), (150, 113, "start")]:
        given = inputs(len_q, len_k, heads=3, key_heads=3)
        check(Case(spec, block, len_q, len_k, align), given)


@pytest.mark.parametrize("block", [(16, 16), (64, 64)], ids=str)
def test_bigbird(block: tuple[int, int]) -> None:
    for len_q, len_k in [(512, 512), (500, 500), (333, 500)]:
        given = inputs(len_q, len_k, dim=64, heads=3, key_heads=3)
        check(Case(BIGBIRD, block, len_q, len_k, "end"), given)


@pytest.mark.parametrize("block", [(1000, 300), (300, 1000), (100, 100), (129, 129)], ids=str)
def test_large_blocks_are_cut_into_tiles(block: tuple[int, int]) -> None:
    for len_q, len_k in [(1301, 1301), (260, 1301)]:
        given = inputs(len_q, len_k, dim=8, heads=1)
        check(Case("last(400t) | cols(0t)", block, len_q, len_k, "end"), given)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dim", [8, 24, 64, 72, 128, 256])
def test_dtypes_and_head_dimensions(dim: int, dtype: torch.dtype) -> None:
    for case in (Case(SINKS, (64, 64), 200, 230, "end"), Case(BIGBIRD, (32, 32), 290, 290, "end")):
        check(case, inputs(case.len_q, case.len_k, dim=dim, dtype=dtype))


@examples(40, slow=True)
@given(cases(((16, 16), (32, 32), (5, 3), (48, 16), (1, 1)), longest=100, labels=True), value_dims)
def test_random_programs(case: Case, value_dim: int) -> None:
    assume(case.has_meaning(heads=3))
    sizes = {"dim": 8, "value_dim": value_dim, "heads": 3, "key_heads": 3}
    check(case, inputs(case.len_q, case.len_k, **sizes))


@pytest.mark.parametrize("heads", [(1, 1), (4, 2), (6, 1), (3, 3)], ids=str)
def test_batches_and_grouped_heads(heads: tuple[int, int]) -> None:
    given = inputs(150, 170, heads=heads[0], key_heads=heads[1], batch=3)
    check(Case("causal", (64, 64), 150, 170, "end"), given)


def test_scales() -> None:
    case = Case(SINKS, (64, 64), 150, 170, "end")
    for scale in (0.0, -0.3, 2.0):
        check(case, inputs(150, 170, dim=8), scale)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("block", [(16, 16), (64, 48)], ids=str)
def test_softcaps(block: tuple[int, int], dtype: torch.dtype) -> None:
    """Of 0.3 most scores reach it; of 1e6 the quotient is so small that tanh must be exact there."""
    case = Case(SINKS, block, 97, 201, "end")
    given = inputs(97, 201, dim=24, heads=3, key_heads=3, dtype=dtype)
    for softcap in (0.3, 5.0, 50.0, 1e6):
        check(case, given, softcap=softcap)
    check(case, given, scale=-2.0, softcap=5.0)


def test_the_ends_of_softcaps() -> None:
    case = Case(SINKS, (64, 64), 97, 201, "end")
    for softcap in SOFTCAPS:
        check(case, inputs(97, 201, heads=3, key_heads=3), softcap=softcap)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_errors_are_those_of_dense_attention(dtype: torch.dtype, softcap: float | None) -> None:
    case = Case("last(100t)", (64, 64), 500, 500, "end")
    given = inputs(500, 500, dim=64, heads=4, key_heads=4, dtype=dtype)
    truth = dense(given, case.mask(), softcap=softcap)
    ours = run(layout(case), given, softcap=softcap)
    theirs = dense(given, case.mask(), dtype=dtype, softcap=softcap)
    typical, limits = typical_error(ours, truth), typical_error(theirs, truth)
    assert all(error <= 1.5 * limits[name] for name, error in typical.items()), (typical, limits)
    if (
        dtype == torch.float32
    ):  # the largest of 128,000 errors is 1 to 3 times dense attention's, by chance
        return
    largest, limits = ours.error(truth), theirs.error(truth)
    assert all(error <= 2 * limits[name] for name, error in largest.items()), (largest, limits)


def typical_error(mine: Attended, truth: Attended) -> dict[str, float]:
    """The root of the mean square of the errors, by name."""
    return {
        name: float((x.double() - getattr(truth, name).double()).square().mean().sqrt())
        for name, x in vars(mine).items()
    }


def test_float16_is_rounded_to_nearest() -> None:
    """With one key the output is its value: every finite fp16 goes in and comes out."""
    every = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.float16)
    v = every[every.isfinite()].reshape(1, 1, -1, 8)
    case = Case("diagonals(0t)", (64, 64), v.shape[2], v.shape[2], "end")
    assert torch.equal(layout(case)(torch.zeros_like(v), torch.zeros_like(v), v), v)
    # With two keys of equal weight it is their mean: ties, subnormals, and the step between powers.
    for values in [(1, 1.0009765625), (1.0009765625, 1.001953125), (6e-8, 0), (6.1e-5, 6e-5)]:
        v = torch.tensor(values, dtype=torch.float16).reshape(1, 1, 2, 1).repeat(1, 1, 1, 8)
        k = torch.zeros_like(v)
        out = layout(Case("all", (64, 64), 1, 2, "end"))(k[:, :, :1], k, v)
        assert torch.equal(out[0, 0, 0], v.float().mean(2)[0, 0].half())


def test_large_scores_stay_finite() -> None:
    case = Case(SINKS, (64, 64), 150, 170, "end")
    given = inputs(150, 170, dim=64)
    large = Inputs(1e3 * given.q, 1e3 * given.k, given.v, given.grad_out, given.grad_lse)
    found = run(layout(case), large, 1.0)
    assert all(x.isfinite().all() for x in vars(found).values())
    torch.testing.assert_close(found.out.double(), dense(large, case.mask(), 1.0).out)


@pytest.mark.parametrize(
    "bits", [0x7FC00000, 0x7FFFFFFF, 0xFFFFFFFF - 2**32, 0x7FC00001, 0x7F800001]
)
@pytest.mark.parametrize("name", ["q", "k", "v", "grad_out"])
@pytest.mark.parametrize("softcap", [None, 2.0])
def test_nan_is_not_hidden(softcap: float | None, name: str, bits: int) -> None:
    """Whatever its payload: that of CUDA's NaN has all bits set."""
    given = inputs(150, 150)
    getattr(given, name).view(torch.int32)[0, 0, 77, 3] = bits
    found, truth = (
        run(bslang.compile("causal", block=64, target=target), given, softcap=softcap)
        for target in ("cpu", "torch")
    )
    assert torch.isnan(found.out).any() == (name != "grad_out")
    for part, result in vars(found).items():
        assert torch.equal(result.isnan(), getattr(truth, part).isnan()), part


def test_second_derivatives_are_refused() -> None:
    q = torch.randn(1, 1, 40, 8, requires_grad=True)
    out = bslang.compile("causal", block=64, target="cpu")(q, q, q)
    assert isinstance(out, torch.Tensor)
    (grad,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="compile with target='torch'"):
        grad.sum().backward()


def test_batch_of_none() -> None:
    case = Case("causal", (64, 64), 100, 100, "end")
    assert not any(x.numel() for x in vars(run(layout(case), inputs(100, 100, batch=0))).values())


# ---- the same bits --------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [8, 64, 72, 256])
def test_one_key_has_no_score_to_learn(dim: int) -> None:
    given = inputs(200, 200, dim=dim)
    none = torch.zeros_like(given.grad_lse)
    made = layout(Case("last(1t)", (64, 64), 200, 200, "end"))
    for softcap in (None, 2.0):
        found = run(made, replace(given, grad_lse=none), softcap=softcap)
        assert not found.dq.any() and not found.dk.any()


def test_any_strides_give_the_same_bits() -> None:
    case = Case(SINKS, (64, 64), 150, 170, "end")
    target = CpuTarget(source(case))
    given = inputs(150, 170, dim=24, heads=4, key_heads=2, batch=2)
    whole = [x.contiguous() for x in vars(given).values()]
    expected = results(target, case, Inputs(*whole))
    views = {
        "batch, length, heads, dim": [
            x.transpose(1, 2).contiguous().transpose(1, 2) for x in whole
        ],
        "last dimension outermost": [x.movedim(-1, 0).contiguous().movedim(0, -1) for x in whole],
        "every second": [torch.stack((x, x + 1), -1)[..., 0] for x in whole],
    }
    for name, tensors in views.items():
        assert not any(x.is_contiguous() for x in tensors)
        assert same_bits(results(target, case, Inputs(*tensors)), expected), name


def test_gradients_of_a_sum() -> None:
    """`out.sum().backward()` hands in one number for all."""
    case = Case(SINKS, (64, 64), 150, 170, "end")
    given = inputs(150, 170)
    ones, zeros = torch.ones(()).expand(given.q.shape), torch.zeros(()).expand(given.q.shape[:3])
    check(case, Inputs(given.q, given.k, given.v, ones, zeros))


@pytest.mark.parametrize("heads", [(1, 1), (2, 2), (6, 3), (5, 5)], ids=str)
def test_same_bits_whatever_the_threads(heads: tuple[int, int]) -> None:
    """A head that a thread has to itself takes other loops than one that threads share."""
    for case in (Case(BIGBIRD, (32, 32), 300, 310, "end"), Case(SINKS, (64, 64), 300, 310, "end")):
        target = CpuTarget(source(case))
        given = inputs(300, 310, dim=40, heads=heads[0], key_heads=heads[1])
        for softcap in (0.0, 2.0):
            expected = results(target, case, given, softcap)
            for count in (1, 2, 3, 7):
                torch.set_num_threads(count)
                found = results(target, case, given, softcap)
                torch.set_num_threads(2)
                assert same_bits(found, expected), f"{count} threads"


# ---- generated code -------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [*SPECS, BIGBIRD, " ^ ".join(SPECS[4:12]), *PER_CALL])
def test_text_fits_the_page(spec: str) -> None:
    for block in ((16, 16), (128, 64)):
        case = Case(spec, block, 1, 1, "end")
        if block[0] != block[1] and spec == BIGBIRD:
            continue
        text = text_of(case)
        assert text == text_of(case)
        assert max(map(len, text.splitlines())) <= 100
        assert text.endswith("}\n") and "\n\n\n" not in text and " \n" not in text


def test_masks_stand_only_where_there_are_some() -> None:
    assert "mask" not in text_of(Case(BIGBIRD, (64, 64), 1, 1, "end"))
    text = text_of(Case(SINKS, (64, 64), 1, 1, "end"))
    for residual in ("cols(:4t)", "last(70t)", "last(70t) | cols(:4t)"):
        assert f": {residual}\n" in text


def test_constant_masks() -> None:
    """`every(1t)` holds of every key, so that a mask of its union is no question."""
    case = Case("every(1t) | causal", (16, 16), 40, 40, "end")
    check(case, inputs(40, 40))


@pytest.mark.parametrize("spec", PER_CALL)
def test_labels_and_heads_compile_with_no_warning(
    spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-Wall", "-Wextra", "-Werror"))
    call = Call(spec, (32, 32), 70, 90, layer=1)
    made, given = CpuTarget(source(Case(spec, call.block, 70, 90, "end"))), call.inputs()
    plan = call.layout("cpu")._plan(70, 90, "end", torch.device("cpu"), call.heads)
    told = options.Call.of(given.q, given.k, call.layout("cpu").inputs, 0.25, labels=call.labels())
    out, _ = made.forward(given.q, given.k, given.v, plan, told)
    assert torch.equal(out, call.layout("cpu")(given.q, given.k, given.v, labels=call.labels()))


@pytest.mark.parametrize("spec", [BIGBIRD, *SPECS[-4:]])
def test_text_compiles_as_users_build_it_with_no_warning(
    spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", COMPILER)
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, "-Wall", "-Wextra", "-Werror"))
    case = Case(spec, (32, 32), 300, 310, "end")
    given = inputs(300, 310, dim=64)
    quick = results(layout(case)._target(given.q, given.v), case, given)  # type: ignore[arg-type]
    for x, y in zip(results(CpuTarget(source(case)), case, given), quick, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5)


# ---- where it does not run ------------------------------------------------------------------


def test_other_devices() -> None:
    assert CpuTarget("").missing(torch.device("meta")) == "runs tensors on the CPU only"


def test_text_of_another_version_is_refused() -> None:
    case = Case("causal", (64, 64), 64, 64, "end")
    other = source(case).replace(f"abi = 0x{abi.digest()};", "abi = 0x123456789abcdef;")
    assert other != source(case)
    with pytest.raises(TargetError, match="another version of bslang"):
        results(CpuTarget(other), case, inputs(64, 64))

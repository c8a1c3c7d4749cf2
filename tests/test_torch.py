"""The torch target, and what is common to all targets in the op above them."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from hypothesis import assume, given
from reference import TOLERANCE, agrees, given_of, inputs
from strategies import Case, cases, examples, value_dims

import bslang
from bslang.errors import TargetError

BIGBIRD = "window(3) | global(0, -1) | random(2, seed=7)"


def layout(spec: str, block: int | tuple[int, int] = 8, target: str = "torch") -> bslang.Layout:
    return bslang.compile(spec, block=block, target=target)


@examples(60)
@given(cases(blocks=((4, 4), (8, 8), (5, 3)), longest=30, labels=True), value_dims)
def test_random_programs_agree_with_dense_attention(case: Case, value_dim: int) -> None:
    assume(case.has_meaning(heads=2))
    agrees(
        bslang.compile(case.spec, block=case.block, target="torch", folder=case.folder),
        inputs(case.len_q, case.len_k, dim=8, value_dim=value_dim, dtype=torch.float64),
        case.masks(2),
        TOLERANCE[torch.float64],
        align=case.align,
        **given_of(case),
    )


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str
)
@pytest.mark.parametrize("dim", [8, 64, 72, 256])
def test_dtypes_and_head_dimensions(dtype: torch.dtype, dim: int) -> None:
    case = Case(f"({BIGBIRD}) & causal", (8, 8), 61, 61, "end")
    given = inputs(61, 61, dim=dim, heads=4, key_heads=2, batch=2, dtype=dtype)
    agrees(layout(case.spec), given, case.mask(), TOLERANCE[dtype])


@pytest.mark.parametrize(
    "spec",
    [
        "{q, k : (q >= k) + (k >= q) == 2} | last(2)",
        "{q, k : (q >= k) == 1}",
        "{q, k : min(q >= k, k % 3 == 1) + (n > 3) * (q - k < 5) == 1}",
        "window(left=9t, right=3t, step=4t, wrap=true) | causal",
        "chunks(3t, 4t, 1t, 1t, 7t, 2t, 1t, 2t, 5t, 3t) & causal | {q, k : (q >= k) == 0 & k > 25}",
        "chunks(1, 2, 1, 1, 1, 1, 1, 1, 1, 3) | last(2t)",
        f"chunks({', '.join(f'{1 + n % 3}t' for n in range(60))}, back=1) & causal",
    ],
)
@pytest.mark.parametrize("target", ["torch", "cpu"])
def test_comparisons_are_numbers_and_rings_go_round(spec: str, target: str) -> None:
    case = Case(spec, (4, 4), 29, 29, "end")
    given = inputs(29, 29, dim=16, dtype=torch.float32)
    agrees(layout(spec, 4, target), given, case.mask(), TOLERANCE[torch.float32])


def test_scale_and_its_default() -> None:
    case = Case(BIGBIRD, (8, 8), 40, 40, "end")
    given = inputs(40, 40, dtype=torch.float64)
    agrees(layout(BIGBIRD), given, case.mask(), 1e-12, scale=0.3)
    agrees(layout(BIGBIRD), given, case.mask(), 1e-12, scale=-0.3)
    out = layout(BIGBIRD)(given.q, given.k, given.v)
    assert torch.equal(out, layout(BIGBIRD)(given.q, given.k, given.v, given.q.shape[-1] ** -0.5))


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str
)
def test_softcaps(dtype: torch.dtype) -> None:
    case = Case(f"({BIGBIRD}) & causal", (8, 8), 61, 61, "end")
    for softcap in (0.3, 5.0, 1e6):
        given = inputs(61, 61, heads=4, key_heads=2, batch=2, dtype=dtype)
        agrees(layout(case.spec), given, case.mask(), TOLERANCE[dtype], scale=-0.7, softcap=softcap)


def test_gradcheck() -> None:
    q = torch.randn(1, 2, 11, 8, dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(1, 1, 11, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    made = layout("(last(2) | cols(0)) & causal", 4)
    for softcap in (None, 1.5):
        call = functools.partial(made, softcap=softcap, return_lse=True)
        assert torch.autograd.gradcheck(call, (q, k, v))
        assert torch.autograd.gradgradcheck(call, (q, k, v))


@pytest.mark.parametrize("softcap", [None, 2.0])
def test_under_torch_compile(softcap: float | None) -> None:
    made = layout(BIGBIRD)

    @torch.compile(fullgraph=True, backend="aot_eager")
    def loss(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return (made(q, k, v, softcap=softcap) ** 2).sum()

    given = inputs(40, 40)
    q = given.q.detach().requires_grad_()
    loss(q, given.k, given.v).backward()
    plain = given.q.detach().requires_grad_()
    (made(plain, given.k, given.v, softcap=softcap) ** 2).sum().backward()
    torch.testing.assert_close(q.grad, plain.grad)


def test_results_are_contiguous_and_repeatable() -> None:
    given = inputs(50, 50, heads=4, key_heads=4)
    first, second = (layout(BIGBIRD)(given.q, given.k, given.v) for _ in range(2))
    assert first.is_contiguous() and torch.equal(first, second)


def test_empty_batch() -> None:
    given = inputs(20, 20, batch=0)
    q = given.q.requires_grad_()
    out = layout(BIGBIRD)(q, given.k, given.v)
    assert out.shape == (0, 2, 20, 16)
    out.sum().backward()
    assert q.grad is not None and q.grad.shape == q.shape


GOOD = (1, 2, 20, 16)
WRONG = [
    (((2, 20, 16), GOOD, GOOD), torch.float32, ValueError, r"q must have 4 dimensions.*\(2, 20, 16\)"),
    ((GOOD, GOOD, (1, 2, 21, 16)), torch.float32, ValueError, "k and v must have one batch size.*21, 16"),
    ((GOOD, (2, 2, 20, 16), (2, 2, 20, 16)), torch.float32, ValueError, "q has batch size 1, k and v have 2"),
    (((1, 2, 20, 8), GOOD, GOOD), torch.float32, ValueError, "q has head dimension 8, k has 16"),
    (((1, 2, 20, 0),) * 3, torch.float32, ValueError, "head dimension of q and k must be at least 1, not 0"),
    (((1, 3, 20, 16), GOOD, GOOD), torch.float32, ValueError, "3 query heads must be a multiple"),
    (((1, 2, 21, 16), GOOD, GOOD), torch.float32, ValueError, 'pass align="start"'),
    ((GOOD,) * 3, torch.int64, TypeError, "q must be one of torch.float32.*it is torch.int64"),
]  # fmt: skip


@pytest.mark.parametrize(("shapes", "dtype", "error", "message"), WRONG)
def test_tensors_that_do_not_fit(
    shapes: tuple[tuple[int, ...], ...], dtype: torch.dtype, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        layout(BIGBIRD)(*(torch.zeros(shape, dtype=dtype) for shape in shapes))


def test_other_arguments_that_do_not_fit() -> None:
    q = torch.zeros(GOOD)
    made = layout(BIGBIRD)
    with pytest.raises(TypeError, match=r"k must be a torch\.Tensor, not list"):
        made(q, [1], q)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="share one dtype"):
        made(q, q.double(), q)
    with pytest.raises(ValueError, match='align must be "end" or "start", not \'left\''):
        made(q, q, q, align="left")
    with pytest.raises(
        TargetError, match=r"no target of `layout` runs torch\.float64 tensors on cpu"
    ):
        layout(BIGBIRD, target="cpu")(q.double(), q.double(), q.double())
    with pytest.raises(
        bslang.SpecError, match="column 9 of `cols\\(9\\)` is out of range for 3 blocks"
    ):
        layout("cols(9)")(q, q, q)


@pytest.mark.parametrize(
    "cap", [0, 0.0, -3.0, math.nan, math.inf, -math.inf, 1e-31, 10**31, True, "5", torch.ones(2)]
)
def test_softcaps_that_are_none(cap: object) -> None:
    q = torch.zeros(GOOD)
    with pytest.raises(
        ValueError, match=r"^softcap must be None or a number from 1e-30 to 1e\+30, not"
    ):
        layout(BIGBIRD)(q, q, q, softcap=cap)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (
            "attn_mask",
            r"the layout is the mask; bslang\.from_dense and bslang\.from_flex make a layout",
        ),
        ("mask", "Pass padding as key_padding, and packed documents as labels"),
        ("block_mask", r"bslang\.from_flex"),
        ("is_causal", r"intersect it with `causal`: bslang\.compile\('\.\.\. & causal'\)"),
        ("causal", "for a causal layout, intersect it"),
        ("dropout_p", "dropout of attention weights is not supported; apply dropout to the output"),
        ("window_size", r"bslang\.compile\('last\(256t\) & causal'\)"),
        ("enable_gqa", "leave it out"),
        ("softmax_scale", "write scale"),
        ("cu_seqlens_q", r"layout\.packed\(q, k, v, cu_seqlens\)"),
        ("soft_cap", "did you mean 'softcap'"),
        ("frobnicate", "unexpected option 'frobnicate'$"),
    ],
)
def test_options_of_other_libraries(option: str, expected: str) -> None:
    q = torch.zeros(GOOD)
    for value in (None, True):
        with pytest.raises(TypeError, match=expected):
            layout(BIGBIRD)(q, q, q, **{option: value})  # type: ignore[arg-type]


def test_masks_are_no_scales() -> None:
    """The fourth argument of torch's attention is the mask."""
    q = torch.zeros(GOOD)
    with pytest.raises(TypeError, match=r"a number or None, not Tensor .*the layout is the mask"):
        layout(BIGBIRD)(q, q, q, torch.ones(20, 20, dtype=torch.bool))  # type: ignore[arg-type]


def test_tensors_of_other_kinds() -> None:
    q = torch.zeros(GOOD)
    made = layout(BIGBIRD)
    with pytest.raises(
        TypeError, match=r"q must be an ordinary dense tensor; its layout is torch\.sparse"
    ):
        made(q.to_sparse(), q, q)
    with pytest.raises(TypeError, match="scale must be a number or None, not str"):
        made(q, q, q, "a")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="scale must be a number or None, not Tensor"):
        made(q, q, q, torch.ones(()))  # type: ignore[arg-type]


def test_autocast_takes_the_dtype_of_the_context() -> None:
    """As torch's own attention does: rotary embeddings leave q and k in fp32 beside v in bf16."""
    given_ = inputs(40, 40)
    q, k, v = (x.detach().requires_grad_() for x in (given_.q, given_.k, given_.v))
    with torch.autocast("cpu", torch.bfloat16):
        out = layout(BIGBIRD)(q, k, v.to(torch.bfloat16))
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert q.grad is not None and q.grad.dtype == torch.float32
    expected = layout(BIGBIRD)(*(x.detach().to(torch.bfloat16) for x in (q, k, v)))
    assert torch.equal(out, expected)


def test_compile_refuses_what_is_no_spec() -> None:
    with pytest.raises(TypeError, match="spec must be the text of a pattern, not int"):
        bslang.compile(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="block must be a number of tokens from 1 to 4096"):
        bslang.compile("all", block=0)
    with pytest.raises(ValueError, match="block must be a number of tokens"):
        bslang.compile("all", block=True)
    with pytest.raises(TargetError, match=r"unknown target 'trtion'.*did you mean 'triton'"):
        bslang.compile("all", target="trtion")
    with pytest.raises(bslang.SpecError, match="no parameter `r`"):
        bslang.compile("all", r=3)
    with pytest.raises(bslang.SpecError, match="no such file"):
        bslang.load("nowhere.bsl")


def test_parameters_from_python() -> None:
    spec = "p(w, wide=false) = window(w, wrap=wide)"
    assert bslang.compile(spec, w=5, target="torch").spec == "window(5)"
    assert bslang.compile(spec, w="65t", wide=True, target="torch").spec == "window(65t, wrap=true)"
    assert bslang.compile("p(w) = last(w)", w=float("inf"), target="torch").spec == "last(inf)"
    assert bslang.compile(spec, w=5, target="torch") is bslang.compile(spec, w=5, target="torch")

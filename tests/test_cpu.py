"""The cpu target against dense attention in float64, and the cache that it is built into."""

from __future__ import annotations

import math
import multiprocessing
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bslang.codegen.cpu import section
from bslang.codegen.plan import Plan
from bslang.errors import BuildError, PatternError, TargetError
from bslang.graph.lower import lower
from bslang.ir.grid import Grid
from bslang.ir.oracle import dense
from bslang.ir.pattern import Pattern
from bslang.ir.signature import INFINITE, Count, Range
from bslang.patterns import (
    All,
    Causal,
    Chunks,
    Cols,
    Diagonals,
    Every,
    Global,
    Last,
    Nothing,
    Random,
    Rows,
    Strided,
    Window,
)
from bslang.runtime import build as building
from bslang.runtime import cpu as runtime
from bslang.runtime.cpu import CpuTarget
from bslang.runtime.plan import DevicePlan
from bslang.schedule.schedule import schedule

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, building.COMPILERS)), reason="no C++ compiler"
)

CPU = torch.device("cpu")
Tensors = tuple[torch.Tensor, ...]

# Largest error beside the largest value, by dtype: what rounding inputs' products and outputs costs.
TOLERANCE = {torch.float32: 4e-6, torch.bfloat16: 1.2e-2, torch.float16: 1.5e-3}


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BSLANG_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def cpp(pattern: Pattern, block: tuple[int, int]) -> str:
    return section(Plan.of("layout", pattern, block, "0" * 16, ("cpu",))).files[".cpp"]


@lru_cache(maxsize=None)
def target(pattern: Pattern, block: tuple[int, int]) -> CpuTarget:
    return CpuTarget(cpp(pattern, block))


@dataclass(frozen=True)
class Call:
    """A pattern at a length, with its tables and the pairs that it means."""

    pattern: Pattern
    block: tuple[int, int]
    len_q: int
    len_k: int
    align: str = "end"

    @property
    def grid(self) -> Grid:
        return Grid.of(self.len_q, self.len_k, self.block, self.align)

    @property
    def plan(self) -> DevicePlan:
        return DevicePlan.of(schedule(lower(self.pattern, self.grid)), CPU)

    @property
    def mask(self) -> torch.Tensor:
        return torch.from_numpy(dense(self.pattern, self.grid))

    def tensors(
        self, heads: tuple[int, int] = (2, 2), dim: int = 16, batch: int = 1, seed: int = 0
    ) -> Tensors:
        """q, k, v, grad_out, grad_lse."""
        draw = torch.Generator().manual_seed(seed)
        shapes = [(batch, heads[0], self.len_q, dim), *[(batch, heads[1], self.len_k, dim)] * 2]
        q, k, v = (torch.randn(shape, generator=draw) for shape in shapes)
        grad_out = torch.randn(q.shape, generator=draw)
        return q, k, v, grad_out, torch.randn(q.shape[:3], generator=draw)

    def run(self, tensors: Tensors, scale: float = 0.3) -> Tensors:
        """out, lse, dq, dk, dv of the target."""
        q, k, v, grad_out, grad_lse = tensors
        kernels, plan = target(self.pattern, self.block), self.plan
        out, lse = kernels.forward(q, k, v, plan, scale)
        grads = kernels.backward(grad_out, grad_lse, q, k, v, out, lse, plan, scale)
        return out, lse, *grads

    def check(self, tensors: Tensors, scale: float = 0.3) -> None:
        """Hold every result against the reference."""
        found = self.run(tensors, scale)
        expected = reference(self.mask, tensors, scale)
        q, k, v = tensors[:3]
        for name, x, y, like in zip(
            ("out", "lse", "dq", "dk", "dv"), found, expected, (q, None, q, k, v), strict=True
        ):
            assert x.is_contiguous() and x.shape == y.shape, name
            assert x.dtype == (torch.float32 if like is None else like.dtype), name
            finite = y.isfinite()
            assert torch.equal(x.isfinite(), finite), name
            assert torch.equal(x[~finite].double(), y[~finite]), name  # lse -inf
            x, y = x[finite].double(), y[finite]
            if y.numel():
                largest = max(1.0, y.abs().max().item())
                error = (x - y).abs().max().item() / largest
                limit = TOLERANCE[torch.float32 if like is None else like.dtype]
                assert error <= limit, f"{name}: error {error:.2g} of {largest:.3g}, limit {limit}"


def reference(mask: torch.Tensor, tensors: Tensors, scale: float) -> Tensors:
    """Dense attention and its gradients in float64; rows without keys give 0 and -inf."""
    q, k, v, grad_out, grad_lse = (t.detach().double() for t in tensors)
    q, k, v = (t.requires_grad_() for t in (q, k, v))
    group = q.shape[1] // k.shape[1]
    keys, values = (t.repeat_interleave(group, 1) for t in (k, v))
    scores = (q @ keys.transpose(-1, -2) * scale).masked_fill(~mask, -math.inf)
    empty = ~mask.any(-1)
    peak = scores.detach().amax(-1, keepdim=True).masked_fill(empty[:, None], 0.0)
    weights = (scores - peak).exp()
    total = weights.sum(-1, keepdim=True).masked_fill(empty[:, None], 1.0)
    out = weights @ values / total
    lse = (peak + total.log())[..., 0]
    used = (grad_lse * lse).masked_fill(empty, 0.0).sum()  # lse of an empty row is a constant
    grads = torch.autograd.grad((grad_out * out).sum() + used, (q, k, v))
    return out.detach(), lse.detach().masked_fill(empty, -math.inf), *grads


def tokens(value: int) -> Count:
    return Count(value, True)


BIGBIRD = Window(Count(3)) | Global((Count(0), Count(-1))) | Random(2, seed=7)
LAYOUTS: dict[str, Pattern] = {
    "all": All(),
    "none": Nothing(),
    "causal": Causal(),
    "causal.T": Causal().T,
    "last(100t)": Last(tokens(100)),
    "last(inf)": Last(Count(INFINITE)),
    "dilated": Window(left=tokens(60), right=tokens(30), step=tokens(3)),
    "ring": Window(tokens(41), wrap=True),
    "clamp": Window(tokens(50), clamp=True),
    "sinks": (Last(tokens(70)) | Cols((Range(None, tokens(4)),))) & Causal(),
    "global": Global((tokens(0), tokens(-1))) | Every(tokens(37)),
    "rows": Rows((Range(tokens(20), tokens(90)),)),  # most rows are empty
    "chunks": Chunks((tokens(40),), back=1) & ~Strided(tokens(3)),
    "diagonals": Diagonals((tokens(0), tokens(17), Range(tokens(60), tokens(70)))),
    "xor": Causal() ^ Cols((Range(tokens(5), tokens(60)),)),
    "random": Random(2, seed=3, within=Causal()) | Rows((tokens(-1),)),
}
BLOCKS = [(16, 16), (64, 64), (5, 3), (128, 64)]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name: str, block: tuple[int, int]) -> None:
    for len_q, len_k, align in [(192, 192, "end"), (97, 201, "end"), (150, 113, "start")]:
        call = Call(LAYOUTS[name], block, len_q, len_k, align)
        call.check(call.tensors())


@pytest.mark.parametrize("block", [*BLOCKS[:2], (32, 32)], ids=str)
def test_bigbird(block: tuple[int, int]) -> None:
    for len_q, len_k in [(512, 512), (500, 500), (333, 500)]:
        call = Call(BIGBIRD, block, len_q, len_k)
        call.check(call.tensors(dim=64))


@pytest.mark.parametrize("block", [(1000, 300), (300, 1000), (100, 100), (129, 129)], ids=str)
def test_large_blocks_are_cut_into_tiles(block: tuple[int, int]) -> None:
    for pattern in (Causal(), Last(tokens(400)) | Cols((tokens(0),))):
        for len_q, len_k in [(1301, 1301), (260, 1301)]:
            call = Call(pattern, block, len_q, len_k)
            call.check(call.tensors(heads=(1, 1), dim=8))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("dim", [8, 24, 64, 72, 128, 256])
def test_dims_and_dtypes(dim: int, dtype: torch.dtype) -> None:
    for call in (Call(LAYOUTS["sinks"], (64, 64), 200, 230), Call(BIGBIRD, (32, 32), 290, 290)):
        *tensors, grad_lse = call.tensors(dim=dim)
        call.check((*(t.to(dtype) for t in tensors), grad_lse), scale=dim**-0.5)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_no_worse_than_torch(dtype: torch.dtype) -> None:
    call = Call(LAYOUTS["last(100t)"], (64, 64), 500, 500)
    *tensors, _ = call.tensors(heads=(4, 4), dim=64)
    tensors = [t.to(dtype) for t in tensors]
    q, k, v, grad_out = tensors
    grad_lse = torch.zeros(q.shape[:3])
    found = call.run((*tensors, grad_lse), scale=0.125)
    expected = reference(call.mask, (*tensors, grad_lse), 0.125)
    leaves = [t.clone().requires_grad_() for t in (q, k, v)]
    out = torch.nn.functional.scaled_dot_product_attention(*leaves, attn_mask=call.mask)
    peer = (out, None, *torch.autograd.grad(out, leaves, grad_out))
    for name, x, y, z in zip(("out", "lse", "dq", "dk", "dv"), found, peer, expected, strict=True):
        if y is not None:
            ours, theirs = ((t.double() - z).abs().max().item() for t in (x, y))
            assert ours <= 2 * theirs, f"{name}: {ours:.3g}, torch {theirs:.3g}"


def test_float16_conversions_round_to_nearest() -> None:
    """One key: the output is the value, so that values go in and come out as they are."""
    every = torch.arange(2**16).to(torch.uint16).view(torch.float16)
    numbers = every[every.isfinite()].reshape(1, 1, -1, 8)
    length = numbers.shape[2]
    call = Call(Diagonals((tokens(0),)), (64, 64), length, length)
    kernels = target(call.pattern, call.block)
    q = torch.zeros_like(numbers)
    out, _ = kernels.forward(q, q, numbers, call.plan, 1.0)
    assert torch.equal(out, numbers)
    # two keys of equal weight: halves of sums, many of them ties and subnormals
    pairs = Call(All(), (64, 2), 1, 2)
    for a, b in [(1.0, 1.0009765625), (1.0009765625, 1.001953125), (6e-8, 0.0), (1e-7, 3e-7)]:
        values = torch.tensor([a, b], dtype=torch.float16).reshape(1, 1, 2, 1).expand(1, 1, 2, 8)
        values = values.contiguous()
        q, k = torch.zeros(1, 1, 1, 8).half(), torch.zeros(1, 1, 2, 8).half()
        out, _ = target(pairs.pattern, pairs.block).forward(q, k, values, pairs.plan, 1.0)
        assert torch.equal(out[0, 0, 0], values.float().mean(2)[0, 0].half())


@pytest.mark.parametrize("heads", [(1, 1), (4, 2), (6, 1), (3, 3)], ids=str)
def test_batches_and_grouped_heads(heads: tuple[int, int]) -> None:
    call = Call(LAYOUTS["causal"], (64, 64), 150, 170)
    call.check(call.tensors(heads, batch=3))


def test_strides() -> None:
    call = Call(LAYOUTS["sinks"], (64, 64), 150, 170)
    plain = call.tensors((4, 2), dim=24, batch=2)
    expected = call.run(plain)
    views = {
        "(B, L, H, D)": [t.transpose(1, 2).contiguous().transpose(1, 2) for t in plain],
        "last dimension outermost": [t.movedim(-1, 0).contiguous().movedim(0, -1) for t in plain],
        "part of a larger tensor": [
            torch.stack((t, t + 1), 3)[:, :, :, 0] for t in plain[:4]
        ] + [torch.stack((plain[4], plain[4]), 3)[..., 1]],
    }  # fmt: skip
    for name, tensors in views.items():
        assert any(not t.is_contiguous() for t in tensors)
        for x, y in zip(call.run(tuple(tensors)), expected, strict=True):
            assert torch.equal(x, y), name
    # one number for all, as out.sum().backward() gives
    *tensors, _, _ = plain
    ones = torch.ones(()).expand(2, 4, 150, 24), torch.zeros(()).expand(2, 4, 150)
    call.check((*tensors, *ones))


def test_batch_of_none() -> None:
    call = Call(Causal(), (64, 64), 100, 100)
    assert [x.shape[0] for x in call.run(call.tensors(batch=0))] == [0] * 5


def test_extreme_scores_and_scales() -> None:
    call = Call(LAYOUTS["sinks"], (64, 64), 150, 170)
    q, k, v, grad_out, grad_lse = call.tensors(dim=64)
    call.check((q, k, v, grad_out, grad_lse), scale=0.0)
    call.check((q, k, v, grad_out, grad_lse), scale=-0.2)
    out, lse, *grads = call.run((1e3 * q, 1e3 * k, v, grad_out, grad_lse), scale=1.0)
    assert all(x.isfinite().all() for x in (out, lse, *grads))
    best = (q.double() @ k.double().transpose(-1, -2)).masked_fill(~call.mask, -math.inf)
    assert torch.allclose(lse.double(), 1e6 * best.amax(-1), rtol=1e-5)


def test_nan_is_not_hidden() -> None:
    call = Call(Causal(), (64, 64), 150, 150)
    q, k, v, *_ = call.tensors()
    q[0, 1, 77, 3] = math.nan
    out, lse = target(call.pattern, call.block).forward(q, k, v, call.plan, 0.3)
    assert out[0, 1, 77].isnan().all() and lse[0, 1, 77].isnan()
    assert out.isnan().sum() == out.shape[-1] and lse.isnan().sum() == 1


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("heads", [(1, 1), (2, 2), (6, 3), (5, 5)], ids=str)
def test_same_bits_whatever_the_threads(heads: tuple[int, int]) -> None:
    """Heads that threads have to themselves and heads that they share give the same bits."""
    for call in (Call(BIGBIRD, (32, 32), 300, 310), Call(LAYOUTS["sinks"], (64, 64), 300, 310)):
        tensors = call.tensors(heads, dim=40)
        first = None
        for count in (1, 2, 2, 3, 7):
            torch.set_num_threads(count)
            found = call.run(tensors)
            first = first or found
            assert all(map(torch.equal, found, first)), f"{count} threads"


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("bytes_", [0, 10**6, 10**12])
def test_same_bits_whatever_the_wave(bytes_: int) -> None:
    call = Call(BIGBIRD, (32, 32), 300, 310)
    tensors = call.tensors((6, 3), batch=2)
    text = cpp(call.pattern, call.block)
    assert "wave_bytes = 32 << 20" in text
    kernels = CpuTarget(text.replace("wave_bytes = 32 << 20", f"wave_bytes = {bytes_}"))
    torch.set_num_threads(2)
    out, lse = kernels.forward(*tensors[:3], call.plan, 0.3)
    grads = kernels.backward(*tensors[3:], *tensors[:3], out, lse, call.plan, 0.3)
    assert all(map(torch.equal, (out, lse, *grads), call.run(tensors)))


# ---- random programs ------------------------------------------------------------------------

_counts = st.integers(0, 40).map(tokens)
_some = st.integers(1, 40).map(tokens)
_primitives = st.one_of(
    st.just(Causal()),
    st.builds(Last, _some),
    st.builds(lambda a, b, s: Window(left=a, right=b, step=s), _counts, _counts, _some),
    st.builds(lambda a, b: Cols((Range(a, None, 3), b)), _counts, _counts),
    st.builds(lambda a: Rows((a, Range(tokens(-9), None))), _counts),
    st.builds(Every, _some),
    st.builds(Strided, _some, _counts),
    st.builds(lambda a, back: Chunks((a,), back=back), _some, st.integers(0, 2)),
    st.builds(lambda a, b: Diagonals((a, Range(b, tokens(50), 7))), _counts, _counts),
    st.builds(Random, st.integers(0, 3), seed=st.integers(0, 9)),
)
_patterns = st.recursive(
    _primitives,
    lambda part: st.one_of(
        st.builds(lambda a, b: a | b, part, part),
        st.builds(lambda a, b: a & b, part, part),
        st.builds(lambda a, b: a - b, part, part),
        st.builds(lambda a, b: a ^ b, part, part),
        st.builds(lambda a: ~a, part),
        st.builds(lambda a: a.T, part),
    ),
    max_leaves=4,
)
_calls = st.builds(
    lambda pattern, block, short, long, align: Call(
        pattern, block, short if align == "start" else min(short, long), long, align
    ),
    _patterns,
    st.sampled_from([(16, 16), (32, 32), (5, 3), (48, 16), (1, 1)]),
    st.integers(1, 90),
    st.integers(50, 120),
    st.sampled_from(["end", "start"]),
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(_calls, st.integers(0, 2**32 - 1))
def test_random_programs(call: Call, seed: int) -> None:
    try:
        call.plan  # noqa: B018  # some indices lie outside of some grids
    except PatternError:
        return
    call.check(call.tensors((2, 1), dim=8, seed=seed))


# ---- generated code -------------------------------------------------------------------------


def test_generated_code_is_the_same_every_time_and_fits_the_page() -> None:
    for pattern in LAYOUTS.values():
        text = cpp(pattern, (64, 64))
        assert text == cpp(pattern, (64, 64))
        assert max(map(len, text.splitlines())) <= 100
        assert text.endswith("}\n") and "\n\n\n" not in text and " \n" not in text


def test_generated_code_mentions_masks_only_where_there_are_some() -> None:
    assert "mask_tile" not in cpp(BIGBIRD, (64, 64))
    text = cpp(LAYOUTS["sinks"], (64, 64))
    for mask in Plan.of("sinks", LAYOUTS["sinks"], (64, 64), "", ()).masks:
        assert f"// Mask {mask.number}: {mask.text}\n" in text


def test_constant_masks_are_cpp() -> None:
    pattern = Every(tokens(1)) | Causal()  # `every(1t)` holds for any key
    call = Call(pattern, (16, 16), 40, 40)
    call.check(call.tensors())


@pytest.mark.parametrize("name", ["bigbird", "xor", "rows"])
def test_generated_code_compiles_without_warnings(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "FLAGS", (*building.FLAGS, "-Wall", "-Wextra", "-Werror"))
    building.build(cpp({"bigbird": BIGBIRD, **LAYOUTS}[name], (64, 64)))


@pytest.mark.parametrize("march", ["x86-64", "x86-64-v3", "x86-64-v4"])
def test_narrower_processors(march: str, monkeypatch: pytest.MonkeyPatch) -> None:
    info = Path("/proc/cpuinfo")
    flags = info.read_text().split() if info.is_file() else []
    needed = {"x86-64": "sse2", "x86-64-v3": "avx2", "x86-64-v4": "avx512f"}[march]
    if needed not in flags:
        pytest.skip("this processor cannot run it")
    given = tuple(f"-march={march}" if "-march" in flag else flag for flag in building.FLAGS)
    monkeypatch.setattr(building, "FLAGS", given)
    call = Call(LAYOUTS["sinks"], (48, 48), 200, 230)
    kernels = CpuTarget(cpp(call.pattern, call.block))
    tensors = call.tensors(dim=72)
    out, lse = kernels.forward(*tensors[:3], call.plan, 0.3)
    grads = kernels.backward(*tensors[3:], *tensors[:3], out, lse, call.plan, 0.3)
    expected = reference(call.mask, tensors, 0.3)
    for x, y in zip((out, lse, *grads), expected, strict=True):
        assert (x.double() - y).abs().nan_to_num(0.0).max() < 1e-5 * max(1, y.abs().max())


# ---- the build cache ------------------------------------------------------------------------

TINY = 'extern "C" int answer() { return 42; }\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BSLANG_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "cpu"


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sources compiled, in order."""
    done: list[str] = []
    compile_ = building._compile

    def counted(compiler: building.Command, source: str, library: Path) -> None:
        done.append(source)
        compile_(compiler, source, library)

    monkeypatch.setattr(building, "_compile", counted)
    return done


def test_cache_is_hit_and_private(folder: Path, compilations: list[str]) -> None:
    library = building.build(TINY)
    assert building.build(TINY) == library and compilations == [TINY]
    assert building.build(TINY + "// other\n") != library and len(compilations) == 2
    assert folder.stat().st_mode & 0o777 == 0o700
    assert not list(folder.glob("*.part"))


def test_cache_key_holds_flags_and_compiler(
    folder: Path, compilations: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    libraries = {building.build(TINY)}
    monkeypatch.setenv("CXX", f"{building.find_compiler()[0]} -DEXTRA=1")
    libraries.add(building.build(TINY))
    monkeypatch.setattr(building, "FLAGS", (*building.FLAGS, "-g"))
    libraries.add(building.build(TINY))
    assert len(libraries) == 3


@pytest.mark.parametrize("damage", ["truncated", "emptied", "changed", "no sum", "gone"])
def test_damaged_entry_is_built_again(damage: str, folder: Path, compilations: list[str]) -> None:
    library = building.build(TINY)
    whole = library.read_bytes()
    if damage == "no sum":
        library.with_suffix(".sha256").unlink()
    elif damage == "gone":
        library.unlink()
    else:
        middle = len(whole) // 2
        changed = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        library.write_bytes(
            {"truncated": whole[:middle], "emptied": b"", "changed": changed}[damage]
        )
    assert building.build(TINY) == library and len(compilations) == 2
    assert library.read_bytes() == whole


def test_refused_source(folder: Path) -> None:
    with pytest.raises(BuildError) as caught:
        building.build("\n".join(["int wrong = here;"] * 30))
    message = str(caught.value)
    kept = next(folder.glob("*.cpp"))
    assert str(kept) in message and "here" in message and "more lines" in message
    assert len(message.splitlines()) <= building.MESSAGE_LINES + 2
    assert not list(folder.glob("*.so")) and not list(folder.glob("*.part"))


def test_missing_compiler(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(BuildError, match=r"c\+\+, g\+\+, clang\+\+.*CXX"):
        building.build(TINY)
    with pytest.warns(RuntimeWarning, match="no C\\+\\+ compiler"):
        assert "no C++ compiler" in CpuTarget(TINY).missing(CPU)
    monkeypatch.setenv("CXX", "no-such-compiler -O1")
    with pytest.raises(BuildError, match="no-such-compiler"):
        building.build(TINY)


def test_compiler_that_fails_or_hangs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = tmp_path / "compiler"
    monkeypatch.setenv("CXX", str(compiler))
    compiler.write_text("#!/bin/sh\necho it is broken; exit 3\n")
    compiler.chmod(0o755)
    with pytest.raises(BuildError, match="exit status 3.*\nit is broken"):
        building.build(TINY)
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nsleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("CXX", str(slow))
    monkeypatch.setattr(building, "BUILD_SECONDS", 0.2)
    with pytest.raises(BuildError, match=r"more than 0\.2 s"):
        building.build(TINY)


def test_folder_that_others_may_write_is_refused(folder: Path) -> None:
    building.build(TINY)
    folder.chmod(0o777)
    with pytest.raises(BuildError, match="others may write"):
        building.build(TINY)


def test_cache_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BSLANG_CACHE_DIR", str(tmp_path / "file"))
    with pytest.raises(BuildError, match="BSLANG_CACHE_DIR"):
        building.build(TINY)


def _build_in_process(source: str) -> str:
    return str(building.build(source))


def test_many_processes_build_one_entry(folder: Path) -> None:
    source = cpp(Causal(), (64, 64))
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        libraries = set(pool.map(_build_in_process, [source] * 6))
    assert len(libraries) == 1 and len(list(folder.glob("*.so"))) == 1


def test_file_of_another_version_is_refused(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "layout.cpp"
    text = cpp(Causal(), (64, 64))
    path.write_text(text.replace("int64_t threads, dtype;", "int64_t threads, dtype, more;"))
    call = Call(Causal(), (64, 64), 64, 64)
    with pytest.raises(TargetError, match="another version"):
        CpuTarget(path).forward(*call.tensors()[:3], call.plan, 1.0)


def test_arguments_have_one_layout_on_both_sides(folder: Path) -> None:
    import ctypes

    text = cpp(Causal(), (64, 64))
    names = [name for name, _ in runtime._Arguments._fields_]
    cases = "".join(f"offsetof(Arguments, {name}), " for name in names)
    source = text.replace("#include <cstring>", "#include <cstddef>\n#include <cstring>")
    source += f'extern "C" int64_t offset(int64_t i) {{ constexpr int64_t x[] = {{{cases}}}; return x[i]; }}\n'
    library = ctypes.CDLL(str(building.build(source)))
    for i, name in enumerate(names):
        assert library.offset(ctypes.c_int64(i)) == getattr(runtime._Arguments, name).offset, name


def test_missing_on_other_devices() -> None:
    kernels = CpuTarget(TINY)
    assert kernels.missing(torch.device("meta")) == "runs tensors on the CPU only"
    assert kernels.missing(CPU) == ""


def test_tables_need_no_more_than_their_types() -> None:
    """The kernels read tables as int32 without a copy."""
    plan = Call(BIGBIRD, (64, 64), 512, 512).plan
    for table in (plan.rows, plan.cols):
        assert table.order.dtype == table.pointer.dtype == table.runs.dtype == torch.int32
    assert plan.parameters.dtype == torch.int32 and np.dtype(np.int32).itemsize == 4
    assert os.path.sep  # the cache's names are plain files

"""The triton target: results under Triton's interpreter, the text of its kernels, and machine code
that is compiled ahead of time with no GPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest
import torch
from calls import BY_HEAD, FAR, LABELLED, PREDICATES, Call, few
from hypothesis import given, settings
from interpreter import interpreting
from reference import TOLERANCE, Inputs, agrees, inputs, run
from strategies import Case, cases

import bslang
from bslang import compiler
from bslang.codegen.plan import Plan
from bslang.codegen.triton import section
from bslang.errors import TargetError
from bslang.runtime.triton import Launch, TritonTarget
from bslang.schedule.strips import Rules
from bslang.syntax.source import Source

pytest.importorskip("triton")

BIGBIRD = "window(3) | global(0, -1) | random(2, seed=7)"
SINKS = "(last(70t) | cols(:4t)) & causal"
SINGLE, HALF, BRAIN = torch.float32, torch.float16, torch.bfloat16

# Each row: a program on a grid, then what its tensors are.
RUNS: list[tuple[Case, dict[str, Any]]] = [
    (Case(BIGBIRD, (16, 16), 150, 150, "end"), {}),
    (Case(BIGBIRD, (64, 64), 330, 330, "end"), {"dim": 64, "batch": 2}),
    (Case(f"({BIGBIRD}) & causal", (16, 16), 70, 90, "end"), {"dtype": HALF, "dim": 72}),
    (Case(f"({BIGBIRD}) & causal", (64, 64), 130, 200, "end"), {"dtype": BRAIN, "dim": 64}),
    (Case("all", (64, 64), 100, 100, "end"), {"dim": 24, "dtype": BRAIN}),
    (Case("none", (16, 16), 20, 40, "end"), {}),
    (Case("causal", (32, 16), 50, 90, "end"), {"dim": 24, "heads": 4, "key_heads": 2}),
    (Case("causal", (64, 64), 90, 60, "start"), {"heads": 3, "key_heads": 3, "dtype": HALF}),
    (Case(SINKS, (64, 64), 100, 180, "end"), {"dim": 24, "heads": 4}),
    (Case("causal.T", (5, 3), 17, 21, "end"), {"dim": 72, "dtype": BRAIN}),
    (Case("rows(20t:40t) - cols(3t)", (16, 16), 50, 61, "end"), {}),  # most queries see no key
    (Case("window(41t, wrap=true)", (32, 16), 70, 70, "start"), {"dtype": HALF}),
    (Case("window(9t, clamp=true)", (5, 3), 40, 40, "end"), {"dtype": BRAIN}),
    (Case("chunks(5t, 7t) | strided(5t)", (5, 3), 33, 41, "end"), {"heads": 2, "key_heads": 2}),
    (Case("diagonals(0t, 17t, 30t:40t) & ~every(3t)", (16, 16), 61, 80, "end"), {"dtype": HALF}),
    (Case("random(2, seed=3, within=causal) | rows(-1t)", (16, 32), 50, 70, "end"), {}),
    (Case("last(90t)", (100, 100), 130, 250, "end"), {}),  # tiles larger than a block's rest
    (Case("window(3t) | cols(0)", (192, 256), 210, 300, "end"), {"key_heads": 2}),  # and smaller
    (Case("last(2)", (1, 1), 5, 9, "end"), {"dim": 8}),
]


def layout(case: Case) -> bslang.Layout:
    return bslang.compile(case.spec, block=case.block, target="triton")


# ---- under the interpreter -------------------------------------------------------------------


@pytest.fixture(scope="module")
def interpreter() -> Iterator[Executor]:
    with interpreting() as pool:
        yield pool


def target(made: bslang.Layout) -> TritonTarget:
    found = made._targets["triton"]
    assert isinstance(found, TritonTarget)
    found.dtypes = TritonTarget.dtypes  # bf16 too, see tests/interpreter.py
    return found


def check(case: Case, options: dict[str, Any], **call: Any) -> None:
    made = layout(case)
    target(made)
    tensors = inputs(case.len_q, case.len_k, **options)
    masks = case.masks(tensors.q.shape[1])
    agrees(made, tensors, masks, TOLERANCE[tensors.q.dtype], align=case.align, **call)


@pytest.mark.parametrize(("case", "options"), RUNS, ids=lambda x: str(getattr(x, "spec", "")))
def test_results(interpreter: Executor, case: Case, options: dict[str, Any]) -> None:
    interpreter.submit(check, case, options).result()


SPLIT: list[tuple[Case, dict[str, Any]]] = [
    (Case("rows(0) | window(3)", (16, 16), 147, 147, "end"), {"batch": 2}),
    (Case("cols(0) | causal", (16, 16), 90, 131, "end"), {"heads": 4, "key_heads": 2, "dim": 24}),
    (Case("causal", (16, 16), 3, 139, "end"), {"dtype": HALF}),  # decoding
    (Case("last(40t) | cols(:4t)", (5, 3), 61, 83, "end"), {}),
    (Case("rows(9t:20t)", (16, 32), 71, 103, "start"), {}),  # parts in which queries see no key
]


def check_split_rows(case: Case, options: dict[str, Any]) -> int:
    """Check with parts that are small; returns how many blocks rows were split into."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SHORTEST", "LIGHT", "HEAVY"):
            patch.setattr(f"bslang.schedule.programs.{name}", 1)
        check(case, options)
        plan = layout(case).plan(case.len_q, case.len_k, case.align, torch.device("cpu"))
        return sum(tables.slots for tables in plan.made.values())


@pytest.mark.parametrize(("case", "options"), SPLIT, ids=lambda x: str(getattr(x, "spec", "")))
def test_parts_of_split_rows_are_joined(
    interpreter: Executor, case: Case, options: dict[str, Any]
) -> None:
    assert interpreter.submit(check_split_rows, case, options).result() > 1


def check_random_programs() -> None:
    @settings(max_examples=20, deadline=None, derandomize=True, database=None)
    @given(cases(blocks=((16, 16), (5, 3), (8, 32)), longest=40))
    def agree(case: Case) -> None:
        if case.has_meaning():
            check(case, {"dim": 8})

    agree()


def test_random_programs(interpreter: Executor) -> None:
    interpreter.submit(check_random_programs).result()


@pytest.mark.parametrize("spec", [*BY_HEAD, *LABELLED, *PREDICATES])
def test_heads_and_labels(interpreter: Executor, spec: str) -> None:
    for call in few(spec):
        interpreter.submit(call.check, "triton").result()


def test_numbers_beyond_32_bits(interpreter: Executor) -> None:
    call = Call(FAR, (64, 64), 3, 70_000, heads=1, key_heads=1, batch=1)
    interpreter.submit(call.check, "triton").result()


def test_blocks_of_other_documents_are_not_visited(interpreter: Executor) -> None:
    for spec in ("same(doc) & causal", "same(doc) & last(head * 9t + 9t)"):
        call = Call(spec, (16, 16), 64, 64)
        interpreter.submit(call.others_are_not_visited, "triton").result()


def check_strides_and_scales() -> None:
    case = Case(SINKS, (16, 16), 40, 60, "end")
    made, mask = layout(case), case.mask()
    plain = inputs(40, 60, heads=4, key_heads=2)
    for scale in (0.3, -0.3, 0.0):
        agrees(made, plain, mask, 1e-5, scale=scale)
    # Columns that lie far apart, rows that are one and the same, and rows past each other's ends.
    far = plain.q.transpose(2, 3).contiguous().transpose(2, 3)
    same = plain.k[:, :1, :1].expand(plain.k.shape)
    apart = torch.cat((plain.v, plain.v), 2)[:, :, ::2]
    odd = Inputs(far, same, apart, plain.grad_out[:, :, :1].expand_as(far), plain.grad_lse)
    agrees(made, odd, mask, 1e-5)


def test_strides_and_scales(interpreter: Executor) -> None:
    interpreter.submit(check_strides_and_scales).result()


@pytest.mark.parametrize("dtype", [SINGLE, HALF, BRAIN], ids=str)
@pytest.mark.parametrize("softcap", [0.3, 5.0, 1e6])
def test_softcaps(interpreter: Executor, softcap: float, dtype: torch.dtype) -> None:
    """Of 0.3 most scores reach it; of 1e6 the quotient is so small that tanh must be exact there."""
    for spec, block in ((SINKS, (16, 32)), ("rows(20t:40t) - cols(3t)", (5, 3))):
        options = {"dtype": dtype, "dim": 24, "heads": 4}
        case = Case(spec, block, 50, 90, "end")
        interpreter.submit(check, case, options, softcap=softcap).result()
        interpreter.submit(check, case, options, scale=-0.7, softcap=softcap).result()


@pytest.mark.parametrize("spec", [LABELLED[1], LABELLED[9]])
def test_softcaps_with_labels(interpreter: Executor, spec: str) -> None:
    for call in few(spec):
        interpreter.submit(call.check, "triton", softcap=2.0).result()


def check_nan_under_a_softcap() -> None:
    given = inputs(40, 40)
    given.q[0, 1, 33, 3] = torch.nan
    made = layout(Case("causal", (16, 16), 40, 40, "end"))
    out, lse = made(given.q, given.k, given.v, softcap=5.0, return_lse=True)
    assert out[0, 1, 33].isnan().all() and lse[0, 1, 33].isnan()
    assert out.isnan().sum() == out.shape[-1] and lse.isnan().sum() == 1


def test_nan_is_not_hidden_by_a_softcap(interpreter: Executor) -> None:
    interpreter.submit(check_nan_under_a_softcap).result()


def check_repeatable() -> None:
    case = Case(f"({BIGBIRD}) & causal", (16, 16), 50, 70, "end")
    given = inputs(50, 70, heads=4, key_heads=2, dtype=HALF)
    first, second = (run(layout(case), given) for _ in range(2))
    assert all(torch.equal(x, getattr(second, name)) for name, x in vars(first).items())
    out = layout(case)(given.q, given.k, given.v)
    assert isinstance(out, torch.Tensor) and out.is_contiguous()
    empty = inputs(50, 70, batch=0)
    assert run(layout(case), empty).dk.shape == empty.k.shape


def test_the_same_bits_every_time(interpreter: Executor) -> None:
    interpreter.submit(check_repeatable).result()


def bf16_without_the_repair() -> str:
    with pytest.raises(TargetError) as caught:
        layout(Case("cols(0)", (32, 32), 20, 20, "end"))(
            *(torch.zeros(1, 1, 20, 16).bfloat16(),) * 3
        )
    return str(caught.value)


def test_the_interpreter_takes_no_bf16(interpreter: Executor) -> None:
    assert (
        "takes torch.float32, torch.float16" in interpreter.submit(bf16_without_the_repair).result()
    )


# ---- the text of the kernels -----------------------------------------------------------------


IMPORTS = """try:
    import triton
    import triton.language as tl
except ImportError:  # GPU tensors are refused then; the other targets work
    from bslang.runtime import no_triton as triton
    from bslang.runtime import no_triton as tl


"""


def kernels(spec: str, block: tuple[int, int] = (64, 64)) -> str:
    """The Triton section of a module, below the imports that it has there."""
    pattern = compiler.resolve(Source("<spec>", spec), block=block).pattern
    return IMPORTS + section(Plan.of("made", pattern, block, "0", ("triton",))).code


def loops(text: str, kernel: str) -> dict[str, str]:
    """The loops of a kernel over blocks, by the comment over each."""
    body = text[text.index(f"def {kernel}(") :].split("\n\n\n")[0]
    found = {}
    for part in body.split("\n\n"):
        comment, _, code = part.strip().partition("\n")
        if comment.startswith("#") and "for " in code:
            found[comment.removeprefix("# ")] = code
    return found


def test_a_reader_finds_the_spec() -> None:
    found = loops(kernels(BIGBIRD), "_forward")
    assert (
        list(found)
        == [
            "global(0, -1): full blocks.",
            "window(3): full blocks.",
            "global(0, -1): full blocks.",
            "Other full blocks, one by one.",
            "Full blocks that the end of the sequence cuts short: only keys there count.",
        ]
        or len(found) == 4
    )  # two loops have one comment
    window = found["window(3): full blocks."]
    assert "tl.maximum(row - 1, end)" in window and "tl.minimum(row + 2, full_high)" in window
    assert "runs" not in window and "pointer" not in window


def test_full_blocks_have_no_mask() -> None:
    text = kernels(SINKS.replace("70t", "300t"))
    for kernel in ("_forward", "_backward_dq", "_backward_dkdv"):
        found = loops(text, kernel)
        full = [code for comment, code in found.items() if "ull blocks" in comment]
        assert len(full) == 3  # of the window, others, and those at the end of the sequence
        for loop in full[:2]:
            for word in ("mask", "where", "left", "seen", "_load_some"):
                assert word not in loop
        assert "left" in full[2] and "_mask_" not in full[2]
        partial = [code for comment, code in found.items() if "artial blocks" in comment]
        assert partial and all(loop.count("_mask_") == 1 for loop in partial)


def test_layouts_without_masks_ask_none() -> None:
    text = kernels(BIGBIRD)
    assert "_mask_" not in text and "floor_" not in text and "tl.load(parameters" not in text


def test_scattered_blocks_are_listed_one_by_one_and_others_in_runs() -> None:
    assert "Full blocks, one by one." in loops(kernels("random(3, seed=1)"), "_forward")
    in_runs = "Full blocks: every pair belongs, nothing is checked."
    assert in_runs in loops(kernels("~random(3, seed=1)"), "_forward")


def test_blocks_that_tiles_do_not_divide_are_counted() -> None:
    for comment, loop in loops(kernels(BIGBIRD, (100, 100)), "_forward").items():
        assert "left" in loop or "there" in loop, comment


def test_small_blocks_come_several_in_a_tile() -> None:
    found = loops(kernels("random(3, seed=1)", (16, 16)), "_forward")
    (loop,) = found.values()
    assert list(found) == ["Full blocks, one by one, as many as a tile holds."]
    assert "place // BLOCK_K" in loop and "_gather(k, k_row, key" in loop


@pytest.mark.parametrize(
    "spec",
    [
        BIGBIRD,
        SINKS,
        "chunks(5t, 7t, 9t, back=1) | strided(5t, offset=3t)",
        "window(41t, wrap=true) ^ window(9t, clamp=true)",
        "strided(1t) | chunks(9t, ahead=inf)",
        "same(doc) & causal",
        "(same(doc) - same(part)) & last(head * 3t + 9t) | ~same(doc)",
        "every(2t, offset=head * 1t) | random(2, seed=head)",
        f"cols({', '.join(f'-{n}t' for n in range(1, 60))}) | causal",
        f"diagonals({', '.join(f'{3 * n}t' for n in range(60))}) & every(3t)",
    ],
    ids=lambda spec: spec[:30],
)
def test_kernels_are_formatted(spec: str, tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text(kernels(spec))
    ruff = [sys.executable, "-m", "ruff", "format", "--line-length", "100", "--diff", "made.py"]
    done = subprocess.run(ruff, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_without_triton_only_launching_fails() -> None:
    from bslang.runtime import no_triton

    @no_triton.jit
    def plain() -> None: ...

    @no_triton.jit(do_not_specialize=["n"])
    def other(n: no_triton.constexpr) -> None: ...

    for kernel in (plain, other):
        with pytest.raises(TargetError, match="needs the package `triton`, which is not installed"):
            kernel[(1,)]
    made = TritonTarget(
        *(plain,) * 6, held=(64, 64), streamed=(64, 64), rows=Rules(), columns=Rules()
    )
    assert (
        made.missing(torch.device("cuda")) == "needs the package `triton`, which is not installed"
    )


# ---- ahead of time ---------------------------------------------------------------------------

KERNELS = ("forward", "merge", "delta", "dq", "dkdv", "sum")
STARTED = ("forward", "delta", "dq", "dkdv")
"""Those that a call starts where no block row is split."""

ARCHITECTURES = ("cuda:80", "cuda:90", "cuda:100", "hip:gfx942")


def compiled(spec: str, architecture: str, dim: int, dtype: torch.dtype, kernel: str) -> Any:
    from bslang.runtime.aot import compile_kernel

    block = (
        100 if dtype == SINGLE else 64
    )  # products of fp32 are long to compile: one loop a kernel
    made = bslang.compile(spec, block=block, target="triton")._targets["triton"]
    assert isinstance(made, TritonTarget)
    return compile_kernel(made, kernel, architecture, dim, dtype)


needs_compiler = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET", "0") != "0", reason="Triton interprets in this process"
)


@needs_compiler
@pytest.mark.parametrize("dtype", [BRAIN, SINGLE], ids=str)
@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_kernels_compile_without_a_gpu(architecture: str, dim: int, dtype: torch.dtype) -> None:
    for kernel in KERNELS:
        made = compiled("window(3)", architecture, dim, dtype, kernel)
        code = "hsaco" if architecture.startswith("hip") else "cubin"
        assert len(made.asm[code]) > 1000
        most = {"cuda:80": 163, "cuda:90": 227, "cuda:100": 227, "hip:gfx942": 64}[architecture]
        assert made.metadata.shared <= most * 1024
        if dtype == SINGLE and code == "cubin":
            assert "tf32" not in made.asm["ptx"]


@needs_compiler
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_labels_and_heads_compile_without_a_gpu(architecture: str) -> None:
    """Blocks that labels leave are streamed like others: their loads run ahead."""
    for kernel in ("forward", "dq", "dkdv"):
        made = compiled("same(doc) & last(head * 7t + 100t)", architecture, 64, BRAIN, kernel)
        assert len(made.asm["hsaco" if architecture.startswith("hip") else "cubin"]) > 1000
        assert "cp.async" in made.asm.get("ptx", "cp.async")


@needs_compiler
@pytest.mark.parametrize("dim", [64, 128])
@pytest.mark.parametrize("spec", [BIGBIRD, "causal"])
def test_machine_code_on_sm_90(spec: str, dim: int, tmp_path: Path) -> None:
    for kernel in ("forward", "dq", "dkdv"):
        made = compiled(spec, "cuda:90", dim, BRAIN, kernel)
        text = made.asm["ptx"]
        assert "wgmma.mma_async" in text and "cp.async.cg.shared.global" in text
        if kernel == "forward":
            (tmp_path / "made.cubin").write_bytes(made.asm["cubin"])
            # At 64 x 64 and 128 a few registers spill between loops; in loops, none do (test_inspect).
            assert stack(tmp_path / "made.cubin") <= (0 if dim == 64 else 32), "registers spill"


def stack(cubin: Path) -> int:
    """Bytes of a kernel's stack, where registers spill to."""
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    done = subprocess.run([tool, "-res-usage", cubin], capture_output=True, text=True, check=True)
    found = re.search(r"STACK:(\d+)", done.stdout + done.stderr)
    assert found is not None
    return int(found[1])


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The kernels that calls launch, compiled: their arguments are bound to the real jit functions, with
    the driver of an H100 that is not there."""
    from triton.backends.compiler import GPUTarget
    from triton.runtime.driver import driver

    class Driver:
        def get_current_target(self) -> GPUTarget:
            return GPUTarget("cuda", 90, 32)

        def get_current_device(self) -> int:
            return 0

        def get_current_stream(self, device: int) -> int:
            return 0

    made: list[Any] = []

    def start(
        self: TritonTarget, kernel: str, chosen: Launch, programs: int, arguments: tuple[Any, ...]
    ) -> None:
        constants = {**chosen.constants, **chosen.options}
        made.append(self.kernels[kernel].warmup(*arguments, **constants, grid=(programs,)))

    monkeypatch.setattr(TritonTarget, "missing", lambda self, device: "")
    monkeypatch.setattr(TritonTarget, "_start", start)
    monkeypatch.setattr(driver, "_active", Driver())
    return made


@needs_compiler
def test_one_compilation_serves_every_length(launches: list[Any]) -> None:
    for len_q, len_k in ((200, 200), (64, 333), (1, 17)):
        given = inputs(len_q, len_k, dim=64, heads=4, key_heads=2, dtype=BRAIN)
        run(layout(Case("window(3)", (64, 64), len_q, len_k, "end")), given)
    assert len(launches) == 3 * len(STARTED)
    assert len({id(kernel) for kernel in launches}) == len(STARTED)


@needs_compiler
def test_a_softcap_is_compiled_in(launches: list[Any]) -> None:
    given = inputs(200, 200, dim=64, dtype=BRAIN)
    for softcap in (None, 50.0):
        run(layout(Case("last(100t)", (64, 64), 200, 200, "end")), given, softcap=softcap)
    plain, capped = launches[: len(STARTED)], launches[len(STARTED) :]
    for name, before, after in zip(STARTED, plain, capped, strict=True):
        divides = ["div.full.f32" in kernel.asm["ptx"] for kernel in (before, after)]
        assert divides == [name == "forward", name != "delta"]


@needs_compiler
def test_unknown_architectures() -> None:
    from bslang.runtime.aot import gpu

    for name in ("cuda", "cuda:sm_90", "hip:90", "tpu:4"):
        with pytest.raises(TargetError, match="unknown architecture"):
            gpu(name)

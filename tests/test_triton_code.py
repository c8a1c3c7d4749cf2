"""The text of the triton target's kernels, and their machine code, compiled ahead of time with no GPU."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from reference import inputs, run

import bslang
from bslang import abi, compiler
from bslang.codegen.plan import Plan
from bslang.codegen.triton import section
from bslang.errors import TargetError
from bslang.missing import needs
from bslang.resources import resource
from bslang.runtime.triton.arguments import Pages
from bslang.runtime.triton.launch import TritonTarget
from bslang.runtime.triton.prepared import Launched
from bslang.runtime.triton.tables import DeviceTables
from bslang.runtime.triton.tiles import Launch
from bslang.syntax.source import Source

pytest.importorskip("triton")

BIGBIRD = "window(3) | global(0, -1) | random(2, seed=7)"
SINKS = "(last(70t) | cols(:4t)) & causal"
SINGLE, HALF, BRAIN = torch.float32, torch.float16, torch.bfloat16


# ---- the text of the kernels -----------------------------------------------------------------


IMPORTS = """try:
    import triton
    import triton.language as tl
except ImportError:  # GPU tensors are refused then; the other targets work
    from bslang.runtime.triton import no_triton as triton
    from bslang.runtime.triton import no_triton as tl


"""


def kernels(spec: str, block: tuple[int, int] = (64, 64)) -> str:
    """The Triton section of a module, below the imports that it has there."""
    pattern = compiler.resolve(Source("<spec>", spec), block=block).pattern
    return IMPORTS + section(Plan.of("made", pattern, block, "0", ("triton",))).code


def all_loops(text: str, kernel: str) -> list[tuple[str, str]]:
    """The loops of a kernel over blocks, each with the comment over it."""
    body = text[text.index(f"def {kernel}(") :].split("\n\n\n")[0]
    parts = (part.strip().partition("\n") for part in body.split("\n\n"))
    return [
        (comment.removeprefix("# "), code)
        for comment, _, code in parts
        if comment.startswith("#") and "for " in code
    ]


def loops(text: str, kernel: str) -> dict[str, str]:
    """The same by comment: of loops with one comment, the last."""
    return dict(all_loops(text, kernel))


def test_a_reader_finds_the_spec() -> None:
    found = all_loops(kernels(BIGBIRD), "_forward")
    assert [comment for comment, _ in found] == [
        "Full blocks: global(0, -1), window(3), and others",
        "Full blocks that the end of the sequence cuts short: keys beyond it are masked.",
    ]
    loop = dict(found)["Full blocks: global(0, -1), window(3), and others"]
    assert "strips = ((0, 1), (row - 1, row + 2), (columns - 1, columns))" in loop


def test_full_blocks_have_no_mask() -> None:
    text = kernels(SINKS.replace("70t", "300t"))
    for kernel in ("_forward", "_backward_dq", "_backward_dkdv"):
        found = loops(text, kernel)
        full = [code for comment, code in found.items() if "ull blocks" in comment]
        assert len(full) == 2  # of the window and others, and those at the end of the sequence
        assert "first, None, TILE" in full[0]
        for word in ("mask", "where", "seen", "first, stop, TILE"):
            assert word not in full[0]
        assert "first, stop, TILE" in full[1] and "_mask_" not in full[1]
        partial = [code for comment, code in found.items() if "artial blocks" in comment]
        assert partial and all(loop.count("_mask_") == 1 for loop in partial)


def test_templates_pass_no_rendered_text_around() -> None:
    """A macro takes names and facts; what it writes is placed where it is called."""
    files = sorted(resource("templates", "triton").glob("*.jinja"))
    assert len(files) > 5
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"{%-? *(call\b|set \w+ *-?%)|\bcaller\(", text), file.name


def test_layouts_without_masks_ask_none() -> None:
    text = kernels(BIGBIRD)
    assert "_mask_" not in text and "floor_" not in text and "tl.load(parameters" not in text


@pytest.mark.parametrize(
    ("spec", "streams"),
    [
        (BIGBIRD, True),
        ("random(3, seed=1)", True),  # scattered blocks
        ("window(3) | global(0)", True),  # strips alone
        ("~random(3, seed=1)", False),  # long runs
        ("causal", False),  # one strip
    ],
)
def test_short_strips_and_runs_are_walked_in_one_loop(spec: str, streams: bool) -> None:
    """Long ones have a loop each, in which a tile's address follows from that of the tile before."""
    text = kernels(spec)
    for kernel in ("_forward", "_backward_dq", "_backward_dkdv"):
        loop = next(code for comment, code in all_loops(text, kernel) if "ull blocks" in comment)
        heads = [line for line in loop.splitlines() if line.lstrip().startswith("for ")]
        assert len(heads) == (1 if streams else 2)
        assert ("_stream(" in loop) == streams


@pytest.mark.parametrize(
    "spec", [BIGBIRD, "random(head + 1, seed=head)", "causal & ~random(2, seed=3)"]
)
def test_runs_have_places_in_the_stream_of_their_program(spec: str) -> None:
    """A block at a place of a class lies `shift` further on, and runs end at `past`; two rows follow them."""
    made = bslang.compile(spec, block=64, target="triton")
    target = made.targets["triton"]
    assert isinstance(target, TritonTarget)
    plan = made._plan(1000, 1000, "end", torch.device("cpu"), heads=2)
    table = plan.schedule.split_rows(target.rows)
    device = DeviceTables.of(table, torch.device("cpu"))
    for first, last in zip(table.pointer, table.pointer[1:], strict=False):
        place = 0
        for begin, end, past, shift in device.runs[first:last].tolist():
            assert (begin, end) == (place + shift, past + shift)
            place = past
    assert len(device.runs) == len(table.runs) + 2


def test_blocks_that_tiles_do_not_divide_are_counted() -> None:
    for comment, loop in loops(kernels(BIGBIRD, (100, 100)), "_forward").items():
        assert "first, stop, TILE" in loop or "_listed_keys(" in loop, comment


def test_small_blocks_come_several_in_a_tile() -> None:
    found = loops(kernels("random(3, seed=1)", (16, 16)), "_forward")
    (loop,) = found.values()
    assert list(found) == ["Full blocks, gathered one by one until a tile is full."]
    assert "_listed_keys(" in loop


@pytest.mark.parametrize(
    "spec",
    [
        BIGBIRD,
        SINKS,
        "chunks(5t, 7t, 9t, back=1) | strided(5t, offset=3t)",
        "window(41t, wrap=true) ^ window(9t, clamp=true)",
        "strided(1t) | chunks(9t, ahead=inf)",
        f"chunks({', '.join(f'{n}t' for n in range(1, 60))})",
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
    from bslang.runtime.triton import no_triton

    @no_triton.jit
    def plain() -> None: ...

    @no_triton.jit(do_not_specialize=["n"])
    def other(n: no_triton.constexpr) -> None: ...

    for kernel in (plain, other):
        with pytest.raises(
            TargetError,
            match=r"needs triton 3\.6 or newer, which is not installed; run: pip install",
        ):
            kernel[(1,)]
    made = TritonTarget((plain,) * 6, held=(64, 64), streamed=(64, 64), rows=(), columns=())
    assert made.missing(torch.device("cuda")) == needs("triton")


# ---- ahead of time ---------------------------------------------------------------------------

KERNELS = ("forward", "merge", "delta", "dq", "dkdv", "sum")
STARTED = ("forward", "delta", "dq", "dkdv")
"""Those that a call starts where no block row is split."""

ARCHITECTURES = ("cuda:80", "cuda:90", "cuda:100", "hip:gfx942")


def compiled(spec: str, architecture: str, dim: int, dtype: torch.dtype, kernel: str) -> Any:
    from bslang.gpu.aot import compile_kernel

    block = (
        100 if dtype == SINGLE else 64
    )  # products of fp32 are long to compile: one loop a kernel
    made = bslang.compile(spec, block=block, target="triton").targets["triton"]
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
@pytest.mark.parametrize("mask", ["isqrt(abs(q - k)) % 2 == 0", "log2(q + k + 1) >= 4"])
def test_masks_that_call_functions_compile_for_amd(mask: str) -> None:
    """Triton fails there on longer masks, whose bits it would rather move than compute again."""
    made = compiled(f"{{q, k : {mask}}}", "hip:gfx942", 64, BRAIN, "dkdv")
    assert len(made.asm["hsaco"]) > 1000


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
    ) -> Launched:
        constants = {**chosen.constants, **chosen.options}
        made.append(self.kernels[kernel].warmup(*arguments, **constants, grid=(programs,)))
        return Launched(None, None, ())

    monkeypatch.setattr(TritonTarget, "missing", lambda self, device: "")
    monkeypatch.setattr(TritonTarget, "_start", start)
    monkeypatch.setattr(driver, "_active", Driver())
    return made


@needs_compiler
def test_one_compilation_serves_every_length(launches: list[Any]) -> None:
    layout = bslang.compile("window(3)", block=64, target="triton")
    for len_q, len_k in ((200, 200), (64, 333), (1, 17)):
        # Heads that share keys share tiles, but for a single query, where the heads are the rows.
        given = inputs(len_q, len_k, dim=64, heads=4, key_heads=4, dtype=BRAIN)
        run(layout, given)
    assert len(launches) == 3 * len(STARTED)
    assert len({id(kernel) for kernel in launches}) == len(STARTED)


@needs_compiler
def test_a_softcap_is_compiled_in(launches: list[Any]) -> None:
    given = inputs(200, 200, dim=64, dtype=BRAIN)
    for softcap in (None, 50.0):
        run(bslang.compile("last(100t)", block=64, target="triton"), given, softcap=softcap)
    plain, capped = launches[: len(STARTED)], launches[len(STARTED) :]
    for name, before, after in zip(STARTED, plain, capped, strict=True):
        divides = ["div.full.f32" in kernel.asm["ptx"] for kernel in (before, after)]
        assert divides == [name == "forward", name != "delta"]


@needs_compiler
@pytest.mark.parametrize("kernel", ["delta", "sum"])
def test_kernels_of_calls_without_pages_have_none_of_their_arguments(kernel: str) -> None:
    from bslang.gpu import aot

    target = bslang.compile("causal", block=64, target="triton").targets["triton"]
    assert isinstance(target, TritonTarget)
    in_one, in_pages = (
        aot.compile_kernel(target, kernel, "cuda:90", 64, BRAIN, pages).asm["ptx"]
        for pages in (Pages(), Pages(64, 64))
    )
    arguments = {
        name: len(re.findall(r"\.param .*_param_\d+[,\n]", ptx))
        for name, ptx in (("one", in_one), ("pages", in_pages))
    }
    of_pages = (*abi.KERNELS[kernel].pages, *abi.KERNELS[kernel].results)
    assert arguments["pages"] - arguments["one"] == len(of_pages) > 0


@needs_compiler
def test_unknown_architectures() -> None:
    from bslang.gpu.aot import gpu

    for name in ("cuda", "cuda:sm_90", "hip:90", "tpu:4"):
        with pytest.raises(TargetError, match="unknown architecture"):
            gpu(name)

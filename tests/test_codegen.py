"""Generated modules: what they look like, that they are the same every time, that they import."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import TOLERANCE, agrees, inputs
from strategies import Case, examples, programs

from bslang import compiler
from bslang.codegen.cpu import header
from bslang.codegen.targets import TARGETS
from bslang.errors import TargetError
from bslang.files import HEADER
from bslang.generated import import_file
from bslang.ir.expr import OPERATORS, Number, Op, Var, evaluate, fold, rank
from bslang.ir.mask import CPP, TORCH, TRITON, code, counted
from bslang.runtime.torch import masks
from bslang.syntax.source import Source

LAYOUTS = {
    "bigbird": "window(3) | global(0, -1) | random(2, seed=7)",
    "causal": "causal",
    "streaming": "(last(500t) | cols(0:4t)) & causal",
    "ragged_ends": "rows(-5t:) | cols(-n * 1t:) | window(64t, clamp=true)",
    "packed": "same(doc) & last((head + 1) * 500t)",
}


def emitted(spec: str, block: int = 64, targets: tuple[str, ...] | None = None) -> dict[str, str]:
    return compiler.emit(compiler.resolve(Source("layout.bsl", spec), block=block), targets)


@pytest.mark.parametrize("name", LAYOUTS)
def test_generated_files(name: str, golden: Callable[[str, str], None]) -> None:
    """The text that users read; look at the difference before updating it."""
    resolved = compiler.resolve(Source(f"{name}.bsl", LAYOUTS[name]))
    files = compiler.emit(resolved)
    assert files.pop(HEADER) == header()  # which is a source file itself
    for file, text in files.items():
        golden(f"{file}.txt", text)


@pytest.mark.parametrize("targets", [None, ("torch",), ("cpu",), ("triton",)], ids=str)
@pytest.mark.parametrize("name", LAYOUTS)
def test_generated_python_is_formatted(name: str, targets: tuple[str, ...] | None) -> None:
    text = emitted(LAYOUTS[name], targets=targets)["layout.py"]
    ruff = [sys.executable, "-m", "ruff"]
    root = Path(__file__).parent.parent
    for command in (["format", "--diff", "-"], ["check", "--select", "E4,F,I,B", "-"]):
        done = subprocess.run(
            [*ruff, *command, "--stdin-filename", "layout.py"],
            input=text, text=True, capture_output=True, cwd=root, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


@examples(100)
@given(programs(terms=4), st.sampled_from([1, 16, 64, 100]))
def test_every_program_gives_a_module_that_compiles_as_python(spec: str, block: int) -> None:
    files = emitted(spec, block)
    assert set(files) == {"layout.py", "layout.cpp", HEADER}
    compile(files["layout.py"], "layout.py", "exec")
    assert files == emitted(spec, block)


def test_targets_are_in_one_order_and_left_out_where_not_asked_for() -> None:
    files = emitted("causal", targets=("torch", "cpu"))
    assert "triton" not in files["layout.py"]
    assert files == emitted("causal", targets=("cpu", "torch"))
    assert set(emitted("causal", targets=("torch",))) == {"layout.py"}
    assert set(TARGETS) == {"triton", "cpu", "torch"}


def test_a_generated_module_is_a_module(tmp_path: Path) -> None:
    for name, text in emitted("(last(2) | cols(0)) & causal", 16, ("torch",)).items():
        (tmp_path / name).write_text(text)
    module = import_file(tmp_path / "layout.py", "a_generated_module")
    case = Case(module.SPEC, module.BLOCK, 50, 50, "end")
    given_ = inputs(50, 50)
    agrees(module.LAYOUT, given_, case.mask(), TOLERANCE[torch.float32])
    out = module.attention(given_.q, given_.k, given_.v)
    assert torch.equal(out, module.LAYOUT(given_.q, given_.k, given_.v))


def test_a_module_refuses_kernels_that_are_not_its_own(tmp_path: Path) -> None:
    """Those of another layout would run, and be silently wrong."""
    for name, text in emitted("last(2)", 16, ("cpu",)).items():
        (tmp_path / name).write_text(text)
    q = torch.zeros(1, 1, 32, 8)

    def refused(message: str) -> None:
        module = import_file(tmp_path / "layout.py", "with_other_kernels")
        with pytest.raises(TargetError, match=f"{message}.*; compile the layout again"):
            module.attention(q, q, q)

    kernels, included = tmp_path / "layout.cpp", tmp_path / HEADER
    own = kernels.read_text()
    kernels.write_text(emitted("last(3)", 16, ("cpu",))["layout.cpp"])
    refused(r"layout\.cpp, or its bslang\.h, was not generated with the module beside it")
    kernels.write_text(own)
    included.write_text(header().replace("1.0f", "2.0f", 1))
    refused(r"layout\.cpp, or its bslang\.h, was not generated with the module beside it")
    included.unlink()
    refused(r"bslang\.h cannot be read")
    kernels.unlink()
    refused(r"layout\.cpp cannot be read")


# ---- masks as code ---------------------------------------------------------------------------

numbers: st.SearchStrategy[Number] = st.recursive(
    st.one_of(st.integers(-9, 9), st.sampled_from([Var("q"), Var("k"), Var("p0")])),
    lambda inner: st.one_of(
        st.builds(fold, st.sampled_from(["+", "-", "*", "min", "max"]), inner, inner),
        st.builds(fold, st.sampled_from(["//", "%"]), inner, st.integers(1, 9)),
        st.builds(fold, st.just("abs"), inner),
    ),
    max_leaves=8,
)
predicates: st.SearchStrategy[Number] = st.recursive(
    st.builds(fold, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), numbers, numbers),
    lambda inner: st.one_of(
        st.builds(fold, st.sampled_from(["&", "|", "^"]), inner, inner),
        st.builds(fold, st.just("not"), inner),
    ),
    max_leaves=5,
)
ENV = {"q": 13, "k": 5, "p0": -4}


@settings(max_examples=300)
@given(predicates)
def test_masks_print_what_they_mean_in_torch(predicate: Number) -> None:
    if isinstance(predicate, bool):
        return
    names = {name: torch.tensor(value) for name, value in ENV.items()}
    scope = names | {"minimum": masks.minimum, "maximum": masks.maximum}
    # What stands here was drawn above, from numbers and operators alone.
    found = eval(code(predicate, TORCH), scope)
    assert bool(found) == bool(evaluate(predicate, dict(ENV)))


def test_masks_print_what_they_mean_in_cpp(tmp_path: Path) -> None:
    """Many expressions in one program; each value is compared with the evaluator's."""
    found: list[Number] = []

    @settings(max_examples=300, database=None)
    @given(predicates)
    def collect(predicate: Number) -> None:
        if not isinstance(predicate, bool):
            found.append(predicate)

    collect()
    lines = [
        f'    std::printf("%d\\n", static_cast<int>({code(predicate, CPP)}));'
        for predicate in found
    ]
    source = "\n".join(
        [
            "#include <algorithm>\n#include <cstdint>\n#include <cstdio>\n#include <cstdlib>",
            "using position = int64_t;",
            "int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }",
            "int64_t floor_mod(int64_t a, int64_t b) { return a - floor_div(a, b) * b; }",
            "int main() {",
            *(f"    const int64_t {name} = {value};" for name, value in ENV.items()),
            "    (void)q; (void)k; (void)p0;",
            *lines,
            "}",
        ]
    )
    (tmp_path / "masks.cpp").write_text(source)
    subprocess.run(["c++", "-o", tmp_path / "masks", tmp_path / "masks.cpp"], check=True)
    printed = subprocess.run(
        [tmp_path / "masks"], check=True, capture_output=True, text=True
    ).stdout
    expected = [int(evaluate(predicate, dict(ENV))) for predicate in found]
    assert [int(line) for line in printed.split()] == expected
    assert len(found) > 100


def test_every_operator_that_masks_can_hold_has_a_form_in_every_language() -> None:
    on_host = {"**", "isqrt", "log2", "gcd", "inverse"}  # of the length alone, so a parameter
    for language in (TORCH, TRITON, CPP):
        rewritten = set() if language is TORCH else {"rank"}
        assert set(OPERATORS) - on_host - rewritten <= set(language)
        assert {op.removeprefix("floor ") for op in language} <= set(OPERATORS)


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=9), st.integers(-30, 30))
def test_ranks_are_counts_in_every_language(edges: list[int], x: int) -> None:
    edges.sort()
    expected = sum(edge <= x for edge in edges)
    ranked = Op("rank", (Var("q"), *edges))
    assert evaluate(ranked, {"q": x}) == expected
    assert evaluate(counted(ranked), {"q": x}) == expected
    assert rank(np.array([x]), edges).tolist() == [expected]
    scope = {"q": torch.tensor([x]), "rank": masks.rank}
    assert eval(code(ranked, TORCH), scope).tolist() == [expected]


@pytest.mark.parametrize("count", [40, 1600])
def test_tables_are_one_step_however_long(count: int) -> None:
    widths = ", ".join(f"{3 + n % 7}t" for n in range(count))
    text = emitted(f"chunks({widths}) & causal", targets=("torch",))["layout.py"]
    # Four times of each side in each of two masks.
    for side in "qk":
        assert 1 <= text.count(f"rank({side}, [") <= 8
    assert len(text) < 10_000 + 200 * count


def test_cpp_looks_positions_up_in_tables() -> None:
    widths = ", ".join(f"{3 + n % 7}t" for n in range(40))
    text = emitted(f"chunks({widths}) & same(doc)")["layout.cpp"]
    assert text.count("static constexpr position table_") == 1
    assert "q_ranks[0]" in text and "k_ranks[0]" in text and "ranks = 1;" in text
    assert "ranks" not in emitted("chunks(3t, 4t, 5t)")["layout.cpp"]


def test_parentheses_are_few() -> None:
    q, k = Var("q"), Var("k")
    near = Op("&", (Op("<=", (Op("-", (q, k)), 3)), Op(">=", (Op("-", (q, k)), -3))))
    assert code(near, TORCH) == "(q - k <= 3) & (q - k >= -3)"
    assert code(Op("%", (Op("-", (q, k)), 4)), TRITON) == "floor_mod(q - k, 4)"
    assert code(Op("%", (q, 4)), CPP) == "q % 4"
    assert code(Op("-", (q, Op("-", (k, 1)))), CPP) == "q - (k - 1)"

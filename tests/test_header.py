"""bslang.h: products, powers, conversions and transposes by themselves, and how it compiles as a header."""

from __future__ import annotations

import ctypes
import shlex
import shutil
import subprocess
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from processors import MODEL

from bslang import compiler
from bslang.codegen.cpu import header
from bslang.errors import BuildError
from bslang.files import HEADER, inlined, source_digest
from bslang.resources import resource
from bslang.runtime.cpu import build
from bslang.runtime.cpu.library import load
from bslang.syntax.source import Source

try:
    COMPILER = shlex.join(build.find_compiler())  # before tests/conftest.py makes it a quick one
except BuildError as error:
    pytest.skip(str(error), allow_module_level=True)

Floats = NDArray[np.float32]
Halves = NDArray[np.uint16]

FUNCTIONS = """
using namespace bslang;

template <vec function(vec)>
void each(int64_t count, const float* x, float* to) {
    for (int64_t i = 0; i < count; i += width) store(to + i, function(load(x + i)));
}

template <class Number>
void round_to(bool beside, vec first, vec second, float* to) {
    if constexpr (Number::per_cell > 1)
        store(to, beside ? Number::paired(first, second) : Number::in_turn(first, second));
}

inline vec power(vec x) { return exp2(x, all(least_exponent)); }
inline vec rough_power(vec x) { return exp2<false>(x, all(least_exponent)); }

extern "C" {
int64_t lanes() { return width; }
int64_t panel() { return vectors * width; }
int64_t tile() { return rows; }

int64_t per_cell() { return Brain::per_cell; }
bool of_tiles() {
#ifdef BSLANG_TILES
    return tiles_granted();
#else
    return false;
#endif
}

void multiply(bool add, int64_t m, int64_t n, int64_t depth, const float* a, int64_t row,
              int64_t col, const float* b, int64_t ldb, float* c, int64_t ldc) {
    (add ? product<Single, true> : product<Single, false>)(m, n, depth, {a, row, col}, b, ldb, c, ldc,
                                                           1.0f, {});
}
void multiply_pairs(bool add, int64_t m, int64_t n, int64_t depth, const float* a, int64_t row,
                    int64_t col, const float* b, int64_t ldb, float* c, int64_t ldc) {
    [[maybe_unused]] const Multiplying<Brain> multiplying;
    (add ? product<Brain, true> : product<Brain, false>)(m, n, depth, {a, row, col}, b, ldb, c, ldc,
                                                         0.5f, {});
}
void dots(int64_t size, int64_t count, int64_t depth, const float* keys, int64_t row, const float* q,
          int64_t ldq, float* s) {
    few_scores<Single>(size, count, depth, {keys, row, 1}, q, ldq, s, 1.0f, {});
}
int64_t step() { return step_k; }
void sides(int64_t programs, const double* work, int64_t heads, int64_t threads, int64_t* to) {
    const std::vector<int64_t> found =
        sides_of(std::vector<double>(work, work + programs), 128, 128, heads, threads);
    std::copy(found.begin(), found.end(), to);
}
void multiply_widened(int64_t m, int64_t n, int64_t depth, const float* a, int64_t row, int64_t col,
                      const uint16_t* b, int64_t ldb, float* c, int64_t ldc) {
    product<Widened, true>(m, n, depth, {a, row, col}, b, ldb, c, ldc);
}
void pairs(const uint16_t* first, const uint16_t* second, int64_t dim, float* to) {
    pair_rows(first, second, dim, to);
}
void rounded(bool beside, const float* first, const float* second, float* to) {
    round_to<Brain>(beside, load(first), load(second), to);
}
void powers(int64_t count, const float* x, float* to) { each<power>(count, x, to); }
void rough_powers(int64_t count, const float* x, float* to) { each<rough_power>(count, x, to); }
void tangents(int64_t count, const float* x, float* to) { each<tanh>(count, x, to); }

void widened(int64_t dtype, int64_t count, const uint16_t* x, float* to) {
    widen(dtype, x, 0, count, to);
}
void narrowed(int64_t dtype, int64_t count, const float* x, uint16_t* to) {
    narrow(dtype, to, 0, count, x, 1.0f);
}
void transposed(const float* x, int64_t stride, int64_t count, int64_t dim, float factor, float* to,
                int64_t lanes) {
    transpose<Single>({const_cast<float*>(x), stride}, count, dim, factor, to, lanes);
}
}
"""


def built(*flags: str) -> ctypes.CDLL:
    """The functions above, built as users build generated code: bounds hold for those flags."""
    text = header() + FUNCTIONS
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXX", COMPILER)
        patch.setattr(build, "FLAGS", (*build.FLAGS, *flags))
        found = load(build.build(text), source_digest(text))
    for name in ("lanes", "panel", "tile", "per_cell", "step"):
        getattr(found, name).restype = ctypes.c_int64
    found.of_tiles.restype = ctypes.c_bool
    return found


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    return built()


def call(function: Any, *arguments: Any) -> None:
    """Call a function with arrays as pointers, integers as int64_t, the rest as they are."""
    given = []
    for value in arguments:
        if isinstance(value, np.ndarray):
            value = ctypes.c_void_p(value.ctypes.data)
        elif type(value) is int:
            value = ctypes.c_int64(value)
        given.append(value)
    function(*given)


# ---- products --------------------------------------------------------------------------------


def multiplied(library: ctypes.CDLL, a: Floats, b: Floats, c: Floats, add: bool) -> Floats:
    """A B, or C + A B, as the header computes it; checks that nothing else is written."""
    m, n = c.shape
    width = library.lanes()
    written = -(-n // width) * width
    room_b = np.zeros((b.shape[0], written + 3), np.float32)
    room_b[:, :n] = b
    room_c = np.full((m + 1, written + 3), np.float32(99))
    room_c[:m, :n] = c
    strides = (stride // a.itemsize for stride in a.strides)
    sizes = (m, n, a.shape[1])
    call(library.multiply, add, *sizes, a, *strides, room_b, written + 3, room_c, written + 3)
    assert (room_c[m:] == 99).all() and (room_c[:, written:] == 99).all()
    return room_c[:m, :n].copy()


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
def test_products_of_every_remainder(library: ctypes.CDLL, add: bool, order: Any) -> None:
    """Of small whole numbers, so that every sum is exact."""
    random = np.random.default_rng(1)

    def drawn(rows: int, columns: int) -> Floats:
        return random.integers(-8, 9, (rows, columns)).astype(np.float32)

    for m in range(1, 2 * library.tile() + 2):
        for n in range(1, library.panel() + library.lanes() + 2):
            depth = (m + n) % 5 + 1
            a, b, c = np.asarray(drawn(m, depth), order=order), drawn(depth, n), drawn(m, n)
            expected = a @ b + (c if add else 0)
            assert (multiplied(library, a, b, c, add) == expected).all(), (m, n, depth)


def test_an_element_of_a_product_is_the_same_sum_wherever_it_is(library: ctypes.CDLL) -> None:
    random = np.random.default_rng(2)
    m, n, depth = 2 * library.tile() + 1, library.panel() + library.lanes() + 1, 37
    a, b = (random.standard_normal(s).astype(np.float32) for s in ((m, depth), (depth, n)))
    whole = multiplied(library, a, b, np.zeros((m, n), np.float32), False)
    alone = np.zeros((1, 1), np.float32)
    for i, j in product(range(m), range(n)):
        assert multiplied(library, a[i : i + 1], b[:, j : j + 1], alone, False) == whole[i, j]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_scores_of_few_queries(library: ctypes.CDLL, size: int) -> None:
    """Exact, of nothing but the rows, and each sum the same whichever rows are beside it."""
    random = np.random.default_rng(4)
    width, step, rows = library.lanes(), library.step(), -(-size // 4) * 4
    for count, depth in product((1, width - 1, width, 2 * width + 3), (1, width, 2 * width + 5)):
        keys = np.full((count, depth + 1), np.nan, np.float32)
        keys[:, :depth] = random.integers(-8, 9, (count, depth))
        q = np.zeros((rows, -(-depth // width) * width), np.float32)
        q[:size, :depth] = random.integers(-8, 9, (size, depth))
        found = np.full((rows, step), np.float32(99))
        call(library.dots, size, count, depth, keys, depth + 1, q, q.shape[1], found)
        assert (found[:size, :count] == q[:size, :depth] @ keys[:, :depth].T).all(), (count, depth)
        assert (found[:, count:] == 99).all()
    keys = random.standard_normal((2 * width, 37)).astype(np.float32)
    q = np.zeros((rows, 37 + -37 % width), np.float32)
    q[:size, :37] = random.standard_normal((size, 37))
    whole, alone = np.empty((rows, step), np.float32), np.empty((4, step), np.float32)
    call(library.dots, size, 2 * width, 37, keys, 37, q, q.shape[1], whole)
    for i, j in product(range(size), range(2 * width)):
        call(library.dots, 1, 1, 37, keys[j], 37, q[i], q.shape[1], alone)
        assert alone[0, 0] == whole[i, j]


def test_products_with_bf16_that_widens(library: ctypes.CDLL) -> None:
    random = np.random.default_rng(5)
    n = library.panel() + library.lanes()
    for m in (1, 2, 4, 5):
        a = random.standard_normal((m, 9)).astype(np.float32)
        b = brain(random.standard_normal((9, n)).astype(np.float32))
        expected = multiplied(
            library,
            a,
            as_torch(b, torch.bfloat16).float().numpy(),
            np.zeros((m, n), np.float32),
            True,
        )
        found = np.zeros((m, n), np.float32)
        call(library.multiply_widened, m, n, 9, a, 9, 1, b, n, found, n)
        assert (found == expected).all()


@pytest.mark.parametrize(
    ("work", "heads", "threads", "sides"),
    [
        ([1], 4, 2, [128]),  # a tile of each head, two for each thread
        ([1], 1, 2, [64]),
        ([1], 1, 3, [16]),  # four tiles of 32 would leave two threads idle for half of the time
        ([1, 2], 2, 2, [128, 128]),
        ([4, 1, 1, 1, 1], 1, 2, [128] * 5),
        ([8, 1, 1, 1, 1], 1, 2, [64] * 5),
        ([40] + [1] * 100, 1, 16, [16] + [128] * 100),
        ([100], 1, 99, [16]),  # a cache line of queries at least
    ],
)
def test_tiles_are_narrow_where_threads_would_wait(
    library: ctypes.CDLL, work: list[float], heads: int, threads: int, sides: list[int]
) -> None:
    found = np.zeros(len(work), np.int64)
    call(library.sides, len(work), np.array(work, np.float64), heads, threads, found)
    assert found.tolist() == sides


# ---- pairs of bf16 ---------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["", MODEL.format(1)], ids=["processor", "amx"])
def of_pairs(request: pytest.FixtureRequest) -> ctypes.CDLL:
    found: ctypes.CDLL = (
        built(request.param) if request.param else request.getfixturevalue("library")
    )
    if found.per_cell() == 1:
        pytest.skip("this processor has no instructions for products of bf16")
    if request.param and not found.of_tiles():
        pytest.skip("the model of AMX is for processors with AVX512-BF16")
    return found


def brain(x: Floats) -> Halves:
    """As bf16: bits."""
    return torch.from_numpy(x).bfloat16().view(torch.int16).numpy().view(np.uint16)


def in_cells(x: Floats, axis: int) -> Floats:
    """Numbers that lie beside each other along an axis as bf16 in cells; of an odd number, with a 0."""
    moved = np.moveaxis(x, axis, -1)
    bits = np.zeros((*moved.shape[:-1], -(-moved.shape[-1] // 2) * 2), np.uint16)
    bits[..., : moved.shape[-1]] = brain(np.ascontiguousarray(moved))
    return np.moveaxis(bits.view(np.float32), -1, axis)


def multiplied_pairs(library: ctypes.CDLL, a: Floats, b: Floats, c: Floats, add: bool) -> Floats:
    """Half of A B, or C + A B, by products of bf16. What lies around A and B is NaN, and stays out of it."""
    m, n = c.shape
    width = library.lanes()
    written = -(-n // width) * width
    by_row = a.strides[1] <= a.strides[0]
    a, b = in_cells(a, 1), in_cells(b, 0)
    depth = a.shape[1]
    room_a = np.full((m + 16, depth + 16), np.nan, np.float32, order="C" if by_row else "F")
    room_a.view(np.uint32)[:m, :depth] = a.view(np.uint32)
    room_b = np.full((depth + 16, written), np.nan, np.float32)
    room_b.view(np.uint32)[:depth] = 0
    room_b.view(np.uint32)[:depth, :n] = b.view(np.uint32)
    room_c = np.full((m + 16, written), np.float32(99))
    room_c[:m, :n] = c
    strides = (stride // a.itemsize for stride in room_a.strides)
    sizes = (m, n, depth)
    call(library.multiply_pairs, add, *sizes, room_a, *strides, room_b, written, room_c, written)
    assert (room_c[m:] == 99).all()
    return room_c[:m, :n].copy()


@pytest.mark.parametrize("add", [False, True])
def test_products_of_pairs_of_every_remainder(of_pairs: ctypes.CDLL, add: bool) -> None:
    """Of small whole numbers, so that every sum is exact."""
    random = np.random.default_rng(1)

    def drawn(rows: int, columns: int) -> Floats:
        return random.integers(-8, 9, (rows, columns)).astype(np.float32)

    sizes = [*range(1, 2 * of_pairs.tile() + 2)]
    if of_pairs.of_tiles():
        sizes += [15, 16, 17, 31, 32, 33, 50]
    for m in sizes:
        for n in range(1, of_pairs.panel() + of_pairs.lanes() + 2, 3):
            for depth in (1, 2, 7, 32, 37, 128, 150):
                a, b, c = drawn(m, depth), drawn(depth, n), drawn(m, n)
                a = np.asarray(a, order="CF"[(m + n) % 2])
                expected = a @ b + c if add else a @ b / 2
                assert (multiplied_pairs(of_pairs, a, b, c, add) == expected).all(), (m, n, depth)


def test_an_element_of_a_product_of_pairs_is_the_same_sum_wherever_it_is(
    of_pairs: ctypes.CDLL,
) -> None:
    random = np.random.default_rng(2)
    m, n, depth = 2 * of_pairs.tile() + 1, of_pairs.panel() + of_pairs.lanes() + 1, 37
    a, b = (random.standard_normal(s).astype(np.float32) for s in ((m, depth), (depth, n)))
    whole = multiplied_pairs(of_pairs, a, b, np.zeros((m, n), np.float32), False)
    alone = np.zeros((1, 1), np.float32)
    for i, j in product(range(m), range(0, n, 5)):
        assert (
            multiplied_pairs(of_pairs, a[i : i + 1], b[:, j : j + 1], alone, False) == whole[i, j]
        )


def test_floats_become_pairs(of_pairs: ctypes.CDLL) -> None:
    """Rounded to the nearest, ties to even, and NaN stays NaN: two vectors in turn, or beside each other."""
    lanes = of_pairs.lanes()
    first = np.random.default_rng(3).standard_normal(lanes).astype(np.float32)
    first[:4] = np.array([0x3F808000, 0x3F818000, 0x7F800000, 0xFF800000], np.uint32).view(
        np.float32
    )
    second = np.linspace(-4, 4, lanes, dtype=np.float32)
    second[0] = np.nan
    found = np.empty(2 * lanes, np.uint16)
    call(of_pairs.rounded, False, first, second, found)
    assert (found[:lanes] == brain(first)).all()
    assert torch.isnan(as_torch(found, torch.bfloat16)[lanes])
    assert (found[lanes + 1 :] == brain(second)[1:]).all()
    call(of_pairs.rounded, True, first, second, found)
    assert (found[::2] == brain(first)).all() and (found[3::2] == brain(second)[1:]).all()


def test_rows_become_pairs(library: ctypes.CDLL) -> None:
    first, second = ALL[1:102].copy(), ALL[40000:40101].copy()
    missing = ctypes.c_void_p(None)
    for one, other in ((first, second), (first, missing), (missing, second), (missing, missing)):
        found = np.full((101, 2), 99, np.uint16)
        call(library.pairs, one, other, 101, found)
        assert (found[:, 0] == (first if one is first else 0)).all()
        assert (found[:, 1] == (second if other is second else 0)).all()


# ---- powers ----------------------------------------------------------------------------------


def mapped(library: ctypes.CDLL, name: str, x: Floats) -> Floats:
    assert x.dtype == np.float32 and x.size % library.lanes() == 0
    to = np.empty_like(x)
    call(getattr(library, name), x.size, x, to)
    return to


def error(found: Floats, truth: NDArray[np.float64]) -> float:
    """The greatest relative error."""
    return float(np.abs(found / truth - 1).max())


def test_powers_of_two(library: ctypes.CDLL) -> None:
    x = np.linspace(-126, 126.99, 1 << 20, dtype=np.float32)
    assert error(mapped(library, "powers", x), np.exp2(x.astype(np.float64))) < 1.2e-7
    near = np.linspace(-1, 1, 1 << 20, dtype=np.float32)
    assert error(mapped(library, "powers", near), np.exp2(near.astype(np.float64))) < 1.2e-7
    whole = np.arange(-126, 130, dtype=np.float32)[: 15 * 16]
    assert (mapped(library, "powers", whole) == np.exp2(whole)).all()
    assert error(mapped(library, "rough_powers", x), np.exp2(x.astype(np.float64))) < 3e-6
    assert (mapped(library, "rough_powers", whole) == np.exp2(whole)).all()


@pytest.mark.parametrize("name", ["powers", "rough_powers"])
def test_powers_at_the_edge(library: ctypes.CDLL, name: str) -> None:
    least = np.full(16, -np.inf, np.float32)
    assert (mapped(library, name, least) == 0).all()
    low = np.linspace(-1e30, -127, 1 << 12, dtype=np.float32)
    assert (mapped(library, name, low) == 0).all()
    between = np.linspace(-127, -126, 1 << 12, dtype=np.float32)
    assert (np.abs(mapped(library, name, between)) <= np.float32(2.0**-126)).all()
    assert np.isnan(mapped(library, name, np.full(16, np.nan, np.float32))).all()


def test_tangents(library: ctypes.CDLL) -> None:
    x = np.linspace(-12, 12, 1 << 20, dtype=np.float32)
    x = x[x != 0][: (1 << 20) - 16]
    assert error(mapped(library, "tangents", x), np.tanh(x.astype(np.float64))) < 3.5e-7
    small = np.logspace(-30, -3, 1 << 16, dtype=np.float32)
    assert error(mapped(library, "tangents", small), np.tanh(small.astype(np.float64))) < 2e-7
    edges = np.array([0, -0.0, np.inf, -np.inf, 1e30, -1e30, 9, -9] * 2, np.float32)
    expected = np.tanh(edges)
    assert np.abs(mapped(library, "tangents", edges) - expected).max() < 2e-7
    assert np.isnan(mapped(library, "tangents", np.full(16, np.nan, np.float32))).all()


# ---- conversions -----------------------------------------------------------------------------

DTYPES = {torch.bfloat16: 1, torch.float16: 2}
"""As the enumeration Dtype has them."""

ALL = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)


def as_torch(bits: Halves, dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(bits.view(np.int16).copy()).view(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_number_widens(library: ctypes.CDLL, dtype: torch.dtype) -> None:
    found = np.empty(ALL.size, np.float32)
    call(library.widened, DTYPES[dtype], ALL.size, ALL, found)
    expected = as_torch(ALL, dtype).float().numpy()
    nan = np.isnan(expected)
    assert (np.isnan(found) == nan).all()
    assert (found.view(np.uint32) == expected.view(np.uint32))[~nan].all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_number_and_what_lies_between_two_narrows(
    library: ctypes.CDLL, dtype: torch.dtype
) -> None:
    """Each number, the middle between it and the next one, and the floats next to all of them."""
    numbers = as_torch(ALL, dtype).float().numpy()
    following = as_torch((ALL & 0x8000) | np.minimum((ALL & 0x7FFF) + 1, 0x7FFF), dtype)
    with np.errstate(all="ignore"):
        middle = ((numbers.astype(np.float64) + following.double().numpy()) / 2).astype(np.float32)
        places = np.concatenate([numbers, middle])
        places = np.concatenate(
            [
                places,
                np.nextafter(places, np.float32(np.inf)),
                np.nextafter(places, -np.float32(np.inf)),
            ]
        )
    found = np.empty(places.size, np.uint16)
    call(library.narrowed, DTYPES[dtype], places.size, places, found)
    expected = torch.from_numpy(places).to(dtype)
    nan = torch.isnan(expected).numpy()
    assert nan.any() and (torch.isnan(as_torch(found, dtype)).numpy() == nan).all()
    assert (found == expected.view(torch.int16).numpy().view(np.uint16))[~nan].all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_few_numbers_convert(library: ctypes.CDLL, dtype: torch.dtype) -> None:
    """Whole vectors of a buffer are read and written, and of a tensor no more than is asked for."""
    for count in range(1, 2 * library.lanes() + 2):
        bits = np.ascontiguousarray(ALL[0x3C01 : 0x3C01 + count])
        found = np.zeros(count + library.lanes(), np.float32)
        call(library.widened, DTYPES[dtype], count, bits, found)
        assert (found[:count] == as_torch(bits, dtype).float().numpy()).all()
        back = np.full(count + library.lanes(), 99, np.uint16)
        call(library.narrowed, DTYPES[dtype], count, found, back)
        assert (back[:count] == bits).all() and (back[count:] == 99).all()


# ---- transposes ------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [4, 8, 72])
def test_transposes(library: ctypes.CDLL, dim: int) -> None:
    lanes, stride = 16, dim + 3
    for count in range(lanes + 1):
        x = np.random.default_rng(count).standard_normal((count, stride)).astype(np.float32)
        to = np.full((dim + 1, lanes), np.float32(99))
        call(library.transposed, x, stride, count, dim, ctypes.c_float(0.5), to, lanes)
        assert (to[:dim, :count] == x[:, :dim].T * np.float32(0.5)).all(), count
        assert (to[:dim, count:] == 0).all() and (to[dim] == 99).all(), count


# ---- as a header -----------------------------------------------------------------------------

FLAGS = ("-Wall", "-Wextra", "-Werror", "-std=c++17", "-fopenmp")
UNUSED = ("function", "variable", "const-variable")
WARNINGS = {
    "g++": ("-Wshadow=local",),
    # It takes a header by itself for a program, which uses all that it has.
    "clang++": (*(f"-Wno-unused-{x}" for x in UNUSED), "-Wno-unneeded-internal-declaration"),
}
COMPILERS = [name for name in WARNINGS if shutil.which(name)]


@pytest.fixture
def compiles(tmp_path: Path) -> Callable[..., None]:
    """Compiles files without a warning; those in tmp_path by their names."""

    def check(compiler: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [compiler, *FLAGS, *WARNINGS[compiler], *arguments],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")

    return check


@pytest.mark.parametrize("compiler", COMPILERS)
def test_it_compiles_alone(compiler: str, compiles: Callable[..., None], tmp_path: Path) -> None:
    """So does each part of it, as an editor reads them."""
    (tmp_path / HEADER).write_text(header())
    parts = sorted(resource("runtime", "cpu", "include").glob("*.h"))
    assert [part.name for part in parts].count(HEADER) == 1 < len(parts)
    for mode in ([], ["-DBSLANG_PASSES_APART"], ["-DBSLANG_PASS=backward_pass<Brain>"]):
        compiles(compiler, "-S", "-o", "/dev/null", *mode, "-x", "c++", HEADER)
    for part in parts:
        compiles(compiler, "-fsyntax-only", "-x", "c++", part)


def test_generated_files_link_together(compiles: Callable[..., None], tmp_path: Path) -> None:
    """Their entry points have one name; all else is each file's own, even built for another processor."""
    objects = []
    for name, spec in (("one", "causal"), ("two", "same(doc) & last(head * 5t + 9t)")):
        files = compiler.emit(compiler.resolve(Source(f"{name}.bsl", spec)), ["cpu"])
        for file, text in files.items():
            (tmp_path / file).write_text(str(text))
        renamed = [f"-Dbslang_{x}={name}_{x}" for x in ("forward", "backward")]
        compiles(COMPILERS[0], "-O0", "-fPIC", "-c", f"{name}.cpp", "-o", f"{name}.o", *renamed)
        objects.append(f"{name}.o")
    compiles(COMPILERS[0], "-shared", *objects, "-o", "both.so")
    both = ctypes.CDLL(str(tmp_path / "both.so"))
    assert all(hasattr(both, f"{x}_{y}") for x in ("one", "two") for y in ("forward", "backward"))


def test_what_is_included_stands_where_it_is_first_asked_for() -> None:
    files = {"a.h": '// a\n#include "b.h"\n', "b.h": '#include <cstdint>\n#include "a.h"\n// b\n'}
    text = '#include "b.h"  // because\n#include "other.h"\n#include "a.h"\nint x;\n'
    expected = '#include <cstdint>\n// a\n// b\n#include "other.h"\nint x;\n'
    assert inlined(text, files) == expected
    assert '#include "' not in header()

// vector.h: vectors of floats: 2^x, tanh, and the matrix product that every pass is made of.

#ifndef BSLANG_VECTOR_H
#define BSLANG_VECTOR_H

#include <algorithm>
#include <cstdint>
#include <limits>

namespace bslang {
namespace {

// Floats in a vector register, and the rows and vectors of a product that are held in registers at
// once: enough to hide the latency of multiply-add, and room is left for its inputs.
#if defined(__AVX512F__)
constexpr int64_t width = 16, rows = 4, vectors = 4;
#elif defined(__AVX__)
constexpr int64_t width = 8, rows = 4, vectors = 2;
#elif defined(__aarch64__)
constexpr int64_t width = 4, rows = 8, vectors = 2;
#else
constexpr int64_t width = 4, rows = 4, vectors = 2;
#endif

// Unaligned: rows of a tensor are read and written where they lie.
typedef float vec __attribute__((vector_size(width * sizeof(float)), may_alias, aligned(4)));
typedef int32_t ivec __attribute__((vector_size(width * sizeof(float)), may_alias, aligned(4)));

// Every buffer begins on a cache line and every row of it is a multiple of one: a multiple of
// `width` whatever the processor, so that no loop over vectors needs a remainder.
constexpr int64_t line = 16;

constexpr int64_t padded(int64_t count, int64_t to = line) { return (count + to - 1) / to * to; }

inline vec load(const float* x) { return *reinterpret_cast<const vec*>(x); }
inline void store(float* x, vec value) { *reinterpret_cast<vec*>(x) = value; }
inline vec all(float value) { return vec{} + value; }

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float log2_e = 1.44269504088896341f, ln_2 = 0.693147180559945309f;

// -127. Compilers must not know it: of a constant they make a comparison and a blend, which are
// slower than a maximum.
volatile float least_exponent = -127.0f;

// 2^x for x < 127, to 1e-7; NaN stays NaN. `least`: all(least_exponent), whose power has no bit
// set, so that a score of -inf gives exactly 0 with no test for it.
inline vec exp2(vec x, vec least) {
    constexpr float shift = 12582912.0f + 127.0f;  // 1.5 * 2^23, and the bias of an exponent
    x = least > x ? least : x;
    const vec shifted = x + shift;  // the low bits now hold x, rounded and biased
    const vec f = x - (shifted - shift);
    vec p = all(1.53533547e-4f);  // 2^f for |f| <= 1/2, by least relative error with p(0) = 1
    p = p * f + 1.33988750e-3f;
    p = p * f + 9.61843785e-3f;
    p = p * f + 5.55033237e-2f;
    p = p * f + 2.40226477e-1f;
    p = p * f + 6.93147182e-1f;
    p = p * f + 1.0f;
    return p * reinterpret_cast<vec>(reinterpret_cast<ivec>(shifted) << 23);
}

// tanh(x), to 3e-7 of it, and to 2e-7 where it is small; NaN stays NaN. It is the quotient
// x P(x^2) / Q(x^2) of least relative error up to 9, from where on tanh is 1.
inline vec tanh(vec x) {
    x = x > all(9.0f) ? all(9.0f) : x;
    x = x < all(-9.0f) ? all(-9.0f) : x;
    const vec z = x * x;
    vec p = all(1.33546498e-8f), q = all(7.77655487e-7f);
    p = p * z + 2.06090790e-5f;
    q = q * z + 3.28563445e-4f;
    p = p * z + 3.49558797e-3f;
    q = q * z + 2.58769821e-2f;
    p = p * z + 1.33810252e-1f;
    q = q * z + 4.67143416e-1f;
    p = p * z + 1.0f;
    q = q * z + 1.0f;
    return x * p / q;
}

// ---- Products -----------------------------------------------------------------------------------

// A matrix to be read in any direction: element (i, k) is data[i * row + k * col].
struct View {
    const float* data;
    int64_t row, col;
    View from_row(int64_t i) const { return {data + i * row, row, col}; }
};

// Memory that is read next, to be fetched while a product is computed.
struct Ahead {
    const float* data;
    int64_t stride, rows, columns;
    void fetch(int64_t row, int64_t count) const {
        for (int64_t i = row, end = std::min(row + count, rows); i < end; ++i)
            for (int64_t j = 0; j < columns; j += line) __builtin_prefetch(data + i * stride + j);
    }
};

// `m` rows by `n` vectors of a product, summed in registers; so loops over them are unrolled.
template <bool add, int m, int n>
__attribute__((always_inline)) inline void product_tile(int64_t depth, View a, const float* b,
                                                        int64_t ldb, float* c, int64_t ldc) {
    vec sum[m][n] = {};
#pragma GCC unroll 2
    for (int64_t k = 0; k < depth; ++k) {
        vec from_b[n];
#pragma GCC unroll 8
        for (int j = 0; j < n; ++j) from_b[j] = load(b + k * ldb + j * width);
#pragma GCC unroll 8
        for (int i = 0; i < m; ++i)
#pragma GCC unroll 8
            for (int j = 0; j < n; ++j) sum[i][j] += a.data[i * a.row + k * a.col] * from_b[j];
    }
#pragma GCC unroll 8
    for (int i = 0; i < m; ++i)
#pragma GCC unroll 8
        for (int j = 0; j < n; ++j) {
            float* to = c + i * ldc + j * width;
            store(to, add ? load(to) + sum[i][j] : sum[i][j]);
        }
}

// `n` vectors of the columns of a product.
template <bool add, int n>
inline void product_panel(int64_t m, int64_t depth, View a, const float* b, int64_t ldb, float* c,
                          int64_t ldc, const Ahead& ahead) {
    int64_t i = 0;
    for (; i + rows <= m; i += rows) {
        ahead.fetch(i, rows);
        product_tile<add, rows, n>(depth, a.from_row(i), b, ldb, c + i * ldc, ldc);
    }
    for (; i < m; ++i)  // of a ragged tile
        product_tile<add, 1, n>(depth, a.from_row(i), b, ldb, c + i * ldc, ldc);
}

// C = A B, or C += A B: C is (m, n), A (m, depth), B (depth, n). n is rounded up to a multiple of
// `width`: buffers have room for it, and what lands there is never read.
// An element of A B is one chain of multiply-adds in the order of `depth`, wherever it is computed;
// the chain is short, and added to C whole, since rounding errors grow with the length of a sum.
template <bool add>
__attribute__((noinline)) void product(int64_t m, int64_t n, int64_t depth, View a, const float* b,
                                       int64_t ldb, float* c, int64_t ldc, Ahead ahead = {}) {
    constexpr int64_t panel = vectors * width;  // of B; it stays in a near cache
    int64_t j = 0;
    for (; j + panel <= n; j += panel, ahead = {})
        product_panel<add, vectors>(m, depth, a, b + j, ldb, c + j, ldc, ahead);
    for (; j < n; j += width, ahead = {})
        product_panel<add, 1>(m, depth, a, b + j, ldb, c + j, ldc, ahead);
}

}  // namespace
}  // namespace bslang

#endif  // BSLANG_VECTOR_H

// product.h: the matrix product that every pass is made of.

#ifndef BSLANG_PRODUCT_H
#define BSLANG_PRODUCT_H

#include <cstdint>
#include <type_traits>

#include "numbers.h"
#include "tiles.h"
#include "vector.h"

namespace bslang {
namespace {

// Vectors of a product as they are stored. A product of bf16 is scaled, since its operands cannot be
// without being rounded again; floats are scaled where they are transposed.
template <class Number, bool add>
inline void keep(float* to, vec sum, float factor) {
    if (add)
        store(to, load(to) + sum);
    else
        store(to, Number::per_cell > 1 ? sum * factor : sum);
}

// `m` rows by `n` vectors of a product, summed in registers; so loops over them are unrolled.
template <class Number, bool add, int m, int n>
__attribute__((always_inline)) inline void product_tile(int64_t depth, View a,
                                                        const typename Number::right* b,
                                                        int64_t ldb, float* c, int64_t ldc,
                                                        float factor) {
    vec sum[m][n] = {};
#pragma GCC unroll 2
    for (int64_t k = 0; k < depth; ++k) {
        vec from_b[n];
#pragma GCC unroll 8
        for (int j = 0; j < n; ++j) from_b[j] = Number::read(b + k * ldb + j * width);
#pragma GCC unroll 8
        for (int i = 0; i < m; ++i)
#pragma GCC unroll 8
            for (int j = 0; j < n; ++j)
                sum[i][j] =
                    Number::multiply_add(sum[i][j], a.data + i * a.row + k * a.col, from_b[j]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < m; ++i)
#pragma GCC unroll 8
        for (int j = 0; j < n; ++j)
            keep<Number, add>(c + i * ldc + j * width, sum[i][j], factor);
}

#ifdef BSLANG_SQUARES
// The same in squares of two rows and two columns, two cells of the depth at a time.
template <class Number, bool add, int m, int n>
__attribute__((always_inline)) inline void product_of_squares(int64_t depth, View a,
                                                              const float* b, int64_t ldb,
                                                              float* c, int64_t ldc,
                                                              float factor) {
    typedef float two __attribute__((vector_size(2 * sizeof(float)), may_alias, aligned(4)));
    vec sum[m / 2][2 * n] = {};
    // Two cells, or a last one beside zeros.
    const auto add_cells = [&](int64_t k, auto whole) __attribute__((always_inline)) {
        vec from_b[2 * n];
#pragma GCC unroll 8
        for (int j = 0; j < n; ++j) {
            const vec x = load(b + k * ldb + j * width);
            const vec y = whole ? load(b + (k + 1) * ldb + j * width) : vec{};
            from_b[2 * j] = __builtin_shufflevector(x, y, 0, 4, 1, 5);
            from_b[2 * j + 1] = __builtin_shufflevector(x, y, 2, 6, 3, 7);
        }
#pragma GCC unroll 8
        for (int i = 0; i < m / 2; ++i) {
            const float *x = a.data + 2 * i * a.row + k * a.col, *y = x + a.row;
            vec from_a;
            if (!whole) {
                from_a = vec{*x, 0, *y, 0};
            } else if (a.col == 1) {
                const two p = *reinterpret_cast<const two*>(x), q = *reinterpret_cast<const two*>(y);
                from_a = __builtin_shufflevector(p, q, 0, 1, 2, 3);
            } else {
                from_a = vec{*x, x[a.col], *y, y[a.col]};
            }
#pragma GCC unroll 8
            for (int j = 0; j < 2 * n; ++j)
                sum[i][j] = Number::multiply_square(sum[i][j], from_a, from_b[j]);
        }
    };
    int64_t k = 0;
    for (; k + 2 <= depth; k += 2) add_cells(k, std::true_type{});
    if (k < depth) add_cells(k, std::false_type{});
#pragma GCC unroll 8
    for (int i = 0; i < m / 2; ++i)
#pragma GCC unroll 8
        for (int j = 0; j < n; ++j) {
            const vec x = sum[i][2 * j], y = sum[i][2 * j + 1];
            float* to = c + 2 * i * ldc + j * width;
            keep<Number, add>(to, __builtin_shufflevector(x, y, 0, 1, 4, 5), factor);
            keep<Number, add>(to + ldc, __builtin_shufflevector(x, y, 2, 3, 6, 7), factor);
        }
}
#endif

// `n` vectors of the columns of a product.
template <class Number, bool add, int n>
inline void product_panel(int64_t m, int64_t depth, View a, const typename Number::right* b,
                          int64_t ldb, float* c, int64_t ldc, float factor, const Ahead& ahead) {
    int64_t i = 0;
    for (; i + rows <= m; i += rows) {
        ahead.fetch(i, rows);
#ifdef BSLANG_SQUARES
        if constexpr (Number::per_cell > 1) {
            product_of_squares<Number, add, rows, n>(depth, a.from_row(i), b, ldb, c + i * ldc,
                                                     ldc, factor);
            continue;
        }
#endif
        product_tile<Number, add, rows, n>(depth, a.from_row(i), b, ldb, c + i * ldc, ldc, factor);
    }
    for (; i < m; ++i)  // of a ragged tile
        product_tile<Number, add, 1, n>(depth, a.from_row(i), b, ldb, c + i * ldc, ldc, factor);
}

// C = A B, which of bf16 is multiplied by a factor, or C += A B: C is (m, n) floats, A (m, depth) and B
// (depth, n) cells. n is rounded up to a multiple of `width`: buffers have room for it, and what lands
// there is never read.
// An element of A B is one chain of multiply-adds in the order of `depth`, wherever it is computed;
// the chain is short, and added to C whole, since rounding errors grow with the length of a sum. (Tiles add
// chains of 32 numbers.) A thread that multiplies pairs is Multiplying.
template <class Number, bool add>
__attribute__((noinline)) void product(int64_t m, int64_t n, int64_t depth, View a,
                                       const typename Number::right* b, int64_t ldb, float* c,
                                       int64_t ldc, float factor = 1.0f, Ahead ahead = {}) {
#ifdef BSLANG_TILES
    if constexpr (Number::per_cell > 1)
        if (tiles_granted())
            return product_of_tiles<add>(m, n, depth, a, b, ldb, c, ldc, factor, ahead);
#endif
    constexpr int64_t panel = vectors * width;  // of B; it stays in a near cache
    int64_t j = 0;
    for (; j + panel <= n; j += panel, ahead = {})
        product_panel<Number, add, vectors>(m, depth, a, b + j, ldb, c + j, ldc, factor, ahead);
    for (; j < n; j += width, ahead = {})
        product_panel<Number, add, 1>(m, depth, a, b + j, ldb, c + j, ldc, factor, ahead);
}

}  // namespace
}  // namespace bslang

#endif  // BSLANG_PRODUCT_H

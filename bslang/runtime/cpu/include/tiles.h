// tiles.h: products of bf16 in tiles of 16 rows of 16 cells, by AMX or by a model of it.

#ifndef BSLANG_TILES_H
#define BSLANG_TILES_H

#include <algorithm>
#include <cstdint>

#include "numbers.h"
#include "vector.h"

// Tests define BSLANG_AMX_MODEL: 1, or 0 for a system that does not grant tiles. Clang wrote the names of
// its macros otherwise up to version 15.
#if defined(__AVX512BF16__)
#if defined(BSLANG_AMX_MODEL)
#define BSLANG_TILES
#include <cmath>
#include <limits>
#elif (defined(__AMX_BF16__) || defined(__AMXBF16__)) && defined(__linux__)
#define BSLANG_TILES
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

namespace bslang {
namespace {

// A thread that computes products of these numbers has one of these meanwhile.
template <class Number>
struct Multiplying {};

#ifdef BSLANG_TILES

constexpr int64_t tile_side = 16;

// ---- Instructions -------------------------------------------------------------------------------
// A thread has eight tiles, numbered from 0. Between rows in memory are `stride` floats.

#ifdef BSLANG_AMX_MODEL

inline bool tiles_granted() { return BSLANG_AMX_MODEL; }

thread_local float model[8][tile_side][tile_side];
thread_local bool model_set_up = false;

inline auto& model_tile(int number) {
    if (!model_set_up) __builtin_trap();
    return model[number];
}

inline void set_tiles_up() {
    model_set_up = true;
    std::fill_n(&model[0][0][0], sizeof model / sizeof(float), 0.0f);
}

inline void release_tiles() { model_set_up = false; }

template <int to>
inline void clear_tile() {
    std::fill_n(&model_tile(to)[0][0], tile_side * tile_side, 0.0f);
}

template <int to>
inline void load_tile(const float* from, int64_t stride) {
    for (int64_t i = 0; i < tile_side; ++i)
        std::copy_n(from + i * stride, tile_side, model_tile(to)[i]);
}

template <int from>
inline void store_tile(float* to, int64_t stride) {
    for (int64_t i = 0; i < tile_side; ++i)
        std::copy_n(model_tile(from)[i], tile_side, to + i * stride);
}

inline float flushed(float x) { return std::abs(x) < std::numeric_limits<float>::min() ? 0.0f : x; }

// In the order of Intel's manual: a chain of the first numbers of cells, one of the second ones.
template <int sum, int a, int b>
inline void multiply_tiles() {
    for (int64_t i = 0; i < tile_side; ++i) {
        float chains[2][tile_side] = {};
        for (int64_t k = 0; k < tile_side; ++k)
            for (int64_t which = 0; which < 2; ++which)
                for (int64_t j = 0; j < tile_side; ++j) {
                    const float x = flushed(Brain::number(model_tile(a)[i][k], which));
                    const float y = flushed(Brain::number(model_tile(b)[k][j], which));
                    chains[which][j] = flushed(chains[which][j] + x * y);
                }
        for (int64_t j = 0; j < tile_side; ++j) {
            float& to = model_tile(sum)[i][j];
            to = flushed(to + flushed(chains[0][j] + chains[1][j]));
        }
    }
}

#else

// Whether this process may use tiles: the processor may lack what it was compiled for (a virtual one
// does), and Linux keeps room for the tiles of threads only after it was asked.
inline bool tiles_granted() {
    static const bool granted = [] {
        constexpr unsigned features = 1u << 22 | 1u << 24;  // AMX-BF16 and AMX-TILE
        constexpr long request = 0x1023, tile_data = 18;    // ARCH_REQ_XCOMP_PERM, XTILEDATA
        unsigned a = 0, b = 0, c = 0, d = 0;
        return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & features) == features &&
               syscall(SYS_arch_prctl, request, tile_data) == 0;
    }();
    return granted;
}

// All of them 16 rows of 64 bytes.
struct alignas(64) TileShapes {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileShapes) == 64);

inline void set_tiles_up() {
    static constexpr TileShapes shapes;
    __asm__ volatile("ldtilecfg %0" : : "m"(shapes));
}

inline void release_tiles() { __asm__ volatile("tilerelease" : : : "memory"); }

template <int to>
inline void clear_tile() {
    __asm__ volatile("tilezero %%tmm%c0" : : "i"(to));
}

template <int to>
inline void load_tile(const float* from, int64_t stride) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2"
                     :
                     : "r"(from), "r"(stride * 4), "i"(to)
                     : "memory");
}

template <int from>
inline void store_tile(float* to, int64_t stride) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)"
                     :
                     : "r"(to), "r"(stride * 4), "i"(from)
                     : "memory");
}

template <int sum, int a, int b>
inline void multiply_tiles() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(sum), "i"(a), "i"(b));
}

#endif

template <>
struct Multiplying<Brain> {
    Multiplying() {
        if (tiles_granted()) set_tiles_up();
    }
    ~Multiplying() {
        if (tiles_granted()) release_tiles();
    }
    Multiplying(const Multiplying&) = delete;
    Multiplying& operator=(const Multiplying&) = delete;
};

// ---- Products -----------------------------------------------------------------------------------

// 16 rows of as many cells to as many columns.
inline void transpose_tile(const float* from, int64_t from_stride, int64_t count, float* to,
                           int64_t to_stride) {
    vec x[tile_side];
#pragma GCC unroll 16
    for (int64_t i = 0; i < tile_side; ++i) x[i] = i < count ? load(from + i * from_stride) : vec{};
#pragma GCC unroll 4
    for (int step = 0; step < 4; ++step) {  // each turns one bit of a row's number to one of a column's
        vec y[tile_side];
#pragma GCC unroll 8
        for (int64_t i = 0; i < tile_side / 2; ++i) {
            y[2 * i] = __builtin_shufflevector(x[i], x[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5,
                                               21, 6, 22, 7, 23);
            y[2 * i + 1] = __builtin_shufflevector(x[i], x[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12,
                                                   28, 13, 29, 14, 30, 15, 31);
        }
#pragma GCC unroll 16
        for (int64_t i = 0; i < tile_side; ++i) x[i] = y[i];
    }
#pragma GCC unroll 16
    for (int64_t i = 0; i < tile_side; ++i) store(to + i * to_stride, x[i]);
}

// (count, depth) cells to rows of whole tiles, with zeros in what is left over.
[[maybe_unused]] __attribute__((noinline)) void pack_tiles(View a, int64_t count, int64_t depth,
                                                           float* to, int64_t stride) {
    const int64_t deep = padded(depth, tile_side);
    int64_t i = 0;
    if (a.row == 1)
        for (; i + tile_side <= count; i += tile_side)
            for (int64_t k = 0; k < depth; k += tile_side)
                transpose_tile(a.data + i + k * a.col, a.col, depth - k, to + i * stride + k,
                               stride);
    for (; i < count; ++i) {
        for (int64_t k = 0; k < depth; ++k) to[i * stride + k] = a.data[i * a.row + k * a.col];
        std::fill(to + i * stride + depth, to + i * stride + deep, 0.0f);
    }
    for (; i < padded(count, tile_side); ++i)
        std::fill(to + i * stride, to + i * stride + deep, 0.0f);
}

template <int number>
inline void begin_sum(const float* c, int64_t ldc, bool onto) {
    if (onto)
        load_tile<number>(c, ldc);
    else
        clear_tile<number>();
}

// `m` by `n` tiles of a product, up to two by two, or of what it adds. last: (16, 16 n) cells of the rows
// of B from the last multiple of 16 on, where the depth is not one.
template <int m, int n>
inline void tiles_of_sums(int64_t depth, const float* a, int64_t lda, const float* b, int64_t ldb,
                          const float* last, float* c, int64_t ldc, bool onto) {
    float* const down = c + tile_side * ldc;
    begin_sum<0>(c, ldc, onto);
    if constexpr (n > 1) begin_sum<1>(c + tile_side, ldc, onto);
    if constexpr (m > 1) begin_sum<2>(down, ldc, onto);
    if constexpr (m > 1 && n > 1) begin_sum<3>(down + tile_side, ldc, onto);
    for (int64_t k = 0; k < depth; k += tile_side) {
        const bool whole = k + tile_side <= depth;
        const float* from_b = whole ? b + k * ldb : last;
        const int64_t stride = whole ? ldb : n * tile_side;
        load_tile<4>(a + k, lda);
        load_tile<6>(from_b, stride);
        multiply_tiles<0, 4, 6>();
        if constexpr (n > 1) {
            load_tile<7>(from_b + tile_side, stride);
            multiply_tiles<1, 4, 7>();
        }
        if constexpr (m > 1) {
            load_tile<5>(a + tile_side * lda + k, lda);
            multiply_tiles<2, 5, 6>();
        }
        if constexpr (m > 1 && n > 1) multiply_tiles<3, 5, 7>();
    }
    store_tile<0>(c, ldc);
    if constexpr (n > 1) store_tile<1>(c + tile_side, ldc);
    if constexpr (m > 1) store_tile<2>(down, ldc);
    if constexpr (m > 1 && n > 1) store_tile<3>(down + tile_side, ldc);
}

// `m` rows of tiles, of which C has `count` rows, by `n` columns of tiles.
template <int m, int n>
inline void tiles_of_columns(int64_t count, int64_t depth, const float* a, int64_t lda,
                             const float* b, int64_t ldb, float* c, int64_t ldc, bool onto) {
    constexpr int64_t columns = n * tile_side;
    const int64_t whole = depth / tile_side * tile_side;
    alignas(64) float last[tile_side * columns], ragged[tile_side * columns];
    if (whole < depth) {
        for (int64_t k = whole; k < depth; ++k)
            std::copy_n(b + k * ldb, columns, last + (k - whole) * columns);
        std::fill(last + (depth - whole) * columns, last + tile_side * columns, 0.0f);
    }
    if (count >= m * tile_side)
        return tiles_of_sums<m, n>(depth, a, lda, b, ldb, last, c, ldc, onto);
    for (int64_t i = 0; i < tile_side; ++i)
        for (int64_t j = 0; j < columns; ++j)
            ragged[i * columns + j] = onto && i < count ? c[i * ldc + j] : 0.0f;
    tiles_of_sums<1, n>(depth, a, lda, b, ldb, last, ragged, columns, onto);
    for (int64_t i = 0; i < count; ++i) std::copy_n(ragged + i * columns, columns, c + i * ldc);
}

// `m` rows of tiles.
template <bool add, int m>
inline void tiles_of_rows(int64_t count, int64_t n, int64_t depth, View a, const float* b,
                          int64_t ldb, float* c, int64_t ldc, float factor) {
    constexpr int64_t deepest = 64;  // of the depth at a time
    alignas(64) float packed[m * tile_side * deepest];
    for (int64_t k = 0; k < depth; k += deepest) {
        const int64_t deep = std::min(deepest, depth - k);
        const bool in_place = a.col == 1 && count >= m * tile_side && deep % tile_side == 0;
        const float* from_a = in_place ? a.data + k : packed;
        const int64_t lda = in_place ? a.row : deepest;
        if (!in_place)
            pack_tiles({a.data + k * a.col, a.row, a.col}, count, deep, packed, deepest);
        int64_t j = 0;
        for (; j + 2 * tile_side <= n; j += 2 * tile_side)
            tiles_of_columns<m, 2>(count, deep, from_a, lda, b + k * ldb + j, ldb, c + j, ldc,
                                   add || k > 0);
        for (; j < n; j += tile_side)
            tiles_of_columns<m, 1>(count, deep, from_a, lda, b + k * ldb + j, ldb, c + j, ldc,
                                   add || k > 0);
    }
    if (add || factor == 1.0f) return;
    for (int64_t i = 0; i < count; ++i)
        for (int64_t j = 0; j < n; j += width)
            store(c + i * ldc + j, load(c + i * ldc + j) * factor);
}

// `product` in tiles.
template <bool add>
inline void product_of_tiles(int64_t m, int64_t n, int64_t depth, View a, const float* b,
                             int64_t ldb, float* c, int64_t ldc, float factor, Ahead ahead) {
    constexpr int64_t two = 2 * tile_side;
    int64_t i = 0;
    for (; i + two <= m; i += two) {
        ahead.fetch(i, two);
        tiles_of_rows<add, 2>(two, n, depth, a.from_row(i), b, ldb, c + i * ldc, ldc, factor);
    }
    for (; i < m; i += tile_side)
        tiles_of_rows<add, 1>(std::min(tile_side, m - i), n, depth, a.from_row(i), b, ldb,
                              c + i * ldc, ldc, factor);
}

#endif

}  // namespace
}  // namespace bslang

#endif  // BSLANG_TILES_H

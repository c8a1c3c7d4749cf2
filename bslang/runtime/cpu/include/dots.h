// dots.h: products of a few rows with many, which are read one after the other.

#ifndef BSLANG_DOTS_H
#define BSLANG_DOTS_H

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "numbers.h"
#include "vector.h"

namespace bslang {
namespace {

// Sums of pairs of lanes of two vectors: each holds width / size groups of `size` lanes, one for each of
// so many rows. The sum has groups of half the size, those of a before those of b.
template <int64_t size, size_t... lane>
inline vec halved(vec a, vec b, std::index_sequence<lane...>) {
    constexpr auto from = [](int64_t to) {  // of a and b in turn
        const int64_t group = to / (size / 2), within = to % (size / 2);
        return static_cast<int>(group * size + within);
    };
    constexpr int half = static_cast<int>(size / 2);
    return __builtin_shufflevector(a, b, from(lane)...) +
           __builtin_shufflevector(a, b, (from(lane) + half)...);
}

// Lane i becomes the sum of the lanes of x[i].
template <int64_t size = width>
inline vec totals(vec* x) {
    if constexpr (size == 1) {
        return x[0];
    } else {
#pragma GCC unroll 16
        for (int64_t i = 0; i < size / 2; ++i)
            x[i] = halved<size>(x[2 * i], x[2 * i + 1], std::make_index_sequence<width>());
        return totals<size / 2>(x);
    }
}

// A vector of cells of which only some are there; zeros in the place of others.
inline vec load_some(const float* from, int64_t count) {
    float some[width] = {};
    std::memcpy(some, from, count * sizeof(float));
    return load(some);
}

// Products of `m` queries with `count` keys, as many as leave a vector of scores: for each, a vector of sums
// over every width-th cell. b, the queries, is padded with zeros; what lies behind a key may be no memory.
template <class Number, int64_t m>
__attribute__((always_inline)) inline vec dots(int64_t count, int64_t depth, View keys,
                                               const float* b, int64_t ldb) {
    constexpr int64_t n = width / m;
    const int64_t whole = depth / width * width;
    vec sums[width] = {}, key[n] = {};
    const auto add = [&](int64_t d) __attribute__((always_inline)) {
#pragma GCC unroll 16
        for (int64_t i = 0; i < m; ++i) {
            const vec query = load(b + i * ldb + d);
#pragma GCC unroll 16
            for (int64_t j = 0; j < n; ++j)
                sums[i * n + j] = Number::multiply_add(sums[i * n + j], query, key[j]);
        }
    };
    const auto add_all = [&](auto row) __attribute__((always_inline)) {
        for (int64_t d = 0; d < whole; d += width) {
#pragma GCC unroll 16
            for (int64_t j = 0; j < n; ++j) key[j] = load(row(j) + d);
            add(d);
        }
        if (whole == depth) return;
#pragma GCC unroll 16
        for (int64_t j = 0; j < n; ++j) key[j] = load_some(row(j) + whole, depth - whole);
        add(whole);
    };
    // Of a last few keys, the last one in the place of those that are not there.
    if (count >= n)
        add_all([&](int64_t j) { return keys.data + j * keys.row; });
    else
        add_all([&](int64_t j) { return keys.data + std::min(j, count - 1) * keys.row; });
    return totals(sums);
}

}  // namespace
}  // namespace bslang

#endif  // BSLANG_DOTS_H

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

// Keeps a vector in a register: GCC would read it anew for each of its uses.
inline vec kept(vec x) {
#if defined(__x86_64__)
    __asm__("" : "+v"(x));
#elif defined(__aarch64__)
    __asm__("" : "+w"(x));
#endif
    return x;
}

// A vector of cells of which only some are there; zeros in the place of others.
[[gnu::noinline]] vec load_some(const float* from, int64_t count) {
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
    const float* rows[n];  // of a last few keys, the last one in the place of those that are not there
    for (int64_t j = 0; j < n; ++j) rows[j] = keys.from_row(std::min(j, count - 1)).data;
    vec sums[width] = {};
    const auto add = [&](int64_t d, auto read) __attribute__((always_inline)) {
        vec key[n];
#pragma GCC unroll 16
        for (int64_t j = 0; j < n; ++j) key[j] = kept(read(rows[j] + d));
#pragma GCC unroll 16
        for (int64_t i = 0; i < m; ++i) {
            const vec query = kept(load(b + i * ldb + d));
#pragma GCC unroll 16
            for (int64_t j = 0; j < n; ++j)
                sums[i * n + j] = Number::multiply_add(sums[i * n + j], query, key[j]);
        }
    };
    for (int64_t d = 0; d < whole; d += width) add(d, load);
    if (whole < depth)
        add(whole, [&](const float* from) { return load_some(from, depth - whole); });
    return totals(sums);
}

}  // namespace
}  // namespace bslang

#endif  // BSLANG_DOTS_H

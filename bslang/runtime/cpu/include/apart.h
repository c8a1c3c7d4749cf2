// apart.h: keeps NaN and infinity to the pairs that belong.
//
// Labels and padding isolate: a NaN in one document must not change another, but the weight 0 of a
// pair that does not belong times NaN is NaN. A pass runs as if all numbers were finite. If a
// result is NaN, it runs again with care, so that calls with finite numbers pay only for the check.
// Whatever no such number reaches has the same bits either way.

#ifndef BSLANG_APART_H
#define BSLANG_APART_H

#include <algorithm>
#include <cstdint>

#include "arguments.h"
#include "layout.h"
#include "numbers.h"
#include "product.h"
#include "scores.h"
#include "tensors.h"
#include "vector.h"

namespace bslang {
namespace {

// Whether a pass over this layout isolates.
inline bool isolates(const Call& args) { return args.layout.awaits_call; }

// Whether blocks of a class hold pairs that do not belong.
inline bool partial(int64_t kind) { return kind >= first_mask; }

// columns: a multiple of `width`.
[[maybe_unused, gnu::noinline]] bool has_nan(Rows rows, int64_t count, int64_t columns) {
    ivec found{};
    for (int64_t i = 0; i < count; ++i)
        for (int64_t d = 0; d < columns; d += width) {
            const vec x = load(rows.at(i) + d);
            found |= x != x;
        }
    bool any = false;
    for (int64_t j = 0; j < width; ++j) any |= found[j] != 0;
    return any;
}

// Whether no query of a call may see a block of this class: tables that serve calls of many lengths have
// what any query of a block row sees. What is not seen is not read beyond its scores, like the blocks
// that tables of one length leave out.
inline bool may_be_unseen(const Call& args, int64_t kind) {
    return args.by_row.order == nullptr && partial(kind);
}

// Whether a mask left a score of (`count` rows, `lanes`).
[[maybe_unused]] bool any_seen(const float* s, int64_t count, int64_t lanes, int64_t stride) {
    for (int64_t i = 0; i < count; ++i, s += stride)
        for (int64_t j = 0; j < lanes; ++j)
            if (s[j] != -infinity) return true;
    return false;
}

// Room that a thread needs to be careful: for pairs, and for rows of a product.
inline int64_t careful_floats(const Call& args, int64_t pairs, int64_t rows, int64_t dim) {
    return isolates(args) ? pairs + rows * padded(dim) : 0;
}

// Which pairs of a tile belong: 0, or -infinity for those that do not. Arguments as of apply_mask.
[[maybe_unused, gnu::cold]]
void find_pairs(const Call& args, Across across, Head head, int64_t kind, int64_t q, int64_t k,
                int64_t count, int64_t lanes, float* pairs, int64_t stride) {
    for (int64_t i = 0; i < count; ++i)
        std::fill(pairs + i * stride, pairs + i * stride + lanes, 0.0f);
    apply_mask(args, across, head, kind, q, k, count, lanes, pairs, stride);
}

// Weights of pairs that do not belong become 0, whatever a NaN made of them.
[[maybe_unused, gnu::cold]]
void clear(const float* pairs, int64_t count, int64_t lanes, float* weights, int64_t stride) {
    for (int64_t i = 0; i < count; ++i)
        for (int64_t j = i * stride; j < i * stride + lanes; ++j)
            weights[j] = pairs[j] == 0 ? weights[j] : 0.0f;
}

// C += A B as `product`, where B may hold NaN and infinity: they count only in pairs (i, k) that
// belong, of `depth` numbers. A is 0 in others. room: for as many rows as B has.
template <class Number>
[[gnu::cold]]
void product_apart(int64_t m, int64_t n, int64_t depth, View a, View pairs, Rows b, float* room,
                   float* c, int64_t ldc) {
    const int64_t stride = padded(n);
    const auto number = [](float cell, int64_t k) {
        return Number::number(cell, k % Number::per_cell);
    };
    bool all_finite = true;
    for (int64_t row = 0; row < cells<Number>(depth); ++row)
        for (int64_t d = 0; d < n; ++d) {
            float cell = b.at(row)[d];
            for (int64_t which = 0; which < Number::per_cell; ++which) {
                if (__builtin_isfinite(Number::number(cell, which))) continue;
                cell = Number::with(cell, which, 0.0f);
                all_finite = false;
            }
            room[row * stride + d] = cell;
        }
    product<Number, true>(m, n, cells<Number>(depth), a, room, stride, c, ldc);
    if (all_finite) return;
    for (int64_t k = 0; k < depth; ++k)
        for (int64_t i = 0; i < m; ++i) {
            if (pairs.data[i * pairs.row + k * pairs.col] != 0) continue;
            const int64_t row = k / Number::per_cell;
            const float weight = number(a.data[i * a.row + row * a.col], k);
            for (int64_t d = 0; d < n; ++d) {
                const float x = number(b.at(row)[d], k);
                if (!__builtin_isfinite(x)) c[i * ldc + d] += weight * x;
            }
        }
}

}  // namespace
}  // namespace bslang

#endif  // BSLANG_APART_H

// softmax.h: what an online softmax holds for a tile of queries, and the steps of keys that it meets.

#ifndef BSLANG_SOFTMAX_H
#define BSLANG_SOFTMAX_H

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "apart.h"
#include "arguments.h"
#include "layout.h"
#include "places.h"
#include "tensors.h"
#include "vector.h"
#include "walk.h"

namespace bslang {
namespace {

// What a tile of queries holds of the keys met so far.
struct Sums {
    float* acc;  // (queries, value dim) output before division by l
    float* m;    // (queries) greatest score, base 2
    float* l;    // (queries) sum of 2^(score - m)

    static int64_t floats(int64_t queries, int64_t stride) {
        return queries * stride + 2 * padded(queries);
    }
    Sums(float* buffer, int64_t queries, int64_t stride)
        : acc(buffer), m(acc + queries * stride), l(m + padded(queries)) {}

    // Of no key. stride: of acc.
    void clear(int64_t size, int64_t stride) const {
        std::fill(acc, acc + size * stride, 0.0f);
        std::fill(m, m + padded(size), -infinity);
        std::fill(l, l + padded(size), 0.0f);
    }
};

// What a thread needs for one tile of queries. Of few queries (see few.h), q, s and pairs lie the other way
// round: (queries, dim) and (queries, step_k).
struct Softmax : Sums {
    static constexpr int64_t lanes = lanes_q;
    static int64_t width_of(const Call& args) { return padded(std::max(args.q.dim, args.v.dim)); }
    static int64_t floats(const Call& args) {
        const int64_t dim = padded(args.q.dim), value_dim = padded(args.v.dim);
        return Sums::floats(lanes, width_of(args)) + lanes * (dim + step_k + 1) +
               step_k * (dim + value_dim) +
               careful_floats(args, step_k * lanes, step_k, args.v.dim);
    }
    Softmax(float* buffer, const Call& args)
        : Sums(buffer, lanes, width_of(args)),
          q(buffer + Sums::floats(lanes, width_of(args))),
          s(q + padded(args.q.dim) * lanes),
          alpha(s + step_k * lanes),
          k(alpha + lanes),
          v(k + step_k * padded(args.q.dim)),
          pairs(v + step_k * padded(args.v.dim)),
          room(pairs + step_k * lanes) {}

    // Multiplies the output of a query so far by alpha, which is 1 where a step brings no new maximum.
    void rescale(int64_t i, int64_t stride, int64_t columns) const {
        if (alpha[i] == 1.0f) return;
        float* row = acc + i * stride;
        for (int64_t d = 0; d < columns; d += width) store(row + d, load(row + d) * alpha[i]);
    }

    float* q;      // (dim, lanes) in cells; floats times score_factor
    float* s;      // (step_k, lanes) scores, then weights, in cells of keys
    float* alpha;  // (lanes) what this step multiplies the sums so far by
    float *k, *v;  // (step_k, their dim) for what cannot be read in place, and values in pairs
    float* pairs;  // (step_k, lanes) which belong, for a careful pass
    float* room;   // (step_k, value dim) for it
};

// Whether sums have met a NaN, which a careful pass keeps from queries that do not attend to it.
inline bool needs_care(const Call& args, const Sums& sums, int64_t size) {
    const int64_t dim = args.v.dim;
    return isolates(args) && has_nan({sums.acc, padded(dim)}, size, padded(dim, width));
}

// Keys that a tile of queries meets at a time, all in blocks of one class.
struct Step {
    int64_t at, count, kind;
};

// Calls visit(step, next) for the steps of a block row; the last one is its own next.
template <class Visit>
inline void each_step(const Call& args, Head head, int64_t program, Visit visit) {
    Step step{0, 0, 0};
    const auto each = [&](int64_t start, int64_t stop, int64_t kind) {
        const Range run = common({start * block_k, stop * block_k}, all_keys(args, head.batch));
        const int64_t largest = may_be_unseen(args, kind) ? std::min(step_k, block_k) : step_k;
        for (int64_t at = run.start; at < run.stop; at += largest) {
            const Step next{at, std::min(largest, run.stop - at), kind};
            if (step.count != 0) visit(step, next);
            step = next;
        }
    };
    each_run_of_keys(args, head, program, each);
    if (step.count != 0) visit(step, step);
}

// What the sink of a query adds to the sum of 2^(score - m).
inline float sink_weight(const Call& args, Head head, int64_t query, float m) {
    return std::exp2(Head{0, head.head}.number(args.sinks, query) / ln_2 - m);
}

// Output and log-sum-exp of the queries of a range, of all their keys.
[[maybe_unused]] void finish(const Call& args, const Sums& sums, Head head, Range range) {
    const int64_t dim = args.v.dim, stride = padded(dim);
    const int64_t first = range.start - place_of(args, head.batch).q_start;
    for (int64_t i = 0; i < range.size(); ++i) {
        const float l = sums.l[i];
        float* row = sums.acc + i * stride;
        if (l == 0) std::fill(row, row + dim, 0.0f);  // no keys: 0, though a value met be NaN
        const float sum = args.sinks.data ? l + sink_weight(args, head, first + i, sums.m[i]) : l;
        write_row(args.out, head, first + i, row, l == 0 ? 0 : 1 / sum);
        head.number(args.lse, first + i) = l == 0 ? -infinity : sums.m[i] * ln_2 + std::log(l);
    }
}

}  // namespace
}  // namespace bslang

#endif  // BSLANG_SOFTMAX_H

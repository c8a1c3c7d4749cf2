// forward.h: the forward pass: an online softmax over steps of keys.

#ifndef BSLANG_FORWARD_H
#define BSLANG_FORWARD_H

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "apart.h"
#include "arguments.h"
#include "layout.h"
#include "numbers.h"
#include "product.h"
#include "scores.h"
#include "tensors.h"
#include "threads.h"
#include "tiles.h"
#include "vector.h"
#include "walk.h"

namespace bslang {
namespace {

// Scores are stored transposed, a row for each key and a lane for each query. Maxima and sums then
// run lane by lane, and the next product reads the transposed weights as they lie.

// Whether a call has so few queries, as a step of decoding has, that keys are better read along their
// dimension than one number at a time. Of a call and not of a tile, so that no tiling changes a bit.
inline bool few_queries(const Arguments& args) { return args.len_q <= 4; }

// What a thread needs for one tile of queries.
struct Softmax {
    static constexpr int64_t lanes = lanes_q;
    static int64_t floats(const Call& args) {
        const int64_t dim = args.q.dim, value_dim = args.v.dim;
        return lanes * (padded(dim, 4) + step_k + padded(std::max(dim, value_dim)) + 3) +
               step_k * (padded(dim) + padded(value_dim)) +
               careful_floats(args, step_k * lanes, step_k, value_dim);
    }
    Softmax(float* buffer, const Call& args)
        : q(buffer),
          s(q + padded(args.q.dim, 4) * lanes),
          acc(s + step_k * lanes),
          m(acc + lanes * padded(std::max(args.q.dim, args.v.dim))),
          l(m + lanes),
          alpha(l + lanes),
          k(alpha + lanes),
          v(k + step_k * padded(args.q.dim)),
          pairs(v + step_k * padded(args.v.dim)),
          room(pairs + step_k * lanes) {}

    float* q;      // (dim, lanes), or (few queries, dim), in cells; floats times score_factor
    float* s;      // (step_k, lanes) scores, then weights, in cells of keys
    float* acc;    // (lanes, value dim) output before division by l; queries before that
    float* m;      // (lanes) greatest score so far, base 2
    float* l;      // (lanes) sum of 2^(score - m)
    float* alpha;  // (lanes) what this step multiplies the sums so far by
    float *k, *v;  // (step_k, their dim) for what cannot be read in place, and values in pairs
    float* pairs;  // (step_k, lanes) which belong, for a careful pass
    float* room;   // (step_k, value dim) for it
};

// One step of the online softmax for `n` vectors of lanes from one on, side by side: each of its sums and
// maxima is a chain that waits for itself.
template <class Number, int n>
inline void weigh_lanes(const Softmax& own, int64_t lane, int64_t count) {
    const vec least = all(least_exponent);
    float* s = own.s + lane;
    vec m[n], base[n], alpha[n], sum[n] = {};
#pragma GCC unroll 4
    for (int j = 0; j < n; ++j) m[j] = load(own.m + lane + j * width);
    for (int64_t i = 0; i < count; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < n; ++j) {
            const vec x = load(s + i * own.lanes + j * width);
            m[j] = x > m[j] ? x : m[j];
        }
#pragma GCC unroll 4
    for (int j = 0; j < n; ++j) {
        base[j] = m[j] == all(-infinity) ? vec{} : m[j];  // no key yet: -inf - -inf would be NaN
        alpha[j] = exp2(load(own.m + lane + j * width) - base[j], least);
    }
    const auto weight = [&](int64_t i, int j) {
        const vec x = load(s + i * own.lanes + j * width);
        const vec p = exp2<Number::per_cell == 1>(x - base[j], least);
        sum[j] += p;
        return p;
    };
    int64_t i = 0;
    for (; i + Number::per_cell <= count; i += Number::per_cell) {
        float* to = s + i / Number::per_cell * own.lanes;
#pragma GCC unroll 4
        for (int j = 0; j < n; ++j) {
            const vec p = weight(i, j);
            if constexpr (Number::per_cell == 1)
                store(to + j * width, p);
            else
                store(to + j * width, Number::paired(p, weight(i + 1, j)));
        }
    }
    if constexpr (Number::per_cell > 1)
        if (i < count)  // a last key without a neighbour
            for (int j = 0; j < n; ++j)
                store(s + i / 2 * own.lanes + j * width, Number::paired(weight(i, j), vec{}));
#pragma GCC unroll 4
    for (int j = 0; j < n; ++j) {
        const int64_t at = lane + j * width;
        store(own.m + at, m[j]);
        store(own.l + at, load(own.l + at) * alpha[j] + sum[j]);
        store(own.alpha + at, alpha[j]);
    }
}

// One step of the online softmax: scores of `count` keys to weights.
template <class Number>
__attribute__((noinline)) void weigh(const Softmax& own, int64_t lanes, int64_t count) {
    constexpr int n = static_cast<int>(vectors);
    int64_t lane = 0;
    for (; lane + n * width <= lanes; lane += n * width)
        weigh_lanes<Number, n>(own, lane, count);
    for (; lane < lanes; lane += width) weigh_lanes<Number, 1>(own, lane, count);
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

// Adds a step of keys to what a tile of queries holds. ahead: read after that. careful: see apart.h.
template <class Number>
__attribute__((noinline)) void forward_step(const Call& args, const Softmax& own,
                                            Head head, Range range, const Step& step,
                                            const Ahead& ahead, bool careful) {
    const int64_t stride = padded(args.v.dim), columns = padded(args.v.dim, width);
    const int64_t size = range.size(), lanes = padded(size, width);
    const Head key_head = head.key_head(args);
    // Scores of keys that are not there are NaN where no mask hides them: they are not those of others.
    each_piece<Number>(args.k, key_head, step.at, step.count, own.k, not_a_number,
                       [&](Rows k, int64_t first, int64_t many) {
                           float* s = own.s + first * own.lanes;
                           if (few_queries(args))
                               return dot_product<Number>(many, size, cells<Number>(args.q.dim),
                                                          k.view(), own.q, padded(args.q.dim), s,
                                                          own.lanes, score_factor(args));
                           product<Number, false>(many, lanes, cells<Number>(args.q.dim), k.view(),
                                                  own.q, own.lanes, s, own.lanes,
                                                  score_factor(args));
                       });
    if (capped(args)) cap_scores(args, step.count, lanes, own.s, own.lanes);
    apply_mask(args, across_queries, head, step.kind, range.start, step.at, step.count, size, own.s,
               own.lanes);
    if (may_be_unseen(args, step.kind) && !any_seen(own.s, step.count, size, own.lanes)) return;
    const bool few = few_queries(args);  // whose weights stay floats: values are then not paired
    if (few)
        weigh<Single>(own, lanes, step.count);
    else
        weigh<Number>(own, lanes, step.count);
    for (int64_t i = 0; i < size; ++i) {
        if (own.alpha[i] == 1.0f) continue;  // most steps bring no new maximum
        float* row = own.acc + i * stride;
        for (int64_t d = 0; d < columns; d += width)
            store(row + d, load(row + d) * own.alpha[i]);
    }
    const bool apart = isolates(args) && careful && partial(step.kind);
    if (apart)
        find_pairs(args, across_queries, head, step.kind, range.start, step.at, step.count, size,
                   own.pairs, own.lanes);
    const View p{own.s, 1, own.lanes}, pairs{own.pairs, 1, own.lanes};
    // In one piece: where a sum is cut decides its bits.
    const auto add = [&](auto number, Rows v) {
        using Of = decltype(number);
        if (apart)
            product_apart<Of>(size, columns, step.count, p, pairs, v, own.room, own.acc, stride);
        else
            product<Of, true>(size, columns, cells<Of>(step.count), p, v.data, v.stride, own.acc,
                              stride, 1.0f, ahead);
    };
    if (few && !apart && widens(args.v, key_head, step.at, step.count)) {
        const uint16_t* v =
            static_cast<const uint16_t*>(args.v.data) + key_head.offset(args.v, step.at);
        product<Widened, true>(size, columns, step.count, p, v, args.v.row, own.acc, stride);
    } else if (few) {
        add(Single(), read_depth<Single>(args.v, key_head, step.at, step.count, own.v));
    } else {
        add(Number(), read_depth<Number>(args.v, key_head, step.at, step.count, own.v));
    }
}

// Attends from the queries of a range to the keys of their block row.
template <class Number>
[[gnu::noinline]]
void attend(const Call& args, const Softmax& own, Head head, int64_t program, Range range,
            bool careful) {
    const int64_t stride = padded(args.v.dim);
    const int64_t first = range.start - place_of(args, head.batch).q_start, size = range.size();
    const int64_t depth = cells<Number>(args.q.dim);
    const Rows q = read_rows<Number>(args.q, head, first, size, own.acc);  // free until later
    if (few_queries(args)) {
        copy_rows<Number>(q, size, depth, score_factor(args), own.q, padded(args.q.dim));
        std::fill(own.s, own.s + step_k * own.lanes, 0.0f);  // lanes that no dot product writes
    } else {
        transpose<Number>(q, size, depth, score_factor(args), own.q, own.lanes);
    }
    std::fill(own.acc, own.acc + size * stride, 0.0f);
    std::fill(own.m, own.m + own.lanes, -infinity);
    std::fill(own.l, own.l + own.lanes, 0.0f);

    each_step(args, head, program, [&](const Step& step, const Step& next) {
        Ahead keys{};
        if (in_place<Number>(args.k)) {
            const Rows rows = lying<Number>(args.k, head.key_head(args), next.at);
            keys = {rows.data, rows.stride, piece(args.k, next.at, next.count), depth};
        }
        forward_step<Number>(args, own, head, range, step, keys, careful);
    });
}

// What the sink of a query adds to the sum of 2^(score - m).
inline float sink_weight(const Call& args, Head head, int64_t query, float m) {
    return std::exp2(Head{0, head.head}.number(args.sinks, query) / ln_2 - m);
}

// Output and log-sum-exp of a tile of queries.
template <class Number>
[[gnu::noinline]]
void forward_tile(const Call& args, const Softmax& own, Head head, const Tile& tile) {
    const int64_t dim = args.v.dim, stride = padded(dim);
    const Range range =
        common(range_of(args.by_row, block_q, tile), all_queries(args, head.batch));
    const int64_t first = range.start - place_of(args, head.batch).q_start, size = range.size();
    if (size == 0) return;
    attend<Number>(args, own, head, tile.program, range, false);
    if (isolates(args) && has_nan({own.acc, stride}, size, padded(dim, width)))
        attend<Number>(args, own, head, tile.program, range, true);
    for (int64_t i = 0; i < size; ++i) {
        const float l = own.l[i];
        float* row = own.acc + i * stride;
        if (l == 0) std::fill(row, row + dim, 0.0f);  // no keys: 0, though a value met be NaN
        const float sum = args.sinks.data ? l + sink_weight(args, head, first + i, own.m[i]) : l;
        write_row(args.out, head, first + i, row, l == 0 ? 0 : 1 / sum);
        head.number(args.lse, first + i) = l == 0 ? -infinity : own.m[i] * ln_2 + std::log(l);
    }
}

template <class Number>
void forward_pass(const Call& args) {
    const int64_t heads = args.batch * args.heads;
    use_large_pages(args.out, heads * args.len_q);
    // Sequences that stand at places of their own have tiles of their own.
    const int64_t parts = args.places == nullptr ? 1 : args.batch;
    const int64_t of_part = args.places == nullptr ? heads : args.heads;
    std::vector<std::vector<Tile>> tiles;
    std::vector<int64_t> ends;  // of the tasks of each part
    for (int64_t part = 0, end = 0; part < parts; ++part) {
        tiles.push_back(
            tiles_of(args, args.by_row, all_queries(args, part), block_q, tile_q, heads));
        ends.push_back(end += of_part * static_cast<int64_t>(tiles.back().size()));
    }
    const int64_t tasks = ends.empty() ? 0 : ends.back();
    const int64_t floats = padded(Softmax::floats(args));
    const Buffer buffer(args.threads * floats);
#pragma omp parallel for num_threads(args.threads) schedule(dynamic)
    for (int64_t task = 0; task < tasks; ++task) {
        [[maybe_unused]] const Multiplying<Number> multiplying;
        const int64_t part = std::upper_bound(ends.begin(), ends.end(), task) - ends.begin();
        const int64_t count = static_cast<int64_t>(tiles[part].size());
        const int64_t within = task - (ends[part] - of_part * count);
        const int64_t head = part * of_part + within / count;  // of all in the batch
        const Softmax own(buffer.at(this_thread() * floats), args);
        forward_tile<Number>(args, own, {head / args.heads, head % args.heads},
                     tiles[part][within % count]);
    }
}

}  // namespace
}  // namespace bslang

#endif  // BSLANG_FORWARD_H

// forward.h: the forward pass: an online softmax over steps of keys.

#ifndef BSLANG_FORWARD_H
#define BSLANG_FORWARD_H

#include <algorithm>
#include <cstdint>
#include <vector>

#include "apart.h"
#include "arguments.h"
#include "layout.h"
#include "numbers.h"
#include "product.h"
#include "scores.h"
#include "softmax.h"
#include "tensors.h"
#include "threads.h"
#include "tiles.h"
#include "vector.h"
#include "walk.h"

namespace bslang {
namespace {

// Scores are stored transposed, a row for each key and a lane for each query. Maxima and sums then
// run lane by lane, and the next product reads the transposed weights as they lie.

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
                           product<Number, false>(many, lanes, cells<Number>(args.q.dim), k.view(),
                                                  own.q, own.lanes, own.s + first * own.lanes,
                                                  own.lanes, score_factor(args));
                       });
    if (capped(args)) cap_scores(args, step.count, lanes, own.s, own.lanes);
    apply_mask(args, across_queries, head, step.kind, range.start, step.at, step.count, size, own.s,
               own.lanes);
    if (may_be_unseen(args, step.kind) && !any_seen(own.s, step.count, size, own.lanes)) return;
    weigh<Number>(own, lanes, step.count);
    for (int64_t i = 0; i < size; ++i) own.rescale(i, stride, columns);
    const View p{own.s, 1, own.lanes}, pairs{own.pairs, 1, own.lanes};
    // In one piece: where a sum is cut decides its bits.
    const Rows v = read_depth<Number>(args.v, key_head, step.at, step.count, own.v);
    if (isolates(args) && careful && partial(step.kind)) {
        find_pairs(args, across_queries, head, step.kind, range.start, step.at, step.count, size,
                   own.pairs, own.lanes);
        product_apart<Number>(size, columns, step.count, p, pairs, v, own.room, own.acc, stride);
    } else {
        product<Number, true>(size, columns, cells<Number>(step.count), p, v.data, v.stride,
                              own.acc, stride, 1.0f, ahead);
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
    transpose<Number>(q, size, depth, score_factor(args), own.q, own.lanes);
    own.clear(size, stride);
    each_step(args, head, program, [&](const Step& step, const Step& next) {
        const Ahead keys = ahead_of(args.k, head.key_head(args), next.at, next.count);
        forward_step<Number>(args, own, head, range, step, keys, careful);
    });
}

// Output and log-sum-exp of a tile of queries.
template <class Number>
[[gnu::noinline]]
void forward_tile(const Call& args, const Softmax& own, Head head, const Tile& tile) {
    const Range range =
        common(range_of(args.by_row, block_q, tile), all_queries(args, head.batch));
    const int64_t size = range.size();
    if (size == 0) return;
    attend<Number>(args, own, head, tile.program, range, false);
    if (needs_care(args, own, size))
        attend<Number>(args, own, head, tile.program, range, true);
    finish(args, own, head, range);
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

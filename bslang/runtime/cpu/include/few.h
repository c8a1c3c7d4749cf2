// few.h: the forward pass of a call with few queries, as a step of decoding has.

#ifndef BSLANG_FEW_H
#define BSLANG_FEW_H

#include <algorithm>
#include <cstdint>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include "apart.h"
#include "arguments.h"
#include "dots.h"
#include "layout.h"
#include "numbers.h"
#include "product.h"
#include "scores.h"
#include "softmax.h"
#include "tensors.h"
#include "threads.h"
#include "vector.h"
#include "walk.h"

namespace bslang {
namespace {

// Such a call computes little with each key: it takes as long as keys and values take to be read. A lane
// for each query would leave most lanes empty, so scores have a row for each query and a lane for each
// key. Keys and values are read row after row, and each is asked for while the one before is computed with.

// Scores of `m` queries and `count` keys, (m, step_k), times a factor where `product` would.
template <class Number, int64_t m>
inline void scores_of(int64_t count, int64_t depth, View keys, const float* q, int64_t ldq,
                      float* s, float factor, const Ahead& ahead) {
    constexpr int64_t n = width / m;  // keys at a time
    for (int64_t first = 0; first < count; first += n) {
        ahead.fetch(first, n);
        const vec found = dots<Number, m>(count - first, depth, keys.from_row(first), q, ldq) *
                          (Number::per_cell > 1 ? factor : 1.0f);
        float lanes[width];
        store(lanes, found);
        for (int64_t i = 0; i < m; ++i)
            std::memcpy(s + i * step_k + first, lanes + i * n,
                        std::min(n, count - first) * sizeof(float));
    }
}

// The same for any number of queries: q has rows of zeros up to a multiple of 4, and s room for their scores.
template <class Number>
__attribute__((noinline)) void few_scores(int64_t size, int64_t count, int64_t depth, View keys,
                                          const float* q, int64_t ldq, float* s, float factor,
                                          Ahead ahead) {
    for (int64_t i = 0; i < size; i += 4, q += 4 * ldq, s += 4 * step_k, ahead = {}) {
        if (size - i == 1)
            scores_of<Number, 1>(count, depth, keys, q, ldq, s, factor, ahead);
        else if (size - i == 2)
            scores_of<Number, 2>(count, depth, keys, q, ldq, s, factor, ahead);
        else
            scores_of<Number, 4>(count, depth, keys, q, ldq, s, factor, ahead);
    }
}

inline float greatest(vec x) {
    float most = x[0];
    for (int64_t j = 1; j < width; ++j) most = x[j] > most ? x[j] : most;
    return most;
}

inline float total(vec x) {
    float sum = x[0];
    for (int64_t j = 1; j < width; ++j) sum += x[j];
    return sum;
}

// One step of the online softmax: scores of a query with keys, lanes beyond them -inf, to weights.
inline void weigh_row(const Softmax& own, int64_t query, float* s, int64_t lanes) {
    const vec least = all(least_exponent);
    vec most = all(own.m[query]);
    for (int64_t j = 0; j < lanes; j += width) {
        const vec x = load(s + j);
        most = x > most ? x : most;
    }
    const float m = greatest(most), base = m == -infinity ? 0.0f : m;
    vec sum{};
    for (int64_t j = 0; j < lanes; j += width) {
        const vec p = exp2(load(s + j) - base, least);
        store(s + j, p);
        sum += p;
    }
    own.alpha[query] = exp2(all(own.m[query] - base), least)[0];
    own.m[query] = m;
    own.l[query] = own.l[query] * own.alpha[query] + total(sum);
}

// Adds a step of keys to what a tile of few queries holds. next: read after that. careful: see apart.h.
template <class Number>
__attribute__((noinline)) void few_step(const Call& args, const Softmax& own, Head head,
                                        Range range, const Step& step, const Step& next,
                                        bool careful) {
    const int64_t stride = padded(args.v.dim), columns = padded(args.v.dim, width);
    const int64_t size = range.size(), lanes = padded(step.count, width);
    const Head key_head = head.key_head(args);
    const Ahead values = ahead_of(args.v, key_head, step.at, step.count);
    // Scores of keys that are not there are NaN where no mask hides them: they are not those of others.
    each_piece<Number>(args.k, key_head, step.at, step.count, own.k, not_a_number,
                       [&](Rows k, int64_t first, int64_t many) {
                           few_scores<Number>(size, many, cells<Number>(args.q.dim), k.view(),
                                              own.q, padded(args.q.dim), own.s + first,
                                              score_factor(args), values);
                       });
    if (capped(args)) cap_scores(args, size, lanes, own.s, step_k);
    apply_mask(args, across_keys, head, step.kind, range.start, step.at, size, step.count, own.s,
               step_k);
    if (may_be_unseen(args, step.kind) && !any_seen(own.s, size, step.count, step_k)) return;
    for (int64_t i = 0; i < size; ++i) {
        float* s = own.s + i * step_k;
        std::fill(s + step.count, s + lanes, -infinity);
        weigh_row(own, i, s, lanes);
        own.rescale(i, stride, columns);
    }
    const bool apart = isolates(args) && careful && partial(step.kind);
    if (apart)
        find_pairs(args, across_keys, head, step.kind, range.start, step.at, size, step.count,
                   own.pairs, step_k);
    const Ahead keys = ahead_of(args.k, key_head, next.at, next.count);
    const auto add = [&](auto number, auto* v, int64_t ldv) {
        using Of = decltype(number);
        constexpr int64_t some = 16;
        for (int64_t i = 0; i < step.count; i += some) {
            const View p{own.s + i, step_k, 1}, pairs{own.pairs + i, step_k, 1};
            const int64_t depth = std::min(some, step.count - i);
            keys.fetch(i, some);
            if constexpr (std::is_same_v<Of, Single>)
                if (apart) {
                    product_apart<Of>(size, columns, depth, p, pairs, Rows{v + i * ldv, ldv}, own.room,
                                      own.acc, stride);
                    continue;
                }
            product<Of, true>(size, columns, depth, p, v + i * ldv, ldv, own.acc, stride);
        }
    };
    if (!apart && widens(args.v, key_head, step.at, step.count)) {
        const uint16_t* v =
            static_cast<const uint16_t*>(args.v.data) + key_head.offset(args.v, step.at);
        return add(Widened(), v, args.v.row);
    }
    const Rows v = read_rows<Single>(args.v, key_head, step.at, step.count, own.v);
    add(Single(), v.data, v.stride);
}

// A tile of queries of a head, and the steps of keys that it meets. Threads take them in stretches of so many
// steps, whatever the number of threads, so that it changes no bit.
struct FewTile {
    static constexpr int64_t stretch = 8;
    Head head;
    Range range;
    std::vector<Step> steps;
    int64_t first;  // the number of its first stretch

    int64_t count() const { return static_cast<int64_t>(steps.size()); }
    int64_t stretches() const { return std::max<int64_t>((count() + stretch - 1) / stretch, 1); }
};

[[maybe_unused, gnu::cold]] std::vector<FewTile> few_tiles(const Call& args) {
    // Whether all heads see the same: labels may be one for all of them, as padding is.
    const bool alike = !args.layout.by_head && args.label_heads <= 1 && args.selections == nullptr;
    std::vector<FewTile> tiles;
    int64_t next = 0;
    for (int64_t batch = 0; batch < args.batch; ++batch) {
        const Range queries = all_queries(args, batch);
        const Range programs = programs_of(args.by_row, block_q, queries);
        for (int64_t program = programs.start; program < programs.stop; ++program) {
            const Range range = common(range_of(args.by_row, block_q, {program, 0, block_q}), queries);
            std::vector<Step> steps;
            for (int64_t head = 0; head < args.heads && range.size() > 0; ++head) {
                if (head == 0 || !alike) {
                    steps.clear();
                    each_step(args, {batch, head}, program,
                              [&](const Step& step, const Step&) { steps.push_back(step); });
                }
                tiles.push_back({{batch, head}, range, steps, next});
                next += tiles.back().stretches();
            }
        }
    }
    return tiles;
}

// Attends from a tile to the keys of a stretch of its steps.
template <class Number>
[[gnu::noinline]]
void attend_few(const Call& args, const Softmax& own, const FewTile& tile, int64_t stretch,
                bool careful) {
    const int64_t stride = padded(args.q.dim), size = tile.range.size(), all = padded(size, 4);
    const int64_t query = tile.range.start - place_of(args, tile.head.batch).q_start;
    const Rows q = read_rows<Number>(args.q, tile.head, query, size, own.k);  // free until later
    copy_rows<Number>(q, size, cells<Number>(args.q.dim), score_factor(args), own.q, stride);
    std::fill(own.q + size * stride, own.q + all * stride, 0.0f);
    own.clear(size, padded(args.v.dim));
    const int64_t first = stretch * FewTile::stretch, last = tile.count() - 1;
    for (int64_t i = first; i <= std::min(first + FewTile::stretch - 1, last); ++i)
        few_step<Number>(args, own, tile.head, tile.range, tile.steps[i],
                         tile.steps[std::min(i + 1, last)], careful);
}

// Adds other sums of a tile to some. Those of a query that has seen no key count for nothing, though a value
// met be NaN.
[[maybe_unused]] void add_sums(const Sums& to, const Sums& from, int64_t size, int64_t stride) {
    for (int64_t i = 0; i < size; ++i) {
        if (from.l[i] == 0) continue;
        const float m = to.l[i] == 0 ? from.m[i] : std::max(to.m[i], from.m[i]);
        const float x = to.l[i] == 0 ? 0 : std::exp2(to.m[i] - m), y = std::exp2(from.m[i] - m);
        float *row = to.acc + i * stride, *other = from.acc + i * stride;
        for (int64_t d = 0; d < stride; ++d)
            row[d] = (to.l[i] == 0 ? 0 : row[d] * x) + other[d] * y;
        to.l[i] = to.l[i] * x + from.l[i] * y;
        to.m[i] = m;
    }
}

template <class Number>
void few_pass(const Call& args) {
    const std::vector<FewTile> tiles = few_tiles(args);
    std::vector<int64_t> of_stretch;  // the tile of each
    for (const FewTile& tile : tiles)
        of_stretch.insert(of_stretch.end(), tile.stretches(), &tile - tiles.data());
    const int64_t stretches = static_cast<int64_t>(of_stretch.size()), stride = padded(args.v.dim);
    const int64_t of_thread = padded(Softmax::floats(args));
    const Buffer buffer(args.threads * of_thread);
    const Buffer held(stretches * Sums::floats(args.len_q, stride));
    const auto sums_of = [&](int64_t number) {
        return Sums(held.at(number * Sums::floats(args.len_q, stride)), args.len_q, stride);
    };
#pragma omp parallel num_threads(args.threads)
    {
        Softmax own(buffer.at(this_thread() * of_thread), args);
#pragma omp for schedule(dynamic)
        for (int64_t number = 0; number < stretches; ++number) {
            const FewTile& tile = tiles[of_stretch[number]];
            static_cast<Sums&>(own) = sums_of(number);
            attend_few<Number>(args, own, tile, number - tile.first, false);
            if (needs_care(args, own, tile.range.size()))
                attend_few<Number>(args, own, tile, number - tile.first, true);
        }
#pragma omp for
        for (int64_t number = 0; number < static_cast<int64_t>(tiles.size()); ++number) {
            const FewTile& tile = tiles[number];
            const Sums sums = sums_of(tile.first);
            for (int64_t i = 1; i < tile.stretches(); ++i)
                add_sums(sums, sums_of(tile.first + i), tile.range.size(), stride);
            finish(args, sums, tile.head, tile.range);
        }
    }
}

}  // namespace
}  // namespace bslang

#endif  // BSLANG_FEW_H

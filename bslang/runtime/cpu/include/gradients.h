// gradients.h: what the backward pass holds: for a thread, for a tile of keys, for the queries of a head.

#ifndef BSLANG_GRADIENTS_H
#define BSLANG_GRADIENTS_H

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "apart.h"
#include "arguments.h"
#include "layout.h"
#include "numbers.h"
#include "places.h"
#include "product.h"
#include "scores.h"
#include "tensors.h"
#include "vector.h"
#include "walk.h"

namespace bslang {
namespace {

// What a thread needs.
template <class Number>
struct Gradient {
    static constexpr int64_t lanes = lanes_k, tile = tile_k;
    static constexpr bool pairs_numbers = Number::per_cell > 1;
    static int64_t floats(const Call& args) {
        const int64_t either = wide(args), value = padded(args.v.dim);
        return 2 * step_q * lanes + tile * (padded(args.q.dim) + value + either) +
               step_q * (either + value) +
               (pairs_numbers ? step_q / 2 * (lanes + either + value) : 0) +
               std::max(width * value,
                        careful_floats(args, step_q * lanes, std::max(step_q, tile), either));
    }
    Gradient(float* buffer, const Call& args)
        : p(buffer),
          ds(p + step_q * lanes),
          dk(ds + step_q * lanes),
          dv(dk + tile * padded(args.q.dim)),
          k(dv + tile * padded(args.v.dim)),
          q(k + tile * wide(args)),
          out(q + step_q * wide(args)),
          room(out + step_q * padded(args.v.dim)) {
        if (pairs_numbers) {
            ds_down = room;
            q_down = ds_down + step_q / 2 * lanes;
            out_down = q_down + step_q / 2 * wide(args);
            room = out_down + step_q / 2 * padded(args.v.dim);
        } else {
            ds_down = ds;
            q_down = q;
            out_down = out;
        }
        pairs = room;
        room += isolates(args) ? step_q * lanes : 0;
    }

    // Floats of a row of keys or of values.
    static int64_t wide(const Call& args) { return padded(std::max(args.q.dim, args.v.dim)); }

    float *p, *ds;   // (step_q, lanes) weights, and the gradient of scores
    float *dk, *dv;  // (tile, dim) and (tile, value dim)
    float* k;        // (tile, either dim) for what cannot be read in place, as the next two
    float *q, *out;  // (step_q, either dim) and (step_q, value dim)
    float* room;     // (step_q or tile, either dim) for a careful pass; (value dim, width) for row_sums
    float* pairs;    // (step_q, lanes) which belong, for it

    // ds, q and out as the depth of a product: for bf16 in cells of two rows.
    float *ds_down, *q_down, *out_down;
};

// A tile of keys and of values, transposed: floats times score_factor and times scale.
template <class Number>
struct Keys {
    static constexpr int64_t lanes = lanes_k;
    static int64_t rows_of(const Tensor& tensor) { return padded(cells<Number>(tensor.dim), 4); }
    static int64_t floats(const Call& args) {
        return (rows_of(args.k) + rows_of(args.v)) * lanes;
    }
    Keys(float* buffer, const Call& args) : k(buffer), v(k + rows_of(args.k) * lanes) {}
    Keys from_lane(int64_t lane) const {
        Keys keys = *this;
        keys.k += lane;
        keys.v += lane;
        return keys;
    }

    float *k, *v;  // (dim, lanes) and (value dim, lanes), in cells
};

// A key head of one sequence and the query heads that read it.
struct Pair {
    static int64_t floats(const Call& args, const Held& held) {
        const int64_t in_row = 2 + (holds_dq(args) ? padded(args.dq.dim) : 0);
        return padded(args.heads / args.key_heads * held.count() * in_row);
    }
    // Whether dQ is summed in a buffer.
    static bool holds_dq(const Call& args) {
        return args.dq.data != nullptr && !in_place<Single>(args.dq);
    }
    Pair(const Call& args, const Held& held, int64_t number, float* buffer, bool careful)
        : args(args),
          held(held),
          careful(careful),
          head{number / args.key_heads, number % args.key_heads},
          q_start(place_of(args, head.batch).q_start),
          group(args.heads / args.key_heads),
          lse(buffer),
          delta(lse + group * held.count()),
          dq(delta + group * held.count()) {}

    Head query_head(int64_t member) const { return {head.batch, head.head * group + member}; }

    // Where lse and delta of a query head are, from a given row.
    int64_t at(int64_t member, int64_t row) const { return member * held.count() + held.at(row); }

    // Where a query head's dQ is summed, from a given row.
    Rows dq_of(int64_t member, int64_t row) const {
        if (in_place<Single>(args.dq)) return lying<Single>(args.dq, query_head(member), row);
        const int64_t stride = padded(args.dq.dim);
        return {dq + at(member, row) * stride, stride};
    }

    // Calls visit(rows, first, count) for the rows of dQ of some queries of a head, piece by piece.
    template <class Visit>
    void each_piece(int64_t member, int64_t row, int64_t count, Visit visit) const {
        for (int64_t first = 0, many; first < count; first += many) {
            many = holds_dq(args) ? count : piece(args.dq, row + first, count - first);
            visit(dq_of(member, row + first), first, many);
        }
    }

    // Looks for a NaN in results of a dim.
    void look(Rows rows, int64_t count, int64_t dim) const {
        if (isolates(args) && !careful && has_nan(rows, count, padded(dim, width)))
            lost.store(true, std::memory_order_relaxed);
    }

    const Call& args;
    const Held& held;                       // queries
    bool careful;                           // see apart.h
    mutable std::atomic<bool> lost{false};  // whether a result is NaN
    Head head;
    int64_t q_start, group;
    float* lse;    // (group, held) log-sum-exp, base 2
    float* delta;  // (group, held) times scale
    float* dq;     // (group, held, dim), where dQ cannot be summed in place
};

// Queries of a query head that a tile of keys meets at a time, from the one numbered `first` on.
struct Queries {
    int64_t member, first, count;
};

// Scale times rowsum(O dO) of a step: elements of dO O^T, as those of dP are of dO V^T. For a query with
// one key both are then the same number, and dS is exactly 0.
template <class Number>
void row_sums(Rows out, Rows grad, int64_t count, int64_t dim, float scale,
              const Gradient<Number>& own, float* sums) {
    const int64_t depth = cells<Number>(dim);
    float products[width * width];
    for (int64_t first = 0; first < count; first += width) {
        const int64_t many = std::min(width, count - first);
        transpose<Number>({out.at(first), out.stride}, many, depth, scale, own.room, width);
        product<Number, false>(many, width, depth, {grad.at(first), grad.stride, 1}, own.room,
                               width, products, width, scale);
        for (int64_t i = 0; i < many; ++i) sums[first + i] = products[i * width + i];
    }
}

// What belongs to queries, before anything is added.
template <class Number>
[[gnu::noinline]]
void begin_queries(const Pair& pair, const Gradient<Number>& own, const Queries& step) {
    const Call& args = pair.args;
    const int64_t first = step.first, columns = padded(args.q.dim, width);
    const int64_t begin = pair.at(step.member, first);
    const Head head = pair.query_head(step.member);
    const Rows out = read_rows<Number>(args.out, head, first, step.count, own.out);
    const Rows grad = read_rows<Number>(args.grad_out, head, first, step.count, own.q);
    const float scale = static_cast<float>(args.scale);
    float delta[step_q];
    row_sums(out, grad, step.count, args.v.dim, scale, own, delta);
    for (int64_t i = 0; i < step.count; ++i) {
        const float lse = head.number(args.lse, first + i);
        const bool blind = lse == -infinity;  // no keys: 2^(score - inf) is 0, and so is all else
        pair.lse[begin + i] = blind ? infinity : lse * log2_e;
        pair.delta[begin + i] =
            blind ? 0 : delta[i] - scale * head.number(args.grad_lse, first + i);
    }
    if (args.dq.data == nullptr || args.apart) return;  // see backward_queries
    pair.each_piece(step.member, first, step.count, [&](Rows dq, int64_t, int64_t count) {
        for (int64_t i = 0; i < count; ++i) std::fill(dq.at(i), dq.at(i) + columns, 0.0f);
    });
}

[[maybe_unused, gnu::noinline]] void end_queries(const Pair& pair, const Queries& step) {
    const Tensor& to = pair.args.dq;
    pair.each_piece(step.member, step.first, step.count, [&](Rows dq, int64_t first, int64_t count) {
        pair.look(dq, count, to.dim);
        if (in_place<Single>(to)) return;
        for (int64_t i = 0; i < count; ++i)
            write_row(to, pair.query_head(step.member), step.first + first + i, dq.at(i));
    });
}

template <class Number>
[[gnu::noinline]]
void transpose_keys(const Pair& pair, const Gradient<Number>& own, Range range,
                    const Keys<Number>& to) {
    const Call& args = pair.args;
    const auto turn = [&](const Tensor& tensor, float factor, float* onto) {
        const Rows rows = read_rows<Number>(tensor, pair.head, range.start, range.size(), own.k);
        transpose<Number>(rows, range.size(), cells<Number>(tensor.dim), factor, onto, to.lanes);
    };
    turn(args.k, score_factor(args), to.k);
    turn(args.v, static_cast<float>(args.scale), to.v);
}

}  // namespace
}  // namespace bslang

#endif  // BSLANG_GRADIENTS_H

// backward.h: the backward pass: dQ, dK, dV.

#ifndef BSLANG_BACKWARD_H
#define BSLANG_BACKWARD_H

#include <algorithm>
#include <cstdint>
#include <vector>

#include "apart.h"
#include "arguments.h"
#include "gradients.h"
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

// Block columns are taken in turn, with five products for a tile of keys and a step of queries:
//
//     S = Q K^T    dP = dO V^T    dV += P^T dO    dK += dS^T Q    dQ += dS K
//
// where P = exp(scale S - lse), dS = scale P (dP - delta), delta = rowsum(O dO) - dlse. Scores have
// a row for each query and a lane for each key: only a tile's keys and values need be transposed,
// once. A head that a thread has to itself needs no more. Where threads share a head, or the rows and the
// columns that are asked for are not of the same blocks, one pass over its columns gives dK and dV and
// another over its rows dQ: two products more, but no two threads add to the same place. Each sum has the
// same order either way, so that both give the same bits.

// P and dS of `count` rows, in pairs: of P and of dS two rows in a cell, as the depth of dV and dK, and of
// dS two keys in a cell, as the depth of dQ.
template <class Number>
void pair_weights(const Gradient<Number>& own, int64_t count, int64_t lanes) {
    constexpr int64_t stride = Gradient<Number>::lanes;
    float *const p = own.p, *const ds = own.ds, *const ds_down = own.ds_down;
    for (int64_t i = 0; i < count; i += 2)
        for (int64_t j = 0; j < lanes; j += width) {
            const int64_t at = i * stride + j, to = i / 2 * stride + j, next = at + stride;
            const bool last = i + 1 == count;
            store(p + to, Number::paired(load(p + at), last ? vec{} : load(p + next)));
            store(ds_down + to, Number::paired(load(ds + at), last ? vec{} : load(ds + next)));
        }
    for (int64_t i = 0; i < count; ++i) {
        float* row = ds + i * stride;
        for (int64_t j = 0; j < lanes; j += 2 * width) {
            const bool last = j + width == lanes;
            store(row + j / 2,
                  Number::in_turn(load(row + j), last ? vec{} : load(row + j + width)));
        }
    }
}

// P and dS of a step of queries and a range of keys; false where no pair of them belongs. q, grad: rows of
// the step.
template <class Number>
[[gnu::noinline]]
bool weights(const Pair& pair, const Gradient<Number>& own, const Queries& step, Range range,
             const Keys<Number>& keys, int64_t kind, Rows q, Rows grad) {
    const Call& args = pair.args;
    const int64_t size = range.size(), lanes = padded(size, width), count = step.count;
    constexpr int64_t stride = Gradient<Number>::lanes;
    float *const p = own.p, *const ds = own.ds;
    product<Number, false>(count, lanes, cells<Number>(args.k.dim), q.view(), keys.k, stride, p,
                           stride, score_factor(args));
    product<Number, false>(count, lanes, cells<Number>(args.v.dim), grad.view(), keys.v, stride, ds,
                           stride, static_cast<float>(args.scale));
    const int64_t at = pair.at(step.member, step.first);
    const int64_t position = pair.q_start + step.first;
    const Head head = pair.query_head(step.member);
    const bool cap = capped(args);
    if (cap) cap_gradients(args, count, lanes, pair.delta + at, p, ds, stride);
    apply_mask(args, across_keys, head, kind, position, range.start, count, size, p, stride);
    if (may_be_unseen(args, kind) && !any_seen(p, count, size, stride)) return false;
    const vec least = all(least_exponent);
    for (int64_t i = 0; i < count; ++i) {
        const vec lse = all(pair.lse[at + i]), delta = all(cap ? 0 : pair.delta[at + i]);
        for (int64_t j = i * stride; j < i * stride + lanes; j += width) {
            const vec weight = exp2<Number::per_cell == 1>(load(p + j) - lse, least);
            store(p + j, weight);
            store(ds + j, weight * (load(ds + j) - delta));
        }
    }
    if (isolates(args) && pair.careful && partial(kind)) {
        find_pairs(args, across_keys, head, kind, position, range.start, count, size, own.pairs,
                   stride);
        clear(own.pairs, count, size, p, stride);
        clear(own.pairs, count, size, ds, stride);
    }
    if constexpr (Number::per_cell > 1) pair_weights(own, count, lanes);
    return true;
}

// C += A B, where A is `weights` of the class of blocks `kind`, or their transpose, from a row on. depth:
// in numbers. dim: of B and C.
template <bool transposed, class Number>
[[gnu::noinline]]
void add_product(const Pair& pair, const Gradient<Number>& own, int64_t kind,
                 const float* weights, int64_t m, int64_t depth, Rows b, Rows c, int64_t dim,
                 int64_t first = 0) {
    const auto view = [&](const float* x) {
        return transposed ? View{x, 1, own.lanes} : View{x, own.lanes, 1};
    };
    const int64_t columns = padded(dim, width);
    if (isolates(pair.args) && pair.careful && partial(kind))
        product_apart<Number>(m, columns, depth, view(weights), view(own.pairs + first * own.lanes),
                              b, own.room, c.data, c.stride);
    else
        product<Number, true>(m, columns, cells<Number>(depth), view(weights), b.data, b.stride,
                              c.data, c.stride);
}

// dQ += dS K, where k has the keys as read_depth reads them
template <class Number>
inline void add_dq(const Pair& pair, const Gradient<Number>& own, const Queries& step,
                   int64_t kind, int64_t keys, Rows k) {
    pair.each_piece(step.member, step.first, step.count, [&](Rows dq, int64_t first, int64_t count) {
        add_product<false>(pair, own, kind, own.ds + first * own.lanes, count, keys, k, dq,
                           pair.args.k.dim, first);
    });
}

// dK and dV of a tile of keys, and with `whole` what it adds to dQ.
template <bool whole, class Number>
[[gnu::noinline]]
void backward_keys(const Pair& pair, const Gradient<Number>& own, const Tile& tile,
                   const Keys<Number>& keys) {
    const Call& args = pair.args;
    const int64_t dim = args.k.dim, value_dim = args.v.dim;
    const int64_t batch = pair.head.batch;
    const Range range =
        common(range_of(args.by_col, block_k, tile), all_keys(args, batch));
    const int64_t size = range.size();
    if (size == 0) return;
    const Rows dk{own.dk, padded(dim)}, dv{own.dv, padded(value_dim)};
    std::fill(dk.data, dk.at(size), 0.0f);
    std::fill(dv.data, dv.at(size), 0.0f);
    const Rows k = whole ? read_depth<Number>(args.k, pair.head, range.start, size, own.k) : Rows{};
    for (int64_t member = 0; member < pair.group; ++member) {
        const Head head = pair.query_head(member);
        const auto visit = [&](int64_t start, int64_t stop, int64_t kind) {
            const Range run = common({start * block_q, stop * block_q}, all_queries(args, batch));
            for (int64_t at = run.start; at < run.stop; at += step_q) {
                const int64_t first = at - pair.q_start;
                const Queries step{member, first, std::min(step_q, run.stop - at)};
                const Rows q = read_rows<Number>(args.q, head, first, step.count, own.q);
                const Rows grad = read_rows<Number>(args.grad_out, head, first, step.count, own.out);
                if (!weights(pair, own, step, range, keys, kind, q, grad)) continue;
                const auto down = [&](const Tensor& tensor, Rows rows, float* buffer) {
                    if (Number::per_cell == 1) return rows;
                    return read_depth<Number>(tensor, head, first, step.count, buffer);
                };
                add_product<true>(pair, own, kind, own.p, size, step.count,
                                  down(args.grad_out, grad, own.out_down), dv, value_dim);
                add_product<true>(pair, own, kind, own.ds_down, size, step.count,
                                  down(args.q, q, own.q_down), dk, dim);
                if (whole) add_dq(pair, own, step, kind, size, k);
            }
        };
        each_run_of_queries(args, head, tile.program, visit);
    }
    pair.look(dk, size, dim);
    pair.look(dv, size, value_dim);
    for (int64_t i = 0; i < size; ++i) {
        write_row(args.dk, pair.head, range.start + i, dk.at(i));
        write_row(args.dv, pair.head, range.start + i, dv.at(i));
    }
}

// dQ of a tile of queries, in the order of the tiles of keys. keys_of(tile): transposed before.
template <class Number, class KeysOf>
[[gnu::noinline]]
void backward_queries(const Pair& pair, const Gradient<Number>& own, const Tile& tile,
                      int64_t member, KeysOf keys_of) {
    const Call& args = pair.args;
    constexpr int64_t tiles = tiles_k;
    const Head head = pair.query_head(member);
    const Range of_q =
        common(range_of(args.by_row, block_q, tile), all_queries(args, head.batch));
    const int64_t first = of_q.start - pair.q_start;
    const Queries step{member, first, of_q.size()};
    if (step.count == 0) return;
    if (args.apart) {
        const int64_t columns = padded(args.q.dim, width);
        pair.each_piece(member, first, step.count, [&](Rows dq, int64_t, int64_t count) {
            for (int64_t i = 0; i < count; ++i) std::fill(dq.at(i), dq.at(i) + columns, 0.0f);
        });
    }
    const Rows q = read_rows<Number>(args.q, head, first, step.count, own.q);
    const Rows grad = read_rows<Number>(args.grad_out, head, first, step.count, own.out);
    const auto visit = [&](int64_t start, int64_t stop, int64_t kind) {
        for (int64_t number = start * tiles; number < stop * tiles; ++number) {
            const Range range = keys_in(args, head.batch, number);
            if (range.size() == 0) continue;
            if (!weights(pair, own, step, range, keys_of(number), kind, q, grad)) continue;
            const int64_t size = range.size();
            const Rows k = read_depth<Number>(args.k, pair.head, range.start, size, own.k);
            add_dq(pair, own, step, kind, size, k);
        }
    };
    each_run_of_keys(args, head, tile.program, visit);
    end_queries(pair, step);
}

template <class Number>
void backward_pass(const Call& args) {
    constexpr int64_t tile = tile_k, tiles = tiles_k;  // of a block of keys
    const int64_t pairs = args.batch * args.key_heads, threads = args.threads;
    if (pairs == 0) return;
    use_large_pages(args.dq, args.batch * args.heads * args.len_q);
    use_large_pages(args.dk, pairs * args.len_k);
    use_large_pages(args.dv, pairs * args.len_k);
    const int64_t group = args.heads / args.key_heads;
    const Order order = order_of(args, pairs);
    const int64_t alone = order.alone;
    const Held held = held_queries(args), held_of_k = held_keys(args);
    std::vector<Queries> steps;
    for (int64_t member = 0; member < group; ++member)
        held.each([&](int64_t start, int64_t stop) {
            stop = std::min(stop, args.len_q);
            for (int64_t first = start; first < stop; first += step_q)
                steps.push_back({member, first, std::min(step_q, stop - first)});
        });
    const int64_t count_of_steps = static_cast<int64_t>(steps.size());
    std::vector<int64_t> numbers;  // of the tiles of keys, by position
    held_of_k.each([&](int64_t start, int64_t stop) {
        for (int64_t number = start / block_k * tiles; number < stop / block_k * tiles; ++number)
            numbers.push_back(number);
    });
    const int64_t count_of_keys = static_cast<int64_t>(numbers.size());

    const int64_t of_thread = padded(Gradient<Number>::floats(args));
    const int64_t of_keys = Keys<Number>::floats(args);
    const Buffer own_buffer(threads * of_thread);
    const int64_t of_pair = Pair::floats(args, held);
    const Buffer pair_buffer((alone ? threads : 1) * of_pair);
    const Buffer keys_buffer(std::max(threads, alone < pairs ? count_of_keys : 0) * of_keys);
    const auto own = [&] {
        return Gradient<Number>(own_buffer.at(this_thread() * of_thread), args);
    };
    const auto keys = [&](int64_t number) {
        return Keys<Number>(keys_buffer.at(number * of_keys), args);
    };
    const auto keys_at = [&](int64_t number) {  // of a tile, by position
        const int64_t place = held_of_k.at(number / tiles * block_k) / block_k * tiles;
        return keys(place + number % tiles);
    };

    const int64_t programs = alone ? args.by_col.programs : 0;  // of each block column then
    std::vector<int64_t> program_of(programs);
    for (int64_t p = 0; p < programs; ++p) program_of[block_of(args.by_col, p)] = p;

    const auto each_alone = [&](const Pair& pair, int64_t thread) {
        for (const Queries& step : steps) begin_queries(pair, own(), step);
        for (int64_t number = 0; number < count_of_keys; ++number) {
            const Range range = keys_in(args, pair.head.batch, number);
            transpose_keys(pair, own(), range, keys(thread));
            const int64_t program = program_of[number / tiles], first = number % tiles * tile;
            backward_keys<true>(pair, own(), {program, first, tile}, keys(thread));
        }
        for (const Queries& step : steps) end_queries(pair, step);
        return !pair.lost;
    };
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t place = 0; place < alone; ++place) {
        [[maybe_unused]] const Multiplying<Number> multiplying;
        const int64_t number = order.pairs[place], thread = this_thread();
        float* buffer = pair_buffer.at(thread * of_pair);
        if (!each_alone({args, held, number, buffer, false}, thread))
            each_alone({args, held, number, buffer, true}, thread);
    }
    if (alone == pairs) return;

    const auto all_together = [&](const Pair& pair) {
        const int64_t batch = pair.head.batch;
        const std::vector<Tile> rows = tiles_of(
            args, args.by_row, all_queries(args, batch), block_q, step_q, group);
        const std::vector<Tile> columns =
            tiles_of(args, args.by_col, all_keys(args, batch), block_k, tile, group);
        const int64_t count_of_rows = static_cast<int64_t>(rows.size());
        const int64_t count_of_columns = static_cast<int64_t>(columns.size());
#pragma omp parallel num_threads(threads)
        {
            [[maybe_unused]] const Multiplying<Number> multiplying;
#pragma omp for schedule(static) nowait
            for (int64_t step = 0; step < count_of_steps; ++step)
                begin_queries(pair, own(), steps[step]);
#pragma omp for schedule(static)
            for (int64_t place = 0; place < count_of_keys; ++place)
                transpose_keys(pair, own(), keys_in(args, batch, numbers[place]),
                               keys(place));
#pragma omp for schedule(dynamic) nowait
            for (int64_t task = 0; task < count_of_columns; ++task) {
                const Tile& part = columns[task];
                const int64_t at =
                    block_of(args.by_col, part.program) * tiles + part.first / tile;
                backward_keys<false>(pair, own(), part, keys_at(at).from_lane(part.first % tile));
            }
#pragma omp for schedule(dynamic)
            for (int64_t task = 0; task < group * count_of_rows; ++task)
                backward_queries(pair, own(), rows[task % count_of_rows], task / count_of_rows,
                                 keys_at);
        }
        return !pair.lost;
    };
    for (int64_t place = alone; place < pairs; ++place) {
        const int64_t number = order.pairs[place];
        if (!all_together({args, held, number, pair_buffer.at(0), false}))
            all_together({args, held, number, pair_buffer.at(0), true});
    }
}

}  // namespace
}  // namespace bslang

#endif  // BSLANG_BACKWARD_H

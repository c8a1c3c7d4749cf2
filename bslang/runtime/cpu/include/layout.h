// layout.h: what a layout says of itself, which is all that is generated, and its tiles.

#ifndef BSLANG_LAYOUT_H
#define BSLANG_LAYOUT_H

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <tuple>

#include "arguments.h"
#include "vector.h"

namespace bslang {
namespace {

// Every block is of a class, which has runs of its own in the tables: full blocks, full blocks at a
// ragged end of the sequence, and from `first_mask` on the partial blocks of each mask.
constexpr int64_t full_class = 0, first_mask = 2;

// The state of a partial block by its labels: no pair belongs, every pair does, or its mask decides.
enum class Settled { empty, full, partial };

// A block of queries and a block of keys of one sequence in the batch, where a layout has labels.
class Cell {
  public:
    // row: counted from the block row of the first query.
    Cell(const Arguments& args, int64_t sequence, int64_t row, int64_t column)
        : args_(args), sequence_(sequence), row_(row), column_(column) {}

    // Whether no query and key share a value of a label.
    bool apart(int64_t label) const {
        const Values q = of_queries(label), k = of_keys(label);
        return q.least > k.most || k.least > q.most;
    }

    // Whether all queries and keys have the same value of a label.
    bool equal(int64_t label) const {
        const Values q = of_queries(label), k = of_keys(label);
        return q.least == k.most && k.least == q.most;
    }

  private:
    struct Values {
        int32_t least, most;
    };
    Values of_queries(int64_t label) const {
        const int64_t at = (label * args_.batch + sequence_) * args_.q_blocks + row_;
        return {args_.q_ranges[2 * at], args_.q_ranges[2 * at + 1]};
    }
    Values of_keys(int64_t label) const {
        const int64_t at = (label * args_.batch + sequence_) * args_.k_blocks + column_;
        return {args_.k_ranges[2 * at], args_.k_ranges[2 * at + 1]};
    }

    const Arguments& args_;
    int64_t sequence_, row_, column_;
};

// The defaults of a layout. It also has block_q and block_k, the queries and the keys per block.
template <class Position>
struct LayoutBase {
    using position = Position;  // of a query or a key, and what masks compute of them

    static constexpr bool by_head = false;    // whether each head has its own block graph
    static constexpr int64_t labels = 0;      // run-time labels, as in same(doc)
    static constexpr int64_t parameters = 0;  // numbers that masks read, per graph

    static constexpr int64_t ranks = 0;       // tables that masks index by position

    // A function for each mask: whether a pair belongs, by the positions of its query and key, the
    // parameters, the ranks of the query and of the key where there are any, and their labels.
    static constexpr std::tuple<> masks{};

    // The state of a block that has a mask, by its labels.
    static Settled settled(int64_t, const Cell&) { return Settled::partial; }

    // The language rounds a quotient down, C++ toward zero.
    static position floor_div(position a, position b) {
        return a / b - (a % b != 0 && (a < 0) != (b < 0));
    }
    static position floor_mod(position a, position b) { return a - floor_div(a, b) * b; }

    // How many numbers of an ascending table are at most x.
    template <size_t size>
    static position at_most(position x, const position (&table)[size]) {
        return static_cast<position>(std::upper_bound(table, table + size, x) - table);
    }

    // The square root of x >= 0, rounded down. A double cannot tell neighbours among large squares.
    static int64_t isqrt(int64_t x) {
        int64_t root = static_cast<int64_t>(std::sqrt(static_cast<double>(x)));
        root -= root * root > x;
        return root + ((root + 1) * (root + 1) <= x);
    }

    // The logarithm of x >= 1, rounded down.
    static int64_t log2_floor(int64_t x) {
        int64_t power = 0;
        for (; x > 1; x >>= 1) ++power;
        return power;
    }
};

template <class Layout>
constexpr size_t mask_count = std::tuple_size_v<decltype(Layout::masks)>;

template <class Layout>
constexpr int64_t classes = first_mask + static_cast<int64_t>(mask_count<Layout>);

// ---- Tiles --------------------------------------------------------------------------------------
// A thread takes a block, or one of the equal parts of a large block, at a time: queries in the
// forward pass, keys in the backward pass. It meets the others in steps: a run of blocks is one
// range of them.

// The side of a tile: a block's, or that of the fewest equal parts that are small enough.
constexpr int64_t side(int64_t block, int64_t largest) {
    const int64_t parts = (block + largest - 1) / largest;
    return (block + parts - 1) / parts;
}

// More scores than these would leave the nearest caches.
template <class Layout>
constexpr int64_t tile_q = side(Layout::block_q, 128);
template <class Layout>
constexpr int64_t tile_k = side(Layout::block_k, 64);
constexpr int64_t step_q = 64, step_k = 128;

template <class Layout>
constexpr int64_t tiles_k = (Layout::block_k + tile_k<Layout> - 1) / tile_k<Layout>;  // in a block

// Lanes of a row of scores: one for each query, or key, of a tile.
template <class Layout>
constexpr int64_t lanes_q = padded(tile_q<Layout>);
template <class Layout>
constexpr int64_t lanes_k = padded(tile_k<Layout>);

}  // namespace
}  // namespace bslang

#endif  // BSLANG_LAYOUT_H

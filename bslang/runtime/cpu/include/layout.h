// layout.h: what a layout says of itself, which is all that is generated, and what passes ask of it.

#ifndef BSLANG_LAYOUT_H
#define BSLANG_LAYOUT_H

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>

#include "arguments.h"
#include "places.h"
#include "vector.h"

namespace bslang {
namespace {

// Queries and keys per block. A generated file says them before it includes this.
#ifndef BSLANG_BLOCK_Q
#define BSLANG_BLOCK_Q 64
#define BSLANG_BLOCK_K 64
#endif
constexpr int64_t block_q = BSLANG_BLOCK_Q, block_k = BSLANG_BLOCK_K;

// Every block is of a class, which has runs of its own in the tables: full blocks, full blocks at a
// ragged end of the sequence, and from `first_mask` on the partial blocks of each mask.
constexpr int64_t full_class = 0, first_mask = 2;

// The state of a partial block at the call: no pair belongs, every pair does, or its mask decides.
enum class Settled { empty, full, partial };

// What the call says of a block of queries and a block of keys, as a query head of one sequence sees them.
class Cell {
  public:
    struct Values {
        int64_t least, most;
    };

    // first_row: the block row of the first query. block_q, block_k: the sides of a block.
    Cell(const Arguments& args, int64_t sequence, int64_t head, int64_t first_row, int64_t row,
         int64_t column, int64_t block_q, int64_t block_k)
        : args_(args), sequence_(sequence), head_(head), first_row_(first_row),
          row_(row - first_row), column_(column), block_q_(block_q), block_k_(block_k) {}

    // Positions.
    Values q() const { return range((first_row_ + row_) * block_q_, block_q_); }
    Values k() const { return range(column_ * block_k_, block_k_); }

    // Values of a label.
    Values q_label(int64_t label) const {
        return values(args_.q_ranges, label, args_.q_blocks, row_);
    }
    Values k_label(int64_t label) const {
        return values(args_.k_ranges, label, args_.k_blocks, column_);
    }

    // How many pairs lie in the listed cells of a selection: none (0), some (1) or all (2).
    int64_t state(int64_t selection) const {
        const Selection& of = args_.selections[selection];
        return of.by_row[(group(of) * args_.q_blocks + row_) * args_.k_blocks + column_];
    }

    // A number that masks take from the length; `count` of them for each graph.
    int64_t parameter(int64_t number, int64_t count) const {
        const int64_t graph = args_.head_graph ? args_.head_graph[head_] : 0;
        return args_.parameters[graph * count + number];
    }

    // The first block from this one on, along the row or down the column, before `stop`, of which some
    // pair lies in a listed cell of a selection; else `stop`.
    int64_t next(int64_t selection, bool down, int64_t stop) const {
        const Selection& of = args_.selections[selection];
        const int64_t q_blocks = args_.q_blocks, k_blocks = args_.k_blocks;
        const uint8_t* states = down ? of.by_col + (group(of) * k_blocks + column_) * q_blocks
                                     : of.by_row + (group(of) * q_blocks + row_) * k_blocks;
        int64_t at = down ? row_ : column_;
        if (down) stop -= first_row_;
        for (uint64_t eight; at + 8 <= stop; at += 8) {
            std::memcpy(&eight, states + at, 8);
            if (eight != 0) break;
        }
        while (at < stop && states[at] == 0) ++at;
        return down ? at + first_row_ : at;
    }

  private:
    static Values range(int64_t first, int64_t size) { return {first, first + size - 1}; }
    Values values(const int32_t* ranges, int64_t label, int64_t blocks, int64_t block) const {
        const int64_t heads = args_.label_heads, head = head_ * heads / args_.heads;
        const int64_t of = (label * args_.batch + sequence_) * heads + head;
        const int32_t* found = ranges + 2 * (of * blocks + block);
        return {found[0], found[1]};
    }
    int64_t group(const Selection& of) const {
        return sequence_ * of.batch * of.groups + head_ * of.groups / args_.heads;
    }

    const Arguments& args_;
    int64_t sequence_, head_, first_row_, row_, column_, block_q_, block_k_;
};

// The defaults of a layout.
template <class Position>
struct LayoutBase {
    using position = Position;  // of a query or a key, and what masks compute of them

    static constexpr bool by_head = false;    // whether each head has its own block graph
    static constexpr bool ordered = false;    // whether masks look up the positions of tokens
    static constexpr int64_t labels = 0;      // run-time labels, as in same(doc)
    static constexpr int64_t selections = 0;  // of cells at run time, as in select(pick)
    static constexpr int64_t parameters = 0;  // numbers that masks read, per graph

    static constexpr int64_t ranks = 0;       // tables that masks index by position

    // A function for each mask: whether a pair belongs, by the positions of its query and key, the
    // parameters, the ranks of the query and of the key where there are any, their labels, and whether
    // the pair is in each selection.
    static constexpr std::tuple<> masks{};

    // The state of a block that has a mask, by what the call says of it.
    static Settled settled(int64_t, const Cell&) { return Settled::partial; }

    // The selection that lists all blocks of a mask that have pairs; -1 for none.
    static int64_t listed(int64_t) { return -1; }

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
        int64_t root = static_cast<int64_t>(__builtin_sqrt(static_cast<double>(x)));
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
constexpr int64_t tile_q = side(block_q, 128), tile_k = side(block_k, 64);
constexpr int64_t step_q = 64, step_k = 128;
constexpr int64_t tiles_k = (block_k + tile_k - 1) / tile_k;  // in a block

// Lanes of a row of scores: one for each query, or key, of a tile.
constexpr int64_t lanes_q = padded(tile_q), lanes_k = padded(tile_k);

// ---- What passes ask of a layout ----------------------------------------------------------------
// Passes are no templates of a layout: beside its block, numbers and functions are all that they need.

// Whether scores have a lane for each query and a row for each key, or the other way round.
enum Across { across_queries, across_keys };

struct Facts {
    // Sets scores of pairs that do not belong to -inf: (`count` rows, `lanes`) from the query at
    // position q and the key at position k on.
    typedef void Mask(const Arguments& args, Head head, int64_t mask, int64_t q, int64_t k,
                      int64_t count, int64_t lanes, float* s, int64_t stride);

    int64_t classes;
    bool by_head;
    bool awaits_call;  // whether a call says more of blocks than their class
    Mask* mask[2];     // across queries, across keys
    Settled (*settled)(int64_t mask, const Cell& cell);
    int64_t (*listed)(int64_t mask);
};

// A call of a pass.
struct Call : Arguments {
    Facts layout;
};

// The graph of a query head: its place among the runs and the masks' parameters.
inline int64_t graph_of(const Call& args, Head head) {
    return args.layout.by_head ? args.head_graph[head.head] : 0;
}

}  // namespace
}  // namespace bslang

#endif  // BSLANG_LAYOUT_H

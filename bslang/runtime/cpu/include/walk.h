// walk.h: what threads take at a time, in which order, and the runs of blocks that each meets.

#ifndef BSLANG_WALK_H
#define BSLANG_WALK_H

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <vector>

#include "arguments.h"
#include "layout.h"
#include "scores.h"
#include "tensors.h"
#include "vector.h"

namespace bslang {
namespace {

struct Range {
    int64_t start, stop;
    int64_t size() const { return std::max<int64_t>(stop - start, 0); }
};

// The positions of queries, or of keys, that a sequence has. A query before position 0 sees nothing.
inline Range all_queries(const Call& args, int64_t batch) {
    const int64_t start = place_of(args, batch).q_start;
    return {std::max<int64_t>(start, 0), start + args.len_q};
}
inline Range all_keys(const Call& args, int64_t batch) {
    return {0, place_of(args, batch).len_k};
}

// The block row of the first query of a sequence.
inline int64_t first_row_of(const Call& args, int64_t batch) {
    const int64_t start = place_of(args, batch).q_start;
    return start / block_q - (start % block_q < 0);
}

inline Range common(Range a, Range b) {
    return {std::max(a.start, b.start), std::min(a.stop, b.stop)};
}

// The part of a program's block row (or column) that a thread takes at a time: `size` positions
// from the one numbered `first` in the block.
struct Tile {
    int64_t program, first, size;
};

// The block row, or column, of a program.
inline int64_t block_of(const Table& table, int64_t program) {
    return table.order == nullptr ? program : table.order[program];
}

// The programs of a table that may hold some positions, in blocks of `block`.
inline Range programs_of(const Table& table, int64_t block, Range positions) {
    if (table.programs == 0) return {0, 0};
    if (table.order != nullptr) return {0, table.programs};
    return {positions.start / block, (std::max<int64_t>(positions.stop, 0) + block - 1) / block};
}

// Positions of a tile of a block row, or column, of `block` positions.
inline Range range_of(const Table& table, int64_t block, const Tile& tile) {
    const int64_t start = block_of(table, tile.program) * block;
    return {start + tile.first, start + std::min(tile.first + tile.size, block)};
}

// Positions of a tile of keys, numbered by position.
inline Range keys_in(const Call& args, int64_t batch, int64_t number) {
    const int64_t block = number / tiles_k, start = block * block_k + number % tiles_k * tile_k;
    return common({start, std::min(start + tile_k, (block + 1) * block_k)}, all_keys(args, batch));
}

// Calls visit(start, stop, class) for every run of a program, in the order of its blocks. Every
// pass keeps to that order, so that whatever they sum, they sum in the same order.
template <class Visit>
inline void each_run(int64_t classes, const Table& table, int64_t program, Visit visit) {
    constexpr int64_t few = 16;
    const int32_t* pointer = table.pointer + program * classes;
    int64_t next_of_few[few];
    std::vector<int64_t> next_of_many(classes > few ? classes : 0);
    int64_t* next = classes > few ? next_of_many.data() : next_of_few;
    std::copy(pointer, pointer + classes, next);
    for (;;) {
        int64_t first = -1;
        for (int64_t c = 0; c < classes; ++c) {
            if (next[c] == pointer[c + 1]) continue;
            if (first < 0 || table.runs[2 * next[c]] < table.runs[2 * next[first]]) first = c;
        }
        if (first < 0) return;
        const int32_t* run = table.runs + 2 * next[first]++;
        visit(run[0], run[1], first);
    }
}

// Calls visit(start, stop, class) for the parts of a run whose blocks have one state at the call. down:
// whether the run is one of a block column.
template <class CellOf, class Visit>
inline void each_part(const Facts& layout, int64_t start, int64_t stop, int64_t kind, bool down,
                      CellOf cell_of, Visit visit) {
    const auto settled = [&](int64_t block) {
        return kind < first_mask ? Settled::partial
                                 : layout.settled(kind - first_mask, cell_of(block));
    };
    const int64_t list = kind < first_mask ? -1 : layout.listed(kind - first_mask);
    for (int64_t block = start, end; block < stop; block = end) {
        if (list >= 0) {
            block = cell_of(block).next(list, down, stop);
            if (block == stop) return;
        }
        const Settled made = settled(block);
        end = block + 1;
        while (end < stop && settled(end) == made) ++end;
        if (made != Settled::empty) visit(block, end, made == Settled::full ? full_class : kind);
    }
}

// each_run over the runs of a program as a query head sees them. told: the blocks of which the call says
// something; cell_of: the cell of a block.
template <class CellOf, class Visit>
inline void each_run_of(const Call& args, const Table& table, Head head, int64_t program,
                        bool down, Range told, CellOf cell_of, Visit visit) {
    const int64_t place = graph_of(args, head) * table.programs + program;
    const auto each = [&](int64_t start, int64_t stop, int64_t kind) {
        if (!args.layout.awaits_call) return visit(start, stop, kind);
        const Range run = common({start, stop}, told);
        each_part(args.layout, run.start, run.stop, kind, down, cell_of, visit);
    };
    each_run(args.layout.classes, table, place, each);
}

// The blocks of keys of a block row, as a query head sees them.
template <class Visit>
inline void each_run_of_keys(const Call& args, Head head, int64_t program, Visit visit) {
    const int64_t first_row = first_row_of(args, head.batch);
    const int64_t row = block_of(args.by_row, program);
    const auto cell_of = [&](int64_t column) {
        return Cell(args, head.batch, head.head, first_row, row, column, block_q, block_k);
    };
    const Range columns{0, args.k_blocks};
    each_run_of(args, args.by_row, head, program, false, columns, cell_of, visit);
}

// The blocks of queries that see a block column, in a query head.
template <class Visit>
inline void each_run_of_queries(const Call& args, Head head, int64_t program, Visit visit) {
    const int64_t first_row = first_row_of(args, head.batch);
    const int64_t column = block_of(args.by_col, program);
    const auto cell_of = [&](int64_t row) {
        return Cell(args, head.batch, head.head, first_row, row, column, block_q, block_k);
    };
    const Range rows{first_row, first_row + args.q_blocks};
    each_run_of(args, args.by_col, head, program, true, rows, cell_of, visit);
}

// Mean number of blocks that a program meets in a head.
inline double work_of(const Call& args, const Table& table, int64_t program) {
    const int64_t heads = args.layout.by_head ? args.heads : 1;
    int64_t blocks = 0;
    for (int64_t head = 0; head < heads; ++head) {
        const int64_t place = graph_of(args, {0, head}) * table.programs + program;
        const int32_t* pointer = table.pointer + place * args.layout.classes;
        for (int64_t run = pointer[0]; run < pointer[args.layout.classes]; ++run)
            blocks += table.runs[2 * run + 1] - table.runs[2 * run];
    }
    return static_cast<double>(blocks) / static_cast<double>(heads);
}

// When the last of some threads is done with pieces of work, each taken by the thread that is idle first.
template <class Work>
inline double last_done(const Work* begin, const Work* end, int64_t threads) {
    std::vector<Work> busy(threads);
    for (; begin < end; ++begin) *std::min_element(busy.begin(), busy.end()) += *begin;
    return static_cast<double>(*std::max_element(busy.begin(), busy.end()));
}

// Sides of the tiles of programs of some work, at most `largest`: narrower where threads would wait for one of
// the heavy tiles while there is no other work. Narrow tiles leave parts of a product's registers empty.
[[maybe_unused, gnu::cold]]
std::vector<int64_t> sides_of(const std::vector<double>& work, int64_t block, int64_t largest,
                              int64_t heads, int64_t threads) {
    double all = 0;  // a thread's share
    for (const double each : work)
        all += each * static_cast<double>(heads * block) / static_cast<double>(threads);
    std::vector<int64_t> sides(work.size(), largest);
    const auto of_tile = [&](size_t i) { return work[i] * static_cast<double>(sides[i]); };
    for (bool narrowed = true; narrowed;) {
        std::vector<double> heavy;  // few: each is an eighth of a share at least
        for (size_t i = 0; i < work.size(); ++i)
            if (of_tile(i) > all / 8)
                heavy.insert(heavy.end(), heads * ((block + sides[i] - 1) / sides[i]), of_tile(i));
        narrowed = false;
        if (last_done(heavy.data(), heavy.data() + heavy.size(), threads) <= 1.1 * all) break;
        for (size_t i = 0; i < work.size(); ++i) {
            if (sides[i] <= line || of_tile(i) <= all / 8) continue;
            sides[i] = padded(sides[i] / 2);
            narrowed = true;
        }
    }
    return sides;
}

// Tiles of all programs that may hold some positions, in order: the heaviest first. `heads` heads are shared
// among threads. Each position has sums of its own, so that results do not depend on the tile that it is in.
[[maybe_unused, gnu::cold]]
std::vector<Tile> tiles_of(const Call& args, const Table& table, Range positions, int64_t block,
                           int64_t largest, int64_t heads) {
    const Range programs = programs_of(table, block, positions);
    std::vector<double> work(programs.size());
    for (int64_t i = 0; i < programs.size(); ++i)
        work[i] = work_of(args, table, programs.start + i);
    const std::vector<int64_t> sides = sides_of(work, block, largest, heads, args.threads);
    std::vector<Tile> tiles;
    for (int64_t i = 0; i < programs.size(); ++i)
        for (int64_t tile = 0; tile < block; tile += largest)
            for (int64_t at = tile, end = std::min(tile + largest, block); at < end; at += sides[i])
                tiles.push_back({programs.start + i, at, std::min(sides[i], end - at)});
    return tiles;
}

// ---- Held positions -----------------------------------------------------------------------------

// The positions of an axis for which a pass holds something, and where: all, or those of the blocks that
// tables name, one block after another.
class Held {
  public:
    explicit Held(int64_t length) : block_(length), count_(length) {}

    // programs: of the axis; runs: of blocks of the axis, of so many graphs.
    Held(int64_t length, int64_t block, const Table& programs, const Table& runs, int64_t classes,
         int64_t graphs)
        : block_(block), slots_((length + block - 1) / block, -1) {
        for (int64_t p = 0; p < programs.programs; ++p) slots_[block_of(programs, p)] = 0;
        const int64_t last = runs.pointer ? runs.pointer[graphs * runs.programs * classes] : 0;
        for (int64_t run = 0; run < last; ++run)
            std::fill(slots_.begin() + runs.runs[2 * run], slots_.begin() + runs.runs[2 * run + 1],
                      0);
        for (int64_t& slot : slots_)
            if (slot == 0) slot = count_, count_ += block;
    }

    int64_t count() const { return count_; }

    // Where a position is held.
    int64_t at(int64_t position) const {
        if (slots_.empty()) return position;
        return slots_[position / block_] + position % block_;
    }

    // Calls visit(start, stop) for the positions that lie side by side.
    template <class Visit>
    void each(Visit visit) const {
        if (slots_.empty()) visit(int64_t{0}, count_);
        const int64_t blocks = static_cast<int64_t>(slots_.size());
        for (int64_t start = 0, stop; start < blocks; start = stop) {
            stop = start + 1;
            if (slots_[start] < 0) continue;
            while (stop < blocks && slots_[stop] >= 0) ++stop;
            visit(start * block_, stop * block_);
        }
    }

  private:
    int64_t block_;
    std::vector<int64_t> slots_;
    int64_t count_ = 0;
};

// The graphs of a call's heads.
inline int64_t graphs_of(const Call& args) {
    if (!args.layout.by_head) return 1;
    return 1 + *std::max_element(args.head_graph, args.head_graph + args.heads);
}

// Queries, from the first one on, and keys for which the backward pass holds something.
[[maybe_unused, gnu::cold]] Held held_queries(const Call& args) {
    if (!args.apart) return Held(args.len_q);
    return Held(args.len_q, block_q, args.by_row, args.by_col, args.layout.classes, graphs_of(args));
}
[[maybe_unused, gnu::cold]] Held held_keys(const Call& args) {
    if (!args.apart) return Held((args.len_k + block_k - 1) / block_k * block_k);
    return Held(args.len_k, block_k, args.by_col, args.by_row, args.layout.classes, graphs_of(args));
}

// ---- Pairs --------------------------------------------------------------------------------------
// A pair is a key head of one sequence and the query heads that read it.

// Blocks that the query heads of a pair visit; 1 where those of every pair visit the same ones.
[[maybe_unused]] int64_t work_of_pair(const Call& args, int64_t number) {
    if (!args.layout.by_head && !args.layout.awaits_call) return 1;
    const int64_t group = args.heads / args.key_heads;
    const int64_t batch = number / args.key_heads, first = number % args.key_heads * group;
    int64_t work = 0;
    for (int64_t head = first; head < first + group; ++head)
        for (int64_t program = 0; program < args.by_col.programs; ++program)
            each_run_of_queries(
                args, {batch, head}, program,
                [&](int64_t start, int64_t stop, int64_t) { work += stop - start; });
    return work;
}

// Pairs in the order in which they are taken: the first `alone` of them by one thread each.
struct Order {
    std::vector<int64_t> pairs;
    int64_t alone;
};

// When the last thread is done with pairs [first, last) of some work, each taken by one thread, and
// all threads together are with the others. Those cost 7 products for 5, and more transposing.
[[maybe_unused, gnu::cold]]
double time_of(const std::vector<int64_t>& work, int64_t first, int64_t last, int64_t threads) {
    int64_t shared = 0;
    for (int64_t i = 0; i < static_cast<int64_t>(work.size()); ++i)
        if (i < first || i >= last) shared += work[i];
    const double alone = last_done(work.data() + first, work.data() + last, threads);
    return alone + 1.5 * static_cast<double>(shared) / static_cast<double>(threads);
}

// The heaviest pairs first. All threads share the first few, if they are more than a thread's share
// of the work or little less, and the last few, if those would leave threads idle at the end:
// whichever takes the least time.
[[maybe_unused, gnu::cold]] Order order_of(const Call& args, int64_t pairs) {
    const int64_t threads = args.threads;
    std::vector<int64_t> order(pairs), work(pairs);
    for (int64_t i = 0; i < pairs; ++i) order[i] = i;
    if (args.apart) return {order, 0};
    struct Weighed {
        int64_t work, pair;
    };
    int64_t left = 0, heavy = 0;
    std::vector<Weighed> weighed(pairs);
    for (int64_t i = 0; i < pairs; ++i) left += (weighed[i] = {work_of_pair(args, i), i}).work;
    const auto heavier = [](const void* a, const void* b) {
        const Weighed &x = *static_cast<const Weighed*>(a), &y = *static_cast<const Weighed*>(b);
        return x.work != y.work ? (x.work < y.work ? 1 : -1) : (x.pair < y.pair ? -1 : 1);
    };
    // Not std::sort, whose templates every build would pay for.
    if (pairs > 1) std::qsort(weighed.data(), pairs, sizeof(Weighed), heavier);
    for (int64_t i = 0; i < pairs; ++i) order[i] = weighed[i].pair, work[i] = weighed[i].work;
    while (heavy < pairs && work[heavy] * threads > left) left -= work[heavy++];
    int64_t begin = 0, end = pairs;
    double least = std::numeric_limits<double>::infinity();
    for (int64_t first = 0; first <= std::min(heavy + 2, pairs); ++first)
        for (const int64_t last : {pairs, pairs - (pairs - first) % threads}) {
            const double time = time_of(work, first, last, threads);
            if (time < least) least = time, begin = first, end = last;
        }
    std::vector<int64_t> taken = order;  // [begin, end) before [0, begin)
    for (int64_t i = 0; i < end; ++i) taken[i] = order[(begin + i) % end];
    return {taken, end - begin};
}

}  // namespace
}  // namespace bslang

#endif  // BSLANG_WALK_H

// masks.h: what is compiled for each layout: its masks, and the table of what passes ask of it.

#ifndef BSLANG_MASKS_H
#define BSLANG_MASKS_H

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

#include "arguments.h"
#include "layout.h"
#include "places.h"
#include "vector.h"

namespace bslang {
namespace {

// Which pairs of a tile lie in listed cells of a selection, (count, lanes), from positions q and k on.
// Rows with the same line, or column, of cells are filled once.
template <Across across>
void fill_selected(const Arguments& args, Head head, int64_t selection, int64_t q, int64_t k,
                   int64_t count, int64_t lanes, uint8_t* to) {
    const Selection& of = args.selections[selection];
    const int64_t group = head.batch * of.batch * of.groups + head.head * of.groups / args.heads;
    const uint8_t* bits = of.bits + group * of.lines * of.bytes;
    const auto line_of = [&](int64_t x) {
        return (q + x * args.q_step) / of.rows - of.first;
    };
    const auto column_of = [&](int64_t x) { return (k + x) / of.cols; };
    const auto listed = [&](int64_t line, int64_t column) -> uint8_t {
        return bits[line * of.bytes + column / 8] >> (column % 8) & 1;
    };
    int64_t before = -1;
    for (int64_t i = 0; i < count; ++i, to += lanes) {
        const int64_t cell = across == across_queries ? column_of(i) : line_of(i);
        if (cell == before) {
            std::copy(to - lanes, to, to);
            continue;
        }
        before = cell;
        int64_t last = -1;
        for (int64_t j = 0; j < lanes; ++j) {
            const int64_t other = across == across_queries ? line_of(j) : column_of(j);
            to[j] = other == last                ? to[j - 1]
                    : across == across_queries ? listed(other, cell)
                                               : listed(cell, other);
            last = other;
        }
    }
}

template <class Layout, Across across, size_t mask, int64_t... label, int64_t... selection>
void mask_tile(const Arguments& args, [[maybe_unused]] Head head, const int64_t* parameters,
               int64_t q, int64_t k, int64_t count, int64_t lanes, float* s, int64_t stride,
               std::integer_sequence<int64_t, label...>,
               std::integer_sequence<int64_t, selection...>) {
    using position = typename Layout::position;
    constexpr auto belongs = std::get<mask>(Layout::masks);
    const position step = static_cast<position>(args.q_step), from_k = static_cast<position>(k);
    const Place place = place_of(args, head.batch);
    const int64_t query = q - place.q_start;
    const position from_q = static_cast<position>(place.q_first + query * args.q_step);
    const auto position_of_q = [&](position x) {
        if constexpr (Layout::ordered) return static_cast<position>(args.q_order[from_q + x * step]);
        return static_cast<position>(from_q + x * step);
    };
    const auto position_of_k = [&](position x) {
        if constexpr (Layout::ordered) return static_cast<position>(args.k_order[from_k + x]);
        return static_cast<position>(from_k + x);
    };
    using Labels = std::array<const int32_t*, sizeof...(label)>;
    [[maybe_unused]] const int64_t of_head = head.head * args.label_heads / args.heads;
    [[maybe_unused]] const auto labels_of = [&](int64_t number) {
        return (number * args.batch + head.batch) * args.label_heads + of_head;
    };
    [[maybe_unused]] const Labels q_labels{
        (args.q_labels + labels_of(label) * args.len_q + query)...};
    [[maybe_unused]] const Labels k_labels{(args.k_labels + labels_of(label) * args.len_k + k)...};
    using Selected = std::array<const uint8_t*, sizeof...(selection)>;
    [[maybe_unused]] Selected selected{};
    if constexpr (sizeof...(selection) > 0) {
        thread_local std::vector<uint8_t> pairs;
        pairs.resize(static_cast<size_t>(count * lanes) * sizeof...(selection));
        ((selected[selection] = pairs.data() + selection * count * lanes,
          fill_selected<across>(args, head, selection, place.q_first + query * args.q_step, k,
                                count, lanes, pairs.data() + selection * count * lanes)),
         ...);
    }
    // What masks look up of a position is looked up once, not for each pair.
    constexpr position ranks = static_cast<position>(Layout::ranks);
    [[maybe_unused]] const position* q_ranks = nullptr;
    [[maybe_unused]] const position* k_ranks = nullptr;
    if constexpr (ranks > 0) {
        thread_local std::vector<position> found;
        const position queries = static_cast<position>(across == across_queries ? lanes : count);
        const position keys = static_cast<position>(across == across_queries ? count : lanes);
        found.resize(static_cast<size_t>((queries + keys) * ranks));
        for (position x = 0; x < queries; ++x)
            Layout::rank(position_of_q(x), found.data() + x * ranks);
        for (position x = 0; x < keys; ++x)
            Layout::rank(position_of_k(x), found.data() + (queries + x) * ranks);
        q_ranks = found.data();
        k_ranks = q_ranks + queries * ranks;
    }
    for (position i = 0; i < static_cast<position>(count); ++i, s += stride)
        for (position j = 0; j < static_cast<position>(lanes); ++j) {
            const position of_q = across == across_queries ? j : i;
            const position of_k = across == across_queries ? i : j;
            [[maybe_unused]] const int64_t of_pair = int64_t{i} * lanes + j;
            bool kept;
            if constexpr (ranks > 0)
                kept = belongs(position_of_q(of_q), position_of_k(of_k), parameters,
                               q_ranks + of_q * ranks, k_ranks + of_k * ranks,
                               q_labels[label][of_q]..., k_labels[label][of_k]...,
                               selected[selection][of_pair]...);
            else
                kept = belongs(position_of_q(of_q), position_of_k(of_k), parameters,
                               q_labels[label][of_q]..., k_labels[label][of_k]...,
                               selected[selection][of_pair]...);
            s[j] = kept ? s[j] : -infinity;
        }
}

// The mask of that number, one of `mask`.
template <class Layout, Across across, size_t... mask>
inline void mask_of(const Arguments& args, Head head, int64_t number, int64_t q, int64_t k,
                    int64_t count, int64_t lanes, float* s, int64_t stride,
                    std::index_sequence<mask...>) {
    const int64_t graph = Layout::by_head ? args.head_graph[head.head] : 0;
    const int64_t* parameters = args.parameters + graph * Layout::parameters;
    constexpr std::make_integer_sequence<int64_t, Layout::labels> labels;
    constexpr std::make_integer_sequence<int64_t, Layout::selections> selections;
    ((number == static_cast<int64_t>(mask)
          ? mask_tile<Layout, across, mask>(args, head, parameters, q, k, count, lanes, s, stride,
                                            labels, selections)
          : void()),
     ...);
}

template <class Layout>
constexpr size_t mask_count = std::tuple_size_v<decltype(Layout::masks)>;

template <class Layout, Across across>
void apply(const Arguments& args, Head head, int64_t number, int64_t q, int64_t k, int64_t count,
           int64_t lanes, float* s, int64_t stride) {
    if constexpr (mask_count<Layout> > 0)
        mask_of<Layout, across>(args, head, number, q, k, count, lanes, s, stride,
                                std::make_index_sequence<mask_count<Layout>>());
}

// What passes ask of a layout.
template <class Layout>
constexpr Facts facts{
    first_mask + static_cast<int64_t>(mask_count<Layout>),
    Layout::by_head,
    Layout::labels + Layout::selections > 0,
    {apply<Layout, across_queries>, apply<Layout, across_keys>},
    Layout::settled,
    Layout::listed,
};

}  // namespace
}  // namespace bslang

#endif  // BSLANG_MASKS_H

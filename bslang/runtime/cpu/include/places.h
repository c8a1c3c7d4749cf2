// places.h: where rows of a head lie in a tensor, and its tokens in a sequence.

#ifndef BSLANG_PLACES_H
#define BSLANG_PLACES_H

#include <cstdint>

#include "arguments.h"

namespace bslang {
namespace {

// Where the queries of a sequence stand, and how many keys it has: as the arguments of those names.
struct Place {
    int64_t q_start, q_first, len_k;
};

inline Place place_of(const Arguments& args, int64_t batch) {
    if (args.places == nullptr) return {args.q_start, args.q_first, args.len_k};
    const int64_t* at = args.places + 3 * batch;
    return {at[0], at[1], at[2]};
}

// One head of one sequence of a batch.
struct Head {
    int64_t batch, head;
    Head key_head(const Arguments& args) const {  // the key head that a query head reads
        return {batch, head / (args.heads / args.key_heads)};
    }
    int64_t offset(const Tensor& tensor, int64_t row) const {
        if (tensor.pages != nullptr) return in_page(tensor, *tensor.pages, row);
        return batch * tensor.batch + head * tensor.head + row * tensor.row;
    }
    int64_t in_page(const Tensor& tensor, const Pages& of, int64_t row) const {
        const int64_t number = row / of.size;
        const int64_t page = of.table[batch * of.batch + head * of.head + number];
        return page * tensor.batch + head * tensor.head + (row - number * of.size) * tensor.row;
    }
    float& number(const Tensor& tensor, int64_t row) const {  // of fp32 (batch, heads, length)
        return static_cast<float*>(tensor.data)[offset(tensor, row)];
    }
};

}  // namespace
}  // namespace bslang

#endif  // BSLANG_PLACES_H

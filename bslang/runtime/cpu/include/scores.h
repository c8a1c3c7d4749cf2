// scores.h: what happens to scores between a product and the softmax: soft cap and masks.

#ifndef BSLANG_SCORES_H
#define BSLANG_SCORES_H

#include <cstdint>

#include "arguments.h"
#include "layout.h"
#include "places.h"
#include "vector.h"

namespace bslang {
namespace {

// ---- Soft cap -----------------------------------------------------------------------------------
// A scaled score s becomes c tanh(s / c).

inline bool capped(const Arguments& args) { return args.softcap > 0; }

// The factor of a product of a query and a key: scores are in base 2, except scores to be capped,
// which are s / c.
inline float score_factor(const Arguments& args) {
    if (capped(args)) return static_cast<float>(args.scale / args.softcap);
    return static_cast<float>(args.scale) * log2_e;
}

// Caps scores (rows, lanes), which are in base 2 then.
[[maybe_unused]] __attribute__((noinline)) void cap_scores(const Arguments& args, int64_t rows,
                                                           int64_t lanes, float* s,
                                                           int64_t stride) {
    const float cap = static_cast<float>(args.softcap) * log2_e;
    for (const float* end = s + rows * stride; s < end; s += stride)
        for (int64_t j = 0; j < lanes; j += width) store(s + j, tanh(load(s + j)) * cap);
}

// The same beside dP, which becomes (dP - delta) (1 - tanh^2): the gradient of a score before the
// cap, but for its weight. delta: of each row. A mask comes after it: of -inf there is no tanh.
[[maybe_unused]] __attribute__((noinline)) void cap_gradients(const Arguments& args, int64_t rows,
                                                              int64_t lanes, const float* delta,
                                                              float* s, float* dp,
                                                              int64_t stride) {
    const float cap = static_cast<float>(args.softcap) * log2_e;
    for (int64_t i = 0; i < rows; ++i, s += stride, dp += stride)
        for (int64_t j = 0; j < lanes; j += width) {
            const vec t = tanh(load(s + j));
            store(s + j, t * cap);
            store(dp + j, (load(dp + j) - delta[i]) * (1.0f - t * t));
        }
}

// ---- Masks of partial blocks --------------------------------------------------------------------
// A range of keys or queries ends where the tensor ends, so that a full block at a ragged end needs
// no mask.

inline void apply_mask(const Call& args, Across across, Head head, int64_t kind, int64_t q,
                       int64_t k, int64_t count, int64_t lanes, float* s, int64_t stride) {
    if (kind >= first_mask)
        args.layout.mask[across](args, head, kind - first_mask, q, k, count, lanes, s, stride);
}

}  // namespace
}  // namespace bslang

#endif  // BSLANG_SCORES_H

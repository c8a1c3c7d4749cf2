// vector.h: vectors of floats, 2^x and tanh.

#ifndef BSLANG_VECTOR_H
#define BSLANG_VECTOR_H

#include <algorithm>
#include <cstdint>
#include <limits>

namespace bslang {
namespace {

// Floats in a vector register, and the rows and vectors of a product that are held in registers at
// once: enough to hide the latency of multiply-add, and room is left for its inputs.
#if defined(__AVX512F__)
constexpr int64_t width = 16, rows = 4, vectors = 4;
#elif defined(__AVX__)
constexpr int64_t width = 8, rows = 4, vectors = 2;
#elif defined(__aarch64__)
constexpr int64_t width = 4, rows = 8, vectors = 2;
#else
constexpr int64_t width = 4, rows = 4, vectors = 2;
#endif

// Unaligned: rows of a tensor are read and written where they lie.
typedef float vec __attribute__((vector_size(width * sizeof(float)), may_alias, aligned(4)));
typedef int32_t ivec __attribute__((vector_size(width * sizeof(float)), may_alias, aligned(4)));
typedef uint16_t halves __attribute__((vector_size(width * sizeof(uint16_t)), may_alias, aligned(2)));

// Every buffer begins on a cache line and every row of it is a multiple of one: a multiple of
// `width` whatever the processor, so that no loop over vectors needs a remainder.
constexpr int64_t line = 16;

constexpr int64_t padded(int64_t count, int64_t to = line) { return (count + to - 1) / to * to; }

inline vec load(const float* x) { return *reinterpret_cast<const vec*>(x); }
inline void store(float* x, vec value) { *reinterpret_cast<vec*>(x) = value; }
inline vec all(float value) { return vec{} + value; }

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float log2_e = 1.44269504088896341f, ln_2 = 0.693147180559945309f;

// -127. Compilers must not know it: of a constant they make a comparison and a blend, which are
// slower than a maximum.
volatile float least_exponent = -127.0f;

// 2^x for x < 127, to 1e-7, or to 3e-6 of it where bf16 is enough; NaN stays NaN. `least`:
// all(least_exponent), whose power has no bit set, so that a score of -inf gives exactly 0 with no test
// for it.
template <bool precise = true>
inline vec exp2(vec x, vec least) {
    constexpr float shift = 12582912.0f + 127.0f;  // 1.5 * 2^23, and the bias of an exponent
    x = least > x ? least : x;
    const vec shifted = x + shift;  // the low bits now hold x, rounded and biased
    const vec f = x - (shifted - shift);
    vec p;  // 2^f for |f| <= 1/2, by least relative error with p(0) = 1
    if (precise) {
        p = all(1.53533547e-4f);
        p = p * f + 1.33988750e-3f;
        p = p * f + 9.61843785e-3f;
        p = p * f + 5.55033237e-2f;
        p = p * f + 2.40226477e-1f;
        p = p * f + 6.93147182e-1f;
    } else {
        p = all(9.58285426e-3f);
        p = p * f + 5.59064247e-2f;
        p = p * f + 2.40240986e-1f;
        p = p * f + 6.93124193e-1f;
    }
    p = p * f + 1.0f;
    return p * reinterpret_cast<vec>(reinterpret_cast<ivec>(shifted) << 23);
}

// tanh(x), to 3.5e-7 of it, and to 2e-7 where it is small; NaN stays NaN. It is the quotient
// x P(x^2) / Q(x^2) of least relative error up to 9, from where on tanh is 1.
inline vec tanh(vec x) {
    x = x > all(9.0f) ? all(9.0f) : x;
    x = x < all(-9.0f) ? all(-9.0f) : x;
    const vec z = x * x;
    vec p = all(1.33546498e-8f), q = all(7.77655487e-7f);
    p = p * z + 2.06090790e-5f;
    q = q * z + 3.28563445e-4f;
    p = p * z + 3.49558797e-3f;
    q = q * z + 2.58769821e-2f;
    p = p * z + 1.33810252e-1f;
    q = q * z + 4.67143416e-1f;
    p = p * z + 1.0f;
    q = q * z + 1.0f;
    return x * p / q;
}

}  // namespace
}  // namespace bslang

#endif  // BSLANG_VECTOR_H

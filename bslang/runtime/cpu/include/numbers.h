// numbers.h: what products multiply: floats, or pairs of bf16 where the processor has instructions for them.

#ifndef BSLANG_NUMBERS_H
#define BSLANG_NUMBERS_H

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "vector.h"

namespace bslang {
namespace {

inline uint32_t bits_of(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

inline float float_of(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

// A product reads its operands in cells of 32 bits, each of which holds as many numbers as lie side by
// side along its depth: a float, or two bf16, the first in the low half. Memory and variables of cells
// have the type of floats. Sums are floats.

// How many cells hold so many numbers.
template <class Number>
constexpr int64_t cells(int64_t numbers) {
    return (numbers + Number::per_cell - 1) / Number::per_cell;
}

struct Single {
    static constexpr int64_t per_cell = 1;

    // sum + a b, where a is the cell at an address.
    static vec multiply_add(vec sum, const float* a, vec b) { return sum + *a * b; }
    static vec multiply_add(vec sum, vec a, vec b) { return sum + a * b; }

    // What B is made of, and a vector of it.
    using right = float;
    static vec read(const float* b) { return load(b); }

    // A number of a cell, and a cell with another one in its place.
    static float number(float cell, int64_t) { return cell; }
    static float with(float, int64_t, float x) { return x; }
};

// Floats times bf16 that become floats as they are read: for products of few rows, where all else costs more
// than to read B.
struct Widened : Single {
    using right = uint16_t;
    static vec read(const uint16_t* b) {
#if defined(__AVX512F__)
        ivec to;  // GCC 12 has five instructions for this one
        __asm__("vpmovzxwd %1, %0" : "=v"(to) : "m"(*reinterpret_cast<const halves*>(b)));
#else
        const ivec to = __builtin_convertvector(*reinterpret_cast<const halves*>(b), ivec);
#endif
        return reinterpret_cast<vec>(to << 16);
    }
};

// What all pairs of bf16 have in common. in_turn and paired make cells of the numbers of two vectors,
// rounded: one after the other, or each beside its like.
struct Pairs {
    static constexpr int64_t per_cell = 2;
    typedef int16_t numbers __attribute__((vector_size(width * sizeof(float))));

    using right = float;
    static vec read(const float* b) { return load(b); }

    // A cell in every lane, by its bits: as a float it may be a NaN, which arithmetic changes.
    static vec each(const float* cell) {
        typedef int32_t bits __attribute__((may_alias));
        return reinterpret_cast<vec>(ivec{} + *reinterpret_cast<const bits*>(cell));
    }

    static float number(float cell, int64_t which) {
        return float_of(which == 0 ? bits_of(cell) << 16 : bits_of(cell) & 0xffff0000u);
    }
    static float with(float cell, int64_t which, float x) {
        const uint32_t bits = bits_of(cell), part = bits_of(x) >> 16;
        return float_of(which == 0 ? (bits & 0xffff0000u) | part : (bits & 0xffffu) | part << 16);
    }
};

// Assembly rather than the compiler's names for it: those are in headers that cost every build a third of
// a second, and compilers disagree on their types. What it sums, and how it rounds, is the processor's: bits
// of results differ between kinds of processors.
#if defined(__AVX512BF16__)
struct Brain : Pairs {
    static vec multiply_add(vec sum, vec a, vec b) {
        __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
        return sum;
    }
    static vec multiply_add(vec sum, const float* a, vec b) { return multiply_add(sum, each(a), b); }

    static vec in_turn(vec first, vec second) {
        vec to;
        __asm__("vcvtne2ps2bf16 %1, %2, %0" : "=v"(to) : "v"(first), "v"(second));
        return to;
    }
    static vec paired(vec first, vec second) {
        const numbers x = reinterpret_cast<numbers>(in_turn(first, second));
        return reinterpret_cast<vec>(__builtin_shufflevector(
            x, x, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11,
            27, 12, 28, 13, 29, 14, 30, 15, 31));
    }
};
#elif defined(__aarch64__) && defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#define BSLANG_SQUARES  // see product.h
struct Brain : Pairs {
    static vec multiply_add(vec sum, vec a, vec b) {
        __asm__("bfdot %0.4s, %1.8h, %2.8h" : "+w"(sum) : "w"(a), "w"(b));
        return sum;
    }
    static vec multiply_add(vec sum, const float* a, vec b) { return multiply_add(sum, each(a), b); }

    // Two rows of two cells times two columns of two cells, added to two rows of two sums. Each is the
    // same number as two calls of multiply_add give: Arm defines both by the same steps.
    static vec multiply_square(vec sum, vec a, vec b) {
        __asm__("bfmmla %0.4s, %1.8h, %2.8h" : "+w"(sum) : "w"(a), "w"(b));
        return sum;
    }

    static vec in_turn(vec first, vec second) {
        vec to;
        __asm__("bfcvtn %0.4h, %1.4s\n\tbfcvtn2 %0.8h, %2.4s"
                : "=&w"(to)
                : "w"(first), "w"(second));
        return to;
    }
    static vec paired(vec first, vec second) {
        const numbers x = reinterpret_cast<numbers>(in_turn(first, second));
        return reinterpret_cast<vec>(__builtin_shufflevector(x, x, 0, 4, 1, 5, 2, 6, 3, 7));
    }
};
#else
using Brain = Single;  // bf16 becomes floats as it is read
#endif

// A matrix of cells to be read in any direction: (i, k) is data[i * row + k * col].
struct View {
    const float* data;
    int64_t row, col;
    View from_row(int64_t i) const { return {data + i * row, row, col}; }
};

// Memory that is read next, to be fetched while a product is computed: into the second cache, to which far more
// lines can be on their way than to the first one.
struct Ahead {
    const float* data;
    int64_t stride, rows, columns;
    // Inlined: GCC leaves out a call of a function that has no effect but this.
    __attribute__((always_inline)) void fetch(int64_t row, int64_t count) const {
        for (int64_t i = row, end = std::min(row + count, rows); i < end; ++i)
            for (int64_t j = 0; j < columns; j += line) __builtin_prefetch(data + i * stride + j, 0, 2);
    }
};

}  // namespace
}  // namespace bslang

#endif  // BSLANG_NUMBERS_H

// tensors.h: tensors: buffers, dtypes, and rows of a head as numbers of a product.

#ifndef BSLANG_TENSORS_H
#define BSLANG_TENSORS_H

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#if __has_include(<sys/mman.h>)
#include <sys/mman.h>
#endif

#include "arguments.h"
#include "numbers.h"
#include "places.h"
#include "product.h"
#include "vector.h"

namespace bslang {
namespace {

// ---- Buffers ------------------------------------------------------------------------------------

// Asks for large pages where memory is written for the first time: the system is visited for each
// page, and a processor keeps the addresses of few of them.
constexpr uintptr_t large_page = 2 << 20;

inline void use_large_pages([[maybe_unused]] void* data, [[maybe_unused]] int64_t bytes) {
#ifdef MADV_HUGEPAGE
    const uintptr_t from = reinterpret_cast<uintptr_t>(data), to = from + bytes;
    const uintptr_t first = (from + large_page - 1) / large_page * large_page;
    const uintptr_t last = to / large_page * large_page;
    if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

// Floats on a cache line. Throws std::bad_alloc, so it is made outside of parallel regions.
class Buffer {
  public:
    explicit Buffer(int64_t count) {
        const int64_t bytes = std::max<int64_t>(count, 1) * static_cast<int64_t>(sizeof(float));
        const int64_t large = static_cast<int64_t>(large_page), page = bytes < large ? 64 : large;
        data_ = static_cast<float*>(std::aligned_alloc(page, padded(bytes, page)));
        if (data_ == nullptr) throw std::bad_alloc();
        use_large_pages(data_, padded(bytes, page));
    }
    ~Buffer() { std::free(data_); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    float* at(int64_t index) const { return data_ + index; }

  private:
    float* data_;
};

// ---- Between dtypes -----------------------------------------------------------------------------

inline int64_t size_of(int64_t dtype) { return dtype == float32 ? 4 : 2; }

inline float from_bfloat16(uint16_t x) { return float_of(static_cast<uint32_t>(x) << 16); }

inline uint16_t to_bfloat16(float x) {
    const uint32_t bits = bits_of(x);
    const uint32_t nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;  // ties to even
    return static_cast<uint16_t>(x != x ? 0x7fc0 : nearest);
}

// fp16 by the processor's instructions, or else by arithmetic. Assembly as in numbers.h.
#if defined(__F16C__)
inline vec from_float16(const uint16_t* from) {
    vec to;
    __asm__("vcvtph2ps %1, %0" : "=v"(to) : "m"(*reinterpret_cast<const halves*>(from)));
    return to;
}

inline halves to_float16(vec x) {
    halves to;
    __asm__("vcvtps2ph $0, %1, %0" : "=v"(to) : "v"(x));  // 0: to the nearest, ties to even
    return to;
}
#elif defined(__aarch64__)
inline vec from_float16(const uint16_t* from) {
    vec to;
    __asm__("fcvtl %0.4s, %1.4h" : "=w"(to) : "w"(*reinterpret_cast<const halves*>(from)));
    return to;
}

inline halves to_float16(vec x) {
    halves to;
    __asm__("fcvtn %0.4h, %1.4s" : "=w"(to) : "w"(x));
    return to;
}
#else
typedef uint32_t bits_vec __attribute__((vector_size(width * sizeof(float))));

inline vec from_float16(const uint16_t* from) {
    const bits_vec x = __builtin_convertvector(*reinterpret_cast<const halves*>(from), bits_vec);
    const bits_vec sign = (x & 0x8000) << 16, magnitude = (x & 0x7fff) << 13;
    const vec number = reinterpret_cast<vec>(magnitude) * 0x1p112f;  // the biases differ by 112
    const bits_vec special = magnitude | 0x7f800000;                 // infinity or NaN
    const bits_vec finite = reinterpret_cast<bits_vec>(number);
    return reinterpret_cast<vec>((magnitude < 0x0f800000 ? finite : special) | sign);
}

inline halves to_float16(vec x) {
    const bits_vec all_bits = reinterpret_cast<bits_vec>(x);
    const bits_vec sign = all_bits >> 16 & 0x8000, bits = all_bits & 0x7fffffff;
    const bits_vec normal = (bits - 0x38000000 + 0xfff + (bits >> 13 & 1)) >> 13;  // ties to even
    const bits_vec subnormal =
        reinterpret_cast<bits_vec>(reinterpret_cast<vec>(bits) + 0.5f) - bits_of(0.5f);
    const bits_vec none{};
    const bits_vec special = bits > 0x7f800000 ? none + 0x7e00 : none + 0x7c00;  // NaN, or too large
    const bits_vec finite = bits < 0x38800000 ? subnormal : normal;
    return __builtin_convertvector(sign | (bits >= 0x47800000 ? special : finite), halves);
}
#endif

// Reads `count` elements that begin `offset` elements into a tensor; `to` has room for whole vectors.
inline void widen(int64_t dtype, const void* data, int64_t offset, int64_t count, float* to) {
    if (dtype == float32) {
        std::memcpy(to, static_cast<const float*>(data) + offset, count * sizeof(float));
        return;
    }
    const uint16_t* from = static_cast<const uint16_t*>(data) + offset;
    if (dtype == bfloat16) {
        for (int64_t i = 0; i < count; ++i) to[i] = from_bfloat16(from[i]);
        return;
    }
    uint16_t rest[width] = {};
    for (int64_t i = 0; i < count; i += width) {
        const uint16_t* x = from + i;
        if (i + width > count) {
            std::memcpy(rest, x, (count - i) * sizeof(uint16_t));
            x = rest;
        }
        store(to + i, from_float16(x));
    }
}

// Writes `count` elements, times a factor. `from` is read as whole vectors.
inline void narrow(int64_t dtype, void* data, int64_t offset, int64_t count, const float* from,
                   float factor) {
    if (dtype == float32) {
        float* to = static_cast<float*>(data) + offset;
        for (int64_t i = 0; i < count; ++i) to[i] = from[i] * factor;
        return;
    }
    uint16_t* to = static_cast<uint16_t*>(data) + offset;
    if (dtype == bfloat16) {
        for (int64_t i = 0; i < count; ++i) to[i] = to_bfloat16(from[i] * factor);
        return;
    }
    for (int64_t i = 0; i < count; i += width) {
        const halves made = to_float16(load(from + i) * factor);
        if (i + width <= count)
            *reinterpret_cast<halves*>(to + i) = made;
        else
            std::memcpy(to + i, &made, (count - i) * sizeof(uint16_t));
    }
}

// Rows of a head in cells (see numbers.h): where they lie in a tensor, or in a buffer.
struct Rows {
    float* data;
    int64_t stride;
    float* at(int64_t row) const { return data + row * stride; }
    View view() const { return {data, stride, 1}; }
};

// Whether rows of a tensor can be read as cells where they lie: floats as whole vectors, which can be
// written there, too, and pairs in fours, as transpose reads them.
template <class Number>
inline bool in_place(const Tensor& tensor) {
    if (Number::per_cell == 1) return tensor.dtype == float32 && tensor.dim % width == 0;
    const int64_t odd = tensor.batch | tensor.head | tensor.row;
    const bool aligned = reinterpret_cast<uintptr_t>(tensor.data) % sizeof(float) == 0;
    return tensor.dim % (4 * Number::per_cell) == 0 && odd % Number::per_cell == 0 && aligned;
}

// Rows of a tensor, all of which are written.
inline void use_large_pages(const Tensor& tensor, int64_t rows) {
    if (tensor.pages == nullptr)
        use_large_pages(tensor.data, rows * tensor.dim * size_of(tensor.dtype));
}

// How many of `count` rows from one on lie in one piece.
inline int64_t piece(const Tensor& tensor, int64_t row, int64_t count) {
    if (tensor.pages == nullptr) return count;
    return std::min(count, tensor.pages->size - row % tensor.pages->size);
}

// The page of a row, -1 for none.
inline int64_t page_of(const Pages& of, Head head, int64_t row) {
    return of.table[head.batch * of.batch + head.head * of.head + row / of.size];
}

inline bool is_there(const Tensor& tensor, Head head, int64_t row) {
    return tensor.pages == nullptr || page_of(*tensor.pages, head, row) >= 0;
}

// Whether rows of bf16 lie in one piece, as whole vectors, for a product that widens them.
inline bool widens(const Tensor& tensor, Head head, int64_t start, int64_t count) {
    return tensor.dtype == bfloat16 && tensor.dim % width == 0 &&
           piece(tensor, start, count) == count && is_there(tensor, head, start);
}

template <class Number>
inline Rows lying(const Tensor& tensor, Head head, int64_t start) {
    float* data = static_cast<float*>(tensor.data);
    return {data + head.offset(tensor, start) / Number::per_cell, tensor.row / Number::per_cell};
}

// Those of `count` rows that lie in one piece with the first.
inline Ahead ahead_of(const Tensor& tensor, Head head, int64_t start, int64_t count) {
    if (!is_there(tensor, head, start)) return {};
    const int64_t size = size_of(tensor.dtype), of_cell = static_cast<int64_t>(sizeof(float)) / size;
    const char* data = static_cast<const char*>(tensor.data) + head.offset(tensor, start) * size;
    return {reinterpret_cast<const float*>(data), tensor.row / of_cell,
            piece(tensor, start, count), tensor.dim / of_cell};
}

// Elements of a row, padded with zeros to whole cells and to `stride` of them.
template <class Number>
inline void read_row(const Tensor& tensor, int64_t from, float* to, int64_t stride) {
    if (Number::per_cell == 1) {
        widen(tensor.dtype, tensor.data, from, tensor.dim, to);
        std::fill(to + tensor.dim, to + stride, 0.0f);
        return;
    }
    const uint16_t* data = static_cast<const uint16_t*>(tensor.data) + from;
    const int64_t bytes = tensor.dim * static_cast<int64_t>(sizeof(uint16_t));
    std::memcpy(to, data, bytes);
    std::memset(reinterpret_cast<char*>(to) + bytes, 0, stride * sizeof(float) - bytes);
}

// Rows [start, start + count) of a head, to be read. `buffer` has room for them, and takes them,
// padded with zeros to whole cache lines, where they cannot be read in place. absent: what those hold
// whose page is not there.
template <class Number>
[[gnu::noinline]]
Rows read_rows(const Tensor& tensor, Head head, int64_t start, int64_t count, float* buffer,
               float absent = 0.0f) {
    if (in_place<Number>(tensor) && piece(tensor, start, count) == count &&
        is_there(tensor, head, start))
        return lying<Number>(tensor, head, start);
    const int64_t dim = cells<Number>(tensor.dim), stride = padded(dim);
    float* to = buffer;
    for (int64_t row = start, stop = start + count; row < stop;) {
        const int64_t end = row + piece(tensor, row, stop - row);
        const bool there = is_there(tensor, head, row);
        for (int64_t from = head.offset(tensor, row); row < end; ++row, from += tensor.row) {
            if (there) {
                read_row<Number>(tensor, from, to, stride);
            } else {
                std::fill(to, to + dim, absent);
                std::fill(to + dim, to + stride, 0.0f);
            }
            to += stride;
        }
    }
    return {buffer, stride};
}

// Two rows of bf16, either of which may be missing, in cells of one element of each.
inline void pair_rows(const uint16_t* first, const uint16_t* second, int64_t dim, float* to) {
    typedef uint16_t half __attribute__((may_alias));
    half* halves = reinterpret_cast<half*>(to);
    if (first == nullptr || second == nullptr) std::fill(to, to + dim, 0.0f);
    if (first != nullptr && second != nullptr)  // as most are: in one loop that is vectorised
        for (int64_t d = 0; d < dim; ++d)
            halves[2 * d] = first[d], halves[2 * d + 1] = second[d];
    else if (first != nullptr)
        for (int64_t d = 0; d < dim; ++d) halves[2 * d] = first[d];
    else if (second != nullptr)
        for (int64_t d = 0; d < dim; ++d) halves[2 * d + 1] = second[d];
}

// The same rows as the depth of a product: those of floats as they are, those of bf16 in pairs.
template <class Number>
[[gnu::noinline]]
Rows read_depth(const Tensor& tensor, Head head, int64_t start, int64_t count, float* buffer) {
    if (Number::per_cell == 1) return read_rows<Number>(tensor, head, start, count, buffer);
    const int64_t dim = tensor.dim, stride = padded(dim), stop = start + count;
    const auto row_at = [&](int64_t row) -> const uint16_t* {
        if (row >= stop || !is_there(tensor, head, row)) return nullptr;
        return static_cast<const uint16_t*>(tensor.data) + head.offset(tensor, row);
    };
    float* to = buffer;
    for (int64_t row = start; row < stop; row += 2, to += stride) {
        pair_rows(row_at(row), row_at(row + 1), dim, to);
        std::fill(to + dim, to + stride, 0.0f);
    }
    return {buffer, stride};
}

// Calls visit(rows, first, many) for the rows that read_rows has, piece by piece where that saves a copy.
template <class Number, class Visit>
inline void each_piece(const Tensor& tensor, Head head, int64_t start, int64_t count, float* buffer,
                       float absent, Visit visit) {
    const bool whole = !in_place<Number>(tensor);
    for (int64_t first = 0, many; first < count; first += many) {
        many = whole ? count : piece(tensor, start + first, count - first);
        visit(read_rows<Number>(tensor, head, start + first, many, buffer, absent), first, many);
    }
}

[[maybe_unused, gnu::noinline]]
void write_row(const Tensor& tensor, Head head, int64_t row, const float* from,
               float factor = 1.0f) {
    narrow(tensor.dtype, tensor.data, head.offset(tensor, row), tensor.dim, from, factor);
}

// Four cells of each of four rows to four rows of four, floats times a factor.
template <class Number>
inline void transpose_4x4(const float* from, int64_t from_stride, float factor, float* to,
                          int64_t to_stride) {
    typedef float quad __attribute__((vector_size(16), may_alias, aligned(4)));
    const auto read = [&](const float* x) {
        const quad four = *reinterpret_cast<const quad*>(x);
        return Number::per_cell == 1 ? four * factor : four;
    };
    quad half[4];  // columns 0 and 1 of rows 0 and 1, of rows 2 and 3; then columns 2 and 3
    for (int i = 0; i < 2; ++i, from += 2 * from_stride) {
        const quad x = read(from), y = read(from + from_stride);
        half[i] = quad{x[0], y[0], x[1], y[1]};
        half[2 + i] = quad{x[2], y[2], x[3], y[3]};
    }
    for (int i = 0; i < 4; i += 2, to += 2 * to_stride) {
        const quad x = half[i], y = half[i + 1];
        *reinterpret_cast<quad*>(to) = quad{x[0], x[1], y[0], y[1]};
        *reinterpret_cast<quad*>(to + to_stride) = quad{x[2], x[3], y[2], y[3]};
    }
}

// (count, depth) cells to (depth, lanes), floats times a factor; zeros in the lanes left over. The depth
// is rounded up to a multiple of 4: rows in buffers have zeros there, and `to` has room.
template <class Number>
[[gnu::noinline]]
void transpose(Rows from, int64_t count, int64_t depth, float factor, float* to, int64_t lanes) {
    const int64_t whole = count / 4 * 4;
    for (int64_t d = 0; d < depth; d += 4) {
        for (int64_t i = 0; i < whole; i += 4)
            transpose_4x4<Number>(from.at(i) + d, from.stride, factor, to + d * lanes + i, lanes);
        for (int64_t i = whole; i < count; ++i)
            for (int64_t e = d; e < d + 4; ++e) {
                const float x = from.at(i)[e];
                to[e * lanes + i] = Number::per_cell == 1 ? x * factor : x;
            }
        if (count == lanes) continue;
        for (int64_t e = d; e < d + 4; ++e)
            std::fill(to + e * lanes + count, to + (e + 1) * lanes, 0.0f);
    }
}

// (count, depth) cells to rows of `stride`, floats times a factor; zeros behind them.
template <class Number>
void copy_rows(Rows from, int64_t count, int64_t depth, float factor, float* to, int64_t stride) {
    for (int64_t i = 0; i < count; ++i, to += stride) {
        std::memcpy(to, from.at(i), depth * sizeof(float));
        if (Number::per_cell == 1)
            for (int64_t d = 0; d < depth; ++d) to[d] *= factor;
        std::fill(to + depth, to + stride, 0.0f);
    }
}

}  // namespace
}  // namespace bslang

#endif  // BSLANG_TENSORS_H

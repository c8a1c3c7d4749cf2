// How many fused multiply-adds the processor can do: chains that are independent, in registers, on all threads.

#include <cstdint>

#include <omp.h>

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
#elif defined(__AVX__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;
#endif
typedef float Vector __attribute__((vector_size(vector_bytes)));

// A chain waits for its own last result: 4 or 5 cycles, in which two units could begin 10 others.
// With two constants beside them, 12 chains fit the 16 registers of AVX2.
constexpr int chains = 12;

// Runs `steps` of each chain on each thread; returns the floating-point operations done. What came
// out is written to `sink`, so that no compiler may leave the work out.
extern "C" double bslang_peak(int64_t threads, int64_t steps, float* sink) {
    float total = 0;
#pragma omp parallel num_threads(static_cast<int>(threads)) reduction(+ : total)
    {
        Vector x[chains];
        for (int c = 0; c < chains; ++c) x[c] = Vector{} + static_cast<float>(c);
        // x goes to 1 and never overflows, nor becomes denormal.
        const Vector a = Vector{} + 0.5f, b = Vector{} + 0.5f;
        for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 12
            for (int c = 0; c < chains; ++c) x[c] = x[c] * a + b;
        }
        for (int c = 0; c < chains; ++c) total += x[c][0];
    }
    *sink = total;
    return 2.0 * chains * (vector_bytes / sizeof(float)) * static_cast<double>(steps) * static_cast<double>(threads);
}

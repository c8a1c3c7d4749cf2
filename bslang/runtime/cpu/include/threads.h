// threads.h: OpenMP, for compilers with it; others build the same code for one thread.

#ifndef BSLANG_THREADS_H
#define BSLANG_THREADS_H

#include <cstdint>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace bslang {
namespace {

// The number of the calling thread among those of its parallel region.
inline int64_t this_thread() {
#ifdef _OPENMP
    return omp_get_thread_num();
#else
    return 0;
#endif
}

}  // namespace
}  // namespace bslang

#endif  // BSLANG_THREADS_H

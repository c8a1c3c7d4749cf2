// Put behind generated C++ when it is built.
//
// Whether this processor has the instructions that the compiler was free to use. It is asked before
// anything else in the library is called, and so must itself do with those that every processor has.
// Some features are not asked for, since no processor has the others without them. AMX is not, since
// code for it also has other instructions in its place: see tiles.h.

#if defined(__x86_64__)
#include <cpuid.h>

extern "C" __attribute__((target("arch=x86-64"))) int bslang_runs_here() {
    __builtin_cpu_init();
#ifdef __SSE3__
    if (!__builtin_cpu_supports("sse3")) return 0;
#endif
#ifdef __SSSE3__
    if (!__builtin_cpu_supports("ssse3")) return 0;
#endif
#ifdef __SSE4_1__
    if (!__builtin_cpu_supports("sse4.1")) return 0;
#endif
#ifdef __SSE4_2__
    if (!__builtin_cpu_supports("sse4.2")) return 0;
#endif
#ifdef __POPCNT__
    if (!__builtin_cpu_supports("popcnt")) return 0;
#endif
#ifdef __SSE4A__
    if (!__builtin_cpu_supports("sse4a")) return 0;
#endif
#ifdef __AVX__
    if (!__builtin_cpu_supports("avx")) return 0;
#endif
#ifdef __FMA__
    if (!__builtin_cpu_supports("fma")) return 0;
#endif
#ifdef __FMA4__
    if (!__builtin_cpu_supports("fma4")) return 0;
#endif
#ifdef __XOP__
    if (!__builtin_cpu_supports("xop")) return 0;
#endif
#ifdef __AVX2__
    if (!__builtin_cpu_supports("avx2")) return 0;
#endif
#ifdef __BMI__
    if (!__builtin_cpu_supports("bmi")) return 0;
#endif
#ifdef __BMI2__
    if (!__builtin_cpu_supports("bmi2")) return 0;
#endif
#ifdef __AVX512F__
    if (!__builtin_cpu_supports("avx512f")) return 0;
#endif
#ifdef __AVX512CD__
    if (!__builtin_cpu_supports("avx512cd")) return 0;
#endif
#ifdef __AVX512BW__
    if (!__builtin_cpu_supports("avx512bw")) return 0;
#endif
#ifdef __AVX512DQ__
    if (!__builtin_cpu_supports("avx512dq")) return 0;
#endif
#ifdef __AVX512VL__
    if (!__builtin_cpu_supports("avx512vl")) return 0;
#endif
#ifdef __AVX512IFMA__
    if (!__builtin_cpu_supports("avx512ifma")) return 0;
#endif
#ifdef __AVX512VBMI__
    if (!__builtin_cpu_supports("avx512vbmi")) return 0;
#endif
#ifdef __AVX512VBMI2__
    if (!__builtin_cpu_supports("avx512vbmi2")) return 0;
#endif
#ifdef __AVX512VNNI__
    if (!__builtin_cpu_supports("avx512vnni")) return 0;
#endif
#ifdef __AVX512BITALG__
    if (!__builtin_cpu_supports("avx512bitalg")) return 0;
#endif
#ifdef __AVX512VPOPCNTDQ__
    if (!__builtin_cpu_supports("avx512vpopcntdq")) return 0;
#endif
#ifdef __AVX512BF16__
    if (!__builtin_cpu_supports("avx512bf16")) return 0;
#endif
#ifdef __AVX512FP16__  // by number: Clang 14 does not know its name
    unsigned a, b, c, d;
    __cpuid_count(7, 0, a, b, c, d);
    if ((d >> 23 & 1) == 0) return 0;
#endif
    return 1;
}
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>

extern "C" int bslang_runs_here() {
    [[maybe_unused]] const unsigned long hwcap = getauxval(AT_HWCAP);
    [[maybe_unused]] const unsigned long hwcap2 = getauxval(AT_HWCAP2);
#if defined(__ARM_FEATURE_ATOMICS) && defined(HWCAP_ATOMICS)
    if (!(hwcap & HWCAP_ATOMICS)) return 0;
#endif
#if defined(__ARM_FEATURE_QRDMX) && defined(HWCAP_ASIMDRDM)
    if (!(hwcap & HWCAP_ASIMDRDM)) return 0;
#endif
#if defined(__ARM_FEATURE_RCPC) && defined(HWCAP_LRCPC)
    if (!(hwcap & HWCAP_LRCPC)) return 0;
#endif
#if defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC) && defined(HWCAP_ASIMDHP)
    if (!(hwcap & HWCAP_ASIMDHP)) return 0;
#endif
#if defined(__ARM_FEATURE_FP16_FML) && defined(HWCAP_ASIMDFHM)
    if (!(hwcap & HWCAP_ASIMDFHM)) return 0;
#endif
#if defined(__ARM_FEATURE_DOTPROD) && defined(HWCAP_ASIMDDP)
    if (!(hwcap & HWCAP_ASIMDDP)) return 0;
#endif
#if defined(__ARM_FEATURE_COMPLEX) && defined(HWCAP_FCMA)
    if (!(hwcap & HWCAP_FCMA)) return 0;
#endif
#if defined(__ARM_FEATURE_SVE) && defined(HWCAP_SVE)
    if (!(hwcap & HWCAP_SVE)) return 0;
#endif
#if defined(__ARM_FEATURE_SVE2) && defined(HWCAP2_SVE2)
    if (!(hwcap2 & HWCAP2_SVE2)) return 0;
#endif
#if defined(__ARM_FEATURE_MATMUL_INT8) && defined(HWCAP2_I8MM)
    if (!(hwcap2 & HWCAP2_I8MM)) return 0;
#endif
#if defined(__ARM_FEATURE_BF16) && defined(HWCAP2_BF16)
    if (!(hwcap2 & HWCAP2_BF16)) return 0;
#endif
    return 1;
}
#else
extern "C" int bslang_runs_here() { return 1; }
#endif

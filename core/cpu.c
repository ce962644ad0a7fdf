// What this CPU and its operating system can run, and which kernel table that means.
#include <string.h>

#include "core/error.h"
#include "core/kernels.h"
#include "kernels/table.h"

#if defined(__x86_64__)
#include <cpuid.h>

enum {
    XCR0_AVX = 0x06,    // SSE and AVX state
    XCR0_AVX512 = 0xe6, // and opmask, upper halves, upper registers
};

typedef struct features {
    bool fma, avx2, avx512;
} features;

// Register state that the operating system saves; only called when OSXSAVE says so.
static uint32_t read_xcr0(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static bool has(uint32_t word, unsigned bit)
{
    return (word >> bit & 1u) != 0;
}

static features detect(void)
{
    features f = {0};
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, 27))
        return f;
    const uint32_t xcr0 = read_xcr0();
    const bool avx = has(c, 28) && (xcr0 & XCR0_AVX) == XCR0_AVX;
    const bool f16c = has(c, 29);
    f.fma = avx && has(c, 12);
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return f;
    f.avx2 = f.fma && f16c && has(b, 5);
    // F, DQ, BW, VL, VNNI
    f.avx512 = f.avx2 && (xcr0 & XCR0_AVX512) == XCR0_AVX512 && has(b, 16) && has(b, 17) &&
               has(b, 30) && has(b, 31) && has(c, 11);
    return f;
}

gg_level gg_cpu_level(void)
{
    const features f = detect();
    return f.avx512 ? GG_LEVEL_AVX512 : f.avx2 ? GG_LEVEL_AVX2 : GG_LEVEL_SCALAR;
}

const gg_kernels *gg_kernels_get(gg_level level)
{
    const features f = detect();
    if (level == GG_LEVEL_AVX512)
        return f.avx512 ? &gg_kernels_avx512 : NULL;
    if (level == GG_LEVEL_AVX2)
        return f.avx2 ? &gg_kernels_avx2 : NULL;
    if (level == GG_LEVEL_SCALAR)
        return f.fma ? &gg_kernels_scalar_fma : &gg_kernels_scalar;
    return NULL;
}

#else

gg_level gg_cpu_level(void)
{
    return GG_LEVEL_SCALAR;
}

const gg_kernels *gg_kernels_get(gg_level level)
{
    return level == GG_LEVEL_SCALAR ? &gg_kernels_scalar : NULL;
}

#endif

gorgon_status gg_level_parse(const char *word, gg_level *out, gorgon_error *err)
{
    static const char *const words[GG_LEVEL_COUNT] = {"scalar", "avx2", "avx512"};
    for (size_t i = 0; i < GG_LEVEL_COUNT; i++) {
        if (strcmp(word, words[i]) == 0) {
            *out = (gg_level)i;
            return GORGON_OK;
        }
    }
    return gg_fail(err, GORGON_ERROR_ARGUMENT,
                   "CPU level: expected scalar, avx2 or avx512, got '%.40s'", word);
}

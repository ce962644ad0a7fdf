// What this CPU and its operating system can run, and which kernel table that means.
#define _DEFAULT_SOURCE // syscall

#include <string.h>

#include "core/error.h"
#include "core/kernels.h"
#include "kernels/table.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

enum {
    XCR0_AVX = 0x06,    // SSE and AVX state
    XCR0_AVX512 = 0xe6, // and opmask, upper halves, upper registers
    XCR0_AMX = 0x60000, // tile configuration and data
};

typedef struct features {
    bool fma, avx2, avxvnni, avx512;
    bool amx; // permission apart
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
    // BF16, TILE, INT8
    f.amx = f.avx512 && (xcr0 & XCR0_AMX) == XCR0_AMX && has(d, 22) && has(d, 24) && has(d, 25);
    f.avxvnni = f.avx2 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && has(a, 4);
    return f;
}

// Linux gives tiles to processes that ask (8 KB more state per thread). Asking again is harmless.
static bool may_use_tiles(void)
{
#if defined(__linux__) && defined(SYS_arch_prctl)
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
    return false;
#endif
}

const gg_kernels *gg_kernels_get(gg_level level)
{
    const features f = detect();
    switch (level) {
    case GG_LEVEL_SCALAR:
        return f.fma ? &gg_kernels_scalar_fma : &gg_kernels_scalar;
    case GG_LEVEL_AVX2:
        return f.avx2 ? &gg_kernels_avx2 : NULL;
    case GG_LEVEL_AVXVNNI:
        return f.avxvnni ? &gg_kernels_avxvnni : NULL;
    case GG_LEVEL_AVX512:
        return f.avx512 ? &gg_kernels_avx512 : NULL;
    case GG_LEVEL_AMX:
        return f.amx && may_use_tiles() ? &gg_kernels_amx : NULL;
    case GG_LEVEL_COUNT:
        break;
    }
    return NULL;
}

#else

const gg_kernels *gg_kernels_get(gg_level level)
{
    return level == GG_LEVEL_SCALAR ? &gg_kernels_scalar : NULL;
}

#endif

gg_level gg_cpu_level(void)
{
    gg_level level = GG_LEVEL_COUNT - 1;
    while (!gg_kernels_get(level))
        level--;
    return level;
}

gorgon_status gg_level_parse(const char *word, gg_level *out, gorgon_error *err)
{
    static const char *const words[GG_LEVEL_COUNT] = {"scalar", "avx2", "avxvnni", "avx512", "amx"};
    for (size_t i = 0; i < GG_LEVEL_COUNT; i++) {
        if (strcmp(word, words[i]) == 0) {
            *out = (gg_level)i;
            return GORGON_OK;
        }
    }
    return gg_fail(err, GORGON_ERROR_ARGUMENT,
                   "CPU level: expected scalar, avx2, avxvnni, avx512 or amx, got '%.40s'", word);
}

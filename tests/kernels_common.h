// Shared by the kernel tests: the levels this CPU has, buffers between guard pages, pseudo-random
// numbers with extremes, and comparison by bits.
#ifndef GG_TEST_KERNELS_COMMON_H
#define GG_TEST_KERNELS_COMMON_H

#define _DEFAULT_SOURCE // MAP_ANONYMOUS

#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/kernels.h"

// The specification at baseline flags: gg_kernels_get may return the build with the fma
// instruction instead, which is one of the levels under test.
extern const gg_kernels gg_kernels_scalar;

// The n-th level this CPU has, NULL beyond the last.
static inline const gg_kernels *test_level(size_t n)
{
    for (size_t l = 0; l < GG_LEVEL_COUNT; l++) {
        const gg_kernels *k = gg_kernels_get((gg_level)l);
        if (k && n-- == 0)
            return k;
    }
    return NULL;
}

// Every type that weights may have: X(TYPE, 2-byte fields per unit, whether they end it).
#define WEIGHT_TYPES(X)                                                                            \
    X(F32, 0, 0)                                                                                   \
    X(F16, 1, 0)                                                                                   \
    X(BF16, 1, 0)                                                                                  \
    X(Q4_0, 1, 0)                                                                                  \
    X(Q4_1, 2, 0)                                                                                  \
    X(Q5_0, 1, 0)                                                                                  \
    X(Q5_1, 2, 0)                                                                                  \
    X(Q8_0, 1, 0)                                                                                  \
    X(IQ4_NL, 1, 0)                                                                                \
    X(Q2_K, 2, 1)                                                                                  \
    X(Q3_K, 1, 1)                                                                                  \
    X(Q4_K, 2, 0)                                                                                  \
    X(Q5_K, 2, 0)                                                                                  \
    X(Q6_K, 1, 1)

static const gg_dtype weight_types[] = {
#define TYPE_OF(TYPE, ...) GG_##TYPE,
    WEIGHT_TYPES(TYPE_OF)
#undef TYPE_OF
};
enum { WEIGHT_TYPE_COUNT = sizeof weight_types / sizeof weight_types[0] };

// Inputs of a unit: 1, 32 or 256.
static inline size_t unit_inputs(gg_dtype type)
{
    size_t n = 1;
    while (gg_dtype_row_bytes(type, n) == 0)
        n *= 2;
    return n;
}

// The nearest whole number of units.
static inline size_t whole_units(gg_dtype type, size_t n_in)
{
    const size_t unit = unit_inputs(type);
    return n_in < unit ? unit : n_in / unit * unit;
}

// Puts a unit's 2-byte fields, its scales, where its type has them.
static inline void set_halves(gg_dtype type, uint8_t *unit, const uint16_t halves[2])
{
    switch (type) {
#define SET_HALVES(TYPE, n, at_end)                                                                \
    case GG_##TYPE:                                                                                \
        memcpy(unit + (at_end ? gg_dtype_row_bytes(type, unit_inputs(type)) - 2 * (n) : 0),        \
               halves, 2 * (n));                                                                   \
        return;
        WEIGHT_TYPES(SET_HALVES)
#undef SET_HALVES
    default:
        return;
    }
}

enum {
    MAX_GUARDED = 64,
};

// Buffers that end (or begin) at an unmapped page, so that one byte too far is a fault.
typedef struct guards {
    void *base[MAX_GUARDED];
    size_t bytes[MAX_GUARDED];
    size_t n;
} guards;

// `bytes` bytes between two unmapped pages: touching the upper one if at_end, else the lower one.
static inline void *guard_alloc(guards *g, size_t bytes, bool at_end)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t body = (bytes + page - 1) / page * page;
    cr_assert_lt(g->n, MAX_GUARDED);
    uint8_t *base = mmap(NULL, body + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(base, MAP_FAILED);
    cr_assert_eq(mprotect(base + page, body, PROT_READ | PROT_WRITE), 0);
    g->base[g->n] = base;
    g->bytes[g->n++] = body + 2 * page;
    return base + page + (at_end ? body - bytes : 0);
}

static inline void *guard_copy(guards *g, const void *from, size_t bytes, bool at_end)
{
    void *p = guard_alloc(g, bytes, at_end);
    memcpy(p, from, bytes);
    return p;
}

static inline void guard_free(guards *g)
{
    for (size_t i = 0; i < g->n; i++)
        munmap(g->base[i], g->bytes[i]);
    g->n = 0;
}

static inline uint32_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 32);
}

// Uniform in [-1, 1).
static inline float random_float(uint64_t *state)
{
    return (float)(int32_t)next_random(state) * 0x1p-31f;
}

// One in four values is a zero of either sign, a subnormal, tiny or huge; all finite.
static inline float random_extreme(uint64_t *state)
{
    static const float extremes[] = {0.0f,   -0.0f, 1e-45f, -1e-40f,       1e-38f, -3e-20f, 1e20f,
                                     -1e30f, 3e38f, -3e38f, 3.4028234e38f, 100.0f, -89.5f,  127.0f};
    const uint32_t r = next_random(state);
    if (r % 4 == 0)
        return extremes[r / 4 % (sizeof extremes / sizeof extremes[0])];
    return random_float(state) * 4.0f;
}

static inline uint32_t float_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

// Index of the first difference in bits (two NaN are equal: their payload is nobody's promise), n
// if there is none.
static inline size_t first_difference(const float *a, const float *b, size_t n)
{
    size_t i = 0;
    while (i < n && (float_bits(a[i]) == float_bits(b[i]) || (isnan(a[i]) && isnan(b[i]))))
        i++;
    return i;
}

#endif

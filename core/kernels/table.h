// Private to the kernels: the tables behind gg_kernels_get and the scalar arithmetic that every
// level shares (fma, the constants of exp, log).
#ifndef GG_KERNELS_TABLE_H
#define GG_KERNELS_TABLE_H

#include <stdint.h>
#include <string.h>

#include "core/kernels.h"

extern const gg_kernels gg_kernels_scalar;     // baseline flags, fma in software
extern const gg_kernels gg_kernels_scalar_fma; // the same source compiled for the fma instruction
extern const gg_kernels gg_kernels_avx2;
extern const gg_kernels gg_kernels_avxvnni; // the same source with the int8 dot product
extern const gg_kernels gg_kernels_avx512;
extern const gg_kernels gg_kernels_amx; // AVX-512's kernels with the product on tiles

// amx.c, for its table, which stands beside that of AVX-512. Threads need the operating system's
// permission for tiles, which gg_kernels_get asks for.
void gg_amx_matmul_q(const gg_matrix *w, size_t tile0, size_t tile1, const gg_qrows *a, size_t rows,
                     float *y, size_t ldy);
size_t gg_amx_multiply_adds(size_t steps, uint32_t *seed);
void gg_amx_dense(const gg_dense *product); // amx_dense.c
size_t gg_amx_dense_scratch(void);

// exp(x) = 2^n * e^r, n = round(x / ln 2), e^r by a polynomial of degree 7 (Cephes).
#define GG_EXP_MIN    (-104.0f) // e^-104 rounds to 0
#define GG_EXP_MAX    89.0f     // e^89 rounds to infinity
#define GG_EXP_LOG2E  1.44269504088896341f
#define GG_EXP_MAGIC  12582912.0f // 1.5 * 2^23: adding it rounds to an integer, nearest even
#define GG_EXP_LN2_HI 0.693359375f
#define GG_EXP_LN2_LO (-2.12194440e-4f)
#define GG_EXP_P7     1.9875691500e-4f
#define GG_EXP_P6     1.3981999507e-3f
#define GG_EXP_P5     8.3334519073e-3f
#define GG_EXP_P4     4.1665795894e-2f
#define GG_EXP_P3     1.6666665459e-1f
#define GG_EXP_P2     5.0000001201e-1f

// gelu(x), the tanh form, = x / (1 + exp(-z)), z = x * (GG_GELU_1 + GG_GELU_3 * x^2).
#define GG_GELU_1 1.5957691216057308f  // 2 * sqrt(2 / pi)
#define GG_GELU_3 0.07135481627159625f // 0.044715 of it

// Activation blocks whose largest magnitude is below this count as zero.
#define GG_QUANTIZE_MIN 0x1p-100f

static inline uint32_t gg_float_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float gg_bits_float(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

// a * b + c rounded once. Without the instruction: the product is exact in double, the sum is
// rounded to odd there, so that the last rounding, to float, sees on which side the rest lies.
static inline float gg_fma(float a, float b, float c)
{
#ifdef __FMA__
    return __builtin_fmaf(a, b, c);
#else
    const double product = (double)a * (double)b;
    const double sum = product + (double)c;
    const double part = sum - product;
    const double rest = (product - (sum - part)) + ((double)c - part);
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    const int finite = ((bits >> 52) & 0x7ff) != 0x7ff;
    if (finite && rest != 0 && (bits & 1) == 0)
        bits = (rest > 0) == (sum > 0) ? bits + 1 : bits - 1;
    double odd;
    memcpy(&odd, &bits, sizeof odd);
    return (float)odd;
#endif
}

// max + ln(sum), sum in [1, 2^24]: ln m = 2 atanh((m - 1) / (m + 1)), in double, rounded once.
static inline float gg_add_log(float max, float sum)
{
    const uint32_t bits = gg_float_bits(sum);
    double exponent = (double)((int)(bits >> 23) - 127);
    double m = (double)gg_bits_float((bits & 0x007fffffu) | 0x3f800000u);
    if (m > 1.4142135623730951) {
        m *= 0.5;
        exponent += 1.0;
    }
    const double s = (m - 1.0) / (m + 1.0);
    const double z = s * s;
    double p = 1.0 / 15.0;
    for (int k = 13; k >= 1; k -= 2)
        p = p * z + 1.0 / (double)k;
    return (float)((double)max + (exponent * 0.69314718055994531 + 2.0 * s * p));
}

#endif

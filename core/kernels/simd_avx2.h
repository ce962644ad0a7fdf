// Sixteen lanes on AVX2 + FMA + F16C: vf holds 16 floats, vi 16 int32, each as two registers. The
// same names as in simd_avx512.h, so that vector_*.h is written once for both.
#ifndef GG_KERNELS_SIMD_H
#define GG_KERNELS_SIMD_H

#include <immintrin.h>

#include "kernels/table.h"

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum {
    ATTEND_HEADS = 2, // query heads whose accumulators are in registers at once
    ATTEND_TILES = 2, // K tiles (QK) and 16-lane parts of a head (PV), likewise
    FLOAT_ROWS = 4,   // rows per pass of the float products over a weight tile
};

typedef struct vf {
    __m256 lo, hi;
} vf;
typedef struct vi {
    __m256i lo, hi;
} vi;

static const int32_t lane_masks[32] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
                                       -1, -1, -1, -1, -1, 0,  0,  0,  0,  0,  0,
                                       0,  0,  0,  0,  0,  0,  0,  0,  0,  0};

INLINE __m256i load_i256(const void *p)
{
    return _mm256_loadu_si256((const __m256i_u *)p);
}
// Masks of the first n of 16 lanes, n >= 0.
INLINE vi first_lanes(size_t n)
{
    const int32_t *p = lane_masks + 16 - (n < 16 ? n : 16);
    return (vi){load_i256(p), load_i256(p + 8)};
}

INLINE vf vf_set1(float x)
{
    return (vf){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
INLINE vf vf_load(const float *p)
{
    return (vf){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
// The first n lanes, the others 0. Memory beyond them is not touched.
INLINE vf vf_load_n(const float *p, size_t n)
{
    if (n >= 16)
        return vf_load(p);
    const vi mask = first_lanes(n);
    return (vf){_mm256_maskload_ps(p, mask.lo), _mm256_maskload_ps(p + 8, mask.hi)};
}
INLINE void vf_store(float *p, vf x)
{
    _mm256_storeu_ps(p, x.lo);
    _mm256_storeu_ps(p + 8, x.hi);
}
INLINE void vf_store_n(float *p, vf x, size_t n)
{
    if (n >= 16) {
        vf_store(p, x);
        return;
    }
    const vi mask = first_lanes(n);
    _mm256_maskstore_ps(p, mask.lo, x.lo);
    _mm256_maskstore_ps(p + 8, mask.hi, x.hi);
}
INLINE vf vf_load_f16(const uint16_t *p)
{
    return (vf){_mm256_cvtph_ps(_mm_loadu_si128((const __m128i_u *)(const void *)p)),
                _mm256_cvtph_ps(_mm_loadu_si128((const __m128i_u *)(const void *)(p + 8)))};
}
INLINE vf vf_load_f16_n(const uint16_t *p, size_t n)
{
    if (n >= 16)
        return vf_load_f16(p);
    uint16_t copy[16] = {0};
    for (size_t i = 0; i < n; i++)
        copy[i] = p[i];
    return vf_load_f16(copy);
}
INLINE void vf_store_f16_n(uint16_t *p, vf x, size_t n)
{
    uint16_t copy[16];
    uint16_t *to = n >= 16 ? p : copy;
    _mm_storeu_si128((__m128i_u *)(void *)to, _mm256_cvtps_ph(x.lo, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i_u *)(void *)(to + 8),
                     _mm256_cvtps_ph(x.hi, _MM_FROUND_TO_NEAREST_INT));
    for (size_t i = 0; n < 16 && i < n; i++)
        p[i] = copy[i];
}
INLINE __m256 load_bf16_8(const uint16_t *p)
{
    const __m128i half = _mm_loadu_si128((const __m128i_u *)(const void *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}
INLINE vf vf_load_bf16(const uint16_t *p)
{
    return (vf){load_bf16_8(p), load_bf16_8(p + 8)};
}
INLINE vf vf_add(vf a, vf b)
{
    return (vf){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
INLINE vf vf_sub(vf a, vf b)
{
    return (vf){_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
INLINE vf vf_mul(vf a, vf b)
{
    return (vf){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
INLINE vf vf_div(vf a, vf b)
{
    return (vf){_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
INLINE vf vf_sqrt(vf a)
{
    return (vf){_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)};
}
INLINE vf vf_fma(vf a, vf b, vf c)
{
    return (vf){_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
// a > b ? a : b, lane by lane: b where either is NaN.
INLINE vf vf_max(vf a, vf b)
{
    return (vf){_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
INLINE vf vf_min(vf a, vf b)
{
    return (vf){_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}
// x where the lane is among the first n, fill elsewhere.
INLINE vf vf_keep_n(vf x, vf fill, size_t n)
{
    const vi mask = first_lanes(n);
    return (vf){_mm256_blendv_ps(fill.lo, x.lo, _mm256_castsi256_ps(mask.lo)),
                _mm256_blendv_ps(fill.hi, x.hi, _mm256_castsi256_ps(mask.hi))};
}
INLINE vf vf_negate(vf x)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return (vf){_mm256_xor_ps(x.lo, sign), _mm256_xor_ps(x.hi, sign)};
}
// Lanes (2j, 2j+1) exchanged.
INLINE vf vf_swap_pairs(vf x)
{
    return (vf){_mm256_permute_ps(x.lo, 0xb1), _mm256_permute_ps(x.hi, 0xb1)};
}
// p[0], p[0], p[1], p[1], ... of the first n values, others 0.
INLINE vf vf_load_doubled_n(const float *p, size_t n)
{
    const __m256 x = _mm256_maskload_ps(p, first_lanes(n < 8 ? n : 8).lo);
    return (vf){_mm256_permutevar8x32_ps(x, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3)),
                _mm256_permutevar8x32_ps(x, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7))};
}
// a * b - c in even lanes, a * b + c in odd ones.
INLINE vf vf_fmaddsub(vf a, vf b, vf c)
{
    return (vf){_mm256_fmaddsub_ps(a.lo, b.lo, c.lo), _mm256_fmaddsub_ps(a.hi, b.hi, c.hi)};
}
// 2^n for n in -127 < n < 128.
INLINE __m256 power_of_two(__m256i n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
INLINE __m256 scale_exp_8(__m256 x, __m256 n)
{
    const __m256i exponent = _mm256_cvtps_epi32(n), first = _mm256_srai_epi32(exponent, 1);
    x = _mm256_mul_ps(x, power_of_two(first));
    return _mm256_mul_ps(x, power_of_two(_mm256_sub_epi32(exponent, first)));
}
// x * 2^n, n integral, |n| < 250; in two steps of which only the second can round.
INLINE vf vf_scale_exp(vf x, vf n)
{
    return (vf){scale_exp_8(x.lo, n.lo), scale_exp_8(x.hi, n.hi)};
}

INLINE __m256 low_half(vf x)
{
    return x.lo;
}
INLINE __m256 high_half(vf x)
{
    return x.hi;
}

INLINE vi vi_set1(int x)
{
    return (vi){_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}
INLINE vi vi_load(const uint8_t *p)
{
    return (vi){load_i256(p), load_i256(p + 32)};
}
INLINE vi vi_add(vi a, vi b)
{
    return (vi){_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)};
}
INLINE vi vi_and(vi a, vi b)
{
    return (vi){_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)};
}
INLINE vi vi_or(vi a, vi b)
{
    return (vi){_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)};
}
INLINE vi vi_sub_bytes(vi a, vi b)
{
    return (vi){_mm256_sub_epi8(a.lo, b.lo), _mm256_sub_epi8(a.hi, b.hi)};
}
// The byte of the table that each byte of x, 0 to 15, is the index of.
INLINE vi vi_look_up(const uint8_t table[16], vi x)
{
    const __m256i t =
        _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i_u *)(const void *)table));
    return (vi){_mm256_shuffle_epi8(t, x.lo), _mm256_shuffle_epi8(t, x.hi)};
}
// Byte i of each lane in all four of its bytes.
INLINE vi vi_spread_byte(vi x, const int i)
{
    const __m256i at = _mm256_add_epi8(_mm256_set1_epi8((char)i),
                                       _mm256_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c, 0,
                                                         0x04040404, 0x08080808, 0x0c0c0c0c));
    return (vi){_mm256_shuffle_epi8(x.lo, at), _mm256_shuffle_epi8(x.hi, at)};
}
INLINE __m256i add_where(__m256i x, __m256i bits, __m256i mask, __m256i value)
{
    const __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(bits, mask), mask);
    return _mm256_add_epi8(x, _mm256_and_si256(set, value));
}
// x + value in the bytes where `bits` has the one bit that is in the mask's byte.
INLINE vi vi_add_where(vi x, vi bits, vi mask, const int value)
{
    const __m256i v = _mm256_set1_epi8((char)value);
    return (vi){add_where(x.lo, bits.lo, mask.lo, v), add_where(x.hi, bits.hi, mask.hi, v)};
}
INLINE vi vi_max(vi a, vi b)
{
    return (vi){_mm256_max_epi32(a.lo, b.lo), _mm256_max_epi32(a.hi, b.hi)};
}
INLINE vi vi_shift_left(vi a, int n)
{
    const __m128i count = _mm_cvtsi32_si128(n);
    return (vi){_mm256_sll_epi32(a.lo, count), _mm256_sll_epi32(a.hi, count)};
}
INLINE vi vi_shift_right(vi a, int n) // copies of the sign come in
{
    const __m128i count = _mm_cvtsi32_si128(n);
    return (vi){_mm256_sra_epi32(a.lo, count), _mm256_sra_epi32(a.hi, count)};
}
INLINE vi vi_shift_down(vi a, int n) // zeros come in; n need not be a constant
{
    const __m256i count = _mm256_set1_epi32(n);
    return (vi){_mm256_srlv_epi32(a.lo, count), _mm256_srlv_epi32(a.hi, count)};
}
INLINE vf vi_to_float(vi a)
{
    return (vf){_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)};
}
INLINE vi vf_round(vf x) // nearest even
{
    return (vi){_mm256_cvtps_epi32(x.lo), _mm256_cvtps_epi32(x.hi)};
}
INLINE vi vf_bits(vf x)
{
    return (vi){_mm256_castps_si256(x.lo), _mm256_castps_si256(x.hi)};
}
INLINE void vi_store_i8(int8_t *p, vi x)
{
    __m256i y = _mm256_packs_epi32(x.lo, x.hi);
    y = _mm256_permute4x64_epi64(y, 0xd8); // 16 int16 in order
    _mm_storeu_si128((__m128i_u *)(void *)p,
                     _mm_packs_epi16(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1)));
}
INLINE void vi_store(int32_t *p, vi x)
{
    _mm256_storeu_si256((__m256i_u *)(void *)p, x.lo);
    _mm256_storeu_si256((__m256i_u *)(void *)(p + 8), x.hi);
}
INLINE void take_greater_8(__m256 a, __m256i index, __m256 *best, __m256i *best_index)
{
    const __m256 greater = _mm256_cmp_ps(a, *best, _CMP_GT_OQ);
    *best = _mm256_blendv_ps(*best, a, greater);
    *best_index = _mm256_blendv_epi8(*best_index, index, _mm256_castps_si256(greater));
}
// Where a > b: value and index of a, elsewhere those of *best, *best_index.
INLINE void vf_take_greater(vf a, vi index, vf *best, vi *best_index)
{
    take_greater_8(a.lo, index.lo, &best->lo, &best_index->lo);
    take_greater_8(a.hi, index.hi, &best->hi, &best_index->hi);
}
INLINE __m256i vi_low(vi x)
{
    return x.lo;
}
INLINE __m256i vi_high(vi x)
{
    return x.hi;
}

#endif

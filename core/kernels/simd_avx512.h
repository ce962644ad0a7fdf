// Sixteen lanes on AVX-512 (F, BW, VL, DQ): vf holds 16 floats, vi 16 int32. The same names as in
// simd_avx2.h, so that vector_*.h is written once for both.
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
    ATTEND_HEADS = 4, // query heads whose accumulators are in registers at once
    ATTEND_TILES = 4, // K tiles (QK) and 16-lane parts of a head (PV), likewise
    FLOAT_ROWS = 8,   // rows per pass of the float products over a weight tile
};

typedef __m512 vf;
typedef __m512i vi;

// Mask of the first n lanes, n >= 0.
INLINE __mmask16 first_lanes(size_t n)
{
    return (__mmask16)(n >= 16 ? 0xffffu : (1u << n) - 1u);
}

INLINE vf vf_set1(float x)
{
    return _mm512_set1_ps(x);
}
INLINE vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
// The first n lanes, the others 0. Memory beyond them is not touched.
INLINE vf vf_load_n(const float *p, size_t n)
{
    return _mm512_maskz_loadu_ps(first_lanes(n), p);
}
INLINE void vf_store(float *p, vf x)
{
    _mm512_storeu_ps(p, x);
}
INLINE void vf_store_n(float *p, vf x, size_t n)
{
    _mm512_mask_storeu_ps(p, first_lanes(n), x);
}
INLINE vf vf_load_f16(const uint16_t *p)
{
    return _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256((const __m256i_u *)(const void *)p));
}
INLINE vf vf_load_f16_n(const uint16_t *p, size_t n)
{
    return _mm512_maskz_cvtph_ps(0xffff, _mm256_maskz_loadu_epi16(first_lanes(n), p));
}
INLINE void vf_store_f16_n(uint16_t *p, vf x, size_t n)
{
    const __m256i half = _mm512_maskz_cvtps_ph(0xffff, x, _MM_FROUND_TO_NEAREST_INT);
    _mm256_mask_storeu_epi16(p, first_lanes(n), half);
}
INLINE vf vf_load_bf16(const uint16_t *p)
{
    const __m256i half = _mm256_loadu_si256((const __m256i_u *)(const void *)p);
    return _mm512_castsi512_ps(
        _mm512_maskz_slli_epi32(0xffff, _mm512_maskz_cvtepu16_epi32(0xffff, half), 16));
}
INLINE vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
INLINE vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
INLINE vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
INLINE vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}
INLINE vf vf_sqrt(vf a)
{
    return _mm512_sqrt_ps(a);
}
INLINE vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}
// a > b ? a : b, lane by lane: b where either is NaN.
INLINE vf vf_max(vf a, vf b)
{
    return _mm512_maskz_max_ps(0xffff, a, b);
}
INLINE vf vf_min(vf a, vf b)
{
    return _mm512_maskz_min_ps(0xffff, a, b);
}
// x where the lane is among the first n, fill elsewhere.
INLINE vf vf_keep_n(vf x, vf fill, size_t n)
{
    return _mm512_mask_blend_ps(first_lanes(n), fill, x);
}
INLINE vf vf_negate(vf x)
{
    return _mm512_xor_ps(x, _mm512_set1_ps(-0.0f));
}
// Lanes (2j, 2j+1) exchanged.
INLINE vf vf_swap_pairs(vf x)
{
    return _mm512_maskz_permute_ps(0xffff, x, 0xb1);
}
// p[0], p[0], p[1], p[1], ... of the first n values, others 0.
INLINE vf vf_load_doubled_n(const float *p, size_t n)
{
    const __m512i index = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    return _mm512_maskz_permutexvar_ps(0xffff, index, vf_load_n(p, n));
}
// a * b - c in even lanes, a * b + c in odd ones.
INLINE vf vf_fmaddsub(vf a, vf b, vf c)
{
    return _mm512_fmaddsub_ps(a, b, c);
}
// x * 2^n, n integral, rounded once.
INLINE vf vf_scale_exp(vf x, vf n)
{
    return _mm512_maskz_scalef_ps(0xffff, x, n);
}

INLINE __m256 low_half(vf x)
{
    return _mm512_castps512_ps256(x);
}
INLINE __m256 high_half(vf x)
{
    return _mm512_maskz_extractf32x8_ps(0xff, x, 1);
}

INLINE vi vi_set1(int x)
{
    return _mm512_set1_epi32(x);
}
INLINE vi vi_load(const uint8_t *p)
{
    return _mm512_loadu_si512(p);
}
INLINE vi vi_add(vi a, vi b)
{
    return _mm512_add_epi32(a, b);
}
INLINE vi vi_and(vi a, vi b)
{
    return _mm512_and_si512(a, b);
}
INLINE vi vi_or(vi a, vi b)
{
    return _mm512_or_si512(a, b);
}
INLINE vi vi_sub_bytes(vi a, vi b)
{
    return _mm512_sub_epi8(a, b);
}
// The byte of the table that each byte of x, 0 to 15, is the index of.
INLINE vi vi_look_up(const uint8_t table[16], vi x)
{
    const __m128i t = _mm_loadu_si128((const __m128i_u *)(const void *)table);
    return _mm512_shuffle_epi8(_mm512_maskz_broadcast_i32x4(0xffff, t), x);
}
// Byte i of each lane in all four of its bytes.
INLINE vi vi_spread_byte(vi x, const int i)
{
    const __m512i at = _mm512_add_epi8(_mm512_set1_epi8((char)i),
                                       _mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0));
    return _mm512_shuffle_epi8(x, at);
}
// x + value in the bytes where `bits` has the one bit that is in the mask's byte.
INLINE vi vi_add_where(vi x, vi bits, vi mask, const int value)
{
    return _mm512_mask_add_epi8(x, _mm512_test_epi8_mask(bits, mask), x,
                                _mm512_set1_epi8((char)value));
}
INLINE vi vi_max(vi a, vi b)
{
    return _mm512_maskz_max_epi32(0xffff, a, b);
}
INLINE vi vi_shift_left(vi a, int n)
{
    return _mm512_maskz_sll_epi32(0xffff, a, _mm_cvtsi32_si128(n));
}
INLINE vi vi_shift_right(vi a, int n) // copies of the sign come in
{
    return _mm512_maskz_sra_epi32(0xffff, a, _mm_cvtsi32_si128(n));
}
INLINE vi vi_shift_down(vi a, int n) // zeros come in; n need not be a constant
{
    return _mm512_maskz_srlv_epi32(0xffff, a, _mm512_set1_epi32(n));
}
INLINE vf vi_to_float(vi a)
{
    return _mm512_maskz_cvtepi32_ps(0xffff, a);
}
INLINE vi vf_round(vf x) // nearest even
{
    return _mm512_maskz_cvtps_epi32(0xffff, x);
}
INLINE vi vf_bits(vf x)
{
    return _mm512_castps_si512(x);
}
INLINE void vi_store_i8(int8_t *p, vi x)
{
    _mm_storeu_si128((__m128i_u *)(void *)p, _mm512_maskz_cvtepi32_epi8(0xffff, x));
}
INLINE void vi_store(int32_t *p, vi x)
{
    _mm512_storeu_si512(p, x);
}
// Where a > b: value and index of a, elsewhere those of *best, *best_index.
INLINE void vf_take_greater(vf a, vi index, vf *best, vi *best_index)
{
    const __mmask16 greater = _mm512_cmp_ps_mask(a, *best, _CMP_GT_OQ);
    *best = _mm512_mask_mov_ps(*best, greater, a);
    *best_index = _mm512_mask_mov_epi32(*best_index, greater, index);
}
INLINE __m256i vi_low(vi x)
{
    return _mm512_castsi512_si256(x);
}
INLINE __m256i vi_high(vi x)
{
    return _mm512_maskz_extracti32x8_epi32(0xff, x, 1);
}

#endif

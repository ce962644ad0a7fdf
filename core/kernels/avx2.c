// AVX2 kernels (+ FMA, F16C): the quantised product; everything else is vector_*.h. A group of
// four inputs of 8 outputs is one vpmaddubsw, unsigned weight bytes times the row's signed ones.
// Compiled once more for CPUs with AVX-VNNI (avxvnni.c), where it is one vpdpbusd.
#include "kernels/simd_avx2.h" // the lanes in terms of which the others are written

#include "kernels/vector_attend.h"
#include "kernels/vector_decode.h"
#include "kernels/vector_float.h"
#include "kernels/vector_ops.h"

enum {
    MAX_ROWS = 4,    // rows per pass over a weight tile
    PREFETCH = 4096, // bytes
};

// Rows of one call of a tile kernel.
typedef struct q_rows {
    const int8_t *q;
    const float *d, *s;
    const int32_t *sum, *half;
    float *y; // at the tile's first output
    size_t ldy;
    size_t n_blocks, n_out; // n_out: outputs of this tile that exist, 1..16
} q_rows;

INLINE __m256i broadcast4(const int8_t *p)
{
    int32_t x;
    memcpy(&x, p, sizeof x);
    return _mm256_set1_epi32(x);
}

// Outputs 8 * half .. + 7 of a group as unsigned bytes.
INLINE __m256i decode_half(const gg_dtype type, block w, const size_t half, size_t g)
{
    const vi q = decode_group(type, w, (int)g);
    return half ? q.hi : q.lo;
}

// Integer dots of 8 outputs with `rows` rows over groups [begin, begin + groups), added to isum;
// x: the rows' bytes at the block. The sums start from start_of(type, sum of the bytes).
#ifdef GG_AVXVNNI
INLINE int start_of(const gg_dtype type, int32_t sum)
{
    return -gg_weight_form_of(type).zero * sum;
}

INLINE void dot_groups(const gg_dtype type, const size_t rows, block w, const size_t half,
                       size_t begin, const size_t groups, const int8_t *x, size_t ldx,
                       __m256i *isum)
{
    UNROLL
    for (size_t g = begin; g < begin + groups; g++) {
        const __m256i q = decode_half(type, w, half, g);
        UNROLL
        for (size_t r = 0; r < rows; r++)
            isum[r] = _mm256_dpbusd_avx_epi32(isum[r], q, broadcast4(x + r * ldx + 4 * g));
    }
}
#else
// Groups whose sum fits in the 16 bits of vpmaddubsw: of 4 bits 15 * 127 * 2 * 8 = 30480, of 5
// bits 31496, of 6 bits 32004; 0: not even one unless weights are signed.
INLINE size_t fitting_groups(const gg_dtype type)
{
    const int bits = gg_weight_form_of(type).bits;
    return bits <= 4 ? 8 : bits == 5 ? 4 : bits == 6 ? 2 : 0;
}

INLINE int start_of(const gg_dtype type, int32_t sum)
{
    return fitting_groups(type) ? -gg_weight_form_of(type).zero * sum : 0;
}

INLINE void dot_fitting(const gg_dtype type, const size_t rows, block w, const size_t half,
                        size_t begin, const size_t groups, const int8_t *x, size_t ldx,
                        __m256i *isum)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i q[GROUPS];
    UNROLL
    for (size_t g = 0; g < groups; g++)
        q[g] = decode_half(type, w, half, begin + g);
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        const int8_t *p = x + r * ldx + 4 * begin;
        __m256i sum16 = _mm256_maddubs_epi16(q[0], broadcast4(p));
        UNROLL
        for (size_t g = 1; g < groups; g++)
            sum16 = _mm256_add_epi16(sum16, _mm256_maddubs_epi16(q[g], broadcast4(p + 4 * g)));
        isum[r] = _mm256_add_epi32(isum[r], _mm256_madd_epi16(sum16, ones));
    }
}

// Signed bytes as |w| * sign(a, w): a is never -128, so no sign is lost, and |-128| is 128 as an
// unsigned byte. One group just fits in 16 bits (128 * 127 * 2 = 32512).
INLINE void dot_signed(const gg_dtype type, const size_t rows, block w, const size_t half,
                       size_t begin, const size_t groups, const int8_t *x, size_t ldx,
                       __m256i *isum)
{
    const __m256i ones = _mm256_set1_epi16(1), zero = _mm256_set1_epi8((char)-128);
    UNROLL
    for (size_t g = begin; g < begin + groups; g++) {
        const __m256i q = _mm256_sub_epi8(decode_half(type, w, half, g), zero);
        const __m256i magnitude = _mm256_abs_epi8(q);
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            const __m256i a = _mm256_sign_epi8(broadcast4(x + r * ldx + 4 * g), q);
            const __m256i t = _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, a), ones);
            isum[r] = _mm256_add_epi32(isum[r], t);
        }
    }
}

INLINE void dot_groups(const gg_dtype type, const size_t rows, block w, const size_t half,
                       size_t begin, const size_t groups, const int8_t *x, size_t ldx,
                       __m256i *isum)
{
    const size_t fit = fitting_groups(type), step = fit && fit < groups ? fit : groups;
    UNROLL
    for (size_t g = begin; g < begin + groups; g += step) {
        if (fit)
            dot_fitting(type, rows, w, half, g, step, x, ldx, isum);
        else
            dot_signed(type, rows, w, half, g, step, x, ldx, isum);
    }
}
#endif

// Span h of block b: 32 inputs, or 16 of a split type.
INLINE void q_span(const gg_dtype type, const size_t rows, block w, const size_t half, size_t h,
                   const q_rows *a, size_t b, __m256 *acc)
{
    const gg_weight_form f = gg_weight_form_of(type);
    const size_t groups = GROUPS / spans_of(type);
    __m256i isum[MAX_ROWS];
    int32_t sum[MAX_ROWS];
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        const size_t i = r * a->n_blocks + b;
        sum[r] = !f.split ? a->sum[i] : h == 0 ? a->half[i] : a->sum[i] - a->half[i];
        isum[r] = _mm256_set1_epi32(start_of(type, sum[r]));
    }
    dot_groups(type, rows, w, half, h * groups, groups, a->q + b * GG_BLOCK, a->n_blocks * GG_BLOCK,
               isum);
    vf both, minima;
    decode_scale(type, w, (int)h, &both, &minima);
    const __m256 d = half ? both.hi : both.lo, m = half ? minima.hi : minima.lo;
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        const size_t i = r * a->n_blocks + b;
        const __m256 c = _mm256_mul_ps(d, _mm256_set1_ps(a->d[i]));
        acc[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(isum[r]), c, acc[r]);
        const float s = f.split ? a->d[i] * (float)sum[r] : a->s[i];
        if (f.minimum)
            acc[r] = _mm256_fmadd_ps(m, _mm256_set1_ps(s), acc[r]);
    }
}

// Outputs 8 * half .. + 7 of a tile: with both halves at once the accumulators do not fit into
// sixteen registers.
INLINE void q_half(const gg_dtype type, const size_t rows, const uint8_t *tile, const size_t half,
                   const q_rows *a, __m256 *acc)
{
    UNROLL
    for (size_t r = 0; r < rows; r++)
        acc[r] = _mm256_setzero_ps();
    for (size_t b = 0; b < a->n_blocks; b++) {
        const block w = block_of(type, tile, b);
        if (half == 0)
            prefetch(type, w, PREFETCH);
        q_span(type, rows, w, half, 0, a, b, acc);
        if (spans_of(type) > 1)
            q_span(type, rows, w, half, 1, a, b, acc);
    }
}

INLINE void q_tile(const gg_dtype type, const size_t rows, const uint8_t *tile, const q_rows *a)
{
    __m256 low[MAX_ROWS], high[MAX_ROWS];
    q_half(type, rows, tile, 0, a, low);
    q_half(type, rows, tile, 1, a, high);
    UNROLL
    for (size_t r = 0; r < rows; r++)
        vf_store_n(a->y + r * a->ldy, (vf){low[r], high[r]}, a->n_out);
}

// The rows in near-equal parts of at most MAX_ROWS, so that no count falls between two tiles.
INLINE void q_tile_rows(const gg_dtype type, const uint8_t *tile, size_t rows, q_rows a)
{
    for (size_t parts = (rows + MAX_ROWS - 1) / MAX_ROWS; parts > 0; parts--) {
        const size_t n = (rows + parts - 1) / parts;
        switch (n) {
        case 1:
            q_tile(type, 1, tile, &a);
            break;
        case 2:
            q_tile(type, 2, tile, &a);
            break;
        case 3:
            q_tile(type, 3, tile, &a);
            break;
        default:
            q_tile(type, MAX_ROWS, tile, &a);
        }
        rows -= n;
        a.q += n * a.n_blocks * GG_BLOCK;
        a.d += n * a.n_blocks;
        a.s += n * a.n_blocks;
        a.sum += n * a.n_blocks;
        a.half += n * a.n_blocks;
        a.y += n * a.ldy;
    }
}

static void matmul_q(const gg_matrix *w, size_t tile0, size_t tile1, const gg_qrows *a, size_t rows,
                     float *y, size_t ldy)
{
    for (size_t t = tile0; t < tile1 && t * GG_TILE < w->n_out; t++) {
        const uint8_t *tile = w->tiles + t * w->tile_bytes;
        const size_t left = w->n_out - t * GG_TILE;
        const q_rows part = {
            .q = a->q,
            .d = a->d,
            .s = a->s,
            .sum = a->sum,
            .half = a->half,
            .y = y + t * GG_TILE,
            .ldy = ldy,
            .n_blocks = w->n_in / GG_BLOCK,
            .n_out = left < GG_TILE ? left : GG_TILE,
        };
        switch (w->type) {
#define GG_PRODUCT(TYPE, ...)                                                                      \
    case GG_##TYPE:                                                                                \
        q_tile_rows(GG_##TYPE, tile, rows, part);                                                  \
        break;
            GG_QUANTIZED_TYPES(GG_PRODUCT)
#undef GG_PRODUCT
        default:
            break;
        }
    }
}

static size_t multiply_adds(size_t steps, uint32_t *seed)
{
    enum { CHAINS = 10, LANES = 32 };
    __m256i acc[CHAINS];
    const __m256i x = _mm256_set1_epi32((int)*seed);
    UNROLL for (int c = 0; c < CHAINS; c++) acc[c] = _mm256_set1_epi32(c + 1);
    for (size_t i = 0; i < steps; i++) {
        UNROLL for (int c = 0; c < CHAINS; c++)
#ifdef GG_AVXVNNI
            acc[c] = _mm256_dpbusd_avx_epi32(acc[c], x, x);
#else
            acc[c] = _mm256_add_epi16(acc[c], _mm256_maddubs_epi16(acc[c], x));
#endif
    }
    UNROLL for (int c = 1; c < CHAINS; c++) acc[0] = _mm256_xor_si256(acc[0], acc[c]);
    *seed ^= (uint32_t)_mm256_cvtsi256_si32(acc[0]);
    return steps * CHAINS * LANES;
}

#ifdef GG_AVXVNNI
const gg_kernels gg_kernels_avxvnni = {
    .level = GG_LEVEL_AVXVNNI,
    .name = "avxvnni",
#else
const gg_kernels gg_kernels_avx2 = {
    .level = GG_LEVEL_AVX2,
    .name = "avx2",
#endif
    .quantize = quantize,
    .matmul_q = matmul_q,
    .matmul_f = matmul_f,
    .rms_norm = rms_norm,
    .rope = rope,
    .scale = scale,
    .add = add,
    .silu_mul = silu_mul,
    .gelu_mul = gelu_mul,
    .silu_residual = silu_residual,
    .to_f16 = to_f16,
    .from_f16 = from_f16,
    .attend = attend,
    .argmax = argmax,
    .block_max = block_max,
    .log_sum_exp = log_sum_exp,
    .exp_shift = exp_shift,
    .adamw = adamw,
    .multiply_adds = multiply_adds,
    .float_multiply_adds = float_multiply_adds,
};

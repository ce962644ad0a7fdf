// AVX-512 kernels (F, BW, VL, DQ, VNNI): the quantised product; everything else is vector_*.h.
// One vector holds 16 outputs; a group of four inputs is one vpdpbusd with the row's four bytes
// broadcast from memory.
#include "kernels/simd_avx512.h" // the lanes in terms of which the others are written

#include "kernels/vector_attend.h"
#include "kernels/vector_decode.h"
#include "kernels/vector_float.h"
#include "kernels/vector_ops.h"

enum {
    MAX_ROWS = 8,    // rows per pass over a weight tile
    PREFETCH = 4096, // bytes
};

// Rows of one call of a tile kernel.
typedef struct q_rows {
    const int8_t *q;
    const float *d, *s;
    const int32_t *sum, *half;
    float *y; // at the tile's first output
    size_t ldy;
    size_t n_blocks;
    __mmask16 outputs; // outputs of this tile that exist
} q_rows;

// acc + four products per output: unsigned weight bytes times the four bytes at p.
INLINE __m512i dot4(__m512i acc, __m512i w, const int8_t *p)
{
    int32_t x;
    memcpy(&x, p, sizeof x);
    return _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(x));
}

// Span h of block b: 32 inputs, or 16 of a split type.
INLINE void q_span(const gg_dtype type, const size_t rows, block w, const size_t h, const q_rows *a,
                   size_t b, __m512 *acc)
{
    const gg_weight_form f = gg_weight_form_of(type);
    const size_t groups = GROUPS / spans_of(type);
    __m512i q[GROUPS], isum[MAX_ROWS];
    int32_t sum[MAX_ROWS];
    vf d, m;
    UNROLL
    for (size_t g = 0; g < groups; g++)
        q[g] = decode_group(type, w, (int)(h * groups + g));
    decode_scale(type, w, (int)h, &d, &m);
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        const size_t i = r * a->n_blocks + b;
        sum[r] = !f.split ? a->sum[i] : h == 0 ? a->half[i] : a->sum[i] - a->half[i];
        // Weights are unsigned, which the start of the sums makes up for.
        isum[r] = f.zero ? _mm512_set1_epi32(-f.zero * sum[r]) : _mm512_setzero_si512();
    }
    // Rows inside groups: the products of one row wait for each other.
    UNROLL
    for (size_t g = 0; g < groups; g++) {
        UNROLL
        for (size_t r = 0; r < rows; r++)
            isum[r] =
                dot4(isum[r], q[g], a->q + (r * a->n_blocks + b) * GG_BLOCK + 4 * (h * groups + g));
    }
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        const size_t i = r * a->n_blocks + b;
        acc[r] = vf_fma(vi_to_float(isum[r]), vf_mul(d, vf_set1(a->d[i])), acc[r]);
        if (f.minimum)
            acc[r] = vf_fma(m, vf_set1(f.split ? a->d[i] * (float)sum[r] : a->s[i]), acc[r]);
    }
}

INLINE void q_tile(const gg_dtype type, const size_t rows, const uint8_t *tile, const q_rows *a)
{
    __m512 acc[MAX_ROWS];
    UNROLL
    for (size_t r = 0; r < rows; r++)
        acc[r] = _mm512_setzero_ps();
    for (size_t b = 0; b < a->n_blocks; b++) {
        const block w = block_of(type, tile, b);
        prefetch(type, w, PREFETCH);
        q_span(type, rows, w, 0, a, b, acc);
        if (spans_of(type) > 1)
            q_span(type, rows, w, 1, a, b, acc);
    }
    UNROLL
    for (size_t r = 0; r < rows; r++)
        _mm512_mask_storeu_ps(a->y + r * a->ldy, a->outputs, acc[r]);
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
        case 4:
            q_tile(type, 4, tile, &a);
            break;
        case 5:
            q_tile(type, 5, tile, &a);
            break;
        case 6:
            q_tile(type, 6, tile, &a);
            break;
        case 7:
            q_tile(type, 7, tile, &a);
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
        const q_rows part = {
            .q = a->q,
            .d = a->d,
            .s = a->s,
            .sum = a->sum,
            .half = a->half,
            .y = y + t * GG_TILE,
            .ldy = ldy,
            .n_blocks = w->n_in / GG_BLOCK,
            .outputs = first_lanes(w->n_out - t * GG_TILE),
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
    enum { CHAINS = 16, LANES = 64 };
    __m512i acc[CHAINS];
    const __m512i x = _mm512_set1_epi32((int)*seed), w = _mm512_set1_epi8(3);
    UNROLL for (int c = 0; c < CHAINS; c++) acc[c] = _mm512_set1_epi32(c + 1);
    for (size_t i = 0; i < steps; i++) {
        UNROLL for (int c = 0; c < CHAINS; c++) acc[c] = _mm512_dpbusd_epi32(acc[c], w, x);
    }
    UNROLL for (int c = 1; c < CHAINS; c++) acc[0] = _mm512_xor_si512(acc[0], acc[c]);
    *seed ^= (uint32_t)_mm512_cvtsi512_si32(acc[0]);
    return steps * CHAINS * LANES;
}

#define VECTOR_KERNELS                                                                             \
    .quantize = quantize, .matmul_f = matmul_f, .rms_norm = rms_norm, .rope = rope,                \
    .scale = scale, .add = add, .silu_mul = silu_mul, .gelu_mul = gelu_mul,                        \
    .silu_residual = silu_residual, .to_f16 = to_f16, .from_f16 = from_f16, .attend = attend,      \
    .argmax = argmax, .block_max = block_max, .log_sum_exp = log_sum_exp, .exp_shift = exp_shift,  \
    .adamw = adamw, .float_multiply_adds = float_multiply_adds

const gg_kernels gg_kernels_avx512 = {
    .level = GG_LEVEL_AVX512,
    .name = "avx512",
    .matmul_q = matmul_q,
    .multiply_adds = multiply_adds,
    VECTOR_KERNELS,
};

const gg_kernels gg_kernels_amx = {
    .level = GG_LEVEL_AMX,
    .name = "amx",
    .matmul_q = gg_amx_matmul_q,
    .multiply_adds = gg_amx_multiply_adds,
    .dense = gg_amx_dense,
    .dense_scratch = gg_amx_dense_scratch,
    VECTOR_KERNELS,
};

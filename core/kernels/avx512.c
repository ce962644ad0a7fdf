// AVX-512 kernels (F, BW, VL, DQ, VNNI): the quantised product; everything else is vector_*.h.
// One vector holds 16 outputs; a group of four inputs is one vpdpbusd with the row's four bytes
// broadcast from memory.
#include "kernels/simd_avx512.h" // the lanes in terms of which the others are written

#include "kernels/vector_attend.h"
#include "kernels/vector_float.h"
#include "kernels/vector_ops.h"

enum {
    GROUPS = 8,      // groups of four inputs in a block
    MAX_ROWS = 8,    // rows per pass over a weight tile
    PREFETCH = 4096, // bytes
};

// Rows of one call of a tile kernel.
typedef struct q_rows {
    const int8_t *q;
    const float *d, *s;
    const int32_t *sum;
    float *y; // at the tile's first output
    size_t ldy;
    size_t n_blocks;
    __mmask16 outputs; // outputs of this tile that exist
} q_rows;

INLINE size_t block_bytes(const gg_dtype type)
{
    return type == GG_Q4_0 ? 288 : type == GG_Q4_1 ? 320 : 544;
}

// The block's weights as unsigned bytes: the only thing that a new weight type adds.
INLINE void decode(const gg_dtype type, const uint8_t *block, __m512i q[GROUPS])
{
    if (type == GG_Q8_0) {
        UNROLL
        for (size_t g = 0; g < GROUPS; g++)
            q[g] = _mm512_xor_si512(_mm512_loadu_si512(block + 32 + 64 * g),
                                    _mm512_set1_epi8((char)-128));
        return;
    }
    const uint8_t *raw = block + (type == GG_Q4_1 ? 64 : 32);
    const __m512i low = _mm512_set1_epi8(15);
    UNROLL
    for (size_t g = 0; g < GROUPS / 2; g++) {
        const __m512i pair = _mm512_loadu_si512(raw + 64 * g);
        q[g] = _mm512_and_si512(pair, low);
        q[g + 4] = _mm512_and_si512(_mm512_maskz_srli_epi16(0xffffffffu, pair, 4), low);
    }
}

// What sum(q * a) must start from, so that unsigned weights give the signed dot.
INLINE __m512i start(const gg_dtype type, int32_t sum)
{
    if (type == GG_Q4_1)
        return _mm512_setzero_si512();
    return _mm512_set1_epi32(sum * (type == GG_Q4_0 ? -8 : -128));
}

// acc + four products per output: unsigned weight bytes times the four bytes at p.
INLINE __m512i dot4(__m512i acc, __m512i w, const int8_t *p)
{
    int32_t x;
    memcpy(&x, p, sizeof x);
    return _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(x));
}

// A hint: the address may lie beyond the matrix.
INLINE void prefetch(const uint8_t *p, size_t offset)
{
    _mm_prefetch((const char *)((uintptr_t)p + offset), _MM_HINT_T0);
}

INLINE void q_block(const gg_dtype type, const size_t rows, const uint8_t *block, const q_rows *a,
                    size_t b, __m512 *acc)
{
    __m512i q[GROUPS], isum[MAX_ROWS];
    decode(type, block, q);
    const vf d = vf_load_f16((const uint16_t *)(const void *)block);
    const vf m = type == GG_Q4_1 ? vf_load_f16((const uint16_t *)(const void *)(block + 32)) : d;
    UNROLL
    for (size_t r = 0; r < rows; r++)
        isum[r] = start(type, a->sum[r * a->n_blocks + b]);
    // Rows inside groups: the eight products of one row wait for each other.
    UNROLL
    for (size_t g = 0; g < GROUPS; g++) {
        UNROLL
        for (size_t r = 0; r < rows; r++)
            isum[r] = dot4(isum[r], q[g], a->q + (r * a->n_blocks + b) * GG_BLOCK + 4 * g);
    }
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        const size_t i = r * a->n_blocks + b;
        const __m512 c = _mm512_mul_ps(d, _mm512_set1_ps(a->d[i]));
        acc[r] = _mm512_fmadd_ps(vi_to_float(isum[r]), c, acc[r]);
        if (type == GG_Q4_1)
            acc[r] = _mm512_fmadd_ps(m, _mm512_set1_ps(a->s[i]), acc[r]);
    }
}

INLINE void q_tile(const gg_dtype type, const size_t rows, const uint8_t *tile, const q_rows *a)
{
    __m512 acc[MAX_ROWS];
    UNROLL
    for (size_t r = 0; r < rows; r++)
        acc[r] = _mm512_setzero_ps();
    for (size_t b = 0; b < a->n_blocks; b++) {
        const uint8_t *block = tile + b * block_bytes(type);
        UNROLL
        for (size_t line = 0; line < block_bytes(type); line += 64)
            prefetch(block, PREFETCH + line);
        q_block(type, rows, block, a, b, acc);
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
            .y = y + t * GG_TILE,
            .ldy = ldy,
            .n_blocks = w->n_in / GG_BLOCK,
            .outputs = first_lanes(w->n_out - t * GG_TILE),
        };
        if (w->type == GG_Q4_0)
            q_tile_rows(GG_Q4_0, tile, rows, part);
        else if (w->type == GG_Q4_1)
            q_tile_rows(GG_Q4_1, tile, rows, part);
        else if (w->type == GG_Q8_0)
            q_tile_rows(GG_Q8_0, tile, rows, part);
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

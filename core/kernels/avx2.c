// AVX2 kernels (+ FMA, F16C): the quantised product; everything else is vector_*.h. A group of
// four inputs of 8 outputs is one vpmaddubsw, unsigned weight bytes times the row's signed ones.
// Compiled once more for CPUs with AVX-VNNI (avxvnni.c), where it is one vpdpbusd.
#include "kernels/simd_avx2.h" // the lanes in terms of which the others are written

#include "kernels/vector_attend.h"
#include "kernels/vector_float.h"
#include "kernels/vector_ops.h"

enum {
    GROUPS = 8,      // groups of four inputs in a block
    MAX_ROWS = 4,    // rows per pass over a weight tile
    PREFETCH = 4096, // bytes
};

// Rows of one call of a tile kernel.
typedef struct q_rows {
    const int8_t *q;
    const float *d, *s;
    const int32_t *sum;
    float *y; // at the tile's first output
    size_t ldy;
    size_t n_blocks, n_out; // n_out: outputs of this tile that exist, 1..16
} q_rows;

INLINE size_t block_bytes(const gg_dtype type)
{
    return type == GG_Q4_0 ? 288 : type == GG_Q4_1 ? 320 : 544;
}

INLINE __m256i broadcast4(const int8_t *p)
{
    int32_t x;
    memcpy(&x, p, sizeof x);
    return _mm256_set1_epi32(x);
}

INLINE __m256 load_half8(const uint8_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i_u *)(const void *)p));
}

// Integer dots of outputs 8 * half .. + 7 of a block: the only thing that a new weight type adds.
// Weights are taken as unsigned bytes; what the sums start from makes up for it.
#ifdef GG_AVXVNNI
INLINE void dot_block(const gg_dtype type, const size_t rows, const uint8_t *block, size_t half,
                      const q_rows *a, size_t b, __m256i *isum)
{
    const int zero = type == GG_Q8_0 ? 128 : type == GG_Q4_0 ? 8 : 0;
    const int8_t *x = a->q + b * GG_BLOCK;
    const size_t ldx = a->n_blocks * GG_BLOCK;
    UNROLL
    for (size_t r = 0; r < rows; r++)
        isum[r] = _mm256_set1_epi32(zero ? -zero * a->sum[r * a->n_blocks + b] : 0);
    const uint8_t *raw = block + (type == GG_Q4_1 ? 64 : 32) + 32 * half;
    UNROLL
    for (size_t g = 0; g < GROUPS; g++) {
        const size_t line = type == GG_Q8_0 ? g : g % 4;
        __m256i w = load_i256(raw + 64 * line);
        if (type == GG_Q8_0)
            w = _mm256_xor_si256(w, _mm256_set1_epi8((char)-128));
        else
            w = _mm256_and_si256(g < 4 ? w : _mm256_srli_epi16(w, 4), _mm256_set1_epi8(15));
        UNROLL
        for (size_t r = 0; r < rows; r++)
            isum[r] = _mm256_dpbusd_avx_epi32(isum[r], w, broadcast4(x + r * ldx + 4 * g));
    }
}
#else
// Integer dots of 8 outputs with `rows` rows, nibbles: the sum over all 8 groups fits in 16 bits
// (15 * 127 * 2 * 8 = 30480).
INLINE void dot_nibbles(const size_t rows, const uint8_t *raw, const int8_t *x, size_t ldx,
                        __m256i *isum)
{
    const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    __m256i w[GROUPS];
    UNROLL
    for (size_t g = 0; g < GROUPS / 2; g++) {
        const __m256i pair = load_i256(raw + 64 * g);
        w[g] = _mm256_and_si256(pair, low);
        w[g + 4] = _mm256_and_si256(_mm256_srli_epi16(pair, 4), low);
    }
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        const int8_t *q = x + r * ldx;
        __m256i sum16 = _mm256_maddubs_epi16(w[0], broadcast4(q));
        UNROLL
        for (size_t g = 1; g < GROUPS; g++)
            sum16 = _mm256_add_epi16(sum16, _mm256_maddubs_epi16(w[g], broadcast4(q + 4 * g)));
        isum[r] = _mm256_madd_epi16(sum16, ones);
    }
}

// The same for signed bytes as |w| * sign(a, w): a is never -128, so no sign is lost, and |-128|
// is 128 as an unsigned byte. One group just fits in 16 bits (128 * 127 * 2 = 32512).
INLINE void dot_bytes(const size_t rows, const uint8_t *raw, const int8_t *x, size_t ldx,
                      __m256i *isum)
{
    const __m256i ones = _mm256_set1_epi16(1);
    UNROLL
    for (size_t g = 0; g < GROUPS; g++) {
        const __m256i w = load_i256(raw + 64 * g), magnitude = _mm256_abs_epi8(w);
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            const __m256i a = _mm256_sign_epi8(broadcast4(x + r * ldx + 4 * g), w);
            const __m256i t = _mm256_madd_epi16(_mm256_maddubs_epi16(magnitude, a), ones);
            isum[r] = g == 0 ? t : _mm256_add_epi32(isum[r], t);
        }
    }
}

INLINE void dot_block(const gg_dtype type, const size_t rows, const uint8_t *block, size_t half,
                      const q_rows *a, size_t b, __m256i *isum)
{
    const int8_t *x = a->q + b * GG_BLOCK;
    const size_t ldx = a->n_blocks * GG_BLOCK;
    if (type == GG_Q8_0) {
        dot_bytes(rows, block + 32 + 32 * half, x, ldx, isum);
        return;
    }
    dot_nibbles(rows, block + (type == GG_Q4_1 ? 64 : 32) + 32 * half, x, ldx, isum);
    if (type == GG_Q4_1)
        return;
    UNROLL
    for (size_t r = 0; r < rows; r++)
        isum[r] = _mm256_sub_epi32(isum[r], _mm256_set1_epi32(8 * a->sum[r * a->n_blocks + b]));
}
#endif

// A hint: the address may lie beyond the matrix.
INLINE void prefetch(const uint8_t *p, size_t offset)
{
    _mm_prefetch((const char *)((uintptr_t)p + offset), _MM_HINT_T0);
}

// Outputs 8 * half .. + 7 of a tile: with both halves at once the accumulators do not fit into
// sixteen registers.
INLINE void q_half(const gg_dtype type, const size_t rows, const uint8_t *tile, size_t half,
                   const q_rows *a, __m256 *acc)
{
    UNROLL
    for (size_t r = 0; r < rows; r++)
        acc[r] = _mm256_setzero_ps();
    for (size_t b = 0; b < a->n_blocks; b++) {
        const uint8_t *block = tile + b * block_bytes(type);
        for (size_t line = 0; half == 0 && line < block_bytes(type); line += 64)
            prefetch(block, PREFETCH + line);
        __m256i isum[MAX_ROWS];
        dot_block(type, rows, block, half, a, b, isum);
        const __m256 d = load_half8(block + 16 * half);
        const __m256 m = load_half8(block + 32 + 16 * half);
        UNROLL
        for (size_t r = 0; r < rows; r++) {
            const size_t i = r * a->n_blocks + b;
            const __m256 c = _mm256_mul_ps(d, _mm256_set1_ps(a->d[i]));
            acc[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(isum[r]), c, acc[r]);
            if (type == GG_Q4_1)
                acc[r] = _mm256_fmadd_ps(m, _mm256_set1_ps(a->s[i]), acc[r]);
        }
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
            .y = y + t * GG_TILE,
            .ldy = ldy,
            .n_blocks = w->n_in / GG_BLOCK,
            .n_out = left < GG_TILE ? left : GG_TILE,
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

// Float products in 16 lanes, written over simd_*.h: outputs side by side, one fma chain over
// increasing k per output; a weight is decoded once per tile of rows.
#ifndef GG_KERNELS_VECTOR_FLOAT_H
#define GG_KERNELS_VECTOR_FLOAT_H

#include "kernels/vector_decode.h"
#include "kernels/vector_ops.h"

// Rows of one call of a tile kernel.
typedef struct float_rows {
    const float *x;
    size_t ldx;
    float *y; // at the tile's first output
    size_t ldy;
    size_t n_in, n_out; // n_out: outputs of this tile that exist, 1..16
} float_rows;

// acc[r] = fma(w, x[r * ldx], acc[r])
INLINE void float_step(const size_t rows, vf w, const float *x, size_t ldx, vf *acc)
{
    UNROLL
    for (size_t r = 0; r < rows; r++)
        acc[r] = vf_fma(w, vf_set1(x[r * ldx]), acc[r]);
}

INLINE vf load_plain(const gg_dtype type, const uint8_t *tile, size_t k)
{
    if (type == GG_F32)
        return vf_load((const float *)(const void *)tile + k * GG_TILE);
    const uint16_t *half = (const uint16_t *)(const void *)tile + k * GG_TILE;
    return type == GG_F16 ? vf_load_f16(half) : vf_load_bf16(half);
}

// Block b of a tile of any quantised type.
static void decode_any(gg_dtype type, const uint8_t *tile, size_t b, decoded *out)
{
    switch (type) {
#define GG_DECODE(TYPE, ...)                                                                       \
    case GG_##TYPE:                                                                                \
        decode_block(GG_##TYPE, block_of(GG_##TYPE, tile, b), out);                                \
        return;
        GG_QUANTIZED_TYPES(GG_DECODE)
#undef GG_DECODE
    default:
        return;
    }
}

// A decoded block: a group's four inputs are the bytes of its lanes.
INLINE void float_block(const gg_weight_form *f, const size_t rows, const decoded *w,
                        const float *x, size_t ldx, vf *acc)
{
    for (size_t g = 0; g < GROUPS; g++) {
        const size_t h = f->split ? g * SPANS / GROUPS : 0;
        const vf d = vf_load(w->d[h]), m = vf_load(w->m[h]);
        const vi group = vi_load(w->q[g]);
        UNROLL
        for (int j = 0; j < 4; j++) {
            const vf q = vi_to_float(vi_shift_right(vi_shift_left(group, 24 - 8 * j), 24));
            float_step(rows, f->minimum ? vf_fma(q, d, m) : vf_mul(q, d), x + 4 * g + j, ldx, acc);
        }
    }
}

// type: a constant for plain types, so that nothing in their loop depends on it.
INLINE void float_tile(const gg_dtype type, const size_t rows, const uint8_t *tile, float_rows a)
{
    const gg_weight_form f = gg_weight_form_of(type);
    vf acc[FLOAT_ROWS];
    UNROLL
    for (size_t r = 0; r < rows; r++)
        acc[r] = vf_set1(0.0f);
    if (f.inputs == 1) {
        for (size_t k = 0; k < a.n_in; k++)
            float_step(rows, load_plain(type, tile, k), a.x + k, a.ldx, acc);
    } else {
        decoded w;
        for (size_t b = 0; b < a.n_in / GG_BLOCK; b++) {
            decode_any(type, tile, b, &w);
            float_block(&f, rows, &w, a.x + b * GG_BLOCK, a.ldx, acc);
        }
    }
    UNROLL
    for (size_t r = 0; r < rows; r++)
        vf_store_n(a.y + r * a.ldy, acc[r], a.n_out);
}

INLINE void float_tile_rows(const gg_dtype type, size_t rows, const uint8_t *tile, float_rows a)
{
    while (rows > 0) {
        const size_t n = rows >= 8 && FLOAT_ROWS >= 8 ? 8 : rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
        if (FLOAT_ROWS >= 8 && n == 8)
            float_tile(type, FLOAT_ROWS, tile, a);
        else if (n == 4)
            float_tile(type, 4, tile, a);
        else if (n == 2)
            float_tile(type, 2, tile, a);
        else
            float_tile(type, 1, tile, a);
        rows -= n;
        a.x += n * a.ldx;
        a.y += n * a.ldy;
    }
}

static void matmul_f(const gg_matrix *w, size_t tile0, size_t tile1, const float *x, size_t ldx,
                     size_t rows, float *y, size_t ldy)
{
    for (size_t t = tile0; t < tile1 && t * GG_TILE < w->n_out; t++) {
        const uint8_t *tile = w->tiles + t * w->tile_bytes;
        const size_t left = w->n_out - t * GG_TILE;
        const float_rows a = {x,   ldx,     y + t * GG_TILE,
                              ldy, w->n_in, left < GG_TILE ? left : GG_TILE};
        switch (w->type) {
        case GG_F32:
            float_tile_rows(GG_F32, rows, tile, a);
            break;
        case GG_F16:
            float_tile_rows(GG_F16, rows, tile, a);
            break;
        case GG_BF16:
            float_tile_rows(GG_BF16, rows, tile, a);
            break;
        default:
            float_tile_rows(w->type, rows, tile, a);
        }
    }
}

#endif

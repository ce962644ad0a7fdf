// The quantised product on int8 tiles (AMX): one tile product is 16 outputs x up to 16 rows over
// the 32 or 16 inputs that share a scale. A packed weight block is a B tile as it lies in memory
// (Q8_0) or decoded. The integer dots leave through memory and are scaled as at every other level.
// Few rows do not fill a tile: they are the AVX-512 level's. Everything else is in its table too.
#include "kernels/tiles.h"

#include "kernels/vector_decode.h"

enum {
    AHEAD = 1,      // spans whose tile products run before their dots are scaled
    MIN_ROWS = 12,  // below, AVX-512 is faster
    TILE_ROWS = 16, // rows of activations in a tile
    MAX_PARTS = 4,  // row tiles that share one decoding of the weights
    CHUNK = 24,     // blocks whose weights and scales are decoded at once
    C_TILE = 0,     // tile registers
    A_TILE = 1,
    B_TILE = 2,
};

// Factors of the weights' scales and minima: a row tile over a chunk of blocks, rows side by side;
// 0 for rows that do not exist.
typedef struct scales {
    _Alignas(64) float d[CHUNK][TILE_ROWS];
    float s[CHUNK][SPANS][TILE_ROWS];
} scales;

// A row tile. The tile product always takes `height` rows and ends with the last row of the part;
// the first `skip` of them belong to the part before and are computed for nothing.
typedef struct part {
    const int8_t *a; // at the tile's first row and the chunk's first block
    size_t rows, skip;
    float *y; // at the part's first row, output 0
    scales scale;
} part;

typedef struct call {
    const gg_matrix *w;
    size_t tile0, tile1, ldy;
    size_t block0, blocks; // the chunk
    size_t n_parts;
    part part[MAX_PARTS];
    decoded weights[CHUNK]; // of one tile
    // Dots of spans in turn. `skip` shifts the reading; rows that do not exist read what follows.
    _Alignas(64) int32_t dots[AHEAD + 1][TILE_ROWS][GG_TILE];
} call;

static void configure(size_t rows, size_t row_bytes)
{
    tile_config c = {.palette = 1};
    c.rows[C_TILE] = c.rows[A_TILE] = (uint8_t)rows;
    c.rows[B_TILE] = (uint8_t)(row_bytes / 4);
    c.row_bytes[C_TILE] = c.row_bytes[B_TILE] = TILE_LINE;
    c.row_bytes[A_TILE] = (uint16_t)row_bytes;
    load_config(&c);
}

// Decodes block b of a tile's chunk, if there is one.
INLINE void decode(const gg_dtype type, const uint8_t *tile, call *c, size_t b)
{
    if (b >= c->blocks)
        return;
    const block w = block_of(type, tile, c->block0 + b);
    prefetch(type, w, c->w->tile_bytes); // the same block of the next tile
    if (type == GG_Q8_0)
        decode_scales(type, w, &c->weights[b]);
    else
        decode_block(type, w, &c->weights[b]);
}

// The B tile of a span: Q8_0 as it is packed.
INLINE const void *span_q(const gg_dtype type, const uint8_t *tile, const call *c, size_t span)
{
    const size_t spans = spans_of(type);
    if (type == GG_Q8_0)
        return block_of(type, tile, c->block0 + span).unit + GG_TILE * 2;
    return c->weights[span / spans].q[span % spans * (GROUPS / spans)];
}

// The dots of one span to memory.
INLINE void multiply(const gg_dtype type, const call *c, const int8_t *a, const uint8_t *tile,
                     size_t span, void *dots)
{
    // C_TILE, A_TILE, B_TILE: the names of registers have to be literals.
    _tile_zero(0);
    _tile_loadd(1, a + span * (GG_BLOCK / spans_of(type)), c->w->n_in);
    _tile_loadd(2, span_q(type, tile, c, span), TILE_LINE);
    _tile_dpbssd(0, 1, 2);
    _tile_stored(0, dots, TILE_LINE);
}

// acc of `rows` rows after one span.
INLINE void scale_span(const gg_dtype type, const size_t rows, const int32_t *dots, const call *c,
                       const scales *s, size_t span, vf *acc)
{
    const bool minimum = gg_weight_form_of(type).minimum;
    const size_t b = span / spans_of(type), h = span % spans_of(type);
    const decoded *w = &c->weights[b];
    const vf d = vf_load(w->d[h]), m = minimum ? vf_load(w->m[h]) : d;
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        const vf isum = vi_to_float(_mm512_loadu_si512(dots + r * GG_TILE));
        acc[r] = vf_fma(isum, vf_mul(d, vf_set1(s->d[b][r])), acc[r]);
        if (minimum)
            acc[r] = vf_fma(m, vf_set1(s->s[b][h][r]), acc[r]);
    }
}

// One row tile and one weight tile over the chunk; y holds the accumulators between chunks.
INLINE void part_tile(const gg_dtype type, const size_t rows, call *c, const part *p, size_t t)
{
    const uint8_t *tile = c->w->tiles + t * c->w->tile_bytes;
    const __mmask16 outputs = first_lanes(c->w->n_out - t * GG_TILE);
    float *y = p->y + t * GG_TILE;
    vf acc[TILE_ROWS];
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        const bool old = r < p->rows && c->block0 > 0;
        acc[r] = _mm512_maskz_loadu_ps(old ? outputs : 0, y + (old ? r * c->ldy : 0));
    }
    const size_t spans = spans_of(type), n = c->blocks * spans;
    const bool first = p == c->part;
    for (size_t b = 0; first && b < 2 * AHEAD; b++)
        decode(type, tile, c, b);
    order_memory();
    for (size_t i = 0; i < AHEAD && i < n; i++)
        multiply(type, c, p->a, tile, i, c->dots[i]);
    for (size_t i = 0; i < n; i++) {
        if (first && i % spans == 0)
            decode(type, tile, c, i / spans + 2 * AHEAD);
        order_memory();
        scale_span(type, rows, c->dots[i % AHEAD][p->skip], c, &p->scale, i, acc);
        order_memory();
        if (i + AHEAD < n)
            multiply(type, c, p->a, tile, i + AHEAD, c->dots[i % AHEAD]);
    }
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        if (r < p->rows)
            _mm512_mask_storeu_ps(y + r * c->ldy, outputs, acc[r]);
    }
}

INLINE void chunk_tiles(const gg_dtype type, call *c)
{
    for (size_t t = c->tile0; t < c->tile1; t++) {
        for (size_t i = 0; i < c->n_parts; i++) {
            if (c->part[i].rows <= 8)
                part_tile(type, 8, c, &c->part[i], t);
            else if (c->part[i].rows <= 12)
                part_tile(type, 12, c, &c->part[i], t);
            else
                part_tile(type, TILE_ROWS, c, &c->part[i], t);
        }
    }
}

// Values of rows side by side: from[r * step], 0 beyond the last.
INLINE vf across(const float *from, size_t rows, size_t step)
{
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i at = _mm512_mullo_epi32(lane, _mm512_set1_epi32((int)step));
    return _mm512_mask_i32gather_ps(vf_set1(0.0f), first_lanes(rows), at, from, 4);
}

INLINE vf across_integers(const int32_t *from, size_t rows, size_t step)
{
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i at = _mm512_mullo_epi32(lane, _mm512_set1_epi32((int)step));
    return vi_to_float(_mm512_mask_i32gather_epi32(vi_set1(0), first_lanes(rows), at, from, 4));
}

// Of rows from `first` on and the chunk.
static void fill_scales(const call *c, const gg_qrows *a, size_t first, size_t rows, scales *to)
{
    const gg_weight_form f = gg_weight_form_of(c->w->type);
    const size_t n_blocks = c->w->n_in / GG_BLOCK;
    for (size_t b = 0; b < c->blocks; b++) {
        const size_t i = first * n_blocks + c->block0 + b;
        const vf d = across(a->d + i, rows, n_blocks);
        vf_store(to->d[b], d);
        if (f.minimum && f.split) {
            const vf sum = across_integers(a->sum + i, rows, n_blocks);
            const vf half = across_integers(a->half + i, rows, n_blocks);
            vf_store(to->s[b][0], vf_mul(d, half));
            vf_store(to->s[b][1], vf_mul(d, vf_sub(sum, half))); // small integers: exact
        } else if (f.minimum) {
            vf_store(to->s[b][0], across(a->s + i, rows, n_blocks));
        }
    }
}

// Rows [row, row + rows) of the call, at most MAX_PARTS tiles of `height` rows.
static void group(call *c, const gg_qrows *a, size_t row, size_t rows, size_t height, float *y)
{
    const size_t n_blocks = c->w->n_in / GG_BLOCK;
    for (c->block0 = 0; c->block0 < n_blocks; c->block0 += CHUNK) {
        const size_t left = n_blocks - c->block0;
        c->blocks = left < CHUNK ? left : CHUNK;
        c->n_parts = 0;
        for (size_t r = row; r < row + rows; r += height) {
            part *p = &c->part[c->n_parts++];
            p->rows = row + rows - r < height ? row + rows - r : height;
            p->skip = height - p->rows;
            p->a = a->q + (r - p->skip) * c->w->n_in + c->block0 * GG_BLOCK;
            p->y = y + r * c->ldy;
            fill_scales(c, a, r, p->rows, &p->scale);
        }
        switch (c->w->type) {
#define GG_PRODUCT(TYPE, ...)                                                                      \
    case GG_##TYPE:                                                                                \
        chunk_tiles(GG_##TYPE, c);                                                                 \
        break;
            GG_QUANTIZED_TYPES(GG_PRODUCT)
#undef GG_PRODUCT
        default:
            break;
        }
    }
}

void gg_amx_matmul_q(const gg_matrix *w, size_t tile0, size_t tile1, const gg_qrows *a, size_t rows,
                     float *y, size_t ldy)
{
    if (rows < MIN_ROWS) {
        gg_kernels_avx512.matmul_q(w, tile0, tile1, a, rows, y, ldy);
        return;
    }
    const size_t n_tiles = (w->n_out + GG_TILE - 1) / GG_TILE;
    call c;
    c.w = w;
    c.tile0 = tile0;
    c.tile1 = tile1 < n_tiles ? tile1 : n_tiles;
    c.ldy = ldy;
    memset(c.dots, 0, sizeof c.dots);
    const size_t parts = (rows + TILE_ROWS - 1) / TILE_ROWS, height = (rows + parts - 1) / parts;
    configure(height, (size_t)GG_BLOCK / spans_of(w->type));
    for (size_t row = 0; row < rows; row += MAX_PARTS * height) {
        const size_t left = rows - row;
        group(&c, a, row, left < MAX_PARTS * height ? left : MAX_PARTS * height, height, y);
    }
    _tile_release(); // an idle thread carries no tile state
}

// Whole tiles: 16 x 16 outputs over 64 inputs.
size_t gg_amx_multiply_adds(size_t steps, uint32_t *seed)
{
    enum { PRODUCTS = 4, MULTIPLY_ADDS = 16 * 16 * 64 };
    _Alignas(64) uint32_t x[16 * 16], w[16 * 16];
    for (size_t i = 0; i < 16 * 16; i++) {
        x[i] = *seed;
        w[i] = 0x03030303u;
    }
    configure_full();
    order_memory();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, x, TILE_LINE);
    _tile_loadd(5, w, TILE_LINE);
    for (size_t i = 0; i < steps; i++) {
        _tile_dpbssd(0, 4, 5);
        _tile_dpbssd(1, 4, 5);
        _tile_dpbssd(2, 4, 5);
        _tile_dpbssd(3, 4, 5);
    }
    _tile_stored(0, x, TILE_LINE);
    _tile_release();
    order_memory();
    *seed ^= x[0];
    return steps * PRODUCTS * MULTIPLY_ADDS;
}

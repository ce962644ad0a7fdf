// The quantised product on int8 tiles (AMX): one tile product is 16 outputs x up to 16 rows over a
// block of 32. A packed weight block is a B tile as it lies in memory (Q8_0) or after its nibbles
// are spread (Q4). The integer dots leave through memory and are scaled as at every other level.
// Few rows do not fill a tile: they are the AVX-512 level's. Everything else is in its table too.
#include "kernels/tiles.h"

enum {
    AHEAD = 1,      // blocks whose tile products run before their dots are scaled
    MIN_ROWS = 12,  // below, AVX-512 is faster
    TILE_ROWS = 16, // rows of activations in a tile
    MAX_PARTS = 4,  // row tiles that share one decoding of the weights
    CHUNK = 24,     // blocks whose weights and scales are decoded at once
    BLOCK_Q = 512,  // bytes of a block as a B tile: [8][16][4]
    C_TILE = 0,     // tile registers
    A_TILE = 1,
    B_TILE = 2,
};

// The weights of one tile over a chunk of blocks.
typedef struct weights {
    _Alignas(64) int8_t q[CHUNK][BLOCK_Q];
    float d[CHUNK][GG_TILE], m[CHUNK][GG_TILE];
} weights;

// Scales of a row tile over a chunk of blocks, rows side by side; 0 for rows that do not exist.
typedef struct scales {
    _Alignas(64) float d[CHUNK][TILE_ROWS], s[CHUNK][TILE_ROWS];
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
    weights weights;
    // Dots of blocks in turn. `skip` shifts the reading; rows that do not exist read what follows.
    _Alignas(64) int32_t dots[AHEAD + 1][TILE_ROWS][GG_TILE];
} call;

INLINE size_t block_bytes(const gg_dtype type)
{
    return type == GG_Q4_0 ? 288 : type == GG_Q4_1 ? 320 : 544;
}

static void configure(size_t rows, size_t row_bytes)
{
    tile_config c = {.palette = 1};
    c.rows[C_TILE] = c.rows[A_TILE] = (uint8_t)rows;
    c.rows[B_TILE] = (uint8_t)(row_bytes / 4);
    c.row_bytes[C_TILE] = c.row_bytes[B_TILE] = TILE_LINE;
    c.row_bytes[A_TILE] = (uint16_t)row_bytes;
    load_config(&c);
}

// One block of weights: scales as floats, Q4 values as bytes. Q4_0 becomes signed here, once,
// so that no row has to subtract 8 * sum.
INLINE void decode_block(const gg_dtype type, const uint8_t *block, weights *w, size_t b)
{
    const uint16_t *scale = (const uint16_t *)(const void *)block;
    vf_store(w->d[b], vf_load_f16(scale));
    if (type == GG_Q8_0)
        return;
    if (type == GG_Q4_1)
        vf_store(w->m[b], vf_load_f16(scale + GG_TILE));
    const uint8_t *raw = block + (type == GG_Q4_1 ? 64 : 32);
    const __m512i low = _mm512_set1_epi8(15);
    const __m512i zero = _mm512_set1_epi8(type == GG_Q4_0 ? 8 : 0);
    UNROLL
    for (size_t g = 0; g < 4; g++) {
        const __m512i pair = _mm512_loadu_si512(raw + 64 * g);
        const __m512i high = _mm512_maskz_srli_epi16(0xffffffffu, pair, 4);
        const __m512i q0 = _mm512_and_si512(pair, low), q1 = _mm512_and_si512(high, low);
        _mm512_store_si512(w->q[b] + 64 * g, _mm512_sub_epi8(q0, zero));
        _mm512_store_si512(w->q[b] + 64 * (g + 4), _mm512_sub_epi8(q1, zero));
    }
}

// Decodes block b of a tile, if there is one.
INLINE void decode(const gg_dtype type, const uint8_t *tile, call *c, size_t b)
{
    if (b >= c->blocks)
        return;
    const uint8_t *block = tile + b * block_bytes(type);
    // The same block of the next tile: an address that may lie beyond the matrix.
    const uintptr_t next = (uintptr_t)block + c->w->tile_bytes;
    UNROLL
    for (size_t line = 0; line < block_bytes(type); line += TILE_LINE)
        _mm_prefetch((const char *)(next + line), _MM_HINT_T0);
    decode_block(type, block, &c->weights, b);
}

// The dots of one block to memory.
INLINE void multiply(const int8_t *a, size_t lda, const void *b, void *dots)
{
    // C_TILE, A_TILE, B_TILE: the names of registers have to be literals.
    _tile_zero(0);
    _tile_loadd(1, a, lda);
    _tile_loadd(2, b, TILE_LINE);
    _tile_dpbssd(0, 1, 2);
    _tile_stored(0, dots, TILE_LINE);
}

// acc of `rows` rows after one block.
INLINE void scale_block(const gg_dtype type, const size_t rows, const int32_t *dots, const call *c,
                        const scales *s, size_t b, vf *acc)
{
    const vf d = vf_load(c->weights.d[b]), m = type == GG_Q4_1 ? vf_load(c->weights.m[b]) : d;
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        const vf isum = vi_to_float(_mm512_loadu_si512(dots + r * GG_TILE));
        acc[r] = vf_fma(isum, vf_mul(d, vf_set1(s->d[b][r])), acc[r]);
        if (type == GG_Q4_1)
            acc[r] = vf_fma(m, vf_set1(s->s[b][r]), acc[r]);
    }
}

// One row tile and one weight tile over the chunk; y holds the accumulators between chunks.
INLINE void part_tile(const gg_dtype type, const size_t rows, call *c, const part *p,
                      const uint8_t *block, size_t tile)
{
    const __mmask16 outputs = first_lanes(c->w->n_out - tile * GG_TILE);
    float *y = p->y + tile * GG_TILE;
    vf acc[TILE_ROWS];
    UNROLL
    for (size_t r = 0; r < rows; r++) {
        const bool old = r < p->rows && c->block0 > 0;
        acc[r] = _mm512_maskz_loadu_ps(old ? outputs : 0, y + (old ? r * c->ldy : 0));
    }
    const size_t step = type == GG_Q8_0 ? block_bytes(type) : BLOCK_Q;
    const uint8_t *q = type == GG_Q8_0 ? block + 32 : (const uint8_t *)c->weights.q;
    const size_t lda = c->w->n_in, blocks = c->blocks;
    const bool first = p == c->part;
    for (size_t b = 0; first && b < 2 * AHEAD; b++)
        decode(type, block, c, b);
    order_memory();
    for (size_t b = 0; b < AHEAD && b < blocks; b++)
        multiply(p->a + b * GG_BLOCK, lda, q + b * step, c->dots[b]);
    for (size_t b = 0; b < blocks; b++) {
        if (first)
            decode(type, block, c, b + 2 * AHEAD);
        order_memory();
        scale_block(type, rows, c->dots[b % AHEAD][p->skip], c, &p->scale, b, acc);
        order_memory();
        if (b + AHEAD < blocks)
            multiply(p->a + (b + AHEAD) * GG_BLOCK, lda, q + (b + AHEAD) * step,
                     c->dots[b % AHEAD]);
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
        const uint8_t *block = c->w->tiles + t * c->w->tile_bytes + c->block0 * block_bytes(type);
        for (size_t i = 0; i < c->n_parts; i++) {
            if (c->part[i].rows <= 8)
                part_tile(type, 8, c, &c->part[i], block, t);
            else if (c->part[i].rows <= 12)
                part_tile(type, 12, c, &c->part[i], block, t);
            else
                part_tile(type, TILE_ROWS, c, &c->part[i], block, t);
        }
    }
}

static void fill_scales(const float *from, size_t n_blocks, size_t rows, size_t blocks,
                        float (*to)[TILE_ROWS])
{
    const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i at = _mm512_mullo_epi32(lane, _mm512_set1_epi32((int)n_blocks));
    for (size_t b = 0; b < blocks; b++)
        vf_store(to[b],
                 _mm512_mask_i32gather_ps(vf_set1(0.0f), first_lanes(rows), at, from + b, 4));
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
            const size_t first = r * n_blocks + c->block0;
            fill_scales(a->d + first, n_blocks, p->rows, c->blocks, p->scale.d);
            if (c->w->type == GG_Q4_1)
                fill_scales(a->s + first, n_blocks, p->rows, c->blocks, p->scale.s);
        }
        if (c->w->type == GG_Q4_0)
            chunk_tiles(GG_Q4_0, c);
        else if (c->w->type == GG_Q4_1)
            chunk_tiles(GG_Q4_1, c);
        else if (c->w->type == GG_Q8_0)
            chunk_tiles(GG_Q8_0, c);
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
    configure(height, GG_BLOCK);
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

// Dense float products on bf16 tiles (AMX), for the trainers. A float is split into two bf16 values
// that together keep 16 bits of its significand, hi + lo, and of the four products of two such
// pairs lo * lo is left out: relative to sum |a| |b| the error is below 2^-16, and the tiles still
// do five times the multiply-adds of float vectors. Sums are f32.
//
// A k-block is 32 values of k; dword p of it holds those at p (low half) and p + 16. Left tiles are
// [16 rows][16 dwords], right tiles [16 dwords][16 columns]; a panel is 32 rows or columns:
// [k-blocks][hi 0, hi 1, lo 0, lo 1] tiles.
#include "kernels/tiles.h"

enum {
    SIDE = 16,               // rows of a tile
    TILE = SIDE * TILE_LINE, // bytes
    STEP = 4 * TILE,         // bytes of a panel per k-block
    PANEL = 2 * SIDE,        // rows or columns of a panel
    K_BLOCK = 32,            // values of k per k-block
    MOST_BLOCKS = 20,        // k-blocks packed at once
    NEAR_BLOCKS = 10,        // k-blocks of a right panel that stay in the first-level cache
    MOST_PANELS = 16,        // left panels packed at once: with them, most of a second-level cache
    C_PANEL = PANEL * PANEL, // floats of the output of two panels
};

typedef struct workspace {
    _Alignas(64) uint8_t left[MOST_PANELS][MOST_BLOCKS * STEP];
    uint8_t right[MOST_BLOCKS * STEP];
    float c[MOST_PANELS][C_PANEL]; // outputs between parts of a panel, and those of edges
} workspace;

size_t gg_amx_dense_scratch(void)
{
    return sizeof(workspace);
}

// One side of the product: element (x, k) at data[x * x_step + k * k_step], one step being 1.
typedef struct operand {
    const float *data;
    size_t n, x_step, k_step, n_k;
    bool right;
} operand;

// Nearest bf16 in the upper half, halves away from zero.
INLINE vi round_half(vf x)
{
    return _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000)),
                            _mm512_set1_epi32((int)0xffff0000u));
}

INLINE void split(vf first, vf second, vi *hi, vi *lo)
{
    const vi a = round_half(first), b = round_half(second);
    const vi c = round_half(_mm512_sub_ps(first, _mm512_castsi512_ps(a)));
    const vi d = round_half(_mm512_sub_ps(second, _mm512_castsi512_ps(b)));
    *hi = _mm512_or_si512(_mm512_srli_epi32(a, 16), b);
    *lo = _mm512_or_si512(_mm512_srli_epi32(c, 16), d);
}

// Rows and columns of 16 x 16 dwords change places.
INLINE void transpose(vi *x)
{
    vi y[SIDE];
    UNROLL
    for (size_t i = 0; i < SIDE; i += 2) {
        y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    UNROLL
    for (size_t i = 0; i < SIDE; i += 4) {
        x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
        x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
        x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
        x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
    }
    UNROLL
    for (size_t i = 0; i < 4; i++) {
        y[i] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88);
        y[i + 4] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xdd);
        y[i + 8] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88);
        y[i + 12] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xdd);
    }
    UNROLL
    for (size_t i = 0; i < 8; i++) {
        x[i] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0x88);
        x[i + 8] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0xdd);
    }
}

INLINE void store_tile(uint8_t *tile, const vi *x)
{
    UNROLL
    for (size_t i = 0; i < SIDE; i++)
        _mm512_store_si512(tile + i * TILE_LINE, x[i]);
}

// The hi and lo tile of 16 rows or columns from x on over one k-block from k on; zero beyond the
// edges. `along` tells that k runs along memory.
INLINE void pack_tile(const operand *o, const bool along, const bool turn, size_t x, size_t k,
                      uint8_t *hi_tile, uint8_t *lo_tile)
{
    const size_t lines = along ? o->n - x : o->n_k - k, wide = along ? o->n_k - k : o->n - x;
    const size_t step = along ? o->x_step : o->k_step;
    const float *from = o->data + x * o->x_step + k * o->k_step;
    const __mmask16 near = first_lanes(wide), far = first_lanes(wide > 16 ? wide - 16 : 0);
    const size_t second = along ? 16 : 16 * step;
    vi hi[SIDE], lo[SIDE];
    UNROLL
    for (size_t i = 0; i < SIDE; i++) {
        const bool one = i < lines, two = along ? one : i + 16 < lines;
        const vf a = _mm512_maskz_loadu_ps(one ? near : 0, one ? from + i * step : from);
        const vf b = _mm512_maskz_loadu_ps(two ? (along ? far : near) : 0,
                                           two ? from + i * step + second : from);
        split(a, b, &hi[i], &lo[i]);
    }
    if (turn) {
        transpose(hi);
        transpose(lo);
    }
    store_tile(hi_tile, hi);
    store_tile(lo_tile, lo);
}

INLINE void pack_steps(const operand *o, const bool along, const bool turn, size_t x, size_t k,
                       size_t blocks, uint8_t *panel)
{
    for (size_t b = 0; b < blocks; b++) {
        uint8_t *tiles = panel + b * STEP;
        for (size_t half = 0; half < 2; half++) {
            uint8_t *hi = tiles + half * TILE, *lo = hi + 2 * TILE;
            if (x + half * SIDE < o->n) {
                pack_tile(o, along, turn, x + half * SIDE, k + b * K_BLOCK, hi, lo);
            } else {
                memset(hi, 0, TILE);
                memset(lo, 0, TILE);
            }
        }
    }
}

// The panel of rows or columns from x on over k-blocks from k on.
static void pack(const operand *o, size_t x, size_t k, size_t blocks, uint8_t *panel)
{
    const bool along = o->k_step == 1;
    if (along && o->right)
        pack_steps(o, true, true, x, k, blocks, panel);
    else if (along)
        pack_steps(o, true, false, x, k, blocks, panel);
    else if (o->right)
        pack_steps(o, false, false, x, k, blocks, panel);
    else
        pack_steps(o, false, true, x, k, blocks, panel);
}

// Where 32 x 32 outputs lie.
typedef struct place {
    float *c;
    size_t ld;
} place;

// to = from (NULL: zero) + left . right over some k-blocks. Tiles 0 to 3 are the output, 4 and 5
// the left side, 6 and 7 the right one: the names of registers have to be literals.
INLINE void multiply(const uint8_t *left, const uint8_t *right, size_t blocks, const place *from,
                     const place *to)
{
    if (from) {
        _tile_loadd(0, from->c, from->ld * sizeof(float));
        _tile_loadd(1, from->c + SIDE, from->ld * sizeof(float));
        _tile_loadd(2, from->c + SIDE * from->ld, from->ld * sizeof(float));
        _tile_loadd(3, from->c + SIDE * from->ld + SIDE, from->ld * sizeof(float));
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (size_t b = 0; b < blocks; b++, left += STEP, right += STEP) {
        _tile_loadd(4, left + 2 * TILE, TILE_LINE);
        _tile_loadd(6, right, TILE_LINE);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, right + TILE, TILE_LINE);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, left + 3 * TILE, TILE_LINE);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        _tile_loadd(4, left, TILE_LINE);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, left + TILE, TILE_LINE);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        _tile_loadd(6, right + 2 * TILE, TILE_LINE);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(2, 5, 6);
        _tile_loadd(7, right + 3 * TILE, TILE_LINE);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, to->c, to->ld * sizeof(float));
    _tile_stored(1, to->c + SIDE, to->ld * sizeof(float));
    _tile_stored(2, to->c + SIDE * to->ld, to->ld * sizeof(float));
    _tile_stored(3, to->c + SIDE * to->ld + SIDE, to->ld * sizeof(float));
}

// Outputs of left panels [row ...) and the right panel at column `column`, over packed k-blocks.
typedef struct strip {
    const gg_dense *p;
    workspace *w;
    size_t row, column, panels, blocks;
    bool add; // to what the output holds
} strip;

// Rows and columns of the outputs of left panel i.
static void extent(const strip *s, size_t i, size_t *rows, size_t *columns)
{
    const size_t down = s->p->m - s->row - i * PANEL, across = s->p->n - s->column;
    *rows = down < PANEL ? down : PANEL;
    *columns = across < PANEL ? across : PANEL;
}

static void copy(const float *from, size_t from_ld, float *to, size_t to_ld, size_t rows,
                 size_t columns)
{
    for (size_t r = 0; r < rows; r++)
        memcpy(to + r * to_ld, from + r * from_ld, columns * sizeof *to);
}

// The k-blocks in parts, each over all left panels: a part of the right panel stays near.
static void run_strip(const strip *s)
{
    const size_t parts = (s->blocks + NEAR_BLOCKS - 1) / NEAR_BLOCKS;
    for (size_t q = 0; q < parts; q++) {
        const size_t begin = s->blocks * q / parts, end = s->blocks * (q + 1) / parts;
        for (size_t i = 0; i < s->panels; i++) {
            size_t rows, columns;
            extent(s, i, &rows, &columns);
            const bool whole = rows == PANEL && columns == PANEL;
            const place near = {s->w->c[i], PANEL};
            const place far = {s->p->c + (s->row + i * PANEL) * s->p->c_row + s->column,
                               s->p->c_row};
            if (!whole && q == 0 && s->add)
                copy(far.c, far.ld, near.c, near.ld, rows, columns);
            const place *from = q == 0 ? (s->add ? (whole ? &far : &near) : NULL) : &near;
            const bool last = q + 1 == parts;
            order_memory();
            multiply(s->w->left[i] + begin * STEP, s->w->right + begin * STEP, end - begin, from,
                     last && whole ? &far : &near);
            order_memory();
            if (last && !whole)
                copy(near.c, near.ld, far.c, far.ld, rows, columns);
        }
    }
}

void gg_amx_dense(const gg_dense *p)
{
    const operand left = {p->a, p->m, p->a_row, p->a_col, p->k, false};
    const operand right = {p->b, p->n, p->b_col, p->b_row, p->k, true};
    const size_t blocks = (p->k + K_BLOCK - 1) / K_BLOCK;
    const size_t rounds = (blocks + MOST_BLOCKS - 1) / MOST_BLOCKS;
    strip s = {.p = p, .w = p->scratch};
    configure_full();
    for (size_t round = 0; round < rounds; round++) {
        const size_t begin = blocks * round / rounds;
        s.blocks = blocks * (round + 1) / rounds - begin;
        s.add = p->accumulate || round > 0;
        for (s.row = 0; s.row < p->m; s.row += s.panels * PANEL) {
            const size_t panels = (p->m - s.row + PANEL - 1) / PANEL;
            s.panels = panels < MOST_PANELS ? panels : MOST_PANELS;
            for (size_t i = 0; i < s.panels; i++)
                pack(&left, s.row + i * PANEL, begin * K_BLOCK, s.blocks, s.w->left[i]);
            for (s.column = 0; s.column < p->n; s.column += PANEL) {
                pack(&right, s.column, begin * K_BLOCK, s.blocks, s.w->right);
                run_strip(&s);
            }
        }
    }
    _tile_release(); // an idle thread carries no tile state
}

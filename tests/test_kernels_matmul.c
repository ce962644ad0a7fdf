// Matrix products at every level against the scalar specification, bit for bit: every row count,
// row invariance, strides, tile ranges, guard pages, extremes; and against double precision.
#include "kernels_common.h"

enum {
    MAX_ROWS = 19,
    MAX_IN = 1120,
};

static uint16_t bf16_of(float x)
{
    return (uint16_t)(float_bits(x) >> 16);
}

static uint16_t random_half(uint64_t *seed, bool extreme)
{
    static const uint16_t extremes[] = {0x0000, 0x8000, 0x0001, 0x83ff, 0x0400, 0x7bff, 0xfbff};
    if (extreme && next_random(seed) % 3 == 0)
        return extremes[next_random(seed) % 7];
    return gg_f32_to_f16(random_float(seed) * 0.1f);
}

// A random row in GGUF's layout. Extreme rows hold -128 weights and the edges of f16.
static void random_row(gg_dtype type, size_t n_in, uint64_t *seed, bool extreme, uint8_t *row)
{
    const size_t bytes = gg_dtype_row_bytes(type, n_in);
    for (size_t i = 0; i < bytes; i++)
        row[i] = (uint8_t)(extreme && i % 5 == 0 ? 0x80 : next_random(seed));
    for (size_t k = 0; k < n_in && !gg_dtype_is_quantized(type); k++) {
        const float x = extreme ? random_extreme(seed) : random_float(seed);
        const uint16_t half = type == GG_BF16 ? bf16_of(x) : random_half(seed, extreme);
        if (type == GG_F32)
            memcpy(row + 4 * k, &x, 4);
        else
            memcpy(row + 2 * k, &half, 2);
    }
    const size_t unit = unit_inputs(type);
    for (size_t k = 0; k < n_in && gg_dtype_is_quantized(type); k += unit) {
        const uint16_t halves[2] = {random_half(seed, extreme), random_half(seed, extreme)};
        set_halves(type, row + gg_dtype_row_bytes(type, k), halves);
    }
}

// A packed random matrix whose tiles end at a guard page.
static gg_matrix random_matrix(guards *g, gg_dtype type, size_t n_out, size_t n_in, uint64_t *seed,
                               bool extreme)
{
    static uint8_t row[4 * MAX_IN];
    gg_matrix w;
    cr_assert_eq(gg_matrix_create(type, n_out, n_in, &w, NULL), GORGON_OK);
    for (size_t o = 0; o < n_out; o++) {
        random_row(type, n_in, seed, extreme, row);
        gg_matrix_pack_row(&w, o, row);
    }
    const size_t bytes = (n_out + GG_TILE - 1) / GG_TILE * w.tile_bytes;
    uint8_t *tiles = guard_copy(g, w.tiles, bytes, true);
    gg_free(w.tiles);
    w.tiles = tiles;
    return w;
}

static gg_qrows view_rows(const gg_qrows *a, size_t row)
{
    const size_t n_blocks = a->n_in / GG_BLOCK;
    return (gg_qrows){a->n_in,
                      a->q + row * a->n_in,
                      a->d + row * n_blocks,
                      a->s + row * n_blocks,
                      a->sum + row * n_blocks,
                      a->half + row * n_blocks};
}

// One matrix with `rows` rows of activations, as floats and (if the type is quantised) as int8.
typedef struct product {
    gg_matrix w;
    const float *x; // [rows][ldx]
    size_t ldx, rows, ldy;
    gg_qrows a;
    bool quantized; // which of the two products
} product;

static void multiply(const gg_kernels *k, const product *p, size_t row, size_t rows, size_t tile0,
                     size_t tile1, float *y)
{
    if (p->quantized) {
        const gg_qrows a = view_rows(&p->a, row);
        k->matmul_q(&p->w, tile0, tile1, &a, rows, y, p->ldy);
    } else {
        k->matmul_f(&p->w, tile0, tile1, p->x + row * p->ldx, p->ldx, rows, y, p->ldy);
    }
}

static const float untouched = -12345.5f;

static void fill(float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = untouched;
}

// 1 to MAX_ROWS, then those beside multiples of a tile's sixteen rows, and the last.
static size_t next_rows(size_t rows, size_t last)
{
    static const size_t some[] = {31, 32, 33, 47, 48, 49, 63, 64, 65, 70, 128, 129};
    if (rows < MAX_ROWS)
        return rows + 1;
    for (size_t i = 0; i < sizeof some / sizeof some[0]; i++) {
        if (some[i] > rows && some[i] < last)
            return some[i];
    }
    return rows < last ? last : rows + 1;
}

// All of those row counts at all levels equal the specification's rows, computed one by one;
// nothing beyond n_out is written. y ends with the last output of the last row at a guard page.
static void check_rows(const product *p)
{
    guards g = {.n = 0};
    const size_t n_tiles = (p->w.n_out + GG_TILE - 1) / GG_TILE;
    const size_t size = (p->rows - 1) * p->ldy + p->w.n_out;
    float *want = guard_alloc(&g, size * sizeof(float), true);
    fill(want, size);
    for (size_t r = 0; r < p->rows; r++)
        multiply(&gg_kernels_scalar, p, r, 1, 0, n_tiles, want + r * p->ldy);
    for (size_t l = 0; test_level(l); l++) {
        for (size_t rows = 1; rows <= p->rows; rows = next_rows(rows, p->rows)) {
            const size_t part = (rows - 1) * p->ldy + p->w.n_out, first = p->rows - rows;
            guards one = {.n = 0};
            float *y = guard_alloc(&one, part * sizeof(float), true);
            fill(y, part);
            multiply(test_level(l), p, first, rows, 0, n_tiles, y);
            const size_t i = first_difference(want + first * p->ldy, y, part);
            cr_assert_eq(i, part, "%s at %s, %zu x %zu, %zu rows (int8 %d): %zu is %a, expected %a",
                         gg_dtype_name(p->w.type), test_level(l)->name, p->w.n_out, p->w.n_in, rows,
                         p->quantized, i, (double)y[i], (double)want[first * p->ldy + i]);
            guard_free(&one);
        }
    }
    guard_free(&g);
}

// n_in is rounded to what the type can hold.
static void check_shape(gg_dtype type, size_t n_out, size_t n_in, size_t rows, bool extreme)
{
    n_in = whole_units(type, n_in);
    guards g = {.n = 0};
    uint64_t seed = 100 * n_out + n_in + (size_t)type + extreme;
    product p = {.w = random_matrix(&g, type, n_out, n_in, &seed, extreme),
                 .ldx = n_in + 5,
                 .rows = rows,
                 .ldy = n_out + 3};
    const size_t size = (rows - 1) * p.ldx + n_in;
    float *x = guard_alloc(&g, size * sizeof(float), true);
    for (size_t i = 0; i < size; i++)
        x[i] = extreme ? random_extreme(&seed) : random_float(&seed);
    p.x = x;
    check_rows(&p);
    if (gg_dtype_is_quantized(type)) {
        const size_t blocks = rows * n_in / GG_BLOCK;
        p.a = (gg_qrows){n_in,
                         guard_alloc(&g, rows * n_in, true),
                         guard_alloc(&g, blocks * 4, true),
                         guard_alloc(&g, blocks * 4, true),
                         guard_alloc(&g, blocks * 4, true),
                         guard_alloc(&g, blocks * 4, true)};
        gg_kernels_scalar.quantize(x, p.ldx, rows, &p.a);
        p.quantized = true;
        check_rows(&p);
    }
    guard_free(&g);
}

Test(kernels_matmul, every_row_count_equals_scalar)
{
    for (size_t t = 0; t < WEIGHT_TYPE_COUNT; t++) {
        check_shape(weight_types[t], 33, 96, MAX_ROWS, false);
        check_shape(weight_types[t], 16, 64, MAX_ROWS, true);
        check_shape(weight_types[t], 47, 32, MAX_ROWS, true);
    }
}

Test(kernels_matmul, many_rows_equal_scalar)
{
    for (size_t t = 0; t < WEIGHT_TYPE_COUNT; t++) {
        check_shape(weight_types[t], 33, 96, 71, false);
        check_shape(weight_types[t], 16, 32, 133, true);
        if (gg_dtype_is_quantized(weight_types[t])) // more blocks than a level decodes at once
            check_shape(weight_types[t], 20, 1120, 35, t % 2 == 0);
    }
}

Test(kernels_matmul, odd_shapes_equal_scalar)
{
    for (size_t t = 0; t < WEIGHT_TYPE_COUNT; t++) {
        for (size_t n_out = 1; n_out <= 18; n_out++)
            check_shape(weight_types[t], n_out, 32, 3, n_out % 2 == 0);
        check_shape(weight_types[t], 64, MAX_IN, 5, false);
        check_shape(weight_types[t], 5, MAX_IN, 17, true);
        for (size_t n_in = 1; n_in < 40 && !gg_dtype_is_quantized(weight_types[t]); n_in += 3)
            check_shape(weight_types[t], 20, n_in, 2, n_in % 2 == 0);
    }
}

// Ranges of tiles touch their own outputs only, and give what the whole gives.
Test(kernels_matmul, tile_ranges_are_independent)
{
    enum { N_IN = 256, BLOCKS = 3 * N_IN / GG_BLOCK };
    static float x[3 * N_IN], whole[3 * 90], part[3 * 90];
    uint64_t seed = 5;
    for (size_t t = 0; t < WEIGHT_TYPE_COUNT; t++) {
        guards g = {.n = 0};
        int8_t q[3 * N_IN];
        float d[BLOCKS], s[BLOCKS];
        int32_t sum[BLOCKS], half[BLOCKS];
        product p = {.w = random_matrix(&g, weight_types[t], 85, N_IN, &seed, false),
                     .x = x,
                     .ldx = N_IN,
                     .rows = 3,
                     .ldy = 90,
                     .a = {N_IN, q, d, s, sum, half},
                     .quantized = gg_dtype_is_quantized(weight_types[t])};
        for (size_t i = 0; i < sizeof x / sizeof x[0]; i++)
            x[i] = random_float(&seed);
        gg_kernels_scalar.quantize(x, N_IN, 3, &p.a);
        for (size_t l = 0; test_level(l); l++) {
            fill(whole, 3 * 90);
            fill(part, 3 * 90);
            multiply(test_level(l), &p, 0, 3, 0, 6, whole);
            multiply(test_level(l), &p, 0, 3, 2, 4, part);
            for (size_t i = 0; i < 3 * 90; i++) {
                const bool inside = i % 90 >= 32 && i % 90 < 64;
                cr_assert_eq(part[i], inside ? whole[i] : untouched);
            }
            multiply(test_level(l), &p, 0, 3, 5, 6, part);
            multiply(test_level(l), &p, 0, 3, 0, 2, part);
            multiply(test_level(l), &p, 0, 3, 4, 5, part);
            multiply(test_level(l), &p, 0, 3, 3, 3, part);
            cr_assert_eq(first_difference(whole, part, 3 * 90), 3 * 90);
        }
        guard_free(&g);
    }
}

// The specification itself: float products within rounding of double ones, int8 products within
// the quantisation step of the activations.
Test(kernels_matmul, products_are_right)
{
    static float x[MAX_IN], row[MAX_IN], y[16], z[16];
    static int8_t q[MAX_IN];
    static float d[MAX_IN / 32], s[MAX_IN / 32];
    static int32_t sum[MAX_IN / 32], half[MAX_IN / 32];
    uint64_t seed = 6;
    for (size_t t = 0; t < WEIGHT_TYPE_COUNT; t++) {
        guards g = {.n = 0};
        const size_t n_in = whole_units(weight_types[t], MAX_IN);
        const gg_qrows a = {n_in, q, d, s, sum, half};
        const gg_matrix w = random_matrix(&g, weight_types[t], 16, n_in, &seed, false);
        for (size_t i = 0; i < n_in; i++)
            x[i] = random_float(&seed);
        gg_kernels_scalar.matmul_f(&w, 0, 1, x, n_in, 1, y, 16);
        gg_kernels_scalar.quantize(x, n_in, 1, &a);
        if (gg_dtype_is_quantized(weight_types[t]))
            gg_kernels_scalar.matmul_q(&w, 0, 1, &a, 1, z, 16);
        for (size_t o = 0; o < 16; o++) {
            double exact = 0, rounded = 0, magnitude = 0;
            gg_matrix_row(&w, o, row);
            for (size_t k = 0; k < n_in; k++) {
                exact += (double)row[k] * (double)x[k];
                rounded += (double)row[k] * (double)d[k / 32] * q[k];
                magnitude += fabs((double)row[k] * (double)x[k]);
            }
            cr_assert_float_eq((double)y[o], exact, 1e-6 * magnitude);
            if (gg_dtype_is_quantized(weight_types[t])) {
                cr_assert_float_eq((double)z[o], rounded, 2e-6 * magnitude);
                cr_assert_float_eq((double)z[o], exact, 0.004 * magnitude);
            }
        }
        guard_free(&g);
    }
}

// Units whose first bytes are one value and the others another, against activations of +-127: the
// largest integer dots of every type are among them. All sums here are small multiples of one
// number, so a float has room for them.
static void check_largest(gg_dtype type, size_t cut, uint8_t first, uint8_t rest)
{
    static const uint16_t halves[2] = {0x3c00, 0};
    const size_t n_in = unit_inputs(type), bytes = gg_dtype_row_bytes(type, n_in);
    uint8_t unit[256];
    float x[256], row[256], d[8], s[8], y[16];
    int8_t q[256];
    int32_t sum[8], half[8];
    const gg_qrows a = {n_in, q, d, s, sum, half};
    gg_matrix w;
    cr_assert_eq(gg_matrix_create(type, 16, n_in, &w, NULL), GORGON_OK);
    memset(unit, rest, sizeof unit);
    memset(unit, first, cut);
    set_halves(type, unit, halves);
    for (size_t o = 0; o < 16; o++)
        gg_matrix_pack_row(&w, o, unit);
    gg_matrix_row(&w, 0, row);
    for (int sign = -1; sign <= 1; sign += 2) {
        double want = 0;
        for (size_t i = 0; i < n_in; i++) {
            x[i] = (float)(i / 64 % 2 ? 127 : 127 * sign);
            want += (double)row[i] * (double)x[i];
        }
        gg_kernels_scalar.quantize(x, n_in, 1, &a);
        for (size_t l = 0; test_level(l); l++) {
            test_level(l)->matmul_q(&w, 0, 1, &a, 1, y, 16);
            for (size_t o = 0; o < 16; o++)
                cr_assert_float_eq((double)y[o], want, 1e-6 * fabs(want), "%s at %s: %a, want %a",
                                   gg_dtype_name(type), test_level(l)->name, (double)y[o], want);
        }
    }
    cr_assert_leq(bytes, sizeof unit);
    gg_matrix_clear(&w);
}

Test(kernels_matmul, integer_dots_do_not_saturate)
{
    static const uint8_t bytes[] = {0x00, 0x7f, 0x80, 0xff};
    for (size_t t = 0; t < WEIGHT_TYPE_COUNT; t++) {
        const size_t unit = gg_dtype_row_bytes(weight_types[t], unit_inputs(weight_types[t]));
        for (size_t cut = 0; cut < unit && gg_dtype_is_quantized(weight_types[t]); cut += 4) {
            for (size_t i = 0; i < 16; i++)
                check_largest(weight_types[t], cut, bytes[i / 4], bytes[i % 4]);
        }
    }
}

// Sums that lie beside the middle of two floats by less than a double can hold: software fma that
// rounds twice gets them wrong.
Test(kernels_matmul, fma_rounds_once)
{
    static const float w[][2] = {{0x1.000002p+0f, 0x1.000002p-12f},
                                 {-0x1.000002p+0f, -0x1.000002p-12f},
                                 {1.0f, 0x1.001p-12f},
                                 {-1.0f, -0x1.001p-12f}};
    static const float x[][2] = {{1.0f, 0x1.fffffcp-13f},
                                 {1.0f, 0x1.fffffcp-13f},
                                 {1.0f, 0x1.ffe002p-13f},
                                 {1.0f, 0x1.ffe002p-13f}};
    for (size_t i = 0; i < 4; i++) {
        const float want = fmaf(w[i][1], x[i][1], w[i][0]);
        const float twice = (float)((double)w[i][1] * (double)x[i][1] + (double)w[i][0]);
        cr_assert_neq(want, twice);
        gg_matrix m;
        cr_assert_eq(gg_matrix_create(GG_F32, 1, 2, &m, NULL), GORGON_OK);
        gg_matrix_pack_row(&m, 0, w[i]);
        float y;
        gg_kernels_scalar.matmul_f(&m, 0, 1, x[i], 2, 1, &y, 1);
        cr_assert_eq(y, want, "%a, expected %a", (double)y, (double)want);
        for (size_t l = 0; test_level(l); l++) {
            test_level(l)->matmul_f(&m, 0, 1, x[i], 2, 1, &y, 1);
            cr_assert_eq(y, want, "%s: %a, expected %a", test_level(l)->name, (double)y,
                         (double)want);
        }
        gg_matrix_clear(&m);
    }
}

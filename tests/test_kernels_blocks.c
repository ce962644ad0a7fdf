// Element types: GGUF blocks against reference values, packing and its inverses, the conversions
// of 16-bit floats, and the writer's quantisation.
#include "kernels_common.h"

#include <stdio.h>

#include "core/error.h"

// tests/data/quant_blocks.bin, little-endian: "GQB1", u32 count; per type u32 GGUF type, u32 bytes,
// u32 values, the blocks as GGUF stores them, their values as f32 (from gguf-py's dequantiser).
enum {
    MAX_FILE = 1 << 18,
    MAX_VALUES = 24 * 256,
};

static const uint8_t *golden_type(const uint8_t *p, gg_dtype *type, uint32_t *bytes, uint32_t *n)
{
    uint32_t code;
    memcpy(&code, p, 4);
    memcpy(bytes, p + 4, 4);
    memcpy(n, p + 8, 4);
    *type = (gg_dtype)code;
    return p + 12;
}

static size_t read_golden(uint8_t *data)
{
    FILE *file = fopen(GG_TEST_DATA "/quant_blocks.bin", "rb");
    cr_assert_not_null(file);
    const size_t size = fread(data, 1, MAX_FILE, file);
    fclose(file);
    cr_assert(size > 8 && size < MAX_FILE && memcmp(data, "GQB1", 4) == 0);
    return size;
}

Test(kernels_blocks, dequantised_blocks_match_the_reference)
{
    static uint8_t data[MAX_FILE];
    static float want[MAX_VALUES], got[MAX_VALUES];
    const size_t size = read_golden(data);
    uint32_t count;
    memcpy(&count, data + 4, 4);
    cr_assert_eq(count, WEIGHT_TYPE_COUNT - 1); // all but F32
    const uint8_t *p = data + 8;
    for (uint32_t t = 0; t < count; t++) {
        gg_dtype type;
        uint32_t bytes, n;
        p = golden_type(p, &type, &bytes, &n);
        cr_assert_leq(n, MAX_VALUES);
        cr_assert_eq(gg_dtype_row_bytes(type, n), bytes, "%s", gg_dtype_name(type));
        memcpy(want, p + bytes, n * sizeof(float));
        gg_matrix w;
        cr_assert_eq(gg_matrix_create(type, 18, n, &w, NULL), GORGON_OK);
        gg_matrix_pack_row(&w, 17, p);
        gg_matrix_row(&w, 17, got);
        for (size_t i = 0; i < n; i++)
            cr_assert_eq(got[i], want[i], "%s[%zu]: %a, want %a", gg_dtype_name(type), i,
                         (double)got[i], (double)want[i]);
        gg_matrix_clear(&w);
        p += bytes + n * sizeof(float);
    }
    cr_assert_eq((size_t)(p - data), size);
}

// ---- packing ----

// The golden blocks of a type as rows of 256 values, taken in turn: what a row holds in GGUF's
// layout and the values that this means. F32 has no goldens and needs none.
typedef struct golden_rows {
    uint8_t data[MAX_FILE];
    const uint8_t *blocks;
    uint32_t bytes, n;
} golden_rows;

static void find_rows(golden_rows *g, gg_dtype type)
{
    read_golden(g->data);
    const uint8_t *p = g->data + 8;
    gg_dtype found;
    for (p = golden_type(p, &found, &g->bytes, &g->n); found != type;
         p = golden_type(p + g->bytes + 4 * g->n, &found, &g->bytes, &g->n)) {
    }
    g->blocks = p;
}

static void take_row(const golden_rows *g, gg_dtype type, size_t n_in, size_t *at, uint8_t *row,
                     float *values)
{
    const size_t unit = unit_inputs(type), bytes = gg_dtype_row_bytes(type, unit);
    for (size_t i = 0; i < n_in / unit; i++) {
        const size_t b = (*at)++ % (g->n / unit);
        memcpy(row + i * bytes, g->blocks + b * bytes, bytes);
        memcpy(values + i * unit, g->blocks + g->bytes + b * unit * 4, unit * 4);
    }
}

static void random_floats(size_t n_in, uint64_t *seed, uint8_t *row, float *values)
{
    for (size_t i = 0; i < n_in; i++)
        values[i] = random_float(seed);
    memcpy(row, values, n_in * sizeof *values);
}

Test(kernels_blocks, packed_rows_hold_the_values_of_the_file)
{
    enum {
        N_IN = 256,
        N_OUT = 37,
    };
    static golden_rows golden;
    static uint8_t row[4 * N_IN];
    static float want[N_OUT][N_IN], y[N_IN], x[N_IN], products[N_OUT];
    uint64_t seed = 21;
    size_t at = 0;
    for (size_t t = 0; t < WEIGHT_TYPE_COUNT; t++) {
        const gg_dtype type = weight_types[t];
        gg_matrix w, copy;
        cr_assert_eq(gg_matrix_create(type, N_OUT, N_IN, &w, NULL), GORGON_OK);
        cr_assert_eq(gg_matrix_create(type, N_OUT, N_IN, &copy, NULL), GORGON_OK);
        cr_assert_eq(w.tile_bytes % 64, 0);
        cr_assert_eq((uintptr_t)w.tiles % 64, 0);
        if (type != GG_F32)
            find_rows(&golden, type);
        for (size_t o = 0; o < N_OUT; o++) {
            if (type == GG_F32)
                random_floats(N_IN, &seed, row, want[o]);
            else
                take_row(&golden, type, N_IN, &at, row, want[o]);
            gg_matrix_pack_row(&w, o, row);
        }
        for (size_t o = 0; o < N_OUT; o++)
            gg_matrix_copy_row(&copy, (o * 5 + 3) % N_OUT, &w, o);
        for (size_t o = 0; o < N_OUT; o++) {
            gg_matrix_row(&w, o, y);
            for (size_t i = 0; i < N_IN; i++)
                cr_assert_eq(y[i], want[o][i]);
            gg_matrix_row(&copy, (o * 5 + 3) % N_OUT, x);
            cr_assert_eq(first_difference(x, y, N_IN), N_IN);
        }
        // The float products see the same numbers: one input at a time.
        for (size_t l = 0; test_level(l); l++) {
            for (size_t i = 0; i < N_IN; i++) {
                memset(x, 0, sizeof x);
                x[i] = 1.0f;
                test_level(l)->matmul_f(&w, 0, 3, x, N_IN, 1, products, N_OUT);
                for (size_t o = 0; o < N_OUT; o++)
                    cr_assert_eq(products[o], want[o][i]);
            }
        }
        gg_matrix_clear(&w);
        gg_matrix_clear(&copy);
        cr_assert_null(w.tiles);
    }
}

Test(kernels_blocks, sizes_and_refusals)
{
    cr_assert_eq(gg_dtype_row_bytes(GG_Q4_0, 64), 36);
    cr_assert_eq(gg_dtype_row_bytes(GG_Q4_1, 64), 40);
    cr_assert_eq(gg_dtype_row_bytes(GG_Q8_0, 64), 68);
    cr_assert_eq(gg_dtype_row_bytes(GG_Q8_0, 33), 0);
    cr_assert_eq(gg_dtype_row_bytes(GG_F16, 33), 66);
    cr_assert_eq(gg_dtype_row_bytes(GG_I32, 3), 12);
    cr_assert_eq(gg_dtype_row_bytes(GG_Q4_K, 512), 288);
    cr_assert_eq(gg_dtype_row_bytes(GG_Q6_K, 576), 0);
    cr_assert_eq(gg_dtype_row_bytes((gg_dtype)9, 32), 0);
    cr_assert_eq(gg_dtype_row_bytes(GG_F32, SIZE_MAX / 2), 0);
    cr_assert_str_eq(gg_dtype_name(GG_BF16), "BF16");
    cr_assert_null(gg_dtype_name((gg_dtype)99));
    cr_assert(gg_dtype_is_quantized(GG_Q4_1) && !gg_dtype_is_quantized(GG_BF16));
    static const struct {
        gg_dtype type;
        size_t n_out, n_in;
        gorgon_status status;
    } bad[] = {
        {GG_I32, 4, 32, GORGON_ERROR_UNSUPPORTED},
        {(gg_dtype)15, 4, 256, GORGON_ERROR_UNSUPPORTED},
        {GG_Q4_K, 4, 128, GORGON_ERROR_UNSUPPORTED},
        {GG_Q4_0, 4, 48, GORGON_ERROR_UNSUPPORTED},
        {GG_F32, 0, 4, GORGON_ERROR_UNSUPPORTED},
        {GG_F32, 4, 0, GORGON_ERROR_UNSUPPORTED},
        {GG_F32, 4, SIZE_MAX / 8, GORGON_ERROR_MEMORY},
        {GG_F32, SIZE_MAX / 2, 4096, GORGON_ERROR_MEMORY},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        gg_matrix w;
        gorgon_error err = {0};
        cr_assert_eq(gg_matrix_create(bad[i].type, bad[i].n_out, bad[i].n_in, &w, &err),
                     bad[i].status, "case %zu", i);
        cr_assert(err.message[0] && !w.tiles);
    }
    gg_matrix w;
    gg_alloc_fail_at(1);
    cr_assert_eq(gg_matrix_create(GG_F32, 4, 4, &w, NULL), GORGON_ERROR_MEMORY);
    gg_alloc_fail_at(0);
}

// ---- 16-bit floats ----

Test(kernels_blocks, every_half_converts_exactly_and_back)
{
    static uint16_t half[65536], back[65536];
    static float want[65536], got[65536];
    for (size_t h = 0; h < 65536; h++) {
        half[h] = (uint16_t)h;
        const int exponent = (int)(h >> 10 & 31), mantissa = (int)(h & 1023);
        double x = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);
        if (exponent == 31)
            x = mantissa ? (double)NAN : (double)INFINITY;
        want[h] = (float)(h & 0x8000 ? -x : x);
    }
    for (size_t l = 0; test_level(l); l++) {
        test_level(l)->from_f16(half, 65536, got);
        cr_assert_eq(first_difference(want, got, 65536), 65536);
        test_level(l)->to_f16(got, 65536, back);
        for (size_t h = 0; h < 65536; h++) {
            const bool is_nan = (h & 0x7c00) == 0x7c00 && (h & 1023);
            cr_assert_eq(back[h], is_nan ? h | 0x200 : h, "%zx", h);
            cr_assert_eq(gg_f32_to_f16(got[h]), back[h]);
        }
    }
}

// Around every half and every midpoint between two: nearest, ties to even.
Test(kernels_blocks, floats_round_to_the_nearest_half)
{
    static float x[5 * 31744];
    static uint16_t want[5 * 31744], got[5 * 31744];
    size_t n = 0;
    for (uint32_t h = 0; h < 0x7c00; h++) { // all finite ones, then by sign
        const float low = gg_f16_to_f32((uint16_t)h);
        const float high = h + 1 < 0x7c00 ? gg_f16_to_f32((uint16_t)(h + 1)) : 65536.0f;
        const float middle = (low + high) / 2;
        const float probe[5] = {low, nextafterf(low, high), nextafterf(middle, low), middle,
                                nextafterf(middle, high)};
        for (uint32_t i = 0; i < 5; i++) {
            const uint32_t up = i == 4 || (i == 3 && h % 2 == 1);
            const bool negative = h % 3 == 0;
            x[n] = negative ? -probe[i] : probe[i];
            want[n++] = (uint16_t)((h + up) | (negative ? 0x8000u : 0));
        }
    }
    for (size_t l = 0; test_level(l); l++) {
        test_level(l)->to_f16(x, n, got);
        for (size_t i = 0; i < n; i++)
            cr_assert_eq(got[i], want[i], "%s: %a gives %04x, expected %04x", test_level(l)->name,
                         (double)x[i], got[i], want[i]);
    }
    cr_assert_eq(gg_f32_to_f16(1e-30f), 0);
    cr_assert_eq(gg_f32_to_f16(-1e30f), 0xfc00);
}

// ---- the writer's quantisation ----

static float half_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, 2);
    return gg_f16_to_f32(h);
}

Test(kernels_blocks, q8_0_rows_follow_ggml)
{
    float x[64] = {0}, y[64];
    uint8_t row[68], floats[256];
    uint64_t seed = 31;
    for (size_t i = 0; i < 32; i++)
        x[i] = random_float(&seed);
    x[5] = 1.27f; // the largest: d is about 0.01
    x[6] = -1.27f;
    gg_quantize_row(GG_Q8_0, x, 64, row);
    const float d = 1.27f / 127.0f;
    cr_assert_eq(row[0] | row[1] << 8, gg_f32_to_f16(d));
    for (size_t i = 0; i < 32; i++)
        cr_assert_eq((int8_t)row[2 + i], (int)roundf(x[i] * (1.0f / d)), "%zu", i);
    cr_assert_eq((int8_t)row[7], 127);
    cr_assert_eq((int8_t)row[8], -127);
    for (size_t i = 34; i < 68; i++)
        cr_assert_eq(row[i], 0);
    // Halves round away from zero: d is exactly 1 here.
    for (size_t i = 0; i < 32; i++)
        x[i] = (float)((int)i - 16) + 0.5f;
    x[0] = 127.0f;
    gg_quantize_row(GG_Q8_0, x, 32, row);
    for (size_t i = 1; i < 32; i++)
        cr_assert_eq((int8_t)row[2 + i], i < 16 ? (int)i - 16 : (int)i - 15);
    gg_quantize_row(GG_F32, x, 64, floats);
    cr_assert_arr_eq(floats, x, sizeof x);
    gg_quantize_row(GG_F16, x, 64, floats);
    for (size_t i = 0; i < 64; i++)
        y[i] = half_at(floats + 2 * i);
    cr_assert_eq(first_difference(x, y, 64), 64);
    x[3] = INFINITY;
    x[4] = NAN;
    gg_quantize_row(GG_Q8_0, x, 64, row); // defined, whatever it gives
    cr_assert_eq((row[1] & 0x7c), 0x7c);
}

// Rows of one magnitude with a few larger values, as weights are.
static void random_weights(size_t n, uint64_t *seed, float *x)
{
    for (size_t i = 0; i < n; i++) {
        const float a = random_float(seed), b = random_float(seed), c = random_float(seed);
        x[i] = (a + b + c) * (next_random(seed) % 50 == 0 ? 0.1f : 0.03f);
    }
}

static double relative_error(gg_dtype type, const float *x, size_t n, const uint8_t *row)
{
    static float y[4096];
    double error = 0, squares = 0;
    gg_dequantize_row(type, row, n, y);
    for (size_t i = 0; i < n; i++) {
        error += ((double)y[i] - (double)x[i]) * ((double)y[i] - (double)x[i]);
        squares += (double)x[i] * (double)x[i];
    }
    return sqrt(error / squares);
}

// Every value within half a step of its block (Q4_0: a step at the end that has no level of its
// own), and the whole within what the bits allow.
Test(kernels_blocks, quantised_rows_are_near)
{
    static const struct {
        gg_dtype type;
        double error;
    } cases[] = {{GG_Q8_0, 0.007}, {GG_Q4_0, 0.11}, {GG_Q4_K, 0.085}};
    static float x[4096];
    static uint8_t row[4096 * 2];
    uint64_t seed = 41;
    random_weights(4096, &seed, x);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gg_quantize_row(cases[i].type, x, 4096, row);
        const double error = relative_error(cases[i].type, x, 4096, row);
        cr_expect_leq(error, cases[i].error, "%s: %g", gg_dtype_name(cases[i].type), error);
    }
    gg_quantize_row(GG_Q4_0, x, 4096, row);
    for (size_t b = 0; b < 4096 / 32; b++) {
        float y[32];
        gg_dequantize_row(GG_Q4_0, row + 18 * b, 32, y);
        const double step = fabs((double)half_at(row + 18 * b));
        for (size_t i = 0; i < 32; i++)
            cr_expect_leq(fabs((double)y[i] - (double)x[32 * b + i]), step * 1.001);
    }
}

// What a type can hold stays: quantising the values of quantised rows gives the same row.
Test(kernels_blocks, quantising_again_changes_nothing)
{
    static float x[2048], y[2048];
    static uint8_t once[4096], twice[4096];
    static const gg_dtype exact[] = {GG_Q8_0, GG_Q4_0};
    uint64_t seed = 42;
    random_weights(2048, &seed, x);
    for (size_t i = 0; i < 2; i++) {
        const size_t bytes = gg_dtype_row_bytes(exact[i], 2048);
        gg_quantize_row(exact[i], x, 2048, once);
        gg_dequantize_row(exact[i], once, 2048, y);
        gg_quantize_row(exact[i], y, 2048, twice);
        cr_expect_arr_eq(once, twice, bytes, "%s", gg_dtype_name(exact[i]));
    }
    // Q4_K: blocks that use both ends of their levels are met again, to the rounding of the scales.
    gg_quantize_row(GG_Q4_K, x, 2048, once);
    for (size_t b = 0; b < 8; b++) {
        for (size_t i = 0; i < 128; i += 32) {
            once[144 * b + 16 + i] = 0xf0; // two blocks: levels 0 and 15
            once[144 * b + 17 + i] = 0x0f;
        }
    }
    gg_dequantize_row(GG_Q4_K, once, 2048, y);
    gg_quantize_row(GG_Q4_K, y, 2048, twice);
    cr_expect_leq(relative_error(GG_Q4_K, y, 2048, twice), 2e-3);
}

Test(kernels_blocks, q4_rows_of_odd_values_are_defined)
{
    static const float odd[] = {0.0f, -0.0f, 1e-45f, 1e30f, -1e30f, INFINITY, -INFINITY, NAN};
    float x[256], y[256];
    uint8_t row[256];
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        for (size_t fill = 0; fill < 2; fill++) {
            for (size_t k = 0; k < 256; k++)
                x[k] = fill || k % 40 == 3 ? odd[i] : 0.5f;
            gg_quantize_row(GG_Q4_0, x, 256, row);
            gg_quantize_row(GG_Q4_K, x, 256, row);
        }
    }
    // Constant blocks, of either sign, are exact but for the rounding of the scale.
    for (int sign = -1; sign <= 1; sign++) {
        for (size_t k = 0; k < 256; k++)
            x[k] = 0.75f * (float)sign;
        gg_quantize_row(GG_Q4_K, x, 256, row);
        gg_dequantize_row(GG_Q4_K, row, 256, y);
        for (size_t k = 0; k < 256; k++)
            cr_expect_float_eq((double)y[k], (double)x[k], 1e-3, "%a, want %a", (double)y[k],
                               (double)x[k]);
    }
}

// Element types, packed weight matrices and the conversions of 16-bit floats.
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/kernels.h"

// A row in GGUF's layout is a run of units: `halves` 2-byte fields, then `words` 4-byte fields. A
// packed tile holds every field as [16 outputs], in the same order, so that packing any type is
// one scatter and its inverse one gather.
typedef struct layout {
    gg_dtype type;
    const char *name;
    size_t inputs; // per unit
    size_t halves;
    size_t words;
} layout;

static const layout layouts[] = {
    {GG_F32, "F32", 1, 0, 1},          {GG_F16, "F16", 1, 1, 0},
    {GG_BF16, "BF16", 1, 1, 0},        {GG_Q4_0, "Q4_0", GG_BLOCK, 1, 4},
    {GG_Q4_1, "Q4_1", GG_BLOCK, 2, 4}, {GG_Q8_0, "Q8_0", GG_BLOCK, 1, 8},
};

enum {
    MAX_UNIT_BYTES = 34,
};

static const layout *find_layout(gg_dtype type)
{
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        if (layouts[i].type == type)
            return &layouts[i];
    }
    return NULL;
}

static size_t unit_bytes(const layout *l)
{
    return 2 * l->halves + 4 * l->words;
}

size_t gg_dtype_row_bytes(gg_dtype type, size_t n_in)
{
    size_t bytes;
    if (type == GG_I32)
        return gg_mul(n_in, 4, &bytes) ? bytes : 0;
    const layout *l = find_layout(type);
    if (!l || n_in % l->inputs != 0 || !gg_mul(n_in / l->inputs, unit_bytes(l), &bytes))
        return 0;
    return bytes;
}

const char *gg_dtype_name(gg_dtype type)
{
    const layout *l = find_layout(type);
    return l ? l->name : type == GG_I32 ? "I32" : NULL;
}

bool gg_dtype_is_quantized(gg_dtype type)
{
    const layout *l = find_layout(type);
    return l && l->inputs == GG_BLOCK;
}

gorgon_status gg_matrix_shape(gg_dtype type, size_t n_out, size_t n_in, gg_matrix *w,
                              gorgon_error *err)
{
    *w = (gg_matrix){0};
    const layout *l = find_layout(type);
    if (!l)
        return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                       "weight matrix [%zu, %zu]: element type %d has no packed form", n_out, n_in,
                       (int)type);
    if (n_out == 0 || n_in == 0 || n_in % l->inputs != 0)
        return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                       "weight matrix [%zu, %zu]: %s needs rows and a multiple of %zu inputs",
                       n_out, n_in, l->name, l->inputs);
    size_t tile_bytes, bytes;
    if (!gg_mul(n_in / l->inputs, GG_TILE * unit_bytes(l), &tile_bytes) ||
        !gg_add(tile_bytes, 63, &tile_bytes) ||
        !gg_mul((n_out - 1) / GG_TILE + 1, tile_bytes, &bytes))
        return gg_fail(err, GORGON_ERROR_MEMORY, "weight matrix [%zu, %zu]: size overflows", n_out,
                       n_in);
    *w = (gg_matrix){type, n_out, n_in, tile_bytes / 64 * 64, NULL};
    return GORGON_OK;
}

size_t gg_matrix_tiles(const gg_matrix *w)
{
    return w->n_out / GG_TILE + (w->n_out % GG_TILE != 0);
}

size_t gg_matrix_bytes(const gg_matrix *w)
{
    return gg_matrix_tiles(w) * w->tile_bytes;
}

void gg_matrix_place(gg_matrix *w, uint8_t *memory)
{
    w->tiles = memory;
    // The last tile may have outputs that do not exist.
    memset(memory + (gg_matrix_tiles(w) - 1) * w->tile_bytes, 0, w->tile_bytes);
}

gorgon_status gg_matrix_create(gg_dtype type, size_t n_out, size_t n_in, gg_matrix *w,
                               gorgon_error *err)
{
    gorgon_status status = gg_matrix_shape(type, n_out, n_in, w, err);
    if (status != GORGON_OK)
        return status;
    uint8_t *tiles = gg_alloc_uninit(gg_matrix_bytes(w), 1);
    if (!tiles) {
        size_t bytes = gg_matrix_bytes(w);
        *w = (gg_matrix){0};
        return gg_fail(err, GORGON_ERROR_MEMORY,
                       "weight matrix [%zu, %zu] %s: cannot allocate %zu bytes", n_out, n_in,
                       gg_dtype_name(type), bytes);
    }
    gg_matrix_place(w, tiles);
    return GORGON_OK;
}

static uint8_t *tile_of(const gg_matrix *w, size_t out)
{
    return w->tiles + out / GG_TILE * w->tile_bytes;
}

// One unit of output lane `lane`: GGUF bytes at src to its places in the tile at unit.
static void scatter_unit(const layout *l, uint8_t *unit, size_t lane, const uint8_t *src)
{
    for (size_t i = 0; i < l->halves; i++)
        memcpy(unit + (i * GG_TILE + lane) * 2, src + 2 * i, 2);
    unit += l->halves * GG_TILE * 2;
    src += l->halves * 2;
    for (size_t i = 0; i < l->words; i++)
        memcpy(unit + (i * GG_TILE + lane) * 4, src + 4 * i, 4);
}

static void gather_unit(const layout *l, const uint8_t *unit, size_t lane, uint8_t *dst)
{
    for (size_t i = 0; i < l->halves; i++)
        memcpy(dst + 2 * i, unit + (i * GG_TILE + lane) * 2, 2);
    unit += l->halves * GG_TILE * 2;
    dst += l->halves * 2;
    for (size_t i = 0; i < l->words; i++)
        memcpy(dst + 4 * i, unit + (i * GG_TILE + lane) * 4, 4);
}

void gg_matrix_pack_row(gg_matrix *w, size_t out, const void *src)
{
    const layout *l = find_layout(w->type);
    const size_t bytes = unit_bytes(l), units = w->n_in / l->inputs;
    uint8_t *tile = tile_of(w, out);
    for (size_t i = 0; i < units; i++)
        scatter_unit(l, tile + i * GG_TILE * bytes, out % GG_TILE,
                     (const uint8_t *)src + i * bytes);
}

void gg_matrix_copy_row(gg_matrix *w, size_t to, const gg_matrix *src, size_t from)
{
    const layout *l = find_layout(w->type);
    const size_t bytes = unit_bytes(l), units = w->n_in / l->inputs;
    uint8_t unit[MAX_UNIT_BYTES];
    for (size_t i = 0; i < units; i++) {
        gather_unit(l, tile_of(src, from) + i * GG_TILE * bytes, from % GG_TILE, unit);
        scatter_unit(l, tile_of(w, to) + i * GG_TILE * bytes, to % GG_TILE, unit);
    }
}

static uint16_t load_u16(const uint8_t *p)
{
    uint16_t u;
    memcpy(&u, p, sizeof u);
    return u;
}

// n rounded-once products and sums in double are exact here: q has 4 bits, d and m come from f16,
// so q * d + m has at most 53 significant bits and one rounding gives what fma gives.
static void dequantize_q4_1(const uint8_t *unit, float *y)
{
    const double d = (double)gg_f16_to_f32(load_u16(unit));
    const double m = (double)gg_f16_to_f32(load_u16(unit + 2));
    for (size_t i = 0; i < 16; i++) {
        const uint8_t byte = unit[4 + i];
        y[i] = (float)((double)(byte & 15) * d + m);
        y[i + 16] = (float)((double)(byte >> 4) * d + m);
    }
}

static void dequantize_unit(gg_dtype type, const uint8_t *unit, float *y)
{
    switch (type) {
    case GG_F32:
        memcpy(y, unit, sizeof *y);
        return;
    case GG_F16:
        *y = gg_f16_to_f32(load_u16(unit));
        return;
    case GG_BF16: {
        const uint32_t bits = (uint32_t)load_u16(unit) << 16;
        memcpy(y, &bits, sizeof *y);
        return;
    }
    case GG_Q4_0: {
        const float d = gg_f16_to_f32(load_u16(unit));
        for (size_t i = 0; i < 16; i++) {
            y[i] = (float)((unit[2 + i] & 15) - 8) * d;
            y[i + 16] = (float)((unit[2 + i] >> 4) - 8) * d;
        }
        return;
    }
    case GG_Q4_1:
        dequantize_q4_1(unit, y);
        return;
    case GG_Q8_0: {
        const float d = gg_f16_to_f32(load_u16(unit));
        for (size_t i = 0; i < GG_BLOCK; i++)
            y[i] = (float)(int8_t)unit[2 + i] * d;
        return;
    }
    case GG_I32:
        return;
    }
}

void gg_matrix_row(const gg_matrix *w, size_t out, float *y)
{
    const layout *l = find_layout(w->type);
    const size_t bytes = unit_bytes(l), units = w->n_in / l->inputs;
    uint8_t unit[MAX_UNIT_BYTES];
    for (size_t i = 0; i < units; i++) {
        gather_unit(l, tile_of(w, out) + i * GG_TILE * bytes, out % GG_TILE, unit);
        dequantize_unit(w->type, unit, y + i * l->inputs);
    }
}

void gg_matrix_clear(gg_matrix *w)
{
    gg_free(w->tiles);
    *w = (gg_matrix){0};
}

// Nearest integer, halves away from zero (ggml's roundf); beyond +-127 and NaN are clamped.
static int8_t round_q8(float v)
{
    const float magnitude = v < 0 ? -v : v;
    if (!(magnitude < 127.5f))
        return (int8_t)(v > 0 ? 127 : v < 0 ? -127 : 0);
    int n = (int)magnitude;
    if (magnitude - (float)n >= 0.5f)
        n++;
    return (int8_t)(v < 0 ? -n : n);
}

static void quantize_q8_0(const float *x, uint8_t *unit)
{
    float amax = 0;
    for (size_t i = 0; i < GG_BLOCK; i++) {
        const float magnitude = x[i] < 0 ? -x[i] : x[i];
        amax = magnitude > amax ? magnitude : amax;
    }
    const float d = amax / 127.0f;
    const float inverse = d != 0 ? 1.0f / d : 0.0f;
    const uint16_t half = gg_f32_to_f16(d);
    memcpy(unit, &half, sizeof half);
    for (size_t i = 0; i < GG_BLOCK; i++)
        unit[2 + i] = (uint8_t)round_q8(x[i] * inverse);
}

void gg_quantize_row(gg_dtype type, const float *x, size_t n_in, void *dst)
{
    uint8_t *out = dst;
    if (type == GG_F32) {
        memcpy(out, x, n_in * sizeof *x);
    } else if (type == GG_F16) {
        for (size_t i = 0; i < n_in; i++) {
            const uint16_t half = gg_f32_to_f16(x[i]);
            memcpy(out + 2 * i, &half, sizeof half);
        }
    } else if (type == GG_Q8_0) {
        for (size_t i = 0; i < n_in / GG_BLOCK; i++)
            quantize_q8_0(x + i * GG_BLOCK, out + i * MAX_UNIT_BYTES);
    }
}

float gg_f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t exponent = (h >> 10) & 31u;
    uint32_t mantissa = h & 0x3ffu;
    float y;
    if (exponent == 0) { // zero and subnormal: mantissa * 2^-24, exact
        y = (float)mantissa * 0x1p-24f;
        return sign ? -y : y;
    }
    uint32_t bits = sign | (exponent + 112u) << 23 | mantissa << 13;
    if (exponent == 31) // a signalling NaN becomes quiet
        bits = sign | 0x7f800000u | (mantissa ? 0x400000u | mantissa << 13 : 0);
    memcpy(&y, &bits, sizeof y);
    return y;
}

uint16_t gg_f32_to_f16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    const uint32_t sign = (bits >> 16) & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | ((bits >> 13) & 0x3ffu));
    if (bits >= 0x477ff000u) // 65520 and above round to infinity
        return (uint16_t)(sign | 0x7c00u);
    if (bits < 0x38800000u) { // below 2^-14: a multiple of 2^-24
        float magnitude;
        memcpy(&magnitude, &bits, sizeof magnitude);
        magnitude += 0.5f; // ulp of [0.5, 1) is 2^-24: the addition rounds, nearest even
        memcpy(&bits, &magnitude, sizeof bits);
        return (uint16_t)(sign | (bits - 0x3f000000u));
    }
    bits += 0xfffu + ((bits >> 13) & 1u);
    return (uint16_t)(sign | ((bits - 0x38000000u) >> 13));
}

// Element types, packed weight matrices and the conversions of 16-bit floats.
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/kernels.h"
#include "weight_types.h"

size_t gg_dtype_row_bytes(gg_dtype type, size_t n_in)
{
    size_t bytes;
    if (type == GG_I32)
        return gg_mul(n_in, 4, &bytes) ? bytes : 0;
    const gg_weight_form f = gg_weight_form_of(type);
    if (f.inputs == 0 || n_in % f.inputs != 0 ||
        !gg_mul(n_in / f.inputs, gg_weight_unit_bytes(f), &bytes))
        return 0;
    return bytes;
}

const char *gg_dtype_name(gg_dtype type)
{
    return type == GG_I32 ? "I32" : gg_weight_form_of(type).name;
}

bool gg_dtype_is_quantized(gg_dtype type)
{
    return gg_weight_form_of(type).inputs >= GG_BLOCK;
}

gorgon_status gg_matrix_shape(gg_dtype type, size_t n_out, size_t n_in, gg_matrix *w,
                              gorgon_error *err)
{
    *w = (gg_matrix){0};
    const gg_weight_form f = gg_weight_form_of(type);
    if (f.inputs == 0)
        return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                       "weight matrix [%zu, %zu]: element type %d has no packed form", n_out, n_in,
                       (int)type);
    if (n_out == 0 || n_in == 0 || n_in % f.inputs != 0)
        return gg_fail(err, GORGON_ERROR_UNSUPPORTED,
                       "weight matrix [%zu, %zu]: %s needs rows and a multiple of %zu inputs",
                       n_out, n_in, f.name, f.inputs);
    size_t tile_bytes, bytes;
    if (!gg_mul(n_in / f.inputs, GG_TILE * gg_weight_unit_bytes(f), &tile_bytes) ||
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

static uint8_t *unit_of(const gg_matrix *w, gg_weight_form f, size_t out, size_t unit)
{
    return w->tiles + out / GG_TILE * w->tile_bytes + unit * GG_TILE * gg_weight_unit_bytes(f);
}

// One unit of output lane `lane`: GGUF bytes at src to its places in the tile at unit.
static void scatter_unit(gg_weight_form f, uint8_t *unit, size_t lane, const uint8_t *src)
{
    const uint8_t *halves = src + (f.halves_last ? 4 * f.words : 0);
    const uint8_t *words = src + (f.halves_last ? 0 : 2 * f.halves);
    for (size_t i = 0; i < f.halves; i++)
        memcpy(unit + (i * GG_TILE + lane) * 2, halves + 2 * i, 2);
    unit += f.halves * GG_TILE * 2;
    for (size_t i = 0; i < f.words; i++)
        memcpy(unit + (i * GG_TILE + lane) * 4, words + 4 * i, 4);
}

static void gather_unit(gg_weight_form f, const uint8_t *unit, size_t lane, uint8_t *dst)
{
    uint8_t *halves = dst + (f.halves_last ? 4 * f.words : 0);
    uint8_t *words = dst + (f.halves_last ? 0 : 2 * f.halves);
    for (size_t i = 0; i < f.halves; i++)
        memcpy(halves + 2 * i, unit + (i * GG_TILE + lane) * 2, 2);
    unit += f.halves * GG_TILE * 2;
    for (size_t i = 0; i < f.words; i++)
        memcpy(words + 4 * i, unit + (i * GG_TILE + lane) * 4, 4);
}

void gg_matrix_pack_row(gg_matrix *w, size_t out, const void *src)
{
    const gg_weight_form f = gg_weight_form_of(w->type);
    for (size_t i = 0; i < w->n_in / f.inputs; i++)
        scatter_unit(f, unit_of(w, f, out, i), out % GG_TILE,
                     (const uint8_t *)src + i * gg_weight_unit_bytes(f));
}

void gg_matrix_unit(const gg_matrix *w, size_t out, size_t unit, uint8_t *dst)
{
    const gg_weight_form f = gg_weight_form_of(w->type);
    gather_unit(f, unit_of(w, f, out, unit), out % GG_TILE, dst);
}

void gg_matrix_copy_row(gg_matrix *w, size_t to, const gg_matrix *src, size_t from)
{
    const gg_weight_form f = gg_weight_form_of(w->type);
    uint8_t unit[GG_MAX_UNIT_BYTES];
    for (size_t i = 0; i < w->n_in / f.inputs; i++) {
        gg_matrix_unit(src, from, i, unit);
        scatter_unit(f, unit_of(w, f, to, i), to % GG_TILE, unit);
    }
}

void gg_matrix_row(const gg_matrix *w, size_t out, float *y)
{
    const gg_weight_form f = gg_weight_form_of(w->type);
    uint8_t unit[GG_MAX_UNIT_BYTES];
    for (size_t i = 0; i < w->n_in / f.inputs; i++) {
        gg_matrix_unit(w, out, i, unit);
        gg_weight_values(w->type, unit, y + i * f.inputs);
    }
}

void gg_matrix_clear(gg_matrix *w)
{
    gg_free(w->tiles);
    *w = (gg_matrix){0};
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

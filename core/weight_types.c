// What the blocks of GGUF's weight types mean (ggml-org/ggml src/ggml-common.h and ggml-quants.c),
// one output at a time: the specification that the kernels' decoders equal.
#include "weight_types.h"

#include <string.h>

static uint16_t load_u16(const uint8_t *p)
{
    uint16_t u;
    memcpy(&u, p, sizeof u);
    return u;
}

static float half_at(const uint8_t *p)
{
    return gg_f16_to_f32(load_u16(p));
}

// One scale (and minimum) for all 32.
static void set_scale(gg_weight_block *w, float d, float m)
{
    w->d[0] = w->d[1] = d;
    w->m[0] = w->m[1] = m;
}

// Sixteen bytes of two values each: the low halves are values 0 to 15.
static void set_nibbles(gg_weight_block *w, const uint8_t *bytes, int zero)
{
    for (size_t i = 0; i < 16; i++) {
        w->q[i] = (int8_t)((bytes[i] & 15) - zero);
        w->q[i + 16] = (int8_t)((bytes[i] >> 4) - zero);
    }
}

// The same with a fifth bit of value i in bit i of the four bytes before.
static void set_five_bits(gg_weight_block *w, const uint8_t *bytes, int zero)
{
    set_nibbles(w, bytes + 4, zero);
    for (size_t i = 0; i < GG_BLOCK; i++)
        w->q[i] = (int8_t)(w->q[i] + (bytes[i / 8] >> i % 8 & 1) * 16);
}

static void decode_q4_0(const uint8_t *unit, size_t block, gg_weight_block *w)
{
    (void)block;
    set_scale(w, half_at(unit), 0);
    set_nibbles(w, unit + 2, 8);
}

static void decode_q4_1(const uint8_t *unit, size_t block, gg_weight_block *w)
{
    (void)block;
    set_scale(w, half_at(unit), half_at(unit + 2));
    set_nibbles(w, unit + 4, 0);
}

static void decode_q5_0(const uint8_t *unit, size_t block, gg_weight_block *w)
{
    (void)block;
    set_scale(w, half_at(unit), 0);
    set_five_bits(w, unit + 2, 16);
}

static void decode_q5_1(const uint8_t *unit, size_t block, gg_weight_block *w)
{
    (void)block;
    set_scale(w, half_at(unit), half_at(unit + 2));
    set_five_bits(w, unit + 4, 0);
}

static void decode_q8_0(const uint8_t *unit, size_t block, gg_weight_block *w)
{
    (void)block;
    set_scale(w, half_at(unit), 0);
    memcpy(w->q, unit + 2, GG_BLOCK);
}

static void decode_iq4_nl(const uint8_t *unit, size_t block, gg_weight_block *w)
{
    static const int8_t values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                      1,    13,   25,  38,  53,  69,  89,  113};
    decode_q4_0(unit, block, w);
    for (size_t i = 0; i < GG_BLOCK; i++)
        w->q[i] = values[w->q[i] + 8];
}

// A K type's unit is a super-block: scales of its blocks are small integers times d; minima,
// subtracted, likewise times dmin. Both products are exact. Blocks of 128 values share bytes.

// Twelve bytes hold eight 6-bit scales and eight 6-bit minima: the first four of each lie in the
// low bits of bytes 0-3 and 4-7, the low halves of the others in bytes 8-11, their two high bits in
// the high bits of bytes 0-7.
static void decode_q4_q5_scales(const uint8_t *unit, size_t block, gg_weight_block *w)
{
    const uint8_t *bytes = unit + 4;
    int scale = bytes[block % 4] & 63, minimum = bytes[block % 4 + 4] & 63;
    if (block >= 4) {
        scale = (bytes[block + 4] & 15) | bytes[block - 4] >> 6 << 4;
        minimum = bytes[block + 4] >> 4 | bytes[block] >> 6 << 4;
    }
    set_scale(w, half_at(unit) * (float)scale, -(half_at(unit + 2) * (float)minimum));
}

static void decode_q4_k(const uint8_t *unit, size_t block, gg_weight_block *w)
{
    const uint8_t *bytes = unit + 16 + block / 2 * GG_BLOCK;
    decode_q4_q5_scales(unit, block, w);
    for (size_t i = 0; i < GG_BLOCK; i++)
        w->q[i] = (int8_t)(bytes[i] >> 4 * (block % 2) & 15);
}

static void decode_q5_k(const uint8_t *unit, size_t block, gg_weight_block *w)
{
    const uint8_t *high = unit + 16, *low = unit + 48 + block / 2 * GG_BLOCK;
    decode_q4_q5_scales(unit, block, w);
    for (size_t i = 0; i < GG_BLOCK; i++)
        w->q[i] = (int8_t)((low[i] >> 4 * (block % 2) & 15) | (high[i] >> block & 1) << 4);
}

static void decode_q6_k(const uint8_t *unit, size_t block, gg_weight_block *w)
{
    const size_t part = block / 4, of_part = block % 4;
    const uint8_t *low = unit + part * 64 + of_part % 2 * GG_BLOCK;
    const uint8_t *high = unit + 128 + part * GG_BLOCK;
    for (size_t i = 0; i < GG_BLOCK; i++)
        w->q[i] =
            (int8_t)(((low[i] >> of_part / 2 * 4 & 15) | (high[i] >> 2 * of_part & 3) << 4) - 32);
    for (size_t h = 0; h < 2; h++)
        w->d[h] = half_at(unit + 208) * (float)(int8_t)unit[192 + 2 * block + h];
}

static void decode_q2_k(const uint8_t *unit, size_t block, gg_weight_block *w)
{
    const uint8_t *bytes = unit + 16 + block / 4 * GG_BLOCK;
    for (size_t i = 0; i < GG_BLOCK; i++)
        w->q[i] = (int8_t)(bytes[i] >> block % 4 * 2 & 3);
    for (size_t h = 0; h < 2; h++) {
        const uint8_t scale = unit[2 * block + h];
        w->d[h] = half_at(unit + 80) * (float)(scale & 15);
        w->m[h] = -(half_at(unit + 82) * (float)(scale >> 4));
    }
}

// Twelve bytes hold sixteen 6-bit scales, 32 too large: four low bits in bytes 0-7 (the first eight
// in their low halves), two high bits in bytes 8-11.
static int scale_q3_k(const uint8_t *bytes, size_t i)
{
    const int low = bytes[i % 8] >> i / 8 * 4 & 15;
    return (low | (bytes[8 + i % 4] >> i / 4 * 2 & 3) << 4) - 32;
}

static void decode_q3_k(const uint8_t *unit, size_t block, gg_weight_block *w)
{
    const uint8_t *low = unit + 32 + block / 4 * GG_BLOCK;
    for (size_t i = 0; i < GG_BLOCK; i++)
        w->q[i] = (int8_t)(((low[i] >> block % 4 * 2 & 3) | (unit[i] >> block & 1) << 2) - 4);
    for (size_t h = 0; h < 2; h++)
        w->d[h] = half_at(unit + 108) * (float)scale_q3_k(unit + 96, 2 * block + h);
}

void gg_weight_decode(gg_dtype type, const uint8_t *unit, size_t block, gg_weight_block *out)
{
    switch (type) {
#define GG_DECODE(TYPE, decoder, ...)                                                              \
    case GG_##TYPE:                                                                                \
        decode_##decoder(unit, block, out);                                                        \
        return;
        GG_QUANTIZED_TYPES(GG_DECODE)
#undef GG_DECODE
    default:
        return;
    }
}

void gg_weight_values(gg_dtype type, const uint8_t *unit, float *y)
{
    if (type == GG_F32) {
        memcpy(y, unit, sizeof *y);
    } else if (type == GG_F16) {
        *y = half_at(unit);
    } else if (type == GG_BF16) {
        const uint32_t bits = (uint32_t)load_u16(unit) << 16;
        memcpy(y, &bits, sizeof *y);
    }
    const gg_weight_form form = gg_weight_form_of(type);
    for (size_t b = 0; b < form.inputs / GG_BLOCK; b++, y += GG_BLOCK) {
        gg_weight_block w;
        gg_weight_decode(type, unit, b, &w);
        // Where there is a minimum q * d is exact (at most 22 bits): one rounding, as fma's.
        for (size_t k = 0; k < GG_BLOCK; k++) {
            const float product = (float)w.q[k] * w.d[k / 16];
            y[k] = form.minimum ? product + w.m[k / 16] : product;
        }
    }
}

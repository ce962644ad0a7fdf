// Quantised weights of a tile, whatever their type, in 16 lanes, written over simd_*.h: groups of
// four inputs as bytes, and their scales. Same values as core/weight_types.c. What the products
// know of a type is here and in its gg_weight_form.
#ifndef GG_KERNELS_VECTOR_DECODE_H
#define GG_KERNELS_VECTOR_DECODE_H

#include "weight_types.h"

enum {
    GROUPS = 8,       // groups of four inputs in a block
    GROUP_BYTES = 64, // of 16 outputs
    SPANS = 2,        // of inputs that share a scale, in a block of a split type
    CACHE_LINE = 64,
};

// A block of 32 inputs of a tile.
typedef struct block {
    const uint8_t *unit; // that it lies in
    int s;               // which of the unit's
} block;

INLINE size_t spans_of(const gg_dtype type)
{
    return gg_weight_form_of(type).split ? SPANS : 1;
}

INLINE size_t unit_blocks(const gg_dtype type)
{
    return gg_weight_form_of(type).inputs / GG_BLOCK;
}

INLINE size_t unit_bytes(const gg_dtype type)
{
    return GG_TILE * gg_weight_unit_bytes(gg_weight_form_of(type));
}

INLINE block block_of(const gg_dtype type, const uint8_t *tile, size_t b)
{
    const size_t blocks = unit_blocks(type);
    return (block){tile + b / blocks * unit_bytes(type), (int)(b % blocks)};
}

// Asks for the bytes of a block `distance` behind: a hint, the address may lie beyond the matrix.
INLINE void prefetch(const gg_dtype type, block w, size_t distance)
{
    const size_t bytes = unit_bytes(type) / unit_blocks(type);
    const uintptr_t from = (uintptr_t)w.unit + (size_t)w.s * bytes + distance;
    UNROLL
    for (size_t line = 0; line < bytes; line += CACHE_LINE)
        _mm_prefetch((const char *)(from + line), _MM_HINT_T0);
}

// Word i of the unit.
INLINE vi word(const gg_dtype type, block w, int i)
{
    const size_t scales = gg_weight_form_of(type).halves * GG_TILE * 2;
    return vi_load(w.unit + scales + (size_t)i * GROUP_BYTES);
}

// Bits of each byte of x, from `shift` on, at most 8 - shift of them.
INLINE vi byte_bits(vi x, int shift, int mask)
{
    return vi_and(vi_shift_down(x, shift), vi_set1(mask * 0x01010101));
}

// Half `upper` of the bytes of word i: what types of 32 inputs have for 16 of them.
INLINE vi nibbles(const gg_dtype type, block w, int i, const int upper)
{
    const vi x = word(type, w, i);
    return vi_and(upper ? vi_shift_right(x, 4) : x, vi_set1(0x0f0f0f0f));
}

// Group g of a type of 32 inputs whose fifth bits are those of word 0, in the order of the inputs.
INLINE vi five_bits(const gg_dtype type, block w, const int g)
{
    const vi bits = vi_spread_byte(word(type, w, 0), g / 2);
    const vi mask = vi_set1(g % 2 ? (int)0x80402010u : 0x08040201);
    return vi_add_where(nibbles(type, w, 1 + g % 4, g / 4), bits, mask, 16);
}

// Group g of the block, unsigned: q + zero.
INLINE vi decode_group(const gg_dtype type, block w, const int g)
{
    static const uint8_t iq4_nl[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                       129, 141, 153, 166, 181, 197, 217, 241};
    const int part = w.s / 4, of_part = w.s % 4;
    const vi bit =
        vi_set1((int)(0x01010101u << w.s)); // of the block, in bytes that all eight share
    switch (type) {
    case GG_Q4_0:
    case GG_Q4_1:
        return nibbles(type, w, g % 4, g / 4);
    case GG_IQ4_NL:
        return vi_look_up(iq4_nl, nibbles(type, w, g % 4, g / 4));
    case GG_Q5_0:
    case GG_Q5_1:
        return five_bits(type, w, g);
    case GG_Q8_0:
        return vi_sub_bytes(word(type, w, g), vi_set1((int)0x80808080u));
    case GG_Q4_K:
        return byte_bits(word(type, w, 3 + w.s / 2 * 8 + g), w.s % 2 * 4, 15);
    case GG_Q5_K:
        return vi_add_where(byte_bits(word(type, w, 11 + w.s / 2 * 8 + g), w.s % 2 * 4, 15),
                            word(type, w, 3 + g), bit, 16);
    case GG_Q6_K:
        return vi_or(byte_bits(word(type, w, part * 16 + of_part % 2 * 8 + g), of_part / 2 * 4, 15),
                     vi_shift_left(byte_bits(word(type, w, 32 + part * 8 + g), of_part * 2, 3), 4));
    case GG_Q2_K:
        return byte_bits(word(type, w, 4 + part * 8 + g), of_part * 2, 3);
    case GG_Q3_K:
        return vi_add_where(byte_bits(word(type, w, 8 + part * 8 + g), of_part * 2, 3),
                            word(type, w, g), bit, 4);
    default:
        return vi_set1(0);
    }
}

// Some bits of byte i of the unit's words, in int32 lanes.
INLINE vi field(const gg_dtype type, block w, int i, int shift, int mask)
{
    return vi_and(vi_shift_down(word(type, w, i / 4), i % 4 * 8 + shift), vi_set1(mask));
}

// The integers that scale span h of a block of a K type.
INLINE void decode_factors(const gg_dtype type, block w, int h, vi *scale, vi *minimum)
{
    const int i = 2 * w.s + h, j = w.s - 4;
    switch (type) {
    case GG_Q4_K:
    case GG_Q5_K:
        if (w.s < 4) {
            *scale = field(type, w, w.s, 0, 63);
            *minimum = field(type, w, w.s + 4, 0, 63);
        } else {
            *scale = vi_or(field(type, w, 8 + j, 0, 15), vi_shift_left(field(type, w, j, 6, 3), 4));
            *minimum =
                vi_or(field(type, w, 8 + j, 4, 15), vi_shift_left(field(type, w, 4 + j, 6, 3), 4));
        }
        return;
    case GG_Q6_K: // signed bytes
        *scale = vi_and(vi_add(field(type, w, 192 + i, 0, 255), vi_set1(128)), vi_set1(255));
        *scale = vi_add(*scale, vi_set1(-128));
        return;
    case GG_Q2_K:
        *scale = field(type, w, i, 0, 15);
        *minimum = field(type, w, i, 4, 15);
        return;
    case GG_Q3_K:
        *scale = vi_or(field(type, w, 96 + i % 8, i / 8 * 4, 15),
                       vi_shift_left(field(type, w, 104 + i % 4, i / 4 * 2, 3), 4));
        *scale = vi_add(*scale, vi_set1(-32));
        return;
    default:
        return;
    }
}

// Scale and, of types that have one, minimum of span h; h is 0 of types that are not split.
INLINE void decode_scale(const gg_dtype type, block w, int h, vf *d, vf *m)
{
    const gg_weight_form f = gg_weight_form_of(type);
    const uint16_t *halves = (const uint16_t *)(const void *)w.unit;
    *d = vf_load_f16(halves);
    *m = f.minimum ? vf_load_f16(halves + GG_TILE) : *d;
    if (f.inputs > GG_BLOCK) {
        vi scale = vi_set1(0), minimum = scale;
        decode_factors(type, w, h, &scale, &minimum);
        *d = vf_mul(*d, vi_to_float(scale));
        *m = vf_negate(vf_mul(*m, vi_to_float(minimum)));
    }
}

// A decoded block: signed bytes [16 outputs][4 inputs] per group; scale and minimum per span.
typedef struct decoded {
    _Alignas(64) uint8_t q[GROUPS][GROUP_BYTES];
    float d[SPANS][GG_TILE], m[SPANS][GG_TILE];
} decoded;

INLINE void decode_scales(const gg_dtype type, block w, decoded *out)
{
    const gg_weight_form f = gg_weight_form_of(type);
    for (size_t h = 0; h < spans_of(type); h++) {
        vf d, m;
        decode_scale(type, w, (int)h, &d, &m);
        vf_store(out->d[h], d);
        if (f.minimum)
            vf_store(out->m[h], m);
    }
}

INLINE void decode_block(const gg_dtype type, block w, decoded *out)
{
    const vi zero = vi_set1((int)((uint32_t)gg_weight_form_of(type).zero * 0x01010101u));
    decode_scales(type, w, out);
    UNROLL
    for (int g = 0; g < GROUPS; g++)
        vi_store((int32_t *)(void *)out->q[g], vi_sub_bytes(decode_group(type, w, g), zero));
}

#endif

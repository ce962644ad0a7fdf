// The types that weights may have, as GGUF stores them. Adding a quantised type: a line of
// GG_QUANTIZED_TYPES, its decoder in weight_types.c (which is the specification) and its two cases
// in kernels/vector_decode.h.
#ifndef GG_CORE_WEIGHT_TYPES_H
#define GG_CORE_WEIGHT_TYPES_H

#include "core/kernels.h"

// X(TYPE, decoder, inputs, halves, words, halves_last, split, minimum, bits, zero), see
// gg_weight_form.
#define GG_QUANTIZED_TYPES(X)                                                                      \
    X(Q4_0, q4_0, 32, 1, 4, false, false, false, 4, 8)                                             \
    X(Q4_1, q4_1, 32, 2, 4, false, false, true, 4, 0)                                              \
    X(Q5_0, q5_0, 32, 1, 5, false, false, false, 5, 16)                                            \
    X(Q5_1, q5_1, 32, 2, 5, false, false, true, 5, 0)                                              \
    X(Q8_0, q8_0, 32, 1, 8, false, false, false, 8, 128)                                           \
    X(IQ4_NL, iq4_nl, 32, 1, 4, false, false, false, 8, 128)                                       \
    X(Q2_K, q2_k, 256, 2, 20, true, true, true, 2, 0)                                              \
    X(Q3_K, q3_k, 256, 1, 27, true, true, false, 3, 4)                                             \
    X(Q4_K, q4_k, 256, 2, 35, false, false, true, 4, 0)                                            \
    X(Q5_K, q5_k, 256, 2, 43, false, false, true, 5, 0)                                            \
    X(Q6_K, q6_k, 256, 1, 52, true, true, false, 6, 32)

// A row is a run of units. In a packed tile a unit is its 2-byte fields, then its 4-byte words,
// each as [16 outputs], so that packing any type is one scatter and its inverse one gather.
typedef struct gg_weight_form {
    const char *name;
    size_t inputs;        // per unit: 1, 32 or 256
    size_t halves, words; // 2-byte fields (the scales) and 4-byte words of a unit
    bool halves_last;     // in GGUF; in a tile they come first
    bool split;           // a scale for 16 inputs, else for 32
    bool minimum;         // a value is q * d + m, else q * d
    int bits;             // q + zero is unsigned and has so many
    int zero;             // 0 if there is a minimum
} gg_weight_form;

enum {
    GG_MAX_UNIT_BYTES = 210,
    GG_MAX_UNIT_INPUTS = 256,
};

// inputs is 0 for types that weights cannot have. Folds to constants where the type is one.
static inline gg_weight_form gg_weight_form_of(gg_dtype type)
{
    switch (type) {
    case GG_F32:
        return (gg_weight_form){.name = "F32", .inputs = 1, .words = 1};
    case GG_F16:
        return (gg_weight_form){.name = "F16", .inputs = 1, .halves = 1};
    case GG_BF16:
        return (gg_weight_form){.name = "BF16", .inputs = 1, .halves = 1};
#define GG_FORM(TYPE, decoder, inputs, halves, words, halves_last, split, minimum, bits, zero)     \
    case GG_##TYPE:                                                                                \
        return (gg_weight_form){#TYPE, inputs,  halves, words, halves_last,                        \
                                split, minimum, bits,   zero};
        GG_QUANTIZED_TYPES(GG_FORM)
#undef GG_FORM
    default:
        return (gg_weight_form){0};
    }
}

static inline size_t gg_weight_unit_bytes(gg_weight_form f)
{
    return 2 * f.halves + 4 * f.words;
}

// 32 weights of one output: value k is q[k] * d[k / 16] (+ m[k / 16] where the type has minima).
typedef struct gg_weight_block {
    int8_t q[GG_BLOCK];
    float d[2], m[2];
} gg_weight_block;

// Block `block` of a unit in GGUF's layout, of a quantised type.
void gg_weight_decode(gg_dtype type, const uint8_t *unit, size_t block, gg_weight_block *out);
// The values of a unit of any type, y[inputs].
void gg_weight_values(gg_dtype type, const uint8_t *unit, float *y);
// Unit `unit` of output `out` of a packed matrix, as GGUF stores it.
void gg_matrix_unit(const gg_matrix *w, size_t out, size_t unit, uint8_t *dst);

#endif

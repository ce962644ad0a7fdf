// Names and value checks of the heads format.
#include "heads_format.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"

const gg_heads_flag gg_heads_flags[GG_HEADS_FLAGS] = {
    {"shared_output", offsetof(gg_head_shape, shared_output)},
    {"output_bias", offsetof(gg_head_shape, output_bias)},
    {"bias_free", offsetof(gg_head_shape, bias_free)},
    {"residual", offsetof(gg_head_shape, residual)},
    {"raw_embedding", offsetof(gg_head_shape, raw_embedding)},
};

void gg_heads_key(gg_heads_name name, size_t set, const char *field)
{
    snprintf(name, GG_MAX_NAME, "gorgon.heads.%zu.%s", set, field);
}

void gg_heads_ids_name(gg_heads_name name, size_t set)
{
    snprintf(name, GG_MAX_NAME, "heads.%zu.draft_ids", set);
}

void gg_heads_successors_name(gg_heads_name name, size_t set, const char *field)
{
    snprintf(name, GG_MAX_NAME, "heads.%zu.successors.%s", set, field);
}

void gg_heads_part_name(gg_heads_name name, size_t set, const gg_head_part *part)
{
    static const char *const names[] = {
        [GG_PART_ROOT] = "root",         [GG_PART_OUTPUT] = "output",
        [GG_PART_DOWN] = "down",         [GG_PART_UP] = "up",
        [GG_PART_ATTN_Q] = "attn_q",     [GG_PART_ATTN_K] = "attn_k",
        [GG_PART_ATTN_V] = "attn_v",     [GG_PART_ATTN_OUTPUT] = "attn_output",
        [GG_PART_FFN_GATE] = "ffn_gate", [GG_PART_FFN_UP] = "ffn_up",
        [GG_PART_FFN_DOWN] = "ffn_down", [GG_PART_OUTPUT_BIAS] = "output",
        [GG_PART_RESIDUAL] = "residual", [GG_PART_RESIDUAL_BIAS] = "residual",
    };
    if (part->role == GG_PART_WEIGHT || part->role == GG_PART_BIAS)
        snprintf(name, GG_MAX_NAME, "heads.%zu.%zu.block.%zu.%s", set, part->head, part->block,
                 part->role == GG_PART_BIAS ? "bias" : "weight");
    else
        snprintf(name, GG_MAX_NAME, "heads.%zu.%zu.%s.%s", set, part->head, names[part->role],
                 part->n_in == 0 ? "bias" : "weight");
}

bool gg_heads_weight_type(gg_dtype type)
{
    return type == GG_F32 || type == GG_F16 || type == GG_BF16 || type == GG_Q8_0;
}

static bool finite_f16(const uint8_t *p)
{
    return (p[1] & 0x7c) != 0x7c;
}

static bool finite_bf16(const uint8_t *p)
{
    return (p[1] & 0x7f) != 0x7f || (p[0] & 0x80) == 0;
}

static bool finite_f32(const uint8_t *p)
{
    return (p[3] & 0x7f) != 0x7f || (p[2] & 0x80) == 0;
}

bool gg_heads_finite(gg_dtype type, const uint8_t *data, size_t bytes)
{
    const size_t unit = gg_dtype_row_bytes(type, gg_dtype_is_quantized(type) ? GG_BLOCK : 1);
    bool (*const finite)(const uint8_t *) = type == GG_F32    ? finite_f32
                                            : type == GG_BF16 ? finite_bf16
                                                              : finite_f16;
    for (size_t at = 0; at < bytes; at += unit) {
        if (!finite(data + at))
            return false;
    }
    return true;
}

size_t gg_heads_bad_id(const uint32_t *ids, size_t n, size_t n_vocab)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] >= n_vocab || (i > 0 && ids[i] <= ids[i - 1]))
            return i;
    }
    return n;
}

gorgon_status gg_heads_check_ids(const uint32_t *ids, size_t n, size_t n_vocab, size_t *bad,
                                 gorgon_error *err)
{
    const size_t below = n_vocab ? n_vocab : GG_MAX_VOCAB;
    bool *seen = gg_alloc(below, sizeof *seen);
    *bad = 0;
    if (!seen)
        return gg_fail(err, GORGON_ERROR_MEMORY, "heads: out of memory for %zu draft ids", n);
    while (*bad < n && ids[*bad] < below && !seen[ids[*bad]])
        seen[ids[(*bad)++]] = true;
    gg_free(seen);
    return GORGON_OK;
}

// Architectures of heads: what tells them apart, and which weights they have.
#include <string.h>

#include "heads/head_set.h"

static const gg_head_traits traits[GG_HEAD_KINDS] = {
    [GG_HEADS_MEDUSA] = {.name = "medusa", .activated = true},
    [GG_HEADS_LINEAR] = {.name = "linear"},
    [GG_HEADS_MARKOV] = {.name = "markov",
                         .follows = true,
                         .base_output = true,
                         .activated = true,
                         .has_rank = true},
    [GG_HEADS_HYDRA] = {.name = "hydra", .follows = true, .sees_all = true, .activated = true},
    [GG_HEADS_HYDRA_PREFIX] = {.name = "hydra++",
                               .follows = true,
                               .sees_all = true,
                               .activated = true,
                               .layer = GG_LAYER_PREFIX},
    [GG_HEADS_RECURRENT] = {.name = "recurrent",
                            .one_cell = true,
                            .follows = true,
                            .base_output = true,
                            .activated = true},
    [GG_HEADS_EAGLE] = {.name = "eagle",
                        .one_cell = true,
                        .follows = true,
                        .base_output = true,
                        .layer = GG_LAYER_CELL},
};

const gg_head_traits *gg_head_traits_of(gg_head_kind kind)
{
    return &traits[kind];
}

bool gg_head_kind_find(const char *name, gg_head_kind *kind)
{
    for (size_t i = 0; i < GG_HEAD_KINDS; i++) {
        if (strcmp(traits[i].name, name) == 0) {
            *kind = (gg_head_kind)i;
            return true;
        }
    }
    return false;
}

// Likewise, of the sizes of the decoder layer.
static const char *layer_fault(const gg_head_shape *s)
{
    if (traits[s->kind].layer == GG_LAYER_NONE)
        return s->n_attention || s->n_ffn || s->window
                   ? "only hydra++ and eagle heads have a decoder layer"
                   : NULL;
    if (s->n_attention == 0 || s->d_model % s->n_attention != 0 ||
        s->d_model / s->n_attention % 2 != 0)
        return "d_model is no even multiple of n_attention";
    return s->n_ffn == 0 || s->window == 0 ? "a decoder layer needs n_ffn and window" : NULL;
}

const char *gg_head_shape_fault(const gg_head_shape *s)
{
    const gg_head_traits *t = &traits[s->kind];
    if (t->follows && !s->root_embedding)
        return "heads that see drafted tokens need root_embedding";
    if (t->base_output && s->own_output)
        return "markov, recurrent and eagle heads have no own_output";
    if (!s->own_output && (s->shared_output || s->output_bias))
        return "shared_output and output_bias need own_output";
    if (!s->root_embedding && s->raw_embedding)
        return "raw_embedding needs root_embedding";
    if (!t->activated && s->n_blocks != 1)
        return "heads without activation have one block";
    if (t->has_rank != (s->rank > 0))
        return t->has_rank ? "markov heads need a rank" : "only markov heads have a rank";
    return layer_fault(s);
}

size_t gg_head_cells(const gg_head_shape *s)
{
    return traits[s->kind].one_cell ? 1 : s->n_heads;
}

size_t gg_head_tokens(const gg_head_shape *s, size_t cell)
{
    if (!s->root_embedding)
        return 0;
    return traits[s->kind].sees_all ? 1 + cell : 1;
}

static size_t layer_parts(const gg_head_shape *s, gg_head_part *parts)
{
    const size_t d = s->d_model, f = s->n_ffn;
    const gg_head_part layer[] = {
        {GG_PART_ATTN_Q, 0, 0, d, d},   {GG_PART_ATTN_K, 0, 0, d, d},
        {GG_PART_ATTN_V, 0, 0, d, d},   {GG_PART_ATTN_OUTPUT, 0, 0, d, d},
        {GG_PART_FFN_GATE, 0, 0, f, d}, {GG_PART_FFN_UP, 0, 0, f, d},
        {GG_PART_FFN_DOWN, 0, 0, d, f},
    };
    if (traits[s->kind].layer == GG_LAYER_NONE)
        return 0;
    memcpy(parts, layer, sizeof layer);
    return sizeof layer / sizeof *layer;
}

// Output matrix and bias of head k, if it has them.
static size_t output_parts(const gg_head_shape *s, size_t n_vocab, size_t k, gg_head_part *parts)
{
    const size_t n_out = s->n_draft ? s->n_draft : n_vocab;
    size_t n = 0;
    if (!s->own_output || (s->shared_output && k > 0))
        return 0;
    parts[n++] = (gg_head_part){GG_PART_OUTPUT, k, 0, n_out, s->d_model};
    if (s->output_bias)
        parts[n++] = (gg_head_part){GG_PART_OUTPUT_BIAS, k, 0, n_out, 0};
    return n;
}

size_t gg_head_parts(const gg_head_shape *s, size_t n_vocab, gg_head_part parts[GG_MAX_HEAD_PARTS])
{
    const size_t d = s->d_model;
    size_t n = layer_parts(s, parts);
    for (size_t k = 0; k < gg_head_cells(s); k++) {
        const size_t tokens = gg_head_tokens(s, k);
        for (size_t b = 0; b < s->n_blocks; b++) {
            parts[n++] = (gg_head_part){GG_PART_WEIGHT, k, b, d, d};
            if (!s->bias_free)
                parts[n++] = (gg_head_part){GG_PART_BIAS, k, b, d, 0};
        }
        if (tokens > 0)
            parts[n++] = (gg_head_part){GG_PART_ROOT, k, 0, d, tokens * d};
        if (s->residual) {
            parts[n++] = (gg_head_part){GG_PART_RESIDUAL, k, 0, d, (1 + tokens) * d};
            parts[n++] = (gg_head_part){GG_PART_RESIDUAL_BIAS, k, 0, d, 0};
        }
        if (s->rank > 0) {
            parts[n++] = (gg_head_part){GG_PART_DOWN, k, 0, s->rank, d};
            parts[n++] = (gg_head_part){GG_PART_UP, k, 0, d, s->rank};
        }
        n += output_parts(s, n_vocab, k, parts + n);
    }
    return n;
}

size_t gg_head_part_find(const gg_head_part *parts, size_t n, gg_head_role role, size_t head,
                         size_t block)
{
    size_t i = 0;
    while (i < n && (parts[i].role != role || parts[i].head != head || parts[i].block != block))
        i++;
    return i;
}

const void *gg_head_data(const gg_head_set *set, gg_head_role role, size_t head, size_t block)
{
    const size_t i = gg_head_part_find(set->parts, set->n_parts, role, head, block);
    return i < set->n_parts ? set->data[i] : NULL;
}

// See heads/head_probe.h; gorgon_heads_logits is a probe that runs once.
#include "heads/head_probe.h"

#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "head_context.h"
#include "head_net.h"

// What the root follows: the hidden state, or the layer's word on it. A context of one row.
static const float *root_input(const gg_head_net *net, const gg_head_context *c)
{
    const float *hidden = gg_head_context_last(c);
    if (!net->prefix)
        return hidden;
    gg_head_net_load_prefix(net, 0, hidden);
    gg_head_context_place_row(c, c->end - 1, true, &net->layer, 0);
    gg_head_net_run_prefix(net, 1);
    return net->prefix;
}

// The chain of likeliest tokens of heads that see drafted tokens.
static void chain_logits(const gg_head_net *net, const gg_head_context *c, gorgon_token root,
                         float *logits)
{
    const gg_kernels *kernels = gg_engine_kernels(net->engine);
    const gg_head_shape *s = &net->set->shape;
    gorgon_token tokens[GG_MAX_DRAFT_HEADS + 1] = {root};
    uint32_t path[GG_MAX_DRAFT_HEADS];
    const float *first = root_input(net, c), *x = first;
    if (s->rank) {
        gg_head_net_load(net, 0, first, root);
        gg_head_net_run(net, 1);
        memcpy(logits, net->logits, s->n_heads * net->n_out * sizeof *logits);
    }
    for (size_t k = 0; k < s->n_heads; k++) {
        float *to = logits + k * net->n_out;
        path[k] = (uint32_t)k;
        gg_head_net_load_at(net, 0, k, x, tokens);
        if (gg_head_traits_of(s->kind)->layer == GG_LAYER_CELL)
            gg_head_context_place_node(c, path, k, &net->layer, 0);
        gg_head_net_run_at(net, k, 1);
        if (s->rank)
            kernels->add(to, net->logits, net->n_out);
        else
            memcpy(to, net->logits, net->n_out * sizeof *to);
        tokens[k + 1] = (gorgon_token)gg_head_net_token(net, kernels->argmax(to, net->n_out));
        x = net->state ? net->state : first;
    }
}

struct gg_head_probe {
    gg_head_net net;
    gg_head_context context; // of heads that see drafted tokens
    // Of a turned probe.
    gg_head_set set;
    const void **data;
    uint8_t *matrices;
};

static bool is_block(const gg_head_part *part)
{
    return part->role == GG_PART_WEIGHT && part->n_in == part->n_out;
}

// Rows and columns exchanged, elements of `size` bytes.
static void turn(const uint8_t *from, size_t n, size_t size, uint8_t *to)
{
    for (size_t row = 0; row < n; row++) {
        for (size_t column = 0; column < n; column++)
            memcpy(to + (column * n + row) * size, from + (row * n + column) * size, size);
    }
}

static gorgon_status turn_set(gg_head_probe *p, const gg_head_set *from, gorgon_error *err)
{
    const size_t d = from->shape.d_model, size = gg_dtype_row_bytes(from->weight_type, 1);
    size_t n_blocks = 0;
    for (size_t i = 0; i < from->n_parts; i++)
        n_blocks += is_block(&from->parts[i]);
    if (size == 0)
        return gg_fail(err, GORGON_ERROR_UNSUPPORTED, "heads: matrices of %s cannot be turned",
                       gg_dtype_name(from->weight_type));
    p->set = *from;
    p->data = gg_alloc(from->n_parts, sizeof *p->data);
    p->matrices = gg_alloc(n_blocks * d * d, size);
    if (!p->data || !p->matrices)
        return gg_fail(err, GORGON_ERROR_MEMORY, "heads: out of memory");
    uint8_t *to = p->matrices;
    for (size_t i = 0; i < from->n_parts; i++) {
        p->data[i] = from->data[i];
        if (!is_block(&from->parts[i]))
            continue;
        turn(from->data[i], d, size, to);
        p->data[i] = to;
        to += d * d * size;
    }
    p->set.data = p->data;
    return GORGON_OK;
}

static gorgon_status create(gg_head_probe *p, gorgon_engine *engine, const gg_head_set *from,
                            bool turned, gorgon_error *err)
{
    gorgon_status status = turned ? turn_set(p, from, err) : GORGON_OK;
    if (status == GORGON_OK)
        status = gg_head_net_create_of(engine, turned ? &p->set : from, 1, &p->net, err);
    return status == GORGON_OK
               ? gg_head_context_create(engine, &from->shape, GG_MAX_DRAFT_HEADS, &p->context, err)
               : status;
}

gorgon_status gg_head_probe_create(gorgon_engine *engine, const gorgon_heads *heads, size_t set,
                                   bool turned, gg_head_probe **out, gorgon_error *err)
{
    const gg_head_set *from = NULL;
    gorgon_status status = gg_head_net_check(engine, heads, set, &from, err);
    *out = NULL;
    if (status != GORGON_OK)
        return status;
    gg_head_probe *p = gg_alloc(1, sizeof *p);
    if (!p)
        return gg_fail(err, GORGON_ERROR_MEMORY, "heads: out of memory");
    status = create(p, engine, from, turned, err);
    if (status == GORGON_OK)
        *out = p;
    else
        gg_head_probe_free(p);
    return status;
}

void gg_head_probe_free(gg_head_probe *probe)
{
    if (!probe)
        return;
    gg_head_net_clear(&probe->net);
    gg_head_context_clear(&probe->context);
    gg_free(probe->data);
    gg_free(probe->matrices);
    gg_free(probe);
}

size_t gg_head_probe_outputs(const gg_head_probe *probe)
{
    return probe->net.n_out;
}

gorgon_token gg_head_probe_token(const gg_head_probe *probe, size_t output)
{
    return (gorgon_token)gg_head_net_token(&probe->net, output);
}

void gg_head_probe_run(gg_head_probe *probe, const float *hidden, gorgon_token root, float *logits)
{
    const gg_head_net *net = &probe->net;
    const gorgon_token token = 0; // the row's own: nobody asks for it
    const gg_observation seen = {.n = 1, .tokens = &token, .hidden = &hidden};
    if (gg_head_traits_of(net->set->shape.kind)->follows) {
        gg_head_context_reset(&probe->context); // to one row
        gg_head_context_observe(&probe->context, &seen);
        chain_logits(net, &probe->context, root, logits);
        return;
    }
    gg_head_net_load(net, 0, hidden, root);
    gg_head_net_run(net, 1);
    memcpy(logits, net->logits, net->lanes * net->n_out * sizeof *logits);
}

gorgon_status gorgon_heads_logits(gorgon_engine *engine, const gorgon_heads *heads, size_t set,
                                  const float *hidden, gorgon_token root, float *logits,
                                  gorgon_token *ids, gorgon_error *err)
{
    const size_t n_vocab = gg_model_geometry(gg_engine_model(engine))->n_vocab;
    if ((size_t)root >= n_vocab)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "root token is %ld, expected 0 to %zu",
                       (long)root, n_vocab - 1);
    gg_head_probe *probe = NULL;
    gorgon_status status = gg_head_probe_create(engine, heads, set, false, &probe, err);
    if (status != GORGON_OK)
        return status;
    gg_head_probe_run(probe, hidden, root, logits);
    for (size_t i = 0; ids && i < gg_head_probe_outputs(probe); i++)
        ids[i] = gg_head_probe_token(probe, i);
    gg_head_probe_free(probe);
    return GORGON_OK;
}

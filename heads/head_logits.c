// gorgon_heads_logits: a set of heads on one hidden state, without a proposer around it.
#include <string.h>

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

// The chain after a single row.
static gorgon_status follow(const gg_head_net *net, const float *hidden, gorgon_token root,
                            float *logits, gorgon_error *err)
{
    const gorgon_token token = 0; // the row's own: nobody asks for it
    const gg_observation seen = {.n = 1, .tokens = &token, .hidden = &hidden};
    gg_head_context c;
    gorgon_status status =
        gg_head_context_create(net->engine, &net->set->shape, GG_MAX_DRAFT_HEADS, &c, err);
    if (status == GORGON_OK) {
        gg_head_context_observe(&c, &seen);
        chain_logits(net, &c, root, logits);
    }
    gg_head_context_clear(&c);
    return status;
}

gorgon_status gorgon_heads_logits(gorgon_engine *engine, const gorgon_heads *heads, size_t set,
                                  const float *hidden, gorgon_token root, float *logits,
                                  gorgon_token *ids, gorgon_error *err)
{
    const size_t n_vocab = gg_model_geometry(gg_engine_model(engine))->n_vocab;
    if ((size_t)root >= n_vocab)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "root token is %ld, expected 0 to %zu",
                       (long)root, n_vocab - 1);
    gg_head_net net;
    gorgon_status status = gg_head_net_create(engine, heads, set, 1, &net, err);
    if (status != GORGON_OK)
        return status;
    if (gg_head_traits_of(net.set->shape.kind)->follows) {
        status = follow(&net, hidden, root, logits, err);
    } else {
        gg_head_net_load(&net, 0, hidden, root);
        gg_head_net_run(&net, 1);
        memcpy(logits, net.logits, net.lanes * net.n_out * sizeof *logits);
    }
    for (size_t i = 0; ids && i < net.n_out; i++)
        ids[i] = (gorgon_token)gg_head_net_token(&net, i);
    gg_head_net_clear(&net);
    return status;
}

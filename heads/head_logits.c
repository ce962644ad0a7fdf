// gorgon_heads_logits: a set of heads on one hidden state, without a proposer around it.
#include <string.h>

#include "core/error.h"
#include "head_net.h"

// The chain of likeliest tokens of heads that see drafted tokens.
static void chain_logits(const gg_head_net *net, const float *hidden, gorgon_token root,
                         float *logits)
{
    const gg_kernels *kernels = gg_engine_kernels(net->engine);
    const gg_head_shape *s = &net->set->shape;
    gorgon_token tokens[GG_MAX_DRAFT_HEADS + 1] = {root};
    const float *x = hidden;
    if (s->rank) {
        gg_head_net_load(net, 0, hidden, root);
        gg_head_net_run(net, 1);
        memcpy(logits, net->logits, s->n_heads * net->n_out * sizeof *logits);
    }
    for (size_t k = 0; k < s->n_heads; k++) {
        float *to = logits + k * net->n_out;
        gg_head_net_load_at(net, 0, k, x, tokens);
        gg_head_net_run_at(net, k, 1);
        if (s->rank)
            kernels->add(to, net->logits, net->n_out);
        else
            memcpy(to, net->logits, net->n_out * sizeof *to);
        tokens[k + 1] = (gorgon_token)gg_head_net_token(net, kernels->argmax(to, net->n_out));
        x = net->state ? net->state : hidden;
    }
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
        chain_logits(&net, hidden, root, logits);
    } else {
        gg_head_net_load(&net, 0, hidden, root);
        gg_head_net_run(&net, 1);
        memcpy(logits, net.logits, net.lanes * net.n_out * sizeof *logits);
    }
    for (size_t i = 0; ids && i < net.n_out; i++)
        ids[i] = (gorgon_token)gg_head_net_token(&net, i);
    gg_head_net_clear(&net);
    return GORGON_OK;
}

// Hydra++ heads (arXiv 2402.05109): Hydra's behind a decoder layer over the hidden states, x' =
// layer(x).
#include "recipe.h"

// What the heads see: the layer's output in the place of the hidden states.
static gg_head_pass behind_layer(const gg_head_pass *p)
{
    gg_head_pass behind = *p;
    behind.hidden.data = gg_layer_output(p->m->layer);
    behind.hidden.ld = p->m->shape.d_model;
    return behind;
}

static gorgon_status context_forward(const gg_head_pass *p, gorgon_error *err)
{
    gg_layer_context_begin(p);
    return gg_layer_context_forward(p, err);
}

static gorgon_status forward(const gg_head_pass *p, gorgon_error *err)
{
    const gg_head_pass behind = behind_layer(p);
    gorgon_status status = p->batch->context_rows > 0 ? context_forward(p, err) : GORGON_OK;
    if (status == GORGON_OK)
        status = gg_layer_forward(p, 0, p->hidden, err);
    return status == GORGON_OK ? gg_hydra_forward(&behind, err) : status;
}

// The sum of dz over heads, in lane 0: the residual paths from the heads' block 0 to x'.
static gg_rows sum_heads(const gg_head_pass *p)
{
    const size_t d = p->m->shape.d_model;
    const gg_rows sum = gg_lane(p, p->m->dz, 0);
    for (size_t row = 0; row < sum.n; row++) {
        for (size_t k = 1; k < p->m->shape.n_heads; k++)
            p->m->kernels->add(sum.data + row * sum.ld, sum.data + row * sum.ld + k * d, d);
    }
    return sum;
}

static gorgon_status backward(const gg_head_pass *p, gorgon_error *err)
{
    const gg_head_pass behind = behind_layer(p);
    gorgon_status status = gg_hydra_backward(&behind, err);
    if (status != GORGON_OK)
        return status;
    const gg_rows dx = sum_heads(p);
    status = gg_weights_back(p, gg_weights_of_all(p, GG_PART_WEIGHT, 0),
                             gg_lane(p, p->m->slope[0], 0), dx, true, err);
    if (status == GORGON_OK)
        status = gg_layer_backward(p, 0, dx, err);
    return status == GORGON_OK && p->batch->context_rows > 0 ? gg_layer_context_backward(p, err)
                                                             : status;
}

const gg_recipe gg_recipe_hydra_prefix = {
    .n_heads = 4,
    .n_blocks = 1,
    .random = GG_LAYER_RANDOM,
    .forward = forward,
    .backward = backward,
};

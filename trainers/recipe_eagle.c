// Eagle heads (after arXiv 2401.15077, rolled out as in 2408.15766): one head, used at every depth.
//   h_k = x_k + W x_k + R e_k + b, x_k+1 = layer(h_k)
// That is a recurrent head's depth without activation, then the decoder layer, whose output goes to
// the logits and on to the next depth.
#include "recipe.h"

static gg_operand before_layer(const gg_head_pass *p, size_t k)
{
    return gg_operand_of(gg_lane(p, p->m->z[0], k), p->m->shape.d_model);
}

static gorgon_status forward(const gg_head_pass *p, gorgon_error *err)
{
    float *states = gg_layer_output(p->m->layer);
    gorgon_status status = GORGON_OK;
    for (size_t k = 0; k < p->m->shape.n_heads && status == GORGON_OK; k++) {
        status = gg_depth_forward(p, states, k, err);
        if (status == GORGON_OK)
            status = gg_layer_forward(p, k, before_layer(p, k), err);
    }
    return status;
}

static gorgon_status backward(const gg_head_pass *p, gorgon_error *err)
{
    float *states = gg_layer_output(p->m->layer);
    gorgon_status status = GORGON_OK;
    for (size_t k = p->m->shape.n_heads; k-- > 0 && status == GORGON_OK;) {
        status = gg_layer_backward(p, k, gg_lane(p, p->m->dz, k), err);
        if (status == GORGON_OK)
            status = gg_depth_backward(p, states, k, err);
    }
    return status;
}

const gg_recipe gg_recipe_eagle = {
    .n_heads = 5,
    .n_blocks = 1,
    .random = GG_LAYER_RANDOM,
    .forward = forward,
    .backward = backward,
};

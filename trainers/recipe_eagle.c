// Eagle heads (after arXiv 2401.15077, rolled out as in 2408.15766): one head, used at every depth.
//   h_k = x_k + W x_k + R e_k + b, x_k+1 = layer(h_k)
// That is a recurrent head's depth without activation, then the decoder layer, whose output goes to
// the logits and on to the next depth.
#include "recipe.h"

static gg_operand before_layer(const gg_head_pass *p, size_t k)
{
    return gg_operand_of(gg_lane(p, p->m->z[0], k), p->m->shape.d_model);
}

// h_0 of context rows.
static gorgon_status context_forward(const gg_head_pass *p, gorgon_error *err)
{
    const float *bias = p->parameters + gg_weights_of(p, GG_PART_BIAS, 0, 0).at;
    const gg_rows h = gg_layer_context(p);
    gg_layer_context_begin(p);
    for (size_t row = 0; row < h.n; row++)
        p->m->kernels->add(h.data + row * h.ld, bias, p->m->shape.d_model);
    gorgon_status status = gg_weights_apply(p, gg_weights_of(p, GG_PART_WEIGHT, 0, 0),
                                            gg_context_hidden(p), h, true, err);
    if (status == GORGON_OK)
        status = gg_weights_apply(p, gg_weights_of(p, GG_PART_ROOT, 0, 0), gg_context_token(p), h,
                                  true, err);
    return status == GORGON_OK ? gg_layer_context_forward(p, err) : status;
}

static gorgon_status context_backward(const gg_head_pass *p, gorgon_error *err)
{
    float *bias = p->batch->gradient + gg_weights_of(p, GG_PART_BIAS, 0, 0).at;
    gorgon_status status = gg_layer_context_backward(p, err);
    const gg_rows dh = gg_layer_context(p);
    if (status == GORGON_OK)
        status = gg_weights_gradient(p, gg_weights_of(p, GG_PART_WEIGHT, 0, 0), dh,
                                     gg_context_hidden(p), true, err);
    if (status == GORGON_OK)
        status = gg_weights_gradient(p, gg_weights_of(p, GG_PART_ROOT, 0, 0), dh,
                                     gg_context_token(p), true, err);
    for (size_t row = 0; row < dh.n; row++)
        p->m->kernels->add(bias, dh.data + row * dh.ld, p->m->shape.d_model);
    return status;
}

static gorgon_status forward(const gg_head_pass *p, gorgon_error *err)
{
    float *states = gg_layer_output(p->m->layer);
    gorgon_status status = p->batch->context_rows > 0 ? context_forward(p, err) : GORGON_OK;
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
    return status == GORGON_OK && p->batch->context_rows > 0 ? context_backward(p, err) : status;
}

const gg_recipe gg_recipe_eagle = {
    .n_heads = 5,
    .n_blocks = 1,
    .random = GG_LAYER_RANDOM,
    .forward = forward,
    .backward = backward,
};

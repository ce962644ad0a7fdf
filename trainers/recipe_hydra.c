// Hydra heads (arXiv 2402.05109): Medusa's, but block 0 of head k sees the root and the k tokens
// drafted after it: x + silu(W x + R [e_0; ..; e_k] + b).
#include "recipe.h"

gorgon_status gg_hydra_forward(const gg_head_pass *p, gorgon_error *err)
{
    float *a = p->m->slope[0];
    gorgon_status status = gg_weights_apply(p, gg_weights_of_all(p, GG_PART_WEIGHT, 0), p->hidden,
                                            gg_lane(p, a, 0), false, err);
    for (size_t k = 0; k < p->m->shape.n_heads && status == GORGON_OK; k++)
        status = gg_weights_apply(p, gg_weights_of(p, GG_PART_ROOT, 0, k),
                                  gg_input_tokens(p, 0, k + 1), gg_lane(p, a, k), true, err);
    if (status != GORGON_OK)
        return status;
    const gg_lanes first = gg_first_lanes(p);
    gg_lanes_activate(p, &first);
    return gg_later_forward(p, err);
}

gorgon_status gg_hydra_backward(const gg_head_pass *p, gorgon_error *err)
{
    const gg_lanes first = gg_first_lanes(p);
    float *da = p->m->slope[0];
    gorgon_status status = gg_later_backward(p, err);
    if (status != GORGON_OK)
        return status;
    gg_lanes_differentiate(p, &first);
    status = gg_weights_gradient(p, gg_weights_of_all(p, GG_PART_WEIGHT, 0), gg_lane(p, da, 0),
                                 p->hidden, false, err);
    for (size_t k = 0; k < p->m->shape.n_heads && status == GORGON_OK; k++)
        status = gg_weights_gradient(p, gg_weights_of(p, GG_PART_ROOT, 0, k), gg_lane(p, da, k),
                                     gg_input_tokens(p, 0, k + 1), false, err);
    return status;
}

const gg_recipe gg_recipe_hydra = {
    .n_heads = 4,
    .n_blocks = 1,
    .forward = gg_hydra_forward,
    .backward = gg_hydra_backward,
};

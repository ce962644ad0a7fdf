// Medusa heads (arXiv 2401.10774): z = x + silu(W x + R e_0 + b), then blocks of their own. All
// heads' first blocks are one product.
#include "recipe.h"

gorgon_status gg_medusa_forward(const gg_head_pass *p, gorgon_error *err)
{
    const gg_rows a = gg_lane(p, p->m->slope[0], 0);
    gorgon_status status =
        gg_weights_apply(p, gg_weights_of_all(p, GG_PART_WEIGHT, 0), p->hidden, a, false, err);
    if (status == GORGON_OK && p->m->shape.root_embedding)
        status = gg_weights_apply(p, gg_weights_of_all(p, GG_PART_ROOT, 0),
                                  gg_input_tokens(p, 0, 1), a, true, err);
    if (status != GORGON_OK)
        return status;
    const gg_lanes first = gg_first_lanes(p);
    gg_lanes_activate(p, &first);
    return gg_later_forward(p, err);
}

gorgon_status gg_medusa_backward(const gg_head_pass *p, gorgon_error *err)
{
    const gg_lanes first = gg_first_lanes(p);
    const gg_rows da = gg_lane(p, p->m->slope[0], 0);
    gorgon_status status = gg_later_backward(p, err);
    if (status != GORGON_OK)
        return status;
    gg_lanes_differentiate(p, &first);
    status =
        gg_weights_gradient(p, gg_weights_of_all(p, GG_PART_WEIGHT, 0), da, p->hidden, false, err);
    if (status == GORGON_OK && p->m->shape.root_embedding)
        status = gg_weights_gradient(p, gg_weights_of_all(p, GG_PART_ROOT, 0), da,
                                     gg_input_tokens(p, 0, 1), false, err);
    return status;
}

const gg_recipe gg_recipe_medusa = {
    .n_heads = 4,
    .n_blocks = 1,
    .forward = gg_medusa_forward,
    .backward = gg_medusa_backward,
};

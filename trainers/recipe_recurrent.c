// Recurrent heads (after ReDrafter, arXiv 2403.09919): one head of n_blocks blocks, used at every
// depth. With s_0 = hidden state and e_k the embedding of the token that stands k places after it,
//   s_k+1 = s_k + silu(W s_k + R e_k + b), then blocks z' = z + silu(W' z + b') from z = s_k+1.
// z[0] holds the states, depth by depth within a position. The later blocks and the logits treat
// all depths at once; block 0 goes through them one after another, and backwards through time.
#include "recipe.h"

// The state before depth k: the hidden state, or what depth k - 1 handed on.
static gg_operand state_before(const gg_head_pass *p, float *states, size_t k)
{
    return k == 0 ? p->hidden : gg_operand_of(gg_lane(p, states, k - 1), p->m->shape.d_model);
}

static gg_lanes depth_lanes(const gg_head_pass *p, float *states, size_t k)
{
    const gg_operand s = state_before(p, states, k);
    return (gg_lanes){.first = k, .n = 1, .before = s.data, .before_ld = s.ld};
}

gorgon_status gg_depth_forward(const gg_head_pass *p, float *states, size_t k, gorgon_error *err)
{
    const gg_rows a = gg_lane(p, p->m->slope[0], k);
    gorgon_status status = gg_weights_apply(p, gg_weights_of(p, GG_PART_WEIGHT, 0, 0),
                                            state_before(p, states, k), a, false, err);
    if (status == GORGON_OK)
        status = gg_weights_apply(p, gg_weights_of(p, GG_PART_ROOT, 0, 0), gg_input_tokens(p, k, 1),
                                  a, true, err);
    if (status != GORGON_OK)
        return status;
    const gg_lanes lanes = depth_lanes(p, states, k);
    gg_lanes_activate(p, &lanes);
    return GORGON_OK;
}

static gorgon_status forward_block(const gg_head_pass *p, size_t block, gorgon_error *err)
{
    const gg_lanes lanes = gg_later_lanes(p, block);
    const gg_rows z = gg_all_lanes(p, p->m->z[block - 1]);
    gorgon_status status = gg_weights_apply(p, gg_weights_of(p, GG_PART_WEIGHT, block, 0),
                                            gg_operand_of(z, p->m->shape.d_model),
                                            gg_all_lanes(p, p->m->slope[block]), false, err);
    if (status == GORGON_OK)
        gg_lanes_activate(p, &lanes);
    return status;
}

static gorgon_status forward(const gg_head_pass *p, gorgon_error *err)
{
    gorgon_status status = GORGON_OK;
    for (size_t k = 0; k < p->m->shape.n_heads && status == GORGON_OK; k++)
        status = gg_depth_forward(p, p->m->z[0], k, err);
    for (size_t j = 1; j < p->m->shape.n_blocks && status == GORGON_OK; j++)
        status = forward_block(p, j, err);
    return status;
}

static gorgon_status backward_block(const gg_head_pass *p, size_t block, gorgon_error *err)
{
    const gg_weights w = gg_weights_of(p, GG_PART_WEIGHT, block, 0);
    const gg_lanes lanes = gg_later_lanes(p, block);
    const gg_rows da = gg_all_lanes(p, p->m->slope[block]);
    const gg_rows z = gg_all_lanes(p, p->m->z[block - 1]);
    gg_lanes_differentiate(p, &lanes);
    gorgon_status status =
        gg_weights_gradient(p, w, da, gg_operand_of(z, p->m->shape.d_model), false, err);
    if (status == GORGON_OK)
        status = gg_weights_back(p, w, da, gg_all_lanes(p, p->m->dz), true, err);
    return status;
}

// The residual path from a state to the one before it.
static void pass_back(const gg_head_pass *p, gg_rows from, gg_rows to)
{
    for (size_t row = 0; row < from.n; row++)
        p->m->kernels->add(to.data + row * to.ld, from.data + row * from.ld, p->m->shape.d_model);
}

gorgon_status gg_depth_backward(const gg_head_pass *p, float *states, size_t k, gorgon_error *err)
{
    const gg_weights w = gg_weights_of(p, GG_PART_WEIGHT, 0, 0);
    const gg_lanes lanes = depth_lanes(p, states, k);
    const bool more = k + 1 < p->m->shape.n_heads; // depths whose gradient is there already
    const gg_rows da = gg_lane(p, p->m->slope[0], k);
    gg_lanes_differentiate(p, &lanes);
    gorgon_status status = gg_weights_gradient(p, w, da, state_before(p, states, k), more, err);
    if (status == GORGON_OK)
        status = gg_weights_gradient(p, gg_weights_of(p, GG_PART_ROOT, 0, 0), da,
                                     gg_input_tokens(p, k, 1), more, err);
    if (status != GORGON_OK || k == 0)
        return status;
    const gg_rows to = gg_lane(p, p->m->dz, k - 1);
    pass_back(p, gg_lane(p, p->m->dz, k), to);
    return gg_weights_back(p, w, da, to, true, err);
}

static gorgon_status backward(const gg_head_pass *p, gorgon_error *err)
{
    gorgon_status status = GORGON_OK;
    for (size_t j = p->m->shape.n_blocks; j-- > 1 && status == GORGON_OK;)
        status = backward_block(p, j, err);
    for (size_t k = p->m->shape.n_heads; k-- > 0 && status == GORGON_OK;)
        status = gg_depth_backward(p, p->m->z[0], k, err);
    return status;
}

const gg_recipe gg_recipe_recurrent = {
    .n_heads = 5,
    .n_blocks = 2,
    .forward = forward,
    .backward = backward,
};

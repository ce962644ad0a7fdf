// Markov heads: Medusa's, and z of the last block + U_k D_k e_k, where e_k is the token before the
// predicted one. U begins at zero, so D must not: its rows begin as random directions.
#include "recipe.h"

// D_k e_k of every row.
static gg_rows low_of(const gg_head_pass *p, size_t head)
{
    const size_t rank = p->m->shape.rank;
    return (gg_rows){p->m->low + head * rank, p->batch->rows, p->m->shape.n_heads * rank};
}

static gorgon_status forward(const gg_head_pass *p, gorgon_error *err)
{
    const gg_head_shape *s = &p->m->shape;
    float *z = p->m->z[s->n_blocks - 1];
    gorgon_status status = gg_medusa_forward(p, err);
    for (size_t k = 0; k < s->n_heads && status == GORGON_OK; k++) {
        const gg_rows low = low_of(p, k);
        status = gg_weights_apply(p, gg_weights_of(p, GG_PART_DOWN, 0, k), gg_input_tokens(p, k, 1),
                                  low, false, err);
        if (status == GORGON_OK)
            status = gg_weights_apply(p, gg_weights_of(p, GG_PART_UP, 0, k),
                                      gg_operand_of(low, s->rank), gg_lane(p, z, k), true, err);
    }
    return status;
}

static gorgon_status backward(const gg_head_pass *p, gorgon_error *err)
{
    const gg_head_shape *s = &p->m->shape;
    const gg_rows dlow = {p->m->dlow, p->batch->rows, s->rank};
    gorgon_status status = GORGON_OK;
    for (size_t k = 0; k < s->n_heads && status == GORGON_OK; k++) {
        const gg_weights up = gg_weights_of(p, GG_PART_UP, 0, k);
        const gg_rows dz = gg_lane(p, p->m->dz, k);
        status = gg_weights_gradient(p, up, dz, gg_operand_of(low_of(p, k), s->rank), false, err);
        if (status == GORGON_OK)
            status = gg_weights_back(p, up, dz, dlow, false, err);
        if (status == GORGON_OK)
            status = gg_weights_gradient(p, gg_weights_of(p, GG_PART_DOWN, 0, k), dlow,
                                         gg_input_tokens(p, k, 1), false, err);
    }
    return status == GORGON_OK ? gg_medusa_backward(p, err) : status;
}

const gg_recipe gg_recipe_markov = {
    .n_heads = 4,
    .n_blocks = 1,
    .rank = 128,
    .random = 1 << GG_PART_DOWN,
    .forward = forward,
    .backward = backward,
};

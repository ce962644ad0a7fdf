// The recipes, by kind.
#include "recipe.h"

static const gg_recipe *const recipes[GG_HEAD_KINDS] = {
    [GG_HEADS_MEDUSA] = &gg_recipe_medusa,       [GG_HEADS_LINEAR] = &gg_recipe_linear,
    [GG_HEADS_MARKOV] = &gg_recipe_markov,       [GG_HEADS_HYDRA] = &gg_recipe_hydra,
    [GG_HEADS_RECURRENT] = &gg_recipe_recurrent,
};

const gg_recipe *gg_recipe_of(gg_head_kind kind)
{
    return recipes[kind];
}

void gg_head_shape_complete(gg_head_shape *shape)
{
    const gg_recipe *recipe = recipes[shape->kind];
    if (shape->n_heads == 0)
        shape->n_heads = recipe->n_heads;
    if (shape->n_blocks == 0)
        shape->n_blocks = recipe->n_blocks;
    if (shape->rank == 0)
        shape->rank = recipe->rank < shape->d_model ? recipe->rank : shape->d_model;
}

void gg_head_begin(const gg_head_shape *shape, uint64_t seed, float *parameters)
{
    const gg_recipe *recipe = recipes[shape->kind];
    gg_head_layout layout;
    if (!recipe->begin)
        return;
    gg_head_layout_of(shape, &layout);
    recipe->begin(&layout, seed, parameters);
}

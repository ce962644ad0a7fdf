// The recipes, by kind.
#include "gorgon/trainers.h"
#include "recipe.h"

// Each by its kind and by its name, which is the kind's.
#define RECIPES(X)                                                                                 \
    X(MEDUSA, medusa)                                                                              \
    X(LINEAR, linear)                                                                              \
    X(MARKOV, markov)                                                                              \
    X(HYDRA, hydra)                                                                                \
    X(RECURRENT, recurrent)
#define TABLE(KIND, name) [GG_HEADS_##KIND] = &gg_recipe_##name,
#define NAMES(KIND, name) [GG_HEADS_##KIND] = #name,
static const gg_recipe *const recipes[GG_HEAD_KINDS] = {RECIPES(TABLE)};
static const char *const names[GG_HEAD_KINDS + 1] = {RECIPES(NAMES)};

const char *const *gorgon_train_architectures(void)
{
    return names;
}

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

// The recipes, by kind, and where training begins.
#include <math.h>
#include <string.h>

#include "core/sampling.h"
#include "gorgon/trainers.h"
#include "recipe.h"

// Each by its kind, its variable and its name, which is the kind's.
#define RECIPES(X)                                                                                 \
    X(MEDUSA, medusa, "medusa")                                                                    \
    X(LINEAR, linear, "linear")                                                                    \
    X(MARKOV, markov, "markov")                                                                    \
    X(HYDRA, hydra, "hydra")                                                                       \
    X(HYDRA_PREFIX, hydra_prefix, "hydra++")                                                       \
    X(RECURRENT, recurrent, "recurrent")                                                           \
    X(EAGLE, eagle, "eagle")
#define TABLE(KIND, variable, name) [GG_HEADS_##KIND] = &gg_recipe_##variable,
#define NAMES(KIND, variable, name) [GG_HEADS_##KIND] = name,
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

size_t gg_head_piece(const gg_head_shape *s)
{
    return gg_head_traits_of(s->kind)->layer == GG_LAYER_NONE ? 1 : GG_HEAD_PIECE;
}

size_t gg_head_context(const gg_head_shape *s)
{
    static const size_t vectors[] = {
        [GG_LAYER_NONE] = 0, [GG_LAYER_PREFIX] = 1, [GG_LAYER_CELL] = 2};
    return vectors[gg_head_traits_of(s->kind)->layer] * s->d_model;
}

// Whole pieces, and some that the ends of batch and data have cut.
size_t gg_head_most_context(const gg_head_shape *s, size_t rows)
{
    return (rows / GG_HEAD_PIECE + 4) * s->window;
}

// As many attention heads as leave each an even number of channels, at least HEAD where d_model has
// that many; a feed-forward part of twice the width.
static void complete_layer(gg_head_shape *s)
{
    enum { HEAD = 64, WINDOW = 64 };
    const size_t d = s->d_model;
    if (s->n_attention == 0) {
        s->n_attention = d > HEAD ? d / HEAD : 1;
        while (s->n_attention > 1 && (d % s->n_attention != 0 || d / s->n_attention % 2 != 0))
            s->n_attention--;
    }
    if (s->n_ffn == 0)
        s->n_ffn = 2 * d < GG_HEADS_MAX_FFN ? 2 * d : GG_HEADS_MAX_FFN;
    if (s->window == 0)
        s->window = WINDOW;
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
    if (gg_head_traits_of(shape->kind)->layer != GG_LAYER_NONE)
        complete_layer(shape);
}

void gg_head_begin(const gg_head_shape *shape, const float *output, uint64_t seed,
                   float *parameters)
{
    gg_head_layout layout;
    gg_head_layout_of(shape, &layout);
    for (size_t i = 0; i < layout.n_parts; i++) {
        const gg_head_part *part = &layout.parts[i];
        if (part->role == GG_PART_OUTPUT)
            memcpy(parameters + layout.at[i], output, part->n_out * part->n_in * sizeof *output);
        if ((recipes[shape->kind]->random >> part->role & 1) == 0)
            continue;
        const double scale = 1.0 / sqrt((double)part->n_in);
        float *w = parameters + layout.at[i];
        for (size_t j = 0; j < part->n_out * part->n_in; j++)
            w[j] =
                (float)(scale * (2.0 * gg_random_uniform(seed, part->role, part->head, j) - 1.0));
    }
}

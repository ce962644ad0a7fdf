// Linear heads (after ProphetNet, arXiv 2001.04063): z = x + W x + R e_0 + b. Medusa's pass over
// one block; that nothing is activated is a trait of the kind.
#include "recipe.h"

const gg_recipe gg_recipe_linear = {
    .n_heads = 4,
    .n_blocks = 1,
    .forward = gg_medusa_forward,
    .backward = gg_medusa_backward,
};

// The architectures that can be trained, and how many parameters they come to.
#include <string.h>

#include "core/model.h"
#include "gorgon/trainers.h"
#include "trainers/medusa.h"

static const char *const names[] = {"medusa", "recurrent", NULL};

const char *const *gorgon_train_architectures(void)
{
    return names;
}

static bool known(const char *name)
{
    for (size_t i = 0; name && names[i]; i++) {
        if (strcmp(names[i], name) == 0)
            return true;
    }
    return false;
}

uint64_t gorgon_train_parameters(const gorgon_model *model, const gorgon_train_options *options)
{
    if (!known(options->architecture))
        return 0;
    gg_medusa_shape shape = {.n_heads = options->n_heads,
                             .n_blocks = options->n_blocks,
                             .d = gg_model_geometry(model)->d_model,
                             .root_embedding = options->root_embedding,
                             .recurrent = strcmp(options->architecture, "recurrent") == 0};
    return gg_medusa_layout_of(&shape).n;
}

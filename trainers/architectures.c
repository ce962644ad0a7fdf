// The architectures that can be trained, and how many parameters they come to.
#include <string.h>

#include "core/error.h"
#include "core/limits.h"
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

gorgon_status gorgon_train_parameters(const gorgon_model *model,
                                      const gorgon_train_options *options, uint64_t *count,
                                      gorgon_error *err)
{
    const gorgon_train_options *o = options;
    *count = 0;
    if (!known(o->architecture))
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "training: unknown architecture '%.40s'",
                       o->architecture ? o->architecture : "");
    bool recurrent = strcmp(o->architecture, "recurrent") == 0;
    if (o->n_heads < 1 || o->n_heads > GG_MAX_DRAFT_HEADS || o->n_blocks < 1 ||
        o->n_blocks > GG_MAX_HEAD_BLOCKS || (recurrent && !o->root_embedding))
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "training: %s with %zu heads of %zu blocks, expected 1 to %d of 1 to %d%s",
                       o->architecture, o->n_heads, o->n_blocks, GG_MAX_DRAFT_HEADS,
                       GG_MAX_HEAD_BLOCKS, recurrent ? ", root_embedding on" : "");
    gg_medusa_shape shape = {.n_heads = o->n_heads,
                             .n_blocks = o->n_blocks,
                             .d = gg_model_geometry(model)->d_model,
                             .root_embedding = o->root_embedding,
                             .recurrent = recurrent};
    *count = gg_medusa_layout_of(&shape).n;
    return GORGON_OK;
}

// Proposers by name.
#include "registry.h"

#include <string.h>

#include "core/error.h"
#include "heads/head_set.h"

typedef gorgon_status (*constructor)(const gg_proposer_config *config, gg_proposer **out,
                                     gorgon_error *err);

#define NAME(name, create)   name,
#define CREATE(name, create) create,
static const char *const names[] = {GG_PROPOSERS(NAME) NULL};
static const constructor constructors[] = {GG_PROPOSERS(CREATE) NULL};
#undef NAME
#undef CREATE

gorgon_status gg_heads_proposer(const gg_proposer_config *config, gg_proposer **out,
                                gorgon_error *err)
{
    gorgon_head_set_info info;
    if (!config->heads)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "proposer heads needs a heads file");
    gorgon_status status = gorgon_heads_describe(config->heads, config->set, &info, err);
    if (status != GORGON_OK)
        return status;
    const gg_head_shape *shape = &gg_heads_set(config->heads, config->set)->shape;
    return gg_head_traits_of(shape->kind)->follows ? gg_sequential_proposer(config, out, err)
                                                   : gg_medusa_proposer(config, out, err);
}

const char *const *gg_proposer_names(void)
{
    return names;
}

static gorgon_status fail_unknown(const char *name, gorgon_error *err)
{
    char list[200] = "";
    for (size_t i = 0; names[i]; i++)
        gg_list_append(list, sizeof list, names[i]);
    return gg_fail(err, GORGON_ERROR_ARGUMENT, "unknown proposer '%.60s', expected one of: %s",
                   name, list);
}

gorgon_status gg_proposer_create(const char *name, const gg_proposer_config *config,
                                 gg_proposer **out, gorgon_error *err)
{
    *out = NULL;
    for (size_t i = 0; names[i]; i++) {
        if (strcmp(names[i], name) == 0)
            return constructors[i](config, out, err);
    }
    return fail_unknown(name, err);
}

void gg_proposer_free(gg_proposer *p)
{
    if (p)
        p->ops->free(p);
}

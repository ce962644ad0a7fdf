// Proposers by name.
#include "registry.h"

#include <string.h>

#include "core/error.h"
#include "heads/head_set.h"

typedef gorgon_status (*constructor)(const gg_proposer_config *config, gg_proposer **out,
                                     gorgon_error *err);

#define NAME(name, create, needs)   name,
#define CREATE(name, create, needs) create,
#define NEEDS(name, create, needs)  needs,
static const char *const names[] = {GG_PROPOSERS(NAME) NULL};
static const constructor constructors[] = {GG_PROPOSERS(CREATE) NULL};
static const gg_needs needs_of[] = {GG_PROPOSERS(NEEDS) GG_NEEDS_NOTHING};
#undef NAME
#undef CREATE
#undef NEEDS

gorgon_status gg_heads_proposer(const gg_proposer_config *config, gg_proposer **out,
                                gorgon_error *err)
{
    gorgon_head_set_info info;
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

// The kind of file that a proposer needs and does not have; NULL if there is none.
static const char *missing_file(size_t proposer, const gg_proposer_config *config)
{
    if (needs_of[proposer] == GG_NEEDS_HEADS && !config->heads)
        return "heads";
    if (needs_of[proposer] == GG_NEEDS_DATASTORE && !config->datastore)
        return "datastore";
    return NULL;
}

static size_t find(const char *name)
{
    size_t i = 0;
    while (names[i] && strcmp(names[i], name) != 0)
        i++;
    return i;
}

bool gg_proposer_has_file(const char *name, const gg_proposer_config *config)
{
    return missing_file(find(name), config) == NULL;
}

gorgon_status gg_proposer_create(const char *name, const gg_proposer_config *config,
                                 gg_proposer **out, gorgon_error *err)
{
    const size_t i = find(name);
    *out = NULL;
    if (!names[i])
        return fail_unknown(name, err);
    const char *file = missing_file(i, config);
    if (file)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "proposer %s needs a %s file", name, file);
    return constructors[i](config, out, err);
}

void gg_proposer_free(gg_proposer *p)
{
    if (p)
        p->ops->free(p);
}

// A static tree from measured acceptance: the paths with the largest products of rates by depth
// and rank, ranks taken as independent (as Medusa's own tree search does).
#include <jansson.h>
#include <stdlib.h>

#include "core/alloc.h"
#include "core/error.h"
#include "gorgon/decode.h"
#include "static_tree.h"

typedef struct search {
    double rate[GORGON_TELEMETRY_DEPTH][GORGON_TELEMETRY_RANK];
    gg_static_tree tree;
    double path[GG_MAX_TREE_NODES];
    uint32_t used[GG_MAX_TREE_NODES]; // bit set: child ranks that are in the tree
} search;

static void read_rates(search *s, const gorgon_telemetry *t)
{
    for (size_t d = 0; d < GORGON_TELEMETRY_DEPTH; d++) {
        for (size_t r = 0; r < GORGON_TELEMETRY_RANK; r++)
            s->rate[d][r] = (double)t->accepted[d][r] / ((double)t->offered[d][r] + 1.0);
    }
}

// Adds the likeliest child that is not yet there; false when none has ever been accepted.
static bool add_best(search *s)
{
    gg_static_tree *t = &s->tree;
    double best = 0.0;
    size_t parent = 0, rank = 0;
    for (size_t i = 0; i < t->n; i++) {
        for (size_t r = 0; t->depth[i] < GORGON_TELEMETRY_DEPTH && r < GORGON_TELEMETRY_RANK; r++) {
            double p = s->path[i] * s->rate[t->depth[i]][r];
            if (p <= best || s->used[i] & UINT32_C(1) << r)
                continue;
            best = p;
            parent = i;
            rank = r;
        }
    }
    if (best <= 0.0)
        return false;
    s->used[parent] |= UINT32_C(1) << rank;
    s->path[t->n] = best;
    t->parent[t->n] = (uint16_t)parent;
    t->rank[t->n] = (uint16_t)rank;
    t->depth[t->n] = (uint16_t)(t->depth[parent] + 1);
    t->n++;
    return true;
}

static json_t *path_of(const gg_static_tree *t, size_t node)
{
    json_t *path = json_array();
    for (; node > 0; node = t->parent[node])
        json_array_insert_new(path, 0, json_integer(t->rank[node]));
    return path;
}

gorgon_status gorgon_tree_calibrate(const gorgon_telemetry *telemetry, size_t n_nodes, char **json,
                                    gorgon_error *err)
{
    *json = NULL;
    if (n_nodes < 1 || n_nodes >= GG_MAX_TREE_NODES)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "static tree of %zu nodes, expected 1 to %d",
                       n_nodes, GG_MAX_TREE_NODES - 1);
    search *s = gg_alloc(1, sizeof *s);
    if (!s)
        return gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for a static tree");
    read_rates(s, telemetry);
    s->tree.n = 1;
    s->path[0] = 1.0;
    while (s->tree.n <= n_nodes && add_best(s))
        continue;
    gorgon_status status = GORGON_OK;
    if (s->tree.n == 1)
        status = gg_fail(err, GORGON_ERROR_ARGUMENT,
                         "no node of proposer %s was ever accepted: no tree to make",
                         telemetry->proposer ? telemetry->proposer : "(none)");
    json_t *paths = json_array();
    for (size_t i = 1; i < s->tree.n; i++)
        json_array_append_new(paths, path_of(&s->tree, i));
    char *text = json_dumps(paths, JSON_COMPACT);
    if (status == GORGON_OK)
        *json = text ? gg_strdup(text) : NULL;
    if (status == GORGON_OK && !*json)
        status = gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for a static tree");
    json_decref(paths);
    free(text);
    gg_free(s);
    return status;
}

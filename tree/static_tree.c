// See static_tree.h.
#include "static_tree.h"

#include <jansson.h>
#include <string.h>

#include "core/error.h"
#include "core/file.h"

enum { MAX_FILE = 1 << 20 }; // bytes

static size_t find_child(const gg_static_tree *t, size_t parent, size_t rank)
{
    for (size_t i = 1; i < t->n; i++) {
        if (t->parent[i] == parent && t->rank[i] == rank)
            return i;
    }
    return 0;
}

static gorgon_status add_path(gg_static_tree *t, const json_t *path, size_t index,
                              const char *label, gorgon_error *err)
{
    size_t length = json_array_size(path); // 0 for anything but an array
    if (length < 1 || length > GG_MAX_DRAFT_DEPTH)
        return gg_fail(err, GORGON_ERROR_FORMAT,
                       "static tree '%s': path %zu has %zu ranks, expected an array of 1 to %d",
                       label, index, length, GG_MAX_DRAFT_DEPTH);
    size_t node = 0;
    for (size_t i = 0; i < length; i++) {
        const json_t *value = json_array_get(path, i);
        json_int_t rank = json_is_integer(value) ? json_integer_value(value) : -1;
        if (rank < 0 || rank >= GG_MAX_CHILDREN)
            return gg_fail(err, GORGON_ERROR_FORMAT,
                           "static tree '%s': path %zu, rank %zu is not an integer from 0 to %d",
                           label, index, i, GG_MAX_CHILDREN - 1);
        size_t child = find_child(t, node, (size_t)rank);
        if (child == 0) {
            if (t->n == GG_MAX_TREE_NODES)
                return gg_fail(err, GORGON_ERROR_FORMAT,
                               "static tree '%s': more than %d draft nodes at path %zu", label,
                               GG_MAX_TREE_NODES - 1, index);
            child = t->n++;
            t->parent[child] = (uint16_t)node;
            t->rank[child] = (uint16_t)rank;
            t->depth[child] = (uint16_t)(i + 1);
        }
        node = child;
    }
    return GORGON_OK;
}

// Orders nodes by depth, then by the parent's place, then by rank.
static void sort_by_depth(gg_static_tree *t)
{
    const gg_static_tree from = *t;
    uint16_t place[GG_MAX_TREE_NODES] = {0}; // old index at each new place
    size_t done = 1;
    for (size_t parent = 0; parent < done; parent++) {
        for (size_t rank = 0; rank < GG_MAX_CHILDREN; rank++) {
            size_t child = find_child(&from, place[parent], rank);
            if (child == 0)
                continue;
            place[done] = (uint16_t)child;
            t->parent[done] = (uint16_t)parent;
            t->rank[done] = (uint16_t)rank;
            t->depth[done] = from.depth[child];
            done++;
        }
    }
}

gorgon_status gg_static_tree_parse(const char *json, size_t length, const char *label,
                                   gg_static_tree *out, gorgon_error *err)
{
    memset(out, 0, sizeof *out);
    out->n = 1;
    json_error_t at;
    json_t *paths = json_loadb(json, length, JSON_REJECT_DUPLICATES, &at);
    if (!paths)
        return gg_fail(err, GORGON_ERROR_FORMAT, "static tree '%s': line %d, column %d: %s", label,
                       at.line, at.column, at.text);
    gorgon_status status = GORGON_OK;
    size_t n = json_array_size(paths);
    if (n == 0)
        status = gg_fail(err, GORGON_ERROR_FORMAT,
                         "static tree '%s': expected a non-empty list of paths such as "
                         "[[0], [0, 0], [1]]",
                         label);
    for (size_t i = 0; i < n && status == GORGON_OK; i++)
        status = add_path(out, json_array_get(paths, i), i, label, err);
    json_decref(paths);
    if (status == GORGON_OK)
        sort_by_depth(out);
    return status;
}

gorgon_status gg_static_tree_read(const char *path, gg_static_tree *out, gorgon_error *err)
{
    gg_mapping file;
    gorgon_status status = gg_map_file(path, &file, err);
    if (status != GORGON_OK)
        return status;
    if (file.size > MAX_FILE)
        status =
            gg_fail(err, GORGON_ERROR_FORMAT, "static tree '%s': %zu bytes, at most %d allowed",
                    path, file.size, MAX_FILE);
    else
        status = gg_static_tree_parse((const char *)file.data, file.size, path, out, err);
    gg_unmap(&file);
    return status;
}

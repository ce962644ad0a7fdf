// Static trees: a fixed shape of child ranks, read from a JSON list of paths as Medusa's choices
// are written: [[0], [0, 0], [1], [0, 1]]. Rank r is the r-th best merged child of its parent.
#ifndef GG_TREE_STATIC_TREE_H
#define GG_TREE_STATIC_TREE_H

#include "core/draft_tree.h"
#include "gorgon/status.h"
#include "heads/proposer.h"

// Node 0 is the root. Nodes are ordered by depth, then by their paths: a shorter list drops the
// deepest nodes first and stays a tree.
typedef struct gg_static_tree {
    size_t n;                           // nodes, root included
    uint16_t parent[GG_MAX_TREE_NODES]; // of the root: 0
    uint16_t rank[GG_MAX_TREE_NODES];
    uint16_t depth[GG_MAX_TREE_NODES];
} gg_static_tree;

// Prefixes that are not listed are implied; a path listed twice counts once. Ranks are below
// GG_MAX_CHILDREN, paths at most GG_MAX_DRAFT_DEPTH long, the whole at most GG_MAX_TREE_NODES - 1
// draft nodes. `label` names the source in messages.
gorgon_status gg_static_tree_parse(const char *json, size_t length, const char *label,
                                   gg_static_tree *out, gorgon_error *err);
gorgon_status gg_static_tree_read(const char *path, gg_static_tree *out, gorgon_error *err);

#endif

// The tree of drafted tokens that one sequence brings into a pass. Node 0 is the root: the token
// that is already decided but not yet committed. Children follow their parents.
#ifndef GG_CORE_DRAFT_TREE_H
#define GG_CORE_DRAFT_TREE_H

#include "core/limits.h"
#include "gorgon/tokenizer.h"

typedef struct gg_draft_tree {
    size_t n; // nodes, root included
    gorgon_token token[GG_MAX_TREE_NODES];
    int32_t parent[GG_MAX_TREE_NODES];     // -1 for the root
    uint16_t depth[GG_MAX_TREE_NODES];     // 0 for the root
    float path[GG_MAX_TREE_NODES];         // calibrated probability that the path is accepted
    float edge[GG_MAX_TREE_NODES];         // calibrated probability given the parent is accepted
    uint32_t proposers[GG_MAX_TREE_NODES]; // bit set: which proposers named this edge
    uint16_t rank[GG_MAX_TREE_NODES];      // best rank among the proposers that named it
} gg_draft_tree;

#endif

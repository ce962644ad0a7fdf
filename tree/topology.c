// See topology.h.
#include "topology.h"

#include <assert.h>

void gg_tree_init(gg_draft_tree *tree, gorgon_token root)
{
    tree->n = 1;
    tree->token[0] = root;
    tree->parent[0] = GG_NO_NODE;
    tree->depth[0] = 0;
    tree->path[0] = 1.0f;
    tree->edge[0] = 1.0f;
    tree->proposers[0] = 0;
    tree->rank[0] = 0;
}

int32_t gg_tree_add(gg_draft_tree *tree, uint32_t parent, gorgon_token token, float edge,
                    uint32_t proposers, uint16_t rank)
{
    assert(parent < tree->n);
    if (tree->n == GG_MAX_TREE_NODES || tree->depth[parent] == GG_MAX_DRAFT_DEPTH)
        return GG_NO_NODE;
    size_t i = tree->n++;
    tree->token[i] = token;
    tree->parent[i] = (int32_t)parent;
    tree->depth[i] = (uint16_t)(tree->depth[parent] + 1);
    tree->path[i] = tree->path[parent] * edge;
    tree->edge[i] = edge;
    tree->proposers[i] = proposers;
    tree->rank[i] = rank;
    return (int32_t)i;
}

int32_t gg_tree_child(const gg_draft_tree *tree, uint32_t node, gorgon_token token)
{
    for (size_t i = node + 1; i < tree->n; i++) {
        if (tree->parent[i] == (int32_t)node && tree->token[i] == token)
            return (int32_t)i;
    }
    return GG_NO_NODE;
}

void gg_tree_truncate(gg_draft_tree *tree, size_t n)
{
    assert(n >= 1);
    if (n < tree->n)
        tree->n = n;
}

static bool node_valid(const gg_draft_tree *tree, size_t i)
{
    int32_t parent = tree->parent[i];
    if (parent < 0 || (size_t)parent >= i || tree->depth[i] > GG_MAX_DRAFT_DEPTH)
        return false;
    if (tree->depth[i] != tree->depth[parent] + 1)
        return false;
    if (!(tree->edge[i] >= 0.0f && tree->edge[i] <= 1.0f && tree->path[i] <= tree->path[parent]))
        return false;
    return gg_tree_child(tree, (uint32_t)parent, tree->token[i]) == (int32_t)i; // no twin sibling
}

bool gg_tree_valid(const gg_draft_tree *tree)
{
    if (tree->n < 1 || tree->n > GG_MAX_TREE_NODES || tree->parent[0] != GG_NO_NODE)
        return false;
    for (size_t i = 1; i < tree->n; i++) {
        if (!node_valid(tree, i))
            return false;
    }
    return true;
}

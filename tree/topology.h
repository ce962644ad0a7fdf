// Building and walking a gg_draft_tree. Parents precede their children, so any prefix of the node
// list is a tree as well.
#ifndef GG_TREE_TOPOLOGY_H
#define GG_TREE_TOPOLOGY_H

#include <stdbool.h>

#include "core/draft_tree.h"

enum { GG_NO_NODE = -1 };

// A tree of the root alone.
void gg_tree_init(gg_draft_tree *tree, gorgon_token root);
// Appends a child of `parent`; its path is the parent's times `edge`. Returns its index, or
// GG_NO_NODE when the tree is full.
int32_t gg_tree_add(gg_draft_tree *tree, uint32_t parent, gorgon_token token, float edge,
                    uint32_t proposers, uint16_t rank);
// The child of `node` that bears `token`, or GG_NO_NODE.
int32_t gg_tree_child(const gg_draft_tree *tree, uint32_t node, gorgon_token token);
// Keeps the first n nodes, n >= 1.
void gg_tree_truncate(gg_draft_tree *tree, size_t n);
// Every invariant of the structure; used by tests and assertions.
bool gg_tree_valid(const gg_draft_tree *tree);

#endif

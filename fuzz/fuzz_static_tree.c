// Static-tree files: whatever is accepted is a tree whose parents precede their children.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "static_tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const gg_static_tree *t)
{
    if (t->n < 2 || t->n > GG_MAX_TREE_NODES)
        abort();
    for (size_t i = 1; i < t->n; i++) {
        if (t->parent[i] >= i || t->rank[i] >= GG_MAX_CHILDREN ||
            t->depth[i] != t->depth[t->parent[i]] + 1 || t->depth[i] > GG_MAX_DRAFT_DEPTH ||
            t->depth[i] < t->depth[i - 1])
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    gg_static_tree tree;
    gorgon_error err = {0};
    if (gg_static_tree_parse((const char *)data, size, "input", &tree, &err) == GORGON_OK)
        check(&tree);
    else if (err.message[0] == '\0')
        abort();
    return 0;
}

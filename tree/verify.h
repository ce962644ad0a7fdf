// Verification rules: which path of a tree is kept and which tokens are thereby decided. One file
// per rule (rule_*.c) and one line in verify.c.
#ifndef GG_TREE_VERIFY_H
#define GG_TREE_VERIFY_H

#include "core/draft_tree.h"
#include "core/engine.h"
#include "gorgon/sampling.h"

// A tree whose nodes were rows first_row, first_row + 1, ... of the last pass.
typedef struct gg_verify_input {
    gorgon_engine *engine;
    const gg_draft_tree *tree;
    size_t first_row;
    size_t root_position; // of the root in its sequence
    const gorgon_sampling *sampling;
    void *scratch; // gg_sample_scratch bytes
} gg_verify_input;

// path[0] is the root; decided[i] is the token after path[i]. Without a node for decided[n - 1]
// the walk ended there: every step decides at least one token.
typedef struct gg_verdict {
    size_t n;
    int32_t missing; // the node whose logits the walk lacks, or GG_NO_NODE when it is complete
    uint32_t path[GG_MAX_DRAFT_DEPTH + 1];
    gorgon_token decided[GG_MAX_DRAFT_DEPTH + 1];
} gg_verdict;

typedef struct gg_rule {
    const char *name;
    // Stops at a node without logits; called again from the root when it has them.
    void (*verify)(const gg_verify_input *input, gg_verdict *verdict);
} gg_rule;

// The walk from `node` on that is most likely, from child to child by the target's own logits of
// these alone: their rows of the pass, the node's first. Returns how many.
size_t gg_likely_walk(const gg_verify_input *input, uint32_t node,
                      uint32_t rows[GG_MAX_DRAFT_DEPTH + 1]);

// NULL name = "exact". The error lists the rules that exist.
gorgon_status gg_rule_find(const char *name, const gg_rule **out, gorgon_error *err);

extern const gg_rule gg_rule_exact;

#endif

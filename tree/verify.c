// The registry of verification rules, and the guess which rows of a tree they will ask for.
#include "verify.h"

#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "core/sampling.h"
#include "topology.h"

static const gg_rule *const rules[] = {&gg_rule_exact};
enum { N_RULES = sizeof rules / sizeof rules[0] };

gorgon_status gg_rule_find(const char *name, const gg_rule **out, gorgon_error *err)
{
    char known[128] = "";
    size_t used = 0;
    for (size_t i = 0; i < N_RULES; i++) {
        if (!name || strcmp(name, rules[i]->name) == 0) {
            *out = rules[i];
            return GORGON_OK;
        }
        int n = snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", rules[i]->name);
        used += n > 0 && (size_t)n < sizeof known - used ? (size_t)n : 0;
    }
    return gg_fail(err, GORGON_ERROR_ARGUMENT, "unknown rule '%s', expected one of: %s", name,
                   known);
}

// The child whose token wins among its siblings, noise included, or GG_NO_NODE.
static int32_t best_child(const gg_verify_input *in, uint32_t node)
{
    const gg_draft_tree *tree = in->tree;
    const gorgon_sampling *sampling = in->sampling;
    uint64_t position = in->root_position + tree->depth[node] + 1;
    size_t n = 0, best = 0;
    gorgon_token tokens[GG_MAX_TREE_NODES];
    int32_t nodes[GG_MAX_TREE_NODES];
    float score[GG_MAX_TREE_NODES];
    for (size_t i = node + 1; i < tree->n; i++) {
        if (tree->parent[i] == (int32_t)node) {
            tokens[n] = tree->token[i];
            nodes[n++] = (int32_t)i;
        }
    }
    if (n < 2)
        return n ? nodes[0] : GG_NO_NODE;
    gg_engine_token_logits(in->engine, in->first_row + node, tokens, n, score);
    for (size_t i = 0; i < n; i++) {
        if (sampling->temperature > 0.0f)
            score[i] = score[i] / sampling->temperature +
                       gg_gumbel(sampling, position, (uint32_t)tokens[i]);
        best = score[i] > score[best] ? i : best;
    }
    return nodes[best];
}

size_t gg_likely_walk(const gg_verify_input *in, uint32_t node,
                      uint32_t rows[GG_MAX_DRAFT_DEPTH + 1])
{
    size_t n = 0;
    for (int32_t at = (int32_t)node; at != GG_NO_NODE; at = best_child(in, (uint32_t)at))
        rows[n++] = (uint32_t)(in->first_row + (size_t)at);
    return n;
}

// Growing draft trees: best-first over all decoding streams at once, or into a static shape.
// Proposers' edges with the same parent and token merge and become calibrated probabilities.
// Knows nothing of passes; the planner's objective tells it when to stop.
#ifndef GG_TREE_GROW_H
#define GG_TREE_GROW_H

#include "online.h"
#include "plan.h"
#include "topology.h"

// One stream's tree in the making.
typedef struct gg_sprout {
    gg_draft_tree *tree;                     // holds the root when growth starts
    const gg_draft *draft[GG_MAX_PROPOSERS]; // per proposer
    size_t max_depth;                        // deepest node allowed, 0 = none
    size_t max_nodes;                        // draft nodes, the root not counted
} gg_sprout;

// An edge that was suggested, in the tree or not: those that were not can be judged as well.
typedef struct gg_candidate {
    uint32_t sprout, parent;
    gorgon_token token;
    int32_t node; // its place in the tree, GG_NO_NODE if it never got one
    gg_namers namers;
    float said[GG_MAX_PROPOSERS]; // log-odds that each of them alone adds
    double odds;                  // joint log-odds against "no child at all"
    float calibrated;             // its probability before the online correction
    float edge, path;
} gg_candidate;

typedef struct gg_grower {
    size_t n_proposers;
    const gg_proposer *proposer[GG_MAX_PROPOSERS];
    gg_calibration calibration;
    gg_online online;
    gg_plan *plan; // told what drafting costs
    gg_edge edges[GG_MAX_CHILDREN];
    double odds[GG_MAX_CHILDREN * GG_MAX_PROPOSERS]; // of siblings
    double expand_s[GG_MAX_PROPOSERS];               // of this growth
    size_t expanded[GG_MAX_PROPOSERS];               // nodes asked

    size_t max_expansions;
    gg_candidate *pool; // [max_expansions * GG_MAX_CHILDREN * n_proposers]
    size_t n_pool;
    uint32_t *heap; // [pool capacity] indices of candidates, best at 0
    size_t n_heap;
    uint32_t *order;       // [max_expansions] candidates in the order in which they became nodes
    uint32_t *first_child; // [GG_MAX_TREE_NODES] of static growth
    uint16_t *n_children;  // [GG_MAX_TREE_NODES]
} gg_grower;

// For trees of max_nodes draft nodes together, of max_sprouts streams. Proposers and
// calibration are set by the caller before; the grower does not own them.
gorgon_status gg_grower_create(gg_grower *g, size_t max_nodes, size_t max_sprouts,
                               gorgon_error *err);
void gg_grower_clear(gg_grower *g);

// Outcome of growth: nodes in all trees together and the sum of their path probabilities.
typedef struct gg_growth {
    size_t nodes;
    double path_sum;
} gg_growth;

// Adds the likeliest nodes until max_nodes are there or, with an objective, as many as it favours.
gg_growth gg_grow_best_first(gg_grower *g, uint32_t active, const gg_sprout *sprouts, size_t n,
                             size_t max_nodes, const gg_objective *objective);
// Fills `shape` with the merged children of the ranks it names, as far as there are any.
gg_growth gg_grow_static(gg_grower *g, uint32_t active, const gg_sprout *sprouts, size_t n,
                         const gg_static_tree *shape);
// Forgets the candidates of the last growth.
void gg_grower_reset(gg_grower *g);

#endif

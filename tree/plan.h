// How large a tree may be, and whether to draft at all: expected tokens per second, from the
// measured cost of passes and drafts and the calibrated probabilities of nodes.
#ifndef GG_TREE_PLAN_H
#define GG_TREE_PLAN_H

#include "cost.h"
#include "heads/proposer.h"
#include "static_tree.h"

typedef enum gg_tree_mode {
    GG_TREE_OFF,
    GG_TREE_AUTO,
    GG_TREE_FIXED,
    GG_TREE_STATIC,
} gg_tree_mode;

// What a step is worth with n nodes in its trees:
// (tokens + sum of path probabilities) / (pass + drafting).
typedef struct gg_objective {
    const gg_cost *cost;
    double tokens;        // decided by the roots alone: the decoding streams
    size_t rows;          // of the pass without nodes, prompt rows included
    double attended;      // positions these rows attend to
    double node_attended; // positions one node attends to, on average
    double sunk_s;        // share of prompt rows, which are run in any case
    double draft_s;       // start of drafting
    double node_draft_s;  // drafting per node
} gg_objective;

double gg_objective_plain(const gg_objective *o); // without drafting, tokens per second
double gg_objective_rate(const gg_objective *o, size_t nodes, double path_sum);
// False when no further nodes, none of them above `path`, can lift the rate beyond `best`.
bool gg_objective_can_improve(const gg_objective *o, size_t nodes, double path_sum, double path,
                              size_t max_nodes, double best);

// A proposer's account: what it costs and what only it brought.
typedef struct gg_account {
    // Moving averages: per step before and after the pass, per node asked.
    double begin_s, learn_s, expand_s;
    double net;     // moving average: share of a plain pass that it saves, cost deducted
    size_t seen;    // steps in `net` since it was last switched on
    size_t sleep;   // steps that it still stays switched off
    size_t backoff; // steps of its next sleep
} gg_account;

typedef struct gg_plan {
    gg_tree_mode mode;
    size_t fixed_nodes; // draft nodes per tree, the root not counted
    gg_static_tree shape;
    gg_cost cost;
    bool has_cost;
    size_t n_proposers;
    gg_account account[GG_MAX_PROPOSERS];
} gg_plan;

// "auto", "off", a number of draft nodes (1 to GG_MAX_TREE_NODES - 1; 0 is "off") or the path of
// a static tree. On error the plan is unchanged.
gorgon_status gg_plan_set_tree(gg_plan *plan, const char *tree, gorgon_error *err);

// Bit set of the proposers that draft in this step; counts the sleep of the others down.
uint32_t gg_plan_active(gg_plan *plan);
void gg_plan_begin_time(gg_plan *plan, size_t proposer, double seconds);
void gg_plan_learn_time(gg_plan *plan, size_t proposer, double seconds);
// All nodes of a step together: single ones differ too much for a moving average.
void gg_plan_expand_time(gg_plan *plan, size_t proposer, double seconds, size_t nodes);
// The draft costs of these proposers, for an objective.
void gg_plan_draft_cost(const gg_plan *plan, uint32_t active, double *draft_s,
                        double *node_draft_s);

// One step's outcome for one proposer: nodes of the trees that only it named.
typedef struct gg_credit {
    size_t nodes;
    double path_sum;
} gg_credit;
// Books a step of mode auto and puts a proposer that does not pay to sleep.
void gg_plan_settle(gg_plan *plan, const gg_objective *o, uint32_t active, size_t nodes,
                    double path_sum, const gg_credit *credit);

#endif

// The proposer interface: anything that can suggest next tokens for a node of the draft tree.
// A proposer knows nothing of budgets, calibration or other proposers; tree/ merges them.
#ifndef GG_HEADS_PROPOSER_H
#define GG_HEADS_PROPOSER_H

#include <stdbool.h>

#include "core/draft_tree.h"
#include "core/engine.h"
#include "gorgon/datastore.h"
#include "gorgon/heads.h"
#include "gorgon/sampling.h"

enum { GG_EVIDENCE = 4, GG_MAX_PROPOSERS = 8, GG_MAX_CHILDREN = 16 };

// A suggested child. score is the proposer's own log-probability (nats) under the sampling
// settings, noise included when temperature > 0; evidence is proposer-defined, 0 where unused.
typedef struct gg_edge {
    uint32_t parent; // node index in the tree
    gorgon_token token;
    float score;
    uint16_t rank; // 0 = the proposer's best child of this parent
    float evidence[GG_EVIDENCE];
} gg_edge;

// Rows that have just been committed to one sequence, prompt rows included.
typedef struct gg_observation {
    size_t position;            // of the first row
    size_t n;                   // rows
    const gorgon_token *tokens; // [n]
    // [n] pointers to [d_model], after the final norm. NULL, or a NULL among them: unknown; then
    // nothing is drafted right after such a row, and what came before it is not attended to. Of
    // prompts the last row alone is known.
    const float *const *hidden;
} gg_observation;

// A row of a pass that has logits, whether or not it was accepted: what the model says there.
typedef struct gg_verified_row {
    gorgon_token before, token; // the row's token and that of the row before it
    const float *logits;        // [n_vocab]
} gg_verified_row;

// One sequence that is about to draft. Everything observed so far precedes `root`.
typedef struct gg_draft {
    void *state;          // this proposer's state of the sequence
    gorgon_token root;    // decided token, not yet committed
    size_t root_position; // its position in the sequence
    const gorgon_sampling *sampling;
} gg_draft;

typedef struct gg_proposer gg_proposer;
struct gg_proposer {
    const char *name; // registry name: "heads", "lookup", ..
    size_t max_depth; // deepest node it can suggest (root's children have depth 1)
    const void *self; // owned by the proposer
    gorgon_engine *engine;
    const struct gg_proposer_ops *ops;
};

typedef struct gg_proposer_ops {
    // Per-sequence state, sized for `context` positions; no allocation happens after this.
    gorgon_status (*state_create)(const gg_proposer *p, size_t context, void **state,
                                  gorgon_error *err);
    void (*state_free)(const gg_proposer *p, void *state); // NULL is legal
    void (*state_reset)(const gg_proposer *p, void *state);
    void (*state_copy)(const gg_proposer *p, void *to, const void *from); // fork
    void (*observe)(const gg_proposer *p, void *state, const gg_observation *seen);
    // Rows that have logits, all of a step at once: nodes of trees, last rows of prompts. NULL: of
    // no use to this one.
    void (*learn)(gg_proposer *p, const gg_verified_row *rows, size_t n);
    // Start of a step: all work that can be batched over sequences (one product for all heads).
    void (*begin)(const gg_proposer *p, const gg_draft *drafts, size_t n_drafts);
    // Children of the given nodes of one sequence's tree, at most GG_MAX_CHILDREN per parent,
    // best first within a parent, no token twice within a parent. Returns the number of edges.
    size_t (*expand)(const gg_proposer *p, const gg_draft *draft, const gg_draft_tree *tree,
                     const uint32_t *parents, size_t n_parents, gg_edge *edges, size_t capacity);
    void (*free)(gg_proposer *p);
} gg_proposer_ops;

// Registry: name -> constructor. Files may be NULL for the proposers that do not need them. Adding
// a proposer is one file and one line in heads/registry.h.
typedef struct gg_proposer_config {
    gorgon_engine *engine;
    const gorgon_heads *heads;
    size_t set;           // which set of the heads file
    size_t max_sequences; // drafts per begin()
    const gorgon_datastore *datastore;
} gg_proposer_config;
gorgon_status gg_proposer_create(const char *name, const gg_proposer_config *config,
                                 gg_proposer **out, gorgon_error *err);
void gg_proposer_free(gg_proposer *p); // NULL is legal
// Registered names, NULL-terminated.
const char *const *gg_proposer_names(void);
// Whether the file that a registered proposer needs, if any, is there.
bool gg_proposer_has_file(const char *name, const gg_proposer_config *config);

#endif

// A set of Medusa heads packed for serving, with the workspace of a batch of drafts. The output
// matrix is shared by all heads, so that the logits of all heads and drafts are one product. Of a
// recurrent set the net is its one head: a run is one depth, for any number of nodes as "drafts".
#ifndef GG_HEADS_MEDUSA_NET_H
#define GG_HEADS_MEDUSA_NET_H

#include "core/engine.h"
#include "heads/head_set.h"

typedef struct gg_medusa_net {
    gorgon_engine *engine;
    const gg_head_set *set; // borrowed from the heads
    size_t cells;           // heads with weights of their own; n_heads below stands for them
    size_t max_drafts;      // per run
    size_t n_in;            // d, or 2 d with the root's embedding beside the hidden state
    size_t n_out;           // n_draft or n_vocab

    gg_matrix first;         // [n_heads * d, n_in] block 0 of all heads
    gg_matrix *later;        // [n_heads * (n_blocks - 1)] of [d, d]
    gg_matrix *own;          // [n_heads] of [n_out, d], NULL unless own_output
    gg_matrix gathered;      // [n_draft, d] the base's output rows of draft_ids
    const gg_matrix *output; // gathered or the base's, NULL with own_output

    float *ones;    // [d]
    float *input;   // [max_drafts][n_in]
    float *product; // [max_drafts][n_heads][d]
    float *z;       // [max_drafts][n_heads][d]
    float *state;   // [max_drafts][d] recurrent: what goes on to the next depth, else NULL
    float *logits;  // [max_drafts][n_heads][n_out]
} gg_medusa_net;

// Checks the heads against the engine's model and packs the set. max_drafts may be lowered to
// bound the workspace. The heads must outlive the net. On error there is nothing to clear.
gorgon_status gg_medusa_create(gorgon_engine *engine, const gorgon_heads *heads, size_t set,
                               size_t max_drafts, gg_medusa_net *net, gorgon_error *err);
void gg_medusa_clear(gg_medusa_net *net);

// Makes hidden[d_model] (or a state) and the token before the predicted ones the input of draft i.
void gg_medusa_input(const gg_medusa_net *net, size_t i, const float *hidden, gorgon_token root);
// Fills net->logits for drafts 0 .. n - 1. Does not allocate.
void gg_medusa_run(const gg_medusa_net *net, size_t n);

static inline uint32_t gg_medusa_token(const gg_medusa_net *net, size_t index)
{
    return net->set->draft_ids ? net->set->draft_ids[index] : (uint32_t)index;
}

#endif

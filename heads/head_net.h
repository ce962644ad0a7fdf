// A set of heads packed for serving, with the workspace of a batch. Heads that see no drafted token
// run all at once on a row: one product for all their first blocks, one for all logits. Those that
// do run depth by depth: a row is then a node of a draft tree.
#ifndef GG_HEADS_HEAD_NET_H
#define GG_HEADS_HEAD_NET_H

#include "head_layer.h"

typedef struct gg_head_net {
    gorgon_engine *engine;
    const gg_head_set *set; // borrowed from the heads
    size_t max_rows;        // per run
    size_t lanes;           // cells that a row runs through at once: all, or one depth's
    size_t n_in;            // width of an input row: x and the embeddings beside it
    size_t n_out;           // n_draft or n_vocab

    gg_matrix *first;        // block 0: [n_first] of [lanes * d, x and embeddings]
    gg_matrix *residual;     // [n_first] likewise, NULL without residual
    size_t n_first;          // 1, or one per depth where widths differ
    gg_matrix *later;        // [cells * (n_blocks - 1)] of [d, d]
    gg_matrix *own;          // [cells] of [n_out, d], NULL unless every head has its own output
    gg_matrix single;        // [n_out, d] the own output of all heads, or base's rows of draft_ids
    const gg_matrix *output; // single or the base's, NULL with `own`
    gg_matrix *down, *bias; // [cells] of [rank, d] and output . U, [n_out, rank]; NULL without rank

    gg_packed_layer layer; // of hydra++ and eagle

    float *ones;    // [d]
    float *zeros;   // [d]
    float *input;   // [max_rows][n_in]
    float *product; // [max_rows][lanes][d]
    float *z;       // [max_rows][lanes][d]
    float *mapped;  // [max_rows][lanes][d] residual . input, NULL without residual
    float *state;   // [max_rows][d] one cell: what goes on to the next depth, else NULL
    float *prefix;  // [max_rows][d] hydra++: outputs of the layer, else NULL
    float *logits;  // [max_rows][lanes][n_out]
} gg_head_net;

// Checks the heads against the engine's model and packs the set. max_rows may be lowered to bound
// the workspace, or raised for the sake of a decoder layer. The heads must outlive the net. On
// error there is nothing to clear.
gorgon_status gg_head_net_create(gorgon_engine *engine, const gorgon_heads *heads, size_t set,
                                 size_t max_rows, gg_head_net *net, gorgon_error *err);
// The same in two steps. The set is the heads' own, or one like it.
gorgon_status gg_head_net_check(const gorgon_engine *engine, const gorgon_heads *heads, size_t set,
                                const gg_head_set **out, gorgon_error *err);
gorgon_status gg_head_net_create_of(gorgon_engine *engine, const gg_head_set *set, size_t max_rows,
                                    gg_head_net *net, gorgon_error *err);
void gg_head_net_clear(gg_head_net *net);

// All heads but hydra's and recurrent ones, without what markov heads take from drafted tokens.
// Input of row i: hidden[d_model] and the root.
void gg_head_net_load(const gg_head_net *net, size_t i, const float *hidden, gorgon_token root);
// Fills net->logits, [n][n_heads][n_out]. Does not allocate.
void gg_head_net_run(const gg_head_net *net, size_t n);

// hydra++: the layer over hidden states of committed rows. Row i has a place in net->layer.rows,
// which the caller fills. To net->prefix go the outputs of the rows that want one, in order: what
// stands for the hidden state in gg_head_net_load_at.
void gg_head_net_load_prefix(const gg_head_net *net, size_t i, const float *hidden);
void gg_head_net_run_prefix(const gg_head_net *net, size_t n);

// Heads that see drafted tokens, at one depth. Input of row i: x, the hidden state or what the
// depth before left in net->state, and tokens[depth + 1], the root first; eagle's rows have a place
// in net->layer.rows as well.
void gg_head_net_load_at(const gg_head_net *net, size_t i, size_t depth, const float *x,
                         const gorgon_token *tokens);
// Fills net->logits, [n][n_out], and net->state; of eagle's rows only for those that want an
// output, in order; of markov heads only what the last token adds to the logits of gg_head_net_run.
// Does not allocate.
void gg_head_net_run_at(const gg_head_net *net, size_t depth, size_t n);

static inline uint32_t gg_head_net_token(const gg_head_net *net, size_t index)
{
    return net->set->draft_ids ? net->set->draft_ids[index] : (uint32_t)index;
}

#endif

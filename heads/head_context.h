// What heads know of a sequence: the last hidden state; those with a decoder layer also what it
// attends to: keys and values of the last `window` rows committed, the rows whose keys are still to
// be made, and the keys and values of the draft's nodes.
#ifndef GG_HEADS_HEAD_CONTEXT_H
#define GG_HEADS_HEAD_CONTEXT_H

#include "head_layer.h"
#include "heads/proposer.h"

typedef struct gg_head_context {
    const gg_head_shape *shape;
    size_t window;          // rows kept: the layer's, 1 without one
    size_t begin, end;      // positions of the rows observed in one run; equal: none
    size_t keyed;           // rows before it have their keys, or nobody will see them
    float *hidden;          // [window][d] of the row at position p at p % window
    gorgon_token *tokens;   // [window] likewise
    gg_layer_memory memory; // slots: likewise, node i of the draft at window + i
} gg_head_context;

// No allocation happens after this. gg_head_context_clear is due also after an error.
gorgon_status gg_head_context_create(const gorgon_engine *engine, const gg_head_shape *shape,
                                     size_t n_nodes, gg_head_context *c, gorgon_error *err);
void gg_head_context_clear(gg_head_context *c);
void gg_head_context_reset(gg_head_context *c);
void gg_head_context_copy(gg_head_context *to, const gg_head_context *from); // of the same shape
// A row without a hidden state, or a gap before one, ends what went before: the context begins
// anew after it.
void gg_head_context_observe(gg_head_context *c, const gg_observation *seen);

// Of the row at position p, one of the last `window`.
static inline const float *gg_head_context_hidden(const gg_head_context *c, size_t p)
{
    return c->hidden + p % c->window * c->shape->d_model;
}

static inline gorgon_token gg_head_context_token(const gg_head_context *c, size_t p)
{
    return c->tokens[p % c->window];
}

// What the draft follows, NULL: nothing was observed.
static inline const float *gg_head_context_last(const gg_head_context *c)
{
    return c->end > c->begin ? gg_head_context_hidden(c, c->end - 1) : NULL;
}

// Places the committed row at position p as row i of the layer's batch; without an output if only
// its key and value are wanted.
void gg_head_context_place_row(const gg_head_context *c, size_t p, bool output,
                               const gg_packed_layer *l, size_t i);
// Likewise the node at the end of path[depth + 1], node numbers from that of the root on. The
// root's node stands at the position of the last row, of which it is the input with the root.
void gg_head_context_place_node(const gg_head_context *c, const uint32_t *path, size_t depth,
                                const gg_packed_layer *l, size_t i);

#endif

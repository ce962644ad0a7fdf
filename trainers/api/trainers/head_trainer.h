// Heads of every kind with their gradients: logits = output . z with a frozen output, z as
// heads/head_set.h defines it. Heads that see drafted tokens are shown those that really came.
#ifndef GG_TRAINERS_HEAD_TRAINER_H
#define GG_TRAINERS_HEAD_TRAINER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/kernels.h"
#include "core/team.h"
#include "heads/head_set.h"

enum { GG_HEAD_TARGETS = 8, GG_HEAD_ABSENT = -1 };

// Where the parts of a set lie in the flat parameter vector; the gradient has the same layout.
// Each part is whole, and parts that differ in the head alone follow one another: matrices by role,
// block and head, then vectors likewise. An own output needs
// a draft vocabulary.
typedef struct gg_head_layout {
    size_t n;         // all parameters
    size_t n_weights; // matrices come first, vectors from here on
    size_t n_parts;
    gg_head_part parts[GG_MAX_HEAD_PARTS]; // in the order of gg_head_parts
    size_t at[GG_MAX_HEAD_PARTS];
} gg_head_layout;
void gg_head_layout_of(const gg_head_shape *shape, gg_head_layout *layout);
// Index of a part, which must exist; block is 0 where it means nothing.
size_t gg_head_layout_find(const gg_head_layout *layout, gg_head_role role, size_t head,
                           size_t block);

// Floats of an input row: the hidden state, then embedding / rms of as many tokens as the deepest
// head sees, the root first.
size_t gg_head_input(const gg_head_shape *shape);

// A decoder layer looks back, so positions are taken in pieces of neighbours, whose first rows have
// context rows before them. The longer a piece, the fewer context rows a batch needs and the fewer
// texts it sees. Other kinds take positions singly.
enum { GG_HEAD_PIECE = 8 };
size_t gg_head_piece(const gg_head_shape *shape);
// Floats of a context row: the hidden state, for a layer at every depth also the embedding / rms of
// the token after it. 0 without a layer.
size_t gg_head_context(const gg_head_shape *shape);
size_t gg_head_most_context(const gg_head_shape *shape, size_t rows); // context rows of a batch

// Fills in what is 0 and the kind has: n_heads, n_blocks, rank and the sizes of the decoder layer.
void gg_head_shape_complete(gg_head_shape *shape);
// Turns zeros[layout.n] into the parameters that training begins with. Most stay zero: every block
// is then the identity and each head the base's own guess, and the gradient does not vanish. What
// has a matrix of zeros behind it begins at random, in +-1/sqrt(its width).
// Own outputs begin as `output`, the base's rows [n_draft][d].
void gg_head_begin(const gg_head_shape *shape, const float *output, uint64_t seed,
                   float *parameters);

// What one head should predict at one position: cross-entropy against the distribution p over ids
// (indices into the output rows), times weight. n == 0: the pair is skipped.
typedef struct gg_head_target {
    uint32_t n;
    uint32_t ids[GG_HEAD_TARGETS];
    float p[GG_HEAD_TARGETS]; // sums to 1
    float weight;
    int32_t truth; // output row of the token that really came, or GG_HEAD_ABSENT
} gg_head_target;

// What is known of the positions directly before a row: they are the `rows` rows before it in the
// batch, and before those the context rows [end - context, end), context <= window.
typedef struct gg_head_past {
    uint32_t rows, context, end;
} gg_head_past;

// Results may be NULL where not wanted. A pair is (position, head), index position * n_heads +
// head.
typedef struct gg_head_batch {
    size_t rows;                   // positions, at most max_rows
    const float *input;            // [rows][gg_head_input]
    const gg_head_target *targets; // [rows * n_heads]
    // For a decoder layer; other kinds do not look.
    size_t context_rows;      // at most gg_head_most_context(shape, max_rows)
    const float *context;     // [context_rows][gg_head_context]
    const gg_head_past *past; // [rows]; NULL: nothing is known
    float *gradient;          // [layout.n], overwritten
    double *loss;             // [rows * n_heads] nats, unweighted, 0 for skipped pairs
    uint32_t *rank; // [rows * n_heads] of truth, 0 = first; UINT32_MAX when absent; ties: lower id
} gg_head_batch;

typedef struct gg_head_trainer gg_head_trainer;

// output is [n_out][d], borrowed. team and kernels are borrowed as well.
gorgon_status gg_head_trainer_create(gg_team *team, const gg_kernels *kernels,
                                     const gg_head_shape *shape, const float *output, size_t n_out,
                                     size_t max_rows, gg_head_trainer **out, gorgon_error *err);
void gg_head_trainer_free(gg_head_trainer *trainer); // NULL is legal

// Forward and, when a gradient is wanted, backward. Bit-equal for every number of threads.
gorgon_status gg_head_trainer_run(gg_head_trainer *trainer, const float *parameters,
                                  const gg_head_batch *batch, gorgon_error *err);

#endif

// Medusa heads (arXiv 2401.10774) with their gradients: block 0 z = x + silu(W x + R e + b), later
// blocks z' = z + silu(W z + b), logits = output . z with a frozen output. Recurrent heads (after
// ReDrafter, arXiv 2403.09919) are one such head used at every depth: what its block 0 gives is the
// x of the next depth, and e is the embedding of the token drafted before. See heads/head_set.h.
#ifndef GG_TRAINERS_MEDUSA_H
#define GG_TRAINERS_MEDUSA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/kernels.h"
#include "core/team.h"

enum { GG_MEDUSA_TARGETS = 8, GG_MEDUSA_ABSENT = -1 };

typedef struct gg_medusa_shape {
    size_t n_heads, n_blocks, d;
    size_t n_out; // rows of the output matrix: draft vocabulary or vocabulary
    bool root_embedding;
    bool recurrent; // n_heads depths share one head; needs root_embedding
} gg_medusa_shape;

// Heads that have weights of their own.
static inline size_t gg_medusa_cells(const gg_medusa_shape *shape)
{
    return shape->recurrent ? 1 : shape->n_heads;
}

// Where things lie in the flat parameter vector; the gradient has the same layout.
//   block 0:   weights [cells][d][first]: row o = W row o, then R row o with root_embedding
//   block j:   weights [cells][d][d]
//   then all biases, [n_blocks][cells][d]
typedef struct gg_medusa_layout {
    size_t first;     // width of block 0: d, or 2 d with root_embedding
    size_t input;     // width of an input row: the same, or (1 + n_heads) d if recurrent
    size_t n;         // all parameters
    size_t n_weights; // matrices come first, biases from here on
} gg_medusa_layout;
gg_medusa_layout gg_medusa_layout_of(const gg_medusa_shape *shape);
size_t gg_medusa_weight_at(const gg_medusa_shape *shape, size_t block, size_t head);
size_t gg_medusa_bias_at(const gg_medusa_shape *shape, size_t block, size_t head);

// What one head should predict at one position: cross-entropy against the distribution p over ids
// (indices into the output rows), times weight. n == 0: the pair is skipped.
typedef struct gg_medusa_target {
    uint32_t n;
    uint32_t ids[GG_MEDUSA_TARGETS];
    float p[GG_MEDUSA_TARGETS]; // sums to 1
    float weight;
    int32_t truth; // output row of the token that really came, or GG_MEDUSA_ABSENT
} gg_medusa_target;

// Results may be NULL where not wanted. A pair is (position, head), index position * n_heads +
// head.
typedef struct gg_medusa_batch {
    size_t rows;        // positions, at most max_rows
    const float *input; // [rows][layout.input]: hidden, then embedding / rms of the root and, if
                        // recurrent, of the tokens after it
    const gg_medusa_target *targets; // [rows * n_heads]
    float *gradient;                 // [layout.n], overwritten
    double *loss;                    // [rows * n_heads] nats, unweighted, 0 for skipped pairs
    uint32_t *rank; // [rows * n_heads] of truth, 0 = first; UINT32_MAX when absent; ties: lower id
} gg_medusa_batch;

typedef struct gg_medusa_trainer gg_medusa_trainer;

// output is [n_out][d], borrowed. team and kernels are borrowed as well.
gorgon_status gg_medusa_trainer_create(gg_team *team, const gg_kernels *kernels,
                                       const gg_medusa_shape *shape, const float *output,
                                       size_t max_rows, gg_medusa_trainer **out, gorgon_error *err);
void gg_medusa_trainer_free(gg_medusa_trainer *trainer); // NULL is legal

// Forward and, when a gradient is wanted, backward. Bit-equal for every number of threads.
gorgon_status gg_medusa_trainer_run(gg_medusa_trainer *trainer, const float *parameters,
                                    const gg_medusa_batch *batch, gorgon_error *err);

#endif

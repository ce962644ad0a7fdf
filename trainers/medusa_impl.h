// What Medusa and recurrent heads share in training: workspace, activation, logits and loss.
#ifndef GG_TRAINERS_MEDUSA_IMPL_H
#define GG_TRAINERS_MEDUSA_IMPL_H

#include "medusa_loss.h"
#include "trainers/blis.h"
#include "trainers/medusa.h"

struct gg_medusa_trainer {
    gg_team *team;
    const gg_kernels *kernels;
    gg_medusa_shape shape;
    gg_medusa_layout layout;
    const float *output; // [n_out][d]
    size_t max_rows, logit_rows;
    float **z;      // [n_blocks] of [max_rows][n_heads * d]: output of each block
    float **slope;  // [n_blocks] of the same: first W z + b, then silu'(W z + b)
    float *dz;      // [max_rows][n_heads * d]
    float *logits;  // [logit_rows][n_out]
    float *maxima;  // [threads][ceil(n_out / 64)]
    float *scratch; // [threads][2 * d]
};

// z = before + silu(a), slope = silu'(a) for one head at one position, a = slope + bias; all [d].
// scratch: [2 * d].
void gg_medusa_activate(const gg_kernels *kernels, size_t d, const float *restrict before,
                        const float *restrict bias, float *restrict slope, float *restrict z,
                        float *restrict scratch);
// Logits, loss and dz of all pairs, a block of rows at a time.
gorgon_status gg_medusa_run_logits(gg_medusa_trainer *m, const gg_medusa_batch *batch,
                                   gorgon_error *err);
// recurrent.c: gg_medusa_trainer_run for a recurrent shape; rows are checked.
gorgon_status gg_recurrent_run(gg_medusa_trainer *m, const float *parameters,
                               const gg_medusa_batch *batch, gorgon_error *err);

#endif

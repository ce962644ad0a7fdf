// Loss of a block of logits: softmax, cross-entropy, gradient, ranks; one pass per row.
#ifndef GG_TRAINERS_HEAD_LOSS_H
#define GG_TRAINERS_HEAD_LOSS_H

#include "trainers/head_trainer.h"

typedef struct gg_head_loss {
    const gg_kernels *kernels;
    size_t rows, n_out;
    size_t step; // row i is pair i * step of targets, loss and rank
    const gg_head_target *targets;
    float *logits; // [rows][n_out]; becomes the gradient when want_gradient
    bool want_gradient;
    double *loss;   // or NULL
    uint32_t *rank; // or NULL
    float *maxima;  // [threads][ceil(n_out / 64)] scratch
} gg_head_loss;

void gg_head_loss_run(gg_team *team, const gg_head_loss *loss);

#endif

// AdamW (Loshchilov and Hutter, arXiv 1711.05101) over one flat parameter vector, with a global
// gradient-norm clip and a cosine schedule. Bit-equal for every number of threads.
#ifndef GG_TRAINERS_ADAMW_H
#define GG_TRAINERS_ADAMW_H

#include <stddef.h>
#include <stdint.h>

#include "core/kernels.h"
#include "core/team.h"

typedef struct gg_adamw_options {
    double beta1, beta2, epsilon;
    double weight_decay; // decoupled; of the first n_decayed parameters only (matrices)
    double clip;         // greatest global gradient norm; 0 = no clip
    size_t n_decayed;
} gg_adamw_options;

// Parameters and moments, each [n]; gradient is only read.
typedef struct gg_adamw {
    size_t n;
    float *parameters, *first, *second;
    const float *gradient;
    double *partial; // [gg_adamw_partials(n)] scratch
} gg_adamw;

size_t gg_adamw_partials(size_t n);

// Update number `step` (the first is 1). Returns the gradient norm before the clip; when it is not
// finite nothing is updated.
double gg_adamw_step(gg_team *team, const gg_kernels *kernels, const gg_adamw_options *options,
                     const gg_adamw *state, uint64_t step, double learning_rate);

// Learning rate of update `step` (the first is 1) of `total`: linear up to `peak` over `warmup`
// updates, then half a cosine down to 0.
double gg_learning_rate(double peak, uint64_t warmup, uint64_t total, uint64_t step);

#endif

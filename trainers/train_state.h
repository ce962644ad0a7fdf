// Checkpoint of a training run: everything the next step depends on.
#ifndef GG_TRAINERS_TRAIN_STATE_H
#define GG_TRAINERS_TRAIN_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gorgon/status.h"

enum { GG_TRAIN_HISTORY = 16 };

// A point of the curve.
typedef struct gg_train_point {
    uint64_t step;
    double trained, held_out; // mean loss since the last point; on held-out positions; nats
    double accepted;          // gg_train_accepted on held-out positions
} gg_train_point;

typedef struct gg_train_state {
    uint64_t identity; // hash of the options and of the cache
    uint64_t step;     // steps done
    double loss_sum;   // of the steps since the last point
    uint64_t loss_steps;
    uint64_t best_step; // of the point that accepts most, the first of equals; 0: none yet
    double best_accepted;
    uint64_t n_history;
    gg_train_point history[GG_TRAIN_HISTORY];
    size_t n;                           // parameters
    float *parameters, *first, *second; // [n] weights and AdamW moments
    float *best;                        // [n] weights at best_step
} gg_train_state;

// Allocates the arrays for n parameters, all zero.
gorgon_status gg_train_state_create(size_t n, uint64_t identity, gg_train_state *state,
                                    gorgon_error *err);
void gg_train_state_clear(gg_train_state *state);

gorgon_status gg_train_state_save(const gg_train_state *state, const char *path, gorgon_error *err);
// *resumed stays false when there is no file, or the file belongs to a run with other options or
// another cache. A damaged file is an error.
gorgon_status gg_train_state_load(gg_train_state *state, const char *path, bool *resumed,
                                  gorgon_error *err);

#endif

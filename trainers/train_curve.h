// The curve of a training run as CSV, a row per step: step, learning_rate, loss; where the heads
// were evaluated also held_out_loss and top1_1, top1_2, ..., the share of held-out positions whose
// token head k ranks first. The file tells the same however often the run was stopped.
#ifndef GG_TRAINERS_TRAIN_CURVE_H
#define GG_TRAINERS_TRAIN_CURVE_H

#include "train_eval.h"

typedef struct gg_train_curve {
    const char *path; // borrowed; NULL = nothing is kept
    size_t n_heads;
    char *text; // all rows so far
    size_t n, capacity;
} gg_train_curve;

// Begins with the rows of the file at path that belong to the first `done` steps, if it is there
// and a curve of as many heads; any other file is refused rather than overwritten. path may be
// NULL. Clear the curve also after an error. Errors: IO, MEMORY, FORMAT.
gorgon_status gg_train_curve_open(const char *path, size_t n_heads, uint64_t done,
                                  gg_train_curve *curve, gorgon_error *err);
void gg_train_curve_clear(gg_train_curve *curve);

// scores: NULL where nothing was evaluated.
gorgon_status gg_train_curve_add(gg_train_curve *curve, uint64_t step, double learning_rate,
                                 double loss, const gg_train_scores *scores, gorgon_error *err);
gorgon_status gg_train_curve_save(const gg_train_curve *curve, gorgon_error *err);

#endif

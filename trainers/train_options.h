// Options of a training run, settled and checked.
#ifndef GG_TRAINERS_TRAIN_OPTIONS_H
#define GG_TRAINERS_TRAIN_OPTIONS_H

#include "gorgon/trainers.h"
#include "trainers/head_trainer.h"

typedef struct gg_train_plan {
    gorgon_train_options options; // the caller's, with the architecture's defaults filled in
    gg_head_shape shape;          // n_draft as wanted
    gg_dtype weight_type;
} gg_train_plan;

// Error: GORGON_ERROR_ARGUMENT.
gorgon_status gg_train_plan_make(const gorgon_train_options *wanted, const gorgon_model *model,
                                 gg_train_plan *plan, gorgon_error *err);

#endif

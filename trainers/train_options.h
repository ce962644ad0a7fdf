// Options of a training run, settled and checked.
#ifndef GG_TRAINERS_TRAIN_OPTIONS_H
#define GG_TRAINERS_TRAIN_OPTIONS_H

#include "gorgon/trainers.h"
#include "trainers/head_trainer.h"

// options: the caller's, with the architecture's defaults filled in. shape: of the heads, n_draft
// as wanted. Error: GORGON_ERROR_ARGUMENT.
gorgon_status gg_train_options_settle(const gorgon_train_options *wanted, size_t d_model,
                                      gorgon_train_options *options, gg_head_shape *shape,
                                      gg_dtype *weight_type, gorgon_error *err);

#endif

// Built-in weights of a calibration, for models without heads and heads files without a fit.
#ifndef GG_TREE_PRIORS_H
#define GG_TREE_PRIORS_H

#include "tree/calibration.h"

enum {
    GG_PRIORS = 3,
    GG_PRIOR_FLOATS = GG_SHARED + GG_PRIORS * GG_SAID + GG_PRIORS * (GG_PRIORS - 1) / 2 * GG_AGREED,
};
extern const char *const gg_prior_names[GG_PRIORS];
// [temperature class * depth class][shared, per name, their agreement]
extern const float gg_prior_weights[2 * GG_CALIBRATION_DEPTHS * GG_PRIOR_FLOATS];

#endif

// Calibration: from a proposer's score and evidence to the probability that an edge is accepted
// given that its parent is. A small logistic regression per proposer and temperature class, with
// an online correction. The weights travel in the heads file.
#ifndef GG_TREE_CALIBRATION_H
#define GG_TREE_CALIBRATION_H

#include "heads/proposer.h"

enum {
    GG_FEATURES = 10,          // inputs of the regression, see gg_edge_features
    GG_CALIBRATION_DEPTHS = 4, // weights per depth 1, 2, 3, 4 and deeper
    GG_CALIBRATION_VERSION = 1,
};

// Weights of one proposer: [temperature class: 0 greedy, 1 sampled][depth class][feature].
typedef struct gg_calibration_weights {
    float w[2][GG_CALIBRATION_DEPTHS][GG_FEATURES];
} gg_calibration_weights;

// Features of an edge: bias, clamped score, log1p(rank), evidence 0-3, log of the path
// probability, Gumbel noise of the token at its position (0 when greedy), depth.
void gg_edge_features(const gg_edge *edge, size_t depth, float parent_path, float noise,
                      float features[GG_FEATURES]);
float gg_calibrated(const gg_calibration_weights *weights, bool sampled, size_t depth,
                    const float features[GG_FEATURES]);

// Built-in weights of a proposer: hand-set priors, used when the heads file carries no fit. NULL if
// there are none; scores are then taken as log-odds.
const gg_calibration_weights *gg_calibration_builtin(const char *proposer);

// Serialised form for heads files: header, then per proposer its name hash and weights.
size_t gg_calibration_floats(size_t n_proposers);
void gg_calibration_pack(const char *const *names, const gg_calibration_weights *weights,
                         size_t n_proposers, float *out);
// False if the array is not one of these or does not know the proposer.
bool gg_calibration_unpack(const float *packed, size_t n, const char *proposer,
                           gg_calibration_weights *out);

// Weighted logistic fit (IRLS with a ridge term) of one weight vector. features: [n][GG_FEATURES].
void gg_calibration_fit(const float *features, const uint8_t *accepted, size_t n,
                        float weights[GG_FEATURES]);

#endif

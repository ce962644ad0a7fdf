// Edge features, calibrated probabilities, built-in priors and the packed form in heads files.
// The fit is in fit.c, the online correction in online.c.
#include "tree/calibration.h"

#include <assert.h>
#include <string.h>

#include "core/file.h"
#include "core/math.h"
#include "numeric.h"

enum {
    BIAS,
    SCORE,
    LOG_RANK,
    EVIDENCE,
    PATH = EVIDENCE + GG_EVIDENCE,
    NOISE,
    DEPTH,
    HEADER = 4,                                                 // floats
    PER_PROPOSER = 2 + 2 * GG_CALIBRATION_DEPTHS * GG_FEATURES, // floats
    PACKED_MAGIC = 0x67636c,
};
static_assert(DEPTH + 1 == GG_FEATURES, "feature list and GG_FEATURES differ");

static size_t depth_class(size_t depth)
{
    assert(depth >= 1);
    return depth < GG_CALIBRATION_DEPTHS ? depth - 1 : GG_CALIBRATION_DEPTHS - 1;
}

void gg_edge_features(const gg_edge *edge, size_t depth, float parent_path, float noise,
                      float features[GG_FEATURES])
{
    features[BIAS] = 1.0f;
    features[SCORE] = gg_num_clamp(edge->score, -16.0f, 8.0f);
    features[LOG_RANK] = (float)gg_log(1.0 + edge->rank);
    for (size_t i = 0; i < GG_EVIDENCE; i++)
        features[EVIDENCE + i] = gg_num_clamp(edge->evidence[i], -16.0f, 16.0f);
    features[PATH] = (float)gg_log((double)gg_num_clamp(parent_path, 1e-6f, 1.0f));
    features[NOISE] = gg_num_clamp(noise, -8.0f, 23.0f);
    features[DEPTH] = (float)(depth < 16 ? depth : 16) * 0.125f;
}

float gg_calibrated(const gg_calibration_weights *weights, bool sampled, size_t depth,
                    const float features[GG_FEATURES])
{
    const float *w = weights->w[sampled][depth_class(depth)];
    double sum = 0.0;
    for (size_t i = 0; i < GG_FEATURES; i++)
        sum += (double)w[i] * (double)features[i];
    return (float)gg_num_sigmoid(sum);
}

// Priors, set by hand, for heads files that carry no fit and for the first steps before the online
// correction has seen anything. Columns: bias, score, log rank, evidence 0-3, log path, noise,
// depth. Heads at temperature > 0 score their candidates with the noise already in it, so the rank
// tells more than the score; evidence 0 is log q without noise.
static const gg_calibration_weights heads_prior = {
    .w = {{{0.2f, 1.0f, -0.1f, 0, 0, 0, 0, 0.00f, 0, 0},
           {-0.1f, 1.0f, -0.2f, 0, 0, 0, 0, 0.10f, 0, 0},
           {-0.3f, 1.0f, -0.2f, 0, 0, 0, 0, 0.15f, 0, 0},
           {-0.4f, 1.0f, -0.2f, 0, 0, 0, 0, 0.20f, 0, -0.2f}},
          {{-0.2f, 0.6f, -0.6f, 0.3f, 0, 0, 0, 0.00f, 0, 0},
           {-0.5f, 0.6f, -0.6f, 0.3f, 0, 0, 0, 0.10f, 0, 0},
           {-0.7f, 0.6f, -0.6f, 0.3f, 0, 0, 0, 0.15f, 0, 0},
           {-0.8f, 0.6f, -0.6f, 0.3f, 0, 0, 0, 0.20f, 0, -0.2f}}},
};

// Lookup scores carry no noise. A token of probability p whose noise is g wins with probability
// exp(-(1 - p) / (p e^g)): about one unit of log-odds per unit of g.
static const gg_calibration_weights lookup_prior = {
    .w = {{{1.0f, 1.3f, -0.3f, 0, 0, 0, 0, 0, 0, 0},
           {1.1f, 1.3f, -0.3f, 0, 0, 0, 0, 0, 0, 0},
           {1.1f, 1.3f, -0.3f, 0, 0, 0, 0, 0, 0, 0},
           {1.2f, 1.3f, -0.3f, 0, 0, 0, 0, 0, 0, 0}},
          {{0.0f, 1.3f, -0.3f, 0, 0, 0, 0, 0, 1.0f, 0},
           {0.1f, 1.3f, -0.3f, 0, 0, 0, 0, 0, 1.0f, 0},
           {0.1f, 1.3f, -0.3f, 0, 0, 0, 0, 0, 1.0f, 0},
           {0.2f, 1.3f, -0.3f, 0, 0, 0, 0, 0, 1.0f, 0}}},
};

// Recycled tokens: the share among those kept, less sure the further down and the longer ago.
static const gg_calibration_weights recycling_prior = {
    .w = {{{-0.6f, 0.8f, -0.3f, 0, 0, 0.8f, -0.03f, 0, 0, 0},
           {-0.6f, 0.8f, -0.3f, 0, 0, 0.8f, -0.03f, 0, 0, 0},
           {-0.6f, 0.8f, -0.3f, 0, 0, 0.8f, -0.03f, 0, 0, 0},
           {-0.6f, 0.8f, -0.3f, 0, 0, 0.8f, -0.03f, 0, 0, 0}},
          {{-1.0f, 0.8f, -0.3f, 0, 0, 0.8f, -0.03f, 0, 1.0f, 0},
           {-1.0f, 0.8f, -0.3f, 0, 0, 0.8f, -0.03f, 0, 1.0f, 0},
           {-1.0f, 0.8f, -0.3f, 0, 0, 0.8f, -0.03f, 0, 1.0f, 0},
           {-1.0f, 0.8f, -0.3f, 0, 0, 0.8f, -0.03f, 0, 1.0f, 0}}},
};

// Shares in a datastore, near what a store of a model's own text gave on held-out conversations:
// shares of short matches are worth less than they say, those under a long match more.
static const gg_calibration_weights datastore_prior = {
    .w = {{{-2.2f, 0.8f, -0.2f, -0.3f, 0.1f, 1.3f, 0.7f, 0, 0, 0},
           {-2.2f, 0.8f, -0.2f, -0.3f, 0.1f, 1.3f, 0.7f, 0, 0, 0},
           {-2.2f, 0.8f, -0.2f, -0.3f, 0.1f, 1.3f, 0.7f, 0, 0, 0},
           {-2.2f, 0.8f, -0.2f, -0.3f, 0.1f, 1.3f, 0.7f, 0, 0, 0}},
          {{-2.8f, 0.65f, -0.2f, -0.3f, 0.1f, 1.3f, 0.7f, 0, 0.45f, 0},
           {-2.8f, 0.65f, -0.2f, -0.3f, 0.1f, 1.3f, 0.7f, 0, 0.45f, 0},
           {-2.8f, 0.65f, -0.2f, -0.3f, 0.1f, 1.3f, 0.7f, 0, 0.45f, 0},
           {-2.8f, 0.65f, -0.2f, -0.3f, 0.1f, 1.3f, 0.7f, 0, 0.45f, 0}}},
};

const gg_calibration_weights *gg_calibration_builtin(const char *proposer)
{
    if (strcmp(proposer, "heads") == 0)
        return &heads_prior;
    if (strcmp(proposer, "lookup") == 0)
        return &lookup_prior;
    if (strcmp(proposer, "recycling") == 0)
        return &recycling_prior;
    if (strcmp(proposer, "datastore") == 0)
        return &datastore_prior;
    return NULL;
}

static uint64_t name_hash(const char *name)
{
    return gg_hash(name, strlen(name), GG_CALIBRATION_VERSION);
}

size_t gg_calibration_floats(size_t n_proposers)
{
    return HEADER + n_proposers * PER_PROPOSER;
}

// Integers up to 2^24 are exact in a float.
void gg_calibration_pack(const char *const *names, const gg_calibration_weights *weights,
                         size_t n_proposers, float *out)
{
    *out++ = (float)PACKED_MAGIC;
    *out++ = (float)GG_CALIBRATION_VERSION;
    *out++ = (float)n_proposers;
    *out++ = (float)GG_FEATURES;
    for (size_t i = 0; i < n_proposers; i++) {
        uint64_t hash = name_hash(names[i]);
        *out++ = (float)(hash & 0xffffff);
        *out++ = (float)(hash >> 24 & 0xffffff);
        memcpy(out, weights[i].w, sizeof weights[i].w);
        out += PER_PROPOSER - 2;
    }
}

static bool weights_finite(const gg_calibration_weights *weights)
{
    const float *w = &weights->w[0][0][0];
    for (size_t i = 0; i < sizeof weights->w / sizeof *w; i++) {
        if (!(w[i] > -1e6f && w[i] < 1e6f))
            return false;
    }
    return true;
}

bool gg_calibration_unpack(const float *packed, size_t n, const char *proposer,
                           gg_calibration_weights *out)
{
    if (!packed || n < HEADER || packed[0] != (float)PACKED_MAGIC ||
        packed[1] != (float)GG_CALIBRATION_VERSION || packed[3] != (float)GG_FEATURES)
        return false;
    size_t count = (n - HEADER) / PER_PROPOSER;
    if (packed[2] != (float)count || n != gg_calibration_floats(count))
        return false;
    uint64_t hash = name_hash(proposer);
    for (size_t i = 0; i < count; i++) {
        const float *p = packed + HEADER + i * PER_PROPOSER;
        if (p[0] != (float)(hash & 0xffffff) || p[1] != (float)(hash >> 24 & 0xffffff))
            continue;
        memcpy(out->w, p + 2, sizeof out->w);
        return weights_finite(out);
    }
    return false;
}

// Online correction of calibrated probabilities: expected against observed acceptance in buckets,
// per depth class, forgetting slowly.
// The corrected curve of a depth class never falls: a better edge stays the better edge.
#ifndef GG_TREE_ONLINE_H
#define GG_TREE_ONLINE_H

#include <stdbool.h>

#include "tree/calibration.h"

enum { GG_ONLINE_BUCKETS = 8 };

typedef struct gg_online_class {
    float expected[GG_ONLINE_BUCKETS]; // decayed sum of probabilities
    float observed[GG_ONLINE_BUCKETS]; // decayed sum of outcomes
    float value[GG_ONLINE_BUCKETS];    // corrected probability at each bucket's centre
} gg_online_class;

typedef struct gg_online {
    gg_online_class depth[GG_CALIBRATION_DEPTHS];
} gg_online;

void gg_online_init(gg_online *online); // the identity
float gg_online_correct(const gg_online *online, size_t depth, float p);
// p as it was before the correction.
void gg_online_observe(gg_online *online, size_t depth, float p, bool accepted);

#endif

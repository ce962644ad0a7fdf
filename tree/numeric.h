// Small helpers of drafting decisions. Nothing here touches the target's own numbers.
#ifndef GG_TREE_NUMERIC_H
#define GG_TREE_NUMERIC_H

double gg_num_sigmoid(double x); // 1 / (1 + exp(-x))
// x clamped to [low, high]; NaN gives low.
float gg_num_clamp(float x, float low, float high);

#endif

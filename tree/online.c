// See online.h.
#include "online.h"

#include <string.h>

enum { B = GG_ONLINE_BUCKETS };

// Upper ends and centres of the buckets.
static const float upper[B] = {0.02f, 0.05f, 0.1f, 0.2f, 0.35f, 0.55f, 0.8f, 1.0f};
static const float centre[B] = {0.01f, 0.032f, 0.07f, 0.14f, 0.27f, 0.45f, 0.67f, 0.9f};
static const float prior = 3.0f;             // accepted edges as expected, believed beforehand
static const float keep = 1.0f - 1.0f / 512; // per observation in a bucket
static const float ceiling = 0.98f;

static size_t bucket_of(float p)
{
    size_t b = 0;
    while (b + 1 < B && p > upper[b])
        b++;
    return b;
}

void gg_online_init(gg_online *online)
{
    memset(online, 0, sizeof *online);
    for (size_t d = 0; d < GG_CALIBRATION_DEPTHS; d++)
        memcpy(online->depth[d].value, centre, sizeof centre);
}

// Straight lines through (0, 0), the centres and (1, end).
float gg_online_correct(const gg_online *online, size_t depth, float p)
{
    const float *value = online->depth[gg_depth_class(depth)].value;
    size_t b = 0;
    while (b < B && p > centre[b])
        b++;
    float x0 = b == 0 ? 0.0f : centre[b - 1];
    float y0 = b == 0 ? 0.0f : value[b - 1];
    float end = value[B - 1] / centre[B - 1];
    float x1 = b == B ? 1.0f : centre[b];
    float y1 = b == B ? (end < 1.0f ? end : 1.0f) : value[b];
    float y = y0 + (y1 - y0) * (p - x0) / (x1 - x0);
    return y < 1.0f ? y : 1.0f;
}

// Pools neighbours that would make the curve fall (pool adjacent violators).
static void make_monotone(float value[B], const float weight[B])
{
    float sum[B], mass[B];
    size_t width[B], n = 0;
    for (size_t b = 0; b < B; b++) {
        sum[n] = value[b] * weight[b];
        mass[n] = weight[b];
        width[n++] = 1;
        while (n > 1 && sum[n - 2] * mass[n - 1] > sum[n - 1] * mass[n - 2]) {
            sum[n - 2] += sum[n - 1];
            mass[n - 2] += mass[n - 1];
            width[n - 2] += width[n - 1];
            n--;
        }
    }
    for (size_t pool = 0, b = 0; pool < n; pool++) {
        for (size_t i = 0; i < width[pool]; i++)
            value[b++] = sum[pool] / mass[pool];
    }
}

static void rebuild(gg_online_class *c)
{
    float weight[B];
    for (size_t b = 0; b < B; b++) {
        float ratio = (c->observed[b] + prior) / (c->expected[b] + prior);
        float value = centre[b] * ratio;
        c->value[b] = value < ceiling ? value : ceiling;
        weight[b] = (c->expected[b] + prior) / centre[b]; // about the number of observations
    }
    make_monotone(c->value, weight);
}

void gg_online_observe(gg_online *online, size_t depth, float p, bool accepted)
{
    gg_online_class *c = &online->depth[gg_depth_class(depth)];
    size_t b = bucket_of(p);
    c->expected[b] = keep * c->expected[b] + p;
    c->observed[b] = keep * c->observed[b] + (accepted ? 1.0f : 0.0f);
    rebuild(c);
}

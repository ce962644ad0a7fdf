// Edge features, the logistic fit, the packed form, and the online correction.
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/sampling.h"
#include "online.h"

Test(calibration, features)
{
    gg_edge edge = {.token = 3, .score = -2.0f, .rank = 3, .evidence = {1, 2, 3, 4}};
    float f[GG_FEATURES];
    gg_edge_features(&edge, 2, 0.5f, 1.25f, f);
    const float expected[GG_FEATURES] = {1, -2, logf(4.0f), 1, 2, 3, 4, logf(0.5f), 1.25f, 0.25f};
    for (size_t i = 0; i < GG_FEATURES; i++)
        cr_assert_float_eq(f[i], expected[i], 1e-6f, "feature %zu", i);
}

Test(calibration, wild_scores_are_clamped)
{
    const float wild[] = {NAN, INFINITY, -INFINITY, 1e30f};
    for (size_t i = 0; i < 4; i++) {
        gg_edge edge = {.score = wild[i], .evidence = {wild[i], 0, 0, 0}};
        float f[GG_FEATURES];
        gg_edge_features(&edge, 1, 0.0f, wild[i], f);
        const gg_calibration_weights *w = gg_calibration_builtin("heads");
        float p = gg_calibrated(w, true, 1, f);
        cr_assert(p >= 0.0f && p <= 1.0f);
    }
}

Test(calibration, builtin_is_monotone_in_the_score)
{
    const char *names[] = {"heads", "lookup"};
    cr_assert_null(gg_calibration_builtin("nobody"));
    for (size_t i = 0; i < 2; i++) {
        const gg_calibration_weights *w = gg_calibration_builtin(names[i]);
        for (size_t depth = 1; depth < 8; depth++) {
            float last = 0.0f;
            for (float score = -10.0f; score <= 0.0f; score += 0.5f) {
                gg_edge edge = {.score = score};
                float f[GG_FEATURES];
                gg_edge_features(&edge, depth, 0.7f, 0.0f, f);
                float p = gg_calibrated(w, false, depth, f);
                cr_assert(p > last && p < 1.0f);
                last = p;
            }
        }
    }
}

enum { N = 20000 };

// Draws features and outcomes of a known model.
static void draw_samples(const double *w, float *features, uint8_t *accepted, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float *f = features + i * GG_FEATURES;
        double z = w[0];
        f[0] = 1.0f;
        for (size_t k = 1; k < GG_FEATURES; k++) {
            f[k] = (float)(4.0 * gg_random_uniform(1, i, k, 0) - 2.0);
            z += w[k] * (double)f[k];
        }
        accepted[i] = gg_random_uniform(1, i, 99, 0) < 1.0 / (1.0 + exp(-z));
    }
}

Test(fit, recovers_known_weights)
{
    const double truth[GG_FEATURES] = {-0.5, 1.2, -0.7, 0.4, 0.0, 0.9, -0.3, 0.6, 1.0, -0.2};
    float *features = calloc(N, sizeof(float[GG_FEATURES]));
    uint8_t *accepted = calloc(N, 1);
    draw_samples(truth, features, accepted, N);
    float w[GG_FEATURES];
    gg_calibration_fit(features, accepted, N, w);
    for (size_t k = 0; k < GG_FEATURES; k++)
        cr_assert_float_eq(w[k], truth[k], 0.1, "weight %zu is %g", k, (double)w[k]);
    free(features);
    free(accepted);
}

Test(fit, score_weight_never_turns_negative)
{
    const double truth[GG_FEATURES] = {0.3, -1.0, 0.5, 0, 0, 0, 0, 0, 0, 0};
    float *features = calloc(N, sizeof(float[GG_FEATURES]));
    uint8_t *accepted = calloc(N, 1);
    draw_samples(truth, features, accepted, N);
    float w[GG_FEATURES];
    gg_calibration_fit(features, accepted, N, w);
    cr_assert_eq(w[1], 0.0f);
    cr_assert_float_eq(w[2], 0.45, 0.15);
    free(features);
    free(accepted);
}

Test(fit, degenerate_data)
{
    float features[8][GG_FEATURES] = {{0}}, w[GG_FEATURES];
    uint8_t accepted[8] = {0};
    for (size_t i = 0; i < 8; i++)
        features[i][0] = features[i][9] = 1.0f; // collinear
    gg_calibration_fit(&features[0][0], accepted, 0, w);
    cr_assert_eq(w[0], 0.0f);
    gg_calibration_fit(&features[0][0], accepted, 8, w); // nothing was ever accepted
    for (size_t k = 0; k < GG_FEATURES; k++)
        cr_assert(isfinite(w[k]));
    cr_assert_lt(w[0] + w[9], -2.0f);
}

Test(pack, round_trip)
{
    const char *names[] = {"heads", "lookup"};
    gg_calibration_weights in[2], out;
    float *values[] = {&in[0].w[0][0][0], &in[1].w[0][0][0]};
    for (size_t i = 0; i < sizeof in[0].w / sizeof(float); i++) {
        values[0][i] = (float)i;
        values[1][i] = -(float)i * 0.25f;
    }
    size_t n = gg_calibration_floats(2);
    float *packed = calloc(n, sizeof *packed);
    gg_calibration_pack(names, in, 2, packed);
    cr_assert(gg_calibration_unpack(packed, n, "lookup", &out));
    cr_assert_eq(memcmp(&out, &in[1], sizeof out), 0);
    cr_assert(gg_calibration_unpack(packed, n, "heads", &out));
    cr_assert_eq(memcmp(&out, &in[0], sizeof out), 0);
    cr_assert_not(gg_calibration_unpack(packed, n, "other", &out));
    for (size_t cut = 0; cut < n; cut++)
        cr_assert_not(gg_calibration_unpack(packed, cut, "heads", &out));
    packed[7] = NAN;
    cr_assert_not(gg_calibration_unpack(packed, n, "heads", &out));
    packed[7] = 0;
    packed[1] = 2; // another version
    cr_assert_not(gg_calibration_unpack(packed, n, "lookup", &out));
    cr_assert_not(gg_calibration_unpack(NULL, 0, "heads", &out));
    free(packed);
}

Test(online, begins_as_identity)
{
    gg_online online;
    gg_online_init(&online);
    for (float p = 0.0f; p <= 1.0f; p += 0.01f)
        cr_assert_float_eq(gg_online_correct(&online, 1, p), p, 1e-5f);
}

Test(online, learns_the_truth_and_stays_monotone)
{
    gg_online online;
    gg_online_init(&online);
    for (size_t i = 0; i < 20000; i++) { // the truth is half of what is claimed
        float p = (float)gg_random_uniform(2, i, 0, 0);
        gg_online_observe(&online, 2, p, gg_random_uniform(2, i, 1, 0) < 0.5 * (double)p);
    }
    float last = -1.0f;
    for (float p = 0.0f; p <= 1.0f; p += 0.01f) {
        float q = gg_online_correct(&online, 2, p);
        cr_assert_float_eq(q, 0.5f * p, 0.08f, "%g -> %g", (double)p, (double)q);
        cr_assert(q >= last && q <= 1.0f);
        last = q;
    }
    cr_assert_float_eq(gg_online_correct(&online, 1, 0.4f), 0.4f, 1e-5f, "another depth class");
    cr_assert_float_eq(gg_online_correct(&online, 3, 0.4f), 0.4f, 1e-5f);
}

Test(online, contradictory_buckets_are_pooled)
{
    gg_online online;
    gg_online_init(&online);
    for (size_t i = 0; i < 400; i++) { // high claims never come true, middling ones always do
        gg_online_observe(&online, 1, 0.9f, false);
        gg_online_observe(&online, 1, 0.3f, true);
    }
    float last = -1.0f;
    for (float p = 0.0f; p <= 1.0f; p += 0.01f) {
        float q = gg_online_correct(&online, 1, p);
        cr_assert(q >= last);
        last = q;
    }
}

Test(online, deep_nodes_share_a_class)
{
    gg_online online;
    gg_online_init(&online);
    for (size_t i = 0; i < 200; i++)
        gg_online_observe(&online, 20, 0.5f, false);
    cr_assert_lt(gg_online_correct(&online, 4, 0.5f), 0.3f);
    cr_assert_float_eq(gg_online_correct(&online, 3, 0.5f), 0.5f, 1e-5f);
}

// Sampling: the generator's published vectors, equality with a plain full scan, equality over CPU
// levels, and the distribution of the draws. Seeds are fixed: a pass is a pass for ever.
#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/kernels.h"
#include "core/sampling.h"

enum { MAX_VOCAB = 3000, DRAWS = 200000 };

typedef struct entry {
    uint32_t id;
    float logit;
    double p;
} entry;

// Test input comes from its own small generator (splitmix64).
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static double next_unit(uint64_t *state)
{
    return (double)(next_random(state) >> 11) * 0x1p-53;
}

static int by_rank(const void *left, const void *right)
{
    const entry *a = left, *b = right;
    if (a->logit != b->logit)
        return a->logit > b->logit ? -1 : 1;
    return a->id < b->id ? -1 : 1;
}

// The allowed set by the plain rule: sort, cut at k, at the mass, at the ratio. Probabilities come
// from exp_shift when kernels is given (equality tests), else from libm (distribution tests).
static size_t reference_set(const gg_kernels *kernels, const gorgon_sampling *s,
                            const float *logits, size_t n, entry *set)
{
    for (size_t i = 0; i < n; i++)
        set[i] = (entry){.id = (uint32_t)i, .logit = logits[i]};
    qsort(set, n, sizeof *set, by_rank);
    if (s->top_k && s->top_k < n)
        n = s->top_k;
    double total = 0.0;
    for (size_t i = 0; i < n; i++) {
        float y = (set[i].logit - set[0].logit) / s->temperature, p = 0.0f;
        if (kernels)
            kernels->exp_shift(&y, 1, 0.0f, &p);
        set[i].p =
            kernels ? (double)p
                    : exp(((double)set[i].logit - (double)set[0].logit) / (double)s->temperature);
        total += set[i].p;
    }
    if (s->top_p < 1.0f) {
        double mass = 0.0;
        size_t kept = 0;
        while (kept < n && mass < (double)s->top_p * total)
            mass += set[kept++].p;
        n = kept;
    }
    while (n > 1 && set[n - 1].p < (double)s->min_p * set[0].p)
        n--;
    return n;
}

static uint32_t reference_sample(const gg_kernels *kernels, const gorgon_sampling *s,
                                 uint64_t position, const float *logits, size_t n, entry *set)
{
    size_t kept = reference_set(kernels, s, logits, n, set);
    if (s->temperature == 0.0f)
        return set[0].id;
    double best = -HUGE_VAL;
    uint32_t id = 0;
    for (size_t i = 0; i < kept; i++) {
        double value = (double)set[i].logit / (double)s->temperature +
                       (double)gg_gumbel(s, position, set[i].id);
        if (value > best || (value == best && set[i].id < id)) {
            best = value;
            id = set[i].id;
        }
    }
    return id;
}

static void *scratch_for(size_t n_vocab)
{
    void *scratch = gg_alloc(gg_sample_scratch(n_vocab), 1);
    cr_assert_not_null(scratch);
    return scratch;
}

Test(sampling, philox_published_vectors)
{
    // Random123's kat_vectors for philox4x32, 10 rounds: the first two of the four output words.
    cr_assert_eq(gg_random_bits(0, 0, 0, 0), UINT64_C(0xe169c58d6627e8d5));
    cr_assert_eq(gg_random_bits(UINT64_C(0x299f31d0a4093822), UINT64_C(0x0370734413198a2e),
                                0x85a308d3, 0x243f6a88),
                 UINT64_C(0x94fdccebd16cfe09));
    cr_assert_eq(gg_random_bits(UINT64_MAX, UINT64_MAX, UINT32_MAX, UINT32_MAX),
                 UINT64_C(0x41c83b0e408f276d));
}

Test(sampling, every_counter_bit_matters)
{
    uint64_t base = gg_random_bits(7, 8, 9, 10);
    for (int bit = 0; bit < 64; bit++) {
        uint64_t flip = UINT64_C(1) << bit;
        cr_assert_neq(gg_random_bits(7 ^ flip, 8, 9, 10), base);
        cr_assert_neq(gg_random_bits(7, 8 ^ flip, 9, 10), base);
        cr_assert_neq(gg_random_bits(7, 8, 9 ^ flip, 10), base);
        cr_assert_neq(gg_random_bits(7, 8, 9, 10 ^ flip), base);
    }
}

Test(sampling, uniform_is_open_and_even)
{
    double sum = 0.0, square = 0.0;
    for (uint64_t i = 0; i < DRAWS; i++) {
        double u = gg_random_uniform(3, 1, 4, i);
        cr_assert(u > 0.0 && u < 1.0);
        sum += u;
        square += u * u;
    }
    cr_assert_float_eq(sum / DRAWS, 0.5, 0.002);
    cr_assert_float_eq(square / DRAWS, 1.0 / 3.0, 0.002);
}

Test(sampling, gumbel_is_pinned)
{
    // Text drawn under a seed is part of the interface: these values must never change.
    static const struct {
        uint64_t seed, completion, position;
        uint32_t id;
        float value;
    } pinned[] = {
        {UINT64_C(0), UINT64_C(0), UINT64_C(0), 0, 0x1.fe2224p-2f},
        {UINT64_C(1), UINT64_C(0), UINT64_C(17), 3, 0x1.5f11f6p+1f},
        {UINT64_C(42), UINT64_C(3), UINT64_C(511), 49151, -0x1.8678bep-4f},
        {UINT64_C(18446744073709551615), UINT64_C(1099511627783), UINT64_C(1048575), 262143,
         0x1.b0d7ep+0f},
        {UINT64_C(12345678901), UINT64_C(1), UINT64_C(8589934597), 1000, -0x1.3315cp-2f},
    };
    for (size_t i = 0; i < sizeof pinned / sizeof pinned[0]; i++) {
        gorgon_sampling s = {.seed = pinned[i].seed, .completion = pinned[i].completion};
        float value = gg_gumbel(&s, pinned[i].position, pinned[i].id);
        cr_assert_eq(value, pinned[i].value, "case %zu: %a", i, (double)value);
    }
}

Test(sampling, options_are_checked)
{
    gorgon_sampling good, bad;
    gorgon_sampling_init(&good);
    cr_assert_eq(good.temperature, 0.0f);
    cr_assert_eq(good.top_p, 1.0f);
    cr_assert_eq(gg_sampling_check(&good, NULL), GORGON_OK);
    static const float wrong[] = {-0.5f, NAN, INFINITY};
    for (size_t i = 0; i < 3; i++) {
        for (int field = 0; field < 3; field++) {
            static const char *const names[] = {"temperature", "top_p", "min_p"};
            gorgon_error err = {0};
            bad = good;
            float *const fields[] = {&bad.temperature, &bad.top_p, &bad.min_p};
            *fields[field] = wrong[i];
            cr_assert_eq(gg_sampling_check(&bad, &err), GORGON_ERROR_ARGUMENT);
            cr_assert_not_null(strstr(err.message, names[field]), "%s", err.message);
        }
    }
    bad = good;
    bad.top_p = 0.0f;
    cr_assert_eq(gg_sampling_check(&bad, NULL), GORGON_ERROR_ARGUMENT);
    bad = good;
    bad.min_p = 1.5f;
    cr_assert_eq(gg_sampling_check(&bad, NULL), GORGON_ERROR_ARGUMENT);
}

Test(sampling, quick_refusal_is_never_wrong)
{
    gorgon_sampling s = {.seed = 8, .completion = 1};
    size_t refused = 0;
    for (uint32_t i = 0; i < DRAWS; i++) {
        double bound = (double)(i % 240) / 10.0 - 1.0;
        float expected = gg_gumbel(&s, 9, i), got = -1.0f;
        if (gg_gumbel_at_least(&s, 9, i, bound, &got)) {
            cr_assert_eq(got, expected);
        } else {
            cr_assert_lt((double)expected, bound);
            refused++;
        }
    }
    cr_assert_gt(refused, DRAWS / 2, "only %zu refused", refused);
}

// Random logits of varied width, on a coarse grid half of the time so that ties abound.
static void random_logits(uint64_t *state, float *logits, size_t n)
{
    double width = 0.5 + 30.0 * next_unit(state);
    int coarse = (int)(next_random(state) % 2);
    for (size_t i = 0; i < n; i++) {
        double x = width * (next_unit(state) + next_unit(state) + next_unit(state) - 1.5);
        logits[i] = (float)(coarse ? floor(x * 2.0) / 2.0 : x);
    }
}

static gorgon_sampling random_settings(uint64_t *state, size_t n)
{
    static const float temperatures[] = {0.0f, 0.05f, 0.5f, 0.8f, 1.0f, 1.3f, 4.0f, 60.0f};
    gorgon_sampling s;
    gorgon_sampling_init(&s);
    s.temperature = temperatures[next_random(state) % 8];
    s.seed = next_random(state);
    s.completion = next_random(state) % 5;
    uint64_t cuts = next_random(state);
    if (cuts & 1)
        s.top_k = 1 + (uint32_t)(next_random(state) % (n + 3));
    if (cuts & 2)
        s.top_p = (float)(1.0 - 0.999 * next_unit(state) * next_unit(state));
    if (cuts & 4)
        s.min_p = (float)(next_unit(state) * next_unit(state) * next_unit(state));
    return s;
}

Test(sampling, equals_the_full_scan_at_every_level)
{
    static float logits[MAX_VOCAB];
    static entry set[MAX_VOCAB];
    uint64_t state = 20;
    const gg_kernels *scalar = gg_kernels_get(GG_LEVEL_SCALAR);
    for (int round = 0; round < 1500; round++) {
        size_t n = 1 + next_random(&state) % (round % 3 == 0 ? MAX_VOCAB : 150);
        random_logits(&state, logits, n);
        if (round % 5 == 0)
            logits[next_random(&state) % n] = -INFINITY;
        gorgon_sampling s = random_settings(&state, n);
        uint64_t position = next_random(&state) % 100000;
        uint32_t expected = reference_sample(scalar, &s, position, logits, n, set);
        void *scratch = scratch_for(n); // exact size: the sanitizer sees an overrun
        for (int level = 0; level < GG_LEVEL_COUNT; level++) {
            const gg_kernels *kernels = gg_kernels_get((gg_level)level);
            if (!kernels)
                continue;
            uint32_t got = gg_sample(kernels, &s, position, logits, n, scratch);
            cr_assert_eq(got, expected,
                         "round %d, %s: %u, expected %u (n %zu, T %g, k %u, p %g, min %g)", round,
                         kernels->name, got, expected, n, (double)s.temperature, s.top_k,
                         (double)s.top_p, (double)s.min_p);
        }
        gg_free(scratch);
    }
}

Test(sampling, hostile_logits_stay_in_range)
{
    static float logits[200];
    static const float fills[] = {NAN, INFINITY, -INFINITY, 3.0e38f, -3.0e38f};
    const gg_kernels *kernels = gg_kernels_get(gg_cpu_level());
    void *scratch = scratch_for(200);
    uint64_t state = 4;
    for (int round = 0; round < 400; round++) {
        random_logits(&state, logits, 200);
        for (int i = 0; i < 40; i++)
            logits[next_random(&state) % 200] = fills[next_random(&state) % 5];
        gorgon_sampling s = random_settings(&state, 200);
        if (round % 4 == 0 && s.temperature > 0.0f)
            s.temperature = 1e-42f;
        cr_assert_lt(gg_sample(kernels, &s, 1, logits, 200, scratch), 200);
    }
    gg_free(scratch);
}

Test(sampling, does_not_allocate)
{
    static float logits[500];
    uint64_t state = 9;
    random_logits(&state, logits, 500);
    void *scratch = scratch_for(500);
    const gg_kernels *kernels = gg_kernels_get(gg_cpu_level());
    gg_alloc_fail_at(0);
    for (int i = 0; i < 50; i++) {
        gorgon_sampling s = random_settings(&state, 500);
        gg_sample(kernels, &s, 3, logits, 500, scratch);
    }
    cr_assert_eq(gg_alloc_fail_at(0), 0);
    gg_free(scratch);
}

// The 0.999 quantile of chi-square (Wilson and Hilferty; within 1 % for df >= 3).
static double chi_square_limit(double df)
{
    double a = 2.0 / (9.0 * df), root = 1.0 - a + 3.0902 * sqrt(a);
    return df * root * root * root;
}

// G-test of counts by rank against p (not normalised); bins are pooled until 5 are expected.
static void check_distribution(const char *what, const entry *set, size_t n, const double *counts,
                               double draws)
{
    double total = 0.0, g = 0.0, observed = 0.0, expected = 0.0, seen = 0.0;
    size_t bins = 0;
    for (size_t i = 0; i < n; i++)
        total += set[i].p;
    double rest = draws; // expected in the bins still to come
    for (size_t i = 0; i < n; i++) {
        double e = draws * set[i].p / total;
        observed += counts[set[i].id];
        seen += counts[set[i].id];
        expected += e;
        rest -= e;
        if ((expected < 5.0 || rest < 5.0) && i + 1 < n)
            continue;
        if (observed > 0.0)
            g += 2.0 * observed * log(observed / expected);
        observed = expected = 0.0;
        bins++;
    }
    cr_assert_eq(seen, draws, "%s: %g draws outside the allowed set", what, draws - seen);
    cr_assert_gt(bins, 3, "%s: the setting tests nothing", what);
    double limit = chi_square_limit((double)bins - 1.0);
    cr_assert_lt(g, limit, "%s: G %.1f over %zu bins, limit %.1f", what, g, bins, limit);
}

Test(sampling, draws_follow_the_softmax, .timeout = 600)
{
    enum { N = 150 };
    static const struct {
        const char *what;
        gorgon_sampling s;
    } settings[] = {
        {"T 0.8", {.temperature = 0.8f, .top_p = 1.0f, .seed = 1}},
        {"T 1.3", {.temperature = 1.3f, .top_p = 1.0f, .seed = 2}},
        {"top-k 25", {.temperature = 1.0f, .top_k = 25, .top_p = 1.0f, .seed = 3}},
        {"top-p 0.9", {.temperature = 0.8f, .top_p = 0.9f, .seed = 4}},
        {"min-p 0.05", {.temperature = 1.3f, .top_p = 1.0f, .min_p = 0.05f, .seed = 5}},
        {"all", {.temperature = 1.3f, .top_k = 60, .top_p = 0.8f, .min_p = 0.02f, .seed = 6}},
    };
    static float logits[N];
    static entry set[N];
    const gg_kernels *kernels = gg_kernels_get(gg_cpu_level());
    uint64_t state = 77;
    for (size_t i = 0; i < N; i++)
        logits[i] = (float)(-0.8 * log(next_unit(&state)) + 3.0 * next_unit(&state));
    void *scratch = scratch_for(N);
    for (size_t k = 0; k < sizeof settings / sizeof settings[0]; k++) {
        gorgon_sampling s = settings[k].s;
        static double counts[N];
        memset(counts, 0, sizeof counts);
        for (uint64_t draw = 0; draw < DRAWS; draw++) {
            s.completion = k % 2 ? draw / 500 : 0; // along one text, or over many short ones
            uint64_t position = k % 2 ? draw % 500 : draw;
            counts[gg_sample(kernels, &s, position, logits, N, scratch)] += 1.0;
        }
        size_t n = reference_set(NULL, &s, logits, N, set);
        check_distribution(settings[k].what, set, n, counts, DRAWS);
    }
    gg_free(scratch);
}

enum { SIDE = 8 };

// Chi-square of independence on a joint table with known, even margins.
static void check_independent(const char *what, double table[SIDE][SIDE], double draws)
{
    double chi = 0.0, expected = draws / (SIDE * SIDE);
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++)
            chi += (table[i][j] - expected) * (table[i][j] - expected) / expected;
    double limit = chi_square_limit(SIDE * SIDE - 1);
    cr_assert_lt(chi, limit, "%s: chi-square %.1f, limit %.1f", what, chi, limit);
}

// Which eighth of the Gumbel distribution a value lies in.
static size_t eighth(float gumbel)
{
    size_t part = (size_t)(exp(-exp(-(double)gumbel)) * SIDE);
    return part < SIDE ? part : SIDE - 1;
}

Test(sampling, noise_of_neighbours_is_independent)
{
    static double by_id[SIDE][SIDE], by_group[SIDE][SIDE], by_position[SIDE][SIDE];
    static double by_completion[SIDE][SIDE], by_seed[SIDE][SIDE];
    for (uint64_t i = 0; i < DRAWS; i++) {
        gorgon_sampling s = {.seed = 11, .completion = i / 1000};
        uint32_t id = (uint32_t)(i % 1000) * 2;
        size_t here = eighth(gg_gumbel(&s, 5, id));
        by_id[here][eighth(gg_gumbel(&s, 5, id + 1))] += 1.0;
        by_group[here][eighth(gg_gumbel(&s, 5, id + 4))] += 1.0;
        by_position[here][eighth(gg_gumbel(&s, 6, id))] += 1.0;
        s.seed++;
        by_seed[here][eighth(gg_gumbel(&s, 5, id))] += 1.0;
        s = (gorgon_sampling){.seed = 11, .completion = i / 1000 + 1000};
        by_completion[here][eighth(gg_gumbel(&s, 5, id))] += 1.0;
    }
    check_independent("ids", by_id, DRAWS);
    check_independent("groups of ids", by_group, DRAWS);
    check_independent("positions", by_position, DRAWS);
    check_independent("completions", by_completion, DRAWS);
    check_independent("seeds", by_seed, DRAWS);
}

Test(sampling, draws_at_neighbouring_positions_are_independent)
{
    static const float logits[SIDE] = {0}; // even: each token has an eighth
    static double table[SIDE][SIDE];
    const gg_kernels *kernels = gg_kernels_get(gg_cpu_level());
    void *scratch = scratch_for(SIDE);
    gorgon_sampling s = {.temperature = 1.0f, .top_p = 1.0f, .seed = 123};
    for (uint64_t i = 0; i < DRAWS; i++) {
        uint32_t a = gg_sample(kernels, &s, 2 * i, logits, SIDE, scratch);
        uint32_t b = gg_sample(kernels, &s, 2 * i + 1, logits, SIDE, scratch);
        table[a][b] += 1.0;
    }
    check_independent("positions", table, DRAWS);
    gg_free(scratch);
}

Test(sampling, gumbel_is_bounded_and_gumbel)
{
    static double counts[64];
    static entry set[64];
    gorgon_sampling s = {.seed = 31};
    for (uint32_t i = 0; i < 64; i++)
        set[i] = (entry){.id = i, .p = 1.0};
    for (uint32_t i = 0; i < DRAWS; i++) {
        float g = gg_gumbel(&s, 2, i);
        cr_assert(g > -4.0f && g < GG_GUMBEL_MAX);
        size_t bin = (size_t)(exp(-exp(-(double)g)) * 64.0);
        counts[bin < 64 ? bin : 63] += 1.0;
    }
    check_distribution("Gumbel", set, 64, counts, DRAWS);
}

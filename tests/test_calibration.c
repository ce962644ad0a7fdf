// Terms of edges, the choice among siblings, its fit, the packed form, and the online correction.
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/sampling.h"
#include "online.h"

static const char *const three[] = {"heads", "lookup", "recycling"};

// ---- terms

Test(terms, of_an_edge)
{
    gg_term t[GG_WEIGHTS];
    gg_shared_terms(2, 0.5f, 1.25f, t);
    const float shared[GG_SHARED] = {1, logf(0.5f), 1.25f, 0.25f};
    for (size_t i = 0; i < GG_SHARED; i++) {
        cr_assert_eq(t[i].index, i);
        cr_assert_float_eq(t[i].value, shared[i], 1e-6f, "term %zu", i);
    }
    gg_edge edge = {.token = 3, .score = -2.0f, .rank = 3, .evidence = {1, 2, 3, 4}};
    const float said[GG_SAID] = {1, -2, logf(4.0f), 1, 2, 3, 4};
    gg_namers namers = {.set = 1 << 0 | 1 << 7, .score = {-1, [7] = -3}};
    cr_assert_eq(gg_said_terms(5, &edge, &namers, t), GG_SAID + 2 * GG_AGREED);
    for (size_t i = 0; i < GG_SAID; i++) {
        cr_assert_eq(t[i].index, gg_said_place(5) + i);
        cr_assert_float_eq(t[i].value, said[i], 1e-6f, "term %zu", i);
    }
    const float agreed[2][GG_AGREED] = {{1, -1, -2}, {1, -2, -3}};
    for (size_t i = 0; i < GG_AGREED; i++) {
        cr_assert_eq(t[GG_SAID + i].index, gg_agreed_place(0, 5) + i);
        cr_assert_eq(t[GG_SAID + i].value, agreed[0][i]);
        cr_assert_eq(t[GG_SAID + GG_AGREED + i].index, gg_agreed_place(5, 7) + i);
        cr_assert_eq(t[GG_SAID + GG_AGREED + i].value, agreed[1][i]);
    }
    cr_assert_eq(namers.set, 1 << 0 | 1 << 5 | 1 << 7);
    cr_assert(namers.score[5] == -2.0f && namers.rank[5] == 3);
    cr_assert_eq(gg_said_terms(5, &edge, &namers, t), 0); // once is enough
}

Test(terms, places_are_distinct)
{
    bool taken[GG_WEIGHTS] = {false};
    for (size_t i = 0; i < GG_SHARED; i++)
        taken[i] = true;
    for (size_t p = 0; p < GG_MAX_PROPOSERS; p++) {
        for (size_t i = 0; i < GG_SAID; i++) {
            cr_assert_not(taken[gg_said_place(p) + i]);
            taken[gg_said_place(p) + i] = true;
        }
        for (size_t i = 0; i < p * GG_AGREED; i++) {
            size_t place = gg_agreed_place(i / GG_AGREED, p) + i % GG_AGREED;
            cr_assert(place < GG_WEIGHTS && !taken[place]);
            taken[place] = true;
        }
    }
    for (size_t i = 0; i < GG_WEIGHTS; i++)
        cr_assert(taken[i]);
}

// ---- the choice among siblings

// What heads, lookup and recycling would say of a token that is likely.
static const gg_edge likely[3] = {
    {.score = -0.7f, .evidence = {-0.7f, -0.7f, 1.0f, 0.0f}},
    {.score = -0.5f, .evidence = {2.0f, 1.0f, 0.8f, 4.0f}},
    {.score = -0.7f, .evidence = {-0.7f, -0.7f, 1.0f, 5.0f}},
};

// The probability of an edge that the proposers `who` name so, beside a sibling with the log-odds
// `other` (-100: as good as none).
static double chance(const float *w, uint32_t who, const gg_edge *edges, double other)
{
    gg_term t[GG_WEIGHTS];
    gg_shared_terms(1, 1.0f, 0.0f, t);
    double odds[2] = {gg_log_odds(w, t, GG_SHARED), other};
    gg_namers namers = {0};
    for (size_t p = 0; p < 3; p++) {
        if (who & 1u << p)
            odds[0] += gg_log_odds(w, t, gg_said_terms(p, &edges[p], &namers, t));
    }
    gg_choose(odds, 2);
    return odds[0];
}

Test(choose, siblings_exclude_each_other)
{
    double p[] = {0.0, 0.0, 0.0};
    double none = gg_choose(p, 3);
    cr_assert_float_eq(none, log(4.0), 1e-12);
    for (size_t i = 0; i < 3; i++)
        cr_assert_float_eq(p[i], 0.25, 1e-12);
    none = gg_choose(p, 0);
    cr_assert_eq(none, 0.0);
    double far[] = {1e9, -1e9, 1e9 - 1.0};
    none = gg_choose(far, 3);
    cr_assert(isfinite(none));
    cr_assert_float_eq(far[0] + far[1] + far[2], 1.0, 1e-9);
    cr_assert_float_eq(far[2] / far[0], exp(-1.0), 1e-6);
}

Test(choose, a_confident_sibling_lowers_and_agreement_raises)
{
    gg_calibration c;
    gg_calibration_resolve(NULL, 0, three, 3, &c);
    for (size_t i = 0; i < 2 * GG_CALIBRATION_DEPTHS; i++) {
        const float *w = c.w[i / GG_CALIBRATION_DEPTHS][i % GG_CALIBRATION_DEPTHS];
        for (uint32_t who = 1; who < 8; who++) {
            cr_assert_lt(chance(w, who, likely, 2.0), chance(w, who, likely, -1.0));
            cr_assert_lt(chance(w, who, likely, -1.0), chance(w, who, likely, -100.0));
            for (uint32_t one = 1; one < 8; one *= 2) {
                if (!(who & one))
                    cr_assert_gt(chance(w, who | one, likely, -1.0), chance(w, who, likely, -1.0),
                                 "class %zu: %u joins %u", i, one, who);
            }
        }
    }
}

Test(choose, a_better_score_is_a_better_chance)
{
    gg_calibration c;
    gg_calibration_resolve(NULL, 0, three, 3, &c);
    for (size_t d = 0; d < GG_CALIBRATION_DEPTHS; d++) {
        for (size_t p = 0; p < 3; p++) {
            double last = 0.0;
            for (float score = -10.0f; score <= 0.0f; score += 0.5f) {
                gg_edge edges[3] = {{.score = score}, {.score = score}, {.score = score}};
                double q = chance(c.w[0][d], 1u << p, edges, -1.0);
                cr_assert(q > last && q < 1.0);
                last = q;
            }
        }
    }
}

Test(choose, wild_scores_are_clamped)
{
    const float wild[] = {NAN, INFINITY, -INFINITY, 1e30f};
    gg_calibration c;
    gg_calibration_resolve(NULL, 0, three, 3, &c);
    for (size_t i = 0; i < 4; i++) {
        const gg_edge edge = {.score = wild[i], .evidence = {wild[i], 0, wild[i], 0}};
        const gg_edge edges[3] = {edge, edge, edge};
        double p = chance(c.w[1][0], 7, edges, 0.0);
        cr_assert(p >= 0.0 && p <= 1.0);
        gg_term t[GG_SHARED];
        gg_shared_terms(1, wild[i], wild[i], t);
        cr_assert(isfinite(gg_log_odds(c.w[1][0], t, GG_SHARED)));
    }
}

// ---- fit

enum { PARENTS = 30000, PROPOSERS = 3, CHILDREN = 4 };

// A calibration to be found again: what each of three proposers says, and their agreement.
static void make_truth(float w[GG_WEIGHTS])
{
    memset(w, 0, GG_WEIGHTS * sizeof *w);
    w[0] = -0.5f;
    w[1] = 0.4f;
    for (size_t p = 0; p < PROPOSERS; p++) {
        w[gg_said_place(p)] = -0.3f * (float)p;
        w[gg_said_place(p) + 1] = 0.6f + 0.2f * (float)p;
        w[gg_said_place(p) + 2] = -0.5f;
        w[gg_said_place(p) + 4] = 0.3f;
    }
    w[gg_agreed_place(0, 1)] = 1.0f;
    w[gg_agreed_place(0, 2)] = 0.5f;
    w[gg_agreed_place(0, 2) + 1] = -0.4f;
    w[gg_agreed_place(1, 2)] = -0.5f;
}

// Which proposers are asked at parent i: all of them, or any of the subsets in turn.
static uint32_t asked_at(size_t i, bool subsets)
{
    return subsets ? 1 + (uint32_t)i % 7 : 7;
}

// Children as random proposers name them; the outcome follows the weights.
static void draw_family(const float *w, size_t i, uint32_t asked, gg_examples *e)
{
    gg_term terms[CHILDREN][GG_WEIGHTS];
    size_t n_terms[CHILDREN], n = 0;
    double p[CHILDREN];
    for (size_t k = 0; k < CHILDREN; k++) {
        uint32_t who = (uint32_t)(8 * gg_random_uniform(1, i, k, 0)) & asked;
        gg_namers namers = {0};
        if (!who)
            continue;
        gg_shared_terms(1, (float)gg_random_uniform(1, i, k, 1), 0.0f, terms[n]);
        n_terms[n] = GG_SHARED;
        for (uint32_t q = 0; q < PROPOSERS; q++) {
            gg_edge edge = {.score = (float)(4 * gg_random_uniform(1, i, k, 2 + q) - 3),
                            .rank = (uint16_t)(4 * gg_random_uniform(1, i, k, 5 + q)),
                            .evidence = {0, (float)(2 * gg_random_uniform(1, i, k, 8 + q)), 0, 0}};
            if (who & 1u << q)
                n_terms[n] += gg_said_terms(q, &edge, &namers, terms[n] + n_terms[n]);
        }
        p[n] = gg_log_odds(w, terms[n], n_terms[n]);
        n++;
    }
    gg_choose(p, n);
    double draw = gg_random_uniform(1, i, 99, 0);
    for (size_t k = 0; k < n; k++) {
        bool accepted = draw >= 0.0 && draw < p[k];
        draw = accepted ? -1.0 : draw - p[k];
        cr_assert(gg_examples_add(e, terms[k],
                                  (gg_example_edge){(uint32_t)n_terms[k], accepted, k + 1 == n}));
    }
}

static gg_examples draw_examples(const float *w, size_t n, bool subsets)
{
    gg_examples e = {0};
    for (size_t i = 0; i < n; i++)
        draw_family(w, i, asked_at(i, subsets), &e);
    return e;
}

Test(fit, recovers_known_weights)
{
    float truth[GG_WEIGHTS], w[GG_WEIGHTS];
    make_truth(truth);
    for (size_t subsets = 0; subsets < 2; subsets++) {
        gg_examples e = draw_examples(truth, PARENTS, subsets);
        cr_assert(gg_calibration_fit(&e, w));
        for (size_t i = 0; i < GG_WEIGHTS; i++)
            cr_assert_float_eq(w[i], truth[i], 0.2, "weight %zu is %g, not %g", i, (double)w[i],
                               (double)truth[i]);
        gg_examples_free(&e);
    }
}

// Expected and observed acceptance agree for any subset of the proposers.
Test(fit, serves_every_subset)
{
    float truth[GG_WEIGHTS], w[GG_WEIGHTS];
    make_truth(truth);
    gg_examples e = draw_examples(truth, PARENTS, true);
    cr_assert(gg_calibration_fit(&e, w));
    gg_examples_free(&e);
    for (uint32_t asked = 1; asked < 8; asked++) {
        double expected = 0.0, observed = 0.0;
        e = (gg_examples){0};
        for (size_t i = 0; i < 20000; i++)
            draw_family(truth, 1000000 + i, asked, &e);
        double p[CHILDREN];
        for (size_t i = 0, n = 0, term = 0; i < e.n_edges; i++) {
            p[n++] = gg_log_odds(w, e.terms + term, e.edges[i].n_terms);
            term += e.edges[i].n_terms;
            observed += e.edges[i].accepted;
            if (!e.edges[i].last)
                continue;
            gg_choose(p, n);
            while (n > 0)
                expected += p[--n];
        }
        gg_examples_free(&e);
        cr_assert_float_eq(expected / observed, 1.0, 0.05, "subset %u: %g", asked,
                           expected / observed);
    }
}

Test(fit, score_weights_never_turn_negative)
{
    float truth[GG_WEIGHTS], w[GG_WEIGHTS];
    make_truth(truth);
    truth[gg_said_place(1) + 1] = -1.0f;
    gg_examples e = draw_examples(truth, PARENTS, false);
    cr_assert(gg_calibration_fit(&e, w));
    cr_assert_eq(w[gg_said_place(1) + 1], 0.0f);
    cr_assert_float_eq(w[gg_said_place(2) + 1], 1.0, 0.2);
    gg_examples_free(&e);
}

Test(fit, degenerate_data)
{
    gg_examples e = {0};
    float w[GG_WEIGHTS];
    cr_assert(gg_calibration_fit(&e, w));
    for (size_t i = 0; i < GG_WEIGHTS; i++)
        cr_assert_eq(w[i], 0.0f);
    const gg_term collinear[] = {{0, 1.0f}, {1, 1.0f}};
    for (size_t i = 0; i < 8; i++) // nothing was ever accepted
        cr_assert(gg_examples_add(&e, collinear, (gg_example_edge){2, false, true}));
    cr_assert(gg_calibration_fit(&e, w));
    for (size_t i = 0; i < GG_WEIGHTS; i++)
        cr_assert(isfinite(w[i]));
    cr_assert_lt(w[0] + w[1], -2.0f);
    gg_examples_free(&e);
}

// ---- the packed form

static void fill(gg_calibration *c)
{
    for (size_t s = 0; s < 2; s++)
        for (size_t d = 0; d < GG_CALIBRATION_DEPTHS; d++)
            for (size_t i = 0; i < GG_WEIGHTS; i++)
                c->w[s][d][i] = (float)(s * 1000 + d * 200 + i);
}

Test(pack, round_trip_in_any_order)
{
    gg_calibration in, out;
    fill(&in);
    float packed[1024];
    size_t n = gg_calibration_floats(3);
    cr_assert_lt(n, 1024);
    gg_calibration_pack(three, 3, &in, packed);
    const char *const other[] = {"recycling", "heads"}; // in: places 2 and 0
    gg_calibration_resolve(packed, n, other, 2, &out);
    for (size_t s = 0; s < 2; s++) {
        for (size_t d = 0; d < GG_CALIBRATION_DEPTHS; d++) {
            const float *a = in.w[s][d], *b = out.w[s][d];
            cr_assert_arr_eq(b, a, GG_SHARED * sizeof *a);
            cr_assert_arr_eq(b + gg_said_place(0), a + gg_said_place(2), GG_SAID * sizeof *a);
            cr_assert_arr_eq(b + gg_said_place(1), a + gg_said_place(0), GG_SAID * sizeof *a);
            cr_assert_eq(b[gg_agreed_place(0, 1)], a[gg_agreed_place(0, 2)]);
            cr_assert_eq(b[gg_agreed_place(0, 1) + 1], a[gg_agreed_place(0, 2) + 2]);
            cr_assert_eq(b[gg_agreed_place(0, 1) + 2], a[gg_agreed_place(0, 2) + 1]);
        }
    }
}

Test(pack, an_unknown_proposer_keeps_its_score)
{
    gg_calibration in, out;
    fill(&in);
    float packed[1024];
    gg_calibration_pack(three, 3, &in, packed);
    const char *const names[] = {"newcomer", "heads"};
    gg_calibration_resolve(packed, gg_calibration_floats(3), names, 2, &out);
    const float *w = out.w[0][1];
    cr_assert_eq(w[gg_said_place(1) + 1], in.w[0][1][gg_said_place(0) + 1]);
    cr_assert_eq(w[0] + w[gg_said_place(0)], 0.0f); // alone, its score is its log-odds
    cr_assert_eq(w[gg_said_place(0) + 1], 1.0f);
    cr_assert_gt(w[gg_agreed_place(0, 1)], 0.0f);
}

Test(pack, what_cannot_be_read_gives_the_priors)
{
    gg_calibration in, priors, out;
    fill(&in);
    float packed[1024];
    size_t n = gg_calibration_floats(3);
    gg_calibration_resolve(NULL, 0, three, 3, &priors);
    const struct {
        size_t place;
        float value;
    } wrong[] = {{0, 1},  {1, 1},    {1, 3}, {2, 2},   {2, 0},       {2, 1e30f},
                 {2, -1}, {2, 2.5f}, {3, 5}, {4, NAN}, {n - 1, NAN}, {n / 2, INFINITY}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        gg_calibration_pack(three, 3, &in, packed);
        packed[wrong[i].place] = wrong[i].value;
        gg_calibration_resolve(packed, n, three, 3, &out);
        cr_assert_arr_eq(&out, &priors, sizeof out, "case %zu", i);
    }
    gg_calibration_pack(three, 3, &in, packed);
    for (size_t cut = 0; cut < n; cut++) {
        gg_calibration_resolve(packed, cut, three, 3, &out);
        cr_assert_arr_eq(&out, &priors, sizeof out, "%zu floats", cut);
    }
}

// The array as version 1 had it: four floats, then per proposer its hash and 2 x 4 x 10 weights.
Test(pack, an_old_version_gives_the_priors)
{
    gg_calibration priors, out;
    float old[4 + 3 * 82] = {0x67636c, 1, 3, 10};
    for (size_t i = 4; i < sizeof old / sizeof *old; i++)
        old[i] = 0.5f;
    gg_calibration_resolve(NULL, 0, three, 3, &priors);
    gg_calibration_resolve(old, sizeof old / sizeof *old, three, 3, &out);
    cr_assert_arr_eq(&out, &priors, sizeof out);
}

// ---- online correction

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

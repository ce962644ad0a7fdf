// Token recycling on the embedded model: what verified rows teach, and to whom.
#define _XOPEN_SOURCE 700 // mkdtemp
#include <math.h>

#include "heads/proposer.h"
#include "heads_fixture.h"

enum { KEPT = 8, EDGES = GG_MAX_CHILDREN };

typedef struct setting {
    gorgon_model *model;
    gorgon_engine *engine;
    gg_proposer *p;
    void *state;
    size_t n_vocab;
    float *logits; // [3][n_vocab]
} setting;

static setting set_up(size_t threads)
{
    setting t = {.model = open_tiny()};
    gorgon_engine_options options;
    gorgon_error err = {0};
    gorgon_engine_options_init(&options);
    options.threads = threads;
    options.context = 64;
    cr_assert_eq(gorgon_engine_create(t.model, &options, &t.engine, &err), GORGON_OK, "%s",
                 err.message);
    const gg_proposer_config config = {.engine = t.engine, .max_sequences = 1};
    cr_assert_eq(gg_proposer_create("recycling", &config, &t.p, &err), GORGON_OK);
    cr_assert_eq(t.p->ops->state_create(t.p, 64, &t.state, &err), GORGON_OK);
    t.n_vocab = gg_model_geometry(t.model)->n_vocab;
    t.logits = gg_alloc(3 * t.n_vocab, sizeof *t.logits);
    for (size_t i = 0; i < 3 * t.n_vocab; i++)
        t.logits[i] = 4.0f * fixture_random(5, i);
    return t;
}

static void tear_down(setting *t)
{
    gg_free(t->logits);
    t->p->ops->state_free(t->p, t->state);
    gg_proposer_free(t->p);
    gorgon_engine_free(t->engine);
    gorgon_model_free(t->model);
}

static void learn(const setting *t, gorgon_token before, gorgon_token token, size_t row)
{
    const gg_verified_row rows[] = {{before, token, t->logits + row * t->n_vocab}};
    t->p->ops->learn(t->p, rows, 1);
}

static void observe(const setting *t, gorgon_token token)
{
    const gg_observation seen = {.n = 1, .tokens = &token};
    t->p->ops->observe(t->p, t->state, &seen);
}

// Children of the root, or of a node `child` of it unless that is negative.
static size_t expand(const setting *t, gorgon_token root, gorgon_token child, gg_edge *edges)
{
    gg_draft_tree tree = {.n = 2, .token = {root, child}, .parent = {-1, 0}, .depth = {0, 1}};
    const gg_draft draft = {.state = t->state, .root = root};
    const uint32_t parent = child >= 0;
    t->p->ops->begin(t->p, &draft, 1);
    return t->p->ops->expand(t->p, &draft, &tree, &parent, 1, edges, EDGES);
}

// The edges are the largest logits of `row`, by a scan over all.
static void check_edges(const setting *t, const gg_edge *edges, size_t n, size_t row, bool pair)
{
    const float *x = t->logits + row * t->n_vocab;
    double sum = 0.0;
    cr_assert_eq(n, KEPT);
    for (size_t i = 0; i < n; i++)
        sum += exp((double)x[edges[i].token]);
    for (size_t i = 0; i < n; i++) {
        size_t better = 0;
        for (size_t k = 0; k < t->n_vocab; k++)
            better += x[k] > x[edges[i].token];
        cr_assert_eq(better, i);
        cr_assert_eq(edges[i].rank, i);
        cr_assert_float_eq((double)edges[i].score, (double)x[edges[i].token] - log(sum), 1e-5);
        cr_assert_eq(edges[i].evidence[0], edges[i].score);
        cr_assert_eq(edges[i].evidence[1], edges[0].score);
        cr_assert_eq(edges[i].evidence[2], pair ? 1.0f : 0.0f);
    }
}

Test(recycling, verified_rows_teach_their_token_and_the_pair)
{
    setting t = set_up(1);
    gg_edge edges[EDGES];
    cr_assert_eq(expand(&t, 5, -1, edges), 0);
    learn(&t, 4, 5, 0);
    check_edges(&t, edges, expand(&t, 5, -1, edges), 0, false); // what comes before is not known
    observe(&t, 4);
    check_edges(&t, edges, expand(&t, 5, -1, edges), 0, true);
    learn(&t, 9, 5, 1);
    check_edges(&t, edges, expand(&t, 5, -1, edges), 0, true); // the pair (4, 5) still
    observe(&t, 8);
    check_edges(&t, edges, expand(&t, 5, -1, edges), 1, false); // the latest
    check_edges(&t, edges, expand(&t, 9, 5, edges), 1, true);   // below the root
    check_edges(&t, edges, expand(&t, 4, 5, edges), 0, true);
    cr_assert_eq(expand(&t, 4, 6, edges), 0);
    tear_down(&t);
}

Test(recycling, age_counts_rows_and_the_table_outlives_sequences)
{
    setting t = set_up(1);
    gg_edge edges[EDGES];
    learn(&t, 1, 2, 0);
    t.p->ops->state_reset(t.p, t.state);
    cr_assert_eq(expand(&t, 2, -1, edges), KEPT);
    cr_assert_float_eq(edges[0].evidence[3], 1.0f, 1e-6f);
    for (gorgon_token i = 0; i < 6; i++)
        learn(&t, 1, 10 + i, 1);
    expand(&t, 2, -1, edges);
    cr_assert_float_eq(edges[0].evidence[3], 3.0f, 1e-6f);
    tear_down(&t);
}

Test(recycling, many_rows_at_once_are_as_one_by_one)
{
    gg_edge one[EDGES], many[EDGES];
    setting a = set_up(1), b = set_up(2);
    gg_verified_row rows[150];
    for (size_t i = 0; i < 150; i++) {
        rows[i] = (gg_verified_row){(gorgon_token)(i % 7), (gorgon_token)(i % 50),
                                    b.logits + i % 3 * b.n_vocab};
        learn(&a, rows[i].before, rows[i].token, i % 3);
    }
    b.p->ops->learn(b.p, rows, 150);
    for (gorgon_token root = 0; root < 50; root++) {
        for (gorgon_token before = 0; before < 7; before++) {
            memset(one, 0, sizeof one);
            memset(many, 0, sizeof many);
            observe(&a, before);
            observe(&b, before);
            cr_assert_eq(expand(&a, root, -1, one), expand(&b, root, -1, many));
            cr_assert_eq(memcmp(one, many, sizeof one), 0);
        }
    }
    tear_down(&a);
    tear_down(&b);
}

Test(recycling, logits_that_are_no_numbers_teach_nothing)
{
    setting t = set_up(1);
    gg_edge edges[EDGES];
    for (size_t i = 0; i < t.n_vocab; i++)
        t.logits[i] = (float)NAN;
    learn(&t, 1, 2, 0);
    cr_assert_eq(expand(&t, 2, -1, edges), 0);
    learn(&t, 1, 2, 1);
    learn(&t, 1, 2, 0);
    check_edges(&t, edges, expand(&t, 2, -1, edges), 1, false);
    tear_down(&t);
}

// Medusa heads on the embedded model: logits against plain float arithmetic, rankings against full
// scans, batches against single drafts.
#define _XOPEN_SOURCE 700 // mkdtemp
#include <math.h>

#include "core/limits.h"
#include "heads/proposer.h"
#include "heads_fixture.h"

enum { MAX_HEADS = 4, EDGES = GG_MAX_CHILDREN, ROOT_POSITION = 3 };

typedef struct setting {
    gorgon_model *model;
    const gg_geometry *g;
    gorgon_engine *engine;
    gorgon_heads *heads;
    heads_fixture f;
    scratch s;
    size_t n_out;
    float *hidden; // [8][d_model] states of the model
} setting;

static const gorgon_token prompt[] = {1, 323, 13, 320, 318, 259, 104, 62};

static void run_prompt(setting *t)
{
    gorgon_sequence *sequence;
    gorgon_error err = {0};
    size_t row;
    const size_t d = t->g->d_model;
    t->hidden = gg_alloc(8 * d, sizeof *t->hidden);
    cr_assert_eq(gorgon_sequence_create(t->engine, &sequence, &err), GORGON_OK);
    for (size_t i = 0; i < 8; i++) {
        cr_assert_eq(gorgon_engine_prefill(t->engine, sequence, &prompt[i], 1, &row, &err),
                     GORGON_OK, "%s", err.message);
        memcpy(t->hidden + i * d, gorgon_engine_hidden(t->engine, row), d * sizeof(float));
    }
    gorgon_sequence_free(sequence);
}

static setting set_up(const heads_spec *spec, gorgon_activations activations, size_t threads)
{
    setting t = {.model = open_tiny(), .s = scratch_create()};
    gorgon_engine_options options;
    gorgon_error err = {0};
    gorgon_engine_options_init(&options);
    options.threads = threads;
    options.activations = activations;
    options.context = 64;
    options.max_rows = 7; // fewer than heads x drafts: products go in parts
    options.max_logit_rows = 2;
    cr_assert_eq(gorgon_engine_create(t.model, &options, &t.engine, &err), GORGON_OK, "%s",
                 err.message);
    t.g = gg_model_geometry(t.model);
    t.f = heads_fixture_create(t.g->d_model, t.g->n_vocab, spec);
    t.heads = write_and_open(&t.s, t.model, &t.f.source);
    t.n_out = spec->n_draft ? spec->n_draft : t.g->n_vocab;
    run_prompt(&t);
    return t;
}

static void tear_down(setting *t)
{
    gg_free(t->hidden);
    heads_fixture_free(&t->f);
    gorgon_heads_free(t->heads);
    gorgon_engine_free(t->engine);
    gorgon_model_free(t->model);
    scratch_remove(&t->s);
}

// Token id of logit i.
static uint32_t id_of(const setting *t, size_t i)
{
    return t->f.source.shape.n_draft ? t->f.ids[i] : (uint32_t)i;
}

static double dot(const float *a, const double *b, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

static void reference_logits(const setting *t, size_t head, const float *hidden, gorgon_token root,
                             double *logits)
{
    const size_t d = t->g->d_model;
    double *x = gg_alloc(3 * d, sizeof *x), *e = x + d, *z = e + d;
    float *row = gg_alloc(d, sizeof *row);
    const reference_heads r = heads_fixture_reference(&t->f);
    const reference_rows rows = {1, x, NULL};
    for (size_t i = 0; i < d; i++)
        x[i] = (double)hidden[i];
    reference_embedding(t->model, root, e);
    reference_state(&r, &rows, e, head + 1, z); // of the tokens these heads see the root alone
    for (size_t i = 0; i < t->n_out; i++) {
        gg_matrix_row(gg_model_output(t->model), id_of(t, i), row);
        logits[i] = dot(row, z, d);
    }
    gg_free(x);
    gg_free(row);
}

// Largest difference over the standard deviation of the logits.
static double relative_error(const float *got, const double *expected, size_t n)
{
    double mean = 0.0, square = 0.0, worst = 0.0;
    for (size_t i = 0; i < n; i++) {
        mean += expected[i] / (double)n;
        square += expected[i] * expected[i] / (double)n;
        const double error = fabs((double)got[i] - expected[i]);
        worst = error > worst ? error : worst;
    }
    return worst / sqrt(square - mean * mean);
}

static void check_logits(const heads_spec *spec, gorgon_activations activations, double tolerance)
{
    setting t = set_up(spec, activations, 2);
    float *logits = gg_alloc(spec->n_heads * t.n_out, sizeof *logits);
    double *expected = gg_alloc(t.n_out, sizeof *expected);
    gorgon_token *ids = gg_alloc(t.n_out, sizeof *ids);
    gorgon_error err = {0};
    for (size_t i = 0; i < 8; i++) {
        const float *hidden = t.hidden + i * t.g->d_model;
        const gorgon_token root = (gorgon_token)(40 + 51 * i);
        cr_assert_eq(gorgon_heads_logits(t.engine, t.heads, 0, hidden, root, logits, ids, &err),
                     GORGON_OK, "%s", err.message);
        for (size_t k = 0; k < spec->n_heads; k++) {
            reference_logits(&t, k, hidden, root, expected);
            const double error = relative_error(logits + k * t.n_out, expected, t.n_out);
            cr_assert_lt(error, tolerance, "type %d, state %zu, head %zu: error %g",
                         (int)spec->type, i, k, error);
        }
    }
    for (size_t i = 0; i < t.n_out; i++)
        cr_assert_eq(ids[i], (gorgon_token)id_of(&t, i));
    gg_free(logits);
    gg_free(expected);
    gg_free(ids);
    tear_down(&t);
}

static const heads_spec specs[] = {
    {.n_heads = 1, .n_blocks = 1, .n_draft = 0, .root = false, .type = GG_F32, .seed = 1},
    {.n_heads = 4, .n_blocks = 1, .n_draft = 100, .root = true, .type = GG_F16, .seed = 2},
    {.n_heads = 3, .n_blocks = 3, .n_draft = 77, .root = false, .type = GG_F32, .seed = 3},
    {.n_heads = 2, .n_blocks = 2, .n_draft = 0, .root = true, .type = GG_Q8_0, .seed = 4},
    {.n_heads = 3, .n_blocks = 1, .root = true, .type = GG_F16, .kind = GG_HEADS_LINEAR},
};
enum { SPECS = sizeof specs / sizeof specs[0] };

// Standard deviations of the logits: rounding of F32 and F16 weights; of int8 blocks.
static double tolerance_of(const heads_spec *spec, gorgon_activations activations)
{
    if (activations == GORGON_ACTIVATIONS_INT8)
        return 0.08;
    if (spec->type == GG_Q8_0)
        return 0.03;
    return spec->type == GG_F16 ? 2e-3 : 2e-5;
}

Test(medusa, logits_are_those_of_plain_arithmetic)
{
    for (size_t i = 0; i < SPECS; i++) {
        check_logits(&specs[i], GORGON_ACTIVATIONS_F32,
                     tolerance_of(&specs[i], GORGON_ACTIVATIONS_F32));
        check_logits(&specs[i], GORGON_ACTIVATIONS_INT8,
                     tolerance_of(&specs[i], GORGON_ACTIVATIONS_INT8));
    }
}

Test(medusa, bad_arguments_are_refused)
{
    setting t = set_up(&specs[0], GORGON_ACTIVATIONS_INT8, 1);
    float *logits = gg_alloc(t.n_out, sizeof *logits);
    gorgon_error err = {0};
    cr_assert_eq(gorgon_heads_logits(t.engine, t.heads, 0, t.hidden, -1, logits, NULL, &err),
                 GORGON_ERROR_ARGUMENT);
    cr_assert_not_null(strstr(err.message, "root token is -1"), "%s", err.message);
    err.status = GORGON_OK;
    cr_assert_eq(gorgon_heads_logits(t.engine, t.heads, 1, t.hidden, 1, logits, NULL, &err),
                 GORGON_ERROR_ARGUMENT);
    cr_assert_not_null(strstr(err.message, "no set 1"), "%s", err.message);
    gg_proposer *p = NULL;
    gg_proposer_config config = {.engine = t.engine, .max_sequences = 1};
    cr_assert_eq(gg_proposer_create("heads", &config, &p, NULL), GORGON_ERROR_ARGUMENT);
    config =
        (gg_proposer_config){.engine = t.engine, .heads = t.heads, .set = 3, .max_sequences = 1};
    cr_assert_eq(gg_proposer_create("heads", &config, &p, NULL), GORGON_ERROR_ARGUMENT);
    cr_assert_null(p);
    gg_free(logits);
    tear_down(&t);
}

static gg_proposer *create(const setting *t, size_t max_sequences)
{
    const gg_proposer_config config = {
        .engine = t->engine, .heads = t->heads, .max_sequences = max_sequences};
    gg_proposer *p = NULL;
    gorgon_error err = {0};
    cr_assert_eq(gg_proposer_create("heads", &config, &p, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(p->max_depth, t->f.source.shape.n_heads);
    return p;
}

static void *create_state(const gg_proposer *p)
{
    void *state;
    cr_assert_eq(p->ops->state_create(p, 64, &state, NULL), GORGON_OK);
    return state;
}

static void observe(const setting *t, const gg_proposer *p, void *state, size_t i)
{
    const float *const rows[] = {t->hidden, t->hidden + i * t->g->d_model};
    const gorgon_token tokens[] = {1, 2};
    const gg_observation seen = {.position = 1, .n = 2, .tokens = tokens, .hidden = rows};
    p->ops->observe(p, state, &seen);
}

// A chain with a node at every depth.
static gg_draft_tree chain(gorgon_token root)
{
    gg_draft_tree tree = {.n = MAX_HEADS + 2, .token = {root}, .parent = {-1}};
    for (size_t i = 1; i < tree.n; i++) {
        tree.parent[i] = (int32_t)i - 1;
        tree.depth[i] = (uint16_t)i;
    }
    return tree;
}

static size_t expand(const gg_proposer *p, const gg_draft *draft, uint32_t parent, gg_edge *edges)
{
    const gg_draft_tree tree = chain(draft->root);
    return p->ops->expand(p, draft, &tree, &parent, 1, edges, EDGES);
}

// Candidates by a scan over all: value descending, ties by lower index.
typedef struct entry {
    size_t index;
    double value;
} entry;

static int compare_entries(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->value != y->value)
        return x->value > y->value ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

static void check_head(const setting *t, size_t head, const gorgon_sampling *sampling,
                       const float *logits, const gg_edge *edges, size_t n)
{
    entry *all = gg_alloc(t->n_out, sizeof *all);
    double sum = 0.0, best = -HUGE_VAL, top = 0.0;
    const bool noisy = sampling->temperature > 0.0f;
    for (size_t i = 0; i < t->n_out; i++) {
        all[i] = (entry){i, (double)logits[i]};
        if (noisy)
            all[i].value = (double)logits[i] / (double)sampling->temperature +
                           (double)gg_gumbel(sampling, ROOT_POSITION + 1 + head, id_of(t, i));
        sum += exp((double)logits[i]);
        best = (double)logits[i] > best ? (double)logits[i] : best;
    }
    sum = log(sum);
    qsort(all, t->n_out, sizeof *all, compare_entries);
    for (size_t i = 0; i < 32; i++)
        top += exp(all[i].value - all[0].value);
    cr_assert_eq(n, EDGES);
    for (size_t i = 0; i < n; i++) {
        const size_t index = all[i].index;
        const double log_q = (double)logits[index] - sum;
        const double score = noisy ? all[i].value - all[0].value - log(top) : log_q;
        cr_assert_eq(edges[i].token, (gorgon_token)id_of(t, index), "rank %zu", i);
        cr_assert_eq(edges[i].rank, i);
        cr_assert_eq(edges[i].parent, head);
        cr_assert_float_eq((double)edges[i].score, score, 1e-4);
        cr_assert_float_eq((double)edges[i].evidence[0], log_q, 1e-4);
        cr_assert_float_eq((double)edges[i].evidence[1], best - sum, 1e-4);
        if (i + 1 < n)
            cr_assert_float_eq(edges[i].evidence[2], edges[i].score - edges[i + 1].score, 1e-6f);
    }
    gg_free(all);
}

static void check_draft(const setting *t, const gg_proposer *p, const gg_draft *draft, size_t i)
{
    const size_t n_heads = t->f.source.shape.n_heads;
    float *logits = gg_alloc(n_heads * t->n_out, sizeof *logits);
    gg_edge edges[EDGES];
    cr_assert_eq(gorgon_heads_logits(t->engine, t->heads, 0, t->hidden + i * t->g->d_model,
                                     draft->root, logits, NULL, NULL),
                 GORGON_OK);
    for (uint32_t k = 0; k < n_heads; k++) {
        const size_t n = expand(p, draft, k, edges);
        check_head(t, k, draft->sampling, logits + k * t->n_out, edges, n);
    }
    cr_assert_eq(expand(p, draft, (uint32_t)n_heads, edges), 0); // deeper than the heads see
    gg_free(logits);
}

// Several drafts at once, more than the workspace was made for; single ones must give the same.
static void check_rankings(const heads_spec *spec, gorgon_sampling sampling, size_t threads)
{
    setting t = set_up(spec, GORGON_ACTIVATIONS_INT8, threads);
    gg_proposer *p = create(&t, 2);
    gg_draft drafts[5];
    gorgon_sampling samplings[5];
    for (size_t i = 0; i < 5; i++) {
        samplings[i] = sampling;
        samplings[i].completion = i;
        drafts[i] =
            (gg_draft){create_state(p), (gorgon_token)(30 + i), ROOT_POSITION, &samplings[i]};
        observe(&t, p, drafts[i].state, i + 1);
    }
    p->ops->begin(p, drafts, 5);
    for (size_t i = 0; i < 5; i++)
        check_draft(&t, p, &drafts[i], i + 1);
    for (size_t i = 0; i < 5; i++)
        p->ops->state_free(p, drafts[i].state);
    gg_proposer_free(p);
    tear_down(&t);
}

static gorgon_sampling at_temperature(float temperature)
{
    gorgon_sampling sampling;
    gorgon_sampling_init(&sampling);
    sampling.temperature = temperature;
    sampling.seed = 99;
    return sampling;
}

Test(medusa, children_are_the_most_likely_tokens)
{
    for (size_t i = 0; i < SPECS; i++)
        check_rankings(&specs[i], at_temperature(0.0f), 1 + i % 2);
}

Test(medusa, children_are_the_best_of_a_full_scan_with_noise)
{
    for (size_t i = 0; i < SPECS; i++) {
        check_rankings(&specs[i], at_temperature(0.8f), 1 + i % 2);
        check_rankings(&specs[i], at_temperature(20.0f), 2); // noise rules: unlikely tokens win
    }
}

Test(medusa, nothing_is_suggested_before_an_observation)
{
    setting t = set_up(&specs[1], GORGON_ACTIVATIONS_INT8, 1);
    gg_proposer *p = create(&t, 1);
    gg_edge edges[EDGES];
    const gorgon_sampling sampling = at_temperature(0.0f);
    gg_draft draft = {create_state(p), 30, ROOT_POSITION, &sampling};
    p->ops->begin(p, &draft, 1);
    cr_assert_eq(expand(p, &draft, 0, edges), 0);
    observe(&t, p, draft.state, 2);
    cr_assert_eq(expand(p, &draft, 0, edges), 0); // a step has not begun
    p->ops->begin(p, &draft, 1);
    cr_assert_eq(expand(p, &draft, 0, edges), EDGES);
    draft.root = -1; // no such token
    p->ops->begin(p, &draft, 1);
    cr_assert_eq(expand(p, &draft, 0, edges), 0);
    draft.root = 30;
    p->ops->begin(p, &draft, 1);
    p->ops->state_reset(p, draft.state);
    cr_assert_eq(expand(p, &draft, 0, edges), 0);
    p->ops->begin(p, &draft, 1);
    cr_assert_eq(expand(p, &draft, 0, edges), 0);
    p->ops->state_free(p, draft.state);
    gg_proposer_free(p);
    tear_down(&t);
}

Test(medusa, a_copy_drafts_on_its_own)
{
    setting t = set_up(&specs[1], GORGON_ACTIVATIONS_INT8, 1);
    gg_proposer *p = create(&t, 1);
    const gorgon_sampling sampling = at_temperature(0.8f);
    gg_draft a = {create_state(p), 30, ROOT_POSITION, &sampling}, b = a;
    b.state = create_state(p);
    observe(&t, p, b.state, 5);
    observe(&t, p, a.state, 2);
    p->ops->begin(p, &a, 1);
    p->ops->state_copy(p, b.state, a.state);
    observe(&t, p, a.state, 3);
    p->ops->begin(p, &a, 1);
    check_draft(&t, p, &b, 2); // the step that was copied
    p->ops->begin(p, &b, 1);   // and a new one from the copied hidden state
    check_draft(&t, p, &b, 2);
    check_draft(&t, p, &a, 3);
    p->ops->state_free(p, a.state);
    p->ops->state_free(p, b.state);
    gg_proposer_free(p);
    tear_down(&t);
}

Test(medusa, several_parents_share_the_capacity)
{
    setting t = set_up(&specs[1], GORGON_ACTIVATIONS_INT8, 1);
    gg_proposer *p = create(&t, 1);
    const gorgon_sampling sampling = at_temperature(0.0f);
    const gg_draft draft = {create_state(p), 30, ROOT_POSITION, &sampling};
    const gg_draft_tree tree = chain(30);
    const uint32_t parents[] = {0, 2, 5};
    gg_edge edges[3 * EDGES];
    observe(&t, p, draft.state, 2);
    p->ops->begin(p, &draft, 1);
    cr_assert_eq(p->ops->expand(p, &draft, &tree, parents, 3, edges, 3 * EDGES), 2 * EDGES);
    cr_assert_eq(edges[EDGES - 1].parent, 0);
    cr_assert_eq(edges[EDGES].parent, 2);
    cr_assert_eq(edges[EDGES].rank, 0);
    cr_assert_eq(p->ops->expand(p, &draft, &tree, parents, 3, edges, EDGES + 3), EDGES + 3);
    p->ops->state_free(p, draft.state);
    gg_proposer_free(p);
    tear_down(&t);
}

// Equal logits everywhere: only noise and ids decide.
Test(medusa, ties_go_to_the_lower_id)
{
    heads_spec spec = specs[0];
    spec.scale = 1e-38f; // biases that vanish: every logit is 0
    setting t = set_up(&spec, GORGON_ACTIVATIONS_INT8, 1);
    gg_proposer *p = create(&t, 1);
    memset(t.hidden + 2 * t.g->d_model, 0, t.g->d_model * sizeof *t.hidden);
    for (int noisy = 0; noisy < 2; noisy++) {
        const gorgon_sampling sampling = at_temperature(noisy ? 0.8f : 0.0f);
        const gg_draft draft = {create_state(p), 30, ROOT_POSITION, &sampling};
        observe(&t, p, draft.state, 2);
        p->ops->begin(p, &draft, 1);
        check_draft(&t, p, &draft, 2);
        p->ops->state_free(p, draft.state);
    }
    gg_proposer_free(p);
    tear_down(&t);
}

// However large the weights, some logits or all of them: what is suggested has finite numbers.
Test(medusa, overflowing_heads_suggest_nothing)
{
    size_t refused = 0;
    for (float scale = 1e34f; scale < 1e38f; scale *= 2.0f) {
        heads_spec spec = specs[0];
        spec.scale = scale;
        setting t = set_up(&spec, GORGON_ACTIVATIONS_F32, 1);
        gg_proposer *p = create(&t, 1);
        gg_edge edges[EDGES];
        const gorgon_sampling sampling = at_temperature(0.8f);
        const gg_draft draft = {create_state(p), 30, ROOT_POSITION, &sampling};
        observe(&t, p, draft.state, 2);
        p->ops->begin(p, &draft, 1);
        const size_t n = expand(p, &draft, 0, edges);
        refused += n == 0;
        for (size_t i = 0; i < n; i++) {
            cr_assert(isfinite(edges[i].score));
            for (size_t e = 0; e < GG_EVIDENCE; e++)
                cr_assert(isfinite(edges[i].evidence[e]), "scale %g, evidence %zu", (double)scale,
                          e);
        }
        p->ops->state_free(p, draft.state);
        gg_proposer_free(p);
        tear_down(&t);
    }
    cr_assert_gt(refused, 0);
}

Test(medusa, a_step_does_not_allocate)
{
    setting t = set_up(&specs[1], GORGON_ACTIVATIONS_INT8, 1);
    gg_proposer *p = create(&t, 1);
    gg_edge edges[EDGES];
    const gorgon_sampling sampling = at_temperature(0.8f);
    const gg_draft draft = {create_state(p), 30, ROOT_POSITION, &sampling};
    gg_alloc_fail_at(0);
    observe(&t, p, draft.state, 2);
    p->ops->begin(p, &draft, 1);
    cr_assert_eq(expand(p, &draft, 0, edges), EDGES);
    cr_assert_eq(gg_alloc_fail_at(0), 0);
    p->ops->state_free(p, draft.state);
    gg_proposer_free(p);
    tear_down(&t);
}

Test(medusa, failing_allocations_are_reported)
{
    setting t = set_up(&specs[3], GORGON_ACTIVATIONS_INT8, 1);
    const gg_proposer_config config = {.engine = t.engine, .heads = t.heads, .max_sequences = 2};
    gg_proposer *p = NULL;
    gorgon_status status = GORGON_ERROR_MEMORY;
    size_t fail = 1;
    for (; status != GORGON_OK; fail++) {
        gg_alloc_fail_at(fail);
        status = gg_proposer_create("heads", &config, &p, NULL);
        gg_alloc_fail_at(0);
        cr_assert(status == GORGON_OK || (status == GORGON_ERROR_MEMORY && !p));
    }
    cr_assert_gt(fail, 10);
    status = GORGON_ERROR_MEMORY;
    for (fail = 1; status != GORGON_OK; fail++) {
        void *state = NULL;
        gg_alloc_fail_at(fail);
        status = p->ops->state_create(p, 64, &state, NULL);
        gg_alloc_fail_at(0);
        cr_assert(status == GORGON_OK || (status == GORGON_ERROR_MEMORY && !state));
        p->ops->state_free(p, state);
    }
    gg_proposer_free(p);
    tear_down(&t);
}

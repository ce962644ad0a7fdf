// Calibration of proposers on held-out self-made text. Drafts are made along the true text from
// the cached hidden states; every suggested edge whose parent is the true path is one example.
#include <string.h>

#include "core/alloc.h"
#include "core/engine.h"
#include "core/error.h"
#include "core/sampling.h"
#include "core/system.h"
#include "gorgon/trainers.h"
#include "heads/head_set.h"
#include "heads/proposer.h"
#include "recompute.h"
#include "trainers/cache.h"
#include "tree/calibration.h"

enum { N_CALIBRATED = 3, ROUNDS = 2, MIN_EXAMPLES = 200, TAUGHT_ROWS = 32 };
static const char *const calibrated_names[N_CALIBRATED] = {"heads", "lookup", "recycling"};
static const float LEAST_PATH = 1e-3f; // less likely paths are not followed: trees do not either

// A child of the true path's last node that some proposer named.
typedef struct named {
    gorgon_token token;
    gg_namers namers;
    uint32_t n_terms;
    gg_term terms[GG_WEIGHTS];
} named;

typedef struct calibrator {
    const gorgon_calibrate_options *options;
    gorgon_engine *engine;
    gg_cache *cache;
    gorgon_heads *heads;
    gg_proposer *proposer[N_CALIBRATED];
    void *state[N_CALIBRATED];
    gg_calibration calibration;
    gg_examples examples[2][GG_CALIBRATION_DEPTHS];
    named named[N_CALIBRATED * GG_MAX_CHILDREN];
    size_t n_named;
    size_t n_drafts;    // so far in this round
    float *hidden;      // [context][d_model] of the current sequence's records
    const float **rows; // [context] hidden state per position, NULL where there is no record
    uint16_t *half;     // [context][d_model]
    float *logits;      // [TAUGHT_ROWS][n_vocab]
    gg_draft_tree *tree;
    size_t context, d_model, n_vocab, stride, seen; // every stride-th record is used
    double started;
    size_t round;
    gorgon_error *err;
} calibrator;

void gorgon_calibrate_options_init(gorgon_calibrate_options *options)
{
    *options = (gorgon_calibrate_options){.max_positions = 20000, .held_out = 0.05};
}

// The proposers of draft k: all of them every other time, else fewer, so that the weights serve
// whoever runs without some.
static uint32_t drafting(size_t k)
{
    const size_t all = (1u << N_CALIBRATED) - 1;
    return (uint32_t)(k % 2 == 0 ? all : 1 + k / 2 % (all - 1));
}

static named *named_of(calibrator *c, const gg_draft *draft, gorgon_token token)
{
    for (size_t i = 0; i < c->n_named; i++) {
        if (c->named[i].token == token)
            return &c->named[i];
    }
    const size_t parent = c->tree->n - 1, depth = (size_t)c->tree->depth[parent] + 1;
    const bool sampled = draft->sampling->temperature > 0.0f;
    const float noise =
        sampled ? gg_gumbel(draft->sampling, draft->root_position + depth, (uint32_t)token) : 0.0f;
    named *new = &c->named[c->n_named++];
    *new = (named){.token = token, .n_terms = GG_SHARED};
    gg_shared_terms(depth, c->tree->path[parent], noise, new->terms);
    return new;
}

// Asks the proposers of the bit set for children of the true path's last node.
static void ask(calibrator *c, uint32_t active, const gg_draft *drafts)
{
    gg_edge edges[GG_MAX_CHILDREN];
    const uint32_t parent = (uint32_t)c->tree->n - 1;
    c->n_named = 0;
    for (size_t p = 0; p < N_CALIBRATED; p++) {
        const gg_proposer *proposer = c->proposer[p];
        if (!(active & UINT32_C(1) << p))
            continue;
        size_t n = proposer->ops->expand(proposer, &drafts[p], c->tree, &parent, 1, edges,
                                         GG_MAX_CHILDREN);
        for (size_t i = 0; i < n; i++) {
            named *child = named_of(c, &drafts[p], edges[i].token);
            child->n_terms += (uint32_t)gg_said_terms(p, &edges[i], &child->namers,
                                                      child->terms + child->n_terms);
        }
    }
}

// Makes the named children examples. *chance: the probability of the true one, 0 if not named.
static gorgon_status judge(calibrator *c, bool sampled, gorgon_token truth, double *chance)
{
    double p[N_CALIBRATED * GG_MAX_CHILDREN];
    const size_t class = gg_depth_class(c->tree->n); // the children's depth
    const float *weights = c->calibration.w[sampled][class];
    for (size_t i = 0; i < c->n_named; i++)
        p[i] = gg_log_odds(weights, c->named[i].terms, c->named[i].n_terms);
    gg_choose(p, c->n_named);
    *chance = 0.0;
    for (size_t i = 0; i < c->n_named; i++) {
        const named *child = &c->named[i];
        const gg_example_edge edge = {child->n_terms, child->token == truth, i + 1 == c->n_named};
        if (!gg_examples_add(&c->examples[sampled][class], child->terms, edge))
            return gg_fail(c->err, GORGON_ERROR_MEMORY, "calibrate: out of memory for examples");
        if (edge.accepted)
            *chance = p[i];
    }
    return GORGON_OK;
}

// Drafts after record i, along the text the model really wrote.
static gorgon_status draft_along(calibrator *c, const gg_cache_sequence *s, uint32_t i)
{
    gorgon_sampling sampling;
    gorgon_sampling_init(&sampling);
    sampling.temperature = s->temperature;
    sampling.seed = s->seed;
    sampling.completion = s->completion;
    size_t root = (size_t)s->positions[i] + 1;
    const uint32_t active = drafting(c->n_drafts++);
    gg_draft drafts[N_CALIBRATED];
    for (size_t p = 0; p < N_CALIBRATED; p++) {
        drafts[p] = (gg_draft){c->state[p], s->tokens[root], root, &sampling};
        c->proposer[p]->ops->begin(c->proposer[p], &drafts[p], 1);
    }
    gg_draft_tree *t = c->tree;
    t->n = 1;
    t->token[0] = s->tokens[root];
    t->parent[0] = -1;
    t->depth[0] = 0;
    t->path[0] = 1.0f;
    gorgon_status status = GORGON_OK;
    // The token after position q was the model's own choice while q is a record.
    for (uint32_t next = i + 1; next < s->n_records && s->positions[next] == root; next++, root++) {
        gorgon_token truth = s->tokens[root + 1];
        double chance;
        ask(c, active, drafts);
        status = judge(c, sampling.temperature > 0.0f, truth, &chance);
        float path = t->path[t->n - 1] * (float)chance;
        if (status != GORGON_OK || path < LEAST_PATH || t->n == GG_MAX_DRAFT_DEPTH)
            break;
        t->token[t->n] = truth;
        t->parent[t->n] = (int32_t)t->n - 1;
        t->depth[t->n] = (uint16_t)t->n;
        t->path[t->n] = path;
        t->n++;
    }
    return status;
}

static gorgon_status load_hidden(calibrator *c, const gg_cache_sequence *s)
{
    const uint16_t *half = s->hidden;
    if (!half) {
        gorgon_status status = gg_recompute_hidden(c->engine, s, c->half, c->err);
        if (status != GORGON_OK)
            return status;
        half = c->half;
    }
    for (size_t p = 0; p < s->n_tokens; p++)
        c->rows[p] = NULL;
    for (size_t i = 0; i < s->n_records; i++) {
        float *to = c->hidden + i * c->d_model;
        gg_engine_kernels(c->engine)->from_f16(half + i * c->d_model, c->d_model, to);
        c->rows[s->positions[i]] = to;
    }
    return GORGON_OK;
}

// Shows what the model said at records [from, to) to the proposers that learn from it.
static void teach(calibrator *c, const gg_cache_sequence *s, size_t from, size_t to)
{
    const gg_matrix *output = gg_model_output(gg_engine_model(c->engine));
    gg_verified_row rows[TAUGHT_ROWS];
    size_t most = gorgon_engine_max_rows(c->engine);
    most = most < TAUGHT_ROWS ? most : TAUGHT_ROWS;
    for (size_t done = from, n; done < to; done += n) {
        n = to - done < most ? to - done : most;
        gg_engine_linear(c->engine, output, c->hidden + done * c->d_model, c->d_model, n, c->logits,
                         c->n_vocab);
        for (size_t i = 0; i < n; i++) {
            size_t position = s->positions[done + i];
            rows[i] = (gg_verified_row){position > 0 ? s->tokens[position - 1] : -1,
                                        s->tokens[position], c->logits + i * c->n_vocab};
        }
        for (size_t p = 0; p < N_CALIBRATED; p++) {
            if (c->proposer[p]->ops->learn)
                c->proposer[p]->ops->learn(c->proposer[p], rows, n);
        }
    }
}

static gorgon_status use_sequence(calibrator *c, const gg_cache_sequence *s)
{
    if (s->n_tokens > c->context)
        return gg_fail(c->err, GORGON_ERROR_LIMIT,
                       "calibrate: a sequence of %u tokens, the context is %zu", s->n_tokens,
                       c->context);
    gorgon_status status = load_hidden(c, s);
    size_t observed = 0, taught = 0;
    for (size_t p = 0; p < N_CALIBRATED; p++)
        c->proposer[p]->ops->state_reset(c->proposer[p], c->state[p]);
    for (uint32_t i = 0; i < s->n_records && status == GORGON_OK; i++) {
        if (c->seen++ % c->stride)
            continue;
        size_t end = (size_t)s->positions[i] + 1;
        gg_observation new = {observed, end - observed, s->tokens + observed, c->rows + observed};
        for (size_t p = 0; p < N_CALIBRATED; p++)
            c->proposer[p]->ops->observe(c->proposer[p], c->state[p], &new);
        teach(c, s, taught, i + 1);
        observed = end;
        taught = i + 1;
        status = draft_along(c, s, i);
    }
    return status;
}

static gorgon_status report(calibrator *c, size_t chunk, size_t n_chunks)
{
    if (!c->options->progress)
        return GORGON_OK;
    gorgon_progress p = {.stage = "calibrate", .unit = "chunks", .line = ""};
    p.total = n_chunks * ROUNDS;
    p.done = c->round * n_chunks + chunk;
    double elapsed = gg_now() - c->started;
    p.rate = elapsed > 0 ? (double)p.done / elapsed : 0;
    p.eta_s = p.rate > 0 ? (double)(p.total - p.done) / p.rate : -1;
    if (!c->options->progress(c->options->context, &p))
        return gg_fail(c->err, GORGON_ERROR_CANCELLED, "calibrate: stopped");
    return GORGON_OK;
}

static gorgon_status collect(calibrator *c)
{
    size_t n_chunks = gg_cache_chunks(c->cache);
    gorgon_status status = GORGON_OK;
    c->seen = c->n_drafts = 0;
    for (size_t k = 0; k < n_chunks && status == GORGON_OK; k++) {
        gg_cache_sequence *sequences = NULL;
        size_t n = 0;
        status = gg_cache_read(c->cache, k, GG_CACHE_HIDDEN, &sequences, &n, c->err);
        for (size_t i = 0; i < n && status == GORGON_OK; i++) {
            if (gg_cache_held_out(sequences[i].index, c->options->held_out))
                status = use_sequence(c, &sequences[i]);
        }
        gg_cache_chunk_free(sequences, n);
        if (status == GORGON_OK)
            status = report(c, k + 1, n_chunks);
    }
    return status;
}

// Fits every class with enough examples; one without keeps what it had.
static gorgon_status fit(calibrator *c)
{
    bool fits = true;
    for (size_t sampled = 0; sampled < 2; sampled++) {
        for (size_t d = 0; d < GG_CALIBRATION_DEPTHS; d++) {
            gg_examples *e = &c->examples[sampled][d];
            if (e->n_edges >= MIN_EXAMPLES)
                fits = gg_calibration_fit(e, c->calibration.w[sampled][d]) && fits;
            gg_examples_free(e);
        }
    }
    return fits ? GORGON_OK : gg_fail(c->err, GORGON_ERROR_MEMORY, "calibrate: out of memory");
}

static gorgon_status count_records(calibrator *c, uint64_t *records)
{
    *records = 0;
    for (size_t k = 0; k < gg_cache_chunks(c->cache); k++) {
        gg_cache_sequence *sequences = NULL;
        size_t n = 0;
        gorgon_status status = gg_cache_read(c->cache, k, GG_CACHE_TEXT, &sequences, &n, c->err);
        if (status != GORGON_OK)
            return status;
        for (size_t i = 0; i < n; i++) {
            if (gg_cache_held_out(sequences[i].index, c->options->held_out))
                *records += sequences[i].n_records;
        }
        gg_cache_chunk_free(sequences, n);
    }
    if (*records == 0)
        return gg_fail(c->err, GORGON_ERROR_ARGUMENT,
                       "calibrate: %s holds no held-out sequence; make more text",
                       c->options->cache);
    return GORGON_OK;
}

static void close_proposers(calibrator *c)
{
    for (size_t p = 0; p < N_CALIBRATED; p++) {
        if (c->proposer[p])
            c->proposer[p]->ops->state_free(c->proposer[p], c->state[p]);
        gg_proposer_free(c->proposer[p]);
        c->proposer[p] = NULL;
        c->state[p] = NULL;
    }
}

// New ones for every round: nothing may be known that an earlier round taught.
static gorgon_status open_proposers(calibrator *c)
{
    gg_proposer_config config = {
        .engine = c->engine, .heads = c->heads, .set = c->options->set, .max_sequences = 1};
    gorgon_status status = GORGON_OK;
    close_proposers(c);
    for (size_t p = 0; p < N_CALIBRATED && status == GORGON_OK; p++) {
        status = gg_proposer_create(calibrated_names[p], &config, &c->proposer[p], c->err);
        if (status == GORGON_OK)
            status =
                c->proposer[p]->ops->state_create(c->proposer[p], c->context, &c->state[p], c->err);
    }
    return status;
}

static gorgon_status prepare(calibrator *c)
{
    const gorgon_model *model = gg_engine_model(c->engine);
    const gorgon_calibrate_options *o = c->options;
    gorgon_status status =
        gg_cache_open_existing(o->cache, gorgon_model_fingerprint(model), &c->cache, c->err);
    if (status == GORGON_OK)
        status = gorgon_heads_open(o->heads, &c->heads, c->err);
    if (status == GORGON_OK)
        status = gg_heads_check_side_car(c->heads, c->err);
    if (status == GORGON_OK)
        status = gorgon_heads_check(c->heads, model, NULL, c->err);
    gg_calibration_resolve(NULL, 0, calibrated_names, N_CALIBRATED, &c->calibration);
    uint64_t records = 0;
    if (status == GORGON_OK)
        status = count_records(c, &records);
    c->stride = (size_t)(records / (o->max_positions ? o->max_positions : 1)) + 1;
    c->hidden = gg_alloc(c->context * c->d_model, sizeof *c->hidden);
    c->half = gg_alloc(c->context * c->d_model, sizeof *c->half);
    c->rows = gg_alloc(c->context, sizeof *c->rows);
    c->logits = gg_alloc(TAUGHT_ROWS * c->n_vocab, sizeof *c->logits);
    c->tree = gg_alloc(1, sizeof *c->tree);
    if (status == GORGON_OK && (!c->logits || !c->hidden || !c->half || !c->rows || !c->tree))
        status = gg_fail(c->err, GORGON_ERROR_MEMORY, "calibrate: out of memory");
    return status;
}

static void release(calibrator *c)
{
    close_proposers(c);
    for (size_t sampled = 0; sampled < 2; sampled++) {
        for (size_t d = 0; d < GG_CALIBRATION_DEPTHS; d++)
            gg_examples_free(&c->examples[sampled][d]);
    }
    gorgon_heads_free(c->heads);
    gg_cache_free(c->cache);
    gg_free(c->hidden);
    gg_free(c->half);
    gg_free((void *)c->rows);
    gg_free(c->logits);
    gg_free(c->tree);
}

static gorgon_status write_weights(calibrator *c)
{
    size_t n = gg_calibration_floats(N_CALIBRATED);
    float *packed = gg_alloc(n, sizeof *packed);
    if (!packed)
        return gg_fail(c->err, GORGON_ERROR_MEMORY, "calibrate: out of memory");
    gg_calibration_pack(calibrated_names, N_CALIBRATED, &c->calibration, packed);
    gorgon_status status =
        gg_heads_set_calibration(c->options->heads, c->options->set, packed, n, NULL, c->err);
    gg_free(packed);
    return status;
}

gorgon_status gorgon_calibrate(gorgon_engine *engine, const gorgon_calibrate_options *options,
                               gorgon_error *err)
{
    if (!options->cache || !options->heads)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "calibrate: needs a cache and a heads file");
    calibrator *c = gg_alloc(1, sizeof *c);
    if (!c)
        return gg_fail(err, GORGON_ERROR_MEMORY, "calibrate: out of memory");
    c->options = options;
    c->engine = engine;
    c->err = err;
    c->context = gorgon_engine_context(engine);
    c->d_model = gg_model_geometry(gg_engine_model(engine))->d_model;
    c->n_vocab = gg_model_geometry(gg_engine_model(engine))->n_vocab;
    c->started = gg_now();
    gorgon_status status = prepare(c);
    for (c->round = 0; c->round < ROUNDS && status == GORGON_OK; c->round++) {
        status = open_proposers(c);
        if (status == GORGON_OK)
            status = collect(c);
        if (status == GORGON_OK)
            status = fit(c);
    }
    if (status == GORGON_OK)
        status = write_weights(c);
    release(c);
    gg_free(c);
    return status;
}

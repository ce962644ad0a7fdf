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

// Examples of one weight vector.
typedef struct examples {
    float (*features)[GG_FEATURES]; // [capacity]
    uint8_t *accepted;
    size_t n, capacity;
} examples;

typedef struct calibrator {
    const gorgon_calibrate_options *options;
    gorgon_engine *engine;
    gg_cache *cache;
    gorgon_heads *heads;
    gg_proposer *proposer[N_CALIBRATED];
    void *state[N_CALIBRATED];
    gg_calibration_weights weights[N_CALIBRATED];
    examples examples[N_CALIBRATED][2][GG_CALIBRATION_DEPTHS];
    float *hidden;      // [context][d_model] of the current sequence's records
    const float **rows; // [context] hidden state per position
    uint16_t *half;     // [context][d_model]
    float *nothing;     // [d_model] zeros: positions without features
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

static gorgon_status keep_example(calibrator *c, examples *e, const float *features, bool accepted)
{
    if (e->n == e->capacity) {
        size_t capacity = e->capacity ? e->capacity * 2 : 4096;
        void *grown = gg_realloc(e->features, e->n, capacity, sizeof *e->features);
        if (grown)
            e->features = grown;
        void *labels = gg_realloc(e->accepted, e->n, capacity, sizeof *e->accepted);
        if (labels)
            e->accepted = labels;
        if (!grown || !labels)
            return gg_fail(c->err, GORGON_ERROR_MEMORY, "calibrate: out of memory for examples");
        e->capacity = capacity;
    }
    memcpy(e->features[e->n], features, sizeof e->features[0]);
    e->accepted[e->n++] = accepted;
    return GORGON_OK;
}

static size_t depth_class(size_t depth)
{
    return (depth < GG_CALIBRATION_DEPTHS ? depth : GG_CALIBRATION_DEPTHS) - 1;
}

// One proposer's children of the true path's last node: examples, and into *missed the
// probability that none of what it says about the true token comes true (noisy-or).
static gorgon_status judge(calibrator *c, size_t p, const gg_draft *draft, gorgon_token truth,
                           float *missed)
{
    gg_edge edges[GG_MAX_CHILDREN];
    uint32_t parent = (uint32_t)c->tree->n - 1;
    size_t depth = (size_t)c->tree->depth[parent] + 1;
    bool sampled = draft->sampling->temperature > 0.0f;
    const gg_proposer *proposer = c->proposer[p];
    size_t n = proposer->ops->expand(proposer, draft, c->tree, &parent, 1, edges, GG_MAX_CHILDREN);
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < n && status == GORGON_OK; i++) {
        float features[GG_FEATURES];
        float noise = sampled ? gg_gumbel(draft->sampling, draft->root_position + depth,
                                          (uint32_t)edges[i].token)
                              : 0.0f;
        bool accepted = edges[i].token == truth;
        gg_edge_features(&edges[i], depth, c->tree->path[parent], noise, features);
        if (accepted)
            *missed *= 1.0f - gg_calibrated(&c->weights[p], sampled, depth, features);
        status = keep_example(c, &c->examples[p][sampled][depth_class(depth)], features, accepted);
    }
    return status;
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
        float missed = 1.0f;
        for (size_t p = 0; p < N_CALIBRATED && status == GORGON_OK; p++)
            status = judge(c, p, &drafts[p], truth, &missed);
        float path = t->path[t->n - 1] * (1.0f - missed);
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
        c->rows[p] = c->nothing;
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
    c->seen = 0;
    for (size_t k = 0; k < n_chunks && status == GORGON_OK; k++) {
        gg_cache_sequence *sequences = NULL;
        size_t n = 0;
        status = gg_cache_read(c->cache, k, &sequences, &n, c->err);
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

// Fits every weight vector with enough examples; a class without keeps what it had.
static void fit(calibrator *c)
{
    for (size_t p = 0; p < N_CALIBRATED; p++) {
        for (size_t sampled = 0; sampled < 2; sampled++) {
            for (size_t d = 0; d < GG_CALIBRATION_DEPTHS; d++) {
                examples *e = &c->examples[p][sampled][d];
                if (e->n >= MIN_EXAMPLES)
                    gg_calibration_fit(e->features[0], e->accepted, e->n,
                                       c->weights[p].w[sampled][d]);
                e->n = 0;
            }
        }
    }
}

static gorgon_status count_records(calibrator *c, uint64_t *records)
{
    *records = 0;
    for (size_t k = 0; k < gg_cache_chunks(c->cache); k++) {
        gg_cache_sequence *sequences = NULL;
        size_t n = 0;
        gorgon_status status = gg_cache_read(c->cache, k, &sequences, &n, c->err);
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
        status = gorgon_heads_check(c->heads, model, NULL, c->err);
    for (size_t p = 0; p < N_CALIBRATED; p++)
        c->weights[p] = *gg_calibration_builtin(calibrated_names[p]);
    uint64_t records = 0;
    if (status == GORGON_OK)
        status = count_records(c, &records);
    c->stride = (size_t)(records / (o->max_positions ? o->max_positions : 1)) + 1;
    c->hidden = gg_alloc(c->context * c->d_model, sizeof *c->hidden);
    c->half = gg_alloc(c->context * c->d_model, sizeof *c->half);
    c->rows = gg_alloc(c->context, sizeof *c->rows);
    c->nothing = gg_alloc(c->d_model, sizeof *c->nothing);
    c->logits = gg_alloc(TAUGHT_ROWS * c->n_vocab, sizeof *c->logits);
    c->tree = gg_alloc(1, sizeof *c->tree);
    if (status == GORGON_OK &&
        (!c->logits || !c->hidden || !c->half || !c->rows || !c->nothing || !c->tree))
        status = gg_fail(c->err, GORGON_ERROR_MEMORY, "calibrate: out of memory");
    return status;
}

static void release(calibrator *c)
{
    close_proposers(c);
    for (size_t p = 0; p < N_CALIBRATED; p++) {
        for (size_t sampled = 0; sampled < 2; sampled++) {
            for (size_t d = 0; d < GG_CALIBRATION_DEPTHS; d++) {
                gg_free(c->examples[p][sampled][d].features);
                gg_free(c->examples[p][sampled][d].accepted);
            }
        }
    }
    gorgon_heads_free(c->heads);
    gg_cache_free(c->cache);
    gg_free(c->hidden);
    gg_free(c->half);
    gg_free((void *)c->rows);
    gg_free(c->nothing);
    gg_free(c->logits);
    gg_free(c->tree);
}

static gorgon_status write_weights(calibrator *c)
{
    size_t n = gg_calibration_floats(N_CALIBRATED);
    float *packed = gg_alloc(n, sizeof *packed);
    if (!packed)
        return gg_fail(c->err, GORGON_ERROR_MEMORY, "calibrate: out of memory");
    gg_calibration_pack(calibrated_names, c->weights, N_CALIBRATED, packed);
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
            fit(c);
    }
    if (status == GORGON_OK)
        status = write_weights(c);
    release(c);
    gg_free(c);
    return status;
}

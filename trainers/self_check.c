// Are heads wired to this base as they should be? What they name on the model's own text is
// compared with what came: as they are, shifted by a token, on hidden states before the final norm,
// with their square matrices transposed.
#include <string.h>

#include "core/alloc.h"
#include "core/engine.h"
#include "core/error.h"
#include "gorgon/trainers.h"
#include "heads/head_probe.h"
#include "heads/head_set.h"
#include "trainers/cache.h"

enum {
    POSITIONS = 512,
    PER_SEQUENCE = 64, // at most
};
// A mistake is reported when its share is so much larger than that of the heads as they are.
static const double clearly = 1.5, at_least = 0.03;

// What is known of a position: hidden states and the tokens from the root on.
typedef struct place {
    float *hidden, *before; // [d] after and before the final norm
    gorgon_token next[GG_MAX_DRAFT_HEADS + 2];
} place;

typedef struct checker {
    gorgon_engine *engine;
    const gorgon_heads *heads;
    size_t set, d, n_vocab;
    const gg_head_set *heads_set;
    const char *cache_path;
    place *places; // [POSITIONS]
    size_t n;
    float *states; // [POSITIONS][2][d]
    float *rows;   // [max_rows][d] before the norm, of the pass
    gorgon_error *err;
} checker;

static void keep_residual(void *context, size_t layer, const char *tensor, const float *data,
                          size_t rows, size_t width, size_t stride)
{
    const checker *c = context;
    const size_t last = gg_model_geometry(gg_engine_model(c->engine))->n_layers - 1;
    if (layer != last || strcmp(tensor, "residual") != 0)
        return;
    for (size_t r = 0; r < rows; r++)
        memcpy(c->rows + r * c->d, data + r * stride, width * sizeof *data);
}

// Positions of a pass over tokens [at, at + n) that are recorded and have enough tokens after them.
static void keep_places(checker *c, const gg_cache_sequence *s, size_t at, size_t n, size_t *record)
{
    const size_t ahead = c->heads_set->shape.n_heads + 2;
    for (; *record < s->n_records && s->positions[*record] < at + n; ++*record) {
        const size_t p = s->positions[*record];
        if (c->n == POSITIONS || *record >= PER_SEQUENCE || p + ahead >= s->n_tokens)
            continue;
        place *to = &c->places[c->n];
        to->hidden = c->states + 2 * c->n * c->d;
        to->before = to->hidden + c->d;
        memcpy(to->hidden, gorgon_engine_hidden(c->engine, p - at), c->d * sizeof(float));
        memcpy(to->before, c->rows + (p - at) * c->d, c->d * sizeof(float));
        memcpy(to->next, s->tokens + p + 1, ahead * sizeof *to->next);
        c->n++;
    }
}

static gorgon_status run_sequence(checker *c, const gg_cache_sequence *s, gorgon_sequence *sequence)
{
    enum { ROWS = 64 };
    gorgon_row rows[ROWS];
    uint32_t indices[ROWS];
    const size_t most =
        gorgon_engine_max_rows(c->engine) < ROWS ? gorgon_engine_max_rows(c->engine) : ROWS;
    gorgon_status status = GORGON_OK;
    size_t record = 0, n;
    for (size_t at = 0; at < s->n_tokens && record < PER_SEQUENCE && status == GORGON_OK; at += n) {
        n = s->n_tokens - at < most ? s->n_tokens - at : most;
        for (size_t i = 0; i < n; i++) {
            rows[i] = (gorgon_row){.sequence = sequence,
                                   .token = s->tokens[at + i],
                                   .parent = i == 0 ? GORGON_ROW_ROOT : (int32_t)i - 1};
            indices[i] = (uint32_t)i;
        }
        status = gorgon_engine_pass(c->engine, rows, n, c->err);
        if (status == GORGON_OK) {
            keep_places(c, s, at, n, &record);
            status = gorgon_engine_commit(c->engine, sequence, indices, n, c->err);
        }
    }
    return status;
}

static gorgon_status read_chunk(checker *c, const gg_cache *cache, size_t chunk)
{
    gg_cache_sequence *sequences;
    size_t n;
    gorgon_status status = gg_cache_read(cache, chunk, GG_CACHE_TEXT, &sequences, &n, c->err);
    for (size_t i = 0; i < n && c->n < POSITIONS && status == GORGON_OK; i++) {
        gorgon_sequence *sequence = NULL;
        status = gorgon_sequence_create(c->engine, &sequence, c->err);
        if (status == GORGON_OK)
            status = run_sequence(c, &sequences[i], sequence);
        gorgon_sequence_free(sequence);
    }
    gg_cache_chunk_free(sequences, n);
    return status;
}

static gorgon_status collect(checker *c)
{
    gg_cache *cache = NULL;
    gorgon_status status = gg_cache_open_existing(
        c->cache_path, gorgon_model_fingerprint(gg_engine_model(c->engine)), &cache, c->err);
    gorgon_engine_set_tap(c->engine, keep_residual, c);
    for (size_t k = 0; status == GORGON_OK && k < gg_cache_chunks(cache) && c->n < POSITIONS; k++)
        status = read_chunk(c, cache, k);
    gorgon_engine_set_tap(c->engine, NULL, NULL);
    gg_cache_free(cache);
    if (status == GORGON_OK && c->n == 0)
        status = gg_fail(c->err, GORGON_ERROR_ARGUMENT,
                         "self-check: %s holds no text of %zu tokens in a row; make more",
                         c->cache_path, c->heads_set->shape.n_heads + 2);
    return status;
}

// First choices of every head at every place, [n][n_heads].
static gorgon_status choose(const checker *c, bool before, bool turned, gorgon_token *choices)
{
    const size_t n_heads = c->heads_set->shape.n_heads;
    gg_head_probe *probe = NULL;
    gorgon_status status =
        gg_head_probe_create(c->engine, c->heads, c->set, turned, &probe, c->err);
    if (status != GORGON_OK)
        return status;
    const size_t n_out = gg_head_probe_outputs(probe);
    float *logits = gg_alloc(n_heads * n_out, sizeof *logits);
    if (!logits)
        status = gg_fail(c->err, GORGON_ERROR_MEMORY, "self-check: out of memory");
    for (size_t i = 0; i < c->n && status == GORGON_OK; i++) {
        const place *p = &c->places[i];
        gg_head_probe_run(probe, before ? p->before : p->hidden, p->next[0], logits);
        for (size_t k = 0; k < n_heads; k++)
            choices[i * n_heads + k] = gg_head_probe_token(
                probe, gg_engine_kernels(c->engine)->argmax(logits + k * n_out, n_out));
    }
    gg_free(logits);
    gg_head_probe_free(probe);
    return status;
}

// Share of the choices of heads [first, end) that stand `shift` places after where they should.
static double share_at(const checker *c, const gorgon_token *choices, size_t first, size_t end,
                       int shift)
{
    const size_t n_heads = c->heads_set->shape.n_heads;
    size_t hits = 0;
    for (size_t i = 0; i < c->n; i++) {
        for (size_t k = first; k < end; k++)
            hits += choices[i * n_heads + k] == c->places[i].next[(int)k + 1 + shift];
    }
    return (double)hits / (double)(c->n * (end - first));
}

// Share of the commonest token.
static gorgon_status commonest(const checker *c, double *share)
{
    uint32_t *counts = gg_alloc(c->n_vocab, sizeof *counts);
    uint32_t most = 0;
    if (!counts)
        return gg_fail(c->err, GORGON_ERROR_MEMORY, "self-check: out of memory");
    for (size_t i = 0; i < c->n; i++) {
        uint32_t *count = &counts[c->places[i].next[1]];
        most = ++*count > most ? *count : most;
    }
    *share = (double)most / (double)c->n;
    gg_free(counts);
    return GORGON_OK;
}

static void judge(gorgon_self_check *out)
{
    gorgon_wiring best = GORGON_WIRING_SOUND;
    for (size_t w = 0; w < GORGON_WIRING_FOREIGN; w++) {
        if (out->share[w] > out->share[best])
            best = (gorgon_wiring)w;
    }
    const double sound = out->share[GORGON_WIRING_SOUND];
    out->verdict = out->share[best] > clearly * sound + at_least ? best : GORGON_WIRING_SOUND;
    if (out->share[out->verdict] <= out->share[GORGON_WIRING_FOREIGN] + at_least)
        out->verdict = GORGON_WIRING_FOREIGN;
}

static gorgon_status compare(const checker *c, gorgon_token *choices, gorgon_self_check *out)
{
    const size_t n_heads = c->heads_set->shape.n_heads;
    gorgon_status status = choose(c, false, false, choices);
    if (status != GORGON_OK)
        return status;
    out->share[GORGON_WIRING_SOUND] = share_at(c, choices, 0, n_heads, 0);
    // Head 0 names the root also when it has learned nothing: z = x + 0 is what the base's own
    // output takes.
    out->share[GORGON_WIRING_EARLY] = share_at(c, choices, n_heads > 1, n_heads, -1);
    out->share[GORGON_WIRING_LATE] = share_at(c, choices, 0, n_heads, 1);
    for (size_t k = 0; k < n_heads; k++)
        out->head[k] = share_at(c, choices, k, k + 1, 0);
    status = choose(c, true, false, choices);
    if (status == GORGON_OK)
        out->share[GORGON_WIRING_BEFORE_NORM] = share_at(c, choices, 0, n_heads, 0);
    if (status != GORGON_OK || gg_dtype_is_quantized(c->heads_set->weight_type))
        return status; // gorgon's own files, never the other way round
    status = choose(c, false, true, choices);
    if (status == GORGON_OK)
        out->share[GORGON_WIRING_TRANSPOSED] = share_at(c, choices, 0, n_heads, 0);
    return status;
}

static gorgon_status run(checker *c, gorgon_self_check *out)
{
    const size_t n_heads = c->heads_set->shape.n_heads;
    const size_t rows = gorgon_engine_max_rows(c->engine);
    c->places = gg_alloc(POSITIONS, sizeof *c->places);
    c->states = gg_alloc(POSITIONS * 2 * c->d, sizeof *c->states);
    c->rows = gg_alloc(rows * c->d, sizeof *c->rows);
    gorgon_token *choices = gg_alloc(POSITIONS * n_heads, sizeof *choices);
    gorgon_status status = GORGON_OK;
    if (!c->places || !c->states || !c->rows || !choices)
        status = gg_fail(c->err, GORGON_ERROR_MEMORY, "self-check: out of memory");
    if (status == GORGON_OK)
        status = collect(c);
    if (status == GORGON_OK)
        status = compare(c, choices, out);
    if (status == GORGON_OK)
        status = commonest(c, &out->share[GORGON_WIRING_FOREIGN]);
    gg_free(choices);
    return status;
}

gorgon_status gorgon_heads_self_check(gorgon_engine *engine, const char *heads, size_t set,
                                      const char *cache, gorgon_self_check *out, gorgon_error *err)
{
    gorgon_heads *opened = NULL;
    const gg_geometry *g = gg_model_geometry(gg_engine_model(engine));
    *out = (gorgon_self_check){0};
    gorgon_status status = gorgon_heads_open(heads, &opened, err);
    if (status == GORGON_OK)
        status = gorgon_heads_check(opened, gg_engine_model(engine), NULL, err);
    if (status == GORGON_OK && !gg_heads_set(opened, set))
        status = gg_fail(err, GORGON_ERROR_ARGUMENT, "self-check: %s has %zu sets, no number %zu",
                         heads, gorgon_heads_count(opened), set);
    if (status == GORGON_OK) {
        checker c = {.engine = engine,
                     .heads = opened,
                     .set = set,
                     .heads_set = gg_heads_set(opened, set),
                     .d = g->d_model,
                     .n_vocab = g->n_vocab,
                     .cache_path = cache,
                     .err = err};
        for (size_t w = 0; w < GORGON_WIRINGS; w++)
            out->share[w] = -1.0;
        out->n_heads = c.heads_set->shape.n_heads;
        status = run(&c, out);
        out->positions = c.n;
        if (status == GORGON_OK)
            judge(out);
        gg_free(c.places);
        gg_free(c.states);
        gg_free(c.rows);
    }
    gorgon_heads_free(opened);
    return status;
}

const char *gorgon_wiring_name(gorgon_wiring wiring)
{
    static const char *const names[GORGON_WIRINGS] = {"sound",       "early",      "late",
                                                      "before_norm", "transposed", "foreign"};
    return names[wiring];
}

const char *gorgon_wiring_text(gorgon_wiring wiring)
{
    static const char *const texts[GORGON_WIRINGS] = {
        [GORGON_WIRING_SOUND] = "wired as they should be",
        [GORGON_WIRING_EARLY] = "off by one: each names the token before the one it should",
        [GORGON_WIRING_LATE] = "off by one: each names the token after the one it should",
        [GORGON_WIRING_BEFORE_NORM] = "made for the hidden state before the final norm, which "
                                      "other software may give them; gorgon gives the one after it",
        [GORGON_WIRING_TRANSPOSED] = "stored the other way round: rows and columns of their "
                                     "matrices are exchanged",
        [GORGON_WIRING_FOREIGN] =
            "of no use here: made for another model, damaged, or hardly trained",
    };
    return texts[wiring];
}

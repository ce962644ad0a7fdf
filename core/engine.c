// Life of an engine: options, workspace, rotary tables, and the small services around passes.
#include "engine_impl.h"

#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/limits.h"
#include "core/math.h"
#include "core/system.h"

void gorgon_engine_options_init(gorgon_engine_options *options)
{
    *options = (gorgon_engine_options){
        .activations = GORGON_ACTIVATIONS_INT8,
        .max_sequences = 1,
        .max_rows = 256,
        .max_logit_rows = 128,
    };
}

static gorgon_status check_range(const char *name, size_t value, size_t low, size_t high,
                                 gorgon_error *err)
{
    if (value < low || value > high)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "engine option %s is %zu, expected %zu to %zu",
                       name, value, low, high);
    return GORGON_OK;
}

static gorgon_status check_options(const gorgon_model *model, const gorgon_engine_options *o,
                                   gorgon_error *err)
{
    const gg_geometry *g = gg_model_geometry(model);
    gorgon_status status = check_range("threads", o->threads, 0, GG_MAX_THREADS, err);
    if (status == GORGON_OK)
        status = check_range("context", o->context, 0, g->context_length, err);
    if (status == GORGON_OK)
        status = check_range("kv_positions", o->kv_positions, 0, (size_t)1 << 32, err);
    if (status == GORGON_OK)
        status = check_range("max_sequences", o->max_sequences, 1, 1 << 16, err);
    if (status == GORGON_OK)
        status = check_range("max_rows", o->max_rows, 1, 1 << 14, err);
    if (status == GORGON_OK)
        status = check_range("max_logit_rows", o->max_logit_rows, 1, o->max_rows, err);
    return status;
}

static gorgon_status choose_kernels(gorgon_engine *e, const char *word, gorgon_error *err)
{
    gg_level level = gg_cpu_level();
    if (word) {
        gorgon_status status = gg_level_parse(word, &level, err);
        if (status != GORGON_OK)
            return status;
    }
    e->kernels = gg_kernels_get(level);
    if (!e->kernels)
        return gg_fail(err, GORGON_ERROR_UNSUPPORTED, "CPU level %s is not available here", word);
    return GORGON_OK;
}

static size_t maximum(size_t a, size_t b)
{
    return a > b ? a : b;
}

// One workspace array of the engine: remembered in its slot and in the sum.
static bool keep(gorgon_engine *e, void *slot, void *block, size_t n, size_t size)
{
    memcpy(slot, &block, sizeof block);
    e->memory_bytes += (uint64_t)n * size;
    return block != NULL;
}

static bool take(gorgon_engine *e, void *slot, size_t n, size_t size)
{
    return keep(e, slot, gg_alloc(n, size), n, size);
}

// What a pass writes before it reads: memory that a small pass does not need is never touched.
static bool take_scratch(gorgon_engine *e, void *slot, size_t n, size_t size)
{
    return keep(e, slot, gg_alloc_uninit(n, size), n, size);
}

static void free_rows(const gg_qrows *q)
{
    gg_free(q->q);
    gg_free(q->d);
    gg_free(q->s);
    gg_free(q->sum);
    gg_free(q->half);
}

static bool take_rows(gorgon_engine *e, size_t width, gg_qrows *q)
{
    size_t cells = e->max_rows * width, blocks = e->max_rows * (width / GG_BLOCK + 1);
    q->n_in = width;
    return take(e, &q->q, cells, sizeof *q->q) && take(e, &q->d, blocks, sizeof *q->d) &&
           take(e, &q->s, blocks, sizeof *q->s) && take(e, &q->sum, blocks, sizeof *q->sum) &&
           take(e, &q->half, blocks, sizeof *q->half);
}

// Input workspace of `widest` columns: all arrays, or none and the old ones stay.
static bool take_input(gorgon_engine *e, size_t widest)
{
    float *input = NULL;
    gg_qrows q = {0};
    if (!take(e, &input, e->max_rows * widest, sizeof *input) || !take_rows(e, widest, &q)) {
        gg_free(input);
        free_rows(&q);
        return false;
    }
    gg_free(e->input);
    free_rows(&e->quantized);
    e->input = input;
    e->quantized = q;
    e->widest = widest;
    return true;
}

static bool take_batch(gorgon_engine *e)
{
    gg_batch *b = &e->batch;
    size_t n = e->max_rows;
    return take(e, &b->rows, n, sizeof *b->rows) && take(e, &b->position, n, sizeof *b->position) &&
           take(e, &b->chain_begin, n, sizeof *b->chain_begin) &&
           take(e, &b->chain_count, n, sizeof *b->chain_count) &&
           take(e, &b->chains, n * (n + 1) / 2, sizeof *b->chains) &&
           take(e, &b->attend_begin, n + 1, sizeof *b->attend_begin) &&
           take(e, &b->logit_rows, e->max_logit_rows, sizeof *b->logit_rows) &&
           take(e, &b->logit_index, n, sizeof *b->logit_index);
}

static bool take_workspace(gorgon_engine *e)
{
    const gg_geometry *g = gg_model_geometry(e->model);
    size_t n = e->max_rows, threads = gg_team_size(e->team);
    size_t q_width = g->n_heads * g->head_dim, kv_width = g->n_kv_heads * g->head_dim;
    size_t pages = (e->context + GG_PAGE - 1) / GG_PAGE;
    size_t tile = g->head_dim * GG_K_LANES;
    e->slot_tiles = (n + GG_K_LANES - 1) / GG_K_LANES;
    size_t scratch = maximum(gg_attend_scratch(g->n_heads / g->n_kv_heads, g->head_dim),
                             e->context); // the reference path keeps a score per position
    e->attend_scratch_n = (scratch + 15) / 16 * 16;
    return take_batch(e) && take_input(e, g->d_model) &&
           take_rows(e, maximum(q_width, g->d_ff), &e->quantized_inner) &&
           take_scratch(e, &e->x, n * g->d_model, sizeof *e->x) &&
           take_scratch(e, &e->q, n * q_width, sizeof *e->q) &&
           take_scratch(e, &e->k, n * kv_width, sizeof *e->k) &&
           take_scratch(e, &e->v, n * kv_width, sizeof *e->v) &&
           take_scratch(e, &e->attention, n * q_width, sizeof *e->attention) &&
           take_scratch(e, &e->gate, n * g->d_ff, sizeof *e->gate) &&
           take_scratch(e, &e->up, n * g->d_ff, sizeof *e->up) &&
           take_scratch(e, &e->product, n * g->d_model, sizeof *e->product) &&
           take_scratch(e, &e->hidden, n * g->d_model, sizeof *e->hidden) &&
           take_scratch(e, &e->logits, (e->max_logit_rows + 1) * g->n_vocab, sizeof *e->logits) &&
           take(e, &e->slot_k, g->n_layers * g->n_kv_heads * e->slot_tiles * tile,
                e->pool.element) &&
           take_scratch(e, &e->slot_v, g->n_layers * n * kv_width, e->pool.element) &&
           take(e, &e->attend_scratch, threads * e->attend_scratch_n, sizeof *e->attend_scratch) &&
           take(e, &e->page_pointers, threads * 2 * pages, sizeof *e->page_pointers) &&
           take(e, &e->top_k_scratch, g->n_vocab / 64 + 1, sizeof *e->top_k_scratch);
}

// Column j of a rotary table: cos and sin of position * frequency, computed in double, stored as
// float. Pairs beyond the rotary width stay as they are: cos 1, sin 0.
static void fill_rope_column(gorgon_engine *e, size_t index, size_t j)
{
    const gg_geometry *g = gg_model_geometry(e->model);
    const gg_rope *rope = &g->rope[index];
    const bool beyond = rope->long_divisors && e->context > rope->original_context;
    const float *divisors = beyond ? rope->long_divisors : rope->divisors;
    const bool turns = 2 * j < g->n_rotary;
    size_t pairs = g->head_dim / 2, begin = index * e->context * pairs + j;
    double log_base = gg_log((double)rope->base), magnitude = turns ? (double)rope->magnitude : 1.0;
    double divisor = (double)rope->divisor * (divisors && turns ? (double)divisors[j] : 1.0);
    double frequency = gg_exp(-log_base * (double)(2 * j) / (double)g->n_rotary) / divisor;
    for (size_t p = 0; p < e->context; p++) {
        double sine, cosine;
        gg_sincos(turns ? (double)p * frequency : 0.0, &sine, &cosine);
        e->rope_cos[begin + p * pairs] = (float)(cosine * magnitude);
        e->rope_sin[begin + p * pairs] = (float)(sine * magnitude);
    }
}

static void fill_rope_on_thread(void *context, size_t thread, size_t n_threads)
{
    gorgon_engine *e = context;
    const gg_geometry *g = gg_model_geometry(e->model);
    size_t pairs = g->head_dim / 2, begin, end;
    gg_team_share(g->n_ropes * pairs, 1, thread, n_threads, &begin, &end);
    for (size_t i = begin; i < end; i++)
        fill_rope_column(e, i / pairs, i % pairs);
}

static bool make_rope_tables(gorgon_engine *e)
{
    const gg_geometry *g = gg_model_geometry(e->model);
    size_t n = g->n_ropes * e->context * (g->head_dim / 2);
    if (!take(e, &e->rope_cos, n, sizeof *e->rope_cos) ||
        !take(e, &e->rope_sin, n, sizeof *e->rope_sin))
        return false;
    gg_team_run(e->team, fill_rope_on_thread, e);
    return true;
}

static gorgon_status build(gorgon_engine *e, const gorgon_engine_options *o, gorgon_error *err)
{
    gorgon_status status = choose_kernels(e, o->cpu_level, err);
    if (status == GORGON_OK)
        status = gg_team_create(o->threads ? o->threads : gg_processors(), &e->team, err);
    if (status != GORGON_OK)
        return status;
    if (!take_workspace(e) || !make_rope_tables(e))
        return gg_fail(err, GORGON_ERROR_MEMORY,
                       "out of memory for a workspace of %zu rows, %zu positions", e->max_rows,
                       e->context);
    return gg_kv_create(e, o->kv_positions ? o->kv_positions : e->context, err);
}

gorgon_status gorgon_engine_create(const gorgon_model *model, const gorgon_engine_options *options,
                                   gorgon_engine **out, gorgon_error *err)
{
    *out = NULL;
    gorgon_status status = check_options(model, options, err);
    if (status != GORGON_OK)
        return status;
    gorgon_engine *e = gg_alloc(1, sizeof *e);
    if (!e)
        return gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for an engine");
    e->model = model;
    e->activations = options->activations;
    e->pool.element = options->activations == GORGON_ACTIVATIONS_F32 ? 4 : 2;
    e->context = options->context ? options->context : gg_model_geometry(model)->context_length;
    e->max_rows = options->max_rows;
    e->max_logit_rows = options->max_logit_rows;
    e->max_sequences = options->max_sequences;
    status = build(e, options, err);
    if (status == GORGON_OK)
        *out = e;
    else
        gorgon_engine_free(e);
    return status;
}

static void free_batch(gg_batch *b)
{
    gg_free(b->rows);
    gg_free(b->position);
    gg_free(b->chain_begin);
    gg_free(b->chain_count);
    gg_free(b->chains);
    gg_free(b->attend_begin);
    gg_free(b->logit_rows);
    gg_free(b->logit_index);
}

void gorgon_engine_free(gorgon_engine *e)
{
    if (!e)
        return;
    gg_team_free(e->team);
    gg_kv_free(&e->pool);
    free_batch(&e->batch);
    free_rows(&e->quantized);
    free_rows(&e->quantized_inner);
    void *const blocks[] = {e->input,
                            e->x,
                            e->q,
                            e->k,
                            e->v,
                            e->attention,
                            e->gate,
                            e->up,
                            e->product,
                            e->hidden,
                            e->logits,
                            e->slot_k,
                            e->slot_v,
                            e->attend_scratch,
                            e->top_k_scratch,
                            e->rope_cos,
                            e->rope_sin};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        gg_free(blocks[i]);
    gg_free((void *)e->page_pointers);
    gg_free(e);
}

gorgon_status gg_engine_reserve_linear(gorgon_engine *engine, size_t n_in, gorgon_error *err)
{
    if (n_in <= engine->widest)
        return GORGON_OK;
    if (!take_input(engine, n_in))
        return gg_fail(err, GORGON_ERROR_MEMORY, "out of memory for inputs of width %zu", n_in);
    return GORGON_OK;
}

gorgon_status gorgon_engine_prefill(gorgon_engine *engine, gorgon_sequence *sequence,
                                    const gorgon_token *tokens, size_t n, size_t *last_row,
                                    gorgon_error *err)
{
    enum { CHUNK = 128 };
    gorgon_row rows[CHUNK];
    uint32_t path[CHUNK];
    size_t chunk = engine->max_rows < CHUNK ? engine->max_rows : CHUNK;
    gorgon_status status = GORGON_OK;
    for (size_t done = 0; done < n && status == GORGON_OK;) {
        size_t m = n - done < chunk ? n - done : chunk;
        for (size_t i = 0; i < m; i++) {
            bool last = done + i + 1 == n;
            rows[i] = (gorgon_row){sequence, tokens[done + i], (int32_t)i - 1,
                                   last ? GORGON_WANT_LOGITS : 0};
            path[i] = (uint32_t)i;
        }
        status = gorgon_engine_pass(engine, rows, m, err);
        if (status == GORGON_OK)
            status = gorgon_engine_commit(engine, sequence, path, m, err);
        done += m;
        *last_row = m - 1;
    }
    return status;
}

const float *gorgon_engine_hidden(const gorgon_engine *engine, size_t row)
{
    return engine->hidden + row * gg_model_geometry(engine->model)->d_model;
}

const float *gorgon_engine_logits(const gorgon_engine *engine, size_t row)
{
    int32_t i = engine->batch.logit_index[row];
    return i < 0 ? NULL : engine->logits + (size_t)i * gg_model_geometry(engine->model)->n_vocab;
}

size_t gorgon_engine_threads(const gorgon_engine *engine)
{
    return gg_team_size(engine->team);
}

const char *gorgon_engine_cpu_level(const gorgon_engine *engine)
{
    return engine->kernels->name;
}

size_t gorgon_engine_context(const gorgon_engine *engine)
{
    return engine->context;
}

size_t gorgon_engine_max_rows(const gorgon_engine *engine)
{
    return engine->max_rows;
}

size_t gorgon_engine_max_logit_rows(const gorgon_engine *engine)
{
    return engine->max_logit_rows;
}

uint64_t gorgon_engine_memory_bytes(const gorgon_engine *engine)
{
    return engine->memory_bytes + (uint64_t)engine->pool.n_pages * engine->pool.page_bytes;
}

void gorgon_engine_set_tap(gorgon_engine *engine, gorgon_tap_fn tap, void *context)
{
    engine->tap = tap;
    engine->tap_context = context;
}

gorgon_token gorgon_engine_argmax(const gorgon_engine *engine, const float *logits)
{
    return (gorgon_token)engine->kernels->argmax(logits, gg_model_geometry(engine->model)->n_vocab);
}

size_t gorgon_engine_top_k(gorgon_engine *engine, const float *logits, size_t k, gorgon_token *ids,
                           float *values)
{
    uint32_t *out = (uint32_t *)ids;
    return gg_top_k(engine->kernels, logits, gg_model_geometry(engine->model)->n_vocab, k, out,
                    values, engine->top_k_scratch);
}

float gorgon_engine_log_sum_exp(const gorgon_engine *engine, const float *logits)
{
    return engine->kernels->log_sum_exp(logits, gg_model_geometry(engine->model)->n_vocab);
}

const char *gorgon_cpu_best_level(void)
{
    return gg_kernels_get(gg_cpu_level())->name;
}

const gorgon_model *gg_engine_model(const gorgon_engine *engine)
{
    return engine->model;
}

const gg_kernels *gg_engine_kernels(const gorgon_engine *engine)
{
    return engine->kernels;
}

gg_team *gg_engine_team(gorgon_engine *engine)
{
    return engine->team;
}

gorgon_activations gg_engine_activations(const gorgon_engine *engine)
{
    return engine->activations;
}

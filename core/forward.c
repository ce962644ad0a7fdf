// A pass: checks and lays out the rows, then runs embedding, layers and output head as one
// parallel region with a barrier between phases. Every value of a row depends on that row alone.
#include "engine_impl.h"

#include <string.h>

#include "core/error.h"

typedef struct worker {
    gorgon_engine *e;
    const gg_geometry *g;
    size_t thread, n_threads;
    size_t n_rows; // of the products
} worker;

// One matrix product of a phase: y[r * ldy + o].
typedef struct product {
    const gg_matrix *w;
    float *y;
    size_t ldy;
} product;

static void barrier(const worker *w)
{
    gg_team_barrier(w->e->team);
}

// Shows a tensor to the tap; all threads call it right after the barrier that completed `data`.
static void tap(const worker *w, size_t layer, const char *tensor, const float *data, size_t width)
{
    if (!w->e->tap)
        return;
    if (w->thread == 0)
        w->e->tap(w->e->tap_context, layer, tensor, data, w->n_rows, width, width);
    barrier(w);
}

static void share_rows(const worker *w, size_t *begin, size_t *end)
{
    gg_team_share(w->n_rows, 1, w->thread, w->n_threads, begin, end);
}

static gg_qrows rows_from(const gg_qrows *a, size_t row)
{
    size_t blocks = a->n_in / GG_BLOCK;
    return (gg_qrows){a->n_in,
                      a->q + row * a->n_in,
                      a->d + row * blocks,
                      a->s + row * blocks,
                      a->sum + row * blocks,
                      a->half + row * blocks};
}

// Rows of `width` that go into a product: as floats, and quantised where the pass uses int8.
typedef struct input {
    float *x;
    size_t width;
    gg_qrows q;
} input;

static input input_of(float *x, size_t width, const gg_qrows *workspace)
{
    input in = {x, width, *workspace};
    in.q.n_in = width;
    return in;
}

// What comes from a norm, or from outside.
static input normed(const worker *w, size_t width)
{
    return input_of(w->e->input, width, &w->e->quantized);
}

static input attended(const worker *w)
{
    return input_of(w->e->attention, w->g->n_heads * w->g->head_dim, &w->e->quantized_inner);
}

static input gated(const worker *w)
{
    return input_of(w->e->gate, w->g->d_ff, &w->e->quantized_inner);
}

static bool uses_int8(const gorgon_engine *e, const gg_matrix *w)
{
    return e->activations == GORGON_ACTIVATIONS_INT8 && gg_dtype_is_quantized(w->type);
}

// Columns [begin, end) of row `row`, quantised for the product.
static void quantize_part(const worker *w, const input *in, size_t row, size_t begin, size_t end)
{
    if (w->e->activations != GORGON_ACTIVATIONS_INT8 || in->width % GG_BLOCK)
        return;
    gg_qrows part = rows_from(&in->q, row);
    part.n_in = end - begin;
    part.q += begin;
    part.d += begin / GG_BLOCK;
    part.s += begin / GG_BLOCK;
    part.sum += begin / GG_BLOCK;
    part.half += begin / GG_BLOCK;
    w->e->kernels->quantize(in->x + row * in->width + begin, in->width, 1, &part);
}

// One row from elsewhere as product input.
static void load_row(const worker *w, const input *in, size_t row, const float *from)
{
    memcpy(in->x + row * in->width, from, in->width * sizeof *from);
    quantize_part(w, in, row, 0, in->width);
}

// Output tiles [tile0, tile1) of one product.
static void multiply(const worker *w, const product *p, size_t tile0, size_t tile1, const input *in)
{
    const gg_kernels *kernels = w->e->kernels;
    if (uses_int8(w->e, p->w))
        kernels->matmul_q(p->w, tile0, tile1, &in->q, w->n_rows, p->y, p->ldy);
    else
        kernels->matmul_f(p->w, tile0, tile1, in->x, in->width, w->n_rows, p->y, p->ldy);
}

// Tiles [tile0, tile1) of the matrix list[index].
typedef struct span {
    size_t index, tile0, tile1;
} span;

// The next piece of this phase's products for whichever thread is free, a multiple of `grain`
// tiles; false when none is left. Small enough that no thread waits long for the last one.
static bool take_span(const worker *w, const product *list, size_t n, size_t grain, span *s)
{
    enum { PIECES = 4 }; // per thread
    size_t tiles = 0, pieces = 0, piece, index = 0;
    for (size_t i = 0; i < n; i++)
        tiles += gg_matrix_tiles(list[i].w);
    size_t grains = w->n_threads > 1 ? tiles / (grain * PIECES * w->n_threads) : tiles;
    size_t length = grain * (grains > 0 ? grains : 1);
    for (size_t i = 0; i < n; i++)
        pieces += (gg_matrix_tiles(list[i].w) + length - 1) / length;
    if (!gg_team_take(w->e->team, pieces, w->thread, &piece))
        return false;
    for (; piece * length >= gg_matrix_tiles(list[index].w); index++)
        piece -= (gg_matrix_tiles(list[index].w) + length - 1) / length;
    size_t end = (piece + 1) * length, last = gg_matrix_tiles(list[index].w);
    *s = (span){index, piece * length, end < last ? end : last};
    return true;
}

// All outputs of these matrices.
static void products(const worker *w, const product *list, size_t n, const input *in)
{
    span s;
    while (take_span(w, list, n, 1, &s))
        multiply(w, &list[s.index], s.tile0, s.tile1, in);
}

static input norm_rows(const worker *w, const float *weight)
{
    size_t begin, end, d = w->g->d_model;
    input in = normed(w, d);
    share_rows(w, &begin, &end);
    for (size_t r = begin; r < end; r++) {
        w->e->kernels->rms_norm(w->e->x + r * d, weight, w->g->norm_eps, d, in.x + r * d);
        quantize_part(w, &in, r, 0, d);
    }
    barrier(w);
    return in;
}

// K slots of a layer and KV head.
static uint8_t *slot_k_of(const worker *w, size_t layer, size_t kv_head)
{
    size_t tile = w->g->head_dim * GG_K_LANES * w->e->pool.element;
    return w->e->slot_k + (layer * w->g->n_kv_heads + kv_head) * w->e->slot_tiles * tile;
}

static uint8_t *slot_v_of(const worker *w, size_t layer, size_t row, size_t kv_head)
{
    size_t index = (layer * w->e->max_rows + row) * w->g->n_kv_heads + kv_head;
    return w->e->slot_v + index * w->g->head_dim * w->e->pool.element;
}

size_t gg_engine_kv_bytes(const gorgon_engine *engine)
{
    return engine->pool.element;
}

void gg_engine_put_value(const gorgon_engine *engine, const float *v, size_t n, void *slot)
{
    if (engine->pool.element == 2)
        engine->kernels->to_f16(v, n, slot);
    else
        memcpy(slot, v, n * sizeof *v);
}

void gg_engine_put_key(const gorgon_engine *engine, const float *k, size_t head_dim, size_t slot,
                       void *tiles)
{
    enum { PART = 256 };
    float elements[PART]; // in either size
    size_t size = engine->pool.element;
    uint8_t *lane =
        (uint8_t *)tiles + (slot / GG_K_LANES * head_dim * GG_K_LANES + slot % GG_K_LANES) * size;
    for (size_t begin = 0; begin < head_dim; begin += PART) {
        size_t n = head_dim - begin < PART ? head_dim - begin : PART;
        gg_engine_put_value(engine, k + begin, n, elements);
        const uint8_t *from = (const uint8_t *)elements;
        for (size_t i = 0; i < n; i++)
            memcpy(lane + (begin + i) * GG_K_LANES * size, from + i * size, size);
    }
}

void gg_engine_attend(const gorgon_engine *engine, const gg_attend *args)
{
    if (engine->pool.element == 2)
        engine->kernels->attend(args);
    else
        gg_attend_reference(args, engine->kernels);
}

// What follows the product of q or k in one row: bias, norm of every head, rotation.
static void finish_heads(const worker *w, float *x, size_t n_heads, const float *bias,
                         const float *norm, size_t table_row)
{
    const gg_kernels *kernels = w->e->kernels;
    size_t hd = w->g->head_dim, at = table_row * (hd / 2);
    if (bias)
        kernels->add(x, bias, n_heads * hd);
    for (size_t h = 0; norm && h < n_heads; h++)
        kernels->rms_norm(x + h * hd, norm, w->g->norm_eps, hd, x + h * hd);
    kernels->rope(x, n_heads, hd, w->e->rope_cos + at, w->e->rope_sin + at);
}

// Finishes q, k and v, scales q, puts k and v into the slots.
static void finish_and_store(const worker *w, size_t l, const gg_layer *layer)
{
    const gorgon_engine *e = w->e;
    size_t hd = w->g->head_dim, n_kv = w->g->n_kv_heads, q_width = w->g->n_heads * hd;
    size_t begin, end;
    share_rows(w, &begin, &end);
    for (size_t r = begin; r < end; r++) {
        float *q = e->q + r * q_width, *k = e->k + r * n_kv * hd, *v = e->v + r * n_kv * hd;
        size_t table_row = layer->rope * e->context + e->batch.position[r];
        finish_heads(w, q, w->g->n_heads, layer->q_bias, layer->q_norm, table_row);
        finish_heads(w, k, n_kv, layer->k_bias, layer->k_norm, table_row);
        e->kernels->scale(q, q_width, w->g->query_scale);
        if (layer->v_bias)
            e->kernels->add(v, layer->v_bias, n_kv * hd);
        for (size_t h = 0; h < n_kv; h++)
            gg_engine_put_key(e, k + h * hd, hd, r, slot_k_of(w, l, h));
        gg_engine_put_value(e, v, n_kv * hd, slot_v_of(w, l, r, 0));
    }
}

// The kernel sees KV elements as uint16_t; the reference path reads floats behind the pointers.
static const uint16_t *elements(const uint8_t *bytes)
{
    return (const uint16_t *)(const void *)bytes;
}

// Rows [row, end) of one sequence.
static void attend_rows(const worker *w, size_t layer, size_t row, size_t end, size_t kv_head)
{
    const gorgon_engine *e = w->e;
    const gg_batch *b = &e->batch;
    const gorgon_sequence *s = b->rows[row].sequence;
    size_t hd = w->g->head_dim, group = w->g->n_heads / w->g->n_kv_heads;
    size_t window = gg_model_layer(e->model, layer)->window;
    size_t per_sequence = (e->context + GG_PAGE - 1) / GG_PAGE;
    const uint16_t **page_k = e->page_pointers + w->thread * 2 * per_sequence;
    const uint16_t **page_v = page_k + per_sequence;
    // Pages that lie before the window of the sequence's next position are read by no row.
    size_t hidden = window > 0 && s->length >= window ? s->length + 1 - window : 0;
    for (size_t p = hidden / GG_PAGE; p < s->n_pages; p++) {
        const uint8_t *page = gg_kv_at(e, s->pages[p], layer, kv_head);
        page_k[p] = elements(page);
        page_v[p] = elements(page + e->pool.head_bytes / 2);
    }
    size_t first_head = row * w->g->n_heads + kv_head * group;
    gg_attend args = {
        .n_rows = end - row,
        .stride = w->g->n_heads * hd,
        .q = e->q + first_head * hd,
        .group = group,
        .head_dim = hd,
        .window = window,
        .page_k = page_k,
        .page_v = page_v,
        .n_committed = s->length,
        .slot_k = elements(slot_k_of(w, layer, kv_head)),
        .slot_v = elements(slot_v_of(w, layer, 0, kv_head)),
        .slot_v_stride = w->g->n_kv_heads * hd,
        .out = e->attention + first_head * hd,
        .scratch = e->attend_scratch + w->thread * e->attend_scratch_n,
    };
    for (size_t r = row; r < end; r++) {
        args.chain[r - row] = b->chains + b->chain_begin[r];
        args.n_chain[r - row] = b->chain_count[r];
    }
    gg_engine_attend(e, &args);
}

static void attention(const worker *w, size_t layer)
{
    const gg_batch *b = &w->e->batch;
    size_t heads = gg_attention_heads(w->g), parts = w->g->n_kv_heads / heads;
    input out = attended(w);
    size_t columns = out.width / parts;
    size_t i;
    while (gg_team_take(w->e->team, b->n_attend * parts, w->thread, &i)) {
        size_t part = i / b->n_attend, row = b->attend_begin[i % b->n_attend];
        size_t end = b->attend_begin[i % b->n_attend + 1];
        for (size_t h = 0; h < heads; h++)
            attend_rows(w, layer, row, end, part * heads + h);
        for (size_t r = row; r < end; r++)
            quantize_part(w, &out, r, part * columns, (part + 1) * columns);
    }
}

// Adds the norm of the rows of `product` to the residual stream.
static void norm_and_add(const worker *w, const float *norm)
{
    gorgon_engine *e = w->e;
    size_t d = w->g->d_model, begin, end;
    share_rows(w, &begin, &end);
    for (size_t r = begin; r < end; r++) {
        float *row = e->product + r * d;
        e->kernels->rms_norm(row, norm, w->g->norm_eps, d, row);
        e->kernels->add(e->x + r * d, row, d);
    }
}

// product(input), its norm if there is one, added to the residual stream.
static void project_and_add(const worker *w, const gg_matrix *m, const float *norm, input in)
{
    gorgon_engine *e = w->e;
    size_t d = w->g->d_model;
    product p = {m, e->product, d};
    span s;
    while (take_span(w, &p, 1, 1, &s)) {
        multiply(w, &p, s.tile0, s.tile1, &in);
        size_t begin = s.tile0 * GG_TILE, end = s.tile1 * GG_TILE < d ? s.tile1 * GG_TILE : d;
        for (size_t r = 0; !norm && r < w->n_rows; r++)
            e->kernels->add(e->x + r * d + begin, e->product + r * d + begin, end - begin);
    }
    barrier(w);
    if (norm) {
        norm_and_add(w, norm);
        barrier(w);
    }
}

// activation(gate) * up, quantised for the next product as it comes.
static void gate_and_up(const worker *w, const gg_layer *layer, const input *in)
{
    gorgon_engine *e = w->e;
    const bool gelu = w->g->activation == GG_GELU;
    size_t ff = w->g->d_ff;
    product gate = {&layer->gate, e->gate, ff}, up = {&layer->up, e->up, ff};
    input out = gated(w);
    span s;
    while (take_span(w, &gate, 1, GG_BLOCK / GG_TILE, &s)) {
        multiply(w, &gate, s.tile0, s.tile1, in);
        multiply(w, &up, s.tile0, s.tile1, in);
        size_t begin = s.tile0 * GG_TILE, end = s.tile1 * GG_TILE < ff ? s.tile1 * GG_TILE : ff;
        for (size_t r = 0; r < w->n_rows; r++) {
            float *row = e->gate + r * ff + begin;
            (gelu ? e->kernels->gelu_mul : e->kernels->silu_mul)(row, e->up + r * ff + begin,
                                                                 end - begin, row);
            quantize_part(w, &out, r, begin, end);
        }
    }
}

static void attention_block(const worker *w, size_t l, const gg_layer *layer)
{
    gorgon_engine *e = w->e;
    size_t hd = w->g->head_dim, q_width = w->g->n_heads * hd, kv_width = w->g->n_kv_heads * hd;
    input in = norm_rows(w, layer->attn_norm);
    tap(w, l, "attn_norm", e->input, w->g->d_model);
    product qkv[] = {
        {&layer->q, e->q, q_width}, {&layer->k, e->k, kv_width}, {&layer->v, e->v, kv_width}};
    products(w, qkv, 3, &in);
    barrier(w);
    tap(w, l, "q", e->q, q_width);
    tap(w, l, "k", e->k, kv_width);
    tap(w, l, "v", e->v, kv_width);
    finish_and_store(w, l, layer);
    barrier(w);
    attention(w, l);
    barrier(w);
    tap(w, l, "attention", e->attention, q_width);
    project_and_add(w, &layer->o, layer->attn_post_norm, attended(w));
    tap(w, l, "attn_residual", e->x, w->g->d_model);
}

static void feed_forward_block(const worker *w, size_t l, const gg_layer *layer)
{
    gorgon_engine *e = w->e;
    input in = norm_rows(w, layer->ffn_norm);
    tap(w, l, "ffn_norm", e->input, w->g->d_model);
    gate_and_up(w, layer, &in);
    barrier(w);
    tap(w, l, "ffn_hidden", e->gate, w->g->d_ff);
    project_and_add(w, &layer->down, layer->ffn_post_norm, gated(w));
    tap(w, l, "residual", e->x, w->g->d_model);
}

// Logits of the batch's logit rows from number `first` on.
static void compute_logits(const worker *w, size_t first)
{
    gorgon_engine *e = w->e;
    const gg_batch *b = &e->batch;
    size_t d = w->g->d_model, begin, end;
    worker logit_rows = *w;
    logit_rows.n_rows = b->n_logit_rows - first;
    input in = normed(w, d);
    share_rows(&logit_rows, &begin, &end);
    for (size_t i = begin; i < end; i++)
        load_row(w, &in, i, e->hidden + b->logit_rows[first + i] * d);
    barrier(w);
    product head = {gg_model_output(e->model), e->logits + first * w->g->n_vocab, w->g->n_vocab};
    products(&logit_rows, &head, 1, &in);
}

static void output_head(const worker *w)
{
    gorgon_engine *e = w->e;
    size_t d = w->g->d_model, begin, end;
    share_rows(w, &begin, &end);
    for (size_t r = begin; r < end; r++)
        e->kernels->rms_norm(e->x + r * d, gg_model_output_norm(e->model), w->g->norm_eps, d,
                             e->hidden + r * d);
    barrier(w);
    tap(w, e->batch.layer_end, "hidden", e->hidden, d);
    if (e->batch.n_logit_rows > 0)
        compute_logits(w, 0);
}

static void embed_rows(const worker *w, const float *residual)
{
    gorgon_engine *e = w->e;
    size_t d = w->g->d_model, begin, end;
    share_rows(w, &begin, &end);
    for (size_t r = begin; r < end; r++) {
        if (residual)
            memcpy(e->x + r * d, residual + r * d, d * sizeof *residual);
        else
            gg_model_embed(e->model, e->batch.rows[r].token, e->x + r * d);
    }
    barrier(w);
    tap(w, e->batch.layer_begin, "embedding", e->x, d);
}

typedef struct pass_job {
    gorgon_engine *engine;
    const float *input;
} pass_job;

static void pass_on_thread(void *context, size_t thread, size_t n_threads)
{
    const pass_job *job = context;
    gorgon_engine *e = job->engine;
    worker w = {e, gg_model_geometry(e->model), thread, n_threads, e->batch.n_rows};
    embed_rows(&w, job->input);
    for (size_t l = e->batch.layer_begin; l < e->batch.layer_end; l++) {
        const gg_layer *layer = gg_model_layer(e->model, l);
        attention_block(&w, l, layer);
        feed_forward_block(&w, l, layer);
    }
    output_head(&w);
}

gorgon_status gg_engine_pass_range(gorgon_engine *engine, const gg_pass *pass, gorgon_error *err)
{
    gg_batch *b = &engine->batch;
    size_t n_layers = gg_model_geometry(engine->model)->n_layers;
    b->n_rows = b->n_chains = b->n_logit_rows = 0; // an invalid pass leaves no valid outputs
    if (pass->n_rows == 0 || pass->n_rows > engine->max_rows)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "pass of %zu rows, expected 1 to %zu",
                       pass->n_rows, engine->max_rows);
    if (pass->layer_begin > pass->layer_end || pass->layer_end > n_layers)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "layers %zu to %zu of a model of %zu",
                       pass->layer_begin, pass->layer_end, n_layers);
    gorgon_status status = gg_batch_lay(engine, pass->rows, pass->n_rows, err);
    if (status != GORGON_OK)
        return status;
    b->layer_begin = pass->layer_begin;
    b->layer_end = pass->layer_end;
    pass_job job = {engine, pass->input};
    gg_team_run(engine->team, pass_on_thread, &job);
    return GORGON_OK;
}

gorgon_status gorgon_engine_pass(gorgon_engine *engine, const gorgon_row *rows, size_t n_rows,
                                 gorgon_error *err)
{
    gg_pass pass = {rows, n_rows, 0, gg_model_geometry(engine->model)->n_layers, NULL};
    return gg_engine_pass_range(engine, &pass, err);
}

typedef struct logits_job {
    gorgon_engine *engine;
    size_t first;
} logits_job;

static void logits_on_thread(void *context, size_t thread, size_t n_threads)
{
    const logits_job *job = context;
    gorgon_engine *e = job->engine;
    worker w = {e, gg_model_geometry(e->model), thread, n_threads, e->batch.n_rows};
    compute_logits(&w, job->first);
}

gorgon_status gg_engine_add_logits(gorgon_engine *engine, const uint32_t *rows, size_t n,
                                   gorgon_error *err)
{
    gg_batch *b = &engine->batch;
    logits_job job = {engine, b->n_logit_rows};
    for (size_t i = 0; i < n; i++) {
        gorgon_status status = GORGON_OK;
        if (b->logit_index[rows[i]] < 0)
            status = gg_batch_want_logits(engine, rows[i], err);
        if (status != GORGON_OK) {
            while (b->n_logit_rows > job.first) // those of which nothing was computed
                b->logit_index[b->logit_rows[--b->n_logit_rows]] = -1;
            return status;
        }
    }
    if (b->n_logit_rows > job.first)
        gg_team_run(engine->team, logits_on_thread, &job);
    return GORGON_OK;
}

void gg_engine_token_logits(gorgon_engine *engine, size_t row, const gorgon_token *tokens, size_t n,
                            float *logits)
{
    const gg_geometry *g = gg_model_geometry(engine->model);
    worker w = {engine, g, 0, 1, 1};
    input in = normed(&w, g->d_model);
    load_row(&w, &in, 0, engine->hidden + row * g->d_model);
    // The row beyond those for passes: a tile of outputs lands where it would in a whole row.
    float *spare = engine->logits + engine->max_logit_rows * g->n_vocab;
    product p = {gg_model_output(engine->model), spare, g->n_vocab};
    for (size_t i = 0; i < n; i++) {
        size_t tile = (size_t)tokens[i] / GG_TILE;
        multiply(&w, &p, tile, tile + 1, &in);
        logits[i] = spare[tokens[i]];
    }
}

typedef struct linear_job {
    gorgon_engine *engine;
    product product;
    const float *x;
    size_t ldx, rows;
} linear_job;

static void linear_on_thread(void *context, size_t thread, size_t n_threads)
{
    const linear_job *job = context;
    gorgon_engine *e = job->engine;
    worker w = {e, gg_model_geometry(e->model), thread, n_threads, job->rows};
    size_t begin, end;
    input in = normed(&w, job->product.w->n_in);
    share_rows(&w, &begin, &end);
    for (size_t r = begin; r < end; r++)
        load_row(&w, &in, r, job->x + r * job->ldx);
    barrier(&w);
    products(&w, &job->product, 1, &in);
}

void gg_engine_linear(gorgon_engine *engine, const gg_matrix *w, const float *x, size_t ldx,
                      size_t rows, float *y, size_t ldy)
{
    linear_job job = {engine, {w, y, ldy}, x, ldx, rows};
    gg_team_run(engine->team, linear_on_thread, &job);
}

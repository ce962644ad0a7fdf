// See head_layer.h. The products go over the team one by one; between them stands attention, on the
// engine's kernel, which takes positions by slot and in any order.
#include "head_layer.h"

#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "core/math.h"

gorgon_status gg_layer_memory_create(const gorgon_engine *engine, const gg_head_shape *shape,
                                     size_t n_slots, gg_layer_memory *m, gorgon_error *err)
{
    const size_t element = gg_engine_kv_bytes(engine), d = shape->d_model;
    const size_t tiles = (n_slots + GG_K_LANES - 1) / GG_K_LANES;
    m->k_head_bytes = tiles * GG_K_LANES * (d / shape->n_attention) * element;
    m->k_bytes = m->k_head_bytes * shape->n_attention;
    m->v_bytes = n_slots * d * element;
    m->k = gg_alloc(m->k_bytes, 1);
    m->v = gg_alloc(m->v_bytes, 1);
    if (!m->k || !m->v)
        return gg_fail(err, GORGON_ERROR_MEMORY,
                       "heads: out of memory for keys and values of %zu positions", n_slots);
    return GORGON_OK;
}

void gg_layer_memory_clear(gg_layer_memory *m)
{
    gg_free(m->k);
    gg_free(m->v);
    *m = (gg_layer_memory){0};
}

void gg_layer_memory_copy(gg_layer_memory *to, const gg_layer_memory *from)
{
    memcpy(to->k, from->k, from->k_bytes);
    memcpy(to->v, from->v, from->v_bytes);
}

// Parts of [n_out[i], n_in] below one another in one matrix.
static gorgon_status pack_stacked(gg_packer *p, const gg_head_role *roles, size_t n, size_t n_out,
                                  size_t n_in, gg_matrix *w)
{
    const gg_dtype type = gg_packer_type(p, p->set->weight_type, n_in);
    const gg_stored none = {NULL, 0};
    gorgon_status status = gg_matrix_create(type, n * n_out, n_in, w, p->err);
    for (size_t i = 0; i < n && status == GORGON_OK; i++)
        status = gg_pack_rows(p, w, i * n_out, n_out, gg_stored_part(p->set, roles[i], 0, 0), none);
    return status;
}

static gorgon_status pack(gg_packed_layer *l, gg_packer *p)
{
    static const gg_head_role qkv[] = {GG_PART_ATTN_Q, GG_PART_ATTN_K, GG_PART_ATTN_V};
    static const gg_head_role gate_up[] = {GG_PART_FFN_GATE, GG_PART_FFN_UP};
    const size_t d = l->shape->d_model, f = l->shape->n_ffn;
    gorgon_status status = pack_stacked(p, qkv, 3, d, d, &l->qkv);
    if (status == GORGON_OK)
        status = gg_pack_part(p, GG_PART_ATTN_OUTPUT, 0, 0, d, &l->output);
    if (status == GORGON_OK)
        status = pack_stacked(p, gate_up, 2, f, d, &l->gate_up);
    if (status == GORGON_OK)
        status = gg_pack_part(p, GG_PART_FFN_DOWN, 0, 0, d, &l->down);
    return status;
}

static size_t scratch_floats(const gg_packed_layer *l)
{
    // Attention's own, a score per position for its reference path, or a row's sines and cosines.
    size_t n = gg_attend_scratch(1, l->head_dim);
    n = n > l->shape->window ? n : l->shape->window;
    return (n + GG_TILE - 1) / GG_TILE * GG_TILE;
}

static gorgon_status alloc_layer(gg_packed_layer *l, size_t max_rows, gorgon_error *err)
{
    const size_t d = l->shape->d_model, f = l->shape->n_ffn;
    l->n_scratch = scratch_floats(l);
    l->rows = gg_alloc(max_rows, sizeof *l->rows);
    l->seen = gg_alloc(max_rows, l->shape->window * sizeof *l->seen);
    l->wanted = gg_alloc(max_rows, sizeof *l->wanted);
    l->frequency = gg_alloc(l->head_dim / 2, sizeof *l->frequency);
    l->ones = gg_alloc(d, sizeof *l->ones);
    l->normed = gg_alloc(max_rows, d * sizeof *l->normed);
    l->vectors = gg_alloc(max_rows, 3 * d * sizeof *l->vectors);
    l->attended = gg_alloc(max_rows, d * sizeof *l->attended);
    l->inner = gg_alloc(max_rows, 2 * f * sizeof *l->inner);
    l->product = gg_alloc(max_rows, d * sizeof *l->product);
    l->scratch = gg_alloc(gorgon_engine_threads(l->engine), l->n_scratch * sizeof *l->scratch);
    if (!l->rows || !l->seen || !l->wanted || !l->frequency || !l->ones || !l->normed ||
        !l->vectors || !l->attended || !l->inner || !l->product || !l->scratch)
        return gg_fail(err, GORGON_ERROR_MEMORY, "heads: out of memory for a layer of %zu rows",
                       max_rows);
    return gg_engine_reserve_linear(l->engine, d > f ? d : f, err);
}

static void fill_tables(gg_packed_layer *l)
{
    const double log_base = gg_log(GG_HEADS_ROPE_BASE);
    for (size_t j = 0; j < l->head_dim / 2; j++)
        l->frequency[j] = gg_exp(-log_base * (double)(2 * j) / (double)l->head_dim);
    for (size_t i = 0; i < l->shape->d_model; i++)
        l->ones[i] = 1.0f;
}

gorgon_status gg_packed_layer_create(gorgon_engine *engine, gg_packer *p, size_t max_rows,
                                     gg_packed_layer *l)
{
    const gg_head_shape *shape = &p->set->shape;
    *l = (gg_packed_layer){
        .engine = engine, .shape = shape, .head_dim = shape->d_model / shape->n_attention};
    gorgon_status status = alloc_layer(l, max_rows, p->err);
    if (status != GORGON_OK)
        return status;
    fill_tables(l);
    return pack(l, p);
}

void gg_packed_layer_clear(gg_packed_layer *l)
{
    void *const blocks[] = {l->rows,    l->seen,     l->wanted, l->frequency, l->ones,   l->normed,
                            l->vectors, l->attended, l->inner,  l->product,   l->scratch};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        gg_free(blocks[i]);
    gg_matrix_clear(&l->qkv);
    gg_matrix_clear(&l->output);
    gg_matrix_clear(&l->gate_up);
    gg_matrix_clear(&l->down);
    *l = (gg_packed_layer){0};
}

static void norm_rows(const gg_packed_layer *l, const float *x, size_t n)
{
    const size_t d = l->shape->d_model;
    for (size_t i = 0; i < n; i++)
        gg_engine_kernels(l->engine)->rms_norm(x + i * d, l->ones, GG_HEADS_ROOT_EPS, d,
                                               l->normed + i * d);
}

// Rotates a row's query and key, scales the query, stores key and value.
static void store_row(const gg_packed_layer *l, size_t i, float *scratch)
{
    const gg_kernels *kernels = gg_engine_kernels(l->engine);
    const gg_layer_row *row = &l->rows[i];
    const gg_layer_memory *m = row->memory;
    const size_t d = l->shape->d_model, hd = l->head_dim, heads = l->shape->n_attention;
    float *q = l->vectors + i * 3 * d, *k = q + d, *v = k + d;
    float *cosine = scratch, *sine = scratch + hd / 2;
    for (size_t j = 0; j < hd / 2; j++) {
        double s, c;
        gg_sincos((double)row->position * l->frequency[j], &s, &c);
        cosine[j] = (float)c;
        sine[j] = (float)s;
    }
    kernels->rope(q, heads, hd, cosine, sine);
    kernels->rope(k, heads, hd, cosine, sine);
    kernels->scale(q, d, (float)(1.0 / gg_sqrt((double)hd)));
    for (size_t h = 0; h < heads; h++)
        gg_engine_put_key(l->engine, k + h * hd, hd, row->slot, m->k + h * m->k_head_bytes);
    gg_engine_put_value(l->engine, v, d, m->v + row->slot * d * gg_engine_kv_bytes(l->engine));
}

// Elements behind the pointers that attention takes, whatever they are.
static const uint16_t *elements(const uint8_t *bytes)
{
    return (const uint16_t *)(const void *)bytes;
}

// One attention head of the j-th row that wants an output.
static void attend_head(const gg_packed_layer *l, size_t j, size_t head, float *scratch)
{
    const size_t d = l->shape->d_model, hd = l->head_dim, i = l->wanted[j];
    const gg_layer_row *row = &l->rows[i];
    const gg_layer_memory *m = row->memory;
    const gg_attend args = {
        .n_rows = 1,
        .stride = d,
        .q = l->vectors + i * 3 * d + head * hd,
        .group = 1,
        .head_dim = hd,
        .slot_k = elements(m->k + head * m->k_head_bytes),
        .slot_v = elements(m->v + head * hd * gg_engine_kv_bytes(l->engine)),
        .slot_v_stride = d,
        .chain = {l->seen + i * l->shape->window},
        .n_chain = {row->n_seen},
        .out = l->attended + j * d + head * hd,
        .scratch = scratch,
    };
    gg_engine_attend(l->engine, &args);
}

typedef struct batch {
    const gg_packed_layer *l;
    size_t n, n_wanted;
} batch;

static void attend_on_thread(void *context, size_t thread, size_t n_threads)
{
    const batch *b = context;
    const gg_packed_layer *l = b->l;
    const size_t heads = l->shape->n_attention;
    float *scratch = l->scratch + thread * l->n_scratch;
    size_t begin, end;
    gg_team_share(b->n, 1, thread, n_threads, &begin, &end);
    for (size_t i = begin; i < end; i++)
        store_row(l, i, scratch);
    gg_team_barrier(gg_engine_team(l->engine));
    gg_team_share(b->n_wanted * heads, 1, thread, n_threads, &begin, &end);
    for (size_t i = begin; i < end; i++)
        attend_head(l, i / heads, i % heads, scratch);
}

// y += the feed-forward part of n rows.
static void feed_forward(const gg_packed_layer *l, size_t n, float *y)
{
    const gg_kernels *kernels = gg_engine_kernels(l->engine);
    const size_t d = l->shape->d_model, f = l->shape->n_ffn;
    norm_rows(l, y, n);
    gg_packed_linear(l->engine, &l->gate_up, l->normed, d, n, l->inner, 2 * f);
    for (size_t j = 0; j < n; j++) {
        float *gate = l->inner + j * 2 * f;
        kernels->silu_mul(gate, gate + f, f, gate);
    }
    gg_packed_linear(l->engine, &l->down, l->inner, 2 * f, n, l->product, d);
    kernels->add(y, l->product, n * d);
}

size_t gg_packed_layer_run(const gg_packed_layer *l, const float *x, size_t n, float *y)
{
    const gg_kernels *kernels = gg_engine_kernels(l->engine);
    const size_t d = l->shape->d_model;
    batch b = {l, n, 0};
    for (size_t i = 0; i < n; i++) {
        if (l->rows[i].n_seen > 0)
            l->wanted[b.n_wanted++] = i;
    }
    norm_rows(l, x, n);
    gg_packed_linear(l->engine, &l->qkv, l->normed, d, n, l->vectors, 3 * d);
    gg_team_run(gg_engine_team(l->engine), attend_on_thread, &b);
    gg_packed_linear(l->engine, &l->output, l->attended, d, b.n_wanted, l->product, d);
    for (size_t j = 0; j < b.n_wanted; j++) {
        memcpy(y + j * d, x + l->wanted[j] * d, d * sizeof *y);
        kernels->add(y + j * d, l->product + j * d, d);
    }
    feed_forward(l, b.n_wanted, y);
    return b.n_wanted;
}

// Packing a set of Medusa heads (arXiv 2401.10774) and running it. Served weights are Q8_0 whatever
// the file stores: int8 is the fast path, and heads only propose. An engine with float activations
// keeps the stored values.
#include "medusa_net.h"

#include <string.h>

#include "core/alloc.h"
#include "core/error.h"

enum {
    MAX_LOGITS = 1 << 22, // floats of net->logits beyond which a run takes fewer drafts
};

// Turns stored rows, one or two side by side, into rows of a packed matrix.
typedef struct packer {
    gg_matrix stored; // [1, d] one row as stored, to get at its values
    float *values;    // [2 d]
    uint8_t *bytes;   // one packed row of at most 2 d values
} packer;

static gorgon_status packer_create(gg_dtype type, size_t d, packer *p, gorgon_error *err)
{
    *p = (packer){0};
    gorgon_status status = gg_matrix_create(type, 1, d, &p->stored, err);
    if (status != GORGON_OK)
        return status;
    p->values = gg_alloc(2 * d, sizeof *p->values);
    p->bytes = gg_alloc(2 * d, sizeof(float));
    if (!p->values || !p->bytes)
        return gg_fail(err, GORGON_ERROR_MEMORY, "heads: out of memory");
    return GORGON_OK;
}

static void packer_clear(packer *p)
{
    gg_matrix_clear(&p->stored);
    gg_free(p->values);
    gg_free(p->bytes);
}

// Row `out` of w = the stored row at `left`, followed by the one at `right` unless that is NULL.
static void pack_row(packer *p, gg_matrix *w, size_t out, const uint8_t *left, const uint8_t *right)
{
    const gg_dtype type = p->stored.type;
    const size_t d = p->stored.n_in, bytes = gg_dtype_row_bytes(type, d);
    if (type == w->type) {
        memcpy(p->bytes, left, bytes);
        if (right)
            memcpy(p->bytes + bytes, right, bytes);
    } else {
        gg_matrix_pack_row(&p->stored, 0, left);
        gg_matrix_row(&p->stored, 0, p->values);
        if (right) {
            gg_matrix_pack_row(&p->stored, 0, right);
            gg_matrix_row(&p->stored, 0, p->values + d);
        }
        gg_quantize_row(w->type, p->values, w->n_in, p->bytes);
    }
    gg_matrix_pack_row(w, out, p->bytes);
}

// n_out rows beginning at output row `at` of w.
static void pack_rows(packer *p, gg_matrix *w, size_t at, size_t n_out, const uint8_t *left,
                      const uint8_t *right)
{
    const size_t bytes = gg_dtype_row_bytes(p->stored.type, p->stored.n_in);
    for (size_t o = 0; o < n_out; o++)
        pack_row(p, w, at + o, left + o * bytes, right ? right + o * bytes : NULL);
}

static gg_dtype served_type(const gg_medusa_net *net, gg_dtype stored)
{
    const bool int8 = gg_engine_activations(net->engine) == GORGON_ACTIVATIONS_INT8;
    if (!int8 || net->set->d_model % GG_BLOCK != 0 || gg_dtype_is_quantized(stored))
        return stored;
    return GG_Q8_0;
}

static gorgon_status pack_blocks(gg_medusa_net *net, packer *p, gorgon_error *err)
{
    const gg_head_set *s = net->set;
    const size_t d = s->d_model;
    const gg_dtype type = served_type(net, s->weight_type);
    gorgon_status status = gg_matrix_create(type, net->cells * d, net->n_in, &net->first, err);
    for (size_t k = 0; status == GORGON_OK && k < net->cells; k++) {
        pack_rows(p, &net->first, k * d, d, s->weight[k * s->n_blocks],
                  s->root_embedding ? s->root[k] : NULL);
        for (size_t b = 1; status == GORGON_OK && b < s->n_blocks; b++) {
            gg_matrix *w = &net->later[k * (s->n_blocks - 1) + b - 1];
            status = gg_matrix_create(type, d, d, w, err);
            if (status == GORGON_OK)
                pack_rows(p, w, 0, d, s->weight[k * s->n_blocks + b], NULL);
        }
    }
    return status;
}

static gorgon_status pack_own_output(gg_medusa_net *net, packer *p, gorgon_error *err)
{
    const gg_head_set *s = net->set;
    const gg_dtype type = served_type(net, s->weight_type);
    gorgon_status status = GORGON_OK;
    for (size_t k = 0; status == GORGON_OK && k < s->n_heads; k++) {
        status = gg_matrix_create(type, net->n_out, s->d_model, &net->own[k], err);
        if (status == GORGON_OK)
            pack_rows(p, &net->own[k], 0, net->n_out, s->output[k], NULL);
    }
    return status;
}

static gorgon_status gather_output(gg_medusa_net *net, packer *p, gorgon_error *err)
{
    const gg_head_set *s = net->set;
    const gg_matrix *base = gg_model_output(gg_engine_model(net->engine));
    net->output = base;
    if (s->n_draft == 0)
        return GORGON_OK;
    const gg_dtype type = served_type(net, base->type);
    gorgon_status status = gg_matrix_create(type, s->n_draft, s->d_model, &net->gathered, err);
    for (size_t i = 0; status == GORGON_OK && i < s->n_draft; i++) {
        if (type == base->type) {
            gg_matrix_copy_row(&net->gathered, i, base, s->draft_ids[i]);
        } else {
            gg_matrix_row(base, s->draft_ids[i], p->values);
            gg_quantize_row(type, p->values, s->d_model, p->bytes);
            gg_matrix_pack_row(&net->gathered, i, p->bytes);
        }
    }
    net->output = &net->gathered;
    return status;
}

static gorgon_status alloc_net(gg_medusa_net *net, gorgon_error *err)
{
    const gg_head_set *s = net->set;
    const size_t d = s->d_model, rows = net->max_drafts * net->cells;
    net->later = gg_alloc(net->cells * (s->n_blocks - 1), sizeof *net->later);
    net->own = s->own_output ? gg_alloc(s->n_heads, sizeof *net->own) : NULL;
    net->ones = gg_alloc(d, sizeof *net->ones);
    net->input = gg_alloc(net->max_drafts, net->n_in * sizeof *net->input);
    net->product = gg_alloc(rows, d * sizeof *net->product);
    net->z = gg_alloc(rows, d * sizeof *net->z);
    net->state = s->recurrent ? gg_alloc(rows, d * sizeof *net->state) : NULL;
    net->logits = gg_alloc(rows, net->n_out * sizeof *net->logits);
    if (!net->later || (s->own_output && !net->own) || !net->ones || !net->input || !net->product ||
        !net->z || (s->recurrent && !net->state) || !net->logits)
        return gg_fail(err, GORGON_ERROR_MEMORY, "heads: out of memory for %zu drafts",
                       net->max_drafts);
    for (size_t i = 0; i < d; i++)
        net->ones[i] = 1.0f;
    return gg_engine_reserve_linear(net->engine, net->n_in, err);
}

static gorgon_status build(gg_medusa_net *net, gorgon_error *err)
{
    packer p;
    gorgon_status status = alloc_net(net, err);
    if (status != GORGON_OK)
        return status;
    status = packer_create(net->set->weight_type, net->set->d_model, &p, err);
    if (status == GORGON_OK)
        status = pack_blocks(net, &p, err);
    if (status == GORGON_OK)
        status = net->set->own_output ? pack_own_output(net, &p, err) : gather_output(net, &p, err);
    packer_clear(&p);
    return status;
}

gorgon_status gg_medusa_create(gorgon_engine *engine, const gorgon_heads *heads, size_t set,
                               size_t max_drafts, gg_medusa_net *net, gorgon_error *err)
{
    *net = (gg_medusa_net){0};
    gorgon_head_set_info info;
    const gorgon_model *model = gg_engine_model(engine);
    gorgon_status status = gorgon_heads_describe(heads, set, &info, err);
    if (status == GORGON_OK)
        status = gorgon_heads_check(heads, model, NULL, err);
    if (status != GORGON_OK)
        return status;
    const gg_head_set *s = gg_heads_set(heads, set);
    net->engine = engine;
    net->set = s;
    net->n_in = s->root_embedding ? 2 * s->d_model : s->d_model;
    net->n_out = s->n_draft ? s->n_draft : gg_model_geometry(model)->n_vocab;
    net->cells = gg_head_cells(s->recurrent, s->n_heads);
    const size_t fit = MAX_LOGITS / (net->cells * net->n_out);
    net->max_drafts = max_drafts < fit ? max_drafts : fit;
    if (net->max_drafts == 0)
        net->max_drafts = 1;
    status = build(net, err);
    if (status != GORGON_OK)
        gg_medusa_clear(net);
    return status;
}

void gg_medusa_clear(gg_medusa_net *net)
{
    const gg_head_set *s = net->set;
    gg_matrix_clear(&net->first);
    for (size_t i = 0; net->later && i < net->cells * (s->n_blocks - 1); i++)
        gg_matrix_clear(&net->later[i]);
    for (size_t i = 0; net->own && i < s->n_heads; i++)
        gg_matrix_clear(&net->own[i]);
    gg_matrix_clear(&net->gathered);
    gg_free(net->later);
    gg_free(net->own);
    gg_free(net->ones);
    gg_free(net->input);
    gg_free(net->product);
    gg_free(net->z);
    gg_free(net->state);
    gg_free(net->logits);
    *net = (gg_medusa_net){0};
}

void gg_medusa_input(const gg_medusa_net *net, size_t i, const float *hidden, gorgon_token root)
{
    const size_t d = net->set->d_model;
    float *input = net->input + i * net->n_in;
    memcpy(input, hidden, d * sizeof *input);
    if (!net->set->root_embedding)
        return;
    float *e = input + d;
    gg_model_embed(gg_engine_model(net->engine), root, e);
    gg_engine_kernels(net->engine)->rms_norm(e, net->ones, GG_HEADS_ROOT_EPS, d, e);
}

// gg_engine_linear for any number of rows.
static void linear(const gg_medusa_net *net, const gg_matrix *w, const float *x, size_t ldx,
                   size_t rows, float *y, size_t ldy)
{
    const size_t most = gorgon_engine_max_rows(net->engine);
    for (size_t r = 0; r < rows; r += most) {
        const size_t n = rows - r < most ? rows - r : most;
        gg_engine_linear(net->engine, w, x + r * ldx, ldx, n, y + r * ldy, ldy);
    }
}

// z = x + silu(product + bias) for head k of n drafts.
static void add_block(const gg_medusa_net *net, size_t k, size_t block, size_t n)
{
    const gg_head_set *s = net->set;
    const gg_kernels *kernels = gg_engine_kernels(net->engine);
    const size_t d = s->d_model;
    for (size_t i = 0; i < n; i++) {
        const size_t at = (i * net->cells + k) * d;
        const float *x = block ? net->z + at : net->input + i * net->n_in;
        kernels->silu_residual(x, net->product + at, s->bias[k * s->n_blocks + block], d,
                               net->z + at);
    }
}

void gg_medusa_run(const gg_medusa_net *net, size_t n)
{
    const gg_head_set *s = net->set;
    const size_t d = s->d_model, stride = net->cells * d;
    linear(net, &net->first, net->input, net->n_in, n, net->product, stride);
    for (size_t k = 0; k < net->cells; k++) {
        add_block(net, k, 0, n);
        if (s->recurrent)
            memcpy(net->state, net->z, n * d * sizeof *net->state);
        for (size_t b = 1; b < s->n_blocks; b++) {
            linear(net, &net->later[k * (s->n_blocks - 1) + b - 1], net->z + k * d, stride, n,
                   net->product + k * d, stride);
            add_block(net, k, b, n);
        }
        if (s->own_output)
            linear(net, &net->own[k], net->z + k * d, stride, n, net->logits + k * net->n_out,
                   s->n_heads * net->n_out);
    }
    if (!s->own_output)
        linear(net, net->output, net->z, d, n * net->cells, net->logits, net->n_out);
}

gorgon_status gorgon_heads_logits(gorgon_engine *engine, const gorgon_heads *heads, size_t set,
                                  const float *hidden, gorgon_token root, float *logits,
                                  gorgon_token *ids, gorgon_error *err)
{
    const size_t n_vocab = gg_model_geometry(gg_engine_model(engine))->n_vocab;
    if ((size_t)root >= n_vocab)
        return gg_fail(err, GORGON_ERROR_ARGUMENT, "root token is %ld, expected 0 to %zu",
                       (long)root, n_vocab - 1);
    gg_medusa_net net;
    gorgon_status status = gg_medusa_create(engine, heads, set, 1, &net, err);
    if (status != GORGON_OK)
        return status;
    gg_medusa_input(&net, 0, hidden, root);
    gg_medusa_run(&net, 1);
    memcpy(logits, net.logits, net.cells * net.n_out * sizeof *logits);
    for (size_t k = 1; net.set->recurrent && k < net.set->n_heads; k++) {
        const size_t best = gg_engine_kernels(engine)->argmax(net.logits, net.n_out);
        gg_medusa_input(&net, 0, net.state, (gorgon_token)gg_medusa_token(&net, best));
        gg_medusa_run(&net, 1);
        memcpy(logits + k * net.n_out, net.logits, net.n_out * sizeof *logits);
    }
    for (size_t i = 0; ids && i < net.n_out; i++)
        ids[i] = (gorgon_token)gg_medusa_token(&net, i);
    gg_medusa_clear(&net);
    return GORGON_OK;
}

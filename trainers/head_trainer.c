// The trainer around a recipe: layout of parameters, workspace, logits and loss. Logits exist for a
// bounded block of rows only.
#include <assert.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"
#include "head_loss.h"
#include "recipe.h"

enum { LOGIT_BYTES = 16 << 20 }; // of the block of logits; at least MIN_LOGIT_ROWS rows
enum { MIN_LOGIT_ROWS = 64 };

// Gives the parts of a role their places from layout->n on.
static void place_role(gg_head_layout *layout, gg_head_role role, size_t n_blocks)
{
    for (size_t block = 0; block < n_blocks; block++) {
        for (size_t i = 0; i < layout->n_parts; i++) {
            const gg_head_part *part = &layout->parts[i];
            if (part->role != role || part->block != block)
                continue;
            layout->at[i] = layout->n;
            layout->n += part->n_out * (part->n_in > 0 ? part->n_in : 1);
        }
    }
}

void gg_head_layout_of(const gg_head_shape *shape, gg_head_layout *layout)
{
    static const gg_head_role matrices[] = {GG_PART_WEIGHT,   GG_PART_ROOT,        GG_PART_DOWN,
                                            GG_PART_UP,       GG_PART_ATTN_Q,      GG_PART_ATTN_K,
                                            GG_PART_ATTN_V,   GG_PART_ATTN_OUTPUT, GG_PART_FFN_UP,
                                            GG_PART_FFN_GATE, GG_PART_FFN_DOWN,    GG_PART_OUTPUT};
    assert(!shape->own_output || shape->n_draft > 0);
    *layout = (gg_head_layout){0};
    layout->n_parts = gg_head_parts(shape, 0, layout->parts);
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++)
        place_role(layout, matrices[i], shape->n_blocks);
    layout->n_weights = layout->n;
    place_role(layout, GG_PART_BIAS, shape->n_blocks);
}

size_t gg_head_layout_find(const gg_head_layout *layout, gg_head_role role, size_t head,
                           size_t block)
{
    const size_t i = gg_head_part_find(layout->parts, layout->n_parts, role, head, block);
    assert(i < layout->n_parts);
    return i;
}

size_t gg_head_input(const gg_head_shape *s)
{
    const size_t tokens =
        gg_head_traits_of(s->kind)->follows ? s->n_heads : gg_head_tokens(s, s->n_heads - 1);
    return (1 + tokens) * s->d_model;
}

static bool allocate(gg_head_trainer *m)
{
    const gg_head_shape *s = &m->shape;
    const size_t threads = gg_team_size(m->team), width = s->n_heads * s->d_model;
    m->z = gg_alloc(s->n_blocks, sizeof *m->z);
    m->slope = gg_alloc(s->n_blocks, sizeof *m->slope);
    m->dz = gg_alloc(m->max_rows * width, sizeof(float));
    m->low = gg_alloc(m->max_rows * s->n_heads * s->rank, sizeof(float));
    m->dlow = gg_alloc(m->max_rows * s->rank, sizeof(float));
    m->logits = gg_alloc(m->logit_rows * m->n_out, sizeof(float));
    m->maxima = gg_alloc(threads * ((m->n_out + 63) / 64), sizeof(float));
    m->scratch = gg_alloc(threads * 2 * m->wide, sizeof(float));
    bool whole =
        m->z && m->slope && m->dz && m->low && m->dlow && m->logits && m->maxima && m->scratch;
    for (size_t j = 0; whole && j < s->n_blocks; j++) {
        m->z[j] = gg_alloc(m->max_rows * width, sizeof(float));
        m->slope[j] = gg_alloc(m->max_rows * width, sizeof(float));
        whole = m->z[j] && m->slope[j];
    }
    const gg_head_layer layer = gg_head_traits_of(s->kind)->layer;
    if (!whole || layer == GG_LAYER_NONE) {
        m->last = whole ? m->z[s->n_blocks - 1] : NULL;
        return whole;
    }
    m->layer = gg_layer_create(s, m->max_rows);
    if (m->layer)
        m->last = layer == GG_LAYER_CELL ? gg_layer_output(m->layer) : m->z[s->n_blocks - 1];
    return m->layer != NULL;
}

gorgon_status gg_head_trainer_create(gg_team *team, const gg_kernels *kernels,
                                     const gg_head_shape *shape, const float *output, size_t n_out,
                                     size_t max_rows, gg_head_trainer **out, gorgon_error *err)
{
    *out = NULL;
    gg_head_trainer *m = gg_alloc(1, sizeof *m);
    if (!m)
        return gg_fail(err, GORGON_ERROR_MEMORY, "training of heads: out of memory");
    m->team = team;
    m->kernels = kernels;
    m->shape = *shape;
    m->recipe = gg_recipe_of(shape->kind);
    gg_head_layout_of(shape, &m->layout);
    m->input = gg_head_input(shape);
    m->wide = shape->n_ffn > shape->d_model ? shape->n_ffn : shape->d_model;
    m->output = output;
    m->n_out = n_out;
    m->max_rows = max_rows;
    m->logit_rows = LOGIT_BYTES / sizeof(float) / n_out;
    if (m->logit_rows < MIN_LOGIT_ROWS)
        m->logit_rows = MIN_LOGIT_ROWS;
    if (m->logit_rows > max_rows * shape->n_heads)
        m->logit_rows = max_rows * shape->n_heads;
    if (!allocate(m)) {
        gg_head_trainer_free(m);
        return gg_fail(err, GORGON_ERROR_MEMORY,
                       "training of heads: no memory for %zu positions of %zu heads, %zu logits",
                       max_rows, shape->n_heads, n_out);
    }
    *out = m;
    return GORGON_OK;
}

void gg_head_trainer_free(gg_head_trainer *m)
{
    if (!m)
        return;
    for (size_t j = 0; j < m->shape.n_blocks; j++) {
        if (m->z)
            gg_free(m->z[j]);
        if (m->slope)
            gg_free(m->slope[j]);
    }
    gg_layer_free(m->layer);
    gg_free(m->z);
    gg_free(m->slope);
    gg_free(m->dz);
    gg_free(m->low);
    gg_free(m->dlow);
    gg_free(m->logits);
    gg_free(m->maxima);
    gg_free(m->scratch);
    gg_free(m);
}

// Pairs that share an output matrix, of every n-th one beginning with `first`.
typedef struct logit_run {
    const gg_head_pass *p;
    size_t first, step, n;
    const float *output; // [n_out][d]
    float *gradient;     // of output, NULL when it is frozen
} logit_run;

// Logits, loss and dz of pairs [at, at + rows) of the run.
static gorgon_status run_block(const logit_run *r, size_t at, size_t rows, gorgon_error *err)
{
    const gg_head_trainer *m = r->p->m;
    const gg_head_batch *batch = r->p->batch;
    const size_t d = m->shape.d_model, n_out = m->n_out, pair = r->first + at * r->step;
    const gg_operand output = {r->output, n_out, d, d, false};
    const gg_operand transposed = {r->output, n_out, d, d, true};
    const gg_operand z = {m->last + pair * d, rows, d, r->step * d, false};
    gorgon_status status =
        gg_gemm(m->team, m->kernels, &z, &transposed, false, m->logits, rows, n_out, n_out, err);
    if (status != GORGON_OK)
        return status;
    const gg_head_loss loss = {.kernels = m->kernels,
                               .rows = rows,
                               .n_out = n_out,
                               .step = r->step,
                               .targets = batch->targets + pair,
                               .logits = m->logits,
                               .want_gradient = batch->gradient != NULL,
                               .loss = batch->loss ? batch->loss + pair : NULL,
                               .rank = batch->rank ? batch->rank + pair : NULL,
                               .maxima = m->maxima};
    gg_head_loss_run(m->team, &loss);
    if (!batch->gradient)
        return GORGON_OK;
    const gg_operand g = {m->logits, rows, n_out, n_out, false};
    const gg_operand g_t = {m->logits, rows, n_out, n_out, true};
    status = gg_gemm(m->team, m->kernels, &g, &output, false, m->dz + pair * d, rows, d,
                     r->step * d, err);
    if (status == GORGON_OK && r->gradient)
        status = gg_gemm(m->team, m->kernels, &g_t, &z, at > 0, r->gradient, n_out, d, d, err);
    return status;
}

static gorgon_status run_pairs(const logit_run *r, gorgon_error *err)
{
    const size_t most = r->p->m->logit_rows;
    gorgon_status status = GORGON_OK;
    for (size_t at = 0; at < r->n && status == GORGON_OK; at += most)
        status = run_block(r, at, r->n - at < most ? r->n - at : most, err);
    return status;
}

static gorgon_status run_logits(const gg_head_pass *p, gorgon_error *err)
{
    const gg_head_trainer *m = p->m;
    const size_t heads = m->shape.n_heads, rows = p->batch->rows;
    const logit_run all = {p, 0, 1, rows * heads, m->output, NULL};
    gorgon_status status = GORGON_OK;
    if (!m->shape.own_output)
        return run_pairs(&all, err);
    for (size_t k = 0; k < heads && status == GORGON_OK; k++) {
        const size_t at = m->layout.at[gg_head_layout_find(&m->layout, GG_PART_OUTPUT, k, 0)];
        float *gradient = p->batch->gradient ? p->batch->gradient + at : NULL;
        const logit_run own = {p, k, heads, rows, p->parameters + at, gradient};
        status = run_pairs(&own, err);
    }
    return status;
}

gorgon_status gg_head_trainer_run(gg_head_trainer *m, const float *parameters,
                                  const gg_head_batch *batch, gorgon_error *err)
{
    if (batch->rows == 0 || batch->rows > m->max_rows)
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "training of heads: expected 1 to %zu positions, got %zu", m->max_rows,
                       batch->rows);
    if (batch->context_rows > gg_head_most_context(&m->shape, m->max_rows))
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "training of heads: expected at most %zu context rows, got %zu",
                       gg_head_most_context(&m->shape, m->max_rows), batch->context_rows);
    const gg_head_pass pass = {
        .m = m,
        .parameters = parameters,
        .batch = batch,
        .hidden = {batch->input, batch->rows, m->shape.d_model, m->input, false}};
    gorgon_status status = m->recipe->forward(&pass, err);
    if (status == GORGON_OK)
        status = run_logits(&pass, err);
    if (status != GORGON_OK || !batch->gradient)
        return status;
    memset(batch->gradient + m->layout.n_weights, 0,
           (m->layout.n - m->layout.n_weights) * sizeof *batch->gradient);
    return m->recipe->backward(&pass, err);
}

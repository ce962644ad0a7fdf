// Forward and backward of Medusa heads on a batch. All heads' first blocks are one product, their
// logits another; logits exist for a bounded block of rows only.
#include "medusa_impl.h"

#include <math.h>
#include <string.h>

#include "core/alloc.h"
#include "core/error.h"

enum { LOGIT_BYTES = 16 << 20 }; // of the block of logits; at least MIN_LOGIT_ROWS rows
enum { MIN_LOGIT_ROWS = 64 };

gg_medusa_layout gg_medusa_layout_of(const gg_medusa_shape *s)
{
    gg_medusa_layout layout;
    size_t cells = gg_medusa_cells(s);
    layout.first = s->root_embedding ? 2 * s->d : s->d;
    layout.input = s->recurrent ? (1 + s->n_heads) * s->d : layout.first;
    layout.n_weights = cells * s->d * (layout.first + (s->n_blocks - 1) * s->d);
    layout.n = layout.n_weights + s->n_blocks * cells * s->d;
    return layout;
}

size_t gg_medusa_weight_at(const gg_medusa_shape *s, size_t block, size_t head)
{
    size_t first = s->root_embedding ? 2 * s->d : s->d, cells = gg_medusa_cells(s);
    if (block == 0)
        return head * s->d * first;
    return cells * s->d * first + ((block - 1) * cells + head) * s->d * s->d;
}

size_t gg_medusa_bias_at(const gg_medusa_shape *s, size_t block, size_t head)
{
    return gg_medusa_layout_of(s).n_weights + (block * gg_medusa_cells(s) + head) * s->d;
}

static bool allocate(gg_medusa_trainer *m)
{
    const gg_medusa_shape *s = &m->shape;
    size_t threads = gg_team_size(m->team), width = s->n_heads * s->d;
    m->z = gg_alloc(s->n_blocks, sizeof *m->z);
    m->slope = gg_alloc(s->n_blocks, sizeof *m->slope);
    m->dz = gg_alloc(m->max_rows * width, sizeof(float));
    m->logits = gg_alloc(m->logit_rows * s->n_out, sizeof(float));
    m->maxima = gg_alloc(threads * ((s->n_out + 63) / 64), sizeof(float));
    m->scratch = gg_alloc(threads * 2 * s->d, sizeof(float));
    bool whole = m->z && m->slope && m->dz && m->logits && m->maxima && m->scratch;
    for (size_t j = 0; whole && j < s->n_blocks; j++) {
        m->z[j] = gg_alloc(m->max_rows * width, sizeof(float));
        m->slope[j] = gg_alloc(m->max_rows * width, sizeof(float));
        whole = m->z[j] && m->slope[j];
    }
    return whole;
}

gorgon_status gg_medusa_trainer_create(gg_team *team, const gg_kernels *kernels,
                                       const gg_medusa_shape *shape, const float *output,
                                       size_t max_rows, gg_medusa_trainer **out, gorgon_error *err)
{
    *out = NULL;
    gg_medusa_trainer *m = gg_alloc(1, sizeof *m);
    if (!m)
        return gg_fail(err, GORGON_ERROR_MEMORY, "medusa training: out of memory");
    m->team = team;
    m->kernels = kernels;
    m->shape = *shape;
    m->layout = gg_medusa_layout_of(shape);
    m->output = output;
    m->max_rows = max_rows;
    m->logit_rows = LOGIT_BYTES / sizeof(float) / shape->n_out;
    if (m->logit_rows < MIN_LOGIT_ROWS)
        m->logit_rows = MIN_LOGIT_ROWS;
    if (m->logit_rows > max_rows * shape->n_heads)
        m->logit_rows = max_rows * shape->n_heads;
    if (!allocate(m)) {
        gg_medusa_trainer_free(m);
        return gg_fail(err, GORGON_ERROR_MEMORY,
                       "medusa training: no memory for %zu positions of %zu heads, %zu logits",
                       max_rows, shape->n_heads, shape->n_out);
    }
    *out = m;
    return GORGON_OK;
}

void gg_medusa_trainer_free(gg_medusa_trainer *m)
{
    if (!m)
        return;
    for (size_t j = 0; j < m->shape.n_blocks; j++) {
        if (m->z)
            gg_free(m->z[j]);
        if (m->slope)
            gg_free(m->slope[j]);
    }
    gg_free(m->z);
    gg_free(m->slope);
    gg_free(m->dz);
    gg_free(m->logits);
    gg_free(m->maxima);
    gg_free(m->scratch);
    gg_free(m);
}

typedef struct block_work {
    const gg_medusa_trainer *m;
    size_t rows, block;
    const float *before; // input of the residual: [rows][before_ld], for head h at h * before_step
    size_t before_ld, before_step;
    const float *bias; // [n_heads * d]
    float *bias_gradient;
} block_work;

// exp only ever sees arguments <= 0.
void gg_medusa_activate(const gg_kernels *kernels, size_t d, const float *restrict before,
                        const float *restrict bias, float *restrict slope, float *restrict z,
                        float *restrict scratch)
{
    float *restrict a = scratch, *restrict e = scratch + d;
    for (size_t i = 0; i < d; i++) {
        a[i] = slope[i] + bias[i];
        e[i] = -fabsf(a[i]);
    }
    kernels->exp_shift(e, d, 0.0f, e);
    for (size_t i = 0; i < d; i++) {
        float sigmoid = (a[i] >= 0.0f ? 1.0f : e[i]) / (1.0f + e[i]);
        z[i] = before[i] + a[i] * sigmoid;
        slope[i] = sigmoid * (1.0f + a[i] * (1.0f - sigmoid));
    }
}

static void activate_part(void *context, size_t thread, size_t n_threads)
{
    const block_work *w = context;
    const gg_medusa_trainer *m = w->m;
    size_t d = m->shape.d, heads = m->shape.n_heads, begin, end;
    float *scratch = m->scratch + thread * 2 * d;
    gg_team_share(w->rows, 1, thread, n_threads, &begin, &end);
    for (size_t row = begin; row < end; row++) {
        for (size_t h = 0; h < heads; h++) {
            size_t at = (row * heads + h) * d;
            gg_medusa_activate(m->kernels, d, w->before + row * w->before_ld + h * w->before_step,
                               w->bias + h * d, m->slope[w->block] + at, m->z[w->block] + at,
                               scratch);
        }
    }
}

static gorgon_status forward_block(gg_medusa_trainer *m, const float *parameters,
                                   const gg_medusa_batch *batch, size_t block, gorgon_error *err)
{
    const gg_medusa_shape *s = &m->shape;
    size_t d = s->d, width = s->n_heads * d, input = m->layout.input;
    block_work work = {.m = m, .rows = batch->rows, .block = block};
    work.bias = parameters + gg_medusa_bias_at(s, block, 0);
    gorgon_status status = GORGON_OK;
    if (block == 0) {
        gg_operand x = {batch->input, batch->rows, input, input, false};
        gg_operand w = {parameters, width, input, input, true};
        status = gg_gemm(m->team, m->kernels, &x, &w, false, m->slope[0], batch->rows, width, width,
                         err);
        work.before = batch->input;
        work.before_ld = input;
    }
    for (size_t h = 0; block > 0 && h < s->n_heads && status == GORGON_OK; h++) {
        gg_operand x = {m->z[block - 1] + h * d, batch->rows, d, width, false};
        gg_operand w = {parameters + gg_medusa_weight_at(s, block, h), d, d, d, true};
        status = gg_gemm(m->team, m->kernels, &x, &w, false, m->slope[block] + h * d, batch->rows,
                         d, width, err);
        work.before = m->z[block - 1];
        work.before_ld = width;
        work.before_step = d;
    }
    if (status == GORGON_OK)
        gg_team_run(m->team, activate_part, &work);
    return status;
}

gorgon_status gg_medusa_run_logits(gg_medusa_trainer *m, const gg_medusa_batch *batch,
                                   gorgon_error *err)
{
    const gg_medusa_shape *s = &m->shape;
    const float *z = m->z[s->n_blocks - 1];
    size_t pairs = batch->rows * s->n_heads, d = s->d, n_out = s->n_out;
    gg_operand output = {m->output, n_out, d, d, false}, transposed = output;
    transposed.transposed = true;
    gorgon_status status = GORGON_OK;
    for (size_t at = 0; at < pairs && status == GORGON_OK; at += m->logit_rows) {
        size_t rows = pairs - at < m->logit_rows ? pairs - at : m->logit_rows;
        gg_operand x = {z + at * d, rows, d, d, false};
        status = gg_gemm(m->team, m->kernels, &x, &transposed, false, m->logits, rows, n_out, n_out,
                         err);
        if (status != GORGON_OK)
            break;
        gg_medusa_loss loss = {.kernels = m->kernels, .rows = rows, .n_out = n_out};
        loss.targets = batch->targets + at;
        loss.logits = m->logits;
        loss.want_gradient = batch->gradient != NULL;
        loss.loss = batch->loss ? batch->loss + at : NULL;
        loss.rank = batch->rank ? batch->rank + at : NULL;
        loss.maxima = m->maxima;
        gg_medusa_loss_run(m->team, &loss);
        gg_operand g = {m->logits, rows, n_out, n_out, false};
        if (batch->gradient)
            status =
                gg_gemm(m->team, m->kernels, &g, &output, false, m->dz + at * d, rows, d, d, err);
    }
    return status;
}

// slope becomes d loss / d a = dz * silu'(a); the bias gradient is its sum over positions.
static void slope_part(void *context, size_t thread, size_t n_threads)
{
    const block_work *w = context;
    const gg_medusa_trainer *m = w->m;
    size_t width = m->shape.n_heads * m->shape.d, begin, end;
    float *slope = m->slope[w->block];
    gg_team_share(width, 16, thread, n_threads, &begin, &end);
    memset(w->bias_gradient + begin, 0, (end - begin) * sizeof(float));
    for (size_t row = 0; row < w->rows; row++) {
        float *restrict da = slope + row * width;
        const float *restrict dz = m->dz + row * width;
        float *restrict sum = w->bias_gradient;
        for (size_t i = begin; i < end; i++) {
            da[i] *= dz[i];
            sum[i] += da[i];
        }
    }
}

static gorgon_status backward_block(gg_medusa_trainer *m, const float *parameters,
                                    const gg_medusa_batch *batch, size_t block, gorgon_error *err)
{
    const gg_medusa_shape *s = &m->shape;
    size_t d = s->d, width = s->n_heads * d, input = m->layout.input, rows = batch->rows;
    block_work work = {.m = m, .rows = rows, .block = block};
    work.bias_gradient = batch->gradient + gg_medusa_bias_at(s, block, 0);
    gg_team_run(m->team, slope_part, &work);
    if (block == 0) {
        gg_operand da = {m->slope[0], rows, width, width, true};
        gg_operand x = {batch->input, rows, input, input, false};
        return gg_gemm(m->team, m->kernels, &da, &x, false, batch->gradient, width, input, input,
                       err);
    }
    gorgon_status status = GORGON_OK;
    for (size_t h = 0; h < s->n_heads && status == GORGON_OK; h++) {
        size_t at = gg_medusa_weight_at(s, block, h);
        gg_operand da = {m->slope[block] + h * d, rows, d, width, false}, da_t = da;
        da_t.transposed = true;
        gg_operand z = {m->z[block - 1] + h * d, rows, d, width, false};
        gg_operand w = {parameters + at, d, d, d, false};
        status = gg_gemm(m->team, m->kernels, &da_t, &z, false, batch->gradient + at, d, d, d, err);
        if (status == GORGON_OK)
            status =
                gg_gemm(m->team, m->kernels, &da, &w, true, m->dz + h * d, rows, d, width, err);
    }
    return status;
}

gorgon_status gg_medusa_trainer_run(gg_medusa_trainer *m, const float *parameters,
                                    const gg_medusa_batch *batch, gorgon_error *err)
{
    if (batch->rows == 0 || batch->rows > m->max_rows)
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "medusa training: expected 1 to %zu positions, got %zu", m->max_rows,
                       batch->rows);
    gorgon_status status = GORGON_OK;
    if (m->shape.recurrent)
        return gg_recurrent_run(m, parameters, batch, err);
    for (size_t j = 0; j < m->shape.n_blocks && status == GORGON_OK; j++)
        status = forward_block(m, parameters, batch, j, err);
    if (status == GORGON_OK)
        status = gg_medusa_run_logits(m, batch, err);
    for (size_t j = m->shape.n_blocks; batch->gradient && j-- > 0 && status == GORGON_OK;)
        status = backward_block(m, parameters, batch, j, err);
    return status;
}

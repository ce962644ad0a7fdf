// Forward and backward of recurrent heads: one head of n_blocks blocks, used at every depth. With
// s_0 = hidden state and e_k the embedding of the token that stands k places after it,
//   s_k+1 = s_k + silu(W s_k + R e_k + b), then blocks z' = z + silu(W' z + b') from z = s_k+1.
// z[0] holds the states, depth by depth within a position. The later blocks and the logits treat
// all depths at once; block 0 goes through them one after another, and backwards through time.
#include <string.h>

#include "medusa_impl.h"

// Depths [from, from + n) of a block at all positions.
typedef struct depth_work {
    const gg_medusa_trainer *m;
    size_t rows, block, from, n;
    const float *before; // input of the residual of depth `from`
    size_t before_ld;    // from a position to the next
    const float *bias;   // [d]
    float *bias_gradient;
} depth_work;

static size_t width_of(const gg_medusa_trainer *m)
{
    return m->shape.n_heads * m->shape.d;
}

static void activate_part(void *context, size_t thread, size_t n_threads)
{
    const depth_work *w = context;
    const gg_medusa_trainer *m = w->m;
    size_t d = m->shape.d, width = width_of(m), begin, end;
    gg_team_share(w->rows, 1, thread, n_threads, &begin, &end);
    for (size_t row = begin; row < end; row++) {
        for (size_t k = 0; k < w->n; k++) {
            size_t at = row * width + (w->from + k) * d;
            gg_medusa_activate(m->kernels, d, w->before + row * w->before_ld + k * d, w->bias,
                               m->slope[w->block] + at, m->z[w->block] + at,
                               m->scratch + thread * 2 * d);
        }
    }
}

// The state before depth k: the hidden state, or what depth k - 1 made of it.
static gg_operand state_before(const gg_medusa_trainer *m, const gg_medusa_batch *batch, size_t k)
{
    size_t d = m->shape.d;
    if (k == 0)
        return (gg_operand){batch->input, batch->rows, d, m->layout.input, false};
    return (gg_operand){m->z[0] + (k - 1) * d, batch->rows, d, width_of(m), false};
}

static gg_operand token_at(const gg_medusa_trainer *m, const gg_medusa_batch *batch, size_t k)
{
    size_t d = m->shape.d;
    return (gg_operand){batch->input + (1 + k) * d, batch->rows, d, m->layout.input, false};
}

static gorgon_status forward_depth(gg_medusa_trainer *m, const float *parameters,
                                   const gg_medusa_batch *batch, size_t k, gorgon_error *err)
{
    size_t d = m->shape.d, width = width_of(m), rows = batch->rows;
    float *a = m->slope[0] + k * d;
    gg_operand s = state_before(m, batch, k), e = token_at(m, batch, k);
    gg_operand w = {parameters, d, d, 2 * d, true}, r = {parameters + d, d, d, 2 * d, true};
    gorgon_status status = gg_gemm(m->team, m->kernels, &s, &w, false, a, rows, d, width, err);
    if (status == GORGON_OK)
        status = gg_gemm(m->team, m->kernels, &e, &r, true, a, rows, d, width, err);
    if (status != GORGON_OK)
        return status;
    depth_work work = {.m = m, .rows = rows, .from = k, .n = 1};
    work.before = s.data;
    work.before_ld = s.ld;
    work.bias = parameters + gg_medusa_bias_at(&m->shape, 0, 0);
    gg_team_run(m->team, activate_part, &work);
    return GORGON_OK;
}

static gorgon_status forward_block(gg_medusa_trainer *m, const float *parameters,
                                   const gg_medusa_batch *batch, size_t block, gorgon_error *err)
{
    size_t d = m->shape.d, pairs = batch->rows * m->shape.n_heads;
    gg_operand z = {m->z[block - 1], pairs, d, d, false};
    gg_operand w = {parameters + gg_medusa_weight_at(&m->shape, block, 0), d, d, d, true};
    gorgon_status status =
        gg_gemm(m->team, m->kernels, &z, &w, false, m->slope[block], pairs, d, d, err);
    if (status != GORGON_OK)
        return status;
    depth_work work = {.m = m, .rows = batch->rows, .block = block, .n = m->shape.n_heads};
    work.before = m->z[block - 1];
    work.before_ld = width_of(m);
    work.bias = parameters + gg_medusa_bias_at(&m->shape, block, 0);
    gg_team_run(m->team, activate_part, &work);
    return GORGON_OK;
}

// slope becomes d loss / d a = dz * silu'(a); its sum joins the bias gradient.
static void slope_part(void *context, size_t thread, size_t n_threads)
{
    const depth_work *w = context;
    const gg_medusa_trainer *m = w->m;
    size_t d = m->shape.d, width = width_of(m), begin, end;
    gg_team_share(d, 16, thread, n_threads, &begin, &end);
    for (size_t row = 0; row < w->rows; row++) {
        for (size_t k = w->from; k < w->from + w->n; k++) {
            float *restrict da = m->slope[w->block] + row * width + k * d;
            const float *restrict dz = m->dz + row * width + k * d;
            float *restrict sum = w->bias_gradient;
            for (size_t i = begin; i < end; i++) {
                da[i] *= dz[i];
                sum[i] += da[i];
            }
        }
    }
}

static gorgon_status backward_block(gg_medusa_trainer *m, const float *parameters,
                                    const gg_medusa_batch *batch, size_t block, gorgon_error *err)
{
    size_t d = m->shape.d, pairs = batch->rows * m->shape.n_heads;
    size_t at = gg_medusa_weight_at(&m->shape, block, 0);
    depth_work work = {.m = m, .rows = batch->rows, .block = block, .n = m->shape.n_heads};
    work.bias_gradient = batch->gradient + gg_medusa_bias_at(&m->shape, block, 0);
    gg_team_run(m->team, slope_part, &work);
    gg_operand da = {m->slope[block], pairs, d, d, false}, da_t = da;
    da_t.transposed = true;
    gg_operand z = {m->z[block - 1], pairs, d, d, false};
    gg_operand w = {parameters + at, d, d, d, false};
    gorgon_status status =
        gg_gemm(m->team, m->kernels, &da_t, &z, false, batch->gradient + at, d, d, d, err);
    if (status == GORGON_OK)
        status = gg_gemm(m->team, m->kernels, &da, &w, true, m->dz, pairs, d, d, err);
    return status;
}

// y += x for one depth of dz: the residual path from a state to the one before it.
static void pass_back(const gg_medusa_trainer *m, size_t rows, size_t k)
{
    size_t d = m->shape.d, width = width_of(m);
    for (size_t row = 0; row < rows; row++) {
        float *to = m->dz + row * width + (k - 1) * d;
        m->kernels->add(to, to + d, d);
    }
}

static gorgon_status backward_depth(gg_medusa_trainer *m, const float *parameters,
                                    const gg_medusa_batch *batch, size_t k, bool more,
                                    gorgon_error *err)
{
    size_t d = m->shape.d, width = width_of(m), rows = batch->rows;
    depth_work work = {.m = m, .rows = rows, .from = k, .n = 1};
    work.bias_gradient = batch->gradient + gg_medusa_bias_at(&m->shape, 0, 0);
    gg_team_run(m->team, slope_part, &work);
    gg_operand da = {m->slope[0] + k * d, rows, d, width, false}, da_t = da;
    da_t.transposed = true;
    gg_operand s = state_before(m, batch, k), e = token_at(m, batch, k);
    gorgon_status status =
        gg_gemm(m->team, m->kernels, &da_t, &s, more, batch->gradient, d, d, 2 * d, err);
    if (status == GORGON_OK)
        status =
            gg_gemm(m->team, m->kernels, &da_t, &e, more, batch->gradient + d, d, d, 2 * d, err);
    if (status != GORGON_OK || k == 0)
        return status;
    gg_operand w = {parameters, d, d, 2 * d, false};
    pass_back(m, rows, k);
    return gg_gemm(m->team, m->kernels, &da, &w, true, m->dz + (k - 1) * d, rows, d, width, err);
}

gorgon_status gg_recurrent_run(gg_medusa_trainer *m, const float *parameters,
                               const gg_medusa_batch *batch, gorgon_error *err)
{
    size_t depths = m->shape.n_heads, blocks = m->shape.n_blocks;
    gorgon_status status = GORGON_OK;
    for (size_t k = 0; k < depths && status == GORGON_OK; k++)
        status = forward_depth(m, parameters, batch, k, err);
    for (size_t j = 1; j < blocks && status == GORGON_OK; j++)
        status = forward_block(m, parameters, batch, j, err);
    if (status == GORGON_OK)
        status = gg_medusa_run_logits(m, batch, err);
    if (status != GORGON_OK || !batch->gradient)
        return status;
    memset(batch->gradient + m->layout.n_weights, 0,
           (m->layout.n - m->layout.n_weights) * sizeof *batch->gradient);
    for (size_t j = blocks; j-- > 1 && status == GORGON_OK;)
        status = backward_block(m, parameters, batch, j, err);
    for (size_t k = depths; k-- > 0 && status == GORGON_OK;)
        status = backward_depth(m, parameters, batch, k, k + 1 < depths, err);
    return status;
}

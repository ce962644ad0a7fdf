// What recipes are made of: products with parameters, activation of lanes, later blocks.
#include <math.h>

#include "recipe.h"

gg_rows gg_lane(const gg_head_pass *p, float *x, size_t lane)
{
    const gg_head_shape *s = &p->m->shape;
    return (gg_rows){x + lane * s->d_model, p->batch->rows, s->n_heads * s->d_model};
}

gg_rows gg_all_lanes(const gg_head_pass *p, float *x)
{
    const gg_head_shape *s = &p->m->shape;
    return (gg_rows){x, p->batch->rows * s->n_heads, s->d_model};
}

gg_operand gg_operand_of(gg_rows rows, size_t columns)
{
    return (gg_operand){rows.data, rows.n, columns, rows.ld, false};
}

gg_operand gg_input_tokens(const gg_head_pass *p, size_t first, size_t n)
{
    const size_t d = p->m->shape.d_model;
    return (gg_operand){p->batch->input + (1 + first) * d, p->batch->rows, n * d, p->m->input,
                        false};
}

static gg_operand context_part(const gg_head_pass *p, size_t part)
{
    const size_t d = p->m->shape.d_model, width = gg_head_context(&p->m->shape);
    return (gg_operand){p->batch->context + part * d, p->batch->context_rows, d, width, false};
}

gg_operand gg_context_hidden(const gg_head_pass *p)
{
    return context_part(p, 0);
}

gg_operand gg_context_token(const gg_head_pass *p)
{
    return context_part(p, 1);
}

gg_weights gg_weights_of(const gg_head_pass *p, gg_head_role role, size_t block, size_t head)
{
    const gg_head_layout *layout = &p->m->layout;
    const size_t i = gg_head_layout_find(layout, role, head, block);
    return (gg_weights){layout->at[i], layout->parts[i].n_out, layout->parts[i].n_in};
}

gg_weights gg_weights_of_all(const gg_head_pass *p, gg_head_role role, size_t block)
{
    gg_weights w = gg_weights_of(p, role, block, 0);
    w.n_out *= gg_head_cells(&p->m->shape);
    return w;
}

static gg_operand matrix(const float *parameters, gg_weights w)
{
    return (gg_operand){parameters + w.at, w.n_out, w.n_in, w.n_in, false};
}

gorgon_status gg_weights_apply(const gg_head_pass *p, gg_weights w, gg_operand x, gg_rows y,
                               bool add, gorgon_error *err)
{
    gg_operand w_t = matrix(p->parameters, w);
    w_t.transposed = true;
    return gg_gemm(p->m->team, p->m->kernels, &x, &w_t, add, y.data, y.n, w.n_out, y.ld, err);
}

gorgon_status gg_weights_gradient(const gg_head_pass *p, gg_weights w, gg_rows dy, gg_operand x,
                                  bool add, gorgon_error *err)
{
    gg_operand dy_t = gg_operand_of(dy, w.n_out);
    dy_t.transposed = true;
    return gg_gemm(p->m->team, p->m->kernels, &dy_t, &x, add, p->batch->gradient + w.at, w.n_out,
                   w.n_in, w.n_in, err);
}

gorgon_status gg_weights_back(const gg_head_pass *p, gg_weights w, gg_rows dy, gg_rows dx, bool add,
                              gorgon_error *err)
{
    const gg_operand x = gg_operand_of(dy, w.n_out), y = matrix(p->parameters, w);
    return gg_gemm(p->m->team, p->m->kernels, &x, &y, add, dx.data, dx.n, w.n_in, dx.ld, err);
}

gg_lanes gg_first_lanes(const gg_head_pass *p)
{
    return (gg_lanes){
        .n = p->m->shape.n_heads, .before = p->hidden.data, .before_ld = p->hidden.ld};
}

gg_lanes gg_later_lanes(const gg_head_pass *p, size_t block)
{
    const gg_head_shape *s = &p->m->shape;
    return (gg_lanes){.block = block,
                      .n = s->n_heads,
                      .before = p->m->z[block - 1],
                      .before_ld = s->n_heads * s->d_model,
                      .before_step = s->d_model};
}

// Lanes at the work of a thread.
typedef struct lane_work {
    const gg_head_pass *p;
    const gg_lanes *lanes;
    size_t bias;      // of lane 0
    size_t bias_step; // from a lane to the next: 0 when they share a head
} lane_work;

static lane_work work_of(const gg_head_pass *p, const gg_lanes *lanes)
{
    const gg_head_layout *layout = &p->m->layout;
    const size_t i = gg_head_layout_find(layout, GG_PART_BIAS, 0, lanes->block);
    const bool shared = gg_head_cells(&p->m->shape) == 1;
    return (lane_work){p, lanes, layout->at[i], shared ? 0 : p->m->shape.d_model};
}

// exp only ever sees arguments <= 0.
void gg_sigmoid(const gg_kernels *kernels, const float *restrict a, size_t n, float *restrict y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = -fabsf(a[i]);
    kernels->exp_shift(y, n, 0.0f, y);
    for (size_t i = 0; i < n; i++)
        y[i] = (a[i] >= 0.0f ? 1.0f : y[i]) / (1.0f + y[i]);
}

// One lane at one position, all [d]. scratch: [2 * d].
static void activate_silu(const gg_kernels *kernels, size_t d, const float *restrict before,
                          const float *restrict bias, float *restrict slope, float *restrict z,
                          float *restrict scratch)
{
    float *restrict a = scratch, *restrict sigmoid = scratch + d;
    for (size_t i = 0; i < d; i++)
        a[i] = slope[i] + bias[i];
    gg_sigmoid(kernels, a, d, sigmoid);
    for (size_t i = 0; i < d; i++) {
        z[i] = before[i] + a[i] * sigmoid[i];
        slope[i] = sigmoid[i] * (1.0f + a[i] * (1.0f - sigmoid[i]));
    }
}

static void activate_identity(size_t d, const float *restrict before, const float *restrict bias,
                              float *restrict slope, float *restrict z)
{
    for (size_t i = 0; i < d; i++) {
        z[i] = before[i] + slope[i] + bias[i];
        slope[i] = 1.0f;
    }
}

static void activate_part(void *context, size_t thread, size_t n_threads)
{
    const lane_work *w = context;
    const gg_head_trainer *m = w->p->m;
    const gg_lanes *l = w->lanes;
    const bool activated = gg_head_traits_of(m->shape.kind)->activated;
    const size_t d = m->shape.d_model, heads = m->shape.n_heads;
    size_t begin, end;
    gg_team_share(w->p->batch->rows, 1, thread, n_threads, &begin, &end);
    for (size_t row = begin; row < end; row++) {
        for (size_t i = 0; i < l->n; i++) {
            const size_t lane = l->first + i, at = (row * heads + lane) * d;
            const float *before = l->before + row * l->before_ld + i * l->before_step;
            const float *bias = w->p->parameters + w->bias + lane * w->bias_step;
            float *slope = m->slope[l->block] + at, *z = m->z[l->block] + at;
            if (activated)
                activate_silu(m->kernels, d, before, bias, slope, z,
                              m->scratch + thread * 2 * m->wide);
            else
                activate_identity(d, before, bias, slope, z);
        }
    }
}

void gg_lanes_activate(const gg_head_pass *p, const gg_lanes *lanes)
{
    lane_work work = work_of(p, lanes);
    gg_team_run(p->m->team, activate_part, &work);
}

// Threads share out the columns: each sum runs over positions and lanes in one order.
static void differentiate_part(void *context, size_t thread, size_t n_threads)
{
    const lane_work *w = context;
    const gg_head_trainer *m = w->p->m;
    const gg_lanes *l = w->lanes;
    const size_t d = m->shape.d_model, heads = m->shape.n_heads;
    size_t begin, end;
    gg_team_share(d, 16, thread, n_threads, &begin, &end);
    for (size_t row = 0; row < w->p->batch->rows; row++) {
        for (size_t lane = l->first; lane < l->first + l->n; lane++) {
            const size_t at = (row * heads + lane) * d;
            float *restrict da = m->slope[l->block] + at;
            const float *restrict dz = m->dz + at;
            float *restrict sum = w->p->batch->gradient + w->bias + lane * w->bias_step;
            for (size_t i = begin; i < end; i++) {
                da[i] *= dz[i];
                sum[i] += da[i];
            }
        }
    }
}

void gg_lanes_differentiate(const gg_head_pass *p, const gg_lanes *lanes)
{
    lane_work work = work_of(p, lanes);
    gg_team_run(p->m->team, differentiate_part, &work);
}

gorgon_status gg_later_forward(const gg_head_pass *p, gorgon_error *err)
{
    const gg_head_shape *s = &p->m->shape;
    gorgon_status status = GORGON_OK;
    for (size_t j = 1; j < s->n_blocks && status == GORGON_OK; j++) {
        const gg_lanes lanes = gg_later_lanes(p, j);
        for (size_t k = 0; k < s->n_heads && status == GORGON_OK; k++)
            status = gg_weights_apply(p, gg_weights_of(p, GG_PART_WEIGHT, j, k),
                                      gg_operand_of(gg_lane(p, p->m->z[j - 1], k), s->d_model),
                                      gg_lane(p, p->m->slope[j], k), false, err);
        if (status == GORGON_OK)
            gg_lanes_activate(p, &lanes);
    }
    return status;
}

static gorgon_status later_block_backward(const gg_head_pass *p, size_t block, gorgon_error *err)
{
    const gg_head_shape *s = &p->m->shape;
    const gg_lanes lanes = gg_later_lanes(p, block);
    gorgon_status status = GORGON_OK;
    gg_lanes_differentiate(p, &lanes);
    for (size_t k = 0; k < s->n_heads && status == GORGON_OK; k++) {
        const gg_weights w = gg_weights_of(p, GG_PART_WEIGHT, block, k);
        const gg_rows da = gg_lane(p, p->m->slope[block], k);
        const gg_rows z = gg_lane(p, p->m->z[block - 1], k);
        status = gg_weights_gradient(p, w, da, gg_operand_of(z, s->d_model), false, err);
        if (status == GORGON_OK)
            status = gg_weights_back(p, w, da, gg_lane(p, p->m->dz, k), true, err);
    }
    return status;
}

gorgon_status gg_later_backward(const gg_head_pass *p, gorgon_error *err)
{
    gorgon_status status = GORGON_OK;
    for (size_t j = p->m->shape.n_blocks; j-- > 1 && status == GORGON_OK;)
        status = later_block_backward(p, j, err);
    return status;
}

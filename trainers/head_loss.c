// Softmax, loss and gradient of logit rows. The row stays in cache between its steps.
#include "head_loss.h"

#include <string.h>

#include "core/math.h"

static float row_max(const gg_kernels *kernels, const float *x, size_t n, float *maxima)
{
    size_t blocks = (n + 63) / 64;
    kernels->block_max(x, n, maxima);
    float max = maxima[0];
    for (size_t i = 1; i < blocks; i++)
        max = maxima[i] > max ? maxima[i] : max;
    return max;
}

static uint32_t rank_of(const float *x, size_t n, int32_t truth)
{
    if (truth < 0)
        return UINT32_MAX;
    size_t t = (size_t)truth;
    uint32_t rank = 0;
    for (size_t i = 0; i < t; i++)
        rank += x[i] >= x[t];
    for (size_t i = t + 1; i < n; i++)
        rank += x[i] > x[t];
    return rank;
}

// d loss / d logit_i = weight * (softmax_i - p_i).
static void row_loss(const gg_head_loss *l, size_t row, float *maxima)
{
    const size_t pair = row * l->step;
    const gg_head_target *target = &l->targets[pair];
    float *x = l->logits + row * l->n_out;
    if (l->rank)
        l->rank[pair] = rank_of(x, l->n_out, target->truth);
    if (target->n == 0) {
        if (l->loss)
            l->loss[pair] = 0.0;
        if (l->want_gradient)
            memset(x, 0, l->n_out * sizeof *x);
        return;
    }
    double wanted = 0.0;
    for (uint32_t i = 0; i < target->n; i++)
        wanted += (double)target->p[i] * (double)x[target->ids[i]];
    float max = row_max(l->kernels, x, l->n_out, maxima);
    float sum = l->kernels->exp_shift(x, l->n_out, max, x);
    if (l->loss)
        l->loss[pair] = gg_log((double)sum) + (double)max - wanted;
    if (!l->want_gradient)
        return;
    l->kernels->scale(x, l->n_out, target->weight / sum);
    for (uint32_t i = 0; i < target->n; i++)
        x[target->ids[i]] -= target->weight * target->p[i];
}

static void loss_part(void *context, size_t thread, size_t n_threads)
{
    const gg_head_loss *l = context;
    float *maxima = l->maxima + thread * ((l->n_out + 63) / 64);
    size_t begin, end;
    gg_team_share(l->rows, 1, thread, n_threads, &begin, &end);
    for (size_t row = begin; row < end; row++)
        row_loss(l, row, maxima);
}

void gg_head_loss_run(gg_team *team, const gg_head_loss *loss)
{
    gg_head_loss copy = *loss;
    gg_team_run(team, loss_part, &copy);
}

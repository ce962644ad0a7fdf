// Attention over f32 keys and values, for --activations f32: the reference path that other
// software's float results are compared with. Plain loops; one two-pass softmax per query head.
#include "engine_impl.h"

#include <string.h>

#include "core/kernels.h"

static const float *key_lane(const gg_attend *a, size_t row, size_t position)
{
    size_t tile = a->head_dim * GG_K_LANES;
    const float *base;
    size_t place;
    if (position < a->n_committed) {
        base = (const float *)(const void *)a->page_k[position / GG_PAGE];
        place = position % GG_PAGE;
    } else {
        base = (const float *)(const void *)a->slot_k;
        place = a->chain[row][position - a->n_committed];
    }
    return base + place / GG_K_LANES * tile + place % GG_K_LANES;
}

static const float *value_row(const gg_attend *a, size_t row, size_t position)
{
    if (position < a->n_committed) {
        const float *base = (const float *)(const void *)a->page_v[position / GG_PAGE];
        return base + position % GG_PAGE * a->head_dim;
    }
    const float *base = (const float *)(const void *)a->slot_v;
    return base + a->chain[row][position - a->n_committed] * a->slot_v_stride;
}

static void attend_head(const gg_attend *a, const gg_kernels *kernels, size_t row, size_t head)
{
    size_t first = gg_attend_first(a, row), hd = a->head_dim;
    size_t n = a->n_committed + a->n_chain[row] - first;
    const float *q = a->q + row * a->stride + head * hd;
    float *out = a->out + row * a->stride + head * hd, *scores = a->scratch;
    for (size_t p = 0; p < n; p++) {
        const float *k = key_lane(a, row, first + p);
        float dot = 0.0f;
        for (size_t i = 0; i < hd; i++)
            dot += q[i] * k[i * GG_K_LANES];
        scores[p] = dot;
    }
    float max = scores[kernels->argmax(scores, n)];
    float sum = kernels->exp_shift(scores, n, max, scores);
    memset(out, 0, hd * sizeof *out);
    for (size_t p = 0; p < n; p++) {
        const float *v = value_row(a, row, first + p);
        for (size_t i = 0; i < hd; i++)
            out[i] += scores[p] * v[i];
    }
    for (size_t i = 0; i < hd; i++)
        out[i] /= sum;
}

void gg_attend_reference(const gg_attend *args, const gg_kernels *kernels)
{
    for (size_t row = 0; row < args->n_rows; row++) {
        for (size_t head = 0; head < args->group; head++)
            attend_head(args, kernels, row, head);
    }
}

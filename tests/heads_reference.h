// What heads/head_set.h says of heads that see drafted tokens, word by word in double precision.
#ifndef HEADS_REFERENCE_H
#define HEADS_REFERENCE_H

#include <math.h>

#include "heads/proposer.h"
#include "heads_fixture.h"

// y = w x, w [n_out, n_in]
static inline void reference_product(const float *w, size_t n_out, size_t n_in, const double *x,
                                     double *y)
{
    for (size_t o = 0; o < n_out; o++) {
        y[o] = 0.0;
        for (size_t i = 0; i < n_in; i++)
            y[o] += (double)w[o * n_in + i] * x[i];
    }
}

static inline double reference_silu(double x)
{
    return x / (1.0 + exp(-x));
}

// y = x / rms(x)
static inline void reference_norm(size_t d, const double *x, double *y)
{
    double square = 0.0;
    for (size_t i = 0; i < d; i++)
        square += x[i] * x[i];
    for (size_t i = 0; i < d; i++)
        y[i] = x[i] / sqrt(square / (double)d + 1e-12);
}

static inline void reference_embedding(const gorgon_model *model, gorgon_token token, double *e)
{
    const size_t d = gg_model_geometry(model)->d_model;
    float *x = gg_alloc(d, sizeof *x);
    gg_model_embed(model, token, x);
    for (size_t i = 0; i < d; i++)
        e[i] = (double)x[i];
    reference_norm(d, e, e);
    gg_free(x);
}

// z becomes z + f(w z + r e + b), e[n_e], f = silu or nothing; r may be NULL.
static inline void reference_block(const gg_head_set_source *s, size_t head, size_t block,
                                   const float *r, const double *e, size_t n_e, double *z)
{
    const size_t d = s->shape.d_model;
    const float *b = fixture_part(s, GG_PART_BIAS, head, block);
    double *sum = gg_alloc(2 * d, sizeof *sum), *more = sum + d;
    reference_product(fixture_part(s, GG_PART_WEIGHT, head, block), d, d, z, sum);
    if (r)
        reference_product(r, d, n_e, e, more);
    for (size_t o = 0; o < d; o++) {
        const double all = sum[o] + more[o] + (double)b[o];
        z[o] += gg_head_traits_of(s->shape.kind)->activated ? reference_silu(all) : all;
    }
    gg_free(sum);
}

// z += U D e
static inline void reference_bias(const gg_head_set_source *s, size_t head, const double *e,
                                  double *z)
{
    const size_t d = s->shape.d_model, rank = s->shape.rank;
    double *down = gg_alloc(rank + d, sizeof *down), *up = down + rank;
    reference_product(fixture_part(s, GG_PART_DOWN, head, 0), rank, d, e, down);
    reference_product(fixture_part(s, GG_PART_UP, head, 0), d, rank, down, up);
    for (size_t o = 0; o < d; o++)
        z[o] += up[o];
    gg_free(down);
}

// Rotates pairs (2j, 2j + 1) of each attention head.
static inline void reference_rope(const gg_head_shape *s, size_t position, double *x)
{
    const size_t hd = s->d_model / s->n_attention;
    for (size_t i = 0; i < s->d_model; i += 2) {
        const double angle = (double)position * pow(10000.0, -(double)(i % hd) / (double)hd);
        const double a = x[i], b = x[i + 1];
        x[i] = a * cos(angle) - b * sin(angle);
        x[i + 1] = a * sin(angle) + b * cos(angle);
    }
}

// out[head_dim] of one attention head: n keys and values, rows of `d`.
static inline void reference_attend(size_t d, size_t hd, const double *q, const double *k,
                                    const double *v, size_t n, double *out)
{
    double sum = 0.0;
    memset(out, 0, hd * sizeof *out);
    for (size_t r = 0; r < n; r++) {
        double score = 0.0;
        for (size_t i = 0; i < hd; i++)
            score += q[i] * k[r * d + i];
        const double weight = exp(score / sqrt((double)hd));
        sum += weight;
        for (size_t i = 0; i < hd; i++)
            out[i] += weight * v[r * d + i];
    }
    for (size_t i = 0; i < hd; i++)
        out[i] /= sum;
}

// a of the last of h[n][d], whose first one stands at `position`.
static inline void reference_attention(const gg_head_set_source *s, const double *h, size_t n,
                                       size_t position, double *a)
{
    const size_t d = s->shape.d_model, hd = d / s->shape.n_attention;
    double *k = gg_alloc((2 * n + 2) * d, sizeof *k), *v = k + n * d, *q = v + n * d, *norm = q + d;
    for (size_t r = 0; r < n; r++) {
        reference_norm(d, h + r * d, norm);
        reference_product(fixture_part(s, GG_PART_ATTN_K, 0, 0), d, d, norm, k + r * d);
        reference_product(fixture_part(s, GG_PART_ATTN_V, 0, 0), d, d, norm, v + r * d);
        reference_rope(&s->shape, position + r, k + r * d);
    }
    reference_product(fixture_part(s, GG_PART_ATTN_Q, 0, 0), d, d, norm, q);
    reference_rope(&s->shape, position + n - 1, q);
    for (size_t i = 0; i < d; i += hd)
        reference_attend(d, hd, q + i, k + i, v + i, n, a + i);
    gg_free(k);
}

// layer(last of h, those before), h[n][d] the rows at `position` and on; n may exceed the window.
static inline void reference_layer(const gg_head_set_source *s, const double *h, size_t n,
                                   size_t position, double *out)
{
    const size_t d = s->shape.d_model, f = s->shape.n_ffn, window = s->shape.window;
    const size_t hidden = n > window ? n - window : 0;
    double *a = gg_alloc(3 * d + 2 * f, sizeof *a), *y = a + d, *norm = y + d;
    double *gate = norm + d, *up = gate + f;
    reference_attention(s, h + hidden * d, n - hidden, position + hidden, a);
    reference_product(fixture_part(s, GG_PART_ATTN_OUTPUT, 0, 0), d, d, a, y);
    for (size_t i = 0; i < d; i++)
        y[i] += h[(n - 1) * d + i];
    reference_norm(d, y, norm);
    reference_product(fixture_part(s, GG_PART_FFN_GATE, 0, 0), f, d, norm, gate);
    reference_product(fixture_part(s, GG_PART_FFN_UP, 0, 0), f, d, norm, up);
    for (size_t i = 0; i < f; i++)
        gate[i] = reference_silu(gate[i]) * up[i];
    reference_product(fixture_part(s, GG_PART_FFN_DOWN, 0, 0), d, f, gate, out);
    for (size_t i = 0; i < d; i++)
        out[i] += y[i];
    gg_free(a);
}

// The hidden states of the rows seen, [n][d], followed by room for `more` rows.
static inline double *reference_rows(const gg_observation *seen, size_t d, size_t more)
{
    double *h = gg_alloc((seen->n + more) * d, sizeof *h);
    for (size_t i = 0; i < seen->n * d; i++)
        h[i] = (double)seen->hidden[i / d][i % d];
    return h;
}

// eagle: z after the tokens of the embeddings e[n][d], the root's first.
static inline void reference_eagle(const gorgon_model *model, const gg_head_set_source *s,
                                   const gg_observation *seen, const double *e, size_t n, double *z)
{
    const size_t d = s->shape.d_model, last = seen->n - 1;
    const float *r = fixture_part(s, GG_PART_ROOT, 0, 0);
    double *h = reference_rows(seen, d, n), *after = gg_alloc(d, sizeof *after);
    for (size_t i = 0; i < last; i++) {
        reference_embedding(model, seen->tokens[i + 1], after);
        reference_block(s, 0, 0, r, after, d, h + i * d);
    }
    for (size_t k = 0; k < n; k++) {
        if (k > 0)
            memcpy(h + (last + k) * d, z, d * sizeof *h);
        reference_block(s, 0, 0, r, e + k * d, d, h + (last + k) * d);
        reference_layer(s, h, last + k + 1, seen->position, z);
    }
    gg_free(h);
    gg_free(after);
}

// What the output matrix sees.
static inline void reference_state(const gorgon_model *model, const gg_head_set_source *s,
                                   const gg_observation *seen, const double *e, size_t n, double *z)
{
    const size_t d = s->shape.d_model;
    const gg_head_traits *traits = gg_head_traits_of(s->shape.kind);
    const size_t head = traits->one_cell ? 0 : n - 1, runs = traits->one_cell ? n : 1;
    double *h = reference_rows(seen, d, 0);
    memcpy(z, h + (seen->n - 1) * d, d * sizeof *z);
    if (traits->layer == GG_LAYER_PREFIX)
        reference_layer(s, h, seen->n, seen->position, z);
    gg_free(h);
    if (traits->layer == GG_LAYER_CELL) {
        reference_eagle(model, s, seen, e, n, z);
        return;
    }
    for (size_t k = 0; k < runs; k++)
        reference_block(s, head, 0, fixture_part(s, GG_PART_ROOT, head, 0), e + k * d,
                        (traits->sees_all ? n : 1) * d, z);
    for (size_t b = 1; b < s->shape.n_blocks; b++)
        reference_block(s, head, b, NULL, NULL, 0, z);
    if (traits->has_rank)
        reference_bias(s, head, e + (n - 1) * d, z);
}

// log q over the draft vocabulary after the rows seen and the tokens path[0 .. n), the root first.
static inline void reference_log_q(const gorgon_model *model, const gg_head_set_source *s,
                                   const gg_observation *seen, const gorgon_token *path, size_t n,
                                   double *log_q)
{
    const size_t d = s->shape.d_model, n_draft = s->shape.n_draft;
    double *z = gg_alloc((1 + n) * d, sizeof *z), *e = z + d, sum = 0.0;
    float *row = gg_alloc(d, sizeof *row);
    for (size_t k = 0; k < n; k++)
        reference_embedding(model, path[k], e + k * d);
    reference_state(model, s, seen, e, n, z);
    for (size_t o = 0; o < n_draft; o++) {
        gg_matrix_row(gg_model_output(model), s->draft_ids[o], row);
        reference_product(row, 1, d, z, &log_q[o]);
        sum += exp(log_q[o]);
    }
    for (size_t o = 0; o < n_draft; o++)
        log_q[o] -= log(sum);
    gg_free(z);
    gg_free(row);
}

#endif

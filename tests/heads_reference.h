// What heads/head_set.h says of every kind of heads, word by word in double precision: what served
// heads and their trainers are compared with.
#ifndef HEADS_REFERENCE_H
#define HEADS_REFERENCE_H

#include <math.h>
#include <string.h>

#include "core/alloc.h"
#include "heads/head_set.h"

// A set of heads. Part i begins at w[at[i]].
typedef struct reference_heads {
    const gg_head_shape *shape;
    const gg_head_part *parts; // [n_parts], gg_head_parts of the shape
    size_t n_parts;
    const double *w;
    const size_t *at;
} reference_heads;

// Rows before the root, one after another.
typedef struct reference_rows {
    size_t n;
    const double *hidden; // [n][d]
    const double *after;  // [n - 1][d] embedding / rms of the token after each but the last
} reference_rows;

static inline const double *reference_part(const reference_heads *r, gg_head_role role, size_t head,
                                           size_t block)
{
    return r->w + r->at[gg_head_part_find(r->parts, r->n_parts, role, head, block)];
}

// y += w x, w [n_out, n_in]
static inline void reference_product(const double *w, size_t n_out, size_t n_in, const double *x,
                                     double *y)
{
    for (size_t o = 0; o < n_out; o++) {
        for (size_t i = 0; i < n_in; i++)
            y[o] += w[o * n_in + i] * x[i];
    }
}

static inline double reference_silu(double x)
{
    return x / (1.0 + exp(-x));
}

// y = x / rms(x)
static inline void reference_norm(size_t d, const double *x, double *y)
{
    double sum = 0.0;
    for (size_t i = 0; i < d; i++)
        sum += x[i] * x[i];
    for (size_t i = 0; i < d; i++)
        y[i] = x[i] / sqrt(sum / (double)d + (double)GG_HEADS_ROOT_EPS);
}

// e = embedding / rms
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

// z becomes z + f(W z + R e + b), f = silu or nothing; e holds n_e embeddings, none behind block 0.
static inline void reference_block(const reference_heads *r, size_t head, size_t block,
                                   const double *e, size_t n_e, double *z)
{
    const size_t d = r->shape->d_model;
    const bool activated = gg_head_traits_of(r->shape->kind)->activated;
    double *a = gg_alloc(d, sizeof *a);
    memcpy(a, reference_part(r, GG_PART_BIAS, head, block), d * sizeof *a);
    reference_product(reference_part(r, GG_PART_WEIGHT, head, block), d, d, z, a);
    if (n_e > 0)
        reference_product(reference_part(r, GG_PART_ROOT, head, 0), d, n_e * d, e, a);
    for (size_t o = 0; o < d; o++)
        z[o] += activated ? reference_silu(a[o]) : a[o];
    gg_free(a);
}

// z += U D e
static inline void reference_bias(const reference_heads *r, size_t head, const double *e, double *z)
{
    const size_t d = r->shape->d_model, rank = r->shape->rank;
    double *low = gg_alloc(rank, sizeof *low); // zeros
    reference_product(reference_part(r, GG_PART_DOWN, head, 0), rank, d, e, low);
    reference_product(reference_part(r, GG_PART_UP, head, 0), d, rank, low, z);
    gg_free(low);
}

// Rotates pairs (2j, 2j + 1) of each attention head.
static inline void reference_rope(const gg_head_shape *s, size_t position, double *x)
{
    const size_t hd = s->d_model / s->n_attention;
    for (size_t i = 0; i < s->d_model; i += 2) {
        const double power = -(double)(i % hd) / (double)hd;
        const double angle = (double)position * pow(GG_HEADS_ROPE_BASE, power);
        const double a = x[i], b = x[i + 1];
        x[i] = a * cos(angle) - b * sin(angle);
        x[i + 1] = a * sin(angle) + b * cos(angle);
    }
}

// a[head_dim] of one attention head: n keys and values, rows of d.
static inline void reference_attend(size_t d, size_t hd, const double *q, const double *k,
                                    const double *v, size_t n, double *a)
{
    double sum = 0.0;
    memset(a, 0, hd * sizeof *a);
    for (size_t row = 0; row < n; row++) {
        double score = 0.0;
        for (size_t i = 0; i < hd; i++)
            score += q[i] * k[row * d + i];
        const double weight = exp(score / sqrt((double)hd));
        sum += weight;
        for (size_t i = 0; i < hd; i++)
            a[i] += weight * v[row * d + i];
    }
    for (size_t i = 0; i < hd; i++)
        a[i] /= sum;
}

// a of the last of h[n][d]. Only how far positions are apart counts: they are 0 to n - 1.
static inline void reference_attention(const reference_heads *r, const double *h, size_t n,
                                       double *a)
{
    const size_t d = r->shape->d_model, hd = d / r->shape->n_attention;
    double *k = gg_alloc((2 * n + 2) * d, sizeof *k); // zeros
    double *v = k + n * d, *q = v + n * d, *norm = q + d;
    for (size_t row = 0; row < n; row++) {
        reference_norm(d, h + row * d, norm);
        reference_product(reference_part(r, GG_PART_ATTN_K, 0, 0), d, d, norm, k + row * d);
        reference_product(reference_part(r, GG_PART_ATTN_V, 0, 0), d, d, norm, v + row * d);
        reference_rope(r->shape, row, k + row * d);
    }
    reference_product(reference_part(r, GG_PART_ATTN_Q, 0, 0), d, d, norm, q);
    reference_rope(r->shape, n - 1, q);
    for (size_t i = 0; i < d; i += hd)
        reference_attend(d, hd, q + i, k + i, v + i, n, a + i);
    gg_free(k);
}

// z = layer(last of h[n][d], those before), of which there may be more than the window holds.
static inline void reference_layer(const reference_heads *r, const double *h, size_t n, double *z)
{
    const size_t d = r->shape->d_model, f = r->shape->n_ffn, window = r->shape->window;
    const size_t hidden = n > window ? n - window : 0;
    double *a = gg_alloc(2 * d + 2 * f, sizeof *a); // zeros
    double *norm = a + d, *gate = norm + d, *up = gate + f;
    reference_attention(r, h + hidden * d, n - hidden, a);
    memcpy(z, h + (n - 1) * d, d * sizeof *z);
    reference_product(reference_part(r, GG_PART_ATTN_OUTPUT, 0, 0), d, d, a, z);
    reference_norm(d, z, norm);
    reference_product(reference_part(r, GG_PART_FFN_GATE, 0, 0), f, d, norm, gate);
    reference_product(reference_part(r, GG_PART_FFN_UP, 0, 0), f, d, norm, up);
    for (size_t i = 0; i < f; i++)
        gate[i] = reference_silu(gate[i]) * up[i];
    reference_product(reference_part(r, GG_PART_FFN_DOWN, 0, 0), d, f, gate, z);
    gg_free(a);
}

// eagle: z after the tokens of the embeddings e[n][d], the root's first.
static inline void reference_eagle(const reference_heads *r, const reference_rows *rows,
                                   const double *e, size_t n, double *z)
{
    const size_t d = r->shape->d_model, last = rows->n - 1;
    double *h = gg_alloc((rows->n + n) * d, sizeof *h);
    memcpy(h, rows->hidden, rows->n * d * sizeof *h);
    for (size_t i = 0; i < last; i++)
        reference_block(r, 0, 0, rows->after + i * d, 1, h + i * d);
    for (size_t k = 0; k < n; k++) {
        if (k > 0)
            memcpy(h + (last + k) * d, z, d * sizeof *h);
        reference_block(r, 0, 0, e + k * d, 1, h + (last + k) * d);
        reference_layer(r, h, last + k + 1, z);
    }
    gg_free(h);
}

// What the output sees of the head that predicts the token after those of e[n][d].
static inline void reference_state(const reference_heads *r, const reference_rows *rows,
                                   const double *e, size_t n, double *z)
{
    const size_t d = r->shape->d_model;
    const gg_head_traits *traits = gg_head_traits_of(r->shape->kind);
    const size_t head = traits->one_cell ? 0 : n - 1, runs = traits->one_cell ? n : 1;
    const size_t seen = !r->shape->root_embedding ? 0 : traits->sees_all ? n : 1;
    if (traits->layer == GG_LAYER_CELL) {
        reference_eagle(r, rows, e, n, z);
        return;
    }
    memcpy(z, rows->hidden + (rows->n - 1) * d, d * sizeof *z);
    if (traits->layer == GG_LAYER_PREFIX)
        reference_layer(r, rows->hidden, rows->n, z);
    for (size_t k = 0; k < runs; k++)
        reference_block(r, head, 0, e + k * d, seen, z);
    for (size_t block = 1; block < r->shape->n_blocks; block++)
        reference_block(r, head, block, NULL, 0, z);
    if (traits->has_rank)
        reference_bias(r, head, e + (n - 1) * d, z);
}

#endif

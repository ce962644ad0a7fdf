// What the decoder layer does row by row. Attention goes through heads, rows and keys one after
// another and threads share out its heads, so every sum has one order. With dk and dv, what later
// lanes and rows give to a key adds up until its turn.
#include <assert.h>
#include <math.h>
#include <string.h>

#include "head_layer.h"

gg_rows gg_layer_rows(const gg_layer_pass *t, float *x, size_t columns)
{
    return (gg_rows){x + t->first * columns, t->n, t->step * columns};
}

typedef struct copy_work {
    gg_rows to;
    gg_operand from;
} copy_work;

static void copy_part(void *context, size_t thread, size_t n_threads)
{
    const copy_work *w = context;
    size_t begin, end;
    gg_team_share(w->to.n, 1, thread, n_threads, &begin, &end);
    for (size_t row = begin; row < end; row++)
        memcpy(w->to.data + row * w->to.ld, w->from.data + row * w->from.ld,
               w->from.cols * sizeof(float));
}

void gg_layer_copy(const gg_layer_pass *t, gg_operand h)
{
    copy_work work = {gg_layer_rows(t, t->l->output, t->p->m->shape.d_model), h};
    gg_team_run(t->p->m->team, copy_part, &work);
}

// Compilers turn FOUR of anything into a vector, in registers, and leave longer loops alone.
enum { FOUR = 4, STEP = 4 * FOUR };

static void add_products(float sums[FOUR], const float *a, const float *b)
{
    for (size_t i = 0; i < FOUR; i++)
        sums[i] += a[i] * b[i];
}

static float dot(const float *a, const float *b, size_t n)
{
    float sums[4][FOUR] = {{0.0f}}, rest = 0.0f;
    size_t i = 0;
    for (; i + STEP <= n; i += STEP) {
        add_products(sums[0], a + i, b + i);
        add_products(sums[1], a + i + FOUR, b + i + FOUR);
        add_products(sums[2], a + i + 2 * FOUR, b + i + 2 * FOUR);
        add_products(sums[3], a + i + 3 * FOUR, b + i + 3 * FOUR);
    }
    for (; i < n; i++)
        rest += a[i] * b[i];
    for (size_t j = 0; j < FOUR; j++)
        sums[0][j] = (sums[0][j] + sums[1][j]) + (sums[2][j] + sums[3][j]);
    return rest + ((sums[0][0] + sums[0][1]) + (sums[0][2] + sums[0][3]));
}

static void add_four(float *restrict y, const float *restrict x, float factor)
{
    for (size_t i = 0; i < FOUR; i++)
        y[i] += factor * x[i];
}

// y += factor * x
static void add_scaled(float *restrict y, const float *restrict x, size_t n, float factor)
{
    size_t i = 0;
    for (; i + STEP <= n; i += STEP) {
        add_four(y + i, x + i, factor);
        add_four(y + i + FOUR, x + i + FOUR, factor);
        add_four(y + i + 2 * FOUR, x + i + 2 * FOUR, factor);
        add_four(y + i + 3 * FOUR, x + i + 3 * FOUR, factor);
    }
    for (; i < n; i++)
        y[i] += factor * x[i];
}

typedef struct norm_work {
    const gg_layer_pass *t;
    float *n, *scales;
} norm_work;

static void norm_part(void *context, size_t thread, size_t n_threads)
{
    const norm_work *w = context;
    const gg_layer_pass *t = w->t;
    const size_t d = t->p->m->shape.d_model;
    size_t begin, end;
    gg_team_share(t->n, 1, thread, n_threads, &begin, &end);
    for (size_t row = begin; row < end; row++) {
        const size_t slot = t->first + row * t->step;
        const float *x = t->l->output + slot * d;
        const float scale = 1.0f / sqrtf(dot(x, x, d) / (float)d + GG_HEADS_ROOT_EPS);
        w->scales[slot] = scale;
        memset(w->n + slot * d, 0, d * sizeof *x);
        add_scaled(w->n + slot * d, x, d, scale);
    }
}

// Of n = x / rms: dx = (dn - n mean(n dn)) / rms.
static void norm_back_part(void *context, size_t thread, size_t n_threads)
{
    const norm_work *w = context;
    const gg_layer_pass *t = w->t;
    const size_t d = t->p->m->shape.d_model;
    size_t begin, end;
    gg_team_share(t->n, 1, thread, n_threads, &begin, &end);
    for (size_t row = begin; row < end; row++) {
        const size_t slot = t->first + row * t->step;
        const float *n = w->n + slot * d, *dn = t->l->back + row * d;
        const float scale = w->scales[slot], mean = dot(n, dn, d) / (float)d;
        add_scaled(t->d.data + row * t->d.ld, dn, d, scale);
        add_scaled(t->d.data + row * t->d.ld, n, d, -scale * mean);
    }
}

void gg_layer_norm(const gg_layer_pass *t, float *n, float *scales)
{
    norm_work work = {t, n, scales};
    gg_team_run(t->p->m->team, norm_part, &work);
}

void gg_layer_norm_back(const gg_layer_pass *t, float *n, float *scales)
{
    norm_work work = {t, n, scales};
    gg_team_run(t->p->m->team, norm_back_part, &work);
}

// Rotates one attention head of the lane's rows.
static void rotate(const gg_layer_pass *t, float *x, size_t head, const float *sine)
{
    const gg_head_shape *s = &t->p->m->shape;
    const size_t head_dim = s->d_model / s->n_attention, pairs = head_dim / 2;
    const gg_rows rows = gg_layer_rows(t, x, s->d_model);
    for (size_t row = 0; row < rows.n; row++) {
        const size_t position = t->positions ? t->positions[row] : s->window + row + t->lane;
        const size_t at = position * pairs;
        t->p->m->kernels->rope(rows.data + row * rows.ld + head * head_dim, 1, head_dim,
                               t->l->cosine + at, sine + at);
    }
}

typedef struct rotation {
    const gg_layer_pass *t;
    float *x;
    const float *sine;
} rotation;

static void rotate_part(void *context, size_t thread, size_t n_threads)
{
    const rotation *r = context;
    size_t head;
    (void)n_threads;
    while (gg_team_take(r->t->p->m->team, r->t->p->m->shape.n_attention, thread, &head))
        rotate(r->t, r->x, head, r->sine);
}

void gg_layer_rotate(const gg_layer_pass *t, float *x, const float *sine)
{
    rotation work = {t, x, sine};
    gg_team_run(t->p->m->team, rotate_part, &work);
}

// One query of one attention head. Its keys are the n_keys positions up to its own.
typedef struct query {
    size_t row, lane, n_keys;
    gg_head_past past;
    size_t n, d, lanes, row_slots; // n: channels of the attention head
    size_t own, from; // floats to its q and result; from a slot's first to the attention head's
    float *weights;   // [n_keys]
    float scale;      // of scores
} query;

static query query_of(const gg_layer_pass *t, size_t head, size_t row)
{
    const gg_head_shape *s = &t->p->m->shape;
    const gg_head_past *past = t->p->batch->past;
    const size_t n = s->d_model / s->n_attention, slot = row * t->l->lanes + t->lane;
    query q = {.row = row,
               .lane = t->lane,
               .past = past ? past[row] : (gg_head_past){0},
               .n = n,
               .d = s->d_model,
               .lanes = t->l->lanes,
               .row_slots = t->l->row_slots,
               .own = slot * s->d_model + head * n,
               .from = head * n,
               .weights = t->l->weights + (head * t->l->row_slots + slot) * s->window,
               .scale = 1.0f / sqrtf((float)n)};
    const size_t known = q.past.context + q.past.rows + q.lane + 1;
    q.n_keys = known < s->window ? known : s->window;
    return q;
}

static size_t key_at(const query *q, size_t i)
{
    const size_t back = q->n_keys - 1 - i; // positions before its own
    size_t slot;
    if (back < q->lane)
        slot = q->row * q->lanes + q->lane - back;
    else if (back - q->lane <= q->past.rows)
        slot = (q->row - (back - q->lane)) * q->lanes;
    else
        slot = q->row_slots + q->past.end - (back - q->lane - q->past.rows);
    return slot * q->d + q->from;
}

static void attend(const gg_layer_pass *t, const query *q)
{
    const gg_kernels *kernels = t->p->m->kernels;
    const gg_layer_work *l = t->l;
    float *w = q->weights, *out = l->attended + q->own;
    for (size_t i = 0; i < q->n_keys; i++)
        w[i] = q->scale * dot(l->q + q->own, l->k + key_at(q, i), q->n);
    const float sum = kernels->exp_shift(w, q->n_keys, w[kernels->argmax(w, q->n_keys)], w);
    kernels->scale(w, q->n_keys, 1.0f / sum);
    memset(out, 0, q->n * sizeof *out);
    for (size_t i = 0; i < q->n_keys; i++)
        add_scaled(out, l->v + key_at(q, i), q->n, w[i]);
}

static void attend_part(void *context, size_t thread, size_t n_threads)
{
    const gg_layer_pass *t = context;
    size_t head;
    (void)n_threads;
    while (gg_team_take(t->p->m->team, t->p->m->shape.n_attention, thread, &head)) {
        rotate(t, t->l->q, head, t->l->sine);
        rotate(t, t->l->k, head, t->l->sine);
        for (size_t row = 0; row < t->n; row++) {
            const query q = query_of(t, head, row);
            attend(t, &q);
        }
    }
}

// With da the gradient of the result a = sum of w_i v_i: d score_i = w_i (v_i . da - a . da).
static void attend_back(const gg_layer_pass *t, const query *q, const float *da, float *dq)
{
    gg_layer_work *l = t->l;
    const float mean = dot(l->attended + q->own, da, q->n);
    memset(dq, 0, q->n * sizeof *dq);
    for (size_t i = 0; i < q->n_keys; i++) {
        const size_t at = key_at(q, i);
        const float dw = dot(l->v + at, da, q->n) - mean;
        const float ds = q->scale * q->weights[i] * dw;
        add_scaled(l->dv + at, da, q->n, q->weights[i]);
        add_scaled(l->dk + at, l->q + q->own, q->n, ds);
        add_scaled(dq, l->k + at, q->n, ds);
    }
    memcpy(l->q + q->own, dq, q->n * sizeof *dq);
}

static void attend_back_part(void *context, size_t thread, size_t n_threads)
{
    const gg_layer_pass *t = context;
    gg_head_trainer *m = t->p->m;
    size_t head;
    (void)n_threads;
    while (gg_team_take(m->team, m->shape.n_attention, thread, &head)) {
        for (size_t row = 0; row < t->n; row++) {
            const query q = query_of(t, head, row);
            attend_back(t, &q, t->l->back + row * q.d + q.from, m->scratch + thread * 2 * m->wide);
        }
        rotate(t, t->l->q, head, t->l->back_sine);
        rotate(t, t->l->dk, head, t->l->back_sine);
    }
}

void gg_layer_attend(const gg_layer_pass *t)
{
    gg_layer_pass work = *t;
    gg_team_run(t->p->m->team, attend_part, &work);
}

void gg_layer_attend_back(const gg_layer_pass *t)
{
    gg_layer_pass work = *t;
    gg_team_run(t->p->m->team, attend_back_part, &work);
}

static void activate_part(void *context, size_t thread, size_t n_threads)
{
    const gg_layer_pass *t = context;
    const size_t n = t->p->m->shape.n_ffn;
    size_t begin, end;
    gg_team_share(t->n, 1, thread, n_threads, &begin, &end);
    for (size_t row = begin; row < end; row++) {
        const size_t at = (t->first + row * t->step) * n;
        t->p->m->kernels->silu_mul(t->l->gate + at, t->l->up + at, n, t->l->active + at);
    }
}

// Gate and up become their gradients, from that of their product in `back`.
static void activate_back_part(void *context, size_t thread, size_t n_threads)
{
    const gg_layer_pass *t = context;
    const size_t n = t->p->m->shape.n_ffn;
    float *restrict sigmoid = t->p->m->scratch + thread * 2 * t->p->m->wide;
    size_t begin, end;
    gg_team_share(t->n, 1, thread, n_threads, &begin, &end);
    for (size_t row = begin; row < end; row++) {
        const size_t at = (t->first + row * t->step) * n;
        const float *restrict dy = t->l->back + row * n;
        float *restrict gate = t->l->gate + at, *restrict up = t->l->up + at;
        gg_sigmoid(t->p->m->kernels, gate, n, sigmoid);
        for (size_t i = 0; i < n; i++) {
            const float silu = gate[i] * sigmoid[i];
            gate[i] = dy[i] * up[i] * sigmoid[i] * (1.0f + gate[i] * (1.0f - sigmoid[i]));
            up[i] = dy[i] * silu;
        }
    }
}

void gg_layer_activate(const gg_layer_pass *t)
{
    gg_layer_pass work = *t;
    gg_team_run(t->p->m->team, activate_part, &work);
}

void gg_layer_activate_back(const gg_layer_pass *t)
{
    gg_layer_pass work = *t;
    gg_team_run(t->p->m->team, activate_back_part, &work);
}

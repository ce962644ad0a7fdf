// The decoder layer of hydra++ and eagle heads at the rows of a batch, lane by lane, with its
// gradients. Products run over all rows of a lane; attention goes through heads, rows and keys one
// after another, and threads share out its heads, so every sum has one order. With dk and dv, what
// later lanes and rows give to a key adds up until its own lane's turn.
#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/alloc.h"
#include "core/math.h"
#include "recipe.h"

struct gg_layer_work {
    size_t lanes, keys; // keys: of one query at most
    // [max_rows + lanes - 1][head_dim / 2] by position; back_sine = -sine
    float *cosine, *sine, *back_sine;
    // [max_rows][lanes][d]; q and k rotated; going back, q becomes its own gradient
    float *output, *n_h, *n_y, *q, *k, *v, *attended, *dk, *dv; // n_h = n(h), n_y = n(y)
    // [max_rows][lanes][n_ffn]; going back, gate and up become their gradients
    float *gate, *up, *active;
    float *scale_h, *scale_y; // [max_rows][lanes] 1 / rms
    float *weights;           // [n_attention][max_rows][lanes][keys] of the attention
    float *back;              // [max_rows][d or n_ffn] a gradient between two products
};

static bool make_rotations(gg_layer_work *l, const gg_head_shape *s, size_t positions)
{
    const size_t head_dim = s->d_model / s->n_attention, pairs = head_dim / 2;
    l->cosine = gg_alloc(positions * pairs, sizeof *l->cosine);
    l->sine = gg_alloc(positions * pairs, sizeof *l->sine);
    l->back_sine = gg_alloc(positions * pairs, sizeof *l->back_sine);
    if (!l->cosine || !l->sine || !l->back_sine)
        return false;
    const double step = -2.0 * gg_log(GG_HEADS_ROPE_BASE) / (double)head_dim;
    for (size_t i = 0; i < positions * pairs; i++) {
        double sine, cosine;
        gg_sincos((double)(i / pairs) * gg_exp(step * (double)(i % pairs)), &sine, &cosine);
        l->cosine[i] = (float)cosine;
        l->sine[i] = (float)sine;
        l->back_sine[i] = -l->sine[i];
    }
    return true;
}

gg_layer_work *gg_layer_create(const gg_head_shape *s, size_t max_rows)
{
    gg_layer_work *l = gg_alloc(1, sizeof *l);
    if (!l)
        return NULL;
    const size_t d = s->d_model, n_ffn = s->n_ffn;
    l->lanes = gg_head_traits_of(s->kind)->layer == GG_LAYER_CELL ? s->n_heads : 1;
    const size_t slots = max_rows * l->lanes, positions = max_rows + l->lanes - 1;
    l->keys = s->window < positions ? s->window : positions;
    const struct {
        float **array;
        size_t n;
    } arrays[] = {{&l->output, slots * d},     {&l->n_h, slots * d},
                  {&l->n_y, slots * d},        {&l->scale_h, slots},
                  {&l->scale_y, slots},        {&l->q, slots * d},
                  {&l->k, slots * d},          {&l->v, slots * d},
                  {&l->dk, slots * d},         {&l->dv, slots * d},
                  {&l->attended, slots * d},   {&l->weights, s->n_attention * slots * l->keys},
                  {&l->gate, slots * n_ffn},   {&l->up, slots * n_ffn},
                  {&l->active, slots * n_ffn}, {&l->back, max_rows * (d > n_ffn ? d : n_ffn)}};
    bool whole = make_rotations(l, s, positions);
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        *arrays[i].array = gg_alloc(arrays[i].n, sizeof(float));
        whole = whole && *arrays[i].array;
    }
    if (whole)
        return l;
    gg_layer_free(l);
    return NULL;
}

void gg_layer_free(gg_layer_work *l)
{
    if (!l)
        return;
    float *const arrays[] = {l->cosine, l->sine,    l->back_sine, l->output,  l->n_h,
                             l->n_y,    l->scale_h, l->scale_y,   l->q,       l->k,
                             l->v,      l->dk,      l->dv,        l->weights, l->attended,
                             l->gate,   l->up,      l->active,    l->back};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        gg_free(arrays[i]);
    gg_free(l);
}

float *gg_layer_output(const gg_layer_work *l)
{
    return l->output;
}

// What the parts of a pass over one lane work on.
typedef struct lane_pass {
    const gg_head_pass *p;
    gg_layer_work *l;
    size_t lane;
    gg_operand h;           // forward
    gg_rows d;              // backward
    float *n_rows, *scales; // of the norm whose turn it is
} lane_pass;

static gg_rows rows_of(const lane_pass *t, float *x, size_t columns)
{
    return (gg_rows){x + t->lane * columns, t->p->batch->rows, t->l->lanes * columns};
}

static gg_operand operand_of(const lane_pass *t, float *x, size_t columns)
{
    return gg_operand_of(rows_of(t, x, columns), columns);
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

// n = x / rms(x) of the output, which holds h or y.
static void norm_part(void *context, size_t thread, size_t n_threads)
{
    const lane_pass *t = context;
    const size_t d = t->p->m->shape.d_model;
    size_t begin, end;
    gg_team_share(t->p->batch->rows, 1, thread, n_threads, &begin, &end);
    for (size_t row = begin; row < end; row++) {
        const size_t slot = row * t->l->lanes + t->lane;
        const float *x = t->l->output + slot * d;
        const float scale = 1.0f / sqrtf(dot(x, x, d) / (float)d + GG_HEADS_ROOT_EPS);
        t->scales[slot] = scale;
        memset(t->n_rows + slot * d, 0, d * sizeof *x);
        add_scaled(t->n_rows + slot * d, x, d, scale);
    }
}

// d += what the gradient of n, in `back`, is to x: (dn - n mean(n dn)) / rms.
static void norm_back_part(void *context, size_t thread, size_t n_threads)
{
    const lane_pass *t = context;
    const size_t d = t->p->m->shape.d_model;
    size_t begin, end;
    gg_team_share(t->p->batch->rows, 1, thread, n_threads, &begin, &end);
    for (size_t row = begin; row < end; row++) {
        const size_t slot = row * t->l->lanes + t->lane;
        const float *n = t->n_rows + slot * d, *dn = t->l->back + row * d;
        const float scale = t->scales[slot], mean = dot(n, dn, d) / (float)d;
        add_scaled(t->d.data + row * t->d.ld, dn, d, scale);
        add_scaled(t->d.data + row * t->d.ld, n, d, -scale * mean);
    }
}

// Rotates one attention head of the lane's rows.
static void rotate(const lane_pass *t, float *x, size_t head, const float *sine)
{
    const gg_head_shape *s = &t->p->m->shape;
    const size_t head_dim = s->d_model / s->n_attention, pairs = head_dim / 2;
    const gg_rows rows = rows_of(t, x, s->d_model);
    for (size_t row = 0; row < rows.n; row++) {
        const size_t at = (row + t->lane) * pairs;
        t->p->m->kernels->rope(rows.data + row * rows.ld + head * head_dim, 1, head_dim,
                               t->l->cosine + at, sine + at);
    }
}

// One query of one attention head. Its keys are n_keys positions up to its own: those up to the
// row's are lane 0 of rows, later ones lanes of the row.
typedef struct query {
    size_t row, first, n_keys; // first: position of the first key
    size_t n, d, lanes;        // channels of the attention head, of all; lanes of a row
    size_t own, from;          // floats to its q and result; from lane 0's first to the head's
    float *weights;            // [n_keys]
    float scale;               // of scores
} query;

static query query_of(const lane_pass *t, size_t head, size_t row)
{
    const gg_head_shape *s = &t->p->m->shape;
    const uint16_t *reach = t->p->batch->reach;
    assert(!reach || reach[row] <= row);
    const size_t known = (reach ? reach[row] : 0) + t->lane + 1;
    const size_t n_keys = known < s->window ? known : s->window;
    const size_t n = s->d_model / s->n_attention, slot = row * t->l->lanes + t->lane;
    const size_t slots = t->p->m->max_rows * t->l->lanes;
    return (query){.row = row,
                   .first = row + t->lane + 1 - n_keys,
                   .n_keys = n_keys,
                   .n = n,
                   .d = s->d_model,
                   .lanes = t->l->lanes,
                   .own = slot * s->d_model + head * n,
                   .from = head * n,
                   .weights = t->l->weights + (head * slots + slot) * t->l->keys,
                   .scale = 1.0f / sqrtf((float)n)};
}

static size_t key_at(const query *q, size_t i)
{
    const size_t position = q->first + i;
    const size_t slot =
        position <= q->row ? position * q->lanes : q->row * q->lanes + position - q->row;
    return slot * q->d + q->from;
}

static void attend(const lane_pass *t, const query *q)
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
    const lane_pass *t = context;
    size_t head;
    (void)n_threads;
    while (gg_team_take(t->p->m->team, t->p->m->shape.n_attention, thread, &head)) {
        rotate(t, t->l->q, head, t->l->sine);
        rotate(t, t->l->k, head, t->l->sine);
        for (size_t row = 0; row < t->p->batch->rows; row++) {
            const query q = query_of(t, head, row);
            attend(t, &q);
        }
    }
}

// With da the gradient of the result a = sum of w_i v_i: d score_i = w_i (v_i . da - a . da).
static void attend_back(const lane_pass *t, const query *q, const float *da, float *dq)
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
    const lane_pass *t = context;
    gg_head_trainer *m = t->p->m;
    size_t head;
    (void)n_threads;
    while (gg_team_take(m->team, m->shape.n_attention, thread, &head)) {
        for (size_t row = 0; row < t->p->batch->rows; row++) {
            const query q = query_of(t, head, row);
            attend_back(t, &q, t->l->back + row * q.d + q.from, m->scratch + thread * 2 * m->wide);
        }
        rotate(t, t->l->q, head, t->l->back_sine);
        rotate(t, t->l->dk, head, t->l->back_sine);
    }
}

static void activate_part(void *context, size_t thread, size_t n_threads)
{
    const lane_pass *t = context;
    const size_t n = t->p->m->shape.n_ffn;
    size_t begin, end;
    gg_team_share(t->p->batch->rows, 1, thread, n_threads, &begin, &end);
    for (size_t row = begin; row < end; row++) {
        const size_t at = (row * t->l->lanes + t->lane) * n;
        t->p->m->kernels->silu_mul(t->l->gate + at, t->l->up + at, n, t->l->active + at);
    }
}

// Gate and up become their gradients, from that of their product in `back`.
static void activate_back_part(void *context, size_t thread, size_t n_threads)
{
    const lane_pass *t = context;
    const size_t n = t->p->m->shape.n_ffn;
    float *restrict sigmoid = t->p->m->scratch + thread * 2 * t->p->m->wide;
    size_t begin, end;
    gg_team_share(t->p->batch->rows, 1, thread, n_threads, &begin, &end);
    for (size_t row = begin; row < end; row++) {
        const size_t at = (row * t->l->lanes + t->lane) * n;
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

static void norm(lane_pass *t, float *n, float *scales, gg_team_fn part)
{
    t->n_rows = n;
    t->scales = scales;
    gg_team_run(t->p->m->team, part, t);
}

// The residual stream begins as h.
static void copy_part(void *context, size_t thread, size_t n_threads)
{
    const lane_pass *t = context;
    const gg_rows to = rows_of(t, t->l->output, t->p->m->shape.d_model);
    size_t begin, end;
    gg_team_share(to.n, 1, thread, n_threads, &begin, &end);
    for (size_t row = begin; row < end; row++)
        memcpy(to.data + row * to.ld, t->h.data + row * t->h.ld, t->h.cols * sizeof(float));
}

// A product of one of the layer's matrices with the lane, [.., n_in] to [.., n_out].
typedef struct lane_product {
    gg_head_role role;
    float *from, *to;
} lane_product;

static gorgon_status apply(const lane_pass *t, const lane_product *list, size_t n, bool add,
                           gorgon_error *err)
{
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < n && status == GORGON_OK; i++) {
        const gg_weights w = gg_weights_of(t->p, list[i].role, 0, 0);
        status = gg_weights_apply(t->p, w, operand_of(t, list[i].from, w.n_in),
                                  rows_of(t, list[i].to, w.n_out), add, err);
    }
    return status;
}

// From dy to the gradient of the matrix and, in `back`, of its input.
static gorgon_status apply_back(const lane_pass *t, gg_head_role role, float *from, gg_rows dy,
                                bool add, gorgon_error *err)
{
    const bool more = t->lane + 1 < t->l->lanes; // lanes whose gradient is there already
    const gg_weights w = gg_weights_of(t->p, role, 0, 0);
    const gg_rows back = {t->l->back, t->p->batch->rows, w.n_in};
    const gorgon_status status =
        gg_weights_gradient(t->p, w, dy, operand_of(t, from, w.n_in), more, err);
    return status == GORGON_OK ? gg_weights_back(t->p, w, dy, back, add, err) : status;
}

// The same of products of one input.
static gorgon_status apply_all_back(const lane_pass *t, const lane_product *list, size_t n,
                                    gorgon_error *err)
{
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < n && status == GORGON_OK; i++) {
        const size_t n_out = gg_weights_of(t->p, list[i].role, 0, 0).n_out;
        const gg_rows dy = rows_of(t, list[i].to, n_out);
        status = apply_back(t, list[i].role, list[i].from, dy, i > 0, err);
    }
    return status;
}

// y = h + Wo a, both in the output.
static gorgon_status attention(lane_pass *t, gorgon_error *err)
{
    gg_layer_work *l = t->l;
    const lane_product in[] = {{GG_PART_ATTN_Q, l->n_h, l->q},
                               {GG_PART_ATTN_K, l->n_h, l->k},
                               {GG_PART_ATTN_V, l->n_h, l->v}};
    const lane_product out = {GG_PART_ATTN_OUTPUT, l->attended, l->output};
    norm(t, l->n_h, l->scale_h, norm_part);
    const gorgon_status status = apply(t, in, 3, false, err);
    if (status != GORGON_OK)
        return status;
    gg_team_run(t->p->m->team, attend_part, t);
    return apply(t, &out, 1, true, err);
}

static gorgon_status attention_back(lane_pass *t, gorgon_error *err)
{
    gg_layer_work *l = t->l;
    const lane_product in[] = {{GG_PART_ATTN_Q, l->n_h, l->q},
                               {GG_PART_ATTN_K, l->n_h, l->dk},
                               {GG_PART_ATTN_V, l->n_h, l->dv}};
    gorgon_status status = apply_back(t, GG_PART_ATTN_OUTPUT, l->attended, t->d, false, err);
    if (status != GORGON_OK)
        return status;
    gg_team_run(t->p->m->team, attend_back_part, t);
    status = apply_all_back(t, in, 3, err);
    if (status == GORGON_OK)
        norm(t, l->n_h, l->scale_h, norm_back_part);
    return status;
}

static gorgon_status feed_forward(lane_pass *t, gorgon_error *err)
{
    gg_layer_work *l = t->l;
    const lane_product in[] = {{GG_PART_FFN_GATE, l->n_y, l->gate},
                               {GG_PART_FFN_UP, l->n_y, l->up}};
    const lane_product out = {GG_PART_FFN_DOWN, l->active, l->output};
    norm(t, l->n_y, l->scale_y, norm_part);
    const gorgon_status status = apply(t, in, 2, false, err);
    if (status != GORGON_OK)
        return status;
    gg_team_run(t->p->m->team, activate_part, t);
    return apply(t, &out, 1, true, err);
}

static gorgon_status feed_forward_back(lane_pass *t, gorgon_error *err)
{
    gg_layer_work *l = t->l;
    const lane_product in[] = {{GG_PART_FFN_GATE, l->n_y, l->gate},
                               {GG_PART_FFN_UP, l->n_y, l->up}};
    gorgon_status status = apply_back(t, GG_PART_FFN_DOWN, l->active, t->d, false, err);
    if (status != GORGON_OK)
        return status;
    gg_team_run(t->p->m->team, activate_back_part, t);
    status = apply_all_back(t, in, 2, err);
    if (status == GORGON_OK)
        norm(t, l->n_y, l->scale_y, norm_back_part);
    return status;
}

gorgon_status gg_layer_forward(const gg_head_pass *p, size_t lane, gg_operand h, gorgon_error *err)
{
    lane_pass t = {.p = p, .l = p->m->layer, .lane = lane, .h = h};
    gg_team_run(p->m->team, copy_part, &t);
    const gorgon_status status = attention(&t, err);
    return status == GORGON_OK ? feed_forward(&t, err) : status;
}

gorgon_status gg_layer_backward(const gg_head_pass *p, size_t lane, gg_rows d, gorgon_error *err)
{
    gg_layer_work *l = p->m->layer;
    lane_pass t = {.p = p, .l = l, .lane = lane, .d = d};
    if (lane + 1 == l->lanes) {
        const size_t n = p->batch->rows * l->lanes * p->m->shape.d_model;
        memset(l->dk, 0, n * sizeof *l->dk);
        memset(l->dv, 0, n * sizeof *l->dv);
    }
    const gorgon_status status = feed_forward_back(&t, err);
    return status == GORGON_OK ? attention_back(&t, err) : status;
}

// The decoder layer of hydra++ and eagle heads at the rows of a batch, lane by lane, with its
// gradients; of context rows only keys and values. Each product runs over all rows of a lane.
#include "head_layer.h"

#include <assert.h>
#include <string.h>

#include "core/alloc.h"
#include "core/math.h"

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
    l->row_slots = max_rows * l->lanes;
    const size_t context = gg_head_most_context(s, max_rows);
    const size_t rows = l->row_slots, slots = rows + context, wide = d > n_ffn ? d : n_ffn;
    const struct {
        float **array;
        size_t n;
    } arrays[] = {{&l->output, slots * d},
                  {&l->n_h, slots * d},
                  {&l->k, slots * d},
                  {&l->v, slots * d},
                  {&l->dk, slots * d},
                  {&l->dv, slots * d},
                  {&l->scale_h, slots},
                  {&l->scale_y, rows},
                  {&l->n_y, rows * d},
                  {&l->q, rows * d},
                  {&l->attended, rows * d},
                  {&l->gate, rows * n_ffn},
                  {&l->up, rows * n_ffn},
                  {&l->active, rows * n_ffn},
                  {&l->weights, s->n_attention * rows * s->window},
                  {&l->back, (max_rows > context ? max_rows : context) * wide}};
    l->positions = gg_alloc(context, sizeof *l->positions);
    bool whole = l->positions && make_rotations(l, s, s->window + max_rows + l->lanes - 1);
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
    gg_free(l->positions);
    gg_free(l);
}

float *gg_layer_output(const gg_layer_work *l)
{
    return l->output;
}

static gg_layer_pass rows_pass(const gg_head_pass *p, size_t lane)
{
    gg_layer_work *l = p->m->layer;
    return (gg_layer_pass){.p = p,
                           .l = l,
                           .first = lane,
                           .step = l->lanes,
                           .n = p->batch->rows,
                           .lane = lane,
                           .more = lane + 1 < l->lanes};
}

static gg_layer_pass context_pass(const gg_head_pass *p)
{
    gg_layer_work *l = p->m->layer;
    return (gg_layer_pass){.p = p,
                           .l = l,
                           .first = l->row_slots,
                           .step = 1,
                           .n = p->batch->context_rows,
                           .positions = l->positions,
                           .more = true};
}

static gg_operand operand_of(const gg_layer_pass *t, float *x, size_t columns)
{
    return gg_operand_of(gg_layer_rows(t, x, columns), columns);
}

// A product of one of the layer's matrices with the lane, [.., n_in] to [.., n_out].
typedef struct lane_product {
    gg_head_role role;
    float *from, *to;
} lane_product;

static gorgon_status apply(const gg_layer_pass *t, const lane_product *list, size_t n, bool add,
                           gorgon_error *err)
{
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < n && status == GORGON_OK; i++) {
        const gg_weights w = gg_weights_of(t->p, list[i].role, 0, 0);
        status = gg_weights_apply(t->p, w, operand_of(t, list[i].from, w.n_in),
                                  gg_layer_rows(t, list[i].to, w.n_out), add, err);
    }
    return status;
}

// From dy to the gradient of the matrix and, in `back`, of its input.
static gorgon_status apply_back(const gg_layer_pass *t, gg_head_role role, float *from, gg_rows dy,
                                bool add, gorgon_error *err)
{
    const gg_weights w = gg_weights_of(t->p, role, 0, 0);
    const gg_rows back = {t->l->back, t->n, w.n_in};
    const gorgon_status status =
        gg_weights_gradient(t->p, w, dy, operand_of(t, from, w.n_in), t->more, err);
    return status == GORGON_OK ? gg_weights_back(t->p, w, dy, back, add, err) : status;
}

// The same of products of one input.
static gorgon_status apply_all_back(const gg_layer_pass *t, const lane_product *list, size_t n,
                                    gorgon_error *err)
{
    gorgon_status status = GORGON_OK;
    for (size_t i = 0; i < n && status == GORGON_OK; i++) {
        const size_t n_out = gg_weights_of(t->p, list[i].role, 0, 0).n_out;
        const gg_rows dy = gg_layer_rows(t, list[i].to, n_out);
        status = apply_back(t, list[i].role, list[i].from, dy, i > 0, err);
    }
    return status;
}

// y = h + Wo a, both in the output.
static gorgon_status attention(const gg_layer_pass *t, gorgon_error *err)
{
    gg_layer_work *l = t->l;
    const lane_product in[] = {{GG_PART_ATTN_Q, l->n_h, l->q},
                               {GG_PART_ATTN_K, l->n_h, l->k},
                               {GG_PART_ATTN_V, l->n_h, l->v}};
    const lane_product out = {GG_PART_ATTN_OUTPUT, l->attended, l->output};
    gg_layer_norm(t, l->n_h, l->scale_h);
    const gorgon_status status = apply(t, in, 3, false, err);
    if (status != GORGON_OK)
        return status;
    gg_layer_attend(t);
    return apply(t, &out, 1, true, err);
}

static gorgon_status attention_back(const gg_layer_pass *t, gorgon_error *err)
{
    gg_layer_work *l = t->l;
    const lane_product in[] = {{GG_PART_ATTN_Q, l->n_h, l->q},
                               {GG_PART_ATTN_K, l->n_h, l->dk},
                               {GG_PART_ATTN_V, l->n_h, l->dv}};
    gorgon_status status = apply_back(t, GG_PART_ATTN_OUTPUT, l->attended, t->d, false, err);
    if (status != GORGON_OK)
        return status;
    gg_layer_attend_back(t);
    status = apply_all_back(t, in, 3, err);
    if (status == GORGON_OK)
        gg_layer_norm_back(t, l->n_h, l->scale_h);
    return status;
}

static gorgon_status feed_forward(const gg_layer_pass *t, gorgon_error *err)
{
    gg_layer_work *l = t->l;
    const lane_product in[] = {{GG_PART_FFN_GATE, l->n_y, l->gate},
                               {GG_PART_FFN_UP, l->n_y, l->up}};
    const lane_product out = {GG_PART_FFN_DOWN, l->active, l->output};
    gg_layer_norm(t, l->n_y, l->scale_y);
    const gorgon_status status = apply(t, in, 2, false, err);
    if (status != GORGON_OK)
        return status;
    gg_layer_activate(t);
    return apply(t, &out, 1, true, err);
}

static gorgon_status feed_forward_back(const gg_layer_pass *t, gorgon_error *err)
{
    gg_layer_work *l = t->l;
    const lane_product in[] = {{GG_PART_FFN_GATE, l->n_y, l->gate},
                               {GG_PART_FFN_UP, l->n_y, l->up}};
    gorgon_status status = apply_back(t, GG_PART_FFN_DOWN, l->active, t->d, false, err);
    if (status != GORGON_OK)
        return status;
    gg_layer_activate_back(t);
    status = apply_all_back(t, in, 2, err);
    if (status == GORGON_OK)
        gg_layer_norm_back(t, l->n_y, l->scale_y);
    return status;
}

gorgon_status gg_layer_forward(const gg_head_pass *p, size_t lane, gg_operand h, gorgon_error *err)
{
    const gg_layer_pass t = rows_pass(p, lane);
    gg_layer_copy(&t, h);
    const gorgon_status status = attention(&t, err);
    return status == GORGON_OK ? feed_forward(&t, err) : status;
}

// Gradients of keys and values, to which every lane adds.
static void clear_gradients(const gg_head_pass *p, float *x)
{
    const gg_layer_pass context = context_pass(p);
    const size_t d = p->m->shape.d_model;
    memset(x, 0, p->batch->rows * p->m->layer->lanes * d * sizeof *x);
    memset(x + context.first * d, 0, context.n * d * sizeof *x);
}

gorgon_status gg_layer_backward(const gg_head_pass *p, size_t lane, gg_rows d, gorgon_error *err)
{
    gg_layer_pass t = rows_pass(p, lane);
    t.d = d;
    if (lane + 1 == t.l->lanes) {
        clear_gradients(p, t.l->dk);
        clear_gradients(p, t.l->dv);
    }
    const gorgon_status status = feed_forward_back(&t, err);
    return status == GORGON_OK ? attention_back(&t, err) : status;
}

gg_rows gg_layer_context(const gg_head_pass *p)
{
    const gg_layer_pass t = context_pass(p);
    return gg_layer_rows(&t, t.l->output, p->m->shape.d_model);
}

void gg_layer_context_begin(const gg_head_pass *p)
{
    const gg_layer_pass t = context_pass(p);
    gg_layer_copy(&t, gg_context_hidden(p));
}

// Context rows end where the first row of their piece stands.
static void place_context(const gg_head_pass *p)
{
    const size_t window = p->m->shape.window;
    for (size_t row = 0; p->batch->past && row < p->batch->rows; row++) {
        const gg_head_past past = p->batch->past[row];
        assert(past.rows <= row && past.context <= window && past.context <= past.end);
        for (uint32_t i = 1; past.rows == 0 && i <= past.context; i++)
            p->m->layer->positions[past.end - i] = (uint32_t)(window + row - i);
    }
}

gorgon_status gg_layer_context_forward(const gg_head_pass *p, gorgon_error *err)
{
    gg_layer_work *l = p->m->layer;
    const lane_product in[] = {{GG_PART_ATTN_K, l->n_h, l->k}, {GG_PART_ATTN_V, l->n_h, l->v}};
    const gg_layer_pass t = context_pass(p);
    place_context(p);
    gg_layer_norm(&t, l->n_h, l->scale_h);
    const gorgon_status status = apply(&t, in, 2, false, err);
    if (status == GORGON_OK)
        gg_layer_rotate(&t, l->k, l->sine);
    return status;
}

gorgon_status gg_layer_context_backward(const gg_head_pass *p, gorgon_error *err)
{
    gg_layer_work *l = p->m->layer;
    const lane_product in[] = {{GG_PART_ATTN_K, l->n_h, l->dk}, {GG_PART_ATTN_V, l->n_h, l->dv}};
    gg_layer_pass t = context_pass(p);
    t.d = gg_layer_context(p);
    gg_layer_rotate(&t, l->dk, l->back_sine);
    const gorgon_status status = apply_all_back(&t, in, 2, err);
    memset(t.d.data, 0, t.n * t.d.ld * sizeof *t.d.data);
    if (status == GORGON_OK)
        gg_layer_norm_back(&t, l->n_h, l->scale_h);
    return status;
}

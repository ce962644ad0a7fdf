// A small batch for every kind of heads, and its loss in double precision.
#ifndef RECIPES_REFERENCE_H
#define RECIPES_REFERENCE_H

#include <criterion/criterion.h>

#include "core/sampling.h"
#include "heads_reference.h"
#include "trainers/head_trainer.h"

enum {
    D = 32,
    OUT = 100,
    ROWS = 7,
    HEADS = 3,
    RANK = 5,
    CONTEXT = 4,
    HEAD_DIM = 16,
    FFN = 24,
    WINDOW = 4
};

typedef struct problem {
    gg_head_shape shape;
    gg_head_layout layout;
    size_t width; // of an input row
    float *parameters, *gradient, *input, *context, *output;
    gg_head_past past[ROWS];
    gg_head_target *targets;
    double loss[ROWS * HEADS];
    uint32_t rank[ROWS * HEADS];
} problem;

static const gg_kernels *kernels(void)
{
    return gg_kernels_get(gg_cpu_level());
}

static float draw(uint64_t stream, uint64_t i, float scale)
{
    return scale * (float)(2.0 * gg_random_uniform(7, stream, i, 0) - 1.0);
}

static void fill(float *x, size_t n, uint64_t stream, float scale)
{
    for (size_t i = 0; i < n; i++)
        x[i] = draw(stream, i, scale);
}

// Soft targets of 1 to 8 ids, hard ones of a single id; one pair is skipped.
static void make_targets(problem *p, bool hard)
{
    for (size_t i = 0; i < ROWS * HEADS; i++) {
        gg_head_target *t = &p->targets[i];
        t->n = i == 5 ? 0 : hard ? 1 : (uint32_t)(1 + i % GG_HEAD_TARGETS);
        float sum = 0.0f;
        for (uint32_t j = 0; j < t->n; j++) {
            t->ids[j] = (uint32_t)((i * 31 + j * 13) % OUT);
            t->p[j] = 1.1f + draw(9, i * 8 + j, 1.0f);
            sum += t->p[j];
        }
        for (uint32_t j = 0; j < t->n; j++)
            t->p[j] /= sum;
        t->weight = 0.1f + 0.05f * (float)(i % HEADS);
        t->truth = i % 4 == 3 ? GG_HEAD_ABSENT : (int32_t)((i * 17) % OUT);
    }
}

// Two texts, cut in the middle: a context row and rows 0 to 3, then 3 and rows 4 to 6.
static void set_window(problem *p, size_t window)
{
    const uint32_t most = window < 3 ? (uint32_t)window : 3;
    p->shape.window = window;
    for (uint32_t row = 0; row < ROWS; row++)
        p->past[row] = row < 4 ? (gg_head_past){row, 1, 1} : (gg_head_past){row - 4, most, CONTEXT};
}

static gg_head_shape problem_shape(gg_head_kind kind, size_t n_blocks, bool root)
{
    const bool layer = gg_head_traits_of(kind)->layer != GG_LAYER_NONE;
    return (gg_head_shape){.kind = kind,
                           .n_heads = HEADS,
                           .n_blocks = n_blocks,
                           .d_model = D,
                           .n_draft = OUT,
                           .rank = gg_head_traits_of(kind)->has_rank ? RANK : 0,
                           .n_attention = layer ? D / HEAD_DIM : 0,
                           .n_ffn = layer ? FFN : 0,
                           .window = layer ? WINDOW : 0,
                           .root_embedding = root};
}

static problem make_problem_of(gg_head_shape shape, bool hard)
{
    problem p = {.shape = shape};
    set_window(&p, shape.window);
    cr_assert_null(gg_head_shape_fault(&p.shape));
    gg_head_layout_of(&p.shape, &p.layout);
    p.width = gg_head_input(&p.shape);
    p.parameters = gg_alloc(p.layout.n, sizeof(float));
    p.gradient = gg_alloc(p.layout.n, sizeof(float));
    p.input = gg_alloc(ROWS * p.width, sizeof(float));
    p.context = gg_alloc(CONTEXT * 2 * D, sizeof(float));
    p.output = gg_alloc((size_t)OUT * D, sizeof(float));
    p.targets = gg_alloc((size_t)ROWS * HEADS, sizeof *p.targets);
    fill(p.parameters, p.layout.n, 1, 0.3f);
    fill(p.gradient, p.layout.n, 4, 9.0f); // overwritten
    fill(p.input, ROWS * p.width, 2, 1.5f);
    fill(p.context, (size_t)CONTEXT * 2 * D, 5, 1.5f);
    fill(p.output, (size_t)OUT * D, 3, 0.4f);
    make_targets(&p, hard);
    return p;
}

static problem make_problem(gg_head_kind kind, size_t n_blocks, bool root, bool hard)
{
    return make_problem_of(problem_shape(kind, n_blocks, root), hard);
}

static void free_problem(problem *p)
{
    gg_free(p->parameters);
    gg_free(p->gradient);
    gg_free(p->input);
    gg_free(p->context);
    gg_free(p->output);
    gg_free(p->targets);
}

// Hidden state (0) or embedding (from 1 on) of an input row.
static void reference_input(const problem *p, size_t row, size_t index, double *x)
{
    for (size_t i = 0; i < D; i++)
        x[i] = (double)p->input[row * p->width + index * D + i];
}

// Likewise of the i-th of the positions before a row, of which the function returns how many.
static size_t reference_past(const problem *p, size_t row, size_t i, size_t index, double *x)
{
    const gg_head_past past = p->past[row];
    const size_t width = gg_head_context(&p->shape);
    if (i >= past.context && i < past.context + past.rows)
        reference_input(p, row - past.rows + i - past.context, index, x);
    for (size_t j = 0; i < past.context && j < D; j++)
        x[j] = (double)p->context[(past.end - past.context + i) * width + index * D + j];
    return past.context + past.rows;
}

static reference_heads reference_of(const problem *p, const double *w)
{
    return (reference_heads){&p->shape, p->layout.parts, p->layout.n_parts, w, p->layout.at};
}

// Output of the last block for one pair.
static void reference_hidden(const problem *p, const double *w, size_t row, size_t head, double *z)
{
    const reference_heads r = reference_of(p, w);
    double h[ROWS + CONTEXT][D], after[ROWS + CONTEXT][D], e[HEADS][D];
    size_t n = 0;
    for (; n < reference_past(p, row, n, 0, h[n]); n++) {
        if (gg_head_traits_of(p->shape.kind)->layer == GG_LAYER_CELL)
            reference_past(p, row, n, 1, after[n]);
    }
    reference_input(p, row, 0, h[n]);
    for (size_t i = 0; (2 + i) * D <= p->width; i++)
        reference_input(p, row, 1 + i, e[i]);
    const reference_rows rows = {n + 1, h[0], after[0]};
    reference_state(&r, &rows, e[0], head + 1, z);
}

static void reference_logits(const problem *p, const double *w, size_t pair, double logits[OUT])
{
    const reference_heads r = reference_of(p, w);
    double z[D];
    reference_hidden(p, w, pair / HEADS, pair % HEADS, z);
    memset(logits, 0, OUT * sizeof *logits);
    if (p->shape.own_output) {
        reference_product(reference_part(&r, GG_PART_OUTPUT, pair % HEADS, 0), OUT, D, z, logits);
        return;
    }
    for (size_t o = 0; o < OUT; o++) {
        for (size_t i = 0; i < D; i++)
            logits[o] += z[i] * (double)p->output[o * D + i];
    }
}

static double reference_pair(const problem *p, const double *w, size_t pair)
{
    const gg_head_target *t = &p->targets[pair];
    double logits[OUT], sum = 0.0, loss = 0.0;
    if (t->n == 0)
        return 0.0;
    reference_logits(p, w, pair, logits);
    for (size_t o = 0; o < OUT; o++)
        sum += exp(logits[o]);
    for (uint32_t j = 0; j < t->n; j++)
        loss += (double)t->p[j] * (log(sum) - logits[t->ids[j]]);
    return loss;
}

static double reference_loss(const problem *p, const double *w)
{
    double total = 0.0;
    for (size_t pair = 0; pair < ROWS * HEADS; pair++)
        total += (double)p->targets[pair].weight * reference_pair(p, w, pair);
    return total;
}

#endif

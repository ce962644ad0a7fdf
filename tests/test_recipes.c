#define _XOPEN_SOURCE 700 // mkstemp
// Training of every kind of heads: gradients against central differences of a reference in double
// precision that follows heads/head_set.h word by word, ranks, independence of the number of
// threads, and that served heads compute what the trainer does.
#include <math.h>

#include "core/engine.h"
#include "gorgon/trainers.h"
#include "heads_fixture.h"
#include "recipes_reference.h"
#include "trainers/adamw.h"

static gg_head_trainer *make_trainer(gg_team *team, const problem *p)
{
    gg_head_trainer *trainer;
    gorgon_error err = {0};
    cr_assert_eq(
        gg_head_trainer_create(team, kernels(), &p->shape, p->output, OUT, ROWS, &trainer, &err),
        GORGON_OK, "%s", err.message);
    return trainer;
}

static void run(problem *p, size_t threads, bool gradient)
{
    gg_team *team;
    gorgon_error err = {0};
    cr_assert_eq(gg_team_create(threads, &team, &err), GORGON_OK, "%s", err.message);
    gg_head_trainer *trainer = make_trainer(team, p);
    gg_head_batch batch = {.rows = ROWS,
                           .input = p->input,
                           .targets = p->targets,
                           .context_rows = gg_head_context(&p->shape) > 0 ? CONTEXT : 0,
                           .context = p->context,
                           .past = p->past,
                           .gradient = gradient ? p->gradient : NULL,
                           .loss = p->loss,
                           .rank = p->rank};
    cr_assert_eq(gg_head_trainer_run(trainer, p->parameters, &batch, &err), GORGON_OK, "%s",
                 err.message);
    gg_head_trainer_free(trainer);
    gg_team_free(team);
}

static double *copy_parameters(const problem *p)
{
    double *w = gg_alloc(p->layout.n, sizeof *w);
    for (size_t i = 0; i < p->layout.n; i++)
        w[i] = (double)p->parameters[i];
    return w;
}

static void check_gradient(const problem *p, double *w, size_t at, const gg_head_part *part)
{
    const double h = 1e-5, before = w[at];
    w[at] = before + h;
    double above = reference_loss(p, w);
    w[at] = before - h;
    double slope = (above - reference_loss(p, w)) / (2.0 * h);
    w[at] = before;
    double got = (double)p->gradient[at];
    cr_assert(fabs(got - slope) <= 2e-6 + 2e-4 * fabs(slope),
              "%s, role %d of head %zu, block %zu: gradient %.9g, central difference %.9g",
              gg_head_traits_of(p->shape.kind)->name, (int)part->role, part->head, part->block, got,
              slope);
}

// Some places of every matrix and vector.
static void check_problem(problem *p)
{
    double *w = copy_parameters(p);
    run(p, 1, true);
    for (size_t pair = 0; pair < ROWS * HEADS; pair++)
        cr_assert(fabs(p->loss[pair] - reference_pair(p, w, pair)) < 1e-5);
    for (size_t i = 0; i < p->layout.n_parts; i++) {
        const gg_head_part *part = &p->layout.parts[i];
        const size_t size = part->n_out * (part->n_in ? part->n_in : 1);
        for (size_t j = 0; j < 6; j++)
            check_gradient(p, w, p->layout.at[i] + (37 * i + 1009 * j) % size, part);
    }
    gg_free(w);
    free_problem(p);
}

static void check_gradients(gg_head_kind kind, size_t n_blocks, bool root, bool hard)
{
    problem p = make_problem(kind, n_blocks, root, hard);
    check_problem(&p);
}

static void check_own_outputs(gg_head_kind kind, size_t n_blocks)
{
    gg_head_shape shape = problem_shape(kind, n_blocks, true);
    shape.own_output = true;
    problem p = make_problem_of(shape, false);
    check_problem(&p);
}

Test(recipes, gradient_medusa)
{
    check_gradients(GG_HEADS_MEDUSA, 1, false, false);
    check_gradients(GG_HEADS_MEDUSA, 1, true, true);
    check_gradients(GG_HEADS_MEDUSA, 2, false, true);
    check_gradients(GG_HEADS_MEDUSA, 3, true, false);
    check_own_outputs(GG_HEADS_MEDUSA, 2);
}

Test(recipes, gradient_linear)
{
    check_gradients(GG_HEADS_LINEAR, 1, true, false);
    check_gradients(GG_HEADS_LINEAR, 1, false, true);
    check_own_outputs(GG_HEADS_LINEAR, 1);
}

Test(recipes, gradient_markov)
{
    check_gradients(GG_HEADS_MARKOV, 1, true, false);
    check_gradients(GG_HEADS_MARKOV, 3, true, true);
}

Test(recipes, gradient_hydra)
{
    check_gradients(GG_HEADS_HYDRA, 1, true, false);
    check_gradients(GG_HEADS_HYDRA, 3, true, true);
}

Test(recipes, gradient_recurrent)
{
    check_gradients(GG_HEADS_RECURRENT, 1, true, false);
    check_gradients(GG_HEADS_RECURRENT, 2, true, true);
    check_gradients(GG_HEADS_RECURRENT, 3, true, false);
}

// A window that holds all, one that a text outgrows, one that a draft outgrows, none to speak of.
static void check_windows(gg_head_kind kind, size_t n_blocks)
{
    static const size_t windows[] = {ROWS + CONTEXT + HEADS, WINDOW, 2, 1};
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        problem p = make_problem(kind, n_blocks, true, i % 2 == 0);
        set_window(&p, windows[i]);
        check_problem(&p);
    }
}

Test(recipes, gradient_hydra_prefix)
{
    check_windows(GG_HEADS_HYDRA_PREFIX, 1);
    check_gradients(GG_HEADS_HYDRA_PREFIX, 2, true, false);
}

Test(recipes, gradient_eagle)
{
    check_windows(GG_HEADS_EAGLE, 1);
}

Test(recipes, ranks)
{
    problem p = make_problem(GG_HEADS_MEDUSA, 1, true, false);
    for (size_t i = 0; i < D; i++) // equal logits: the lower id ranks first
        p.output[3 * D + i] = p.output[17 * D + i];
    p.targets[0].truth = 17;
    p.targets[1].truth = 3;
    run(&p, 1, false);
    double *w = copy_parameters(&p);
    for (size_t pair = 0; pair < ROWS * HEADS; pair++) {
        const int32_t truth = p.targets[pair].truth;
        double logits[OUT];
        uint32_t rank = 0;
        reference_logits(&p, w, pair, logits);
        for (int32_t o = 0; o < OUT && truth != GG_HEAD_ABSENT; o++)
            rank += logits[o] > logits[truth] || (logits[o] >= logits[truth] && o < truth);
        if (truth == GG_HEAD_ABSENT)
            rank = UINT32_MAX;
        cr_assert_eq(p.rank[pair], rank, "pair %zu: rank %u, expected %u", pair, p.rank[pair],
                     rank);
    }
    gg_free(w);
    free_problem(&p);
}

Test(recipes, threads_do_not_matter)
{
    for (size_t i = 0; i < GG_HEAD_KINDS; i++) {
        const gg_head_kind kind = (gg_head_kind)i;
        const size_t blocks = gg_head_traits_of(kind)->activated ? 2 : 1;
        problem one = make_problem(kind, blocks, true, false);
        problem three = make_problem(kind, blocks, true, false);
        run(&one, 1, true);
        run(&three, 3, true);
        cr_assert_eq(memcmp(one.gradient, three.gradient, one.layout.n * sizeof(float)), 0);
        cr_assert_eq(memcmp(one.loss, three.loss, sizeof one.loss), 0);
        free_problem(&one);
        free_problem(&three);
    }
}

// Every kind has a recipe, under the kind's name.
Test(recipes, names)
{
    const char *const *names = gorgon_train_architectures();
    for (size_t kind = 0; kind < GG_HEAD_KINDS; kind++)
        cr_assert_str_eq(names[kind], gg_head_traits_of((gg_head_kind)kind)->name);
    cr_assert_null(names[GG_HEAD_KINDS]);
}

// Parts fill the vector without gap or overlap, matrices first, neighbours head by head.
Test(recipes, layout)
{
    for (size_t kind = 0; kind < GG_HEAD_KINDS; kind++) {
        const bool activated = gg_head_traits_of((gg_head_kind)kind)->activated;
        problem p = make_problem((gg_head_kind)kind, activated ? 2 : 1, true, false);
        const gg_head_layout *l = &p.layout;
        uint8_t *seen = gg_alloc(l->n, 1);
        for (size_t i = 0; i < l->n_parts; i++) {
            const gg_head_part *part = &l->parts[i];
            const size_t size = part->n_out * (part->n_in ? part->n_in : 1);
            cr_assert_eq(part->n_in > 0, l->at[i] < l->n_weights);
            for (size_t j = 0; j < size; j++)
                cr_assert_eq(seen[l->at[i] + j]++, 0);
            // The decoder layer belongs to head 0 alone.
            if (part->role < GG_PART_ATTN_Q && part->head + 1 < gg_head_cells(&p.shape))
                cr_assert_eq(l->at[gg_head_layout_find(l, part->role, part->head + 1, part->block)],
                             l->at[i] + size);
        }
        cr_assert_null(memchr(seen, 0, l->n));
        gg_free(seen);
        free_problem(&p);
    }
}

// From its beginning every recipe finds a truth that is a fixed function of the input.
Test(recipes, loss_falls)
{
    gg_team *team;
    cr_assert_eq(gg_team_create(1, &team, NULL), GORGON_OK);
    for (size_t kind = 0; kind < GG_HEAD_KINDS; kind++) {
        problem p = make_problem((gg_head_kind)kind, 1, true, true);
        gg_head_trainer *trainer = make_trainer(team, &p);
        gg_adamw_options o = {0.9, 0.999, 1e-8, 0.0, 1.0, p.layout.n_weights};
        float *first = gg_alloc(p.layout.n, 4), *second = gg_alloc(p.layout.n, 4);
        double *partial = gg_alloc(gg_adamw_partials(p.layout.n), sizeof(double));
        double start = 0.0, end = 0.0;
        memset(p.parameters, 0, p.layout.n * sizeof(float));
        gg_head_begin(&p.shape, p.output, 1, p.parameters);
        gg_adamw state = {p.layout.n, p.parameters, first, second, p.gradient, partial};
        gg_head_batch batch = {.rows = ROWS,
                               .input = p.input,
                               .targets = p.targets,
                               .context_rows = gg_head_context(&p.shape) > 0 ? CONTEXT : 0,
                               .context = p.context,
                               .past = p.past,
                               .gradient = p.gradient,
                               .loss = p.loss};
        for (uint64_t step = 1; step <= 200; step++) {
            cr_assert_eq(gg_head_trainer_run(trainer, p.parameters, &batch, NULL), GORGON_OK);
            end = 0.0;
            for (size_t i = 0; i < ROWS * HEADS; i++)
                end += p.loss[i];
            start = step == 1 ? end : start;
            gg_adamw_step(team, kernels(), &o, &state, step, 0.01);
        }
        cr_assert(end < 0.05 * start, "kind %zu: loss %g to %g", kind, start, end);
        gg_head_trainer_free(trainer);
        gg_free(first);
        gg_free(second);
        gg_free(partial);
        free_problem(&p);
    }
    gg_team_free(team);
}

// The next matrix begins at zero, so that no gradient comes through it yet.
static bool before_zeros(gg_head_role role)
{
    return role == GG_PART_DOWN || role == GG_PART_ATTN_Q || role == GG_PART_ATTN_K ||
           role == GG_PART_ATTN_V || role == GG_PART_FFN_GATE || role == GG_PART_FFN_UP;
}

// At its beginning a head is the base's own guess; what is random depends on the seed alone, and
// all that must move gets a gradient.
Test(recipes, beginning)
{
    for (size_t kind = 0; kind < GG_HEAD_KINDS; kind++) {
        problem p = make_problem((gg_head_kind)kind, 1, true, false);
        const size_t bytes = p.layout.n * sizeof(float);
        float *again = gg_alloc(p.layout.n, sizeof *again);
        memset(p.parameters, 0, bytes);
        gg_head_begin(&p.shape, p.output, 5, p.parameters);
        gg_head_begin(&p.shape, p.output, 5, again);
        cr_assert_eq(memcmp(p.parameters, again, bytes), 0);
        gg_head_begin(&p.shape, p.output, 6, again);
        cr_assert_eq(memcmp(p.parameters, again, bytes) != 0,
                     p.shape.rank > 0 || p.shape.window > 0);
        double *w = copy_parameters(&p), z[D];
        reference_hidden(&p, w, 1, 2, z);
        for (size_t i = 0; i < D; i++)
            cr_assert_float_eq(z[i], (double)p.input[p.width + i], 1e-12);
        run(&p, 1, true);
        for (size_t i = 0; i < p.layout.n_parts; i++) {
            const gg_head_part *part = &p.layout.parts[i];
            const size_t size = part->n_out * (part->n_in ? part->n_in : 1);
            double sum = 0.0;
            for (size_t j = 0; j < size; j++)
                sum += fabs((double)p.gradient[p.layout.at[i] + j]);
            cr_assert_eq(sum > 0.0, !before_zeros(part->role), "kind %zu, part %zu", kind, i);
        }
        gg_free(w);
        gg_free(again);
        free_problem(&p);
    }
}

// The served heads of one shape against the trainer, all logits of a position up to a constant: one
// row for each of them asks for the loss of that token alone.
typedef struct served {
    gorgon_engine *engine;
    const gorgon_model *model;
    size_t d;
    float *hidden, *output;
    float logits[HEADS * OUT];
    gorgon_token ids[OUT];
    gorgon_token path[1 + HEADS]; // the root, then the likeliest token of each depth
} served;

static void write_and_run(served *s, const problem *p)
{
    const float *data[GG_MAX_HEAD_PARTS];
    uint32_t ids[OUT];
    char path[] = "/tmp/gorgon-recipes-XXXXXX";
    gorgon_error err = {0};
    gorgon_heads *heads;
    cr_assert(close(mkstemp(path)) == 0);
    for (size_t i = 0; i < p->layout.n_parts; i++)
        data[i] = p->parameters + p->layout.at[i];
    for (uint32_t i = 0; i < OUT; i++)
        ids[i] = 3 + 5 * i;
    const gg_head_set_source set = {
        .shape = p->shape, .weight_type = GG_F32, .draft_ids = ids, .data = data};
    cr_assert_eq(gg_heads_write(path, s->model, &set, 1, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(gorgon_heads_open(path, &heads, &err), GORGON_OK, "%s", err.message);
    s->path[0] = 77;
    cr_assert_eq(
        gorgon_heads_logits(s->engine, heads, 0, s->hidden, s->path[0], s->logits, s->ids, &err),
        GORGON_OK, "%s", err.message);
    for (size_t k = 0; k < HEADS; k++) {
        size_t best = 0;
        for (size_t i = 1; i < OUT; i++)
            best = s->logits[k * OUT + i] > s->logits[k * OUT + best] ? i : best;
        s->path[1 + k] = s->ids[best];
    }
    gorgon_heads_free(heads);
    unlink(path);
}

// An input row as the trainer wants it, in double precision.
static void make_input(const served *s, size_t width, float *input)
{
    memcpy(input, s->hidden, s->d * sizeof *input);
    for (size_t t = 1; t * s->d < width; t++) {
        float *e = input + t * s->d;
        double sum = 0.0;
        gg_model_embed(s->model, s->path[t - 1], e);
        for (size_t i = 0; i < s->d; i++)
            sum += (double)e[i] * (double)e[i];
        const double rms = sqrt(sum / (double)s->d + (double)GG_HEADS_ROOT_EPS);
        for (size_t i = 0; i < s->d; i++)
            e[i] = (float)((double)e[i] / rms);
    }
}

static void check_served(served *s, gg_head_kind kind, size_t n_blocks)
{
    problem p = make_problem(kind, n_blocks, true, true);
    p.shape.d_model = s->d;
    gg_head_layout_of(&p.shape, &p.layout);
    gg_free(p.parameters);
    p.parameters = gg_alloc(p.layout.n, sizeof(float));
    fill(p.parameters, p.layout.n, 1, 0.1f);
    write_and_run(s, &p);
    const size_t width = gg_head_input(&p.shape);
    float *input = gg_alloc(OUT * width, sizeof *input);
    gg_head_target *targets = gg_alloc((size_t)OUT * HEADS, sizeof *targets);
    double *loss = gg_alloc((size_t)OUT * HEADS, sizeof *loss);
    for (size_t row = 0; row < OUT; row++) {
        make_input(s, width, input + row * width);
        for (size_t k = 0; k < HEADS; k++)
            targets[row * HEADS + k] = (gg_head_target){
                .n = 1, .ids = {(uint32_t)row}, .p = {1.0f}, .truth = (int32_t)row};
        gg_matrix_row(gg_model_output(s->model), (size_t)s->ids[row], s->output + row * s->d);
    }
    gg_head_trainer *trainer;
    gg_head_batch batch = {.rows = OUT, .input = input, .targets = targets, .loss = loss};
    cr_assert_eq(gg_head_trainer_create(gg_engine_team(s->engine), gg_engine_kernels(s->engine),
                                        &p.shape, s->output, OUT, OUT, &trainer, NULL),
                 GORGON_OK);
    cr_assert_eq(gg_head_trainer_run(trainer, p.parameters, &batch, NULL), GORGON_OK);
    for (size_t k = 0; k < HEADS; k++) {
        const float *logits = s->logits + k * OUT;
        double sum = 0.0;
        for (size_t i = 0; i < OUT; i++)
            sum += exp((double)logits[i]);
        for (size_t i = 0; i < OUT; i++) {
            const double expected = log(sum) - (double)logits[i];
            cr_assert(fabs(loss[i * HEADS + k] - expected) < 1e-4 * (1.0 + fabs(expected)),
                      "%s, head %zu, token %zu: %.7g trained, %.7g served",
                      gg_head_traits_of(kind)->name, k, i, loss[i * HEADS + k], expected);
        }
    }
    gg_head_trainer_free(trainer);
    gg_free(input);
    gg_free(targets);
    gg_free(loss);
    free_problem(&p);
}

Test(recipes, served_heads_compute_the_same)
{
    gorgon_model *model;
    gorgon_error err = {0};
    gorgon_engine_options options;
    served s = {0};
    cr_assert_eq(gorgon_model_open(TINY_MODEL, 1, &model, &err), GORGON_OK, "%s", err.message);
    gorgon_engine_options_init(&options);
    options.threads = 1;
    options.context = 64;
    options.activations = GORGON_ACTIVATIONS_F32;
    cr_assert_eq(gorgon_engine_create(model, &options, &s.engine, &err), GORGON_OK, "%s",
                 err.message);
    s.model = model;
    s.d = gg_model_geometry(model)->d_model;
    s.hidden = gg_alloc(s.d, sizeof *s.hidden);
    s.output = gg_alloc(OUT * s.d, sizeof *s.output);
    fill(s.hidden, s.d, 8, 1.5f);
    for (size_t kind = 0; kind < GG_HEAD_KINDS; kind++) {
        check_served(&s, (gg_head_kind)kind, 1);
        if (gg_head_traits_of((gg_head_kind)kind)->activated)
            check_served(&s, (gg_head_kind)kind, 3);
    }
    gg_free(s.hidden);
    gg_free(s.output);
    gorgon_engine_free(s.engine);
    gorgon_model_free(model);
}

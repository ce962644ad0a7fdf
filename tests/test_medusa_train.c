// Training of Medusa heads: every gradient against central differences of a reference in double
// precision, AdamW against its formula, and independence of the number of threads.
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "core/alloc.h"
#include "core/sampling.h"
#include "trainers/adamw.h"
#include "trainers/blis.h"
#include "trainers/medusa.h"

enum { D = 32, OUT = 100, ROWS = 7, HEADS = 3 };

typedef struct problem {
    gg_medusa_shape shape;
    gg_medusa_layout layout;
    float *parameters, *gradient, *input, *output;
    gg_medusa_target *targets;
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
        gg_medusa_target *t = &p->targets[i];
        t->n = i == 5 ? 0 : hard ? 1 : (uint32_t)(1 + i % GG_MEDUSA_TARGETS);
        float sum = 0.0f;
        for (uint32_t j = 0; j < t->n; j++) {
            t->ids[j] = (uint32_t)((i * 31 + j * 13) % OUT);
            t->p[j] = 1.1f + draw(9, i * 8 + j, 1.0f);
            sum += t->p[j];
        }
        for (uint32_t j = 0; j < t->n; j++)
            t->p[j] /= sum;
        t->weight = 0.1f + 0.05f * (float)(i % HEADS);
        t->truth = i % 4 == 3 ? GG_MEDUSA_ABSENT : (int32_t)((i * 17) % OUT);
    }
}

static problem make_shape(size_t n_blocks, bool root, bool recurrent, bool hard)
{
    problem p = {.shape = {HEADS, n_blocks, D, OUT, root, recurrent}};
    p.layout = gg_medusa_layout_of(&p.shape);
    p.parameters = gg_alloc(p.layout.n, sizeof(float));
    p.gradient = gg_alloc(p.layout.n, sizeof(float));
    p.input = gg_alloc(ROWS * p.layout.input, sizeof(float));
    p.output = gg_alloc((size_t)OUT * D, sizeof(float));
    p.targets = gg_alloc((size_t)ROWS * HEADS, sizeof *p.targets);
    fill(p.parameters, p.layout.n, 1, 0.3f);
    fill(p.input, ROWS * p.layout.input, 2, 1.5f);
    fill(p.output, (size_t)OUT * D, 3, 0.4f);
    make_targets(&p, hard);
    return p;
}

static problem make_problem(size_t n_blocks, bool root, bool hard)
{
    return make_shape(n_blocks, root, false, hard);
}

static void free_problem(problem *p)
{
    gg_free(p->parameters);
    gg_free(p->gradient);
    gg_free(p->input);
    gg_free(p->output);
    gg_free(p->targets);
}

static void run(problem *p, size_t threads, bool gradient)
{
    gg_team *team;
    gg_medusa_trainer *trainer;
    gorgon_error err = {0};
    cr_assert_eq(gg_team_create(threads, &team, &err), GORGON_OK, "%s", err.message);
    cr_assert_eq(
        gg_medusa_trainer_create(team, kernels(), &p->shape, p->output, ROWS, &trainer, &err),
        GORGON_OK, "%s", err.message);
    gg_medusa_batch batch = {ROWS,    p->input, p->targets, gradient ? p->gradient : NULL,
                             p->loss, p->rank};
    cr_assert_eq(gg_medusa_trainer_run(trainer, p->parameters, &batch, &err), GORGON_OK, "%s",
                 err.message);
    gg_medusa_trainer_free(trainer);
    gg_team_free(team);
}

static double sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

// z becomes z + silu(weight [z, e] + bias) of a block; e is NULL for blocks that see z alone.
static void reference_block(const double *weight, const double *bias, const float *e, double *z)
{
    size_t n = e ? 2 * D : D;
    double next[D];
    for (size_t o = 0; o < D; o++) {
        double a = bias[o];
        for (size_t i = 0; i < D; i++)
            a += weight[o * n + i] * z[i] + (e ? weight[o * n + D + i] * (double)e[i] : 0.0);
        next[o] = z[o] + a * sigmoid(a);
    }
    memcpy(z, next, sizeof next);
}

// Output of the last block for one pair, straight from the definition.
static void reference_hidden(const problem *p, const double *w, size_t row, size_t head, double *z)
{
    const gg_medusa_shape *s = &p->shape;
    const float *x = p->input + row * p->layout.input, *e = s->root_embedding ? x + D : NULL;
    size_t cell = s->recurrent ? 0 : head;
    for (size_t i = 0; i < D; i++)
        z[i] = (double)x[i];
    for (size_t depth = 0; s->recurrent && depth < head; depth++)
        reference_block(w + gg_medusa_weight_at(s, 0, 0), w + gg_medusa_bias_at(s, 0, 0),
                        x + (1 + depth) * D, z);
    if (s->recurrent)
        e = x + (1 + head) * D;
    for (size_t block = 0; block < s->n_blocks; block++)
        reference_block(w + gg_medusa_weight_at(s, block, cell),
                        w + gg_medusa_bias_at(s, block, cell), block == 0 ? e : NULL, z);
}

static double reference_pair(const problem *p, const double *w, size_t row, size_t head)
{
    const gg_medusa_target *t = &p->targets[row * HEADS + head];
    double z[D], logits[OUT], sum = 0.0, loss = 0.0;
    if (t->n == 0)
        return 0.0;
    reference_hidden(p, w, row, head, z);
    for (size_t o = 0; o < OUT; o++) {
        logits[o] = 0.0;
        for (size_t i = 0; i < D; i++)
            logits[o] += z[i] * (double)p->output[o * D + i];
        sum += exp(logits[o]);
    }
    for (uint32_t j = 0; j < t->n; j++)
        loss += (double)t->p[j] * (log(sum) - logits[t->ids[j]]);
    return loss;
}

static double reference_loss(const problem *p, const double *w)
{
    double total = 0.0;
    for (size_t row = 0; row < ROWS; row++) {
        for (size_t head = 0; head < HEADS; head++)
            total +=
                (double)p->targets[row * HEADS + head].weight * reference_pair(p, w, row, head);
    }
    return total;
}

static void check_gradient(const problem *p, size_t at, const char *kind)
{
    static double w[2 * HEADS * D * (3 * D + 2)];
    const double h = 1e-5;
    cr_assert_leq(p->layout.n, sizeof w / sizeof *w);
    for (size_t i = 0; i < p->layout.n; i++)
        w[i] = (double)p->parameters[i];
    double before = w[at];
    w[at] = before + h;
    double above = reference_loss(p, w);
    w[at] = before - h;
    double slope = (above - reference_loss(p, w)) / (2.0 * h);
    double got = (double)p->gradient[at];
    cr_assert(fabs(got - slope) <= 2e-6 + 2e-4 * fabs(slope),
              "%s at %zu: gradient %.9g, central difference %.9g", kind, at, got, slope);
}

static void check_gradients(problem p)
{
    bool root = p.shape.root_embedding;
    size_t n_blocks = p.shape.n_blocks;
    run(&p, 1, true);
    double w[2 * HEADS * D * (3 * D + 2)];
    for (size_t i = 0; i < p.layout.n; i++)
        w[i] = (double)p.parameters[i];
    for (size_t i = 0; i < ROWS * HEADS; i++)
        cr_assert(fabs(p.loss[i] - reference_pair(&p, w, i / HEADS, i % HEADS)) < 1e-5);
    for (size_t head = 0; head < gg_medusa_cells(&p.shape); head++) {
        for (size_t block = 0; block < n_blocks; block++) {
            size_t weight = gg_medusa_weight_at(&p.shape, block, head);
            size_t width = block == 0 ? p.layout.first : D;
            for (size_t i = 0; i < 5; i++) {
                check_gradient(&p, weight + (7 * i + head) * width + 3 * i, "W");
                if (block == 0 && root)
                    check_gradient(&p, weight + (6 * i + head) * width + D + 5 * i, "R");
                check_gradient(&p, gg_medusa_bias_at(&p.shape, block, head) + 6 * i + head, "b");
            }
        }
    }
    free_problem(&p);
}

static void check_problem(size_t n_blocks, bool root, bool hard)
{
    check_gradients(make_problem(n_blocks, root, hard));
}

Test(medusa_train, gradient_recurrent)
{
    for (size_t blocks = 1; blocks <= 3; blocks++)
        check_gradients(make_shape(blocks, true, true, false));
    check_gradients(make_shape(2, true, true, true));
}

Test(medusa_train, gradient_soft)
{
    check_problem(1, false, false);
}

Test(medusa_train, gradient_soft_root)
{
    check_problem(1, true, false);
}

Test(medusa_train, gradient_hard_root)
{
    check_problem(1, true, true);
}

Test(medusa_train, gradient_two_blocks)
{
    check_problem(2, false, false);
    check_problem(2, true, true);
}

Test(medusa_train, ranks)
{
    problem p = make_problem(1, true, false);
    for (size_t i = 0; i < D; i++) // equal logits: the lower id ranks first
        p.output[3 * D + i] = p.output[17 * D + i];
    p.targets[0].truth = 17;
    p.targets[1].truth = 3;
    run(&p, 1, false);
    double w[2 * HEADS * D * (3 * D + 2)];
    for (size_t i = 0; i < p.layout.n; i++)
        w[i] = (double)p.parameters[i];
    for (size_t pair = 0; pair < ROWS * HEADS; pair++) {
        int32_t truth = p.targets[pair].truth;
        if (truth == GG_MEDUSA_ABSENT) {
            cr_assert_eq(p.rank[pair], UINT32_MAX);
            continue;
        }
        double z[D], own = 0.0;
        uint32_t rank = 0;
        reference_hidden(&p, w, pair / HEADS, pair % HEADS, z);
        for (size_t i = 0; i < D; i++)
            own += z[i] * (double)p.output[(size_t)truth * D + i];
        for (int32_t o = 0; o < OUT; o++) {
            double logit = 0.0;
            for (size_t i = 0; i < D; i++)
                logit += z[i] * (double)p.output[(size_t)o * D + i];
            rank += logit > own || (logit == own && o < truth);
        }
        cr_assert_eq(p.rank[pair], rank, "pair %zu: rank %u, expected %u", pair, p.rank[pair],
                     rank);
    }
    free_problem(&p);
}

Test(medusa_train, threads_do_not_matter)
{
    problem one = make_problem(2, true, false), three = make_problem(2, true, false);
    run(&one, 1, true);
    run(&three, 3, true);
    cr_assert_eq(memcmp(one.gradient, three.gradient, one.layout.n * sizeof(float)), 0);
    cr_assert_eq(memcmp(one.loss, three.loss, sizeof one.loss), 0);
    free_problem(&one);
    free_problem(&three);
}

static void check_gemm(gg_team *team, size_t m, size_t n, size_t k, bool ta, bool tb, bool add)
{
    size_t lda = (ta ? m : k) + 3, ldb = (tb ? k : n) + 5, ldc = n + 2;
    float *a = gg_alloc((ta ? k : m) * lda, 4), *b = gg_alloc((tb ? n : k) * ldb, 4);
    float *c = gg_alloc(m * ldc, 4);
    fill(a, (ta ? k : m) * lda, 11, 1.0f);
    fill(b, (tb ? n : k) * ldb, 12, 1.0f);
    fill(c, m * ldc, 13, 1.0f);
    gg_operand x = {a, ta ? k : m, ta ? m : k, lda, ta}, y = {b, tb ? n : k, tb ? k : n, ldb, tb};
    gorgon_error err = {0};
    cr_assert_eq(gg_gemm(team, kernels(), &x, &y, add, c, m, n, ldc, &err), GORGON_OK, "%s",
                 err.message);
    for (size_t i = 0; i < m; i++) {
        for (size_t j = 0; j < ldc; j++) {
            double want = add || j >= n ? (double)draw(13, i * ldc + j, 1.0f) : 0.0;
            for (size_t l = 0; j < n && l < k; l++)
                want += (double)(ta ? a[l * lda + i] : a[i * lda + l]) *
                        (double)(tb ? b[j * ldb + l] : b[l * ldb + j]);
            cr_assert(fabs((double)c[i * ldc + j] - want) < 1e-4, "%zux%zux%zu %d%d%d: c[%zu][%zu]",
                      m, n, k, ta, tb, add, i, j);
        }
    }
    gg_free(a);
    gg_free(b);
    gg_free(c);
}

Test(medusa_train, dense_products)
{
    gg_team *team;
    cr_assert_eq(gg_team_create(2, &team, NULL), GORGON_OK);
    static const size_t sizes[][3] = {{1, 1, 1}, {5, 300, 17}, {301, 7, 40}, {97, 193, 33}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (unsigned flags = 0; flags < 8; flags++)
            check_gemm(team, sizes[i][0], sizes[i][1], sizes[i][2], flags & 1, flags & 2,
                       flags & 4);
    }
    gg_team_free(team);
}

// 1 thread and 4 threads, sizes on which the small-matrix path of BLIS would have differed.
Test(medusa_train, products_do_not_depend_on_threads)
{
    static const size_t sizes[][3] = {{40, 400, 576}, {300, 200, 1100}, {200, 577, 64}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        size_t m = sizes[s][0], n = sizes[s][1], k = sizes[s][2];
        float *a = gg_alloc(m * k, 4), *b = gg_alloc(n * k, 4), *c[2];
        fill(a, m * k, 11, 1.0f);
        fill(b, n * k, 12, 1.0f);
        for (size_t i = 0; i < 2; i++) {
            gg_team *team;
            c[i] = gg_alloc(m * n, 4);
            fill(c[i], m * n, 13, 1.0f);
            cr_assert_eq(gg_team_create(i == 0 ? 1 : 4, &team, NULL), GORGON_OK);
            gg_operand x = {a, m, k, k, false}, y = {b, n, k, k, true};
            cr_assert_eq(gg_gemm(team, kernels(), &x, &y, true, c[i], m, n, n, NULL), GORGON_OK);
            gg_team_free(team);
        }
        cr_assert_eq(memcmp(c[0], c[1], m * n * sizeof(float)), 0, "%zu x %zu x %zu", m, n, k);
        gg_free(a);
        gg_free(b);
        gg_free(c[0]);
        gg_free(c[1]);
    }
}

Test(medusa_train, bad_shapes_are_refused)
{
    gg_team *team;
    float a[12] = {0}, c[12] = {0};
    gorgon_error err = {0};
    cr_assert_eq(gg_team_create(1, &team, NULL), GORGON_OK);
    gg_operand x = {a, 3, 4, 4, false}, y = {a, 4, 3, 3, false}, narrow = {a, 4, 3, 2, false};
    cr_assert_eq(gg_gemm(team, kernels(), &x, &y, false, c, 3, 3, 3, NULL), GORGON_OK);
    cr_assert_eq(gg_gemm(team, kernels(), &x, &x, false, c, 3, 4, 4, &err), GORGON_ERROR_ARGUMENT);
    cr_assert(strstr(err.message, "operand b is [3, 4], expected [4, 4]"), "%s", err.message);
    cr_assert_eq(gg_gemm(team, kernels(), &x, &narrow, false, c, 3, 3, 3, NULL),
                 GORGON_ERROR_ARGUMENT);
    cr_assert_eq(gg_gemm(team, kernels(), &x, &y, false, c, 3, 3, 2, NULL), GORGON_ERROR_ARGUMENT);
    cr_assert_eq(gg_gemm(team, kernels(), &x, &y, false, c, 4, 3, 3, NULL), GORGON_ERROR_ARGUMENT);
    gg_team_free(team);
}

Test(medusa_train, adamw_follows_its_formula)
{
    enum { N = 5003 };
    static float p[N], m[N], v[N], g[N], first[N];
    static double partial[N], rp[N], rm[N], rv[N];
    gg_team *team;
    cr_assert_eq(gg_team_create(2, &team, NULL), GORGON_OK);
    gg_adamw_options o = {0.9, 0.999, 1e-8, 0.1, 1.0, 3000};
    gg_adamw state = {N, p, m, v, g, partial};
    cr_assert_leq(gg_adamw_partials(N), N);
    fill(p, N, 21, 1.0f);
    memcpy(first, p, sizeof p);
    for (size_t i = 0; i < N; i++)
        rp[i] = (double)p[i];
    for (uint64_t step = 1; step <= 3; step++) {
        double rate = 0.01 * (double)step, norm = 0.0;
        fill(g, N, 30 + step, step == 2 ? 1e-4f : 1.0f); // step 2 stays below the clip
        for (size_t i = 0; i < N; i++)
            norm += (double)g[i] * (double)g[i];
        norm = sqrt(norm);
        for (size_t i = 0; i < N; i++) {
            double gi = (double)g[i] * (norm > 1.0 ? 1.0 / norm : 1.0);
            rm[i] = 0.9 * rm[i] + 0.1 * gi;
            rv[i] = 0.999 * rv[i] + 0.001 * gi * gi;
            double mh = rm[i] / (1.0 - pow(0.9, (double)step));
            double vh = rv[i] / (1.0 - pow(0.999, (double)step));
            rp[i] -= rate * (mh / (sqrt(vh) + 1e-8) + (i < 3000 ? 0.1 * rp[i] : 0.0));
        }
        double got = gg_adamw_step(team, kernels(), &o, &state, step, rate);
        cr_assert(fabs(got - norm) < 1e-6 * norm);
        for (size_t i = 0; i < N; i++)
            cr_assert(fabs((double)p[i] - rp[i]) < 2e-6, "step %d, parameter %zu", (int)step, i);
    }
    memcpy(first, p, sizeof p);
    g[17] = NAN; // a broken gradient changes nothing
    cr_assert(isnan(gg_adamw_step(team, kernels(), &o, &state, 4, 0.1)));
    cr_assert_eq(memcmp(first, p, sizeof p), 0);
    gg_team_free(team);
}

Test(medusa_train, learning_rate_schedule)
{
    cr_assert_float_eq(gg_learning_rate(2.0, 4, 100, 1), 0.5, 1e-12);
    cr_assert_float_eq(gg_learning_rate(2.0, 4, 100, 4), 2.0, 1e-12);
    cr_assert_float_eq(gg_learning_rate(2.0, 4, 100, 52), 1.0, 1e-9);
    cr_assert_float_eq(gg_learning_rate(2.0, 4, 100, 100), 0.0, 1e-12);
    cr_assert_float_eq(gg_learning_rate(2.0, 0, 2, 1), 1.0, 1e-9);
}

// The truth is a fixed function of the input: training must find it.
Test(medusa_train, loss_falls)
{
    problem p = make_problem(1, true, true);
    gg_team *team;
    gg_medusa_trainer *trainer;
    gg_adamw_options o = {0.9, 0.999, 1e-8, 0.0, 1.0, p.layout.n_weights};
    float *first = gg_alloc(p.layout.n, 4), *second = gg_alloc(p.layout.n, 4);
    double *partial = gg_alloc(gg_adamw_partials(p.layout.n), sizeof(double));
    double start = 0.0, end = 0.0;
    memset(p.parameters, 0, p.layout.n * sizeof(float));
    cr_assert_eq(gg_team_create(1, &team, NULL), GORGON_OK);
    cr_assert_eq(gg_medusa_trainer_create(team, gg_kernels_get(gg_cpu_level()), &p.shape, p.output,
                                          ROWS, &trainer, NULL),
                 GORGON_OK);
    gg_adamw state = {p.layout.n, p.parameters, first, second, p.gradient, partial};
    gg_medusa_batch batch = {ROWS, p.input, p.targets, p.gradient, p.loss, NULL};
    for (uint64_t step = 1; step <= 200; step++) {
        cr_assert_eq(gg_medusa_trainer_run(trainer, p.parameters, &batch, NULL), GORGON_OK);
        end = 0.0;
        for (size_t i = 0; i < ROWS * HEADS; i++)
            end += p.loss[i];
        start = step == 1 ? end : start;
        gg_adamw_step(team, kernels(), &o, &state, step, 0.01);
    }
    cr_assert(end < 0.05 * start, "loss %g to %g", start, end);
    gg_medusa_trainer_free(trainer);
    gg_team_free(team);
    gg_free(first);
    gg_free(second);
    gg_free(partial);
    free_problem(&p);
}

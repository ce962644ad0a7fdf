// Dense products of training against plain loops and for every number of threads, AdamW and its
// schedule against their formulas.
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "core/alloc.h"
#include "core/sampling.h"
#include "trainers/adamw.h"
#include "trainers/blis.h"

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

Test(train_math, dense_products)
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
Test(train_math, products_do_not_depend_on_threads)
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

Test(train_math, bad_shapes_are_refused)
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

Test(train_math, adamw_follows_its_formula)
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

Test(train_math, learning_rate_schedule)
{
    cr_assert_float_eq(gg_learning_rate(2.0, 4, 100, 1), 0.5, 1e-12);
    cr_assert_float_eq(gg_learning_rate(2.0, 4, 100, 4), 2.0, 1e-12);
    cr_assert_float_eq(gg_learning_rate(2.0, 4, 100, 52), 1.0, 1e-9);
    cr_assert_float_eq(gg_learning_rate(2.0, 4, 100, 100), 0.0, 1e-12);
    cr_assert_float_eq(gg_learning_rate(2.0, 0, 2, 1), 1.0, 1e-9);
}

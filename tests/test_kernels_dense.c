// The trainers' float product of the levels that have one: its error bound, edges, strides and
// guard pages, extremes, and that an output depends on its row, its column and k alone.
#include "kernels_common.h"

typedef struct shape {
    size_t m, n, k;
} shape;

// Odd edges on every side; more than one round of k, more than one block of rows.
static const shape shapes[] = {{1, 1, 1},     {16, 16, 32},  {31, 33, 47},
                               {5, 300, 17},  {64, 40, 640}, {33, 7, 1300},
                               {600, 35, 30}, {97, 193, 65}, {32, 64, 700}};

typedef struct problem {
    shape s;
    bool a_turned, b_turned, accumulate;
    gg_dense p;
    guards g;
    float *before; // what c held
} problem;

static float *make(problem *p, size_t rows, size_t columns, size_t ld, uint64_t seed, bool at_end)
{
    // The last row ends where the matrix ends: nothing may be read beyond it.
    float *x = guard_alloc(&p->g, ((rows - 1) * ld + columns) * sizeof *x, at_end);
    for (size_t i = 0; i < (rows - 1) * ld + columns; i++)
        x[i] = random_float(&seed);
    return x;
}

static problem create(const gg_kernels *k, shape s, unsigned flags)
{
    problem p = {.s = s, .a_turned = flags & 1, .b_turned = flags & 2, .accumulate = flags & 4};
    const bool at_end = flags & 8;
    const size_t lda = (p.a_turned ? s.m : s.k) + 3, ldb = (p.b_turned ? s.k : s.n) + 5;
    p.p = (gg_dense){.m = s.m, .n = s.n, .k = s.k, .accumulate = p.accumulate};
    p.p.a = make(&p, p.a_turned ? s.k : s.m, p.a_turned ? s.m : s.k, lda, 1, at_end);
    p.p.b = make(&p, p.b_turned ? s.n : s.k, p.b_turned ? s.k : s.n, ldb, 2, at_end);
    p.p.a_row = p.a_turned ? 1 : lda;
    p.p.a_col = p.a_turned ? lda : 1;
    p.p.b_row = p.b_turned ? 1 : ldb;
    p.p.b_col = p.b_turned ? ldb : 1;
    p.p.c_row = s.n + 2;
    p.p.c = make(&p, s.m, s.n, p.p.c_row, 3, at_end);
    p.before = make(&p, s.m, s.n, p.p.c_row, 3, at_end);
    p.p.scratch = guard_alloc(&p.g, (k->dense_scratch() + 63) / 64 * 64, true);
    memset(p.p.scratch, 0xff, k->dense_scratch()); // NaN, which must not reach an output
    return p;
}

static void check_bound(const problem *p)
{
    const gg_dense *d = &p->p;
    for (size_t i = 0; i < d->m; i++) {
        for (size_t j = 0; j < d->c_row && i * d->c_row + j < (d->m - 1) * d->c_row + d->n; j++) {
            const double old = (double)p->before[i * d->c_row + j];
            double want = p->accumulate || j >= d->n ? old : 0.0, size = fabs(want);
            for (size_t l = 0; j < d->n && l < d->k; l++) {
                const double term = (double)d->a[i * d->a_row + l * d->a_col] *
                                    (double)d->b[l * d->b_row + j * d->b_col];
                want += term;
                size += fabs(term);
            }
            const double error = fabs((double)d->c[i * d->c_row + j] - want);
            cr_assert(error <= 0x1p-16 * size * (j < d->n), "%zux%zux%zu: c[%zu][%zu] off by %g",
                      d->m, d->n, d->k, i, j, error);
        }
    }
}

// Where no level has such a kernel there is nothing to test, and the report says so.
static void need_dense(void)
{
    for (size_t l = 0; test_level(l); l++) {
        if (test_level(l)->dense)
            return;
    }
    cr_skip("no level of this machine has a dense kernel");
}

Test(kernels_dense, error_is_bounded)
{
    need_dense();
    for (size_t l = 0; test_level(l); l++) {
        if (!test_level(l)->dense)
            continue;
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            for (unsigned flags = 0; flags < 16; flags++) {
                problem p = create(test_level(l), shapes[i], flags);
                test_level(l)->dense(&p.p);
                check_bound(&p);
                guard_free(&p.g);
            }
        }
    }
}

// Any block of the output computed alone has the same bits.
Test(kernels_dense, parts_equal_the_whole)
{
    need_dense();
    for (size_t l = 0; test_level(l); l++) {
        if (!test_level(l)->dense)
            continue;
        for (unsigned flags = 0; flags < 8; flags++) {
            problem whole = create(test_level(l), (shape){97, 193, 1300}, flags);
            problem part = create(test_level(l), (shape){97, 193, 1300}, flags);
            test_level(l)->dense(&whole.p);
            gg_dense p = part.p;
            const size_t row = 13, column = 50;
            p.m = 70;
            p.n = 45;
            p.a += row * p.a_row;
            p.b += column * p.b_col;
            p.c += row * p.c_row + column;
            test_level(l)->dense(&p);
            for (size_t i = 0; i < p.m; i++) {
                const float *want = whole.p.c + (row + i) * p.c_row + column;
                cr_assert_eq(memcmp(p.c + i * p.c_row, want, p.n * sizeof *want), 0, "row %zu", i);
            }
            guard_free(&whole.g);
            guard_free(&part.g);
        }
    }
}

// A value that is not finite makes its own row or column so, and no other.
Test(kernels_dense, extremes_stay_where_they_are)
{
    need_dense();
    for (size_t l = 0; test_level(l); l++) {
        if (!test_level(l)->dense)
            continue;
        problem p = create(test_level(l), (shape){40, 50, 70}, 0);
        float *a = guard_copy(&p.g, p.p.a, (39 * p.p.a_row + 70) * sizeof *a, true);
        a[7 * p.p.a_row + 33] = NAN;
        a[20 * p.p.a_row + 69] = INFINITY;
        a[30 * p.p.a_row] = 1e-42f; // subnormal: counts as zero
        p.p.a = a;
        test_level(l)->dense(&p.p);
        for (size_t i = 0; i < 40; i++) {
            for (size_t j = 0; j < 50; j++)
                cr_assert_eq(!isfinite(p.p.c[i * p.p.c_row + j]), i == 7 || i == 20, "%zu %zu", i,
                             j);
        }
        guard_free(&p.g);
    }
}

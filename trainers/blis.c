// The only file that touches BLIS. BLIS aborts or returns silently on bad shapes, so they are
// checked here; it misdetects new processors, so the architecture is chosen by our own detection;
// and it always runs single-threaded, each thread of the team on its own part of the output.
#include "trainers/blis.h"

#include <blis.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/error.h"
#include "core/kernels.h"

// Parts of the output start at multiples of this. It is a multiple of every micro-tile edge, so no
// part has more edge tiles than the whole.
enum { SPLIT_GRAIN = 96 };

static pthread_once_t once = PTHREAD_ONCE_INIT;

// Debian's BLIS 0.9 takes a Zen 5 for `generic` and a Sapphire Rapids for `haswell`. The variable
// holds the numeric id of arch_t; what the user has set himself is kept.
static void choose_architecture(void)
{
    gg_level level = gg_cpu_level();
    char id[16];
    if (level >= GG_LEVEL_AVX2) {
        snprintf(id, sizeof id, "%d",
                 level >= GG_LEVEL_AVX512 ? (int)BLIS_ARCH_SKX : (int)BLIS_ARCH_HASWELL);
        setenv("BLIS_ARCH_TYPE", id, 0);
    }
    bli_init();
}

const char *gg_blis_architecture(void)
{
    pthread_once(&once, choose_architecture);
    return bli_arch_string(bli_arch_query_id());
}

typedef struct product {
    size_t m, n, k;
    const float *a, *b; // element (i, l) of op(a) at a[i * a_row + l * a_col]
    float *c;
    inc_t a_row, a_col, b_row, b_col, c_row;
    float beta;
} product;

// The larger side of the output is split: what each thread packs for itself is then smallest.
static void product_part(void *context, size_t thread, size_t n_threads)
{
    const product *p = context;
    size_t begin, end, m = p->m, n = p->n;
    const float *a = p->a, *b = p->b;
    float *c = p->c;
    if (m > n) {
        gg_team_share(m, SPLIT_GRAIN, thread, n_threads, &begin, &end);
        m = end - begin;
        a += begin * (size_t)p->a_row;
        c += begin * (size_t)p->c_row;
    } else {
        gg_team_share(n, SPLIT_GRAIN, thread, n_threads, &begin, &end);
        n = end - begin;
        b += begin * (size_t)p->b_col;
        c += begin;
    }
    if (m == 0 || n == 0)
        return;
    rntm_t runtime = BLIS_RNTM_INITIALIZER;
    bli_rntm_set_num_threads(1, &runtime);
    // The path for small matrices sums in another order; which path is taken must not depend on
    // the size of a thread's part.
    bli_rntm_disable_l3_sup(&runtime);
    union {
        const float *from;
        float *to;
    } a_data = {.from = a}, b_data = {.from = b}; // BLIS takes inputs without const
    float one = 1.0f, beta = p->beta;
    bli_sgemm_ex(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, (dim_t)m, (dim_t)n, (dim_t)p->k, &one,
                 a_data.to, p->a_row, p->a_col, b_data.to, p->b_row, p->b_col, &beta, c, p->c_row,
                 1, NULL, &runtime);
}

static gorgon_status check_operand(const gg_operand *x, const char *name, size_t rows, size_t cols,
                                   gorgon_error *err)
{
    size_t have_rows = x->transposed ? x->cols : x->rows;
    size_t have_cols = x->transposed ? x->rows : x->cols;
    if (have_rows != rows || have_cols != cols)
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "matrix product: operand %s is [%zu, %zu], expected [%zu, %zu]", name,
                       have_rows, have_cols, rows, cols);
    if (x->ld < x->cols || x->ld > INT32_MAX || x->rows > INT32_MAX)
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "matrix product: operand %s has leading dimension %zu for %zu columns", name,
                       x->ld, x->cols);
    return GORGON_OK;
}

gorgon_status gg_gemm(gg_team *team, const gg_operand *a, const gg_operand *b, bool accumulate,
                      float *c, size_t m, size_t n, size_t ldc, gorgon_error *err)
{
    size_t k = a->transposed ? a->rows : a->cols;
    gorgon_status status = check_operand(a, "a", m, k, err);
    if (status == GORGON_OK)
        status = check_operand(b, "b", k, n, err);
    if (status != GORGON_OK)
        return status;
    if (ldc < n || ldc > INT32_MAX || m > INT32_MAX || k == 0)
        return gg_fail(err, GORGON_ERROR_ARGUMENT,
                       "matrix product: output [%zu, %zu] over %zu has leading dimension %zu", m, n,
                       k, ldc);
    product p = {.m = m, .n = n, .k = k, .a = a->data, .b = b->data, .c = c};
    p.a_row = a->transposed ? 1 : (inc_t)a->ld;
    p.a_col = a->transposed ? (inc_t)a->ld : 1;
    p.b_row = b->transposed ? 1 : (inc_t)b->ld;
    p.b_col = b->transposed ? (inc_t)b->ld : 1;
    p.c_row = (inc_t)ldc;
    p.beta = accumulate ? 1.0f : 0.0f;
    pthread_once(&once, choose_architecture);
    gg_team_run(team, product_part, &p);
    return GORGON_OK;
}

// Dense products, and the only file that touches BLIS. BLIS aborts or returns silently on bad
// shapes, so they are checked here; it misdetects new processors, so the architecture is chosen by
// our own detection; and it always runs single-threaded, each thread of the team on its own part of
// the output.
#include "trainers/blis.h"

#include <blis.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/alloc.h"
#include "core/error.h"

// Parts of the output start at multiples of this. It is a multiple of every micro-tile edge, so no
// part has more edge tiles than the whole.
enum { SPLIT_GRAIN = 96 };

// Multiply-adds from which the kernels' dense product is worth its packing.
enum { LARGE = 1 << 22 };

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
    gg_dense whole;
    void (*run)(const gg_dense *);
    size_t scratch; // bytes per thread
} product;

static void run_blis(const gg_dense *p)
{
    rntm_t runtime = BLIS_RNTM_INITIALIZER;
    bli_rntm_set_num_threads(1, &runtime);
    // The path for small matrices sums in another order; which path is taken must not depend on
    // the size of a thread's part.
    bli_rntm_disable_l3_sup(&runtime);
    union {
        const float *from;
        float *to;
    } a = {.from = p->a}, b = {.from = p->b}; // BLIS takes inputs without const
    float one = 1.0f, beta = p->accumulate ? 1.0f : 0.0f;
    bli_sgemm_ex(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, (dim_t)p->m, (dim_t)p->n, (dim_t)p->k, &one,
                 a.to, (inc_t)p->a_row, (inc_t)p->a_col, b.to, (inc_t)p->b_row, (inc_t)p->b_col,
                 &beta, p->c, (inc_t)p->c_row, 1, NULL, &runtime);
}

// The larger side of the output is split: what each thread packs for itself is then smallest.
static void product_part(void *context, size_t thread, size_t n_threads)
{
    const product *p = context;
    gg_dense part = p->whole;
    size_t begin, end;
    if (part.m > part.n) {
        gg_team_share(part.m, SPLIT_GRAIN, thread, n_threads, &begin, &end);
        part.m = end - begin;
        part.a += begin * part.a_row;
        part.c += begin * part.c_row;
    } else {
        gg_team_share(part.n, SPLIT_GRAIN, thread, n_threads, &begin, &end);
        part.n = end - begin;
        part.b += begin * part.b_col;
        part.c += begin;
    }
    if (p->scratch > 0)
        part.scratch = (char *)part.scratch + thread * p->scratch;
    if (part.m > 0 && part.n > 0)
        p->run(&part);
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

gorgon_status gg_gemm(gg_team *team, const gg_kernels *kernels, const gg_operand *a,
                      const gg_operand *b, bool accumulate, float *c, size_t m, size_t n,
                      size_t ldc, gorgon_error *err)
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
    product p = {.whole = {.m = m, .n = n, .k = k, .a = a->data, .b = b->data}, .run = run_blis};
    p.whole.a_row = a->transposed ? 1 : a->ld;
    p.whole.a_col = a->transposed ? a->ld : 1;
    p.whole.b_row = b->transposed ? 1 : b->ld;
    p.whole.b_col = b->transposed ? b->ld : 1;
    p.whole.c = c;
    p.whole.c_row = ldc;
    p.whole.accumulate = accumulate;
    if (kernels->dense && (double)m * (double)n * (double)k >= LARGE) {
        p.run = kernels->dense;
        p.scratch = kernels->dense_scratch();
        p.whole.scratch = gg_alloc_uninit(gg_team_size(team), p.scratch);
        if (!p.whole.scratch)
            return gg_fail(err, GORGON_ERROR_MEMORY, "matrix product: out of memory");
    }
    pthread_once(&once, choose_architecture);
    gg_team_run(team, product_part, &p);
    gg_free(p.whole.scratch);
    return GORGON_OK;
}

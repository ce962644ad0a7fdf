// The trainers' dense products in the shapes of a training step of SmolLM2-135M, one thread: on
// BLIS and as the best level does them, in turns; processor time, the best of several.
//   dense [ROUNDS]
#define _POSIX_C_SOURCE 200809L // clock_gettime
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/alloc.h"
#include "trainers/blis.h"

typedef struct shape {
    const char *name;
    size_t m, n, k;
    bool a_turned, b_turned;
} shape;

static const shape shapes[] = {{"medusa, first block", 512, 2304, 1152, false, true},
                               {"its gradient", 2304, 1152, 512, true, false},
                               {"logits", 1024, 4096, 576, false, true},
                               {"their gradient", 1024, 576, 4096, false, false},
                               {"recurrent, second block", 2560, 576, 576, false, true},
                               {"its gradient", 576, 576, 2560, true, false},
                               {"recurrent, one depth", 512, 576, 576, false, true}};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float *make(size_t n, uint32_t state)
{
    float *x = gg_alloc(n, sizeof *x);
    for (size_t i = 0; x && i < n; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(state >> 8) * 0x1p-23f - 1.0f;
    }
    return x;
}

static double timed(gg_team *team, const gg_kernels *kernels, const shape *s, const float *a,
                    const float *b, float *c)
{
    const gg_operand x = {a, s->a_turned ? s->k : s->m, s->a_turned ? s->m : s->k,
                          s->a_turned ? s->m : s->k, s->a_turned};
    const gg_operand y = {b, s->b_turned ? s->n : s->k, s->b_turned ? s->k : s->n,
                          s->b_turned ? s->k : s->n, s->b_turned};
    const double begin = seconds();
    const gorgon_status status = gg_gemm(team, kernels, &x, &y, false, c, s->m, s->n, s->n, NULL);
    return status == GORGON_OK ? seconds() - begin : INFINITY;
}

static bool measure(gg_team *team, const gg_kernels *kernels, const shape *s, size_t rounds)
{
    gg_kernels blis = *kernels;
    blis.dense = NULL;
    double best[2] = {INFINITY, INFINITY}, error = 0.0, size = 0.0;
    float *a = make(s->m * s->k, 1), *b = make(s->n * s->k, 2);
    float *c = make(s->m * s->n, 3), *d = make(s->m * s->n, 3);
    const bool good = a && b && c && d;
    for (size_t i = 0; i < rounds && good; i++) {
        best[0] = fmin(best[0], timed(team, &blis, s, a, b, c));
        best[1] = fmin(best[1], timed(team, kernels, s, a, b, d));
    }
    for (size_t i = 0; i < s->m * s->n && good; i++) {
        error = fmax(error, fabs((double)c[i] - (double)d[i]));
        size = fmax(size, fabs((double)c[i]));
    }
    const double work = 1e-9 * (double)s->m * (double)s->n * (double)s->k;
    printf("| %s | %zu x %zu x %zu | %.1f | %.1f | %.2f | %.0e |\n", s->name, s->m, s->n, s->k,
           work / best[0], work / best[1], best[0] / best[1], error / size);
    gg_free(a);
    gg_free(b);
    gg_free(c);
    gg_free(d);
    return good;
}

int main(int argc, char **argv)
{
    const size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 30;
    const gg_kernels *kernels = gg_kernels_get(gg_cpu_level());
    gg_team *team = NULL;
    bool good = rounds > 0 && gg_team_create(1, &team, NULL) == GORGON_OK;
    printf("| product | m x n x k | BLIS (%s), G/s | %s, G/s | ratio | largest difference of the "
           "largest output |\n|---|---|---|---|---|---|\n",
           gg_blis_architecture(), kernels->name);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes && good; i++)
        good = measure(team, kernels, &shapes[i], rounds);
    gg_team_free(team);
    return good ? 0 : 1;
}

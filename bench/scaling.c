// How a pass scales from one thread to two, beside how bare int8 multiply-adds do. The four take
// short turns, so that a busy moment of the machine falls on all of them; medians over rounds.
//   scaling MODEL [ROWS] [ROUNDS] [LEVEL]
#include <stdio.h>
#include <stdlib.h>

#include "core/engine.h"
#include "core/system.h"
#include "gorgon/engine.h"

enum { CONTEXT = 128, MOST_ROWS = 64, MOST_ROUNDS = 1000, LOOP_STEPS = 60000 };

typedef struct side {
    gorgon_engine *engine;
    gorgon_sequence *sequence;
    double pass[MOST_ROUNDS], loop[MOST_ROUNDS]; // seconds; of the same work per thread
} side;

static void multiply(void *context, size_t thread, size_t n_threads)
{
    (void)n_threads;
    const side *s = context;
    uint32_t seed = (uint32_t)thread + 5;
    gg_engine_kernels(s->engine)->multiply_adds(LOOP_STEPS, &seed);
}

static bool open_side(side *s, const gorgon_model *model, size_t threads, const char *level,
                      gorgon_error *err)
{
    gorgon_engine_options options;
    gorgon_engine_options_init(&options);
    options.threads = threads;
    options.context = CONTEXT + MOST_ROWS;
    options.cpu_level = level;
    gorgon_token prefix[CONTEXT];
    size_t last = 0;
    for (size_t i = 0; i < CONTEXT; i++)
        prefix[i] = (gorgon_token)(i * 97 + 3);
    return gorgon_engine_create(model, &options, &s->engine, err) == GORGON_OK &&
           gorgon_sequence_create(s->engine, &s->sequence, err) == GORGON_OK &&
           gorgon_engine_prefill(s->engine, s->sequence, prefix, CONTEXT, &last, err) == GORGON_OK;
}

static bool take_turn(side *s, size_t n_rows, size_t round, gorgon_error *err)
{
    gorgon_row rows[MOST_ROWS];
    for (size_t i = 0; i < n_rows; i++)
        rows[i] = (gorgon_row){s->sequence, (gorgon_token)(i * 89 + 7), (int32_t)i - 1,
                               GORGON_WANT_LOGITS};
    double begin = gg_now();
    if (gorgon_engine_pass(s->engine, rows, n_rows, err) != GORGON_OK)
        return false;
    double between = gg_now();
    gg_team_run(gg_engine_team(s->engine), multiply, s);
    s->pass[round] = between - begin;
    s->loop[round] = gg_now() - between;
    return true;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, size_t n)
{
    qsort(x, n, sizeof *x, ascending);
    return x[n / 2];
}

static int report(side *one, side *two, size_t n_rows, size_t rounds)
{
    double pass1 = median(one->pass, rounds), pass2 = median(two->pass, rounds);
    double loop1 = median(one->loop, rounds), loop2 = median(two->loop, rounds);
    // The loop does its work per thread, so twice of it with two.
    double pass = pass1 / pass2, loop = 2.0 * loop1 / loop2;
    printf("%s, %zu rows, %zu rounds: pass %.2f -> %.2f ms, %.2f x; bare loop %.2f x; %.2f of it\n",
           gorgon_engine_cpu_level(one->engine), n_rows, rounds, 1e3 * pass1, 1e3 * pass2, pass,
           loop, pass / loop);
    return 0;
}

int main(int argc, char **argv)
{
    static side one, two;
    gorgon_error err = {0};
    gorgon_model *model = NULL;
    size_t n_rows = argc > 2 ? strtoul(argv[2], NULL, 10) : 16;
    size_t rounds = argc > 3 ? strtoul(argv[3], NULL, 10) : 100;
    const char *level = argc > 4 ? argv[4] : NULL;
    if (argc < 2 || n_rows == 0 || n_rows > MOST_ROWS || rounds == 0 || rounds > MOST_ROUNDS) {
        fprintf(stderr, "usage: scaling MODEL [ROWS up to 64] [ROUNDS up to 1000] [LEVEL]\n");
        return 2;
    }
    bool good = gorgon_model_open(argv[1], 2, &model, &err) == GORGON_OK &&
                open_side(&one, model, 1, level, &err) && open_side(&two, model, 2, level, &err);
    for (size_t i = 0; good && i < rounds; i++)
        good = take_turn(&one, n_rows, i, &err) && take_turn(&two, n_rows, i, &err);
    int code = good ? report(&one, &two, n_rows, rounds) : 1;
    if (!good)
        fprintf(stderr, "scaling: %s\n", err.message);
    gorgon_engine_free(one.engine);
    gorgon_engine_free(two.engine);
    gorgon_model_free(model);
    return code;
}
